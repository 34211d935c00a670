"""One document by HTTPS: the certificate checked, the size and the time bounded, no redirect followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers


class FetchFailed(Exception):
    """The document could not be had; the message says why, in one line."""


class Fetcher:
    """Gets documents from servers that `ca` (PEM; None: the system's authorities) vouches for.

    Raises OSError or ValueError where that file cannot be read.
    """

    def __init__(self, reactor: Any, timeout: float, most: int, ca: Path | None = None) -> None:
        self._reactor = reactor
        self._timeout = timeout  # seconds for all of it
        self._most = most  # octets of a document
        policy = BrowserLikePolicyForHTTPS(trustRoot=_trust(ca))
        self._agent: Any = Agent(reactor, policy, connectTimeout=timeout)

    async def get(self, url: str) -> bytes:
        """The document at an https URL; raise FetchFailed."""
        if not url.startswith("https://"):
            raise FetchFailed(f"{url[:100]}: not an https URL")
        fetching = Deferred.fromCoroutine(self._get(url))
        fetching.addTimeout(self._timeout, self._reactor)
        try:
            return await fetching
        except FetchFailed:
            raise
        except Exception as error:  # of Twisted, OpenSSL and service_identity, without a common root
            words = str(error) if isinstance(error, ConnectError) else repr(error)
            raise FetchFailed(f"{url}: {words[:200]}") from error

    async def _get(self, url: str) -> bytes:
        headers = Headers({"Accept": ["application/json"], "User-Agent": ["mailstack"]})
        response = await self._agent.request(b"GET", url.encode("ascii"), headers)
        body = _Body(self._most)
        response.deliverBody(body)
        data: bytes = await body.done
        if response.code != 200:
            raise FetchFailed(f"{url}: HTTP status {response.code}")
        return data


class _Body(Protocol):
    """Gathers a body of at most `most` octets."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._pieces: list[bytes] = []
        self.done: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        """Keep it, or give up."""
        self._left -= len(data)
        if self._left >= 0:
            self._pieces.append(data)
        elif not self.done.called:
            self.done.errback(FetchFailed("the document is too big"))
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, if all has come."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._pieces))
        else:
            self.done.errback(reason)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


def _trust(ca: Path | None) -> Any:
    if ca is None:
        return platformTrust()
    found = x509.load_pem_x509_certificates(ca.read_bytes())
    pem = [_pem(one) for one in found]
    return trustRootFromCertificates([Certificate.loadPEM(one) for one in pem])


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)
