"""MESSAGELIMIT (RFC 9738): commands that name more messages than one may work on. The limit here is 3, of 5."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mailstack.access.settings import ImapConfig
from tests.access.imap.harness import HELLO, Client, World

Talk = Callable[[Client, str], None]


@pytest.fixture
def world() -> Iterator[World]:
    config = ImapConfig()
    object.__setattr__(config, "max_messages", 3)
    world = World(config)
    yield world
    world.close()


@pytest.fixture
def client(world: World) -> Client:
    world.deliver(*[HELLO] * 7)
    client = world.connect().select()
    client.ask(r"a UID STORE 1:2 +FLAGS.SILENT (\Deleted)")
    client.ask("b EXPUNGE")
    client.ask("s SELECT INBOX")
    return client  # numbers 1 to 5 are UIDs 3 to 7


def test_it_is_offered(world: World) -> None:
    client = world.connect()
    client.heard()
    assert b" MESSAGELIMIT=3 " in client.ask("l LOGIN alice@example.test secret")
    object.__setattr__(world.config, "max_messages", 0)
    assert b"MESSAGELIMIT" not in client.ask("c CAPABILITY")
    with pytest.raises(ValueError, match="max_messages"):
        ImapConfig(max_messages=999)


def test_in_part_the_newest_first(client: Client, talk: Talk) -> None:
    talk(client, r"""
        C: a FETCH 1:* (UID)
        S: * 5 FETCH (UID 7)
        S: * 4 FETCH (UID 6)
        S: * 3 FETCH (UID 5)
        S: a OK [MESSAGELIMIT 3 5] FETCH completed
        C: b UID FETCH 1:4 (UID)
        S: * 1 FETCH (UID 3)
        S: * 2 FETCH (UID 4)
        S: b OK UID FETCH completed
        C: c UID FETCH 3:* (ENVELOPE)
        S: * 5 FETCH (UID 7 ENVELOPE (...))
        S: * 4 FETCH (UID 6 ENVELOPE (...))
        S: * 3 FETCH (UID 5 ENVELOPE (...))
        S: c OK [MESSAGELIMIT 3 5] UID FETCH completed
        C: d STORE 1:5 +FLAGS (\Deleted)
        S: * 5 FETCH (FLAGS (\Deleted))
        S: * 4 FETCH (FLAGS (\Deleted))
        S: * 3 FETCH (FLAGS (\Deleted))
        S: d OK [MESSAGELIMIT 3 5] STORE completed
        C: e UID STORE 3:4 +FLAGS.SILENT (\Deleted)
        S: e OK UID STORE completed
        C: f UID EXPUNGE 1:*
        S: * 5 EXPUNGE
        S: * 4 EXPUNGE
        S: * 3 EXPUNGE
        S: f OK [MESSAGELIMIT 3 5] EXPUNGE completed
        C: g UID EXPUNGE 1:*
        S: * 2 EXPUNGE
        S: * 1 EXPUNGE
        S: g OK EXPUNGE completed
    """.replace(r"(\Deleted))", r"(\Deleted...))"))  # fmt: skip


def test_searches(client: Client, talk: Talk) -> None:
    talk(client, """
        C: a SEARCH ALL
        S: * SEARCH 5 4 3
        S: a OK [MESSAGELIMIT 3 5] SEARCH completed
        C: b UID SEARCH RETURN (ALL COUNT) SUBJECT hello
        S: * ESEARCH (TAG "b") UID COUNT 3 ALL 5:7
        S: b OK [MESSAGELIMIT 3 5] UID SEARCH completed
        C: c UID SEARCH UIDBEFORE 5 SUBJECT hello
        S: * SEARCH 3 4
        S: c OK UID SEARCH completed
        C: d UID SEARCH UIDAFTER 5
        S: * SEARCH 6 7
        S: d OK UID SEARCH completed
        C: e UID SEARCH UIDAFTER 9
        S: * SEARCH
        S: e OK UID SEARCH completed
        C: f SEARCH RETURN (SAVE) ALL
        S: f OK [MESSAGELIMIT 3 5] SEARCH completed
        C: g UID FETCH $ (UID)
        S: * 3 FETCH (UID 5)
        S: * 4 FETCH (UID 6)
        S: * 5 FETCH (UID 7)
        S: g OK UID FETCH completed
        C: h SORT (SUBJECT) UTF-8 ALL
        S: h NO [MESSAGELIMIT 3 5] At most 3 messages at a time
        C: i UID SORT (SUBJECT) UTF-8 UIDBEFORE 6
        S: * SORT 3 4 5
        S: i OK UID SORT completed
        C: j THREAD REFS UTF-8 ALL
        S: j NO [MESSAGELIMIT 3 5] ...
        C: k UID THREAD REFS UTF-8 1:2
        S: * THREAD (3)(4)
        S: k OK UID THREAD completed
        C: l ESEARCH IN (personal) RETURN (COUNT) ALL
        S: * NO [MESSAGELIMIT 3 5] Not all messages could be looked at
        S: * ESEARCH (TAG "l" MAILBOX INBOX UIDVALIDITY ...) UID COUNT 3
        S: l OK ESEARCH completed
    """.replace("(3)(4)", "..."))  # fmt: skip


def test_all_or_nothing(client: Client, talk: Talk) -> None:
    talk(client, """
        C: a COPY 1:* Trash
        S: a NO [MESSAGELIMIT 3 5] At most 3 messages at a time
        C: b UID FETCH 1:* (UID) (PARTIAL 1:4)
        S: b NO [MESSAGELIMIT 3 4] ...
        C: c UID FETCH 1:* (UID) (PARTIAL -1:-2)
        S: * 4 FETCH (UID 6)
        S: * 5 FETCH (UID 7)
        S: c OK UID FETCH completed
        C: d MOVE 1:* Trash
        S: * OK [COPYUID ... 5:7 1:3] Moved
        S: * 5 EXPUNGE
        S: * 4 EXPUNGE
        S: * 3 EXPUNGE
        S: d OK [MESSAGELIMIT 3 5] MOVE completed
        C: e STATUS Trash (MESSAGES)
        S: * STATUS Trash (MESSAGES 3)
        S: e OK STATUS completed
    """)  # fmt: skip


def test_beside_another_code(client: Client) -> None:
    said = client.ask(r"a UID STORE 1:* (UNCHANGEDSINCE 1) +FLAGS.SILENT (\Seen)")
    assert said == (
        b"* NO [MESSAGELIMIT 3 5] Not all messages could be looked at\r\na OK [MODIFIED 5:7] UID STORE completed\r\n"
    )


def test_what_knows_no_limit(client: Client) -> None:
    client.ask(r"a STORE 1:2 +FLAGS.SILENT (\Deleted)")
    client.ask(r"b STORE 3:5 +FLAGS.SILENT (\Deleted)")
    assert client.ask("c EXPUNGE").count(b"EXPUNGE\r\n") == 5
