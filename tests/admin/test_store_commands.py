"""store: check, rebuild, usage, index, undelete, by the operator."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from mailstack.mail.collation import casemap
from mailstack.mail.message import Message
from mailstack.store import changes, delivery, index, mailboxes, maildir
from mailstack.store import tables as t
from mailstack.store.file_index import FileIndex
from mailstack.store.values import New
from tests.admin.conftest import Installation

ALICE = "alice@example.org"


def path(installation: Installation, mailbox: str = "") -> Path:
    [home] = {
        file.parent
        for file in (installation.folder / "data").rglob("mailstack-mailbox")
        if file.parent.name == "Maildir"
    }
    return home / mailbox


@pytest.fixture
def mail(alice: Installation) -> Installation:
    """Five messages in INBOX."""
    when = delivery.When(int(time.time()), 0)
    new = [New(Message.of(b"Subject: number %d\r\n\r\nhello\r\n" % number)) for number in range(5)]
    written = delivery.write_new(path(alice), new, when)
    root = alice.folder / "data" / "mail"

    def append(db: Connection) -> None:
        user_id = db.execute(t.usage.select()).one().user_id
        delivery.append_txn(db, root, written, (user_id, "INBOX"), new, (None, None), when)

    alice.write(append)
    return alice


def inbox(db: Connection) -> Any:
    return db.execute(t.mailboxes.select().where(t.mailboxes.c.name == "INBOX")).one()


def test_nothing_is_wrong(mail: Installation) -> None:
    assert mail.ok("store", "check", ALICE) == "no problems\n"
    assert mail.json("store", "check", "--all") == []


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"messages": 7}, "messages"),
        ({"unseen": 1}, "unseen"),
        ({"octets": 0}, "octets"),
        ({"uidnext": 3}, "uidnext"),
        ({"modseq": 1}, "modseq"),
        ({"uidvalidity": 5}, "state-file"),
    ],
)
def test_a_wrong_row_is_found_and_mended(mail: Installation, values: dict[str, int], kind: str) -> None:
    mail.write(lambda db: db.execute(update(t.mailboxes).where(t.mailboxes.c.name == "INBOX").values(values)))
    result = mail.run("store", "check", ALICE)
    assert result.exit_code == 1
    assert f"{ALICE}\tINBOX\t{kind}\t" in result.stdout
    mail.ok("store", "rebuild", ALICE, "--yes")
    assert mail.ok("store", "check", ALICE) == "no problems\n"
    assert mail.read(inbox).uidnext >= 6


def test_files_that_are_lost_or_too_many(mail: Installation) -> None:
    first, second, *_ = sorted((path(mail) / "new").iterdir())
    first.unlink()
    second.write_bytes(b"short")
    (path(mail) / "cur" / "1.stranger").write_bytes(b"x")
    result = mail.run("store", "check", "--all")
    kinds = [line.split("\t")[2] for line in result.stdout.splitlines()]
    assert sorted(kinds) == ["lost-file", "size", "unknown-file"]
    assert "3 problems" in result.stderr
    assert mail.json("store", "rebuild", "--all", "--yes")[0]["messages"] == 5
    assert mail.ok("store", "check", ALICE) == "no problems\n"


def test_a_file_that_is_renamed_meanwhile_ends_no_check(
    mail: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed_and_renamed(mailbox: Path) -> dict[str, str]:
        files = list_files(mailbox)
        for first in sorted((mailbox / "new").iterdir())[:1]:
            first.rename(mailbox / "cur" / f"{first.name}:2,S")
        return files

    list_files = maildir.list_files
    with monkeypatch.context() as patched:
        patched.setattr(maildir, "list_files", listed_and_renamed)
        assert mail.ok("store", "check", ALICE) == "no problems\n"
    mail.ok("store", "rebuild", ALICE, "--yes")
    assert mail.ok("store", "check", ALICE) == "no problems\n"


def test_rights_and_annotations_survive_a_rebuild(mail: Installation) -> None:
    def attach(db: Connection) -> None:
        db.execute(
            t.mailbox_rights.insert().values(mailbox_id=inbox(db).id, identifier="anyone", rights="lr")
        )
        row = {"mailbox_id": inbox(db).id, "user_id": None, "entry": "/comment", "value": b"x"}
        db.execute(t.mailbox_annotations.insert().values(row))

    def attached(db: Connection) -> tuple[Any, Any]:
        rights = db.execute(
            t.mailbox_rights.select().where(t.mailbox_rights.c.mailbox_id == inbox(db).id)
        ).one()
        return rights.rights, db.execute(t.mailbox_annotations.select()).one().value

    mail.write(attach)
    before = mail.read(inbox)
    mail.ok("store", "rebuild", ALICE, "--yes")
    after = mail.read(inbox)
    assert (after.uidvalidity, after.messages) == (before.uidvalidity, 5)
    assert mail.read(attached) == ("lr", b"x")


def test_usage_and_index(mail: Installation) -> None:
    [row] = mail.json("store", "usage", ALICE)
    assert (row["mailboxes"], row["messages"], row["index_octets"], row["expunged"]) == (6, 5, 0, 0)
    assert mail.ok("store", "index", ALICE) == f"{ALICE}\t5\n"
    assert mail.ok("store", "index", ALICE) == f"{ALICE}\t0\n"
    assert mail.ok("store", "index", "--all", "--rebuild") == f"{ALICE}\t5\n"
    assert mail.json("store", "usage", "--all")[0]["index_octets"] > 0
    box = mail.read(inbox)
    hits = FileIndex().search(index.Scope(path(mail), box.id, box.uidvalidity), casemap("number 3"))
    assert hits == index.Hits({4}, 5)


def test_undelete(mail: Installation) -> None:
    mail.write(lambda db: changes.expunge(db, inbox(db).id, [(2, 3)]))
    assert mail.json("store", "usage", ALICE)[0]["expunged"] == 2
    assert mail.ok("store", "undelete", ALICE, "inbox", "--since", "2999-01-01").startswith(
        f"{ALICE}: 0 messages"
    )
    assert mail.ok("store", "undelete", ALICE, "INBOX") == f"{ALICE}: 2 messages put back into INBOX\n"
    assert mail.ok("store", "undelete", ALICE, "INBOX").startswith(f"{ALICE}: 0 messages")
    infos = mail.read(lambda db: mailboxes.list_mailboxes(db, inbox(db).user_id))
    assert next(info for info in infos if info.name == "INBOX").messages == 5


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("check",), 2),
        (("check", ALICE, "--all"), 2),
        (("usage", "bob@example.org"), 1),
        (("rebuild", ALICE), 1),
        (("undelete", ALICE, "INBOX", "--since", "yesterday"), 2),
        (("undelete", ALICE, "Nowhere"), 1),
    ],
)
def test_refused(alice: Installation, arguments: tuple[str, ...], status: int) -> None:
    assert alice.refused("store", *arguments, status=status)


def test_no_index_where_it_is_switched_off(alice: Installation) -> None:
    assert "index is false" in alice.refused("--set", "store.index=false", "store", "index", ALICE)
