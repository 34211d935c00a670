"""HTTPS as a client, verified, for small things: an MTA-STS policy, a TLS report.

Theory of operation. Twisted's Agent over endpoints of our own: the host's addresses come from our resolver,
without those that are out of `reach`; TLS must prove the host's name to the system's authorities or those of
a file. No redirect is followed, no cookie kept; an answer of more than a limit, or one that takes longer than
another, ends in HttpsError.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from mailstack.net.reach import Reach
from mailstack.net.resolver import DnsError, Resolver

SECONDS = 30.0  # for all of one request
CONNECTING = 10.0  # seconds, to one address
MOST_ADDRESSES = 4


@dataclass(frozen=True, slots=True)
class _Request:
    method: bytes
    url: str
    most: int  # octets of the answer's body
    body: bytes | None = None
    kind: str = ""  # its media type


class HttpsError(Exception):
    """No answer; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    kind: str  # the media type, lower case, without parameters
    body: bytes


class Https:
    """Makes requests. `ca_file` is a PEM file of authorities instead of the system's; `port` is for tests."""

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        ca_file: Path | None = None,
        port: int | None = None,
        reach: Reach | None = None,
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._ca_file = ca_file
        self._port = port
        self._reach = reach or Reach()

    async def get(self, url: str, most: int) -> Answer:
        """GET an https URL, at most `most` octets of body; raise HttpsError."""
        return await self._answer(_Request(b"GET", url, most))

    async def post(self, url: str, body: bytes, kind: str) -> Answer:
        """POST to an https URL; raise HttpsError."""
        return await self._answer(_Request(b"POST", url, 64 * 1024, body, kind))

    async def _answer(self, request: _Request) -> Answer:
        asked = Deferred.fromCoroutine(self._ask(request))
        asked.addTimeout(SECONDS, self._reactor)
        try:
            return await asked
        except HttpsError:
            raise
        except Exception as error:
            raise HttpsError(_why(error)) from error

    async def _ask(self, request: _Request) -> Answer:
        parts = urlsplit(request.url)
        if parts.scheme != "https" or not parts.hostname or parts.username is not None:
            raise HttpsError("not an https URL")
        host, port = parts.hostname, self._port or parts.port or 443
        try:
            addresses = await self._resolver.addresses(host)
        except DnsError as error:
            raise HttpsError(str(error)) from error
        last: Exception = HttpsError(f"{host} has no public address")
        for address in [one for one in addresses if self._reach.covers(one)][:MOST_ADDRESSES]:
            try:
                return await self._ask_one(request, host, address, port)
            except HttpsError:
                raise
            except Exception as error:
                last = error
        raise last

    async def _ask_one(self, request: _Request, host: str, address: str, port: int) -> Answer:
        endpoints = _Endpoints(self._reactor, host, address, port, self._trust())
        agent = Agent.usingEndpointFactory(self._reactor, endpoints)
        headers = Headers({b"User-Agent": [b"mailstack"]})
        producer = None
        if request.body is not None:
            headers.addRawHeader(b"Content-Type", request.kind.encode("ascii"))
            producer = FileBodyProducer(BytesIO(request.body), cooperator=_cooperator(self._reactor))
        response: Any = await agent.request(request.method, request.url.encode("ascii"), headers, producer)
        collected: Deferred[bytes] = Deferred()
        response.deliverBody(_Body(collected, request.most))
        [media] = (response.headers.getRawHeaders(b"content-type") or [b""])[:1]
        content = await collected
        return Answer(response.code, media.decode("latin-1").partition(";")[0].strip().lower(), content)

    def _trust(self) -> Any:
        if self._ca_file is None:
            return platformTrust()
        texts = self._ca_file.read_text("ascii").split("-----END CERTIFICATE-----")
        found = [f"{text}-----END CERTIFICATE-----\n" for text in texts if "BEGIN CERTIFICATE" in text]
        return trustRootFromCertificates([Certificate.loadPEM(text.encode()) for text in found])


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """The one address that this request goes to."""

    def __init__(self, reactor: Any, host: str, address: str, port: int, trust: Any) -> None:
        self._reactor = reactor
        self._host = host
        self._address = address
        self._port = port
        self._trust = trust

    def endpointForURI(self, uri: Any) -> Any:
        kind = TCP6ClientEndpoint if ":" in self._address else TCP4ClientEndpoint
        plain = kind(self._reactor, self._address, self._port, timeout=CONNECTING)
        return wrapClientTLS(optionsForClientTLS(self._host, trustRoot=self._trust), plain)


def _cooperator(reactor: Any) -> Any:
    return Cooperator(scheduler=lambda step: reactor.callLater(0, step))


class _Body(Protocol):
    """Collects a body up to a limit."""

    def __init__(self, collected: Deferred[bytes], most: int) -> None:
        self._collected = collected
        self._most = most
        self._data = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > self._most and not self._collected.called:
            self._collected.errback(HttpsError(f"the answer has more than {self._most} octets"))
            self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._collected.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss, ConnectionDone):
            self._collected.callback(bytes(self._data))
        else:
            self._collected.errback(reason)


def _why(error: BaseException) -> str:
    """In a line; Agent wraps what happened in lists of failures."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _why(reasons[0].value)
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]
