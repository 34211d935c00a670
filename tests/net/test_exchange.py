"""Requests by HTTPS to servers that mean no good: each ends, in bounded memory, and its connection with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import TestCase

from mailstack.net import https
from mailstack.net.client_tls import Roots
from mailstack.net.exchange import HEADERS, Answer, Request, TooMuch, ask
from mailstack.net.fetch import Fetcher, FetchFailed
from mailstack.net.reach import Reach
from tests.certificates import issue
from tests.running import PATIENCE

reactor: Any = real_reactor
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
MOST = 10_000


class Server(Protocol):
    """Says something once it is asked."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def dataReceived(self, data: bytes) -> None:
        if self.site.asked is None:
            self.site.asked = data
            self.site.says(self.transport)
            if not self.site.heard.called:
                self.site.heard.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.site.lost.called:
            self.site.lost.callback(None)


class Site(Factory):
    noisy = False

    def __init__(self) -> None:
        self.asked: bytes | None = None
        self.says: Callable[[Any], None] = lambda transport: None
        self.heard: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> Server:
        return Server(self)


class Two:
    """A resolver that knows two addresses of every host."""

    async def addresses(self, host: str) -> list[str]:
        return ["127.0.0.1", "127.0.0.1"]


def says(data: bytes) -> Callable[[Any], None]:
    return lambda transport: transport.write(data)


class ExchangeTests(TestCase):
    timeout = PATIENCE

    def setUp(self) -> None:
        self.serve("example.test")

    def serve(self, *names: str) -> None:
        """A server whose certificate has these names."""
        self.files = issue(Path(self.mktemp()), *names)
        self.site = Site()
        context = DefaultOpenSSLContextFactory(str(self.files.key), str(self.files.certificate))
        port = reactor.listenSSL(0, self.site, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    def ask(self, host: str = "example.test") -> Deferred[Answer]:
        plain = HostnameEndpoint(reactor, "127.0.0.1", self.port)
        endpoint = wrapClientTLS(Roots(self.files.ca).proving(host), plain)
        return Deferred.fromCoroutine(ask(reactor, endpoint, Request(b"GET", f"https://{host}/x", MOST)))

    async def test_an_answer(self) -> None:
        for end, body in (
            (b"Content-Length: 3\r\n\r\nabc", b"abc"),
            (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
            (b"Content-Length: %d\r\n\r\n" % MOST + b"x" * MOST, b"x" * MOST),
        ):
            self.site.says, self.site.asked, self.site.lost = says(OK + end), None, Deferred()
            self.assertEqual(await self.ask(), Answer(200, "text/plain", body))
            await self.site.lost

    async def test_more_than_it_may_say(self) -> None:
        for said in (
            OK + b"\r\n" + b"x" * (MOST + 1),
            OK + b"Content-Length: 1000000000\r\n\r\n" + b"x" * (MOST + 1),
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (MOST + 1),
            OK + b"X: y\r\n" + b" folded\r\n" * HEADERS,
            OK + b"a:\n" * HEADERS,
            b"HTTP/1.1 100 Continue\r\n\r\n" * HEADERS,
        ):
            self.site.says, self.site.asked, self.site.lost = says(said), None, Deferred()
            with self.assertRaises(TooMuch):
                await self.ask()
            await self.site.lost  # else it could go on for ever

    async def test_a_body_that_nobody_waits_for_any_more(self) -> None:
        self.site.says = says(OK + b"Content-Length: 100\r\n\r\nbegun")
        asked = self.ask()
        await self.site.heard
        asked.addErrback(lambda _: None)
        asked.cancel()
        await self.site.lost

    async def test_a_document_that_comes_too_slowly(self) -> None:
        self.site.says = says(OK + b"Content-Length: 100\r\n\r\nbegun")
        fetcher = Fetcher(reactor, 0.3, MOST, self.files.ca)
        with self.assertRaisesRegex(FetchFailed, "it took too long"):
            await fetcher.get(f"https://localhost:{self.port}/keys")
        if self.site.asked is not None:
            await self.site.lost

    async def test_the_time_is_for_all_addresses_together(self) -> None:
        self.patch(https, "SECONDS", 0.3)
        self.site.says = says(OK + b"Content-Length: 100\r\n\r\nbegun")
        client = https.Https(reactor, Two(), Roots(self.files.ca), self.port, Reach(["127.0.0.0/8"]))  # type: ignore[arg-type]
        with self.assertRaisesRegex(https.HttpsError, "it took too long"):
            await client.get("https://example.test/x", MOST)

    def test_the_time_counts_while_it_connects(self) -> None:
        clock = MemoryReactorClock()
        client = https.Https(clock, Two(), Roots(self.files.ca), 443, Reach(["127.0.0.0/8"]))  # type: ignore[arg-type]
        asked = Deferred.fromCoroutine(client.get("https://example.test/x", MOST))
        self.assertEqual(len(clock.connectors), 1)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(len(clock.connectors), 1)

    async def test_a_certificate_with_a_name_that_is_none_is_not_for_every_host(self) -> None:
        """RFC 9525 section 6: a name in it must match, whatever else it names."""
        self.serve("127.0.0.1", "*.*.test", "example.test")  # issued as DNS names
        for host in ("another.test", "example.test"):
            with self.assertRaises(Exception) as caught:
                await self.ask(host)
            self.assertIn("certificate verify failed", str(getattr(caught.exception, "reasons", caught)))
        self.assertIsNone(self.site.asked)

    async def test_another_name(self) -> None:
        with self.assertRaises(Exception) as caught:
            await self.ask("another.test")
        self.assertIn("certificate verify failed", str(getattr(caught.exception, "reasons", caught)))
        self.assertIsNone(self.site.asked)
