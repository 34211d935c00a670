"""SELECT, EXAMINE, CLOSE, UNSELECT, CHECK, EXPUNGE, STORE, COPY, MOVE, QUOTA."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailstack.work import Overloaded
from tests.access.imap.harness import HELLO, Client, World

Talk = Callable[[Client, str], None]

SYSTEM = r"\Answered \Flagged \Deleted \Seen \Draft"


def three(world: World) -> Client:
    for number in (1, 2, 3):
        world.append(b"Subject: %d\r\n\r\n" % number)
    return world.connect().login()


def test_select(world: World, talk: Talk) -> None:
    world.append(HELLO, flags=[r"\Seen", "$Label1"])
    world.append(HELLO)
    talk(
        world.connect().login(),
        rf"""
        C: a SELECT INBOX
        S: * FLAGS ({SYSTEM} $Label1)
        S: * 2 EXISTS
        S: * 2 RECENT
        S: * OK [UNSEEN 2] First unseen
        S: * OK [PERMANENTFLAGS ({SYSTEM} $Label1 \*)] Flags permitted
        S: * OK [UIDVALIDITY ...] UIDs valid
        S: * OK [UIDNEXT 3] Predicted next UID
        S: * OK [HIGHESTMODSEQ ...] Highest
        S: * OK [MAILBOXID (F...)] Mailbox id
        S: * OK [URLMECH INTERNAL] URLs can be signed
        S: a OK [READ-WRITE] SELECT completed
        C: b EXAMINE Sent
        S: * OK [CLOSED] ...
        S: * FLAGS ({SYSTEM})
        S: * 0 EXISTS
        S: * 0 RECENT
        S: * OK [PERMANENTFLAGS ()] Read-only
        S: * OK [UIDVALIDITY ...] UIDs valid
        S: * OK [UIDNEXT 1] Predicted next UID
        S: * OK [HIGHESTMODSEQ ...] Highest
        S: * OK [MAILBOXID (F...)] Mailbox id
        S: * OK [URLMECH INTERNAL] URLs can be signed
        S: b OK [READ-ONLY] EXAMINE completed
        C: c CHECK
        S: c OK CHECK completed
        C: d UNSELECT
        S: d OK UNSELECT completed
        C: e CHECK
        S: e BAD ...
        """,
    )


def test_a_failed_select_leaves_nothing_selected(world: World, talk: Talk) -> None:
    talk(
        three(world),
        """
        C: a SELECT INBOX
        S: * FLAGS ...
        S: * 3 EXISTS
        S: * 3 RECENT
        S: * OK [UNSEEN 1] ...
        S: * OK [PERMANENTFLAGS ...
        S: * OK [UIDVALIDITY ...
        S: * OK [UIDNEXT 4] ...
        S: * OK [HIGHESTMODSEQ ...] Highest
        S: * OK [MAILBOXID (F...)] Mailbox id
        S: * OK [URLMECH INTERNAL] URLs can be signed
        S: a OK [READ-WRITE] SELECT completed
        C: b SELECT Nowhere
        S: * OK [CLOSED] ...
        S: b NO [NONEXISTENT] ...
        C: c FETCH 1 FLAGS
        S: c BAD ...
        """,
    )


def test_recent_is_told_once(world: World) -> None:
    client = three(world)
    assert b"* 3 RECENT" in client.ask("a EXAMINE INBOX")
    assert b"* 3 RECENT" in client.ask("b SELECT INBOX")
    assert b"* 0 RECENT" in world.connect().login().ask("c SELECT INBOX")
    assert b"* 0 RECENT" in client.ask("d SELECT INBOX")


def test_store(world: World, talk: Talk) -> None:
    client = three(world)
    client.ask("s SELECT INBOX")
    talk(
        client,
        rf"""
        C: a STORE 1:2 +FLAGS (\Seen \deleted)
        S: * 1 FETCH (FLAGS (\Deleted \Seen \Recent))
        S: * 2 FETCH (FLAGS (\Deleted \Seen \Recent))
        S: a OK STORE completed
        C: b UID STORE 2 -FLAGS \Deleted
        S: * 2 FETCH (UID 2 FLAGS (\Seen \Recent))
        S: b OK UID STORE completed
        C: c STORE 3 FLAGS (\Draft $Forwarded)
        S: * FLAGS ({SYSTEM} $Forwarded)
        S: * OK [PERMANENTFLAGS ({SYSTEM} $Forwarded \*)] Flags permitted
        S: * 3 FETCH (FLAGS (\Draft $Forwarded \Recent))
        S: c OK STORE completed
        C: d STORE 3 +FLAGS.SILENT (\Flagged)
        S: d OK STORE completed
        C: e NOOP
        S: e OK NOOP completed
        C: f STORE 4 +FLAGS (\Seen)
        S: f BAD No such message number
        C: g UID STORE 99 +FLAGS (\Seen)
        S: g OK UID STORE completed
        C: h STORE 1 +FLAGS (\Recent)
        S: h BAD ...
        C: i FETCH 3 FLAGS
        S: * 3 FETCH (FLAGS (\Flagged \Draft $Forwarded \Recent))
        S: i OK FETCH completed
        """,
    )


def test_read_only(world: World, talk: Talk) -> None:
    client = three(world)
    client.ask("s EXAMINE INBOX")
    talk(
        client,
        r"""
        C: a STORE 1 +FLAGS (\Deleted)
        S: a NO [READ-ONLY] ...
        C: b EXPUNGE
        S: b NO [READ-ONLY] ...
        C: c MOVE 1 Trash
        S: c NO [READ-ONLY] ...
        C: d COPY 1 Trash
        S: d OK [COPYUID ... 1 1] COPY completed
        C: e CLOSE
        S: e OK CLOSE completed
        """,
    )


def test_expunge(world: World, talk: Talk) -> None:
    client = three(world)
    client.ask("s SELECT INBOX")
    talk(
        client,
        r"""
        C: a STORE 1,3 +FLAGS.SILENT (\Deleted)
        S: a OK STORE completed
        C: b UID EXPUNGE 2:3
        S: * 3 EXPUNGE
        S: * 2 RECENT
        S: b OK EXPUNGE completed
        C: c EXPUNGE
        S: * 1 EXPUNGE
        S: * 1 RECENT
        S: c OK EXPUNGE completed
        C: d EXPUNGE
        S: d OK EXPUNGE completed
        C: e UID FETCH 1:* UID
        S: * 1 FETCH (UID 2)
        S: e OK UID FETCH completed
        """,
    )


def test_close_expunges_without_a_word(world: World, talk: Talk) -> None:
    client = three(world)
    client.ask("s SELECT INBOX")
    talk(
        client,
        r"""
        C: a STORE 1,3 +FLAGS.SILENT (\Deleted)
        S: a OK STORE completed
        C: b CLOSE
        S: b OK CLOSE completed
        C: c STATUS INBOX (MESSAGES)
        S: * STATUS INBOX (MESSAGES 1)
        S: c OK STATUS completed
        """,
    )


def test_unselect_expunges_nothing(world: World) -> None:
    client = three(world)
    client.ask("s SELECT INBOX")
    client.ask(r"a STORE 1 +FLAGS.SILENT (\Deleted)")
    client.ask("b UNSELECT")
    assert b"MESSAGES 3" in client.ask("c STATUS INBOX (MESSAGES)")


def test_copy_and_move(world: World, talk: Talk) -> None:
    client = three(world)
    client.ask("s SELECT INBOX")
    talk(
        client,
        r"""
        C: a STORE 2 FLAGS.SILENT (\Flagged $Label2)
        S: * FLAGS (...
        S: * OK [PERMANENTFLAGS (...
        S: a OK STORE completed
        C: b COPY 2:3 Archive
        S: b OK [COPYUID ... 2:3 1:2] COPY completed
        C: c UID COPY 1 Archive
        S: c OK [COPYUID ... 1 3] COPY completed
        C: d COPY 1 Nowhere
        S: d NO [TRYCREATE] ...
        C: e MOVE 1 Nowhere
        S: e NO [TRYCREATE] ...
        C: f UID MOVE 1,3 Trash
        S: * OK [COPYUID ... 1,3 1:2] Moved
        S: * 3 EXPUNGE
        S: * 1 EXPUNGE
        S: * 1 RECENT
        S: f OK MOVE completed
        C: g MOVE 1 Trash
        S: * OK [COPYUID ... 2 3] Moved
        S: * 1 EXPUNGE
        S: g OK MOVE completed
        C: h UID MOVE 77 Trash
        S: h OK Nothing to move
        C: i UID COPY 77 Trash
        S: i OK Nothing to copy
        C: j MOVE 1 Trash
        S: j BAD No such message number
        """,
    )
    client.ask("s SELECT Archive")
    assert rb"* 1 FETCH (FLAGS (\Flagged $Label2 \Recent))" in client.ask("k FETCH 1 FLAGS")


def test_empty_mailbox(world: World, talk: Talk) -> None:
    client = world.connect().select()
    talk(
        client,
        r"""
        C: a FETCH 1:* FLAGS
        S: a OK FETCH completed
        C: b UID FETCH 1:* FLAGS
        S: b OK UID FETCH completed
        C: c FETCH 1 FLAGS
        S: c BAD No such message number
        C: d SEARCH ALL
        S: * SEARCH
        S: d OK SEARCH completed
        C: e EXPUNGE
        S: e OK EXPUNGE completed
        C: f UID STORE 1:* +FLAGS (\Seen)
        S: f OK UID STORE completed
        """,
    )


def test_own_mailbox_deleted(world: World, talk: Talk) -> None:
    client = world.connect().login()
    client.ask("a CREATE Brief")
    client.ask("b SELECT Brief")
    talk(
        client,
        """
        C: c DELETE Brief
        S: c OK DELETE completed
        C: d FETCH 1:* FLAGS
        S: d BAD ...
        C: e SELECT INBOX
        S: * FLAGS ...
        S: * 0 EXISTS
        S: * 0 RECENT
        S: * OK ...
        S: * OK ...
        S: * OK ...
        S: * OK ...
        S: * OK ...
        S: * OK ...
        S: e OK [READ-WRITE] SELECT completed
        """,
    )


def test_without_a_quota(world: World, talk: Talk) -> None:
    talk(
        world.connect().login(),
        """
        C: a GETQUOTAROOT INBOX
        S: * QUOTAROOT INBOX
        S: a OK GETQUOTAROOT completed
        C: b GETQUOTA Other
        S: b NO [NONEXISTENT] ...
        C: c SETQUOTA "User quota" (STORAGE 1)
        S: c NO [NOPERM] ...
        """,
    )


def test_quota() -> None:
    world = World(quota=(10_000, 3))
    try:
        world.append(HELLO)
        client = world.connect().login()
        assert client.ask('a GETQUOTAROOT "Sent"') == (
            b'* QUOTAROOT Sent "User quota"\r\n* QUOTA "User quota" (STORAGE 1 9 MESSAGE 1 3)\r\n'
            b"a OK GETQUOTAROOT completed\r\n"
        )
        assert client.ask('b GETQUOTA ""').startswith(b'* QUOTA "" (STORAGE 1 9 MESSAGE 1 3)\r\n')
        client.send(b"c APPEND INBOX {20000}\r\n")
        assert client.heard() == b"c NO [OVERQUOTA] Over quota\r\n"
        client.ask("d SELECT INBOX")
        assert client.ask("e COPY 1 Sent").startswith(b"e OK [COPYUID")
        assert client.ask("f COPY 1 Sent").startswith(b"f OK [COPYUID")
        assert client.ask("g COPY 1 Sent").startswith(b"g NO [OVERQUOTA]")
        assert client.ask("h MOVE 1 Sent").startswith(b"* OK [COPYUID")
        assert client.ask("i APPEND INBOX {3+}\r\nabc").startswith(b"i NO [OVERQUOTA]")
    finally:
        world.close()


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("transaction", r"a STORE 1 +FLAGS (\Seen)"),
        ("transaction", "a COPY 1 Trash"),
        ("transaction", "a CREATE x"),
        ("read", "a FETCH 1 ENVELOPE"),
        ("read", 'a LIST "" *'),
        ("files", "a FETCH 1 BODY.PEEK[]"),
        ("compute", "a SEARCH BODY x"),
    ],
)
def test_trouble_is_a_no_and_passes(world: World, kind: str, command: str) -> None:
    """A full queue or a broken disk: NO, nothing lost, and the same works when it clears."""
    client = three(world)
    client.ask("s SELECT INBOX")
    world.work.failing = {kind: Overloaded("full")}
    assert client.ask(command) == b"a NO [UNAVAILABLE] Too busy; try again later\r\n"
    world.work.failing = {kind: OSError(28, "No space left on device")}
    said = client.ask(command)
    assert said.startswith(b"a NO [SERVERBUG]"), said
    world.work.failing = {}
    assert b"a OK" in client.ask(command)
