"""LMTP's session: LHLO alone, and a reply for each recipient after the content (RFC 2033)."""

from __future__ import annotations

import pytest

from mailstack.mail.reply import Replies, Reply
from mailstack.wire.smtp import Server, events
from tests.wire.smtp.transcripts import Client, Yes, _run


class Each(Yes):
    """Answers the content for each recipient, "bad-" ones with 550."""

    def __init__(self) -> None:
        super().__init__(extensions=("PIPELINING", "CHUNKING", "8BITMIME", "BINARYMIME"))
        self.names: list[str] = []

    def answer(self, event: events.Event) -> Reply | None:
        if isinstance(event, events.Mail):
            self.names = []
        reply = super().answer(event)
        if isinstance(event, events.Rcpt) and reply is not None and reply.accepted:
            self.names.append(event.recipient.address.local_part)
        if isinstance(event, events.EndOfData) and event.refused is None and reply is not None:
            bad = Reply(550, "5.2.2", "Full")
            return Replies(tuple(bad if name.startswith("bad-") else reply for name in self.names))  # type: ignore[return-value]
        return reply


def converse(text: str) -> None:
    """Check a transcript whole and byte by byte."""
    for step in (0, 1):
        client = Client(Each())
        client.session = Server(lmtp=True)
        client.session.send(Reply(220, "", "mx.example.org LMTP"))
        client.said = b"220 mx.example.org LMTP\r\n"
        _run(text, client, step)


LHLO = """
S: 220 mx.example.org LMTP
C: LHLO client.example
S: 250-mx.example.org
S: 250-PIPELINING
S: 250-CHUNKING
S: 250-8BITMIME
S: 250 BINARYMIME
"""
THREE = (
    LHLO
    + """C: MAIL FROM:<a@b.example>
C: RCPT TO:<x@example.org>
C: RCPT TO:<no-body@example.org>
C: RCPT TO:<bad-y@example.org>
C: RCPT TO:<z@example.org>
S: 250
S: 250
S: 550 5.1.1
S: 250
S: 250
"""
)


@pytest.mark.parametrize(
    "text",
    [
        "S: 220\nC: EHLO x\nS: 500 5.5.1\nC: HELO x\nS: 500 5.5.1\nC: NOOP\nS: 250",
        LHLO + "C: DATA\nS: 503 5.5.1\nC: MAIL FROM:<>\nC: DATA\nS: 250\nS: 503 5.5.1\nC: NOOP\nS: 250",
        LHLO + "C: MAIL FROM:<>\nC: BDAT 2 LAST\nC: hi\\c\nS: 250\nS: 503 5.5.1\nC: NOOP\nS: 250",
        THREE + "C: DATA\nS: 354\nC: hello\nC: .\nC: NOOP\nS: 250\nS: 550 5.2.2\nS: 250\nS: 250",
        THREE + "C: DATA\nS: 354\nC: a\\nb\nC: .\nC: NOOP\nS: 550 5.6.11\nS: 550 5.6.11\nS: 550 5.6.11\nS: 250",
        THREE + "C: BDAT 2\nC: hi\\c\nC: BDAT 2 LAST\nC: ho\\c\nC: NOOP\nS: 250\nS: 250\nS: 550 5.2.2\nS: 250\nS: 250",
        THREE + "C: BDAT 0 LAST\nC: NOOP\nS: 250\nS: 550 5.2.2\nS: 250\nS: 250",
        # A chunk that is refused, and the last behind it: who pipelines counts on a reply for each recipient.
        THREE + "C: BDAT 3\nC: a\\nb\\c\nC: BDAT 2 LAST\nC: xy\\c\nC: NOOP\n"
        "S: 550 5.6.11\nS: 503 5.5.1\nS: 503 5.5.1\nS: 503 5.5.1\nS: 250",
        THREE + "C: RSET\nC: DATA\nS: 250\nS: 503 5.5.1\nC: MAIL FROM:<>\nC: RCPT TO:<x@example.org>\nC: DATA\n"
        "S: 250\nS: 250\nS: 354\nC: .\nC: NOOP\nS: 250\nS: 250",
        LHLO + "C: MAIL FROM:<> BODY=BINARYMIME\nC: RCPT TO:<x@example.org>\nC: DATA\nS: 250\nS: 250\nS: 503 5.5.1\n"
        "C: BDAT 4 LAST\nC: a\\nb\\0\\c\nC: NOOP\nS: 250\nS: 250",
    ],
)  # fmt: skip
def test_transcripts(text: str) -> None:
    converse(text)


def test_smtp_knows_no_lhlo() -> None:
    client = Client()
    assert client.hear(b"LHLO x\r\n").startswith(b"500 5.5.1")
