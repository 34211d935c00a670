"""One HTTPS request and its answer: the server proven, what it says bounded, its connection ended with it.

Theory of operation. Twisted's Agent has no limit for a header section, cannot abort the connection that a
body comes by, and lets it live on when nobody waits for the body any more. So the connection is made by an
endpoint of ours that counts what the server says and keeps the transport. While the header section is read
it may say HEADERS octets, then so many as the body may have, with what chunks add. However the request ends,
well, with an error or by being cancelled, the connection is aborted.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectingCancelledError, ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

HEADERS = 32 * 1024  # octets of a status line and a header section, with what comes along


class TooMuch(Exception):
    """The server says more than it may; the text says than what."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked."""

    method: bytes
    url: str
    most: int  # octets of the answer's body
    accept: str = ""  # media type that is wanted
    body: bytes | None = None
    kind: str = ""  # its media type


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    kind: str  # the media type, lower case, without parameters
    body: bytes


async def ask(reactor: Any, endpoint: Any, request: Request) -> Answer:
    """The answer of the server behind an endpoint that speaks TLS.

    Raises TooMuch, and whatever Twisted and OpenSSL raise. Its time is for the caller to bound: it may be
    cancelled.
    """
    bounded = _Bounded(endpoint, request.most)
    headers = Headers({"User-Agent": ["mailstack"]})
    if request.accept:
        headers.addRawHeader("Accept", request.accept)
    producer = None
    if request.body is not None:
        headers.addRawHeader("Content-Type", request.kind)
        producer = FileBodyProducer(BytesIO(request.body), cooperator=_cooperator(reactor))
    agent = Agent.usingEndpointFactory(reactor, bounded)
    try:
        response: Any = await agent.request(request.method, request.url.encode("ascii"), headers, producer)
        bounded.headers_are_read()
        body = _Body(request.most)
        response.deliverBody(body)
        content = await body.done
    except ConnectingCancelledError:
        raise CancelledError from None  # as at any other time
    except Exception:
        if bounded.exceeded:
            raise TooMuch(bounded.limit) from None
        raise
    finally:
        bounded.end()
    [media] = (response.headers.getRawHeaders(b"content-type") or [b""])[:1]
    return Answer(response.code, media.decode("latin-1").partition(";")[0].strip().lower(), content)


def _too_long(most: int) -> str:
    return f"the answer has more than {most} octets"


@implementer(IAgentEndpointFactory)
class _Bounded:
    """Makes the one connection of a request, counts what comes by it, and ends it."""

    def __init__(self, endpoint: Any, most: int) -> None:
        self._endpoint = endpoint
        self._most = most
        self._left = HEADERS
        self._connection: _Counted | None = None
        self.limit = f"the answer's header section has more than {HEADERS} octets"
        self.exceeded = False

    def endpointForURI(self, uri: Any) -> _Bounded:
        """Called by Agent."""
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Called by Agent."""
        connecting: Deferred[Any] = self._endpoint.connect(_Counting(factory, self))
        return connecting.addCallback(lambda counted: counted.wrappedProtocol)

    def made(self, connection: _Counted) -> None:
        """There is a connection."""
        self._connection = connection

    def headers_are_read(self) -> None:
        """Now the body may come; sent by chunks it takes more than it has, but not many times as much."""
        self._left = 2 * self._most + HEADERS
        self.limit = _too_long(self._most)

    def takes(self, octets: int) -> bool:
        """Whether the server may say so many more."""
        self._left -= octets
        if self._left < 0 and not self.exceeded:
            self.exceeded = True
            self.end()
        return not self.exceeded

    def end(self) -> None:
        """Abort the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abortConnection()


class _Counted(ProtocolWrapper):
    """The protocol that Agent made, told of what comes as long as that is not too much."""

    factory: _Counting

    def makeConnection(self, transport: Any) -> None:
        self.factory.bounded.made(self)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        if self.factory.bounded.takes(len(data)):
            super().dataReceived(data)

    def abortConnection(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


class _Counting(WrappingFactory):
    protocol = _Counted
    noisy = False

    def __init__(self, wrapped: Any, bounded: _Bounded) -> None:
        super().__init__(wrapped)
        self.bounded = bounded


class _Body(Protocol):
    """Gathers a body of at most `most` octets."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._data = bytearray()
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep it, or give up."""
        if self.done.called:
            return
        self._data += data
        if len(self._data) > self._most:
            self.done.errback(TooMuch(_too_long(self._most)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, if all has come."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss, ConnectionDone):
            self.done.callback(bytes(self._data))
        else:
            self.done.errback(reason)


def _cooperator(reactor: Any) -> Any:
    return Cooperator(scheduler=lambda step: reactor.callLater(0, step))


def why(error: BaseException) -> str:
    """An error in a line; Agent wraps what happened in lists of failures."""
    if isinstance(error, CancelledError | TimeoutError):
        return "it took too long"
    reasons = getattr(error, "reasons", None)
    if reasons:
        return why(reasons[0].value)
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
