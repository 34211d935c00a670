"""What the operator sees of a conversation: every line, and no password, however it is sent."""

from __future__ import annotations

import ipaddress
import zlib
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher

from mailstack.net.conversation import Conversation
from mailstack.net.peer import Peer, origin, plain_address
from mailstack.net.transcript import MAX_LINE, MAX_LINES, Transcript
from mailstack.wire.imap.responses import Tagged
from mailstack.wire.imap.server import Server


class Shown:
    """Collects the transcript's lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.transcript: Transcript

    def __enter__(self) -> Shown:
        globalLogPublisher.addObserver(self._observe)
        self.transcript = Transcript("imap", Peer("192.0.2.1", 4321, 143, False))
        return self

    def __exit__(self, *_: object) -> None:
        globalLogPublisher.removeObserver(self._observe)

    def _observe(self, event: dict) -> None:
        if event.get("log_namespace") == "mailstack.conversation":
            self.lines.append(f"{event['side']} {event['line']}")


SECRETS = {
    "USER alice\r\nPASS geheim\r\n": ["USER alice", "PASS ***"],
    "AUTH PLAIN Z2VoZWlt\r\n": ["AUTH PLAIN ***"],
    "AUTH LOGIN\r\n": ["AUTH LOGIN"],
    "a1 LOGIN alice geheim\r\n": ["a1 LOGIN ***"],
    "a1 login {5+}\r\nalice {6+}\r\ngeheim\r\n": ["a1 login ***", "***", "***"],
    "a1 AUTHENTICATE PLAIN Z2VoZWlt\r\n": ["a1 AUTHENTICATE PLAIN ***"],
    "a1 SELECT INBOX\r\n": ["a1 SELECT INBOX"],
}


@pytest.mark.parametrize(("said", "shown"), SECRETS.items())
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_passwords_are_masked_however_they_come(said: str, shown: list[str], step: int) -> None:
    with Shown() as log:
        for start in range(0, len(said), step):
            log.transcript.received(said[start : start + step].encode())
    assert log.lines[1:] == [f"C: {line}" for line in shown]


def test_the_answers_to_a_challenge_are_masked_until_the_verdict() -> None:
    with Shown() as log:
        log.transcript.received(b"AUTH LOGIN\r\n")
        log.transcript.sent(b"334 VXNlcm5hbWU6\r\n")
        log.transcript.received(b"YWxpY2U=\r\n")
        log.transcript.sent(b"334 UGFzc3dvcmQ6\r\n")
        log.transcript.received(b"Z2VoZWlt\r\n")
        log.transcript.sent(b"235 2.7.0 welcome\r\n")
        log.transcript.received(b"NOOP\r\n")
    assert [line for line in log.lines if line.startswith("C:")] == [
        "C: AUTH LOGIN",
        "C: ***",
        "C: ***",
        "C: NOOP",
    ]


def test_much_is_shown_shortened() -> None:
    with Shown() as log:
        log.transcript.sent(b"\r\n".join([b"x" * 1000] * 100))
    assert len(log.lines) == 1 + MAX_LINES + 1
    assert log.lines[1] == "S: " + "x" * MAX_LINE + "..."
    assert log.lines[-1] == "S: (88 more lines, 100198 octets in all)"


class Agrees:
    """A service, and its role, that answers OK to everything."""

    idle_limit = 60.0

    def welcome(self, peer: Peer, say: Any) -> Agrees:
        return self

    async def greet(self) -> None:
        return None

    async def answer(self, event: Any) -> Tagged:
        return Tagged(event.tag, "OK", f"{type(event).__name__} done")

    def timed_out(self) -> None:
        return None

    def dismissed(self) -> None:
        return None

    def lost(self) -> None:
        """Nothing was held."""


@pytest.mark.parametrize("step", [1, 1000])
def test_compressed_conversations_are_legible(step: int) -> None:
    """COMPRESS=DEFLATE, which Thunderbird turns on in every session: what is logged is what is meant."""
    with Shown() as log:
        conversation = Conversation(
            Server(preauthenticated=True), Agrees(), Clock(), transcript=lambda _: log.transcript
        )
        transport = StringTransport()
        conversation.makeConnection(transport)
        conversation.dataReceived(b"a COMPRESS DEFLATE\r\n")
        deflate = zlib.compressobj(wbits=-15)
        data = deflate.compress(b"b NOOP\r\nc NOOP\r\n") + deflate.flush(zlib.Z_SYNC_FLUSH)
        for start in range(0, len(data), step):
            conversation.dataReceived(data[start : start + step])
        conversation.shut_down()
    assert set(log.lines[1:]) == {
        "C: a COMPRESS DEFLATE",
        "S: a OK Compress done",
        "C: b NOOP",
        "S: b OK Noop done",
        "C: c NOOP",
        "S: c OK Noop done",
    }
    assert len(log.lines) == 7
    sent = transport.value().removeprefix(b"a OK Compress done\r\n")
    assert zlib.decompressobj(-15).decompress(sent) == b"b OK Noop done\r\nc OK Noop done\r\n"


def test_addresses_as_people_write_them() -> None:
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("2001:db8::1") == "2001:db8::1"
    assert plain_address("unix") == "unix"
    assert origin("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert origin("192.0.2.1") == "192.0.2.1"
    assert origin("::1") == "::1"


def test_networks() -> None:
    networks = [ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32")]
    assert Peer("192.0.2.9", 1, 25, False).within(networks)
    assert Peer("2001:db8::1", 1, 25, False).within(networks)
    assert not Peer("198.51.100.1", 1, 25, False).within(networks)
    assert not Peer("192.0.2.9", 1, 25, False).within([])
    assert Peer("192.0.2.9", 1, 25, False, lambda: "TLSv1.3 X").tls is None
    assert Peer("192.0.2.9", 1, 25, True, lambda: "TLSv1.3 X").tls == "TLSv1.3 X"
