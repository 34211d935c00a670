"""The one adapter between a transport and a session of `wire/`: SMTP, POP3 and IMAP all speak through it.

Theory of operation. Bytes go into the session; while it has events, the role answers them one after
another, and what the session makes of each answer is written. No coroutine lives while a connection is
silent: `_pump` starts with the bytes that complete an event and ends when the session wants more. What comes
while it runs is kept, and with it reading is paused, so a fast peer cannot fill memory; while the transport's
buffer is full, `say` waits, so a slow one cannot either. A connection that ends while an answer is being
made lets that answer finish (a message that was being stored is stored), and only then tells the role that
it is `lost`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailstack.mail.reply import Refused
from mailstack.net.binding import bindings
from mailstack.net.deadline import Deadline
from mailstack.net.peer import Peer, plain_address
from mailstack.net.starting import start
from mailstack.net.transcript import Transcript

_log = Logger(namespace="mailstack.net")

Say = Callable[[Any], Awaitable[None]]

FLUSH_SECONDS = 30.0  # how long a closing connection may take to read what it was sent
LEAVE_SECONDS = 1.0  # and when the server stops: many clients look at a connection only when they need it
WRITE_SECONDS = 300.0  # how long a peer may leave its answer unread before it is cut


class Vanished(Exception):
    """The peer is gone: there is nobody to say this to."""


class Session(Protocol):
    """A pure protocol core: bytes to events and back (see `mailstack.wire`)."""

    upgrading: bool
    closed: bool

    def receive_data(self, data: bytes) -> None: ...

    def next_event(self) -> Any | None: ...

    def send(self, reply: Any) -> bytes: ...

    def secured(self) -> None: ...

    def failure(self, event: Any) -> Any: ...


class Role(Protocol):
    """What answers one connection's events.

    A role with a `greet_pause` above 0 greets so many seconds later; a client that talks before is `early`.
    """

    idle_limit: float

    async def greet(self) -> Any | None: ...

    async def answer(self, event: Any) -> Any | None: ...

    def timed_out(self) -> Any | None: ...

    def dismissed(self) -> Any | None: ...

    def lost(self) -> None: ...


class Welcomes(Protocol):
    """A service's side of a listener: makes the role for each connection."""

    def welcome(self, peer: Peer, say: Say) -> Role: ...


@implementer(IHalfCloseableProtocol, IPushProducer)
class Conversation(TwistedProtocol):
    """One connection: a transport, a session and a role."""

    def __init__(
        self,
        session: Session,
        service: Welcomes,
        clock: IReactorTime,
        *,
        tls: Any | None = None,
        secure: bool = False,
        transcript: Callable[[Peer], Transcript] | None = None,
        gone: Callable[[Conversation], None] | None = None,
        origin: tuple[str, int] | None = None,
        alpn: tuple[bytes, ...] = (),
    ) -> None:
        self.alpn = alpn  # the names of what is spoken, for TLS
        self._session = session
        self._service = service
        self._clock = clock
        self._tls = tls
        self._secure = secure
        self._open_transcript = transcript
        self._transcript: Transcript | None = None
        self._gone = gone
        self._origin = origin  # the client's address and port, where a proxy has told them
        self._greeting: Any = None  # the call that greets, while a client must wait for it
        self._answering = False  # a pump is running
        self._paused = False  # we have asked the transport to stop reading
        self._connected = False
        self._leaving = False  # the server stops
        self._ending = False  # no more events are answered: the last words are on their way
        self._eof = False  # the peer has closed its side
        self._room: list[Deferred[None]] | None = None  # who waits for the transport's buffer, if it is full
        self._silence = Deadline(clock, self._silent)

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Greet the peer."""
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._connected = True
        transport.registerProducer(self, True)
        there, here = transport.getPeer(), transport.getHost()
        host, port = self._origin or (
            plain_address(getattr(there, "host", "127.0.0.1")),
            getattr(there, "port", 0),
        )
        self.peer = Peer(host, port, getattr(here, "port", 0), self._secure, self._cipher, self._bindings)
        if self._open_transcript:
            self._transcript = self._open_transcript(self.peer)
            if hasattr(self._session, "tap"):  # it can compress, and then tells itself what is said
                self._session.tap = self._transcript
        self._role = self._service.welcome(self.peer, self.say)
        pause = getattr(self._role, "greet_pause", 0.0)
        if pause:
            self._greeting = self._clock.callLater(pause, self._greet_now)
        else:
            self._run(self._greet)

    def dataReceived(self, data: bytes) -> None:
        """Hand bytes to the session; start answering if nobody does."""
        if self._ending:
            return
        if self._transcript and self._legible():
            self._transcript.received(data)
        self._session.receive_data(data)
        if self._greeting is not None:
            self.peer.early = True
            self._greeting.cancel()
            self._greet_now()
        elif self._answering:
            self._pause()
        else:
            self._run(self._pump)

    def readConnectionLost(self) -> None:
        """The peer has said all it will: answer what is there, then close."""
        self._eof = True
        if self._greeting is not None:
            self._abort()
        elif not self._answering:
            self._close()

    def writeConnectionLost(self) -> None:
        """The peer does not listen any more."""
        self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Release what the connection held, once the answer that is being made is done."""
        self._connected = False
        self._ending = True
        self._silence.cancel()
        self._cancel_greeting()
        answering = self._answering  # then the end of that tells the role
        self._wake()
        if self._gone:
            self._gone(self)
        if not answering:
            self._role.lost()

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        if self._room is None:
            self._room = []

    def resumeProducing(self) -> None:
        """The transport's buffer has room."""
        self._wake()

    def stopProducing(self) -> None:
        """The connection is lost; connectionLost follows, and wakes who waits.

        Who woke now would not know of it: all that the client had sent would be answered to nobody, at once.
        """

    # What the role calls.

    async def say(self, reply: Any) -> None:
        """Write `reply` and wait until the transport has room; raise Vanished if the peer is gone."""
        if not self._connected:
            raise Vanished
        transcript = self._transcript if self._transcript and self._legible() else None
        data = self._session.send(reply)
        if data:
            if transcript:
                transcript.sent(data)
            self.transport.write(data)  # type: ignore[union-attr]
        if self._session.closed and not self._answering:  # a farewell that nobody asked for
            self._close()
            return
        if self._room is not None:
            self._silence.set(WRITE_SECONDS)
            room: Deferred[None] = Deferred()
            self._room.append(room)
            await room
            if not self._connected:
                raise Vanished

    def shut_down(self) -> None:
        """The server stops: close when the answer that is being made is out; tell a client that is silent."""
        self._leaving = True
        self._cancel_greeting()
        if self._answering:
            self._eof = True
        elif self._ending:
            self._close()
        else:
            self._run(self._dismiss)

    # The work.

    def _greet_now(self) -> None:
        """The pause is over, or the client did not wait for its end."""
        self._greeting = None
        self._run(self._greet)

    def _cancel_greeting(self) -> None:
        if self._greeting is not None:
            self._greeting.cancel()
            self._greeting = None

    def _run(self, steps: Callable[[], Awaitable[None]]) -> None:
        self._answering = True
        start(self._steps(steps))

    async def _steps(self, steps: Callable[[], Awaitable[None]]) -> None:
        try:
            await steps()
        except Vanished:
            pass
        except Exception:
            _log.failure("a connection had to be cut", peer=self.peer.address)
            self._abort()
        finally:
            self._answering = False
        if not self._connected:
            self._role.lost()
        elif self._eof or self._ending:
            self._close()
        else:
            self._silence.set(self._role.idle_limit)
            self._resume()

    async def _greet(self) -> None:
        greeting = await self._role.greet()
        if greeting is not None:
            await self.say(greeting)
        self._ending = self._ending or self._session.closed
        await self._pump()

    async def _pump(self) -> None:
        session = self._session
        while not self._ending:
            event = session.next_event()
            if event is None and getattr(session, "busy", False):
                await deferLater(self._clock, 0)  # others have their turn
                continue
            if event is None:
                return
            reply = await self._answer(event)
            if reply is not None:
                await self.say(reply)
            if session.upgrading:
                self._start_tls()
            if session.closed:
                self._ending = True

    async def _answer(self, event: Any) -> Any | None:
        try:
            return await self._role.answer(event)
        except Refused as refused:
            return refused.reply
        except Vanished:
            raise
        except Exception:
            _log.failure(
                "unexpected error; the client may retry", peer=self.peer.address, event=type(event).__name__
            )
            return self._session.failure(event)

    def _legible(self) -> bool:
        """Whether the octets on the wire are the protocol's own."""
        return not getattr(self._session, "compressed", False)

    def _start_tls(self) -> None:
        transport: Any = self.transport
        transport.startTLS(self._tls)
        self.peer.secure = True
        self._session.secured()

    def _cipher(self) -> str | None:
        handle = getattr(self.transport, "getHandle", lambda: None)()
        name = getattr(handle, "get_cipher_name", lambda: None)()
        return f"{handle.get_protocol_version_name()} {name}" if handle and name else None

    def _bindings(self) -> dict[str, bytes]:
        return bindings(getattr(self.transport, "getHandle", lambda: None)())

    def _pause(self) -> None:
        if not self._paused and self._connected:
            self._paused = True
            self.transport.pauseProducing()  # type: ignore[union-attr]

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()  # type: ignore[union-attr]

    def _wake(self) -> None:
        waiting, self._room = self._room, None
        for room in waiting or ():
            room.callback(None)

    def _close(self) -> None:
        self._ending = True
        if self._connected:
            transport: Any = self.transport
            self._resume()  # or we would never see the peer's own end
            transport.unregisterProducer()
            transport.loseConnection()
            self._silence.set(LEAVE_SECONDS if self._leaving else FLUSH_SECONDS)

    def _abort(self) -> None:
        self._ending = True
        if self._connected:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def _silent(self) -> None:
        if self._ending or self._room is not None:
            self._abort()
        elif self._answering:
            self._silence.set(self._role.idle_limit)  # we are the slow ones; the peer waits for us
        else:
            self._run(self._time_out)

    async def _time_out(self) -> None:
        await self._farewell(self._role.timed_out())

    async def _dismiss(self) -> None:
        await self._farewell(self._role.dismissed())

    async def _farewell(self, farewell: Any | None) -> None:
        self._ending = True
        if farewell is not None:
            await self.say(farewell)
