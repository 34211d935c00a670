"""Which hosts take a domain's mail: every case of RFC 5321 section 5, against a name server of our own."""

from __future__ import annotations

from random import Random
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from mailstack.mail.reply import Refused
from mailstack.mta.exchangers import MOST_ADDRESSES, MOST_SILENT, Exchangers
from mailstack.mta.settings import MtaConfig, Route, parse_route
from mailstack.net.dns_settings import DnsConfig
from mailstack.net.name_server import NameServer
from mailstack.net.resolver import Resolver, TemporaryDnsError

ZONE = {
    "inward.test": ["MX 10 mx10.inward.test.", "MX 20 localhost.inward.test."],
    "mx10.inward.test": ["A 10.1.2.3"],
    "localhost.inward.test": ["A 127.0.0.1", "AAAA ::1", "A 0.0.0.0"],
    "mixed.test": ["MX 5 localhost.inward.test.", "MX 10 mx.mixed.test.", "MX 20 mx1.b.test."],
    "mx.mixed.test": ["A 192.168.0.1", "A 192.0.2.44", "AAAA fe80::1", "AAAA 2001:db8::44"],
    "unsure.test": ["MX 10 mx10.inward.test.", "MX 20 silent.test."],
    "b.test": ["MX 20 mx2.b.test.", "MX 10 mx1.b.test."],
    "mx1.b.test": ["A 192.0.2.1", "AAAA 2001:db8::1"],
    "mx2.b.test": ["A 192.0.2.2"],
    "equal.test": [f"MX 10 e{n}.equal.test." for n in range(6)],
    **{f"e{n}.equal.test": [f"A 198.51.100.{n}"] for n in range(6)},
    "bare.test": ["A 192.0.2.9"],
    "six.test": ["AAAA 2001:db8::9"],
    "null.test": ["MX 0 ."],
    "alias.test": ["CNAME b.test."],
    "mxalias.test": ["MX 10 pointer.test."],
    "pointer.test": ["CNAME mx1.b.test."],
    "dangling.test": ["MX 10 gone.test."],
    "half.test": ["MX 10 gone.test.", "MX 20 mx2.b.test."],
    "sick.test": ["MX 10 silent.test."],
    "addressless.test": ["TXT x"],
    "ours.test": ["MX 10 mail.a.test.", "MX 20 mx2.b.test."],
    "backup.test": ["MX 10 mx1.b.test.", "MX 20 MAIL.a.test.", "MX 20 mx2.b.test.", "MX 30 mx2.b.test."],
    "hidden.test": ["MX 10 mx1.b.test.", "MX 20 other-name.test.", "MX 30 mx2.b.test."],
    "mirror.test": ["MX 10 other-name.test."],
    "other-name.test": ["A 203.0.113.5"],
    "crowd.test": [f"MX {n} crowd{n}.test." for n in range(20)],
    **{f"crowd{n}.test": [f"A 198.51.100.{n}"] for n in range(20)},
}


class Server(NameServer):
    """Says nothing about names that begin with silent."""

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        return None if query.question[0].name.to_text().startswith("silent") else super().answer(query)


class Bad(NameServer):
    """Answers as the first label of a name says: badly. Over TCP it answers nothing but what was too long."""

    def datagram(self, wire: bytes) -> bytes | None:
        query = dns.message.from_wire(wire)
        name = query.question[0].name
        made = getattr(self, f"_{name.labels[0].decode()}", None)
        return made(query, name) if made else super().datagram(wire)

    def _silence(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return None

    def _garbage(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return b"\xff" * 40

    def _half(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return self._good(query, name)[:-7]

    def _code(self, query: dns.message.Message, code: int) -> bytes:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.Rcode(code))
        return response.to_wire()

    def _servfail(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return self._code(query, dns.rcode.SERVFAIL)

    def _refused(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return self._code(query, dns.rcode.REFUSED)

    def _notimp(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return self._code(query, dns.rcode.NOTIMP)

    def _nxdomain(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return self._code(query, dns.rcode.NXDOMAIN)

    def _nothing(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return self._code(query, dns.rcode.NOERROR)

    def _good(self, query: dns.message.Message, name: dns.name.Name, target: str = "mx2.b.test.") -> bytes:
        response = dns.message.make_response(query)
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "MX", f"10 {target}"))
        return response.to_wire()

    def _otherid(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        wire = self._good(query, name)
        return bytes((wire[0] ^ 1,)) + wire[1:]

    def _otherquestion(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        other = dns.message.make_query("victim.test", "MX", id=query.id)
        return self._good(other, dns.name.from_text("victim.test"))

    def _othername(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return self._good(query, dns.name.from_text("victim.test"))

    def _noquestion(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return self._good(query, name)[:12] + bytes(4)

    def _query(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        return query.to_wire()

    def _cut(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.TC
        return response.to_wire()

    _cutagain = _cut

    def framed(self, wire: bytes) -> bytes | None:
        query = dns.message.from_wire(wire)
        name = query.question[0].name
        if name.labels[0] == b"cut":
            return None  # the connection ends
        if name.labels[0] == b"cutagain":
            wire = self._cut(query, name) or b""
            return len(wire).to_bytes(2, "big") + wire
        return super().framed(wire)

    def _chain(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        response = dns.message.make_response(query)
        for number in range(40):
            target = dns.name.from_text(f"link{number}.test")
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target.to_text()))
            name = target
        return response.to_wire()

    def _circle(self, query: dns.message.Message, name: dns.name.Name) -> bytes | None:
        response = dns.message.make_response(query)
        for one, other in ((name, "b.circle.test."), (dns.name.from_text("b.circle.test"), name.to_text())):
            response.answer.append(dns.rrset.from_text(one, 60, "IN", "CNAME", other))
        return response.to_wire()


class TestBadAnswers(TestCase):
    """What the DNS may do to us, and what becomes of the mail."""

    cases = {
        "silence": "451 4.4.3",
        "garbage": "451 4.4.3",
        "half": "451 4.4.3",
        "servfail": "451 4.4.3",
        "refused": "451 4.4.3",
        "notimp": "451 4.4.3",
        "otherid": "451 4.4.3",
        "otherquestion": "451 4.4.3",
        "noquestion": "451 4.4.3",
        "query": "451 4.4.3",
        "cut": "451 4.4.3",
        "cutagain": "451 4.4.3",
        "chain": "451 4.4.3",
        "circle": "451 4.4.3",
        "nxdomain": "550 5.1.2",
        "nothing": "550 5.4.4",
        "othername": "550 5.4.4",  # as nothing: a record of another name is no answer, and is not kept
        "huge": f"{MOST_ADDRESSES} targets of big",
        "good": "1 targets of mx",
    }

    unanswered = ("silence", "garbage", "half", "otherid", "otherquestion", "noquestion", "query", "cut")

    async def test_each_ends_in_the_right_state(self) -> None:
        zone = {
            **ZONE,
            "huge.test": [f"MX {n} big{n}.test." for n in range(1500)],
            **{f"big{n}.test": [f"A 198.51.100.{n % 250}"] for n in range(1500)},
        }
        server = Bad(reactor, zone)
        server.startService()
        self.addCleanup(server.stopService)

        def exchangers(seconds: float) -> Exchangers:
            config = DnsConfig((f"127.0.0.1:{server.port}",), timeout=seconds / 4, lifetime=seconds)
            return Exchangers(Resolver(reactor, config), MtaConfig(), "mail.a.test", Random(1))

        patient, quick = exchangers(60), exchangers(0.4)

        async def ends(name: str) -> tuple[str, str]:
            try:
                found = await (quick if name in self.unanswered else patient).find(f"{name}.test")
            except Refused as refused:
                return name, f"{refused.reply.code} {refused.reply.enhanced}"
            return name, f"{len(found)} targets of {found[0].name.rstrip('.tesb').rstrip('0123456789')}"

        asked = [Deferred.fromCoroutine(ends(name)) for name in self.cases]
        self.assertEqual(dict(await gatherResults(asked)), self.cases)


class Mute:
    """A resolver that has no answer about the first exchangers of every domain."""

    def __init__(self, silent: int) -> None:
        self.asked: list[str] = []
        self.pairs = [(n, f"silent{n}.test") for n in range(silent)] + [(99, "mx1.b.test")]

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        return self.pairs

    async def is_secure(self, name: str, kind: Any) -> bool:
        return False

    async def addresses(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.startswith("silent"):
            raise TemporaryDnsError(f"A look-up of {host}: LifetimeTimeout")
        return ["192.0.2.1"]


class TestFind(TestCase):
    def setUp(self) -> None:
        self.server = Server(reactor, ZONE)
        self.server.startService()
        self.addCleanup(self.server.stopService)

    lifetime = 60.0

    def exchangers(self, seed: int = 1, **options: Any) -> Exchangers:
        servers = (f"127.0.0.1:{self.server.port}",)
        dns_config = DnsConfig(servers, timeout=self.lifetime / 3, lifetime=self.lifetime)
        return Exchangers(Resolver(reactor, dns_config), MtaConfig(**options), "mail.a.test", Random(seed))

    async def found(self, hop: str, **options: Any) -> list[str]:
        return [f"{one.name} {one.address} {one.port}" for one in await self.exchangers(**options).find(hop)]

    async def refused(self, hop: str, **options: Any) -> str:
        try:
            found = await self.exchangers(**options).find(hop)
        except Refused as refused:
            return f"{refused.reply.code} {refused.reply.enhanced}"
        raise AssertionError(found)

    async def test_the_preferred_first_ipv4_first(self) -> None:
        first, second, third = (
            "mx1.b.test 192.0.2.1 25",
            "mx1.b.test 2001:db8::1 25",
            "mx2.b.test 192.0.2.2 25",
        )
        self.assertEqual(await self.found("b.test"), [first, second, third])
        self.assertEqual(await self.found("b.test", prefer_ipv6=True), [second, first, third])

    async def test_equals_are_shuffled(self) -> None:
        orders = {tuple(await self.found("equal.test", seed=seed)) for seed in range(6)}
        self.assertGreater(len(orders), 1)
        self.assertEqual(len({frozenset(order) for order in orders}), 1)

    async def test_no_mx_is_the_domain_itself(self) -> None:
        self.assertEqual(await self.found("bare.test"), ["bare.test 192.0.2.9 25"])
        self.assertEqual(await self.found("six.test", port=2525), ["six.test 2001:db8::9 2525"])

    async def test_cnames_are_followed(self) -> None:
        self.assertEqual(len(await self.found("alias.test")), 3)
        self.assertEqual((await self.found("mxalias.test"))[0], "pointer.test 192.0.2.1 25")

    async def test_refusals(self) -> None:
        self.assertEqual(await self.refused("null.test"), "556 5.1.10")
        self.assertEqual(await self.refused("nowhere.test"), "550 5.1.2")
        self.assertEqual(await self.refused("addressless.test"), "550 5.4.4")
        self.assertEqual(await self.refused("dangling.test"), "550 5.4.4")

    async def test_silence(self) -> None:
        self.lifetime = 0.15
        self.assertEqual(await self.refused("silent.test"), "451 4.4.3")
        self.assertEqual(await self.refused("sick.test"), "451 4.4.3")

    async def test_a_few_that_are_silent_are_enough(self) -> None:
        """Else a domain with a hundred of them would keep its transfer waiting for an hour."""
        mute = Mute(50)
        made: Any = Exchangers(mute, MtaConfig(), "mail.a.test", Random(1))  # type: ignore[arg-type]
        with self.assertRaises(Refused) as caught:
            await made.find("b.test")
        self.assertEqual((caught.exception.reply.code, len(mute.asked)), (451, MOST_SILENT))
        made = Exchangers(Mute(MOST_SILENT - 1), MtaConfig(), "mail.a.test", Random(1))  # type: ignore[arg-type]
        self.assertEqual([one.address for one in await made.find("b.test")], ["192.0.2.1"])

    async def test_one_bad_exchanger_does_not_matter(self) -> None:
        self.assertEqual(await self.found("half.test"), ["mx2.b.test 192.0.2.2 25"])

    async def test_we_are_the_best_exchanger_and_do_not_serve_it(self) -> None:
        self.assertEqual(await self.refused("ours.test"), "554 5.4.6")
        self.assertEqual(await self.refused("mirror.test", own_addresses=("203.0.113.5",)), "554 5.4.6")

    async def test_only_those_better_than_we_are_tried(self) -> None:
        better = ["mx1.b.test 192.0.2.1 25", "mx1.b.test 2001:db8::1 25"]
        self.assertEqual(await self.found("backup.test"), better)
        self.assertEqual(await self.found("hidden.test", own_addresses=("203.0.113.5",)), better)

    async def test_a_number_of_addresses_is_enough(self) -> None:
        self.assertEqual(len(await self.found("crowd.test")), MOST_ADDRESSES)

    async def test_literals(self) -> None:
        self.assertEqual(await self.found("[192.0.2.77]"), ["[192.0.2.77] 192.0.2.77 25"])
        self.assertEqual(await self.found("[IPv6:2001:db8::7]"), ["[IPv6:2001:db8::7] 2001:db8::7 25"])

    async def test_no_stranger_sends_us_into_private_networks(self) -> None:
        for literal in ("[10.0.0.5]", "[127.0.0.1]", "[169.254.169.254]", "[IPv6:::1]", "[IPv6:fd00::1]",
                        "[IPv6:::ffff:192.168.1.1]", "[IPv6:64:ff9b::a00:5]", "[IPv6:2002:a00:5::1]"):  # fmt: skip
            self.assertEqual((literal, await self.refused(literal)), (literal, "550 5.4.4"))
        self.assertEqual(await self.refused("inward.test"), "550 5.4.4")
        self.assertEqual(await self.refused("[203.0.113.5]", own_addresses=("203.0.113.5",)), "554 5.4.6")

    async def test_private_addresses_beside_public_ones_are_left_out(self) -> None:
        """They are no preference of ours or of others either: the next exchanger's turn comes."""
        self.assertEqual(
            await self.found("mixed.test"),
            ["mx.mixed.test 192.0.2.44 25", "mx.mixed.test 2001:db8::44 25", "mx1.b.test 192.0.2.1 25",
             "mx1.b.test 2001:db8::1 25"],
        )  # fmt: skip

    async def test_what_is_unknown_still_may_be_public(self) -> None:
        self.lifetime = 0.15
        self.assertEqual(await self.refused("unsure.test"), "451 4.4.3")

    async def test_the_operator_may_allow_some(self) -> None:
        allowed = {"private_networks": ("10.0.0.0/8", "::1/128")}
        self.assertEqual(await self.found("[10.0.0.5]", **allowed), ["[10.0.0.5] 10.0.0.5 25"])
        self.assertEqual(await self.found("[IPv6:::1]", **allowed), ["[IPv6:::1] ::1 25"])
        self.assertEqual(
            await self.found("inward.test", **allowed),
            ["mx10.inward.test 10.1.2.3 25", "localhost.inward.test ::1 25"],
        )
        self.assertEqual(await self.refused("[127.0.0.1]", **allowed), "550 5.4.4")

    async def test_a_route_leads_wherever_it_says(self) -> None:
        self.assertEqual(await self.found("smtp://127.0.0.1:2525"), ["127.0.0.1 127.0.0.1 2525"])
        self.assertEqual(await self.found("smtp://mx10.inward.test"), ["mx10.inward.test 10.1.2.3 25"])
        exchangers = self.exchangers(routes={"[10.0.0.5]": "smtp://10.0.0.5"})
        self.assertEqual(exchangers.hop("[10.0.0.5]"), "smtp://10.0.0.5")

    async def test_routes(self) -> None:
        self.assertEqual(await self.found("smtp://mx2.b.test:2525"), ["mx2.b.test 192.0.2.2 2525"])
        self.assertEqual(await self.found("smtp://192.0.2.3"), ["192.0.2.3 192.0.2.3 25"])
        self.assertEqual(await self.found("smtp://[2001:db8::3]:26"), ["2001:db8::3 2001:db8::3 26"])
        self.assertEqual(await self.refused("smtp://gone.test:25"), "550 5.4.4")

    async def test_which_route_is_whose(self) -> None:
        exchangers = self.exchangers(routes={"x.test": "smtp://192.0.2.1:25"})
        self.assertEqual(
            (exchangers.hop("x.test"), exchangers.hop("y.test")), ("smtp://192.0.2.1:25", "y.test")
        )
        everything = self.exchangers(routes={"x.test": "smtp://192.0.2.1:25", "*": "smtp://smart.test:587"})
        self.assertEqual(everything.hop("y.test"), "smtp://smart.test:587")


class TestSettings:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "b.test",
            "smtp://",
            "smtp://h:x",
            "smtp://h:99999",
            "http://h:25",
            "smtp://h:25/x",
            "smtp://u:p@h:25",
            "smtp://[::1",
        ],
    )
    def test_bad_routes(self, text: str) -> None:
        with pytest.raises(ValueError, match="no route"):
            MtaConfig(routes={"b.test": text})

    def test_good_routes(self) -> None:
        assert parse_route("smtp://h.test:2525") == Route("h.test", 2525)
        assert parse_route("smtp://h.test") == Route("h.test", 25)
        assert parse_route("lmtp://h.test") == Route("h.test", 24, "lmtp")
        assert parse_route("lmtp://unix:/run/lmtp") == Route("", 0, "lmtp", path="/run/lmtp")
        assert not parse_route("lmtp://h.test").verified

    @pytest.mark.parametrize(
        "options",
        [
            {"port": 0},
            {"retry": ()},
            {"retry": (0.1,)},
            {"concurrency": 0},
            {"expire": 0},
            {"routes": {"": "smtp://h"}},
            {"private_networks": ("10.0.0.1/8",)},
            {"private_networks": ("inside",)},
        ],
    )
    def test_other_mistakes(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"must be|needs|routes"):
            MtaConfig(**options)
