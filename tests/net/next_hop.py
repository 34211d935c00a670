"""A next hop that does what the test tells it: a scripted SMTP server on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

CLOSE = "close"  # instead of a reply: drop the connection
HANG = "hang"  # say nothing
SAID = {
    "": "220 mx.b.test ESMTP",
    "EHLO": "250 mx.b.test",
    "HELO": "250 mx.b.test",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 Go on",
    ".": "250 2.0.0 Ok: taken",
    "QUIT": "221 2.0.0 Bye",
    "STARTTLS": "220 2.0.0 Go on",
    "RSET": "250 2.0.0 Ok",
}


class NextHop:
    """Listens on a port of its own. `says` overrides SAID: by verb, or "RCPT <bob@b.test>" for one recipient."""

    def __init__(
        self,
        says: dict[str, str | bytes] | None = None,
        offers: tuple[str, ...] = (),
        tls: Any = None,
        interface: str = "127.0.0.1",
    ) -> None:
        self.says = dict(says or {})
        self.offers = offers
        self.tls = tls
        self.messages: list[bytes] = []
        self.lines: list[str] = []
        self.sessions: list[Session] = []
        self.names: list[bytes | None] = []  # what SNI said
        self.writes: list[int] = []  # commands that came in one packet
        self.last = ""  # the verb after whose reply nothing more is said
        self.hung: Callable[[Session], None] = lambda session: None  # what follows when nothing is said
        self._left: socket.socket | None = None
        factory = Factory.forProtocol(Session)
        factory.noisy = False
        factory.hop = self
        self._port = reactor.listenTCP(0, factory, interface=interface)
        self.port: int = self._port.getHost().port

    def reply(self, verb: str, line: str = "") -> str | bytes:
        """What is answered."""
        if verb == "RCPT":
            exact = f"RCPT {line.partition(':')[2].split(' ')[0]}"
            if exact in self.says:
                return self.says[exact]
        if verb == "EHLO" and "EHLO" not in self.says and self.offers:
            lines = ["mx.b.test", *self.offers]
            return "\r\n".join(
                f"250{'-' if i < len(lines) - 1 else ' '}{word}" for i, word in enumerate(lines)
            )
        return self.says.get(verb, SAID.get(verb, "500 5.5.1 What?"))

    async def leave(self) -> None:
        """Listen no more, and let nobody else have the port: whoever comes is refused."""
        await self._port.stopListening()
        self._left = socket.socket()
        self._left.bind(("127.0.0.1", self.port))

    async def close(self) -> None:
        """Drop every connection and stop listening."""
        if self._left is None:
            await self._port.stopListening()
        else:
            self._left.close()
        for session in self.sessions:
            if not session.gone.called:
                session.transport.abortConnection()
            await session.gone


class Session(Protocol):
    """One connection."""

    def connectionMade(self) -> None:
        self.hop: NextHop = self.factory.hop
        self.hop.sessions.append(self)
        self.gone: Deferred[None] = Deferred()
        self.unread = b""
        self.content: bytes | None = None
        self.say("")

    def say(self, verb: str, line: str = "") -> None:
        reply = self.hop.reply(verb, line)
        if reply == CLOSE:
            self.transport.loseConnection()
        elif isinstance(reply, bytes):
            self.transport.write(reply)
        elif reply == HANG:
            self.hop.hung(self)
        else:
            self.transport.write(f"{reply}\r\n".encode())
            if reply.startswith("354"):
                self.content = b""
            if verb == "STARTTLS" and reply.startswith("220") and self.hop.tls is not None:
                self.transport.startTLS(self.hop.tls)
            if verb == "QUIT":
                self.transport.loseConnection()
        if verb and verb == self.hop.last:
            self.hop.hung(self)

    def dataReceived(self, data: bytes) -> None:
        self.unread += data
        self.hop.writes.append(data.count(b"\r\n"))
        while self.unread:
            if self.content is not None:
                if not self.read_content():
                    return
                continue
            line, end, rest = self.unread.partition(b"\r\n")
            if not end:
                return
            self.unread = rest
            text = line.decode("utf-8", "replace")
            self.hop.lines.append(text)
            self.say(text.split(" ")[0].upper(), text)

    def read_content(self) -> bool:
        self.content = (self.content or b"") + self.unread
        self.unread = b""
        probe = b"\r\n" + self.content
        end = probe.find(b"\r\n.\r\n")
        if end < 0:
            early = self.hop.says.get("early")
            if early is not None and not getattr(self, "was_early", False):
                self.was_early = True
                self.transport.write(f"{early}\r\n".encode())
            return False
        self.hop.messages.append(probe[2 : end + 2].replace(b"\r\n..", b"\r\n."))
        self.unread = probe[end + 5 :]
        self.content = None
        self.say(".")
        return True

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)
