"""What nobody should send: each with the reply it gets, whole and byte by byte, and the next command works."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import globalLogPublisher

from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import RelayConfig
from tests.net.fakes import Box, Connection, Here, Town, reception

HELLO = b"EHLO client.example\r\n"
MAIL = HELLO + b"MAIL FROM:<a@b.example>\r\n"
RCPT = MAIL + b"RCPT TO:<bob@example.org>\r\n"
UTF8 = HELLO + b"MAIL FROM:<a@b.example> SMTPUTF8\r\n"


class Port25:
    """A relay with its surroundings."""

    def __init__(self, folder: Path) -> None:
        self.box = Box()
        self.made, self.clock = reception(Here(), folder)
        self.service = Relay(
            RelayConfig(max_errors=100_000, max_message_octets=1_000_000, max_recipients=100),
            hostname="mx.example.org",
            directory=Town(),
            accepts=self.box,
            reception=self.made,
            tls=True,
        )

    def hear(self, before: bytes, data: bytes, step: int, **options: Any) -> list[str]:
        """The replies to `data`, which follows `before`."""
        connection = Connection(self.service, self.clock, **options)
        connection.send(before)
        said = ""
        for i in range(0, len(data), step or len(data)):
            said += connection.send(data[i : i + (step or len(data))])
        return said.split("\r\n")[:-1]


@pytest.fixture
def port(tmp_path: Path) -> Port25:
    return Port25(tmp_path)


def check(port: Port25, before: bytes, data: bytes, replies: list[str]) -> None:
    """`data`, then NOOP: these replies, then NOOP's; at once and in single octets."""
    for step in (0, 1):
        heard = port.hear(before, data + b"NOOP\r\n", step)
        assert len(heard) == len(replies) + 1, heard
        for got, wanted in zip(heard, [*replies, "250 2.0.0 Ok"], strict=True):
            assert got.startswith(wanted), heard


RELAYING = "550 5.7.1"
UNKNOWN = "550 5.1.1"
BAD = "501 5.1.3"

RECIPIENTS = [
    ("x@elsewhere.example", RELAYING), ("X@ELSEWHERE.EXAMPLE", RELAYING),
    ("bob@example.org.elsewhere.example", RELAYING), ("bob@notexample.org", RELAYING),
    ("bob@sub.example.org", RELAYING), ("bob@org", RELAYING), ("bob@localhost", RELAYING),
    ("bob@[127.0.0.1]", RELAYING), ("bob@[192.0.2.25]", RELAYING), ("bob@[IPv6:::1]", RELAYING),
    ("bob@[IPv6:2001:db8::25]", RELAYING), ("bob@mx.example.org", RELAYING),
    # The percent hack, bangs and routes: local-parts like others, or elsewhere.
    ("x%elsewhere.example@example.org", UNKNOWN), ("x%elsewhere.example", BAD),
    ("x%elsewhere.example@[127.0.0.1]", RELAYING), ("x%elsewhere.example@localhost", RELAYING),
    ("x%a.example%b.example@example.org", UNKNOWN), ("bob%example.org@elsewhere.example", RELAYING),
    ("elsewhere.example!x", BAD), ("elsewhere.example!x@example.org", UNKNOWN), ("a!b!c!x@example.org", UNKNOWN),
    ("elsewhere.example!x@elsewhere.example", RELAYING), ("@example.org:x@elsewhere.example", RELAYING),
    ("@example.org,@a.example:x@elsewhere.example", RELAYING), ("@elsewhere.example:nobody@example.org", UNKNOWN),
    ("@[127.0.0.1]:x@elsewhere.example", RELAYING), ("@example.org:x%elsewhere.example@example.org", UNKNOWN),
    # An @ too many, quoted or not.
    ('"x@elsewhere.example"@example.org', UNKNOWN), ('"x@elsewhere.example"', BAD),
    ('"x%elsewhere.example"@example.org', UNKNOWN), ("x@elsewhere.example@example.org", BAD),
    ("x@example.org@elsewhere.example", BAD), ("bob@example.org@", BAD), ("@@example.org", BAD),
    ('"bob@example.org"@elsewhere.example', RELAYING), (r'"x\@elsewhere.example"@example.org', UNKNOWN),
    ("bob@@example.org", BAD), ("x@elsewhere.example%example.org", BAD), ("x@example.org:elsewhere.example", BAD),
    # Odd dots and domains.
    ("bob@example.org.", BAD), ("bob@example.org..", BAD), ("bob@.example.org", BAD), ("bob@example..org", BAD),
    ("bob.@example.org", BAD), (".bob@example.org", BAD), ("b..ob@example.org", BAD), ("bob@", BAD), ("@example.org", BAD),
    ("bob", BAD), ("bob@-example.org", BAD), ("bob@example-.org", BAD), ("bob@exa_mple.org", BAD), ("bob@exa mple.org", BAD),
    ("bob@example.org ", BAD), (" bob@example.org", BAD), ("bob @example.org", BAD), ("bob@ example.org", BAD),
    ("bob@example.org\t", BAD), ("bob@[example.org]", BAD), ("bob@[300.1.1.1]", BAD), ("bob@[127.0.0.1", BAD),
    ("bob@127.0.0.1]", BAD), ("bob@[]", BAD), ("bob@[IPv6:zz::1]", BAD), ("bob@[IPv6:::1%lo]", RELAYING),
    ("bob@127.0.0.1", RELAYING), ("bob@2130706433", RELAYING), ("bob@0x7f.1", RELAYING), ("bob@0x7f000001", RELAYING),
    ("bob@example.org,x@elsewhere.example", BAD), ("bob@example.org;x@elsewhere.example", BAD),
    ("bob(comment)@example.org", BAD), ("(comment)bob@example.org", BAD), ("bob@example.org(comment)", BAD),
    # What a program behind a mail server could take for a file or a command.
    ("|/bin/sh", BAD), ("|/bin/sh@example.org", UNKNOWN), ('"|/bin/sh"@example.org', UNKNOWN), ("/etc/passwd", BAD),
    ("/etc/passwd@example.org", UNKNOWN), ('"/var/mail/bob"@example.org', UNKNOWN), (":include:/etc/passwd", BAD),
    ('":include:/etc/passwd"@example.org', UNKNOWN), ("../bob@example.org", BAD), ("`id`@example.org", UNKNOWN),
    ("$(id)@example.org", BAD), ("${run{/bin/id}}@example.org", UNKNOWN), ("-oQ/tmp@example.org", UNKNOWN),
    ('"bob\' OR 1=1"@example.org', UNKNOWN), ("bob'--@example.org", UNKNOWN), ("*@example.org", UNKNOWN),
    ("root+:0+0@example.org", BAD), ("jndi:ldap@example.org", BAD), ("bob;id@example.org", BAD),
    # Escapes that somebody may decode.
    ("bob%00@example.org", UNKNOWN), ("bob@example.org%00.elsewhere.example", BAD), ("x%40elsewhere.example@example.org", UNKNOWN),
    ("x=40elsewhere.example@example.org", UNKNOWN), ("bob&#64;example.org", BAD), ("=?utf-8?q?bob?=@example.org", UNKNOWN),
    (r'"bob\"@example.org', "501"), ('"bob@example.org', "501"), ('bob"@example.org', "501"), ('""@example.org', UNKNOWN),
    ('"bob"x@example.org', BAD), ('b"o"b@example.org', BAD), ("b\\ob@example.org", BAD),
    # Lengths.
    ("a" * 65 + "@example.org", BAD), ("a" * 64 + "@example.org", UNKNOWN), ("bob@" + "a" * 64 + ".example", BAD),
    ("bob@" + ".".join(["a" * 60] * 5), BAD), ("bob@" + "a." * 130 + "example", BAD), ("x" * 900 + "@example.org", BAD),
    ("xn--bb-eka@elsewhere.example", RELAYING), ("bob@xn--exmple-cua.org", RELAYING),
]  # fmt: skip


@pytest.mark.parametrize(("path", "reply"), RECIPIENTS)
def test_a_recipient_that_is_not_ours(port: Port25, path: str, reply: str) -> None:
    check(port, MAIL, f"RCPT TO:<{path}>\r\n".encode(), [reply])
    assert port.box.taken == []


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("bob@exаmple.org", RELAYING),  # a Cyrillic letter
        ("bob@example.org\u3002elsewhere.example", RELAYING),  # an ideographic full stop
        ("bob\uff20elsewhere.example@example.org", UNKNOWN),  # a full-width at sign
        ("bob@example\uff0eorg", RELAYING),  # a full-width full stop
        ("bob@\u24d4xample.org", RELAYING),  # a circled letter
        ("x@elsewhere.example\u2100", RELAYING),
        ("bób@example.org", UNKNOWN),
        ("bob\u200b@example.org", UNKNOWN),
        ("\u202egro.elpmaxe@bob", RELAYING),
    ],
)
def test_unicode_that_looks_like_us(port: Port25, path: str, reply: str) -> None:
    check(port, UTF8, f"RCPT TO:<{path}>\r\n".encode(), [reply])
    check(port, MAIL, f"RCPT TO:<{path}>\r\n".encode(), ["553 5.6.7"])


COMMANDS: list[tuple[bytes, bytes, list[str]]] = [
    # Order.
    (b"", b"MAIL FROM:<a@b.example>\r\n", ["503 5.5.1"]), (b"", b"RCPT TO:<bob@example.org>\r\n", ["503 5.5.1"]),
    (b"", b"DATA\r\n", ["503 5.5.1"]), (b"", b"STARTTLS\r\n", ["503 5.5.1"]), (b"", b"AUTH PLAIN\r\n", ["503 5.5.1"]),
    (HELLO, b"RCPT TO:<bob@example.org>\r\n", ["503 5.5.1"]), (HELLO, b"DATA\r\n", ["503 5.5.1"]),
    (MAIL, b"MAIL FROM:<c@d.example>\r\n", ["503 5.5.1"]), (RCPT, b"MAIL FROM:<c@d.example>\r\n", ["503 5.5.1"]),
    (MAIL, b"DATA\r\n", ["554 5.5.1"]), (MAIL, b"STARTTLS\r\n", ["503 5.5.1"]), (RCPT, b"STARTTLS\r\n", ["503 5.5.1"]),
    (HELLO, b"AUTH PLAIN AGEAYg==\r\n", ["502 5.5.1"]), (HELLO, b"AUTH LOGIN\r\n", ["502 5.5.1"]),
    (HELLO, b"LHLO x\r\n", ["500 5.5.1"]), (HELLO, b"XCLIENT ADDR=127.0.0.1\r\n", ["500 5.5.1"]),
    (HELLO, b"XFORWARD NAME=x\r\n", ["500 5.5.1"]), (HELLO, b"SEND FROM:<a@b.example>\r\n", ["500 5.5.1"]),
    (HELLO, b"SOML FROM:<a@b.example>\r\n", ["500 5.5.1"]), (HELLO, b"SAML FROM:<a@b.example>\r\n", ["500 5.5.1"]),
    (HELLO, b"TURN\r\n", ["500 5.5.1"]), (HELLO, b"ETRN example.org\r\n", ["500 5.5.1"]), (HELLO, b"ATRN\r\n", ["500 5.5.1"]),
    (HELLO, b"DEBUG\r\n", ["500 5.5.1"]), (HELLO, b"WIZ\r\n", ["500 5.5.1"]), (HELLO, b"VERB\r\n", ["500 5.5.1"]),
    (HELLO, b"VRFY bob\r\n", ["252 2.0.0"]), (HELLO, b"VRFY\r\n", ["252 2.0.0"]), (HELLO, b"EXPN staff\r\n", ["502 5.5.1"]),
    (HELLO, b"HELP\r\n", ["214 2.0.0"]), (HELLO, b"HELP MAIL\r\n", ["214 2.0.0"]), (HELLO, b"NOOP x\r\n", ["250 2.0.0"]),
    (HELLO, b"RSET x\r\n", ["501 5.5.4"]), (RCPT, b"DATA x\r\n", ["501 5.5.4"]), (HELLO, b"STARTTLS x\r\n", ["501 5.5.4"]),
    # No command at all.
    (HELLO, b"\r\n", ["500 5.5.1"]), (HELLO, b" \r\n", ["500 5.5.1"]), (HELLO, b" NOOP\r\n", ["500 5.5.1"]),
    (HELLO, b"\tNOOP\r\n", ["500 5.5.1"]), (HELLO, b"NOOP\tx\r\n", ["500 5.5.1"]), (HELLO, b"NOOP\0\r\n", ["500 5.5.2"]),
    (HELLO, b"\0\r\n", ["500 5.5.2"]), (HELLO, b"\xff\xfe\r\n", ["500 5.5.2"]), (HELLO, b"\x80EHLO\r\n", ["500 5.5.2"]),
    (HELLO, b"GET / HTTP/1.1\r\n", ["500 5.5.1"]), (HELLO, b"POST / HTTP/1.0\r\n", ["500 5.5.1"]),
    (HELLO, b"Host: example.org\r\n", ["500 5.5.1"]), (HELLO, b"\x16\x03\x01\x02\r\n", ["500 5.5.1"]),
    (HELLO, b"MAIL\r\n", ["501 5.5.4"]), (HELLO, b"MAIL FROM\r\n", ["501 5.5.4"]), (HELLO, b"MAIL FROM:\r\n", ["501 5.5.4"]),
    (HELLO, b"MAILFROM:<a@b.example>\r\n", ["500 5.5.1"]), (HELLO, b"MAIL FROM:a@b.example\r\n", ["501 5.5.4"]),
    (HELLO, b"MAIL TO:<a@b.example>\r\n", ["501 5.5.4"]), (HELLO, b"MAIL FROM:<a@b.example\r\n", ["501 5.5.4"]),
    (HELLO, b"MAIL FROM:<<a@b.example>>\r\n", ["501 5."]), (HELLO, b"MAIL FROM:<a@b.example>x\r\n", ["501 5.5.4"]),
    (HELLO, b"MAIL FROM:<a@b.example><c@d.example>\r\n", ["501 5.5.4"]), (HELLO, b"MAIL FROM:<a>\r\n", ["501 5.1.7"]),
    (HELLO, b"MAIL FROM:<postmaster>\r\n", ["501 5.1.7"]), (HELLO, b"MAIL FROM:<@>\r\n", ["501 5.1.7"]),
    (HELLO, b"MAIL FROM:< >\r\n", ["501 5.1.7"]), (HELLO, "MAIL FROM:<ä@b.example>\r\n".encode(), ["553 5.6.7"]),
    (HELLO, b"MAIL FROM:<a@b.example\r>\r\n", ["500 5.5.2"]), (HELLO, b"MAIL FROM:<a\n@b.example>\r\n", ["500 5.5.2"]),
    (HELLO, b"MAIL FROM:<a\0@b.example>\r\n", ["500 5.5.2"]), (HELLO, b"MAIL FROM:<a\x01@b.example>\r\n", ["501 5.1.7"]),
    (MAIL, b"RCPT TO:<>\r\n", ["501 5.5.4"]), (MAIL, b"RCPT\r\n", ["501 5.5.4"]), (MAIL, b"RCPT FROM:<a@b.example>\r\n", ["501 5.5.4"]),
    (MAIL, b"RCPT TO:bob@example.org\r\n", ["501 5.5.4"]), (MAIL, b"RCPT TO:<bob@example.org>,<x@y.example>\r\n", ["501 5.5.4"]),
    (MAIL, b"RCPT TO:<bob@example.org\0>\r\n", ["500 5.5.2"]), (MAIL, b"RCPT TO:<bob@example.org\0.elsewhere.example>\r\n", ["500 5.5.2"]),
    (b"", b"EHLO\r\n", ["501 5.5.4"]), (b"", b"HELO\r\n", ["501 5.5.4"]), (b"", b"EHLO a b\r\n", ["501 5.5.4"]),
    (b"", b"EHLO <x>\r\n", ["501 5.5.4"]), (b"", b"EHLO x;y\r\n", ["501 5.5.4"]), (b"", "EHLO ü\r\n".encode(), ["501 5.5.4"]),
    (b"", b"EHLO x\ry\r\n", ["500 5.5.2"]), (b"", b"EHLO " + b"x" * 300 + b"\r\n", ["501 5.5.4"]),
    (b"", b'EHLO "x"\r\n', ["501 5.5.4"]), (b"", b"EHLO (x)\r\n", ["501 5.5.4"]), (b"", b"EHLO x\\y\r\n", ["501 5.5.4"]),
    # Bare line ends do not end a command.
    (HELLO, b"NOOP\nMAIL FROM:<a@b.example>\r\n", ["500 5.5.2"]), (HELLO, b"NOOP\rMAIL FROM:<a@b.example>\r\n", ["500 5.5.2"]),
    (HELLO, b"NOOP\n\r\n", ["500 5.5.2"]), (HELLO, b"NOOP\r\r\n", ["500 5.5.2"]), (HELLO, b"RSET\n.\n\r\n", ["500 5.5.2"]),
    # Lines without end.
    (HELLO, b"NOOP " + b"x" * 1200 + b"\r\n", ["500 5.5.6"]), (HELLO, b"x" * 5000 + b"\r\n", ["500 5.5.6"]),
    (MAIL, b"RCPT TO:<" + b"x" * 3000 + b"@example.org>\r\n", ["500 5.5.6"]),
]  # fmt: skip

PARAMETERS: list[tuple[bytes, bytes, str]] = [
    *((b"MAIL FROM:<a@b.example>", words, reply) for words, reply in [
        (b"SIZE", "501"), (b"SIZE=", "501"), (b"SIZE=-1", "501"), (b"SIZE=x", "501"), (b"SIZE=1.5", "501"), (b"SIZE=1e3", "501"),
        (b"SIZE=99999999999999999999", "552 5.3.4"), (b"SIZE=999999999999999999999", "501"), (b"SIZE=1000001", "552 5.3.4"),
        (b"SIZE=1 SIZE=1", "501"), (b"SIZE=1 size=2", "501"), (b"=1", "501"), (b"SIZE==1", "501"), (b"X-Y=1", "555 5.5.4"),
        (b"FOO", "555 5.5.4"), (b"BODY", "501"), (b"BODY=", "501"), (b"BODY=9BIT", "501"), (b"BODY=8BITMIME BODY=7BIT", "501"),
        (b"SMTPUTF8=1", "501"), (b"SMTPUTF8 SMTPUTF8", "501"), (b"RET=BOTH", "501"), (b"RET", "501"), (b"RET=FULL RET=HDRS", "501"),
        (b"ENVID", "501"), (b"ENVID=+", "501"), (b"ENVID=+0", "501"), (b"ENVID=+0A", "501"), (b"ENVID=+0D+0AX", "501"),
        (b"ENVID=" + b"x" * 101, "501"), (b"ENVID=a ENVID=b", "501"), (b"AUTH=<>", "555 5.5.4"), (b"AUTH=a", "555 5.5.4"),
        (b"NOTIFY=NEVER", "555 5.5.4"), (b"ORCPT=rfc822;x", "555 5.5.4"),
        (b"REQUIRETLS", "555 5.5.4"), (b"MT-PRIORITY=3", "555 5.5.4"), (b"HOLDFOR=10", "555 5.5.4"),
        (b"HOLDUNTIL=2030-01-01T00:00:00Z", "555 5.5.4"), (b"BY=0;R", "501"), (b"BY=-1;R", "501"), (b"BY=1", "501"), (b"BY=;R", "501"),
        (b"BY=1;X", "501"), (b"BY=1;RX", "501"), (b"BY=1111111111;N", "501"), (b"BY=1;R BY=1;R", "501"), (b"BY", "501"),
        (b"\xc3\xa4=1", "501"), (b"A" * 300, "555 5.5.4"), (b" ".join(b"X%d=1" % n for n in range(25)), "501"),
    ]),
    *((b"RCPT TO:<bob@example.org>", words, reply) for words, reply in [
        (b"NOTIFY", "501"), (b"NOTIFY=", "501"), (b"NOTIFY=ALWAYS", "501"), (b"NOTIFY=NEVER,SUCCESS", "501"),
        (b"NOTIFY=SUCCESS,SUCCESS", "501"), (b"NOTIFY=SUCCESS,", "501"), (b"NOTIFY=NEVER NOTIFY=NEVER", "501"),
        (b"ORCPT", "501"), (b"ORCPT=", "501"), (b"ORCPT=rfc822", "501"), (b"ORCPT=;x", "501"), (b"ORCPT=rfc822;+0A", "501"),
        (b"ORCPT=rfc822;" + b"x" * 600, "501"), (b"ORCPT=rfc822;+zz", "501"), (b"ORCPT=r c;x", "501"), (b"SIZE=1", "555 5.5.4"),
        (b"BODY=8BITMIME", "555 5.5.4"), (b"FOO=1", "555 5.5.4"), (b"RRVS=2014-04-03T23:01:00Z", "555 5.5.4"),
        (b"ORCPT=rfc822;a ORCPT=rfc822;b", "501"), (b"=", "501"),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "data", "replies"), COMMANDS)
def test_commands(port: Port25, before: bytes, data: bytes, replies: list[str]) -> None:
    check(port, before, data, replies)
    assert port.box.taken == []


@pytest.mark.parametrize(("command", "words", "reply"), PARAMETERS)
def test_parameters(port: Port25, command: bytes, words: bytes, reply: str) -> None:
    before = MAIL if command.startswith(b"RCPT") else HELLO
    check(port, before, command + b" " + words + b"\r\n", [reply])


CHUNKS: list[tuple[bytes, bytes, list[str]]] = [
    (RCPT, b"BDAT 0\r\n", ["250 2.0.0 0 octets"]), (RCPT, b"BDAT 0 LAST\r\n", ["250 2.0.0 Ok: queued"]),
    (RCPT, b"BDAT 2\r\nhiBDAT 0 LAST\r\n", ["250", "250 2.0.0 Ok: queued"]),
    (RCPT, b"BDAT 5\r\nhelloRSET\r\n", ["250", "250 2.0.0"]), (RCPT, b"BDAT 5\r\nhelloDATA\r\n", ["250", "503 5.5.1"]),
    (RCPT, b"BDAT 5\r\nhelloMAIL FROM:<>\r\n", ["250", "503 5.5.1"]), (RCPT, b"BDAT 5\r\nhelloRCPT TO:<bob@example.org>\r\n", ["250", "503"]),
    (RCPT, b"BDAT 5\r\nhelloQUIX\r\n", ["250", "500 5.5.1"]), (MAIL, b"BDAT 5\r\nhello", ["554 5.5.1"]),
    (MAIL, b"BDAT 5 LAST\r\nRSET\n", ["554 5.5.1"]), (HELLO, b"BDAT 5 LAST\r\nhello", ["503 5.5.1"]),
    (RCPT, b"BDAT 2000000\r\n" + b"x" * 2_000_000, ["552 5.3.4"]),
    (RCPT, b"BDAT 600002\r\n\r\n" + b"x" * 600_000 + b"BDAT 600000 LAST\r\n" + b"x" * 600_000, ["250", "552 5.3.4"]),
    (RCPT, b"BDAT 3 LAST\r\na\nb", ["550 5.6.11"]), (RCPT, b"BDAT 3 LAST\r\na\rb", ["550 5.6.11"]),
    (RCPT, b"BDAT 2\r\na\rBDAT 1 LAST\r\nb", ["250", "550 5.6.11"]), (RCPT, b"BDAT 2 LAST\r\na\r", ["550 5.6.11"]),
    (RCPT, b"BDAT 2\r\na\rBDAT 2 LAST\r\n\nb", ["250", "250 2.0.0 Ok"]), (RCPT, b"BDAT 3 LAST\r\na\0b", ["550 5.6.0"]),
    (RCPT, b"BDAT 7 LAST\r\n\r\n.\r\nx\n", ["550 5.6.11"]), (RCPT, b"BDAT 5 LAST\r\n\r\n.\r\n", ["250 2.0.0 Ok"]),
    (RCPT, b"bdat 2 last\r\nhi", ["250 2.0.0 Ok"]), (RCPT, b"BDAT 2  LAST \r\nhi", ["250 2.0.0 Ok"]),
    (RCPT, b"BDAT 3\r\na\nbBDAT 2 LAST\r\nxy", ["550 5.6.11", "503 5.5.1"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "data", "replies"), CHUNKS)
def test_chunks(port: Port25, before: bytes, data: bytes, replies: list[str]) -> None:
    if len(data) > 100_000:
        heard = port.hear(before, data + b"NOOP\r\n", 65_536)
        assert [line[:3] for line in heard] == [*(one[:3] for one in replies), "250"]
        return
    check(port, before, data, replies)


@pytest.mark.parametrize(
    "size",
    [
        b"",
        b"-1",
        b"x",
        b"1x",
        b"0x10",
        b"1 2",
        b"1 LAST LAST",
        b"1,LAST",
        b"9" * 19,
        b"+1",
        b"1.0",
        b"LAST",
        b"-0",
    ],
)
def test_a_chunk_of_no_size_ends_the_connection(port: Port25, size: bytes) -> None:
    """Nobody knows where commands begin again."""
    heard = port.hear(RCPT, b"BDAT " + size + b"\r\nMAIL FROM:<evil@b.example>\r\nNOOP\r\n", 0)
    assert len(heard) == 1
    assert heard[0].startswith("501 5.5.4")


MARKS = [
    first + b"." + last
    for first in (b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\n\r", b"\0\r\n", b"\r\n\0", b"\r\0\n", b"\x85", b"\x0b", b"\xe2\x80\xa8")
    for last in (b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\0\r\n", b"\r\0\n", b" \r\n", b"\x85", b"\x0c\r\n", b"\r\n\0")
    if not (first in (b"\r\n", b"\0\r\n") and last in (b"\r\n", b"\r\n\0"))
]  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
def test_only_one_spelling_ends_a_message(port: Port25, mark: bytes) -> None:
    """Refused, or one message with the smuggled words inside; what goes on holds no bare CR, LF or null octet."""
    smuggled = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nhaha"
    for step in (0, 1, 2, 3):
        port.box.taken.clear()
        heard = port.hear(RCPT, b"DATA\r\nS: x\r\n\r\nbegin" + mark + smuggled + b"\r\n.\r\nNOOP\r\n", step)
        assert len(heard) == 3, heard
        assert heard[2] == "250 2.0.0 Ok"
        if heard[1].startswith("250"):
            [(envelope, data)] = port.box.taken
            assert [str(one.address) for one in envelope.recipients] == ["bob@example.org"]
            assert b"haha" in data
            assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n")
            assert b"\0" not in data
        else:
            assert heard[1].startswith(("550 5.6.11", "550 5.6.0")), heard
            assert port.box.taken == []


def test_a_line_of_ten_megabytes_costs_nothing(port: Port25) -> None:
    connection = Connection(port.service, port.clock)
    for _ in range(160):
        assert connection.send(b"x" * 65_536) in ("",)
    assert connection.send(b"\r\nNOOP\r\n").split("\r\n")[0].startswith("500 5.5.6")
    assert len(connection.conversation._session._buffer) < 100  # type: ignore[attr-defined]


@pytest.mark.parametrize("line_ends", [False, True])
def test_ten_megabytes_of_content_in_one_line(port: Port25, tmp_path: Path, line_ends: bool) -> None:
    """Too big, and so said at the end; the disk holds none of it then, and the next message is taken."""
    connection = Connection(port.service, port.clock)
    connection.send(RCPT + b"DATA\r\nS: x\r\n\r\n")
    piece = b"x" * 65_534 + (b"\r\n" if line_ends else b"xx")
    for _ in range(160):
        assert connection.send(piece) == ""
    assert connection.send(b"\r\n.\r\nNOOP\r\n").split("\r\n")[:2] == [
        "552 5.3.4 Message is too big",
        "250 2.0.0 Ok",
    ]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    said = connection.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nS: x\r\n.\r\n")
    assert said.split("\r\n")[3].startswith("250 2.0.0 Ok: queued")


def test_a_chunk_without_end_costs_nothing(port: Port25, tmp_path: Path) -> None:
    """BDAT of a quintillion octets: refused before a byte of it is kept, and swallowed as it comes."""
    connection = Connection(port.service, port.clock)
    connection.send(RCPT + b"BDAT 999999999999999999\r\n")
    for _ in range(160):
        assert connection.send(b"x" * 65_536) == ""
    assert len(connection.conversation._session._buffer) < 100  # type: ignore[attr-defined]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


MANY = int(os.environ.get("MAILSTACK_RCPTS", "50000"))  # 1000000 takes twenty seconds


def test_many_recipients_are_bounded(port: Port25) -> None:
    """All are answered; the envelope, the log and memory grow no more once it is full."""
    logged: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("what") == "recipient":
            logged.append(event["recipient"])

    globalLogPublisher.addObserver(observe)
    try:
        connection = Connection(port.service, port.clock)
        connection.send(MAIL)
        for start in range(0, MANY, 500):
            said = connection.send(
                b"".join(b"RCPT TO:<alice+%d@example.org>\r\n" % (start + n) for n in range(500))
            )
            wanted = "250 2.1.5 Ok\r\n" * 100 * (start == 0)
            assert said.startswith(wanted)
            assert said.count("\r\n452 4.5.3 ") + said.startswith("452 4.5.3") == (400 if start == 0 else 500)
        assert connection.say("NOOP") == "250 2.0.0 Ok\r\n"
        assert len(connection.conversation._role._transaction.recipients) == 100  # type: ignore[attr-defined]
        assert logged == ["alice+100@example.org"]
        assert connection.say("DATA").startswith("354")
        assert connection.say("S: x", "", ".").startswith("250 2.0.0")
    finally:
        globalLogPublisher.removeObserver(observe)


@pytest.mark.parametrize(
    "data",
    [b"", b"EHLO x\r\n", HELLO + b"NOO", HELLO + b"STARTTLS\r\n", MAIL, RCPT, RCPT + b"DATA\r\n", RCPT + b"DATA\r\nS: x\r\n.",
     RCPT + b"DATA\r\nS: x\r\n.\r", RCPT + b"BDAT 5\r\nab", RCPT + b"BDAT 2\r\nab", RCPT + b"BDAT 2\r\nabBDAT 1 LAST\r\n"],
)  # fmt: skip
def test_half_closed_at_each_phase(port: Port25, tmp_path: Path, data: bytes) -> None:
    connection = Connection(port.service, port.clock)
    connection.send(data)
    connection.conversation.readConnectionLost()
    assert connection.transport.disconnecting
    connection.vanish()
    assert port.box.taken == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_byte_a_second_ends_with_the_message(port: Port25) -> None:
    """A slow client is served as long as it says something."""
    connection = Connection(port.service, port.clock)
    said = ""
    for octet in RCPT + b"DATA\r\nS: x\r\n\r\n.\r\n":
        port.clock.advance(1)
        said += connection.send(bytes([octet]))
    assert said.endswith("\r\n")
    assert "250 2.0.0 Ok: queued as" in said


def test_silence_is_cut(port: Port25) -> None:
    connection = Connection(port.service, port.clock)
    connection.send(HELLO + b"MAIL FR")
    port.clock.advance(299)
    assert connection.heard() == ""
    port.clock.advance(2)
    assert connection.heard().startswith("421 4.4.2")
