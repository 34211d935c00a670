"""Next hops and name servers that misbehave, each case with the state it ends in and the reason that is kept.

A row: what the server does; whether the message goes on to the next exchanger (then it is 250), or what the
result is with this server alone.
"""

from __future__ import annotations

from random import Random
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from mailstack.mail.reply import Refused
from mailstack.mta.exchangers import Exchangers, Target
from mailstack.mta.settings import MtaConfig
from mailstack.net.dialogue import Timeouts
from mailstack.net.dns_settings import DnsConfig
from mailstack.net.name_server import NameServer
from mailstack.net.resolver import Resolver
from tests.mta.test_connections import Base
from tests.net.next_hop import CLOSE, HANG, NextHop
from tests.running import PATIENCE

BIG = b"250-" + b"x" * 1000 + b"\r\n"


class Flood(Protocol):
    """Talks without end, as long as somebody listens; counts what it could say."""

    said = 0
    kind = b""

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.transport.write(self.kind * 64)
        Flood.said += len(self.kind) * 64

    def stopProducing(self) -> None:
        pass


class TestNextHops(Base):
    """Each ends in a 4xx with a reason, and with another exchanger in 250."""

    async def test_the_table(self) -> None:
        async def row(says: Any, offers: tuple[str, ...], enhanced: str, words: str) -> None:
            alone = await self.by(self.make(self.hop(says, offers), keep_connections=0.0, time=self.time))
            self.assertTrue(alone.reply.transient, (says, str(alone)))
            self.assertEqual(alone.reply.enhanced, enhanced, says)
            self.assertIn(words, alone.reply.text)
            second = self.hop()
            result = await self.by(
                self.make(self.hop(says, offers), second, keep_connections=0.0, time=self.time)
            )
            self.assertEqual((result.reply.code, len(second.messages)), (250, 1), says)

        rows: tuple[Any, ...] = (
            ({"": HANG}, (), "4.4.2", "timed out waiting for greeting"),
            ({"": CLOSE}, (), "4.4.2", "connection lost"),
            ({"": b"\x00\xff\xfe\r\n"}, (), "4.4.2", "bad reply: not a reply"),
            ({"": b"220-one\r\n221 two\r\n"}, (), "4.4.2", "bad reply: a reply of two codes, 220 and 221"),
            ({"": b"220 " + b"x" * 5000 + b"\r\n"}, (), "4.4.2", "bad reply: a reply line of more than"),
            ({"": b"220-x\r\n" * 200}, (), "4.4.2", "bad reply: a reply of more than 100 lines"),
            ({"": b"SSH-2.0-OpenSSH_9.2\r\n"}, (), "4.4.2", "bad reply: not a reply"),
            ({"": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, (), "4.4.2", "bad reply: not a reply"),
            ({"": "421 4.3.2 full"}, (), "4.3.2", "full"),
            ({"EHLO": HANG}, (), "4.4.2", "timed out waiting for reply to EHLO"),
            ({"EHLO": CLOSE}, (), "4.4.2", "connection lost"),
            ({"EHLO": BIG * 300}, (), "4.4.2", "a reply of more than 100 lines"),
            ({"EHLO": "451 4.3.0 later"}, (), "4.3.0", "later"),
            ({"MAIL": CLOSE}, (), "4.4.2", "connection lost"),
            ({"MAIL": HANG}, (), "4.4.2", "timed out waiting for reply to MAIL"),
            ({"MAIL": b"garbage\r\n"}, (), "4.4.2", "bad reply"),
            ({"RCPT": CLOSE}, ("PIPELINING",), "4.4.2", "connection lost"),
            ({"RCPT": HANG, "DATA": HANG}, ("PIPELINING",), "4.4.2", "timed out waiting for reply to RCPT"),
            ({"DATA": CLOSE}, (), "4.4.2", "connection lost"),
            ({"DATA": HANG}, (), "4.4.2", "timed out waiting for reply to DATA"),
            # a reply too many is no word for a message that was not sent
            ({"DATA": b"354 go\r\n250 2.0.0 taken\r\n"}, (), "4.4.2", "before the end of the content: 250"),
            ({"DATA": b"354 go\r\n250 x\r\n"}, ("PIPELINING",), "4.4.2", "before the end of the content"),
            ({"DATA": b"354 go\r\n354 go\r\n"}, (), "4.4.2", "before the end of the content: 354"),
        )
        for one in rows:
            await row(*one)

    async def test_a_greeting_that_refuses_for_good(self) -> None:
        refusing = {"": "554 5.7.1 blocked"}
        self.assertEqual(str((await self.by(self.make(self.hop(refusing)))).reply), "554 5.7.1 blocked")
        self.assertEqual((await self.by(self.make(self.hop(refusing), self.hop()))).reply.code, 250)

    async def test_octet_by_octet(self) -> None:
        hop = Trickling(offers=("PIPELINING", "SIZE 100000"))
        self.addCleanup(lambda: Deferred.fromCoroutine(hop.close()))
        self.assertEqual((await self.by(self.make(hop))).reply.code, 250)

    async def test_octets_without_end_end_with_the_time_limit(self) -> None:
        class Slow(Protocol):
            def connectionMade(self) -> None:
                self.more()

            def more(self) -> None:
                if self.connected:
                    self.transport.write(b"2")
                    self.call = reactor.callLater(0.05, self.more)

            def connectionLost(self, reason: Any = None) -> None:
                self.call.cancel()

        result = await self.by(self.make(targets=[self.served(Slow)], timeouts=Timeouts(greeting=0.5)))
        self.assertEqual(result.reply.text, "timed out waiting for greeting")

    async def test_a_hundred_megabytes_are_not_taken(self) -> None:
        for kind, words in (
            (b"220-" + b"x" * 1000 + b"\r\n", "a reply of more than 100 lines"),
            (b"220 ok\r\n", "220 ok"),
            (b"x" * 1000, "a reply line of more than"),
            (b"2" * 1000, "a reply line of more than"),
        ):
            Flood.kind, Flood.said = kind, 0
            result = await self.by(self.make(targets=[self.served(Flood)]))
            self.assertTrue(result.reply.transient)
            self.assertIn(words, str(result.reply))
            self.assertLess(Flood.said, 20_000_000)

    async def test_a_reply_to_the_content_of_many_megabytes(self) -> None:
        hop = self.hop({".": BIG * 20_000 + b"250 ok\r\n"})
        result = await self.by(self.make(hop))
        self.assertEqual((result.reply.code, result.reply.enhanced), (451, "4.4.2"))
        self.assertIn("may have been taken", result.reply.text)

    async def test_starttls_that_fails_goes_on_in_clear(self) -> None:
        for says in ("454 4.7.0 no", "500 what", CLOSE, b"220 go\r\nnot TLS\r\n"):
            hop = self.hop({"STARTTLS": says}, ("STARTTLS",))
            result = await self.by(self.make(hop, self.hop()))
            self.assertEqual(result.reply.code, 250, says)
            self.assertIsNone(result.tls)

    def served(self, protocol: type[Protocol]) -> Target:
        factory = Factory.forProtocol(protocol)
        factory.noisy = False
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return Target("mx.b.test", "127.0.0.1", port.getHost().port)


class Trickling(NextHop):
    """Says everything one octet at a time."""

    def reply(self, verb: str, line: str = "") -> str | bytes:
        text = super().reply(verb, line)
        assert isinstance(text, str)
        transport = self.sessions[-1].transport
        for octet in f"{text}\r\n".encode()[:-1]:
            transport.write(bytes([octet]))
            transport.doWrite()
        if text.startswith("354"):
            self.sessions[-1].content = b""
        return b"\n"


class Liar(NameServer):
    """Misbehaves by the first label of the name."""

    asked = 0

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        self.asked += 1
        question = query.question[0]
        kind = question.name.labels[0].decode()
        response = dns.message.make_response(query, recursion_available=True)
        if kind == "silent":
            return None
        if kind in ("servfail", "refused", "notimp"):
            response.set_rcode(dns.rcode.from_text(kind))
        elif kind == "otherid":
            response.id = (query.id + 1) & 0xFFFF
        elif kind == "otherquestion":
            response.question = [dns.rrset.RRset(dns.name.from_text("else.test"), 1, 15)]
        elif kind == "loop":
            other = b"loop2" if question.name.labels[0] == b"loop" else b"loop"
            target = dns.name.Name((other, *question.name.labels[1:]))
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "CNAME", target.to_text()))
            response.answer.append(dns.rrset.from_text(target, 60, "IN", "CNAME", question.name.to_text()))
        elif kind == "truncated":
            response.flags |= dns.flags.TC
        elif kind == "stranger":
            response.answer.append(dns.rrset.from_text("else.test.", 60, "IN", "MX", "10 evil.test."))
        elif kind == "query":
            response.flags &= ~dns.flags.QR
        else:
            return super().answer(query)
        return response

    def framed(self, wire: bytes) -> bytes | None:
        """TCP: nothing for what was truncated."""
        query = dns.message.from_wire(wire)
        return None if query.question[0].name.labels[0] == b"truncated" else super().framed(wire)


class TestNameServers(TestCase):
    timeout = PATIENCE

    async def test_the_table(self) -> None:
        server = Liar(reactor, {"b.test": ["MX 10 silent.b.test.", "MX 20 servfail.b.test."]})
        server.startService()
        self.addCleanup(server.stopService)
        address = f"127.0.0.1:{server.port}"
        hasty, patient = (
            Exchangers(
                Resolver(reactor, DnsConfig((address,), **limits)), MtaConfig(), "mail.a.test", Random(1)
            )
            for limits in ({"timeout": 0.2, "lifetime": 0.6}, {"timeout": 5.0, "lifetime": PATIENCE})
        )
        expected = {
            "silent.test": "451 4.4.3",
            "servfail.test": "451 4.4.3",
            "refused.test": "451 4.4.3",
            "notimp.test": "451 4.4.3",
            "otherid.test": "451 4.4.3",
            "otherquestion.test": "451 4.4.3",
            "query.test": "451 4.4.3",
            "truncated.test": "451 4.4.3",
            "b.test": "451 4.4.3",
            "nothere.test": "550 5.1.2",
            "x" * 64 + ".test": "550 5.1.2",
        }
        for domain, code in expected.items():
            exchangers = hasty if code.startswith("4") else patient
            try:
                found = await exchangers.find(domain)
            except Refused as refused:
                self.assertEqual(f"{refused.reply.code} {refused.reply.enhanced}", code, domain)
                self.assertIn(domain.partition(".")[2], refused.reply.text)
            else:
                self.fail(f"{domain}: {found}")
        for domain in ("loop.test", "stranger.test"):  # never the exchanger of a liar
            try:
                found = await hasty.find(domain)
            except Refused as refused:
                self.assertIn(refused.reply.code, (451, 550))
            else:
                self.fail(f"{domain}: {found}")
        self.assertLess(server.asked, 200)
