"""What follows STARTTLS in the same packet was said in clear by whoever stands between: it is forgotten.

On every listener that speaks SMTP: port 25, submission and LMTP. IMAP's and POP3's are in tests/access.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.msa.settings import MsaConfig
from mailstack.msa.submission import Submission
from mailstack.mta.lmtp import Lmtp
from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import LmtpConfig, RelayConfig
from mailstack.net.transaction import Reception
from tests.msa.test_submission import SECRET
from tests.net.fakes import Box, Connection, Here, Town, reception
from tests.net.sign_ins import sign_in_with

LINE = b"STARTTLS\r\n"
GREETS = {"relay": "EHLO", "submission": "EHLO", "lmtp": "LHLO"}
MESSAGE = (
    "MAIL FROM:<alice@example.org>",
    "RCPT TO:<bob@example.org>",
    "DATA",
    "From: alice@example.org\r\n\r\nx\r\n.",
)
EVIL = b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nFrom: alice@example.org\r\n\r\nevil\r\n.\r\n"
LOGIN = b"AUTH PLAIN " + SECRET.encode() + b"\r\n"

INJECTED = [
    # Commands, and what would be more than one.
    b"NOOP\r\n", b"RSET\r\n", b"QUIT\r\n", b"HELP\r\n", b"VRFY bob\r\n", b"STARTTLS\r\n", b"STARTTLS\r\nNOOP\r\n", b"NOOP\r\n" * 500,
    b"EHLO evil.example\r\n", b"LHLO evil.example\r\n", b"HELO evil.example\r\n", EVIL,
    b"EHLO evil.example\r\n" + EVIL, b"LHLO evil.example\r\n" + EVIL, b"EHLO evil.example\r\n" + LOGIN + EVIL, b"EHLO evil.example\r\n" + EVIL + b"QUIT\r\n",
    b"EHLO evil.example\r\nMAIL FROM:<evil@b.example>\r\n", b"EHLO evil.example\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<bob@example.org>\r\nBDAT 4 LAST\r\nevil",
    # A login, whole or in steps.
    LOGIN, b"EHLO evil.example\r\n" + LOGIN, b"AUTH PLAIN\r\n" + SECRET.encode() + b"\r\n", b"AUTH LOGIN\r\n", b"AUTH PLAIN AGEAYg==\r\n",
    # What is not whole: the rest must not become part of what comes after it.
    b"half a line", b"EHLO evil.example", b"EHLO evil.example\r", b"DATA\r\n", b"BDAT 1000\r\nx", b"x", b"\r", b"\n", b"\r\n", b"\0",
    # What is no SMTP, or too long; the first octets of TLS itself.
    b"\r\n" * 100, b"x" * 5000, b"x" * 70_000, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\xff\xfe\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]  # fmt: skip


class Counter(Box):
    """Takes charge of every message, and delivers at once as LMTP wants it."""

    async def deliver(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        return await self.accept(envelope, message)


class Port:
    """One of the listeners with its surroundings."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.box = Counter()
        made, self.clock = reception(Here(), folder)
        self.service = _service(name, made, self.clock, self.box)
        self.greet = f"{GREETS[name]} second.example"

    def connect(self) -> Connection:
        """A client that has said its name in clear."""
        connection = Connection(self.service, self.clock, address="127.0.0.1", lmtp=self.name == "lmtp")
        assert "STARTTLS" in connection.say(f"{GREETS[self.name]} first.example")
        return connection

    def after_tls(self, connection: Connection) -> None:
        """The client begins anew: nothing is known of it, nothing was taken, and everything works."""
        assert connection.say("NOOP") == "250 2.0.0 Ok\r\n"
        assert connection.say(MESSAGE[0]).startswith("503 5.5.1")
        hello = connection.say(self.greet)
        assert hello.startswith("250-mx.example.org")
        assert "STARTTLS" not in hello
        if self.name == "submission":
            assert connection.say(MESSAGE[0]).startswith("530 5.7.0 Authentication required")
            assert connection.say(f"AUTH PLAIN {SECRET}").startswith("235 2.7.0")
        assert self.box.taken == []
        said = connection.say(*MESSAGE).split("\r\n")
        assert [line[:3] for line in said] == ["250", "250", "354", "250", ""], said
        [(_, data)] = self.box.taken
        assert b"evil" not in data
        assert b"first.example" not in data
        assert self.name == "submission" or b"from second.example" in data
        self.box.taken.clear()


def _service(name: str, made: Reception, clock: Clock, box: Box) -> Any:
    town = Town()
    around: dict[str, Any] = {
        "hostname": "mx.example.org",
        "directory": town,
        "accepts": box,
        "reception": made,
        "tls": True,
    }
    if name == "lmtp":
        return Lmtp(LmtpConfig(), **around)
    if name == "relay":
        return Relay(RelayConfig(), **around)
    return Submission(MsaConfig(), sign_in=sign_in_with(town, clock, ()), **around)


@pytest.fixture(params=list(GREETS))
def port(request: pytest.FixtureRequest, tmp_path: Path) -> Port:
    return Port(request.param, tmp_path)


@pytest.mark.parametrize("injected", INJECTED, ids=lambda data: repr(data[:40]))
def test_in_one_packet_or_cut_anywhere(port: Port, injected: bytes) -> None:
    """What was said in clear has no answer, nor any trace in what is said after it."""
    for cut in range(len(LINE)):
        connection = port.connect()
        assert connection.send(LINE[:cut]) == ""
        assert connection.send(LINE[cut:] + injected) == "220 2.0.0 Ready to start TLS\r\n", cut
        port.after_tls(connection)
