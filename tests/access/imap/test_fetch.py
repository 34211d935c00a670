"""FETCH: every item, on messages that are hard to take apart."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mailstack.access.imap import fetch
from tests.access.imap import corpus
from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]


def value(client: Client, item: str, number: int = 1) -> bytes:
    """The octets of one text item, from its literal."""
    said = client.ask(f"f FETCH {number} ({item})")
    match = re.match(rb"\* \d+ FETCH \((?:[^{\"]*) (?:\{(\d+)\}\r\n|NIL)", said)
    assert match, said
    assert b"\r\nf OK FETCH completed\r\n" in said, said
    if match[1] is None:
        return b"NIL"
    octets = said[match.end() : match.end() + int(match[1])]
    assert said[match.end() + int(match[1]) :].startswith((b")\r\n", b" ")), said
    return octets


def one(world: World, message: bytes) -> Client:
    world.append(message)
    return world.connect().select()


def header(message: bytes) -> bytes:
    return message[: message.index(b"\r\n\r\n") + 4]


def body(message: bytes) -> bytes:
    return message[message.index(b"\r\n\r\n") + 4 :]


def test_what_is_in_memory(world: World, talk: Talk) -> None:
    world.append(corpus.PLAIN, flags=[r"\Flagged", "$Label1"], date=1_057_049_557, zone=120)
    world.append(corpus.NO_BODY, flags=[r"\Seen"], date=0)
    size = len(corpus.PLAIN)
    client = world.connect().select()
    talk(
        client,
        rf"""
        C: a FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)
        S: * 1 FETCH (UID 1 FLAGS (\Flagged $Label1 \Recent) INTERNALDATE " 1-Jul-2003 10:52:37 +0200" RFC822.SIZE {size})
        S: * 2 FETCH (UID 2 FLAGS (\Seen \Recent) INTERNALDATE " 1-Jan-1970 00:00:00 +0000" RFC822.SIZE 24)
        S: a OK FETCH completed
        C: b UID FETCH 2:9 FLAGS
        S: * 2 FETCH (... FLAGS (\Seen \Recent)...)
        S: b OK UID FETCH completed
        C: c UID FETCH 77:* (UID)
        S: * 2 FETCH (UID 2)
        S: c OK UID FETCH completed
        C: d UID FETCH 40:50 (FLAGS)
        S: d OK UID FETCH completed
        C: e FETCH 3 FLAGS
        S: e BAD No such message number
        C: f FETCH 2,1,2 UID
        S: * 1 FETCH (UID 1)
        S: * 2 FETCH (UID 2)
        S: f OK FETCH completed
        """,
    )


def test_macros(world: World) -> None:
    client = one(world, corpus.PLAIN)
    fast = client.ask("a FETCH 1 FAST")
    assert all(item in fast for item in (b"FLAGS (", b"INTERNALDATE ", b"RFC822.SIZE "))
    assert b"ENVELOPE" not in fast
    assert b"ENVELOPE (" in client.ask("b FETCH 1 ALL")
    full = client.ask("c FETCH 1 FULL")
    assert b"ENVELOPE (" in full
    assert b'BODY ("TEXT" "PLAIN"' in full.upper()


def test_envelope_and_structure(world: World) -> None:
    client = one(world, corpus.PLAIN)
    said = client.ask("a FETCH 1 (ENVELOPE BODYSTRUCTURE BODY)")
    assert said.startswith(b'* 1 FETCH (ENVELOPE ("Tue, 1 Jul 2003 10:52:37 +0200" ')
    assert b'((NIL NIL "rene" "example.org"))' in said or b'"rene" "example.org"))' in said
    assert b'"<plain@example.org>"' in said
    assert said.endswith(b")\r\na OK FETCH completed\r\n")
    assert b" BODYSTRUCTURE (" in said
    assert b" BODY (" in said


@pytest.mark.parametrize("message", corpus.ALL, ids=range(len(corpus.ALL)))
def test_whole_message_by_every_name(world: World, message: bytes) -> None:
    client = one(world, message)
    size = len(message)
    assert value(client, "BODY.PEEK[]") == message
    assert value(client, "BODY[]") == message
    assert value(client, "RFC822") == message
    assert value(client, "BODY.PEEK[]<0.10>") == message[:10]
    assert value(client, "BODY.PEEK[]<5.10>") == message[5:15]
    assert value(client, f"BODY.PEEK[]<{size - 1}.10>") == message[-1:]
    assert value(client, f"BODY.PEEK[]<{size + 9}.10>") == b""
    assert value(client, "BODY.PEEK[HEADER]") + value(client, "BODY.PEEK[TEXT]") == message
    assert value(client, "RFC822.HEADER") + value(client, "RFC822.TEXT") == message
    said = client.ask("a FETCH 1 (ENVELOPE BODY BODYSTRUCTURE FLAGS RFC822.SIZE)")
    assert f"RFC822.SIZE {size})".encode() in said
    assert said.isascii()


def test_sections_of_a_simple_message(world: World) -> None:
    client = one(world, corpus.PLAIN)
    assert value(client, "BODY.PEEK[HEADER]") == header(corpus.PLAIN)
    assert value(client, "BODY.PEEK[TEXT]") == body(corpus.PLAIN)
    assert value(client, "BODY.PEEK[1]") == body(corpus.PLAIN)  # RFC 3501 section 6.4.5: part 1 always exists
    assert value(client, "BODY.PEEK[2]") == b"NIL"
    assert value(client, "BODY.PEEK[1.HEADER]") == b"NIL"
    assert value(client, "BODY.PEEK[TEXT]<6.4>") == b"line"
    subject = b"Subject: =?iso-8859-1?Q?Gr=FC=DFe?= and\r\n more\r\n"
    assert value(client, "BODY.PEEK[HEADER.FIELDS (subject)]") == subject + b"\r\n"
    assert (
        value(client, "BODY.PEEK[HEADER.FIELDS (X-Colour Subject)]") == subject + b"X-Colour: green\r\n\r\n"
    )
    assert value(client, "BODY.PEEK[HEADER.FIELDS (X-None)]") == b"\r\n"
    assert value(client, "BODY.PEEK[HEADER.FIELDS (List-Id)]") == b"\r\n"
    rest = value(client, "BODY.PEEK[HEADER.FIELDS.NOT (From To Cc Subject Date Message-ID)]")
    assert rest == b"X-Colour: green\r\n\r\n"
    assert value(client, "BODY.PEEK[HEADER.FIELDS (Subject)]<0.7>") == b"Subject"
    assert value(client, "BODY.PEEK[HEADER.FIELDS (X-Colour)]<2.6>") == b"Colour"


def test_labels(world: World) -> None:
    client = one(world, corpus.ATTACHED)
    said = client.ask(
        "a FETCH 1 (BODY.PEEK[header.fields (From To)] BODY.PEEK[1.2.MIME] BODY.PEEK[1.1]<0.4>)"
    )
    assert b"BODY[HEADER.FIELDS (From To)] {" in said
    assert b"BODY[1.2.MIME] {" in said
    assert b"BODY[1.1]<0> {4}\r\nCaf=" in said


def test_sections_of_a_multipart(world: World) -> None:
    client = one(world, corpus.ATTACHED)
    assert value(client, "BODY.PEEK[1.1]") == b"Caf=C3=A9 in plain"
    assert value(client, "BODY.PEEK[1.2]") == b"PHA+Q2Fmw6kgaW4gSFRNTDwvcD4="
    assert value(client, "BODY.PEEK[1.1.MIME]") == (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    )
    assert value(client, "BODY.PEEK[1]").startswith(b"--inner\r\n")
    assert (
        value(client, "BODY.PEEK[1.MIME]") == b"Content-Type: multipart/alternative; boundary=inner\r\n\r\n"
    )
    assert value(client, "BODY.PEEK[2]") == b"iVBORw0KGgo="
    assert value(client, "BODY.PEEK[2]<4.4>") == b"Rw0K"
    assert value(client, "BODY.PEEK[3]") == b"NIL"
    assert value(client, "BODY.PEEK[1.3]") == b"NIL"
    assert value(client, "BODY.PEEK[1.1.1]") == b"NIL"
    assert value(client, "BODY.PEEK[2.TEXT]") == b"NIL"


def test_sections_of_a_forwarded_message(world: World) -> None:
    client = one(world, corpus.FORWARDED)
    inner = corpus.FORWARDED[corpus.FORWARDED.index(b"From: dave") : corpus.FORWARDED.index(b"\r\n--f--")]
    assert value(client, "BODY.PEEK[1]") == b"See below."
    assert value(client, "BODY.PEEK[2]") == inner
    assert value(client, "BODY.PEEK[2.HEADER]") == header(inner)
    assert value(client, "BODY.PEEK[2.TEXT]") == body(inner)
    assert value(client, "BODY.PEEK[2.HEADER.FIELDS (Subject)]") == b"Subject: inner subject\r\n\r\n"
    assert value(client, "BODY.PEEK[2.1]") == b"inner text"
    assert value(client, "BODY.PEEK[2.2]") == b"a note"
    assert value(client, "BODY.PEEK[2.2.MIME]") == b"Content-Type: text/x-note\r\n\r\n"
    assert value(client, "BODY.PEEK[2.MIME]") == b"Content-Type: message/rfc822\r\n\r\n"
    assert value(client, "BODY.PEEK[2.3]") == b"NIL"


def test_a_text_that_is_read_is_seen(world: World, talk: Talk) -> None:
    world.append(corpus.NO_BODY)
    client = world.connect().select()
    talk(
        client,
        r"""
        C: a FETCH 1 (BODY.PEEK[TEXT] RFC822.HEADER)
        S: * 1 FETCH (BODY[TEXT] {0}
        S:  RFC822.HEADER {24}
        S: Subject: header only
        S:
        S: )
        S: a OK FETCH completed
        C: b FETCH 1 BODY[TEXT]
        S: * 1 FETCH (FLAGS (\Seen \Recent) BODY[TEXT] {0}
        S: )
        S: b OK FETCH completed
        C: c FETCH 1 BODY[TEXT]
        S: * 1 FETCH (BODY[TEXT] {0}
        S: )
        S: c OK FETCH completed
        C: d STORE 1 FLAGS.SILENT ()
        S: d OK STORE completed
        C: e UID FETCH 1 (RFC822.TEXT FLAGS)
        S: * 1 FETCH (...FLAGS (\Seen \Recent)... RFC822.TEXT {0}
        S: )
        S: e OK UID FETCH completed
        """.replace("S:  RFC", "S:  RFC"),
    )


def test_examine_sets_no_flags(world: World) -> None:
    world.append(corpus.PLAIN)
    client = world.connect().login()
    client.ask("a EXAMINE INBOX")
    assert b"Seen" not in client.ask("b FETCH 1 BODY[]")
    assert b"FLAGS (\\Recent)" in client.ask("c FETCH 1 FLAGS")


def test_many_messages_go_in_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice is one trip to the index, and nothing is lost between."""
    monkeypatch.setattr(fetch, "FACTS_SLICE", 10)
    monkeypatch.setattr(fetch, "TEXT_SLICE", 7)
    monkeypatch.setattr(fetch, "MEMORY_SLICE", 9)
    texts = [b"Subject: number %d\r\n\r\nbody %d\r\n" % (n, n) for n in range(1, 36)]
    world.deliver(*texts)
    client = world.connect().select()
    said = client.ask("a FETCH 1:* (UID FLAGS)")
    assert re.findall(rb"\* (\d+) FETCH \(UID (\d+) ", said) == [(b"%d" % n, b"%d" % n) for n in range(1, 36)]
    world.work.trips.clear()
    said = client.ask("b FETCH 1:* (ENVELOPE)")
    assert re.findall(rb'"number (\d+)"', said) == [b"%d" % n for n in range(1, 36)]
    assert world.work.trips.count("read") == 4
    said = client.ask("c FETCH 1:* (BODY.PEEK[])")
    assert [text in said for text in texts] == [True] * 35
    assert said.count(b"FETCH (BODY[] {") == 35


def test_a_big_message_is_streamed(world: World) -> None:
    big = b"Subject: big\r\n\r\n" + b"".join(b"%072d\r\n" % n for n in range(20_000))
    client = one(world, big)
    assert value(client, "BODY.PEEK[]") == big
    assert value(client, "BODY.PEEK[TEXT]") == body(big)
    assert value(client, "BODY.PEEK[]<1000.700000>") == big[1000:701000]
    assert value(client, "BODY.PEEK[TEXT]<3.5>") == body(big)[3:8]
    said = client.ask(
        "a FETCH 1 (BODY.PEEK[TEXT] UID BODY.PEEK[HEADER.FIELDS (X)] BODY.PEEK[9] BODY.PEEK[HEADER])"
    )
    assert said.startswith(b"* 1 FETCH (UID 1 BODY[TEXT] {%d}\r\n" % len(body(big)))
    assert said.endswith(
        b"BODY[9] NIL BODY[HEADER] {16}\r\nSubject: big\r\n\r\n)\r\na OK FETCH completed\r\n"
    )


def test_a_slow_reader_is_waited_for(world: World) -> None:
    big = b"Subject: big\r\n\r\n" + b"x" * 2_000_000
    client = one(world, big)
    client.conversation.pauseProducing()
    client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
    first = client.heard()
    assert 0 < len(first) < 700_000
    world.settle()
    assert client.heard() == b""
    rounds = 0
    while not first.endswith(b"a OK FETCH completed\r\n"):
        client.conversation.resumeProducing()
        client.conversation.pauseProducing()
        world.settle()
        first += client.heard()
        rounds += 1
        assert rounds < 50
    assert big in first


def test_others_change_messages_that_are_read_and_not_yet_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flags are those of now; what is expunged meanwhile was there when it was read (RFC 2180 section 4.1)."""
    monkeypatch.setattr(fetch, "BLOCK", 10)
    world.deliver(*(b"text %d\r\n" % n for n in range(1, 7)))
    client, other = world.connect().select(), world.connect().select()
    client.conversation.pauseProducing()
    client.send(b"a FETCH 1:* (FLAGS BODY.PEEK[])\r\n")
    other.ask(rb"b STORE 4 +FLAGS (\Deleted)")
    assert b"* 4 EXPUNGE" in other.ask("c EXPUNGE")
    other.ask(rb"d STORE 5 +FLAGS (\Flagged)")
    said = client.heard()
    while b"a OK" not in said:
        client.conversation.resumeProducing()
        client.conversation.pauseProducing()
        world.settle()
        heard = client.heard()
        assert heard
        said += heard
    found = re.findall(rb"\* (\d) FETCH \(FLAGS \(([^)]*)\) BODY\[\] \{8\}\r\n(text \d)\r\n\)\r\n", said)
    flags = [rb"\Recent", rb"\Recent", rb"\Recent", rb"\Recent", rb"\Recent", rb"\Flagged \Recent"]
    assert found == [(b"%d" % n, each, b"text %d" % n) for n, each in enumerate(flags, 1)]


def test_a_reader_who_vanishes(world: World) -> None:
    client = one(world, b"Subject: big\r\n\r\n" + b"x" * 2_000_000)
    client.conversation.pauseProducing()
    client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
    client.lose()
    other = world.connect().select()
    assert value(other, "BODY.PEEK[]<0.7>") == b"Subject"


def test_headers_for_thunderbird_come_from_the_index(world: World) -> None:
    fields = (
        "From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type "
        "Reply-To List-Unsubscribe Delivered-To List-Id"
    )
    world.append(corpus.ATTACHED)
    client = world.connect().select()
    world.work.trips.clear()
    said = client.ask(f"a UID FETCH 1 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS ({fields})])")
    assert world.work.trips == ["read"]
    wanted = header(corpus.ATTACHED).replace(b"MIME-Version: 1.0\r\n", b"")
    assert b"{%d}\r\n%b)" % (len(wanted), wanted) in said


def test_very_long_fields_are_given_whole(world: World) -> None:
    """The index keeps no field over 8 KiB: the answer must come from the message."""
    long = b"References: " + b"\r\n ".join(b"<%d@example.org>" % n for n in range(1000)) + b"\r\n"
    client = one(world, b"Subject: s\r\n" + long + b"\r\nbody\r\n")
    assert value(client, "BODY.PEEK[HEADER.FIELDS (References)]") == long + b"\r\n"
    assert value(client, "BODY.PEEK[HEADER.FIELDS (Subject)]") == b"Subject: s\r\n\r\n"


def test_modseq_is_there_for_who_asks(world: World) -> None:
    client = one(world, corpus.PLAIN)
    assert re.match(rb"\* 1 FETCH \(MODSEQ \(\d+\)\)\r\n", client.ask("a FETCH 1 (MODSEQ)"))
