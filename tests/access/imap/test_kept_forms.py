"""What clients see is the same whatever mail is kept as: plain, compressed, and octets that no mail should have."""

from __future__ import annotations

import re

import pytest

from tests.access.imap.corpus import ATTACHED, PLAIN
from tests.access.imap.harness import Client, World

BIG = ATTACHED + b"".join(b"line %d after the end\r\n" % number for number in range(40_000))
TEXTS = (PLAIN, ATTACHED, BIG, b"x", b"\r\n", PLAIN + b"a line that many have\r\n" * 400)
ASKED = (
    "FETCH 1:* (RFC822.SIZE ENVELOPE BODYSTRUCTURE PREVIEW)",
    "FETCH 1:* BODY.PEEK[]",
    "FETCH 1:* (BODY.PEEK[1] BODY.PEEK[2] BODY.PEEK[2.MIME] BODY.PEEK[TEXT])",
    "FETCH 1:* (BODY.PEEK[]<100.50> BODY.PEEK[TEXT]<0.300000> BODY.PEEK[]<300000.300000> BODY.PEEK[]<0.20>)",
    "FETCH 1:* (BODY.PEEK[HEADER] BODY.PEEK[HEADER.FIELDS (X-Colour)] BINARY.SIZE[1])",
    "FETCH 2:3 (BINARY.PEEK[2])",
    'SEARCH BODY "after the end"',
    'SEARCH TEXT "that many have"',
    'SEARCH HEADER X-Colour "green"',
    "SORT (SIZE) UTF-8 ALL",
    "COPY 1:* Archive",
    "FETCH 3 RFC822",
)


def answers(client: Client) -> list[bytes]:
    return [re.sub(rb"COPYUID \d+", b"COPYUID", client.ask(f"a {asked}")) for asked in ASKED]


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_mail_reads_as_any(compression: str) -> None:
    worlds = [World(), World(compression=compression)]
    try:
        for world in worlds:
            for text in TEXTS:
                world.append(text, date=1_600_000_000)
        plain, packed = [answers(world.connect().select()) for world in worlds]
        for asked, one, other in zip(ASKED, plain, packed, strict=True):
            assert one == other, asked
            assert b"a OK" in one, one[-100:]
        kept = [sum(path.stat().st_size for path in world.path.glob("mail/**/cur/*")) for world in worlds]
        new = [sum(path.stat().st_size for path in world.path.glob("mail/**/new/*")) for world in worlds]
        assert 3 * (kept[1] + new[1]) < kept[0] + new[0]
    finally:
        for world in worlds:
            world.close()


ODD = {
    "NULs": b"a: b\r\n\r\none\0two\0\0\r\n",
    "bare CR": b"a: b\r\n\r\none\rtwo\r\r\nthree\r",
    "bare LF": b"a: b\n\none\ntwo\r\nthree\n\n",
    "8 bits": b"s: \xe9\xff\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    "no final newline": b"a: b\r\n\r\nthe end",
    "a header alone": b"a: b",
    "one octet": b"\0",
    "a lone CR": b"\r",
    "all octets": bytes(range(256)) * 300,
    "like gzip": b"\x1f\x8b\x08\0" + bytes(2_000),
    "like Zstandard": b"\x28\xb5\x2f\xfd" + bytes(2_000),
}


@pytest.mark.parametrize("compression", ["none", "zlib"])
@pytest.mark.parametrize("literal8", [False, True], ids=["literal", "literal8"])
def test_append_gives_back_every_octet(compression: str, literal8: bool) -> None:
    world = World(compression=compression)
    try:
        client = world.connect().select()
        taken = {name: data for name, data in ODD.items() if not (literal8 and b"\0" in data)}
        for number, data in enumerate(taken.values(), 1):
            tilde = b"~" if literal8 else b""
            said = client.ask(b"a APPEND INBOX %b{%d+}\r\n%b" % (tilde, len(data), data))
            assert b"a OK [APPENDUID" in said, said
            assert b"(RFC822.SIZE %d)" % len(data) in client.ask(f"b FETCH {number} RFC822.SIZE")
            for section in ("BODY[]", "RFC822"):
                assert b"{%d}\r\n%b" % (len(data), data) in client.ask(f"c FETCH {number} {section}")
            for start in (0, 1, len(data) // 2):
                part = data[start : start + 1_000]
                assert b"{%d}\r\n%b)" % (len(part), part) in client.ask(
                    f"d FETCH {number} BODY[]<{start}.1000>"
                )
        world.deliver(*taken.values())
        client.ask("n NOOP")
        for number, data in enumerate(taken.values(), len(taken) + 1):
            assert b"{%d}\r\n%b)" % (len(data), data) in client.ask(f"e UID FETCH {number} BODY.PEEK[]")
    finally:
        world.close()


def test_a_message_without_an_octet() -> None:
    """It can come by LMTP or be dropped into new/; APPEND refuses it (RFC 3501 section 6.3.11)."""
    world = World(compression="zlib")
    try:
        world.deliver(b"")
        client = world.connect().select()
        said = client.ask("a FETCH 1 (RFC822.SIZE BODY[] BODY[TEXT] BODYSTRUCTURE)")
        assert b'RFC822.SIZE 0 BODYSTRUCTURE ("text" "plain"' in said
        assert said.count(b" {0}\r\n") == 2
        assert b"a OK" in said
    finally:
        world.close()
