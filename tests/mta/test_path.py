"""The way out in one piece: queue, routes, MX look-up, connection, reply; only the two ends are scripted."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from mailstack.mta.exchangers import Exchangers
from mailstack.mta.queue import Queue
from mailstack.mta.routes import Routes
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transfer import Transfer
from mailstack.net.dns_settings import DnsConfig
from mailstack.net.name_server import NameServer
from mailstack.net.resolver import Resolver
from tests.mta import world
from tests.mta.world import TEXT, fields
from tests.net.next_hop import CLOSE, NextHop


class TestTheWayOut(world.World):
    """A message for another domain."""

    def setUp(self) -> None:
        super().setUp()
        self.hop = NextHop(offers=("PIPELINING", "SIZE 100000", "8BITMIME"))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.hop.close()))
        zone = {
            "b.test": ["MX 10 dead.b.test.", "MX 20 mx.b.test."],
            "mx.b.test": ["A 127.0.0.1"],
            "null.test": ["MX 0 ."],
        }
        self.names = NameServer(reactor, zone)
        self.names.startService()
        self.addCleanup(self.names.stopService)
        self.queue = self.real_queue(port=self.hop.port, retry=(60.0,))

    def real_queue(self, **options: Any) -> Queue:
        config = MtaConfig(private_networks=("127.0.0.0/8",), **options)
        resolver = Resolver(reactor, DnsConfig((f"127.0.0.1:{self.names.port}",)))
        exchangers = Exchangers(resolver, config, "mail.a.test", Random(1))
        transfer = Transfer(config, "mail.a.test", exchangers, self.work, reactor)
        self.addCleanup(transfer.stopService)
        queue = Queue(
            config,
            self.work,
            Routes(self.directory, self.mda, transfer),
            self.clock,
            hostname="mail.a.test",
            spool=self.folder / "spool",
            random=Random(1),
        )
        self.queues.append(queue)
        return queue

    async def test_by_mx_to_the_exchanger_that_is_there(self) -> None:
        self.start()
        await self.send("bob@b.test", "eve@b.test", "carol@a.test")
        await self.until(lambda: not self.entries() and not self.files())
        self.assertEqual(self.hop.messages, [TEXT])
        self.assertEqual(
            self.hop.lines[1:4],
            [f"MAIL FROM:<alice@a.test> SIZE={len(TEXT)}", "RCPT TO:<bob@b.test>", "RCPT TO:<eve@b.test>"],
        )
        self.assertEqual([got[2] for got in self.mda.got], [("carol@a.test",)])

    async def test_a_refusal_comes_home_as_a_bounce(self) -> None:
        self.hop.says = {"RCPT <eve@b.test>": "550 5.1.1 No eve here"}
        self.start()
        await self.send("bob@b.test", "eve@b.test", "x@null.test")
        await self.until(lambda: not self.entries() and not self.files() and self.bounces(self.mda) == 2)
        groups = [fields(self.bounce(self.mda, n)[1])[1] for n in range(2)]
        told = {group["Final-Recipient"]: (group["Status"], group["Remote-MTA"]) for group in groups}
        expected = {"rfc822;eve@b.test": ("5.1.1", "dns; mx.b.test"), "rfc822;x@null.test": ("5.1.10", None)}
        self.assertEqual(told, expected)
        self.assertEqual(self.hop.messages, [TEXT])

    async def test_a_lost_answer_is_tried_again(self) -> None:
        self.hop.says = {".": CLOSE}
        self.start()
        await self.send("bob@b.test")
        await self.until(lambda: self.entries()[0].attempts == 1)
        self.assertIn("may have been taken", self.entries()[0].last_reply or "")
        self.hop.says = {}
        await self.pass_time(70)
        await self.until(lambda: not self.entries())
        self.assertEqual(self.hop.messages, [TEXT, TEXT])

    async def test_a_route_goes_past_the_mx(self) -> None:
        self.queue = self.real_queue(routes={"nowhere.test": f"smtp://localhost:{self.hop.port}"})
        self.start()
        await self.send("bob@nowhere.test")
        await self.until(lambda: not self.entries())
        self.assertEqual(self.hop.messages, [TEXT])
