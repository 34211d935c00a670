"""One document by HTTPS: the certificate checked, the size and the time bounded, no redirect followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS

from mailstack.net.client_tls import Roots
from mailstack.net.exchange import Request, ask, why


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
        try:
            self._roots = Roots(ca)
        except SSL.Error as error:
            raise ValueError(f"{ca}: no certificate of an authority in PEM") from error

    async def get(self, url: str) -> bytes:
        """The document at an https URL; raise FetchFailed."""
        if not url.startswith("https://"):
            raise FetchFailed(f"{url[:100]}: not an https URL")
        fetching = Deferred.fromCoroutine(self._get(url))
        fetching.addTimeout(self._timeout, self._reactor)
        try:
            return await fetching
        except (FetchFailed, CancelledError):
            raise
        except Exception as error:  # of Twisted and OpenSSL, without a common root
            raise FetchFailed(f"{url[:200]}: {why(error)}") from error

    async def _get(self, url: str) -> bytes:
        parts = urlsplit(url)
        if not parts.hostname:
            raise FetchFailed(f"{url[:100]}: no host")
        plain = HostnameEndpoint(self._reactor, parts.hostname, parts.port or 443, timeout=self._timeout)
        endpoint = wrapClientTLS(self._roots.proving(parts.hostname), plain)
        answer = await ask(self._reactor, endpoint, Request(b"GET", url, self._most, "application/json"))
        if answer.status != 200:
            raise FetchFailed(f"{url[:200]}: HTTP status {answer.status}")
        return answer.body
