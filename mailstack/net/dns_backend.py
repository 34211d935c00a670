"""DNS transports for dnspython on Twisted: what its asyncio and trio backends do, on our reactor.

Theory of operation. dnspython's asynchronous resolver awaits sockets of a "backend"; here they are Twisted
ports and connections whose waits are Deferreds. Every query has a UDP port of its own, chosen at random by
the system (RFC 5452 section 9.2), and a TCP connection where the answer was truncated (RFC 7766). Whoever
owns a domain decides what is in an answer about it, and dnspython takes one apart in one go: so an answer of
thousands of records is shortened before, to more than anybody looks at.
"""

from __future__ import annotations

import random
import socket
import struct
from collections import deque
from collections.abc import Awaitable
from typing import Any

import dns.exception
from dns._asyncbackend import Backend, DatagramSocket, StreamSocket
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

MAX_DATAGRAMS = 16  # kept for one query: the answer, and whatever strangers throw at its port
MAX_UNREAD = 128 * 1024  # octets of a TCP answer kept unread; a DNS message has at most 64 KiB
MOST_RECORDS = 300  # of one message; the 4000 that fit into 64 KiB would hold the reactor for 300 ms
_LENGTH = 2  # octets before a message in TCP (RFC 1035 section 4.2.2)
_COUNTS = struct.Struct("!4H")  # of a header: questions and the records of three sections
_COUNTS_AT, _HEADER = 4, 12  # octets
_PORT_CHOICES = 8  # random UDP ports tried before the system is asked for any


class Abandoned(BaseException):
    """Whoever asked has cancelled. No Exception, because dnspython would take that for a name server's fault
    and try the next one; the resolver turns it back into CancelledError.
    """


class _Inbox:
    """One reader waits here for items, for a bounded time."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._waiting: Deferred[None] | None = None

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    async def wait(self, limit: float | None) -> None:
        """Until `wake`; raise dns.exception.Timeout after `limit` seconds."""
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        await within(waiting, limit, self._clock)


async def within(awaited: Deferred[Any], limit: float | None, clock: Any) -> Any:
    """The Deferred's result, or dns.exception.Timeout after `limit` seconds; Abandoned if cancelled."""
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        awaited.cancel()

    call = None if limit is None else clock.callLater(max(0.0, limit), expire)
    try:
        return await awaited
    except CancelledError:
        if expired:
            raise dns.exception.Timeout(timeout=limit) from None
        raise Abandoned from None
    finally:
        if call is not None and call.active():
            call.cancel()


class Datagrams(DatagramProtocol, DatagramSocket):
    """A UDP socket for one query."""

    noisy = False

    def __init__(self, clock: Any, family: int) -> None:
        DatagramSocket.__init__(self, family, socket.SOCK_DGRAM)
        self._received: deque[tuple[bytes, Any]] = deque(maxlen=MAX_DATAGRAMS)
        self._inbox = _Inbox(clock)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Called by Twisted."""
        host, port = addr[:2]
        if self.family == socket.AF_INET6:
            addr = (host, port, 0, 0)
        self._received.append((shortened(datagram), addr))
        self._inbox.wake()

    async def sendto(self, what: bytes, destination: Any, limit: float | None) -> int:
        """Send one datagram."""
        assert self.transport is not None
        self.transport.write(what, destination[:2])
        return len(what)

    async def recvfrom(self, size: int, limit: float | None) -> tuple[bytes, Any]:
        """The next datagram and its sender."""
        while not self._received:
            await self._inbox.wait(limit)
        return self._received.popleft()

    async def close(self) -> None:
        """Give the port back."""
        assert self.transport is not None
        await self.transport.stopListening()  # type: ignore[misc]

    async def getpeername(self) -> Any:
        """There is none: the socket is not connected."""
        raise OSError("not connected")

    async def getsockname(self) -> Any:
        """Our address and port."""
        assert self.transport is not None
        host = self.transport.getHost()
        return (host.host, host.port)


class Stream(Protocol, StreamSocket):
    """A TCP connection for one query."""

    def __init__(self, clock: Any, family: int) -> None:
        StreamSocket.__init__(self, family, socket.SOCK_STREAM)
        self._inbox = _Inbox(clock)
        self._unread = bytearray()
        self._begun = False  # the one answer is whole, and being read
        self._ended = False

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        if len(self._unread) + len(data) > MAX_UNREAD:
            self._abort()
            return
        self._unread += data
        self._inbox.wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted."""
        self._ended = True
        self._inbox.wake()

    async def sendall(self, what: bytes, limit: float | None) -> None:
        """Send it all: a query is small and fits the transport's buffer."""
        assert self.transport is not None
        self.transport.write(what)

    async def recv(self, size: int, limit: float | None) -> bytes:
        """At most `size` octets; none at the end."""
        while not (self._begun or self._ended):
            whole = _LENGTH + int.from_bytes(self._unread[:_LENGTH], "big")
            if len(self._unread) >= max(whole, _LENGTH):
                message = shortened(bytes(self._unread[_LENGTH:whole]))
                self._unread[:whole] = len(message).to_bytes(_LENGTH, "big") + message
                self._begun = True
            else:
                await self._inbox.wait(limit)
        while not self._unread and not self._ended:
            await self._inbox.wait(limit)
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    async def close(self) -> None:
        """Drop the connection."""
        self._abort()

    def _abort(self) -> None:
        if self.transport is not None and not self._ended:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    async def getpeername(self) -> Any:
        """The server's address and port."""
        assert self.transport is not None
        peer: Any = self.transport.getPeer()
        return (peer.host, peer.port)

    async def getsockname(self) -> Any:
        """Our address and port."""
        assert self.transport is not None
        host: Any = self.transport.getHost()
        return (host.host, host.port)


def shortened(message: bytes) -> bytes:
    """A message of more than MOST_RECORDS with the first of its answers alone (RFC 1035 section 4.1)."""
    if len(message) < _HEADER:
        return message
    questions, *counts = _COUNTS.unpack_from(message, _COUNTS_AT)
    if questions + sum(counts) <= MOST_RECORDS:
        return message
    if questions > 1:  # no answer to what we ask
        return message[:_COUNTS_AT] + _COUNTS.pack(0, 0, 0, 0)
    answers = min(counts[0], MOST_RECORDS)
    try:
        at = _HEADER
        for _ in range(questions):
            at = _behind_name(message, at) + 4
        for _ in range(answers):
            at = _behind_name(message, at) + 10
            at += int.from_bytes(message[at - 2 : at], "big")
    except IndexError:
        return message  # dnspython comes no further than we did
    return message[:_COUNTS_AT] + _COUNTS.pack(questions, answers, 0, 0) + message[_HEADER:at]


def _behind_name(message: bytes, at: int) -> int:
    """Where a name ends (RFC 1035 section 4.1.4); raise IndexError where the message ends before."""
    while length := message[at]:
        if length >= 0xC0:
            return at + 2
        at += 1 + length
    return at + 1


class TwistedBackend(Backend):
    """Hand this to dns.asyncresolver: `resolver.resolve(..., backend=TwistedBackend(reactor))`."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._random = random.SystemRandom()  # RFC 5452 section 9.2: ports that cannot be guessed

    def name(self) -> str:
        """Its name."""
        return "twisted"

    async def make_socket(
        self,
        af: int,
        socktype: int,
        proto: int = 0,
        source: Any = None,
        destination: Any = None,
        limit: float | None = None,
        ssl_context: Any = None,
        server_hostname: str | None = None,
    ) -> Any:
        """A UDP port, or a TCP connection to `destination`; raise OSError or dns.exception.Timeout."""
        if socktype == socket.SOCK_DGRAM:
            return self._datagrams(af, source)
        if ssl_context is not None:
            raise NotImplementedError("DNS over TLS")
        return await self._stream(af, destination, limit)

    def _datagrams(self, family: int, source: Any) -> Datagrams:
        interface = source[0] if source else ("::" if family == socket.AF_INET6 else "0.0.0.0")
        datagrams = Datagrams(self._reactor, family)
        for _ in range(_PORT_CHOICES):
            try:
                self._reactor.listenUDP(self._random.randrange(1024, 65536), datagrams, interface, 65535)
                return datagrams
            except CannotListenError:
                continue
        self._reactor.listenUDP(0, datagrams, interface, 65535)
        return datagrams

    async def _stream(self, family: int, destination: Any, limit: float | None) -> Stream:
        host, port = destination[:2]
        endpoint_type = TCP6ClientEndpoint if family == socket.AF_INET6 else TCP4ClientEndpoint
        endpoint = endpoint_type(self._reactor, host, port)
        connecting: Deferred[Any] = connectProtocol(endpoint, Stream(self._reactor, family))
        stream: Stream = await within(connecting, limit, self._reactor)
        return stream

    async def sleep(self, interval: float) -> None:
        """Wait `interval` seconds."""
        await deferLater(self._reactor, interval)

    async def wait_for(self, awaitable: Awaitable[Any], limit: float | None) -> Any:
        """The awaitable's result, or dns.exception.Timeout after `limit` seconds."""
        return await within(Deferred.fromCoroutine(awaitable), limit, self._reactor)  # type: ignore[arg-type]
