"""Modseqs: CONDSTORE (RFC 7162 section 3.1)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mailstack.store import reading
from tests.access.imap.harness import HELLO, Client, World


def number(said: bytes, before: bytes) -> int:
    match = re.search(re.escape(before) + rb"\(?(\d+)", said)
    assert match, said
    return int(match[1])


@pytest.fixture
def client(world: World) -> Client:
    for _ in range(3):
        world.append(HELLO)
    return world.connect().login()


def test_select_tells_the_highest(client: Client) -> None:
    highest = number(client.ask("a SELECT INBOX"), b"[HIGHESTMODSEQ ")
    assert highest == number(client.ask("b STATUS INBOX (HIGHESTMODSEQ)"), b"HIGHESTMODSEQ ")
    assert highest == number(client.ask("c FETCH * (MODSEQ)"), b"MODSEQ ")


def test_flags_alone_until_it_is_enabled(client: Client) -> None:
    client.ask("a SELECT INBOX")
    assert b"MODSEQ" not in client.ask(r"b STORE 1 +FLAGS (\Seen)")
    assert client.ask("c ENABLE CONDSTORE X") == b"* ENABLED CONDSTORE\r\nc OK ENABLE completed\r\n"
    said = client.ask(r"d STORE 1 +FLAGS (\Flagged)")
    assert re.match(rb"\* 1 FETCH \(MODSEQ \(\d+\) FLAGS \(\\Flagged \\Seen \\Recent\)\)\r\nd OK", said), said


@pytest.mark.parametrize(
    "command",
    [
        "ENABLE CONDSTORE",
        "STATUS INBOX (HIGHESTMODSEQ)",
        "SELECT INBOX (CONDSTORE)",
        "FETCH 1 (MODSEQ)",
        "FETCH 1 (FLAGS) (CHANGEDSINCE 1)",
        "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (x)",
        "SEARCH MODSEQ 1",
    ],
)
def test_what_enables_it(client: Client, world: World, command: str) -> None:
    client.ask("a SELECT INBOX")
    said = client.ask(f"b {command}")
    assert b"b OK" in said, said
    other = world.connect().select()
    other.ask(r"c STORE 3 +FLAGS (\Seen)")
    assert re.match(rb"\* 3 FETCH \(MODSEQ \(\d+\) FLAGS \(\\Seen", client.ask("d NOOP")), command


def test_changed_since(client: Client) -> None:
    highest = number(client.ask("a SELECT INBOX (CONDSTORE)"), b"[HIGHESTMODSEQ ")
    client.ask(r"b STORE 2 +FLAGS.SILENT (\Seen)")
    said = client.ask(f"c FETCH 1:* (FLAGS) (CHANGEDSINCE {highest})")
    assert re.fullmatch(
        rb"\* 2 FETCH \(FLAGS \(\\Seen \\Recent\) MODSEQ \(\d+\)\)\r\nc OK FETCH completed\r\n", said
    ), said
    assert number(said, b"MODSEQ ") > highest
    said = client.ask(f"d UID FETCH 1:* (FLAGS) (CHANGEDSINCE {highest + 100})")
    assert said == b"d OK UID FETCH completed\r\n"


def test_unchanged_since(client: Client, world: World) -> None:
    highest = number(client.ask("a SELECT INBOX"), b"[HIGHESTMODSEQ ")
    other = world.connect().select()
    other.ask(r"b STORE 2 +FLAGS (\Seen)")
    said = client.ask(rf"c STORE 1:3 (UNCHANGEDSINCE {highest}) +FLAGS.SILENT (\Flagged)")
    assert b"c OK [MODIFIED 2] STORE completed" in said
    assert re.findall(rb"\* (\d) FETCH \(MODSEQ \(\d+\)\)", said) == [b"1", b"3"]
    flags = client.ask("d FETCH 1:3 FLAGS")
    assert re.findall(rb"\* (\d) FETCH \(FLAGS \([^)]*\\Flagged", flags) == [b"1", b"3"]
    said = client.ask(rf"e UID STORE 1:3 (UNCHANGEDSINCE {highest}) +FLAGS (\Deleted)")
    assert b"e OK [MODIFIED 1:3] UID STORE completed" in said
    assert b"Deleted" not in client.ask("f FETCH 1:3 FLAGS")


def test_what_a_condition_kept_is_told(client: Client, world: World) -> None:
    """The client must learn why its silent change was not made."""
    highest = number(client.ask("a SELECT INBOX"), b"[HIGHESTMODSEQ ")
    world.connect().select().ask(r"b STORE 2 +FLAGS (\Seen)")
    said = client.ask(rf"c STORE 2 (UNCHANGEDSINCE {highest}) +FLAGS.SILENT (\Flagged)")
    assert re.match(rb"\* 2 FETCH \(MODSEQ \(\d+\) FLAGS \(\\Seen", said), said
    assert b"c OK [MODIFIED 2]" in said


def test_search(client: Client) -> None:
    highest = number(client.ask("a SELECT INBOX"), b"[HIGHESTMODSEQ ")
    client.ask(r"b STORE 2 +FLAGS.SILENT (\Seen)")
    said = client.ask(f"c SEARCH MODSEQ {highest + 1}")
    assert re.fullmatch(rb"\* SEARCH 2 \(MODSEQ \d+\)\r\nc OK SEARCH completed\r\n", said), said
    said = client.ask(f"d UID SEARCH RETURN (COUNT) MODSEQ {highest + 1}")
    assert re.fullmatch(
        rb'\* ESEARCH \(TAG "d"\) UID COUNT 1 MODSEQ \d+\r\nd OK UID SEARCH completed\r\n', said
    )
    for key in (
        f"OR FLAGGED MODSEQ {highest + 1}",
        f"OR MODSEQ {highest + 1} FLAGGED",
        f"NOT NOT MODSEQ {highest + 1}",
        f"FUZZY MODSEQ {highest + 1}",
        f"(ALL MODSEQ {highest + 1})",
    ):
        assert re.match(rb"\* SEARCH 2 \(MODSEQ \d+\)\r\n", client.ask(f"k SEARCH {key}")), key
    assert client.ask(f"e SEARCH MODSEQ {highest + 99}") == b"* SEARCH\r\ne OK SEARCH completed\r\n"


def test_seen_by_reading(client: Client) -> None:
    client.ask("a SELECT INBOX (CONDSTORE)")
    said = client.ask("b FETCH 1 BODY[TEXT]")
    assert re.match(rb"\* 1 FETCH \(FLAGS \(\\Seen \\Recent\) MODSEQ \(\d+\) BODY\[TEXT\] \{", said), said


def test_qresync_only_once_it_is_enabled(client: Client) -> None:
    assert client.ask("a SELECT INBOX (QRESYNC (1 2))").startswith(b"a BAD")
    client.ask("b SELECT INBOX")
    assert client.ask("c UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)").startswith(b"c BAD")


@pytest.fixture
def synced(world: World, client: Client) -> Client:
    """A client with QRESYNC that has not been told of an expunge yet."""
    client.ask("a ENABLE QRESYNC")
    client.ask("b SELECT INBOX")
    other = world.connect().select()
    other.ask(r"c STORE 1 +FLAGS.SILENT (\Deleted)")
    client.ask("d NOOP")
    other.ask("e EXPUNGE")
    return client


def test_no_modseq_hides_an_expunge_that_is_still_to_be_told(synced: Client) -> None:
    """RFC 7162 section 3.2: whoever is cut off now must not take a modseq above the expunge's."""
    said = synced.ask(r"f STORE 2 +FLAGS.SILENT (\Seen)")
    assert re.fullmatch(
        rb"\* 2 FETCH \(UID 2 MODSEQ \(7\)\)\r\n\* OK \[HIGHESTMODSEQ 5\] [^\r]+\r\nf OK STORE completed\r\n",
        said,
    ), said
    assert b"* OK [HIGHESTMODSEQ 5]" in synced.ask("g FETCH 2 (MODSEQ)")
    said = synced.ask("h NOOP")
    assert re.fullmatch(
        rb"\* VANISHED 1\r\n\* 2 RECENT\r\n\* OK \[HIGHESTMODSEQ 7\] [^\r]+\r\nh OK NOOP completed\r\n", said
    ), said
    assert synced.ask("i NOOP") == b"i OK NOOP completed\r\n"


def test_vanished_earlier_leaves_out_what_still_has_a_number(synced: Client) -> None:
    said = synced.ask("f UID FETCH 1:* (FLAGS) (CHANGEDSINCE 4 VANISHED)")
    assert b"EARLIER" not in said
    assert b"* VANISHED 1\r\n" in said
    assert b"VANISHED" not in synced.ask("g NOOP")
    assert b"* VANISHED (EARLIER) 1\r\n" in synced.ask("h UID FETCH 1:* (FLAGS) (CHANGEDSINCE 4 VANISHED)")


def test_an_expunge_in_the_middle_of_a_resynchronization(world: World) -> None:
    """A client that is cut off after it must not take a modseq above that of the VANISHED it has not had."""
    for _ in range(3):
        world.append(HELLO)
    client, other = world.connect().login(), world.connect().select()
    client.ask("a ENABLE QRESYNC")
    highest = number(client.ask("b SELECT INBOX"), b"[HIGHESTMODSEQ ")
    validity = world.run(world.store.status(world.alice.id, "INBOX")).uidvalidity
    client.ask("c UNSELECT")
    read = world.work.read

    async def meanwhile(function: Any, *args: Any) -> Any:
        if function is reading.expunged_since:
            world.work.read = read
            other.ask(r"x STORE 2 +FLAGS (\Deleted)")
            other.ask("y EXPUNGE")
            other.ask(r"z STORE 1 +FLAGS (\Seen)")
        return await read(function, *args)

    world.work.read = meanwhile
    said = client.ask(f"d SELECT INBOX (QRESYNC ({validity} {highest}))")
    assert number(said, b"[HIGHESTMODSEQ ") == highest
    assert b"* 3 EXISTS" in said, "it still has a number"
    assert number(said, b"* 1 FETCH (UID 1 MODSEQ ") > highest
    assert re.search(rb"\* OK \[HIGHESTMODSEQ %d\] [^\r]+\r\nd OK" % highest, said), said
    assert re.match(rb"\* VANISHED 2\r\n(.*\r\n)*\* OK \[HIGHESTMODSEQ", client.ask("e NOOP"))
