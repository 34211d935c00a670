"""HTTPS as a client, verified, for small things: an MTA-STS policy, a TLS report.

Theory of operation. The host's addresses come from our resolver, without those that are out of `reach`; TLS
must prove the host's name to the system's authorities or those of a file. No redirect is followed, no cookie
kept; an answer of more than a limit, or one that takes longer than another, ends in HttpsError.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS

from mailstack.net.client_tls import Roots
from mailstack.net.exchange import Answer, Request, ask, why
from mailstack.net.reach import Reach
from mailstack.net.resolver import DnsError, Resolver

__all__ = ["Answer", "Https", "HttpsError"]

SECONDS = 30.0  # for all of one request
CONNECTING = 10.0  # seconds, to one address
MOST_ADDRESSES = 4
_MOST_OF_REPLY = 64 * 1024  # octets of the answer to what we post


class HttpsError(Exception):
    """No answer; the text says why."""


class Https:
    """Makes requests of servers that `roots` vouch for; `port` is for tests."""

    def __init__(
        self,
        reactor: Any,
        resolver: Resolver,
        roots: Roots,
        port: int | None = None,
        reach: Reach | None = None,
    ) -> None:
        self._reactor = reactor
        self._resolver = resolver
        self._roots = roots
        self._port = port
        self._reach = reach or Reach()

    async def get(self, url: str, most: int) -> Answer:
        """GET an https URL, at most `most` octets of body; raise HttpsError."""
        return await self._answer(Request(b"GET", url, most))

    async def post(self, url: str, body: bytes, kind: str) -> Answer:
        """POST to an https URL; raise HttpsError."""
        return await self._answer(Request(b"POST", url, _MOST_OF_REPLY, body=body, kind=kind))

    async def _answer(self, request: Request) -> Answer:
        asked = Deferred.fromCoroutine(self._ask(request))
        asked.addTimeout(SECONDS, self._reactor)
        try:
            return await asked
        except (HttpsError, CancelledError):
            raise
        except Exception as error:
            raise HttpsError(why(error)) from error

    async def _ask(self, request: Request) -> Answer:
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
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            plain = kind(self._reactor, address, port, timeout=CONNECTING)
            try:
                return await ask(self._reactor, wrapClientTLS(self._roots.proving(host), plain), request)
            except CancelledError:
                raise  # the time is over, for the other addresses too
            except Exception as error:
                last = error
        raise last
