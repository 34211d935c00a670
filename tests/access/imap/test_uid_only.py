"""UIDONLY (RFC 9586) over the real store: no message number goes in or out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.access.imap.harness import HELLO, Client, World

Talk = Callable[[Client, str], None]


@pytest.fixture
def client(world: World) -> Client:
    """UIDs 3, 4 and 5; UIDONLY is on."""
    for _ in range(5):
        world.append(HELLO)
    client = world.connect().select()
    client.ask(r"a STORE 1:2 +FLAGS.SILENT (\Deleted)")
    client.ask("b EXPUNGE")
    client.ask("c UNSELECT")
    assert client.ask("d ENABLE UIDONLY") == b"* ENABLED UIDONLY\r\nd OK ENABLE completed\r\n"
    return client


def test_select_names_no_number(client: Client) -> None:
    said = client.ask("a SELECT INBOX")
    assert b"* 3 EXISTS\r\n" in said
    assert b"[UIDNEXT 6]" in said
    assert b"UNSEEN" not in said  # the first unseen message's number


def test_answers_by_uid(client: Client, talk: Talk) -> None:
    client.ask("s SELECT INBOX")
    talk(client, r"""
        C: a UID FETCH 4:* (FLAGS)
        S: * 4 UIDFETCH (UID 4 FLAGS ())
        S: * 5 UIDFETCH (UID 5 FLAGS ())
        S: a OK UID FETCH completed
        C: b UID FETCH 3 (RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY[TEXT])
        S: * 3 UIDFETCH (UID 3 RFC822.SIZE 87 BODY[HEADER.FIELDS (SUBJECT)] {18}
        S: Subject: hello
        S:
        S:  FLAGS (\Seen) BODY[TEXT] {15}
        S: Hello, Alice.
        S: )
        S: b OK UID FETCH completed
        C: c UID STORE 3:4 +FLAGS (\Deleted)
        S: * 3 UIDFETCH (FLAGS (\Deleted \Seen))
        S: * 4 UIDFETCH (FLAGS (\Deleted))
        S: c OK UID STORE completed
        C: d UID EXPUNGE 3
        S: * VANISHED 3
        S: d OK EXPUNGE completed
        C: e EXPUNGE
        S: * VANISHED 4
        S: e OK EXPUNGE completed
        C: f UID SEARCH RETURN (SAVE ALL) UID 1:*
        S: * ESEARCH (TAG "f") UID ALL 5
        S: f OK UID SEARCH completed
        C: g UID SEARCH $
        S: * SEARCH 5
        S: g OK UID SEARCH completed
        C: h UID FETCH $ (UID)
        S: * 5 UIDFETCH (UID 5)
        S: h OK UID FETCH completed
        C: i UID SORT (SUBJECT) UTF-8 ALL
        S: * SORT 5
        S: i OK UID SORT completed
        C: j UID STORE 5 (UNCHANGEDSINCE 1) +FLAGS.SILENT (\Seen)
        S: j OK [MODIFIED 5] UID STORE completed
        C: k UID MOVE 5 Trash
        S: * OK [COPYUID ... 5 1] Moved
        S: * VANISHED 5
        S: k OK [HIGHESTMODSEQ ...] MOVE completed
    """)  # fmt: skip


WITH_NUMBERS = [
    "FETCH 1 (FLAGS)", "FETCH * (FLAGS)", r"STORE 1 +FLAGS (\Seen)", "COPY 1 Trash", "MOVE 1 Trash", "SEARCH ALL",
    "SORT (SUBJECT) UTF-8 ALL", "THREAD REFS UTF-8 ALL", "UID SEARCH 1:2", "UID SEARCH OR UNSEEN (NOT 1)",
    "UID SORT (SUBJECT) UTF-8 1", "UID THREAD REFS UTF-8 2", "REPLACE 1 INBOX {3}", "ESEARCH IN (selected) 1",
    "SELECT INBOX (QRESYNC (1 1 1:2 (1:2 1:2)))", "EXAMINE INBOX (QRESYNC (1 1 1:2 (1:2 1:2)))", "FETCH $ (UID)",
]  # fmt: skip


def test_numbers_are_refused(client: Client) -> None:
    client.ask("s SELECT INBOX")
    for line in WITH_NUMBERS:
        said = client.ask(f"a {line}")
        assert said == b"a BAD [UIDREQUIRED] There are no message numbers; use UIDs\r\n", line
        assert client.ask("b NOOP") == b"b OK NOOP completed\r\n"


def test_what_others_do(world: World, client: Client) -> None:
    client.ask("s SELECT INBOX")
    other = world.connect().select()
    client.ask("a IDLE")
    other.ask(r"a STORE 1 +FLAGS.SILENT (\Deleted)")
    assert client.heard() == b"* 3 UIDFETCH (FLAGS (\\Deleted))\r\n"
    other.ask("b EXPUNGE")
    assert client.heard() == b"* VANISHED 3\r\n"
    world.append(HELLO)
    assert client.heard() == b"* 3 EXISTS\r\n* 1 RECENT\r\n"


def test_with_notify_and_contexts(world: World, client: Client) -> None:
    client.ask("s SELECT INBOX")
    client.ask("a NOTIFY SET (selected (MessageNew (FLAGS) MessageExpunge FlagChange))")
    client.ask("b UID SEARCH RETURN (UPDATE) UNSEEN")
    world.append(HELLO)
    assert client.heard() == (
        b'* 4 EXISTS\r\n* 1 RECENT\r\n* ESEARCH (TAG "b") UID ADDTO (0 6)\r\n* 6 UIDFETCH (FLAGS (\\Recent))\r\n'
    )


def test_enabled_while_selected(world: World) -> None:
    world.append(HELLO)
    client = world.connect().select()
    client.ask("a SEARCH RETURN (UPDATE ALL) UNSEEN")
    client.ask("b ENABLE UIDONLY QRESYNC")
    said = client.ask(r"c UID STORE 1 +FLAGS.SILENT (\Seen)")
    assert said.startswith(b"* 1 UIDFETCH (MODSEQ (")
    assert b'* ESEARCH (TAG "a") UID REMOVEFROM (0 1)\r\n' in said
    client.ask("u UNAUTHENTICATE")
    client.ask("l LOGIN alice@example.test secret")
    client.ask("s SELECT INBOX")
    assert b"* 1 FETCH (UID 1)" in client.ask("f FETCH 1 (UID)")
