"""The resolver against our own name server, over real UDP and TCP on loopback."""

from __future__ import annotations

import struct
from collections.abc import Awaitable
from typing import Any, TypeVar

import dns.message
import dns.rcode
import pytest
from dns.rdatatype import RdataType
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SkipTest, TestCase

from mailstack.net.dns_backend import shortened
from mailstack.net.dns_settings import DnsConfig, split_address
from mailstack.net.name_server import NameServer
from mailstack.net.resolver import NoSuchDomain, NullMx, Resolver, TemporaryDnsError
from tests.running import PATIENCE

T = TypeVar("T")

LONG_TXT = ['TXT "%s"' % (str(n) * 200) for n in range(1, 10)]
ZONE = {
    "many.test": ["MX 20 c.many.test.", "MX 10 b.many.test.", "MX 10 A.many.test."],
    "a.many.test": ["A 192.0.2.1", "AAAA 2001:db8::1"],
    "alias.test": ["CNAME many.test."],
    "circle.test": ["CNAME circle.test."],
    "null.test": ["MX 0 ."],
    "bare.test": ["A 192.0.2.9"],
    "six.test": ["AAAA 2001:db8::6"],
    "text.test": ['TXT "v=spf1" " -all"'],
    "long.test": LONG_TXT,
    "xn--bcher-kva.test": ["A 192.0.2.7"],
    "crowded.test": [f"MX {n} mx.crowded.test." for n in range(2000)],
}


class Counting(NameServer):
    """Counts the questions, and answers some badly."""

    asked = 0
    silent = False

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        self.asked += 1
        if self.silent:
            return None
        if query.question[0].name.to_text() == "broken.test.":
            response = dns.message.make_response(query)
            response.set_rcode(dns.rcode.SERVFAIL)
            return response
        return super().answer(query)


class TickingReactor:
    """The real network, with a clock that only the cache sees."""

    def __init__(self) -> None:
        self.clock = Clock()

    def seconds(self) -> float:
        return self.clock.seconds()

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


def run(awaitable: Awaitable[T]) -> Deferred[T]:
    return Deferred.fromCoroutine(awaitable)  # type: ignore[arg-type]


class ResolverCase(TestCase):
    def setUp(self) -> None:
        self.server = Counting(reactor, ZONE)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        self.ticking = TickingReactor()
        self.resolver = self.make()

    def make(self, **options: float) -> Resolver:
        address = f"127.0.0.1:{self.server.port}"
        return Resolver(self.ticking, DnsConfig((address,), **options))

    async def refusal(self, awaitable: Awaitable[Any], kind: type[Exception]) -> Exception:
        try:
            found = await awaitable
        except kind as error:
            return error
        raise AssertionError(f"{found} and no {kind.__name__}")


class TestLookUps(ResolverCase):
    async def test_mx_by_preference(self) -> None:
        expected = [(10, "a.many.test"), (10, "b.many.test"), (20, "c.many.test")]
        self.assertEqual(await self.resolver.mx("many.test"), expected)
        self.assertEqual(await self.resolver.mx("MANY.test."), expected)
        self.assertEqual(await self.resolver.mx("alias.test"), expected)

    async def test_no_mx_is_no_error_and_a_null_mx_is_one(self) -> None:
        self.assertEqual(await self.resolver.mx("bare.test"), [])
        await self.refusal(self.resolver.mx("null.test"), NullMx)

    async def test_no_such_domain(self) -> None:
        for name in ("nowhere.test", "a..b.test", "x" * 70 + ".test", ".".join(["abc"] * 90), "\\999.test"):
            await self.refusal(self.resolver.mx(name), NoSuchDomain)
        await self.refusal(self.resolver.addresses("nowhere.test"), NoSuchDomain)

    async def test_addresses_of_both_families(self) -> None:
        self.assertEqual(await self.resolver.addresses("a.many.test"), ["192.0.2.1", "2001:db8::1"])
        self.assertEqual(await self.resolver.addresses("bare.test"), ["192.0.2.9"])
        self.assertEqual(await self.resolver.addresses("six.test"), ["2001:db8::6"])
        self.assertEqual(await self.resolver.addresses("text.test"), [])
        self.assertEqual(await self.resolver.addresses("bücher.test"), ["192.0.2.7"])

    async def test_what_is_not_asked_of_the_dns(self) -> None:
        self.assertEqual(await self.resolver.addresses("192.0.2.44"), ["192.0.2.44"])
        self.assertEqual(await self.resolver.addresses("2001:db8::44"), ["2001:db8::44"])
        self.assertEqual(await self.resolver.addresses("localhost"), ["127.0.0.1", "::1"])
        self.assertEqual(self.server.asked, 0)

    async def test_txt_strings_are_joined(self) -> None:
        self.assertEqual(await self.resolver.txt("text.test"), [b"v=spf1 -all"])

    async def test_a_truncated_answer_is_asked_again_over_tcp(self) -> None:
        found = await self.resolver.txt("long.test")
        self.assertEqual(sorted(found), [(str(n) * 200).encode() for n in range(1, 10)])
        self.assertEqual(self.server.asked, 2)

    async def test_of_an_answer_of_thousands_only_the_first_records_are_taken_apart(self) -> None:
        """All of them would hold everybody up for a third of a second."""
        taken_apart: list[int] = []
        parse = dns.message.from_wire

        def counting(wire: bytes, *args: Any, **options: Any) -> Any:
            message = parse(wire, *args, **options)
            taken_apart.append(sum(map(len, message.answer)))
            return message

        self.patch(dns.message, "from_wire", counting)
        self.assertEqual(len(await self.resolver.mx("crowded.test")), 100)
        self.assertEqual(max(taken_apart), 300)

    async def test_failures_are_temporary(self) -> None:
        await self.refusal(self.make(lifetime=0.5).mx("broken.test"), TemporaryDnsError)
        await self.refusal(self.make(lifetime=0.5).addresses("broken.test"), TemporaryDnsError)
        await self.refusal(self.make(lifetime=0.5).mx("circle.test"), TemporaryDnsError)

    async def test_silence_is_temporary(self) -> None:
        self.server.silent = True
        await self.refusal(self.make(timeout=0.05, lifetime=0.2).mx("many.test"), TemporaryDnsError)

    async def test_one_question_that_is_lost_is_asked_again(self) -> None:
        self.server.silent = True
        asked = run(self.make(timeout=0.05, lifetime=PATIENCE).mx("many.test"))
        while not self.server.asked:
            await deferLater(reactor, 0)
        self.server.silent = False
        self.assertEqual(len(await asked), 3)

    async def test_nobody_listens(self) -> None:
        await self.server.stopService()
        await self.refusal(self.make(timeout=0.1, lifetime=0.3).txt("text.test"), TemporaryDnsError)
        self.server.startService()

    async def test_many_at_once(self) -> None:
        asked = [run(self.resolver.records(f"x{n}.test", RdataType.A)) for n in range(150)]
        for one in asked:
            one.addErrback(lambda failure: failure.type)
        self.assertEqual(set(await gatherResults(asked)), {NoSuchDomain})

    async def test_a_cancelled_look_up_leaves_nothing_behind(self) -> None:
        self.server.silent = True
        asked = run(self.resolver.mx("many.test"))
        asked.addErrback(lambda _: None)
        asked.cancel()
        await asked


class TestIPv6(TestCase):
    """A name server that is reached by IPv6 alone."""

    async def test_by_datagram_and_by_stream(self) -> None:
        server = Counting(reactor, ZONE, "::1")
        try:
            server.startService()
        except CannotListenError:
            raise SkipTest("no IPv6 here") from None
        self.addCleanup(server.stopService)
        resolver = Resolver(reactor, DnsConfig((f"[::1]:{server.port}",)))
        self.assertEqual(await resolver.addresses("a.many.test"), ["192.0.2.1", "2001:db8::1"])
        self.assertEqual(server.asked, 2)
        self.assertEqual(len(await resolver.txt("long.test")), 9)  # too long for a datagram
        self.assertEqual(server.asked, 4)

    async def test_one_that_is_away_and_one_that_is_there(self) -> None:
        server = Counting(reactor, ZONE)
        server.startService()
        self.addCleanup(server.stopService)
        servers = (f"[::1]:{server.port}", f"127.0.0.1:{server.port}")
        resolver = Resolver(reactor, DnsConfig(servers, timeout=0.3, lifetime=PATIENCE))
        self.assertEqual(len(await resolver.mx("many.test")), 3)


class TestCache(ResolverCase):
    async def test_an_answer_is_kept_for_its_ttl(self) -> None:
        for _ in range(3):
            await self.resolver.mx("many.test")
        self.assertEqual(self.server.asked, 1)
        self.ticking.clock.advance(61)
        await self.resolver.mx("many.test")
        self.assertEqual(self.server.asked, 2)

    async def test_that_there_is_none_is_kept_too_and_a_failure_is_not(self) -> None:
        for _ in range(3):
            await self.refusal(self.resolver.mx("nowhere.test"), NoSuchDomain)
        self.assertEqual(self.server.asked, 1)
        quick = self.make(lifetime=0.3)
        await self.refusal(quick.mx("broken.test"), TemporaryDnsError)
        before = self.server.asked
        await self.refusal(quick.mx("broken.test"), TemporaryDnsError)
        self.assertGreater(self.server.asked, before)


class TestNameServer(ResolverCase):
    async def test_a_taken_port_is_said(self) -> None:
        second = NameServer(reactor, ZONE, port=self.server.port)
        self.assertRaises(CannotListenError, second.startService)

    async def test_noise_gets_no_answer(self) -> None:
        self.assertIsNone(self.server.datagram(b""))
        self.assertIsNone(self.server.datagram(b"\x00" * 11))
        self.assertIsNone(self.server.datagram(b"\xff" * 600))
        response = dns.message.make_response(dns.message.make_query("many.test", "MX"))
        self.assertIsNone(self.server.datagram(response.to_wire()))


class TestShortening:
    HEADER = b"\1\2\x81\x80"

    def message(self, questions: int, *counts: int, body: bytes = b"") -> bytes:
        return self.HEADER + struct.pack("!4H", questions, *counts) + body

    def test_what_stays_as_it_is(self) -> None:
        for message in (b"", b"\xff" * 11, self.message(1, 100, 100, 99, body=b"\xff" * 50)):
            assert shortened(message) == message

    def test_the_first_answers_are_kept(self) -> None:
        question = b"\1b\4test\0" + struct.pack("!HH", 1, 1)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + b"\x7f\0\0\1"
        long = self.message(1, 400, 0, 1, body=question + record * 400 + b"an option")
        assert shortened(long) == self.message(1, 300, 0, 0, body=question + record * 300)
        crowd = self.message(1, 2, 4000, 4000, body=question + record * 2 + b"whatever")
        assert shortened(crowd) == self.message(1, 2, 0, 0, body=question + record * 2)

    def test_what_lies(self) -> None:
        assert shortened(self.message(65535, 1, 1, 1, body=b"\0" * 500)) == self.message(0, 0, 0, 0)
        for body in (
            b"",
            b"\xc0",
            b"\5abc",
            b"\1a\0\0\1\0\1" + b"\0" * 40,
            b"\0\0\1\0\1\0" + b"\xff" * 99,
        ):
            lying = self.message(1, 9999, 0, 0, body=body)
            assert shortened(lying) == lying


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("127.0.0.1", ("127.0.0.1", 53)),
            ("127.0.0.1:5353", ("127.0.0.1", 5353)),
            ("::1", ("::1", 53)),
            ("[::1]:5353", ("::1", 5353)),
        ],
    )
    def test_addresses(self, text: str, place: tuple[str, int]) -> None:
        assert split_address(text) == place

    @pytest.mark.parametrize(
        "text", ["", "dns.test", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:70000", "[::1", "1:2:3"]
    )
    def test_mistakes(self, text: str) -> None:
        with pytest.raises(ValueError, match="name server"):
            DnsConfig((text,))
