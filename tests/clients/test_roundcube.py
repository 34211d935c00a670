"""Roundcube, the webmail that most people use, from login to logout: each click is a few new IMAP connections."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from tests.clients.roundcube import PAGES, Roundcube, webmail
from tests.clients.test_libraries import imap, letter, submit
from tests.running import RunningStack, running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A server that logs every line."""
    if shutil.which("php") is None or not (PAGES / "index.php").exists():
        pytest.skip(
            "roundcube is not installed; get it with: apt-get install roundcube-core php-sqlite3 php-cli"
        )
    directory = tmp_path_factory.mktemp("roundcube")
    with running(
        directory / "example", users=("alice", "webber"), settings=("log.conversation=true",)
    ) as one:
        one.configured("user", "quota", one.address("webber"), "20M")
        yield one


@pytest.fixture(scope="module")
def web(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roundcube]:
    """webber, logged in."""
    with webmail(stack, tmp_path_factory.mktemp("webmail")) as url:
        browser = Roundcube(url)
        page = browser.log_in(stack.address("webber"), "webber-secret")
        assert "Inbox" in page
        yield browser


def test_it_lists_and_shows(web: Roundcube, stack: RunningStack) -> None:
    message = letter(stack, "alice", "webber", "Schöne Grüße", "Zwölf Boxkämpfer\n.\njagen\n")
    message.add_attachment(bytes(range(256)), maintype="application", subtype="pdf", filename="Übersicht.pdf")
    submit(stack, "alice", message)
    row = web.rows(_mbox="INBOX")["Schöne Grüße"]
    page = web.page("mail", "show", _mbox="INBOX", _uid=row["uid"])
    assert "Zwölf Boxkämpfer" in page
    assert "Übersicht.pdf" in page
    part = web.file("mail", "get", _mbox="INBOX", _uid=row["uid"], _part=2, _download=1, _token=web.token)
    assert part == bytes(range(256))
    assert web.rows(_mbox="INBOX")["Schöne Grüße"]["flags"]["seen"]


def test_it_sorts_threads_and_searches(web: Roundcube, stack: RunningStack) -> None:
    with imap(stack, "webber") as client:
        client.create_folder("Many")
        client.subscribe_folder("Many")
        for number in (2, 3, 1):
            client.append(
                "Many", bytes(letter(stack, "alice", "webber", f"Äpfel {number}", f"text {number}\n"))
            )
    by_subject = web.rows(_mbox="Many", _sort="subject_ASC")
    assert list(by_subject) == ["Äpfel 1", "Äpfel 2", "Äpfel 3"]
    assert set(web.rows(_mbox="Many", _threads=1)) == set(by_subject)
    assert set(web.rows("search", _mbox="Many", _q="äpfel 2", _headers="subject,from", _scope="base")) == {
        "Äpfel 2"
    }
    assert set(web.rows("search", _mbox="Many", _q="TEXT 3", _headers="text", _scope="base")) == {"Äpfel 3"}


def test_it_marks_moves_and_deletes(web: Roundcube, stack: RunningStack) -> None:
    with imap(stack, "webber") as client:
        client.create_folder("Work")
        client.subscribe_folder("Work")
        client.multiappend(
            "Work", [bytes(letter(stack, "alice", "webber", title)) for title in ("one", "two", "three")]
        )

        def uid(subject: str) -> int:
            return int(web.rows(_mbox="Work")[subject]["uid"])

        for flag in ("read", "flagged"):
            web.ask("mail", "mark", post=True, _mbox="Work", _uid=uid("one"), _flag=flag)
        web.ask("mail", "copy", post=True, _mbox="Work", _uid=uid("one"), _target_mbox="Archive")
        web.ask("mail", "move", post=True, _mbox="Work", _uid=uid("two"), _target_mbox="Archive")
        web.ask("mail", "move", post=True, _mbox="Work", _uid=uid("three"), _target_mbox="Trash")
        assert list(web.rows(_mbox="Work")) == ["one"]
        assert set(web.rows(_mbox="Archive")) == {"one", "two"}
        client.select_folder("Work", readonly=True)
        assert set(client.get_flags([1])[1]) >= {b"\\Seen", b"\\Flagged"}
        assert list(web.rows(_mbox="Trash")) == ["three"]
        web.ask("mail", "purge", post=True, _mbox="Trash")
        assert web.rows(_mbox="Trash") == {}


def test_it_sends_and_keeps_a_copy(web: Roundcube, stack: RunningStack) -> None:
    answer = web.write(
        stack.address("alice"), "Grüße", "Ähnlich\n.\nbye", ("Maße.bin", bytes(range(256)) * 50)
    )
    assert "sent_successfully" in answer or "confirmation" in answer, answer
    with imap(stack, "alice") as client:
        client.select_folder("INBOX")
        [uid] = client.search(["FROM", "webber"])
        raw = client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"]
    assert b"ESMTPSA" in raw
    assert list(web.rows(_mbox="Sent")) == ["Grüße"]
    web.write(stack.address("alice"), "later", "not yet", _draft=1)
    assert list(web.rows(_mbox="Drafts")) == ["later"]


def test_folders_of_any_name(web: Roundcube, stack: RunningStack) -> None:
    form = {"_task": "settings", "_action": "save-folder", "_mbox": ""}
    web.page("settings", "save-folder", {**form, "_name": "Bücher & Hefte", "_parent": ""}, _framed=1)
    web.page(
        "settings", "save-folder", {**form, "_name": "日本語", "_parent": "B&APw-cher &- Hefte"}, _framed=1
    )
    with imap(stack, "webber") as client:
        names = {name for _, _, name in client.list_sub_folders()}
        assert {"Bücher & Hefte", "Bücher & Hefte/日本語"} <= names
        web.ask(
            "settings",
            "folder-rename",
            post=True,
            _folder_oldname="B&APw-cher &- Hefte",
            _folder_newname="Alt",
        )
        web.ask("settings", "folder-delete", post=True, _mbox="Alt/&ZeVnLIqe-")
        assert [name for _, _, name in client.list_folders() if name.startswith(("Alt", "B"))] == ["Alt"]


def test_the_limit_is_shown(web: Roundcube) -> None:
    told = web.ask("mail", "list", _mbox="INBOX")["exec"]
    assert re.findall(r'set_quota\(.*"total":(\d+)', told) == [str(20 * 1024)]


def test_nothing_it_said_was_refused(web: Roundcube, stack: RunningStack) -> None:
    refused = re.compile(
        r" conversation: (imaps? \S+ S: \S+ (BAD|NO) |(smtp|submissions?) \S+ S: [45]\d\d[ -])|unexpected|Traceback"
    )
    assert [line for line in stack.log().splitlines() if refused.search(line)] == []
