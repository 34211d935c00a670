"""The ledger: many messages in one operation, and none the worse for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from twisted.internet.defer import Deferred, gatherResults

from mailstack.mta import entries, ledger
from mailstack.mta.verbs import QueueEntry
from mailstack.work import Overloaded
from tests.mta.world import LATER, World


class LedgerContract:
    """Run with each database; not by itself."""

    def send_all(self, *ids: str) -> Deferred[list[dict[str, Any]]]:
        sending = [Deferred.fromCoroutine(self.send(f"{id_}@b.test", id=id_)) for id_ in ids]
        return gatherResults(sending, consumeErrors=True)

    async def test_what_comes_at_once_is_written_together(self) -> None:
        written: list[int] = []

        def insert(db: Connection, several: Sequence[entries.NewMessage]) -> list[tuple[int, ...]]:
            written.append(len(several))
            return real(db, several)

        real = entries.insert_messages
        with mock.patch.object(entries, "insert_messages", insert):
            await self.send_all(*(f"q{n}" for n in range(40)))
        self.assertEqual(sum(written), 40)
        self.assertLess(len(written), 5)
        recipients = {entry.message_id: entry.recipient for entry in self.entries()}
        self.assertEqual(recipients, {f"q{n}": f"q{n}@b.test" for n in range(40)})
        self.start(self.make())
        await self.until(lambda: not self.entries())
        sent = sorted((id_, *to) for _, id_, to, _ in self.transfer.got)
        self.assertEqual(sent, sorted((f"q{n}", f"q{n}@b.test") for n in range(40)))

    async def test_one_that_cannot_be_written_takes_no_other_with_it(self) -> None:
        def insert(db: Connection, several: Sequence[entries.NewMessage]) -> list[tuple[int, ...]]:
            ids = real(db, several)
            if any(one.envelope.id == "bad" for one in several):
                raise OperationalError("x", {}, OSError("what is wrong with it"))
            return ids

        real = entries.insert_messages
        sending = [Deferred.fromCoroutine(self.send("x@b.test", id=id_)) for id_ in ("q1", "q2", "bad", "q3")]
        with mock.patch.object(entries, "insert_messages", insert):
            for id_, one in zip(("q1", "q2", "bad", "q3"), sending, strict=True):
                if id_ == "bad":
                    with self.assertRaises(OperationalError):
                        await one
                else:
                    self.assertEqual((await one)["x@b.test"].code, 250)
        self.assertEqual([entry.message_id for entry in self.entries()], ["q1", "q2", "q3"])

    async def test_the_same_message_twice_at_once_is_queued_once(self) -> None:
        await self.send_all("q0", "q1", "q1", "q2")
        self.assertEqual(sorted(entry.message_id for entry in self.entries()), ["q0", "q1", "q2"])
        await self.send_all("q2", "q3")
        self.assertEqual(sorted(entry.message_id for entry in self.entries()), ["q0", "q1", "q2", "q3"])

    async def test_too_many_that_wait_are_refused(self) -> None:
        with mock.patch.object(ledger, "MOST_WAITING", 2):
            sending = [Deferred.fromCoroutine(self.send("x@b.test", id=f"q{n}")) for n in range(5)]
            with self.assertRaises(Overloaded):
                await sending.pop()
        await gatherResults(sending[:3])
        self.assertEqual(len(self.entries()), 3)
        sending[3].addErrback(lambda failure: failure.trap(Overloaded))

    async def test_of_messages_to_several_each_entry_has_its_own_number(self) -> None:
        self.start()
        to = ("a@b.test", "c@c.test", "bob@a.test", "d@d.test")
        self.transfer.says = {"c@c.test": LATER}
        await gatherResults([Deferred.fromCoroutine(self.send(*to, id=f"q{n}")) for n in range(5)])
        waiting = await self.until(lambda: self._all_of("c@c.test"))
        self.assertEqual(sorted(entry.message_id for entry in waiting), [f"q{n}" for n in range(5)])
        self.assertEqual(len(self.transfer.got), 15)
        self.assertEqual(len(self.mda.got), 5)

    def _all_of(self, recipient: str) -> list[QueueEntry]:
        """What is in the queue, where that is nothing but this recipient's, each attempted once."""
        found = self.entries()
        return found if all((one.recipient, one.attempts) == (recipient, 1) for one in found) else []


class TestOnSqlite(LedgerContract, World):
    """SQLite."""


class TestOnPostgresql(LedgerContract, World):
    """PostgreSQL."""

    kind = "postgresql"
