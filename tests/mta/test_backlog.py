"""A backlog to many hops, some of them dead: the living get theirs, the dead are not tried by each message."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from mailstack.mail.address import Address
from mailstack.mta.exchangers import Target
from mailstack.mta.hops import known_hops
from mailstack.mta.queue import Queue
from mailstack.mta.routes import Routes
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transfer import Transfer
from tests.mta import world
from tests.net.next_hop import HANG, NextHop
from tests.running import PATIENCE

reactor: Any = _reactor
MESSAGES, HOPS, DEAD = 120, 12, 3


class Dying(NextHop):
    """Says nothing to who comes, and closes after a while: no limit of ours, which would be for the living too."""

    def __init__(self) -> None:
        super().__init__({"": HANG})
        self._calls: list[Any] = []
        self.hung = lambda session: self._calls.append(
            reactor.callLater(0.3, session.transport.loseConnection)
        )

    async def close(self) -> None:
        """Without the rest of the while."""
        for call in self._calls:
            if call.active():
                call.cancel()
        await super().close()


class Ports:
    """Each hop at a port of its own."""

    def __init__(self, hops: dict[str, NextHop]) -> None:
        self._hops = hops

    def hop(self, domain: str, sender: Address | None = None) -> str:
        return domain

    async def find(self, hop: str) -> list[Target]:
        return [Target(f"mx.{hop}", "127.0.0.1", self._hops[hop].port)]


class TestBacklog(world.World):
    timeout = PATIENCE

    def setUp(self) -> None:
        super().setUp()
        self.hops = {f"d{n}.test": Dying() if n < DEAD else NextHop() for n in range(HOPS)}
        for hop in self.hops.values():
            self.addCleanup(lambda hop=hop: Deferred.fromCoroutine(hop.close()))
        config = MtaConfig(concurrency=6, concurrency_per_hop=4, retry=(600.0,), hop_pause=60.0)
        hops = known_hops(config, self.clock, Random(1))
        self.out = Transfer(config, "mail.a.test", Ports(self.hops), self.work, reactor, hops=hops)
        self.addCleanup(self.out.stopService)
        self.queue = Queue(
            config,
            self.work,
            Routes(self.directory, self.mda, self.out),
            self.clock,
            hostname="mail.a.test",
            spool=self.folder / "spool",
            random=Random(1),
            hops=hops,
        )
        self.queues.append(self.queue)

    async def test_the_living_get_theirs_and_the_dead_are_left_alone(self) -> None:
        for n in range(MESSAGES):
            await self.send(f"u@d{n % HOPS}.test", id=f"q{n}")
        self.start()
        for n in range(MESSAGES // HOPS):  # while it runs, too
            await self.send(f"u@d{n % HOPS}.test", id=f"later{n}")
        dead = [f"d{n}.test" for n in range(DEAD)]
        await self.until(lambda: {one.hop for one in self.entries()} <= set(dead))
        sent = sum(len(hop.messages) for hop in self.hops.values())
        self.assertEqual(sent + len(self.entries()), MESSAGES + MESSAGES // HOPS)
        now = self.clock.seconds()
        await self.until(lambda: all(one.next_attempt > now for one in self.entries()))
        for name in dead:
            self.assertLessEqual(len(self.hops[name].sessions), 2)
        replies = {one.last_reply.partition("]")[2].partition(" ")[2] for one in self.entries()}
        self.assertEqual(
            replies,
            {
                "451 4.4.2 connection lost: Connection was closed cleanly.",
                "451 4.4.2 Not tried now; the last failure: connection lost: Connection was closed cleanly.",
            },
        )

    async def test_one_that_comes_back_gets_all_that_waited(self) -> None:
        for n in range(12):
            await self.send("u@d0.test", id=f"q{n}")
        self.start()
        await self.until(lambda: self.entries() and all(one.last_reply for one in self.entries()))
        self.hops["d0.test"].says.clear()
        await self.until(lambda: not any(one.active for one in self.entries()))
        await self.pass_time(700)
        await self.until(lambda: not self.entries())
        self.assertEqual(len(self.hops["d0.test"].messages), 12)
        self.assertLessEqual(len(self.hops["d0.test"].sessions), 2 + 4)
