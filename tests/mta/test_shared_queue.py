"""Several processes with one queue: nothing is sent twice, all of them work, and one that dies leaves nothing behind."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from mailstack.db import Database, DatabaseConfig
from mailstack.mta import claims, verbs
from mailstack.mta.entries import Lease
from mailstack.mta.queue import Queue
from mailstack.mta.routes import Routes
from mailstack.mta.scheduler import LEASE
from mailstack.mta.settings import MtaConfig
from mailstack.work import Work
from tests.mta.world import Transfer, World

MESSAGES = 60


class TestOnSqlite(World):
    """Each process has its own connections to the database, its own threads and its own name."""

    def process(self, node: str, **options: Any) -> tuple[Queue, Transfer]:
        work = Work(reactor, Database(DatabaseConfig(str(self._address()), busy_timeout=30.0)))
        self.addCleanup(lambda: Deferred.fromCoroutine(work.close()))
        transfer = Transfer()
        transfer.hold = []
        self.addCleanup(self.let_go, transfer)
        queue = Queue(
            MtaConfig(**options),
            work,
            Routes(self.directory, self.mda, transfer),
            self.clock,
            hostname="mail.a.test",
            spool=self.folder / "spool",
            random=Random(1),
            node=node,
        )
        self.queues.append(queue)
        return queue, transfer

    def _address(self) -> str:
        return self.database.url.render_as_string(hide_password=False)

    def let_go(self, transfer: Transfer, for_good: bool = True) -> None:
        held, transfer.hold = transfer.hold or [], None if for_good else []
        for one in held:
            one.callback(None)

    async def test_each_message_once_and_all_processes_work(self) -> None:
        for n in range(MESSAGES):
            await self.send(f"u@d{n % 20}.test", id=f"q{n}")
        processes = [self.process(name, concurrency=10) for name in ("one", "two", "three")]
        for queue, _ in processes:
            self.start(queue)
        await self.until(lambda: all(len(transfer.hold or []) >= 5 for _, transfer in processes))
        for _, transfer in processes:
            self.let_go(transfer)
        await self.until(lambda: not self.entries())
        sent = [got[1] for _, transfer in processes for got in transfer.got]
        self.assertEqual(sorted(sent), sorted(f"q{n}" for n in range(MESSAGES)))

    async def test_a_lease_is_renewed_while_its_process_lives(self) -> None:
        await self.send("u@b.test")
        (one, first), (two, second) = self.process("one"), self.process("two")
        self.start(one)
        await self.until(lambda: first.hold)
        self.start(two)
        for _ in range(8):
            await self.pass_time(LEASE / 4)
            await self.until(lambda: self.entries()[0].active)
            await self.until(self.renewed)
        self.assertEqual(second.got, [])
        self.let_go(first)
        await self.until(lambda: not self.entries())
        self.assertEqual((len(first.got), len(second.got)), (1, 0))

    def renewed(self) -> bool:
        now = self.clock.seconds()
        return self.database.read(claims.next_due, now) is not None and self.database.read(
            lambda db: (claims.next_due(db, now) or 0.0) > now + LEASE / 2
        )

    async def test_a_dead_process_loses_its_lease_when_it_ends(self) -> None:
        await self.send("u@b.test", "v@b.test")
        now = self.clock.seconds()
        self.database.write(claims.claim, Lease("dead", now + LEASE), now, 9, lambda hop: 9, "")
        two, second = self.process("two")
        self.let_go(second)
        self.start(two)
        await self.pass_time(LEASE - 10)
        self.assertTrue(all(one.active for one in self.entries()))
        with capturedLogs() as events:
            await self.pass_time(20)
            await self.until(lambda: not self.entries())
        self.assertEqual(len(second.got), 1)
        told = [event for event in events if "cut short" in event["log_format"]]
        self.assertEqual(
            sorted((event["id"], event["recipient"], event["words"]) for event in told),
            [("q1", f"{name}@b.test", "is repeated, and may arrive twice") for name in "uv"],
        )

    async def test_one_that_starts_again_takes_up_its_own_and_nobody_elses(self) -> None:
        await self.send("u@b.test", id="ours")
        await self.send("u@c.test", id="theirs")
        now = self.clock.seconds()
        self.database.write(claims.claim, Lease("one", now + LEASE), now, 1, lambda hop: 9, "")
        self.database.write(claims.claim, Lease("two", now + LEASE), now, 1, lambda hop: 9, "b.test")
        one, first = self.process("one")
        self.let_go(first)
        self.start(one)
        await self.until(lambda: len(self.entries()) == 1)
        self.assertEqual([got[1] for got in first.got], ["ours"])
        self.assertEqual([one.message_id for one in self.database.read(verbs.list_entries)], ["theirs"])


class TestOnPostgresql(TestOnSqlite):
    kind = "postgresql"
