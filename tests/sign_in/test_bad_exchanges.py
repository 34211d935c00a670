"""Exchanges that go wrong: cancelled at every step, not in base64, cut off; then the next command works.

In SMTP, IMAP and POP3 alike, whole and one octet at a time.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate
from twisted.internet.task import Clock

from mailstack.net.conversation import Conversation
from mailstack.wire.sasl import MECHANISMS
from tests.sign_in.people import LOGIN, PASSWORD, b64
from tests.sign_in.test_transcripts import Transport, certificate, welcomes
from tests.wire.sasl.scram_client import ScramClient

__all__ = ["certificate"]  # a fixture

PROTOCOLS = ("smtp", "imap", "pop3")
NONCE = "3rfcNHYJY1ZVvWVs7j"
Say = Callable[[bytes], str]

BEGIN = {"smtp": "AUTH {}", "imap": "a AUTHENTICATE {}", "pop3": "AUTH {}"}
CONTINUES = {"smtp": "334 ", "imap": "+ ", "pop3": "+ "}
CANCELLED = {"smtp": "501 5.7.0", "imap": "a BAD", "pop3": "-ERR"}
MALFORMED = {"smtp": "501 5.5.2", "imap": "a BAD", "pop3": "-ERR"}
REFUSED = {"imap": "a NO [AUTHENTICATIONFAILED]", "pop3": "-ERR [AUTH]"}
TOO_LONG = {"smtp": "500 5.5.6", "imap": "a BAD", "pop3": "-ERR"}
UNKNOWN = {"smtp": "504 5.5.4", "imap": "a NO [CANNOT]", "pop3": "-ERR"}
NEXT = {  # a command, and how its answer begins and ends
    "smtp": ("NOOP", "250 2.0.0", ""),
    "imap": ("n NOOP", "n OK", ""),
    "pop3": ("CAPA", "+OK", ".\r\n"),
}


class Talk:
    """One connection in TLS."""

    def __init__(self, protocol: str, folder: Path, certificate: SSL.Connection, step: int) -> None:
        self.protocol, self.step = protocol, step
        self.clock = Clock()
        session, service = welcomes(protocol, folder, self.clock)
        self.transport = Transport()
        self.transport.handle = certificate
        self.conversation = Conversation(session, service, self.clock, secure=True)
        self.conversation.makeConnection(self.transport)
        if protocol == "smtp":
            self.say("EHLO pc")
        self.transport.clear()

    def say(self, line: str | bytes, end: bytes = b"\r\n") -> str:
        """What the server says to a line, however long it takes."""
        data = (line if isinstance(line, bytes) else line.encode()) + end
        for at in range(0, len(data), self.step or len(data)):
            self.conversation.dataReceived(data[at : at + (self.step or len(data))])
        for _ in range(80):
            if self.transport.value():
                break
            self.clock.advance(0.5)
        heard = self.transport.value().decode()
        self.transport.clear()
        return heard

    def begin(self, mechanism: str, initial: str = "") -> str:
        return self.say(BEGIN[self.protocol].format(f"{mechanism} {initial}".strip()))

    def check_next(self) -> None:
        """The next command works, and so does a sign-in."""
        command, first, last = NEXT[self.protocol]
        heard = self.say(command)
        assert heard.startswith(first), heard
        assert heard.endswith(last), heard
        assert not self.transport.disconnecting
        assert self.begin("PLAIN").startswith(CONTINUES[self.protocol].rstrip())
        if self.protocol != "pop3":  # whose maildrop is not here
            heard = self.say(b64(f"\0{LOGIN}\0{PASSWORD}"))
            assert heard.startswith(("235 2.7.0", "a OK")), heard


def words(mechanism: str, handle: SSL.Connection) -> list[Callable[[bytes], bytes]]:
    """What a client says in turn, each from the challenge before it; after each there is another challenge."""
    if mechanism == "LOGIN":
        return [lambda _: LOGIN.encode()]
    if mechanism in ("XOAUTH2", "OAUTHBEARER"):
        bad = {"XOAUTH2": b"user=u\1auth=Bearer bad\1\1", "OAUTHBEARER": b"n,,\1auth=Bearer bad\1\1"}
        return [lambda _: bad[mechanism]]
    if not mechanism.startswith("SCRAM"):
        return []
    options: dict[str, Any] = {}
    if mechanism.endswith("-PLUS"):
        found = handle.get_certificate()
        assert found is not None
        digest = hashlib.sha256(dump_certificate(FILETYPE_ASN1, found)).digest()
        options = {"header": b"p=tls-server-end-point,,", "binding": digest}
    client = ScramClient(mechanism, LOGIN, PASSWORD, **options)
    return [lambda _: client.first(), lambda challenge: client.final(challenge)]


STEPS = {
    name: {"LOGIN": 1, "XOAUTH2": 1, "OAUTHBEARER": 1}.get(name, 2 * name.startswith("SCRAM"))
    for name in MECHANISMS
}


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("mechanism", "after"), [(name, n) for name in MECHANISMS for n in range(STEPS[name] + 1)]
)
def test_cancelled(
    mechanism: str, after: int, protocol: str, step: int, certificate: SSL.Connection, tmp_path: Path
) -> None:
    """After each challenge that the mechanism has."""
    talk = Talk(protocol, tmp_path, certificate, step)
    heard = talk.begin(mechanism)
    for answer in words(mechanism, certificate)[:after]:
        assert heard.startswith(CONTINUES[protocol]), heard
        challenge = base64.b64decode(heard[len(CONTINUES[protocol]) :].strip())
        heard = talk.say(base64.b64encode(answer(challenge)))
    assert heard.startswith(CONTINUES[protocol]), heard
    assert talk.say("*").startswith(CANCELLED[protocol])
    talk.check_next()


def test_the_steps_are_all_there_are(certificate: SSL.Connection) -> None:
    assert {name: len(words(name, certificate)) for name in MECHANISMS} == STEPS


NO_BASE64 = {
    "a letter": "A", "two": "AA", "three": "AAA", "five": "AAAAA", "no letter": "!!!!", "pads": "====", "pad first": "=AAA",
    "pad within": "AA=A", "pad too many": "A===", "a pad more": "AAAA=", "two pads more": "AAAA==", "two texts": "AA==AA==",
    "for URLs": "-_-_", "star within": "AA*A", "a comma": "AAA,", "a dot": "AAA.", "a percent": "%3D%3D", "a bare pad": "==",
    "UTF-8": "AAAä", "full width": "ＡＡＡＡ", "quoted": '"AAAA"', "a bracket": "AAA{", "hex": "0x00", "a tab": "AA\tAA",
}  # fmt: skip


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("said", ["a AUTHENTICATE XOAUTH2 dXNlcj0=", "AQ==", "", "AAA", "A" * 301])
def test_whatever_is_said_to_a_refused_token(
    said: str, mechanism: str, protocol: str, step: int, certificate: SSL.Connection, tmp_path: Path
) -> None:
    """RFC 7628 section 3.2.3: a failure. Thunderbird says the whole command again."""
    talk = Talk(protocol, tmp_path, certificate, step)
    heard = talk.begin(mechanism)
    heard = talk.say(base64.b64encode(words(mechanism, certificate)[0](b"")))
    assert base64.b64decode(heard[2:].strip()) == b'{"status": "invalid_token"}'
    assert talk.say(said).startswith(REFUSED[protocol])
    talk.check_next()


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256"])
@pytest.mark.parametrize("name", NO_BASE64)
def test_no_base64(
    name: str, mechanism: str, protocol: str, step: int, certificate: SSL.Connection, tmp_path: Path
) -> None:
    """As a response, and as the initial one."""
    talk = Talk(protocol, tmp_path, certificate, step)
    assert talk.begin(mechanism).startswith(CONTINUES[protocol].rstrip())
    assert talk.say(NO_BASE64[name]).startswith(MALFORMED[protocol])
    heard = talk.begin(mechanism, NO_BASE64[name])
    assert heard.startswith((MALFORMED[protocol], "501")), heard
    talk.check_next()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("line", "replies"),
    [
        (
            b"A" * 12_292,
            (TOO_LONG, MALFORMED),
        ),  # of base64, and in SMTP's limit of a line (RFC 4954 section 4)
        (b"A" * 100_000, (TOO_LONG, MALFORMED)),
        (b"A" * 10_000_000, (TOO_LONG, MALFORMED)),
        (b"=" * 20_000, (TOO_LONG, MALFORMED)),
        (b"", (MALFORMED,)),  # a response without a word: not in PLAIN's form
        (b"=", (MALFORMED,)),  # only an initial response may be said so
        (b" ", (MALFORMED,)),
        (b" *", (MALFORMED,)),
        (b"* ", (MALFORMED,)),
        (b"**", (MALFORMED,)),
        (b"AAAA AAAA", (MALFORMED,)),
        (b"\xff\xfe", (MALFORMED, {"smtp": "500 5.5.2"})),
        (b"AA\0A", (MALFORMED, {"smtp": "500 5.5.2"})),
        (b"AA\rAA", (MALFORMED, {"smtp": "500 5.5.2"})),
        (b"AA\nAA", (MALFORMED, {"smtp": "500 5.5.2"})),
    ],
    ids=lambda value: repr(value)[:24] if isinstance(value, bytes) else "",
)
def test_lines_that_are_no_response(
    line: bytes,
    replies: tuple[dict[str, str], ...],
    protocol: str,
    certificate: SSL.Connection,
    tmp_path: Path,
) -> None:
    for step in (0, 1) if len(line) < 1000 else (65_536,):
        talk = Talk(protocol, tmp_path / str(step), certificate, step)
        assert talk.begin("PLAIN").startswith(CONTINUES[protocol].rstrip())
        heard = talk.say(line)
        # IMAP: a line without end cannot be trusted again.
        if protocol == "imap" and talk.transport.disconnecting:
            assert heard.startswith(("* BYE", "a BAD")), heard
            continue
        assert heard.startswith(tuple(one[protocol] for one in replies if protocol in one)), heard
        if protocol != "imap":
            assert len(talk.conversation._session._buffer) < 2 * 65_536  # type: ignore[attr-defined]
        talk.check_next()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("PLAIN =", MALFORMED),  # an empty initial response: no PLAIN
        ("LOGIN =", CONTINUES),
        ("PLAIN *", MALFORMED),  # not a cancellation: nothing has begun
        ("GSSAPI", UNKNOWN), ("NTLM AAAA", UNKNOWN), ("DIGEST-MD5", UNKNOWN), ("ANONYMOUS", UNKNOWN), ("EXTERNAL =", UNKNOWN),
        ("KERBEROS_V4", UNKNOWN), ("SCRAM-SHA-512", UNKNOWN), ("SCRAM-SHA-256-PLUS-PLUS", {"smtp": "50", "imap": "a ", "pop3": "-ERR"}),
    ],
)  # fmt: skip
def test_beginnings(
    said: str, reply: dict[str, str], protocol: str, certificate: SSL.Connection, tmp_path: Path
) -> None:
    talk = Talk(protocol, tmp_path, certificate, 0)
    heard = talk.begin(said)
    assert heard.startswith(reply[protocol]), heard
    if reply is CONTINUES:
        assert talk.say("*").startswith(CANCELLED[protocol])
    talk.check_next()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_is_gone_in_the_middle(
    protocol: str, certificate: SSL.Connection, tmp_path: Path
) -> None:
    """At each step: half closed, it is closed; gone, nothing is left."""
    for mechanism in MECHANISMS:
        for half in (True, False):
            talk = Talk(protocol, tmp_path, certificate, 0)
            talk.begin(mechanism)
            if half:
                talk.conversation.readConnectionLost()
                assert talk.transport.disconnecting
            else:
                talk.conversation.connectionLost()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_octet_a_second(protocol: str, certificate: SSL.Connection, tmp_path: Path) -> None:
    """A slow client signs in."""
    talk = Talk(protocol, tmp_path, certificate, 0)
    heard = ""
    said = [
        BEGIN[protocol].format("PLAIN"),
        b64(f"\0{LOGIN}\0wrong"),
        BEGIN[protocol].format("PLAIN"),
        "*",
        NEXT[protocol][0],
    ]
    for octet in "".join(f"{line}\r\n" for line in said).encode():
        talk.clock.advance(1)
        talk.conversation.dataReceived(bytes([octet]))
        for _ in range(10):
            talk.clock.advance(0.5)
        heard += talk.transport.value().decode()
        talk.transport.clear()
    assert heard.split("\r\n")[-2].startswith((NEXT[protocol][1], ".")), heard


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_silence_in_an_exchange_is_cut(protocol: str, certificate: SSL.Connection, tmp_path: Path) -> None:
    talk = Talk(protocol, tmp_path, certificate, 0)
    talk.begin("PLAIN")
    for _ in range(302):
        talk.clock.advance(1)
    assert talk.transport.disconnecting
    assert talk.transport.value().startswith((b"421 4.4.2", b"* BYE", b"-ERR", b""))
