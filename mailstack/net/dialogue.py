"""The client's end of one SMTP connection, on Twisted: say a command, await the reply.

Theory of operation. `Dialogue` feeds a pure `ReplyReader` and wakes the one coroutine that waits. Each wait
has its limit from RFC 5321 section 4.5.3.2 on the injected clock, for the whole reply, so a server that
sends an octet now and then gains nothing. All replies of one attempt together have a limit, too: else a
server that is always just in time could hold an attempt for hours. Content that is being sent is bounded by
the room that each of its pieces must get. Whatever goes wrong with the connection is raised as `Broken`, from
then on by every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
)
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.net.client_tls import ClientTls, Shown
from mailstack.net.deadline import Deadline
from mailstack.net.peer import Peer
from mailstack.net.prompt import offer
from mailstack.net.transcript import Transcript
from mailstack.wire.smtp.client import BadReply, DotStuffing, ReplyReader
from mailstack.work import Work

CLOSING = 10.0  # seconds to close politely
AT_ONCE = 64 * 1024  # octets of a message that is written whole
DATA = b"DATA\r\n"


class Broken(Exception):
    """The connection failed, or what came over it made no sense; the text says how, for a log or a bounce."""


class TlsFailed(Broken):
    """STARTTLS was agreed and the handshake failed: without it, the server may be reached still."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait, by phase (RFC 5321 section 4.5.3.2)."""

    connect: float = 30.0  # for each address
    greeting: float = 300.0
    command: float = 300.0  # EHLO, STARTTLS, MAIL, RCPT
    data: float = 120.0  # DATA's 354
    block: float = 180.0  # for room to send more of the content
    end: float = 600.0  # the reply to the content
    attempt: float = 3600.0  # all replies of one attempt; that to the content has its own time in any case


async def connect(
    reactor: Any,
    address: str,
    port: int,
    timeouts: Timeouts,
    transcript: Callable[[Peer], Transcript] | None = None,
) -> Dialogue:
    """A connection to an IP address, or to a socket in the file system where `address` is a path.

    Raises Broken.
    """
    endpoint: Any
    if address.startswith("/"):
        endpoint = UNIXClientEndpoint(reactor, address, timeout=timeouts.connect)
    else:
        endpoint_type = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        endpoint = endpoint_type(reactor, address, port, timeout=timeouts.connect)
    try:
        dialogue = Dialogue(reactor, timeouts, transcript)
        await connectProtocol(endpoint, dialogue)
    except (CancelledError, ConnectingCancelledError):
        raise CancelledError from None  # whoever asked gives up: no reason to try the next address
    except Exception as error:
        where = address if address.startswith("/") else f"{address}:{port}"
        raise Broken(f"cannot connect to {where}: {_short(error)}") from error
    return dialogue


@implementer(IHandshakeListener)
class Dialogue(Protocol):
    """One connection to a server. One coroutine uses it at a time."""

    def __init__(
        self, clock: Any, timeouts: Timeouts, transcript: Callable[[Peer], Transcript] | None = None
    ) -> None:
        self._clock = clock
        self.timeouts = timeouts
        self._open_transcript = transcript
        self._transcript: Transcript | None = None
        self._reader = ReplyReader()
        self._waiting: Deferred[None] | None = None
        self._awaited = ""  # for what
        self._deadline = Deadline(clock, self._time_out)
        self._broken: Broken | None = None
        self._connected = False
        self._closing: Any = None
        self._full = False  # the transport's buffer
        self._securing = False
        self.tls: str | None = None  # protocol version, once secured
        self._in_content = False  # what is written now is content to the server, whatever we mean
        self.content_sent = False  # to its last octet: the server may have taken it
        self._waited = 0.0  # seconds for replies, in this attempt

    # What the caller asks.

    async def greeting(self) -> Reply:
        """The server's first words; raise Broken."""
        return await self._reply(self.timeouts.greeting, "greeting")

    async def command(self, line: bytes, wait: float | None = None) -> Reply:
        """Say `line`, return its reply; `wait` seconds, else those of a command. Raise Broken."""
        [reply] = await self.pipeline([line], wait)
        return reply

    async def pipeline(self, lines: Sequence[bytes], wait: float | None = None) -> list[Reply]:
        """Say several lines at once and return their replies (RFC 2920); raise Broken.

        There are fewer replies where one is 421, or where the connection breaks after a refusal: that holds.
        """
        self._write(b"".join(lines))
        replies: list[Reply] = []
        for line in lines:
            limit = self.timeouts.data if line == DATA else self.timeouts.command
            try:
                replies.append(await self._reply(limit if wait is None else wait, _verb(line)))
            except Broken:
                if any(reply.code >= 400 for reply in replies):
                    break
                raise
            if replies[-1].code == 421:
                break
        return replies

    async def secret(self, line: bytes) -> Reply:
        """As `command`, for what no transcript may show."""
        self._write(line, secret=True)
        return await self._reply(self.timeouts.command, "reply to credentials")

    async def start_tls(self, server_name: str, creator: ClientTls | None = None) -> Shown:
        """TLS from here, whoever answers (RFC 3207, RFC 7435); raise TlsFailed.

        Returns what the server showed; `creator` may have roots to judge that by.

        Call it after the 220 (or, for TLS from the first octet, before anything); what the server sent behind
        that was not protected, and breaks the connection.
        """
        if not self._reader.idle:
            self._break(TlsFailed("more was sent after the reply to STARTTLS"))
        self.check()
        self._securing = True
        creator = creator or ClientTls(server_name)
        self.transport.startTLS(creator)  # type: ignore[union-attr]
        try:
            while self._securing:
                await self._wait(self.timeouts.command, "TLS handshake")
        except Broken as error:
            self._abort()
            raise TlsFailed(str(error)) from error
        return creator.shown()

    async def send_content(self, message: Message, work: Work, replies: int = 1) -> list[Reply]:
        """After a 354: send `message`, return the replies to it, in LMTP several; raise Broken.

        Octets in a file are read in a thread and sent as the connection takes them. A refusal that comes
        before the end stops the sending: it is returned for all, and the connection is of no more use.
        """
        stuffing = DotStuffing()
        if message.size <= AT_ONCE:
            return await self._send_whole(stuffing, message, work, replies)
        return await self._send(
            map(stuffing.encode, message.chunks()), stuffing.finish, message, work, replies
        )

    async def send_chunk(self, message: Message, work: Work, replies: int = 1) -> list[Reply]:
        """As `send_content`, by one BDAT command, octet for octet (RFC 3030 section 2)."""
        self._write(b"BDAT %d LAST\r\n" % message.size)
        return await self._send(message.chunks(), lambda: b"", message, work, replies)

    async def _send_whole(
        self, stuffing: DotStuffing, message: Message, work: Work, replies: int
    ) -> list[Reply]:
        """A short message: one trip to a thread at most, one write."""
        self._in_content = True
        data = message.read() if message.in_memory else await work.files(message.read)
        if not self._reader.idle:
            return [await self._early()] * replies
        self.content_sent = True
        self._write(stuffing.encode(data) + stuffing.finish())
        self._in_content = False
        return await self._verdicts(replies)

    async def _send(
        self,
        chunks: Iterator[bytes],
        finish: Callable[[], bytes],
        message: Message,
        work: Work,
        replies: int,
    ) -> list[Reply]:
        outlet = _Outlet(self)
        self._in_content = True
        self.transport.registerProducer(outlet, True)  # type: ignore[union-attr]
        in_memory = message.in_memory
        try:
            while True:
                chunk = next(chunks, None) if in_memory else await work.files(next, chunks, None)
                if chunk is None:
                    break
                self._write(chunk)
                while self._full and self._reader.idle:
                    await self._wait(self.timeouts.block, "room to send the content")
                if not self._reader.idle:
                    return [await self._early()] * replies
            self.content_sent = True
            self._write(finish())
            self._in_content = False
        finally:
            if self._connected:
                self.transport.unregisterProducer()  # type: ignore[union-attr]
        return await self._verdicts(replies)

    async def _verdicts(self, number: int) -> list[Reply]:
        """The replies to the content; fewer than asked for where the connection breaks after the first."""
        replies = [await self._reply(self.timeouts.end, "reply to the content", bounded=False)]
        try:
            while len(replies) < number:
                replies.append(await self._reply(self.timeouts.end, "reply to the content"))
        except Broken:
            pass  # what LMTP has said of some recipients holds
        return replies

    async def _early(self) -> Reply:
        """A refusal holds; nobody can have taken what was not sent, so anything else is a reply too many."""
        reply = await self._reply(self.timeouts.command, "reply to the content")
        self._break(Broken(f"the server answered before the end of the content: {reply}"))
        self._abort()
        if reply.code < 400:
            self.check()
        return reply

    def begin_attempt(self) -> None:
        """A kept connection is for another message now: its server has all its time again."""
        self._waited = 0.0

    @property
    def is_worn(self) -> bool:
        """Whether so little is left of the attempt's time that one more command might leave none for DATA."""
        limits = self.timeouts
        return limits.attempt - self._waited < limits.command + limits.data

    @property
    def usable(self) -> bool:
        """Whether a next transaction may be tried: it is open, and the server has said nothing unasked."""
        return self._connected and self._broken is None and self._closing is None and self._reader.idle

    def abort(self) -> None:
        """Close without a word."""
        self._break(Broken("given up"))
        self._abort()

    def quit(self) -> None:
        """Say QUIT and close, without waiting for the answer: what matters has been said."""
        if self._in_content:
            self._abort()  # without its end mark, no server takes the content for a message
        elif self._connected and self._closing is None:
            if self._broken is None:
                self._write(b"QUIT\r\n")
            self._closing = self._clock.callLater(CLOSING, self._abort)
            self.transport.loseConnection()  # type: ignore[union-attr]

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Begin."""
        transport: Any = self.transport
        self._connected = True
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        if self._open_transcript is not None:
            there, here = transport.getPeer(), transport.getHost()
            host, port = getattr(there, "host", "127.0.0.1"), getattr(there, "port", 0)
            self._transcript = self._open_transcript(Peer(host, port, getattr(here, "port", 0), False))

    def dataReceived(self, data: bytes) -> None:
        """Read replies."""
        if self._broken is not None:
            return
        if self._transcript is not None:
            self._transcript.sent(data)
        self._reader.receive_data(data)
        self._wake()

    def handshakeCompleted(self) -> None:
        """TLS is on."""
        self._securing = False
        self.tls = self.transport.getHandle().get_protocol_version_name()  # type: ignore[union-attr]
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        self._connected = False
        self._deadline.cancel()
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._break(Broken(f"connection lost: {_short(reason.value)}"))
        self._wake()

    # The work.

    async def _reply(self, wait: float, what: str, bounded: bool = True) -> Reply:
        """The next reply within `wait` seconds, and those of the attempt if it is `bounded`; raise Broken."""
        began = self._clock.seconds()
        left = self.timeouts.attempt - self._waited
        if left < wait and bounded:
            wait, what = max(0.0, left), f"{what}: its replies took {self.timeouts.attempt:.0f} s in all"
        try:
            while True:
                reply = self._next_reply()
                if reply is not None:
                    return reply
                await self._wait(began + wait - self._clock.seconds(), what)
        finally:
            self._waited += self._clock.seconds() - began

    def _next_reply(self) -> Reply | None:
        try:
            return self._reader.next_reply()
        except BadReply as error:
            self._break(Broken(f"bad reply: {error}"))
            self._abort()
            raise Broken(f"bad reply: {error}") from error

    async def _wait(self, seconds: float, what: str) -> None:
        """Until something happens; raise Broken if nothing does within `seconds`, or nothing more can."""
        self.check()
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        self._awaited = what
        self._deadline.set(max(0.0, seconds))
        try:
            await waiting
        finally:
            self._waiting = None
        if self._reader.idle:
            self.check()

    def _time_out(self) -> None:
        if self._waiting is not None:
            self._break(Broken(f"timed out waiting for {self._awaited}"))
            self._wake()
            self._abort()

    def _write(self, data: bytes, secret: bool = False) -> None:
        self.check()
        if self._transcript is not None:
            self._transcript.received(b"(credentials)\r\n" if secret else data)
        if isinstance(self.transport, Connection) and len(data) <= 2 * AT_ONCE:
            data = offer(self.transport, data)
        if data:
            self.transport.write(data)  # type: ignore[union-attr]

    def check(self) -> None:
        """Raise Broken where the connection is."""
        if self._broken is not None:
            raise self._broken

    def _break(self, why: Broken) -> None:
        if self._broken is None:
            self._broken = why

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def _abort(self) -> None:
        if self._connected:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def room(self, full: bool) -> None:
        """The transport's buffer is full, or has room again."""
        self._full = full
        if not full:
            self._wake()


@implementer(IPushProducer)
class _Outlet:
    """Tells a dialogue when its transport is full: Protocol's own names for this are not free."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue

    def pauseProducing(self) -> None:
        self._dialogue.room(full=True)

    def resumeProducing(self) -> None:
        self._dialogue.room(full=False)

    def stopProducing(self) -> None:
        self._dialogue.room(full=False)


def _verb(line: bytes) -> str:
    return f"reply to {line.split(b' ')[0].strip().decode('ascii', 'replace')}"


def _short(error: BaseException | None) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
