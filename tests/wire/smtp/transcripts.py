"""Conversations with the SMTP session as people read them: C: and S: lines, whole and one byte at a time.

The session is asked by a role that says yes to everything, unless an address begins with ``no-``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from mailstack.mail.reply import Reply
from mailstack.wire import sasl
from mailstack.wire.smtp import Server, events

GREETING = Reply(220, "", "mx.example.org ESMTP")
EXTENSIONS = (
    "PIPELINING",
    "SIZE 1000000",
    "8BITMIME",
    "SMTPUTF8",
    "ENHANCEDSTATUSCODES",
    "CHUNKING",
    "DSN",
    "STARTTLS",
    "AUTH PLAIN LOGIN",
)


class Yes:
    """A role for tests: agrees, remembers, and takes what it is given."""

    def __init__(self, extensions: Iterable[str] = EXTENSIONS, most: int = 1_000_000) -> None:
        self.extensions = tuple(extensions)
        self.most = most
        self.events: list[events.Event] = []
        self.content = b""
        self.messages: list[bytes] = []
        self.mechanism: sasl.Mechanism | None = None

    def answer(self, event: events.Event) -> Reply | None:
        """The reply to one event."""
        self.events.append(event)
        match event:
            case events.Helo(extended=True):
                return Reply(250, "", "\n".join(("mx.example.org", *self.extensions)))
            case events.Helo():
                return Reply(250, "", "mx.example.org")
            case events.Rcpt(recipient) if recipient.address.local_part.startswith("no-"):
                return Reply(550, "5.1.1", "No such user")
            case events.Data():
                return Reply(354, "", "Go ahead")
            case events.Bdat(size) if len(self.content) + size > self.most:
                return Reply(552, "5.3.4", "Too big")
            case events.Chunk(data):
                if len(self.content) + len(data) > self.most:
                    return Reply(552, "5.3.4", "Too big")
                self.content += data
                return None
            case events.Bdat():
                return None
            case events.EndOfChunk(size, refused):
                return refused or Reply(250, "2.0.0", f"{size} octets")
            case events.EndOfData(refused):
                content, self.content = self.content, b""
                if refused is None:
                    self.messages.append(content)
                return refused or Reply(250, "2.0.0", "Queued")
            case events.Auth() | events.AuthLine():
                return self.auth(event)
            case events.StartTls():
                return Reply(220, "2.0.0", "Ready")
            case events.Quit():
                return Reply(221, "2.0.0", "Bye")
            case events.Malformed(reply):
                return reply
            case events.Reset() | events.Mail():
                self.content = b""
        return Reply(250, "2.0.0", "Ok")

    def auth(self, event: events.Auth | events.AuthLine) -> Reply:
        """Any password is right but "wrong"."""
        if isinstance(event, events.Auth):
            self.mechanism = sasl.start(event.mechanism)
            response = event.initial_response
        else:
            response = event.data
            if response is None:
                return Reply(501, "5.7.0", "Cancelled")
        if self.mechanism is None:
            return Reply(504, "5.5.4", "Unknown mechanism")
        try:
            step = self.mechanism.step(response)
        except sasl.BadExchange as error:
            return Reply(501, "5.5.2", str(error))
        if isinstance(step, sasl.Challenge):
            return Reply(334, "", sasl.encode(step.data))
        return (
            Reply(535, "5.7.8", "No") if step.password == "wrong" else Reply(235, "2.7.0", f"Hi {step.login}")
        )


class Client:
    """Feeds a session and gathers what it says."""

    def __init__(self, role: Yes | None = None, greeting: Reply = GREETING) -> None:
        self.role = role or Yes()
        self.session = Server()
        self.said = self.session.send(greeting)

    def hear(self, data: bytes, step: int = 0) -> bytes:
        """Send bytes, all at once or `step` at a time; what the server says to them."""
        self.said = b""
        for i in range(0, len(data), step or len(data) or 1):
            self.session.receive_data(data[i : i + (step or len(data))])
            self.pump()
        return self.said

    def pump(self) -> None:
        """Answer what the session has."""
        while (event := self.session.next_event()) is not None:
            reply = self.role.answer(event)
            if reply is not None:
                self.said += self.session.send(reply)
            if self.session.upgrading:
                self.session.secured()
                self.role.events.append("TLS")  # type: ignore[arg-type]


def converse(text: str, role_of: type[Yes] = Yes, greeting: Reply = GREETING, **options: object) -> Yes:
    """Check a transcript whole and byte by byte; the role of the last run.

    ``C:`` lines are sent with CRLF (``\\r``, ``\\n``, ``\\0``, ``\\xNN`` are escapes, ``\\c`` at the end leaves
    CRLF out), several in a row in one packet. ``S:`` lines begin what the server answers.
    """
    for step in (0, 1):
        role = role_of(**options)  # type: ignore[arg-type]
        _run(text, Client(role, greeting), step)
    return role


def _run(text: str, client: Client, step: int) -> None:
    heard = client.said
    packet = b""
    expected: list[str] = []
    lines = [line for line in textwrap.dedent(text).strip().split("\n") if line.strip()]
    for line in [*lines, "C:"]:
        side, said = line[:2], line[3:]
        if side == "C:":
            if expected:
                if packet:
                    heard = client.hear(packet, step)
                    packet = b""
                check(heard, expected)
                expected = []
            packet += unescape(said)
        else:
            assert side == "S:", line
            expected.append(said)


def check(heard: bytes, expected: list[str]) -> None:
    """The server said these lines, or more at the end of each, and no others."""
    lines = heard.decode().split("\r\n")[:-1]
    assert len(lines) == len(expected), (lines, expected)
    for got, wanted in zip(lines, expected, strict=True):
        assert got.startswith(wanted), (lines, expected)


def unescape(said: str) -> bytes:
    """The bytes of a C: line."""
    whole = not said.endswith("\\c")
    data = said if whole else said[:-2]
    octets = re.sub(
        rb"\\(r|n|0|\\|x[0-9a-f]{2})",
        lambda match: (
            {b"r": b"\r", b"n": b"\n", b"0": b"\0", b"\\": b"\\"}.get(match[1])
            or (b"\0" if match[1] == b"0" else bytes([int(match[1][1:], 16)]))
        ),
        data.encode(),
    )
    return octets + b"\r\n" if whole else octets


EHLO = "S: 220 mx.example.org ESMTP\nC: EHLO client.example\nS: 250-mx.example.org\n" + "".join(
    f"S: 250{'-' if i < len(EXTENSIONS) - 1 else ' '}{line}\n" for i, line in enumerate(EXTENSIONS)
)
RCPT = (
    EHLO
    + """C: MAIL FROM:<alice@example.net>
S: 250 2.
C: RCPT TO:<bob@example.org>
S: 250 2.
"""
)
