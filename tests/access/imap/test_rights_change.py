"""Rights given and taken while a mailbox is selected (RFC 4314 section 5.1.1), and rights to some flags only."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailstack.store.mailbox import Mailbox
from tests.access.imap.harness import HELLO, Client, World

Talk = Callable[[Client, str], None]
SHARED = '"Other Users/alice@example.test/INBOX"'


@pytest.fixture
def alice(world: World) -> Client:
    for _ in range(3):
        world.append(HELLO)
    alice = world.connect().select()
    alice.ask("r SETACL INBOX bob@example.test lrswite")
    return alice


@pytest.fixture
def bob(world: World, alice: Client) -> Client:
    bob = world.connect().login("bob")
    assert b"[READ-WRITE]" in bob.ask(f"s SELECT {SHARED}")
    return bob


def test_flags(alice: Client, bob: Client, talk: Talk) -> None:
    alice.ask("a SETACL INBOX bob@example.test -t")
    talk(bob, r"""
        C: a STORE 1 +FLAGS (\Deleted)
        S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft)
        S: * OK [PERMANENTFLAGS (\Answered \Flagged \Seen \Draft \*)] Flags permitted
        S: a NO [NOPERM] You have no right to change these flags
        C: b MOVE 1 INBOX
        S: b NO [NOPERM] ...
    """)  # fmt: skip
    alice.ask("b SETACL INBOX bob@example.test -s")
    talk(bob, r"""
        C: c STORE 1 +FLAGS (\Seen)
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS (\Answered \Flagged \Draft \*)] Flags permitted
        S: c NO [NOPERM] ...
        C: d FETCH 1 (BODY[TEXT])
        S: * 1 FETCH (BODY[TEXT] {15}
        S: Hello, Alice.
        S: )
        S: d OK FETCH completed
        C: e FETCH 1 (FLAGS)
        S: * 1 FETCH (FLAGS ())
        S: e OK FETCH completed
        C: f STORE 1 +FLAGS (\Flagged)
        S: * 1 FETCH (FLAGS (\Flagged))
        S: f OK STORE completed
    """.replace("FLAGS ())", "FLAGS (...))").replace(r"FLAGS (\Flagged))", r"FLAGS (\Flagged...))"))  # fmt: skip


def test_one_flag_that_may_be_changed_is_enough(alice: Client, bob: Client, talk: Talk) -> None:
    alice.ask("a SETACL INBOX bob@example.test lrs")
    alice.ask(r"b STORE 1 +FLAGS ($Kept \Flagged \Deleted)")
    bob.ask("n NOOP")
    talk(bob, r"""
        C: a STORE 1 +FLAGS (\Seen \Answered $New)
        S: * 1 FETCH (FLAGS (\Flagged \Deleted \Seen $Kept...))
        S: a OK STORE completed
        C: b STORE 1 -FLAGS (\Flagged \Deleted)
        S: b NO [NOPERM] ...
        C: c STORE 1 FLAGS ()
        S: * 1 FETCH (FLAGS (\Flagged \Deleted $Kept...))
        S: c OK STORE completed
        C: d STORE 1:2 FLAGS (\Seen \Draft)
        S: * 1 FETCH (FLAGS (\Flagged \Deleted \Seen $Kept...))
        S: * 2 FETCH (FLAGS (\Seen...))
        S: d OK STORE completed
        C: e STORE 1:2 FLAGS (\Seen \Draft)
        S: * 1 FETCH (FLAGS (\Flagged \Deleted \Seen $Kept...))
        S: * 2 FETCH (FLAGS (\Seen...))
        S: e OK STORE completed
    """)  # fmt: skip


def test_write_and_read_only(alice: Client, bob: Client, talk: Talk) -> None:
    alice.ask("a SETACL INBOX bob@example.test lr")
    talk(bob, r"""
        C: a NOOP
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS ()] Read-only
        S: * OK [READ-ONLY] Your rights have changed
        S: a OK NOOP completed
        C: b EXPUNGE
        S: b NO [READ-ONLY] ...
    """)  # fmt: skip
    alice.ask("b SETACL INBOX anyone e")
    talk(bob, r"""
        C: c NOOP
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS ()] Flags permitted
        S: * OK [READ-WRITE] Your rights have changed
        S: c OK NOOP completed
        C: d EXPUNGE
        S: d OK EXPUNGE completed
    """)  # fmt: skip
    alice.ask("c SETACL INBOX -bob@example.test r")
    assert b"* NO [NOPERM]" in bob.ask("e NOOP")


def test_they_change_while_the_mailbox_is_opened(
    world: World, alice: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After they were looked at, before anybody listens."""

    async def opened_and_taken(user_id: int, name: str) -> Mailbox:
        mailbox = await opened(user_id, name)
        monkeypatch.setattr(world.store, "open", opened)
        alice.ask("a SETACL INBOX bob@example.test lr")
        return mailbox

    opened = world.store.open
    monkeypatch.setattr(world.store, "open", opened_and_taken)
    assert b"[READ-ONLY] Your rights have changed" in bob.ask(f"s SELECT {SHARED}")
    assert b"READ-ONLY" in bob.ask(r"a STORE 1 +FLAGS (\Seen)")


def test_examined_stays_so(alice: Client, bob: Client) -> None:
    bob.ask(f"a EXAMINE {SHARED}")
    alice.ask("a SETACL INBOX bob@example.test -w")
    assert b"READ-WRITE" not in bob.ask("b NOOP")
    assert b"READ-ONLY" in bob.ask(r"c STORE 1 +FLAGS (\Seen)")


def test_reading_is_over(world: World, alice: Client, bob: Client, talk: Talk) -> None:
    alice.ask("a SETACL INBOX bob@example.test lswite")
    world.append(HELLO)
    talk(bob, r"""
        C: a FETCH 1 (FLAGS)
        S: * NO [NOPERM] You may not read this mailbox any more
        S: a NO [NOPERM] ...
        C: b SEARCH ALL
        S: b NO [NOPERM] ...
        C: c STORE 1 +FLAGS (\Seen)
        S: c NO [NOPERM] ...
        C: d COPY 1 INBOX
        S: d NO [NOPERM] ...
        C: e EXPUNGE
        S: e NO [NOPERM] ...
        C: f UID SORT (SUBJECT) UTF-8 ALL
        S: f NO [NOPERM] ...
        C: g ESEARCH ALL
        S: g NO [NOPERM] ...
        C: h REPLACE 1 INBOX {3}
        S: h NO [NOPERM] ...
        C: i NOOP
        S: i OK NOOP completed
        C: j IDLE
        S: + idling
        C: DONE
        S: j OK IDLE completed
    """)  # fmt: skip
    world.append(HELLO)
    assert bob.heard() == b""
    alice.ask("b SETACL INBOX bob@example.test lr")
    assert b"* 5 EXISTS\r\n" in bob.ask("k NOOP")
    alice.ask("c DELETEACL INBOX bob@example.test")
    assert bob.ask("l CLOSE") == (
        b"* NO [NOPERM] You may not read this mailbox any more\r\nl OK CLOSE completed\r\n"
    )
    assert bob.ask(f"m SELECT {SHARED}").startswith(b"m NO [NONEXISTENT]")
    assert b"n OK" in bob.ask("n SELECT INBOX")


def test_at_once_in_idle(world: World, alice: Client, bob: Client) -> None:
    bob.ask("a IDLE")
    world.append(HELLO)
    assert bob.heard().startswith(b"* 4 EXISTS\r\n")
    alice.ask("a SETACL INBOX bob@example.test l")
    assert bob.heard() == b"* NO [NOPERM] You may not read this mailbox any more\r\n"
    world.append(HELLO)
    alice.ask(r"b STORE 1 +FLAGS (\Flagged)")
    assert bob.heard() == b""
    alice.ask("c SETACL INBOX bob@example.test lr")
    assert b"* 5 EXISTS\r\n" in bob.heard()
    assert bob.ask("DONE") == b"a OK IDLE completed\r\n"


def test_at_once_with_notify(world: World, alice: Client, bob: Client) -> None:
    bob.ask("a NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange))")
    alice.ask("a SETACL INBOX bob@example.test l")
    world.append(HELLO)
    assert bob.heard() == b"* NO [NOPERM] You may not read this mailbox any more\r\n"
    world.append(HELLO)
    assert bob.ask("b NOOP") == b"b OK NOOP completed\r\n"
    bob.ask("c IDLE")
    world.append(HELLO)
    assert bob.heard() == b""
    assert bob.ask("DONE") == b"c OK IDLE completed\r\n"
    alice.ask("b SETACL INBOX bob@example.test lr")
    assert bob.heard().endswith(b"* 6 FETCH (UID 6)\r\n")


def test_a_renamed_one_keeps_its_rights(alice: Client, bob: Client) -> None:
    alice.ask("a CREATE Team")
    alice.ask("b SETACL Team bob@example.test lrs")
    bob.ask('a SELECT "Other Users/alice@example.test/Team"')
    alice.ask("c RENAME Team Group")
    assert bob.ask("b FETCH 1:* (FLAGS)") == b"b OK FETCH completed\r\n"
    alice.ask("d DELETEACL Group bob@example.test")
    assert b"c NO [NOPERM]" in bob.ask("c FETCH 1:* (FLAGS)")


def test_an_owner_asks_for_nothing(world: World, alice: Client) -> None:
    world.work.trips.clear()
    alice.ask("a NOOP")
    assert world.work.trips == []
    alice.ask("b SETACL INBOX bob@example.test lr")
    world.work.trips.clear()
    alice.ask("c NOOP")
    assert world.work.trips == []
