"""Bad input as a table: each line with the answer it must get, and the proof that the next command works."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from mailstack.net.conversation import WRITE_SECONDS
from tests.access.imap.harness import HELLO, Client, World

NESTED = 10_000  # parts, each in the one before

# A name that is no modified UTF-7 is read as it is written, so that it names one mailbox: see `wire.imap.mutf7`.
# What is sent after the tag, and how the answer begins, tag left out. Selected: INBOX with 3 messages.
CASES = {
    "parentheses": ("SEARCH " + "(" * 30_000 + "ALL" + ")" * 30_000, "NO [LIMIT]"),
    "parentheses, more than a line": ("SEARCH " + "(" * 100_000 + "ALL" + ")" * 100_000, "BAD line too long"),
    "NOTs": ("SEARCH " + "NOT " * 15_000 + "ALL", "NO [LIMIT]"),
    "ORs": ("SEARCH " + "OR " * 15_000 + "ALL", "NO [LIMIT]"),
    "FETCH parentheses": ("FETCH 1 " + "(" * 60_000, "BAD "),
    "LIST parentheses": ("LIST " + "(" * 60_000, "BAD "),
    "ranges": ("UID FETCH " + ",".join(["1:*"] * 10_001) + " UID", "BAD "),
    "a million ranges": ("FETCH " + ",".join(["1"] * 1_000_000) + " UID", "BAD line too long"),
    "a range over all numbers": ("UID SEARCH UID 1:4294967295", "OK "),
    "a number too large": ("FETCH 4294967296 UID", "BAD "),
    "zero": ("FETCH 0 UID", "BAD "),
    "beyond the last": ("FETCH 4 UID", "BAD No such message number"),
    "NUL in an atom": ("CREATE a\0b", "BAD "),
    "NUL in a string": ('CREATE "a\0b"', "BAD "),
    "a control character": ('CREATE "a\x07b"', "NO [CANNOT]"),
    "nothing but separators": ('CREATE "/"', "NO [CANNOT]"),
    "an empty level": ('CREATE "a//b"', "NO [CANNOT]"),
    "from the root": ('CREATE "/etc/passwd"', "NO [CANNOT]"),
    "dots": ('CREATE "../../../etc/passwd"', "OK "),  # a name like any other: see test_names
    "one level of dots": ('CREATE "." ""', "BAD "),
    "10,000 levels": ("CREATE " + "/".join(["a"] * 10_000), "NO [CANNOT]"),
    "a name too long": ("CREATE " + "a" * 10_000, "NO [CANNOT]"),
    "UTF-7 that does not end": ('CREATE "&AOk"', "OK "),
    "UTF-7 of half a character": ('CREATE "&2D0-"', "OK "),
    "UTF-7 of ASCII": ('CREATE "&AGE-"', "OK "),
    "a wildcard": ('CREATE "a%b"', "NO [CANNOT]"),
    "many patterns": ('LIST "" (' + "* " * 1_000 + "*)", "BAD too many"),
    "a keyword too long": ("STORE 1 +FLAGS (" + "k" * 1_000 + ")", "BAD keyword too long"),
    "many keywords": ("STORE 1 +FLAGS (" + " ".join(f"k{n}" for n in range(500)) + ")", "NO [LIMIT]"),
    "a literal too large": ("CREATE {9999999999}", "BAD [TOOBIG]"),
    "a literal of no size": ("CREATE {-1}", "BAD "),
    "an APPEND too large": ("APPEND INBOX {99999999999}", "NO [TOOBIG]"),
    "an APPEND of nothing": ("APPEND INBOX {0}", "NO [CANNOT]"),
    "a section too deep": (f"FETCH 1 BODY[{'.'.join(['1'] * 9_000)}]", "BAD bad section"),
    "no such command": ("X" * 60_000, "BAD "),
    "8-bit in an atom": ("CREATE \xe9", "OK "),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    world = World()
    for _ in range(3):
        world.append(HELLO)
    yield world
    world.close()


def works(client: Client) -> None:
    assert client.ask("z FETCH 1 UID").endswith(b"* 1 FETCH (UID 1)\r\nz OK FETCH completed\r\n")


def final(said: bytes, tag: str) -> str:
    """The tagged response, its tag left out; the only one."""
    [line] = [line for line in said.decode("latin-1").split("\r\n") if line.startswith(f"{tag} ")]
    return line.removeprefix(f"{tag} ")


@pytest.mark.parametrize("name", CASES)
def test_bad_input(shared: World, name: str) -> None:
    sent, expected = CASES[name]
    client = shared.connect().select()
    client.send(f"t {sent}\r\n".encode("latin-1"))
    assert final(client.heard(), "t").startswith(expected)
    works(client)
    client.lose()


def test_a_star_where_there_is_nothing(world: World) -> None:
    client = world.connect().select()
    for command in (
        "FETCH 1:* UID",
        "FETCH * UID",
        "UID FETCH 1:* UID",
        r"STORE 1:* +FLAGS (\Seen)",
        "COPY 1:* Trash",
    ):
        assert final(client.ask(f"a {command}"), "a").startswith("OK"), command
    assert final(client.ask("b FETCH 1 UID"), "b").startswith("BAD")


@pytest.mark.parametrize(
    "sent",
    [b"t CREATE {10}\r\nabc", b"t APPEND INBOX {1000}\r\nSubject: x", b"t SEARCH SUBJECT {100+}\r\n"],
    ids=["argument", "message", "not awaited"],
)
def test_a_literal_that_never_comes(shared: World, sent: bytes) -> None:
    """The client is told good-bye when it has been silent for too long; nothing is left of it."""
    client = shared.connect().select()
    client.send(sent)
    client.heard()
    shared.clock.advance(shared.config.idle_seconds + 1)
    shared.settle()
    assert client.heard() == b"* BYE Silent for too long\r\n"
    assert client.closed
    works(shared.connect().select())


def test_an_idle_that_never_ends(shared: World) -> None:
    client = shared.connect().select()
    client.ask("a IDLE")
    shared.clock.advance(shared.config.idle_seconds + 1)
    shared.settle()
    assert client.heard() == b"* BYE Silent for too long\r\n"
    assert client.closed


def test_a_client_that_never_reads(world: World) -> None:
    """What is kept for it is bounded; after a while it is cut, and meanwhile others feel nothing."""
    body = b"Subject: big\r\n\r\n" + b"x" * 200_000
    for _ in range(20):
        world.append(body)
    client, other = world.connect().select(), world.connect().select()
    client.heard()
    client.conversation.pauseProducing()
    client.send(b"a FETCH 1:* BODY.PEEK[]\r\nb FETCH 1:* BODY.PEEK[]\r\n")
    assert len(client.heard()) < 1_000_000
    client.send(b"c NOOP\r\n" * 1_000)  # the transport is asked to read no more
    assert not client.wire.producing
    assert other.ask("d STORE 1 +FLAGS (x)").endswith(b"d OK STORE completed\r\n")
    world.clock.advance(WRITE_SECONDS + 1)
    world.settle()
    assert client.wire.aborted
    client.lose()
    assert other.ask("e NOOP") == b"e OK NOOP completed\r\n"


def test_create_in_a_loop(world: World) -> None:
    """The number of a user's mailboxes is bounded; others can go on."""
    world.limit_mailboxes(30)
    client = world.connect().login()
    said = [final(client.ask(f"a CREATE box{number}"), "a") for number in range(40)]
    made = [each for each in said if each.startswith("OK")]
    assert len(made) == 24  # and six from the start
    assert all(each.startswith("NO [LIMIT]") for each in said[len(made) :])
    assert final(client.ask("b CREATE x/y/z/w"), "b").startswith("NO [LIMIT]")
    assert final(client.ask("c RENAME box1 other"), "c").startswith("OK")
    assert final(client.ask("d DELETE box2"), "d").startswith("OK")
    assert final(client.ask("e CREATE again"), "e").startswith("OK")
    assert final(world.connect().login("bob").ask("f CREATE box"), "f").startswith("OK")


def test_two_delete_what_the_other_has_selected(world: World) -> None:
    one, two = world.connect().login(), world.connect().login()
    one.ask("a CREATE One")
    one.ask("a CREATE Two")
    one.ask("a SELECT One")
    two.ask("a SELECT Two")
    assert final(one.ask("b DELETE Two"), "b").startswith("OK")
    assert final(two.ask("b DELETE One"), "b").startswith("OK")
    for client in (one, two):
        assert client.ask("c NOOP") == b"c OK NOOP completed\r\n"
        assert client.ask("d FETCH 1:* UID").startswith(b"* BYE [NONEXISTENT]")
        assert client.closed
    assert final(world.connect().select().ask("e STATUS One (MESSAGES)"), "e").startswith("NO [NONEXISTENT]")


def nested(count: int) -> bytes:
    """Parts in parts."""
    heads = (b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(count))
    return b"Subject: deep\r\n" + b"".join(heads) + b"\r\nthe end\r\n"


def side_by_side(count: int) -> bytes:
    """Parts beside parts."""
    head = b"Subject: wide\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + b"--b\r\n\r\nx\r\n" * count + b"--b--\r\n"


DAMAGED = {
    "base64": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!=A=B==\r\n\x00\xff",
    "quoted-printable": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=ZZ=\r\n=3=",
    "unknown encoding": b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-rot13\r\n\r\nuryyb\r\n",
    "no boundary": b"Content-Type: multipart/mixed\r\n\r\n--\r\n\r\nx\r\n",
    "an empty boundary": b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\nx\r\n',
    "a boundary that does not come": b"Content-Type: multipart/mixed; boundary=b\r\n\r\nx\r\n",
    "a boundary that does not end": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx",
    "a message in a message cut off": b"Content-Type: message/rfc822\r\n\r\nSubject",
    "a header without a name": b": x\r\n: y\r\n \r\n\r\nx",
    "no header": b"\r\nx",
    "a header of NULs": b"Subject: \x00\x00\r\nFrom: \x00@\x00\r\n\r\nx",
    "addresses": b"From: <<<>>>,,,;;;((((\r\nTo: a: b: c;;\r\nSubject: =?utf-8?b?!!!?= =?x?q?=ZZ?=\r\n\r\nx",
    "a charset that is none": b"Content-Type: text/plain; charset=\x00\xff\r\n\r\nx",
    "a type that is none": b"Content-Type: ////;;;==\r\n\r\nx",
}
LOOKS = (
    "FETCH 1 (ENVELOPE BODY BODYSTRUCTURE PREVIEW RFC822.SIZE)",
    "FETCH 1 (BODY.PEEK[] BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[HEADER] BODY.PEEK[TEXT])",
    "FETCH 1 (BINARY.PEEK[1])",
    "SEARCH BODY nothing TEXT nothing SUBJECT nothing",
    "SORT (SUBJECT FROM) UTF-8 ALL",
    "THREAD REFERENCES UTF-8 ALL",
)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_mime(shared: World, name: str) -> None:
    box = f"damaged{list(DAMAGED).index(name)}"
    client = shared.connect().login()
    client.ask(f"a CREATE {box}")
    shared.append(DAMAGED[name], box)
    client.ask(f"b SELECT {box}")
    for look in LOOKS:
        said = client.ask(f"c {look}")
        assert b"\r\nc OK" in said or (b"BINARY" in look.encode() and b"c NO [UNKNOWN-CTE]" in said), (
            look,
            said,
        )
    client.lose()


@pytest.mark.parametrize("make", [nested, side_by_side])
def test_very_many_parts(world: World, make: object) -> None:
    """10,000 parts cost a second of CPU and a few MB at most, and each question has its answer."""
    before, peak = _cpu(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    world.append(make(NESTED))  # type: ignore[operator]
    client = world.connect().select()
    for look in (*LOOKS, f"FETCH 1 BODY.PEEK[{'.'.join(['1'] * 50)}]", "FETCH 1 BODY.PEEK[9999]"):
        assert b"c OK" in client.ask(f"c {look}"), look
    assert _cpu() - before < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # KiB


def _cpu() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime
