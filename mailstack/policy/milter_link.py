"""One connection to a milter: say a step, await what the filter makes of it.

Theory of operation. What the filter says is read as it is asked for: beyond MOST_UNREAD octets the transport
stops reading, until what is there has been taken. So neither a body that comes faster than it is written nor
a filter that talks for ever fills memory.
"""

from __future__ import annotations

from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mailstack.wire import milter
from mailstack.wire.milter import Answer, Options, ReplyCode

MOST_UNREAD = 2 * milter.MAX_PACKET  # octets; one whole packet always fits


class Unreachable(OSError):
    """The filter cannot be reached, is too slow, or does not speak the protocol; the text says which."""


async def connect(reactor: Any, address: str, seconds: float) -> MilterLink:
    """A connection to ``inet:HOST:PORT`` or ``unix:PATH``; raise Unreachable."""
    kind, _, where = address.partition(":")
    try:
        if kind == "unix":
            endpoint: Any = UNIXClientEndpoint(reactor, where, timeout=seconds)
        else:
            host, _, port = where.rpartition(":")
            endpoint = HostnameEndpoint(reactor, host.strip("[]"), int(port), timeout=seconds)
        link: MilterLink = await connectProtocol(endpoint, MilterLink(reactor))
    except Exception as error:
        raise Unreachable(f"cannot connect to {address}: {error or type(error).__name__}") from error
    return link


@implementer(IPushProducer)
class MilterLink(Protocol):
    """The transport's side. One coroutine uses it at a time."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._reader = milter.Reader()
        self._waiting: Deferred[None] | None = None
        self._full = False
        self._reading = True  # the transport does
        self.broken: str | None = None  # why nothing more can be said

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Ask to be told when the transport's buffer is full."""
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Bytes of a packet."""
        self._reader.receive_data(data)
        if self._reading and self._reader.unread > MOST_UNREAD:
            self._reading = False
            self.transport.pauseProducing()  # type: ignore[union-attr]
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The filter is gone."""
        self.broken = self.broken or "it closed the connection"
        self._wake()

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._full = True

    def resumeProducing(self) -> None:
        """It has room again."""
        self._full = False
        self._wake()

    def stopProducing(self) -> None:
        """The connection ends."""
        self._full = False
        self._wake()

    # What the check calls.

    async def write(self, data: bytes, seconds: float) -> None:
        """Say `data`, and wait until there is room for more; raise Unreachable."""
        self._check()
        transport: Any = self.transport
        transport.write(data)
        while self._full:
            await self._wait(seconds)

    async def event(self, seconds: float) -> milter.Event:
        """The next packet of the filter; PROGRESS gives it as much time again. Raise Unreachable."""
        while True:
            try:
                event = self._reader.next_event()
            except milter.BadPacket as error:
                self.fail(f"it does not speak the protocol: {error}")
            if not self._reading and self._reader.unread <= MOST_UNREAD:
                self._reading = True
                self.transport.resumeProducing()  # type: ignore[union-attr]
            if event is None:
                await self._wait(seconds)
            elif event is not Answer.PROGRESS:
                return event

    async def answer(self, seconds: float) -> Answer | ReplyCode:
        """The answer to a step; raise Unreachable."""
        event = await self.event(seconds)
        if not isinstance(event, (Answer, ReplyCode)):
            self.fail(f"it sent {type(event).__name__} where an answer was due")
        if event is Answer.SHUT_DOWN:
            self.fail("it shuts down")
        return event

    async def agree(self, seconds: float) -> Options:
        """Offer all we can do and return what the filter takes of it; raise Unreachable."""
        await self.write(milter.options(), seconds)
        event = await self.event(seconds)
        if not isinstance(event, Options) or not 2 <= event.version <= milter.VERSION:
            self.fail("it does not agree on the protocol")
        return event

    def fail(self, why: str) -> NoReturn:
        """Cut the connection and raise Unreachable."""
        self.broken = self.broken or why
        transport: Any = self.transport
        transport.abortConnection()
        raise Unreachable(self.broken)

    def close(self, farewell: bytes = b"") -> None:
        """No more is asked."""
        if self.broken is None:
            self.broken = "closed"
            transport: Any = self.transport
            transport.write(farewell)
            transport.unregisterProducer()
            transport.loseConnection()

    def tell(self, data: bytes) -> None:
        """Say what is not answered; a broken connection does not matter."""
        if self.broken is None:
            transport: Any = self.transport
            transport.write(data)

    def _check(self) -> None:
        if self.broken is not None:
            raise Unreachable(self.broken)

    async def _wait(self, seconds: float) -> None:
        self._check()
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        timer = self._clock.callLater(seconds, self._too_slow)
        try:
            await waiting
        finally:
            if timer.active():
                timer.cancel()
            self._waiting = None
        self._check()

    def _too_slow(self) -> None:
        self.broken = self.broken or "it took too long"
        transport: Any = self.transport
        transport.abortConnection()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
