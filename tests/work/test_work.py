"""The threads: group commit, errors, bounds, the end. A real reactor, a real SQLite file."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.trial.unittest import TestCase

from mailstack.db import Database, DatabaseConfig
from mailstack.work import ENOUGH, Overloaded, Work, WorkConfig
from tests.running import PATIENCE

things = Table("things", MetaData(), Column("id", Integer, primary_key=True))


class Counted(Database):
    """A database that remembers how many operations each commit had."""

    def __init__(self, config: DatabaseConfig) -> None:
        super().__init__(config)
        self.batches: list[int] = []

    def write_together(self, functions: Any) -> Any:
        self.batches.append(len(functions))
        return super().write_together(functions)


class Gate:
    """Keeps one thread waiting until the test opens it, so that work piles up behind."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self.reached = threading.Event()

    def __call__(self, *_args: Any) -> str:
        self.reached.set()
        assert self._opened.wait(PATIENCE)
        return "through"

    def open(self) -> None:
        self._opened.set()


def add(db: Connection, number: int) -> int:
    db.execute(insert(things).values(id=number))
    return number


def ids(db: Connection) -> list[int]:
    return list(db.scalars(select(things.c.id).order_by(things.c.id)))


def start(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


class WorkCase(TestCase):
    timeout = 2 * PATIENCE
    config = WorkConfig(readers=2, files=2, hashers=1, batch=200, queue=300)

    def setUp(self) -> None:
        self.database = Counted(DatabaseConfig(f"sqlite:///{Path(self.mktemp()).absolute()}"))
        things.metadata.create_all(self.database.engine)
        self.work = Work(reactor, self.database, self.config)
        self.closed = False

    async def tearDown(self) -> None:
        if not self.closed:
            await self.work.close()


class TestTransactions(WorkCase):
    async def test_it_is_committed_when_it_answers(self) -> None:
        self.assertEqual(await self.work.transaction(add, 1), 1)
        self.assertEqual(await self.work.read(ids), [1])

    async def test_what_waits_shares_the_next_commit(self) -> None:
        gate = Gate()
        first = start(self.work.transaction(gate))
        gate.reached.wait(PATIENCE)
        waiting = [start(self.work.transaction(add, number)) for number in range(250)]
        gate.open()
        self.assertEqual(await gatherResults(waiting), list(range(250)))
        self.assertEqual(await first, "through")
        self.assertEqual(self.database.batches, [1, 200, 50])
        self.assertEqual(await self.work.read(ids), list(range(250)))

    async def test_one_that_fails_fails_alone(self) -> None:
        await self.work.transaction(add, 1)
        gate = Gate()
        first = start(self.work.transaction(gate))
        gate.reached.wait(PATIENCE)
        before, broken, after = (start(self.work.transaction(add, number)) for number in (2, 1, 3))
        gate.open()
        await first
        self.assertEqual(await before, 2)
        await self.assertFailure(broken, Exception)
        self.assertEqual(await after, 3)
        self.assertEqual(self.database.batches, [1, 1, 3])
        self.assertEqual(await self.work.read(ids), [1, 2, 3])

    async def test_they_run_in_the_order_they_came(self) -> None:
        order: list[int] = []

        def note(_db: Connection, number: int) -> None:
            order.append(number)

        await gatherResults([start(self.work.transaction(note, number)) for number in range(100)])
        self.assertEqual(order, list(range(100)))

    async def test_an_answer_nobody_waits_for_is_dropped(self) -> None:
        gate = Gate()
        first = start(self.work.transaction(gate))
        gate.reached.wait(PATIENCE)
        left = start(self.work.transaction(add, 1))
        left.cancel()
        await self.assertFailure(left, CancelledError)
        stays = start(self.work.transaction(add, 2))
        gate.open()
        await first
        self.assertEqual(await stays, 2)
        self.assertEqual(await self.work.read(ids), [1, 2])

    async def test_a_locked_database_is_an_error_and_is_got_over(self) -> None:
        other = Database(DatabaseConfig(self.database.url.render_as_string(False)))
        impatient = Work(reactor, Database(DatabaseConfig(self.database.url.render_as_string(False), 0.01)))
        with other.engine.connect() as db, db.begin():
            add(db, 2)  # who writes has the lock
            await self.assertFailure(start(impatient.transaction(add, 1)), Exception)
        self.assertEqual(await impatient.transaction(add, 1), 1)
        await impatient.close()
        other.dispose()


class TestWriterSurvives(WorkCase):
    async def test_an_operation_that_wants_to_end_the_program(self) -> None:
        def leave(_db: Any) -> None:
            raise SystemExit(3)

        with self.assertRaises(SystemExit):
            await self.work.transaction(leave)
        self.assertEqual(await self.work.transaction(add, 1), 1)


class TestPrepared(WorkCase):
    async def test_first_the_file_then_the_row(self) -> None:
        threads: list[str] = []

        def prepare() -> int:
            threads.append(threading.current_thread().name)
            return 7

        def write(db: Connection, number: int) -> int:
            threads.append(threading.current_thread().name)
            return add(db, number)

        self.assertEqual(await self.work.prepared(prepare, write), 7)
        self.assertEqual(await self.work.read(ids), [7])
        # Nobody wrote: the file's thread writes the row as well.
        self.assertEqual([name.rstrip("-0123456789") for name in threads], ["mailstack-files"] * 2)

    async def test_the_row_waits_for_a_writer_that_is_at_work_and_for_what_came_before(self) -> None:
        gate = Gate()
        first = start(self.work.transaction(gate))
        gate.reached.wait(PATIENCE)
        rows: list[int] = []
        prepared = [threading.Event() for _ in range(3)]

        def row(_db: Connection, number: int) -> str:
            rows.append(number)
            return threading.current_thread().name

        def prepare(number: int) -> int:
            prepared[number].set()
            return number

        writing = []
        for number, done in enumerate(prepared):
            writing.append(start(self.work.prepared(partial(prepare, number), row)))
            done.wait(PATIENCE)
        last = start(self.work.transaction(row, 3))
        gate.open()
        self.assertEqual(await gatherResults([*writing, last]), ["mailstack-db-write"] * 4)
        self.assertEqual(await first, "through")
        self.assertEqual(sorted(rows), [0, 1, 2, 3])
        self.assertEqual(sum(self.database.batches), 5)

    async def test_who_is_prepared_waits_for_who_will_be_soon_and_shares_the_commit(self) -> None:
        gate, done = Gate(), threading.Event()
        last = start(self.work.prepared(lambda: gate() and 1, add))
        gate.reached.wait(PATIENCE)
        first = start(self.work.prepared(lambda: done.set() or 2, add))
        done.wait(PATIENCE)
        await self.work.files(int)  # the thread that prepared it is free again
        self.assertEqual(self.database.batches, [])
        gate.open()
        self.assertEqual(await gatherResults([first, last]), [2, 1])
        self.assertEqual(self.database.batches, [2])

    async def test_nobody_waits_for_what_takes_long_or_fails(self) -> None:
        gate = Gate()
        long = start(self.work.prepared(lambda: gate() and 1, add, quick=False))
        gate.reached.wait(PATIENCE)
        self.assertEqual(await self.work.prepared(lambda: 2, add), 2)
        gate.open()
        await long

        broken = Gate()
        fails = start(self.work.prepared(lambda: broken() and 1 // 0, add))
        broken.reached.wait(PATIENCE)
        waits = start(self.work.prepared(lambda: 3, add))
        broken.open()
        await self.assertFailure(fails, ZeroDivisionError)
        self.assertEqual(await waits, 3)

    async def test_nobody_waits_for_who_has_no_thread_yet(self) -> None:
        long = [Gate(), Gate()]  # as many as there are threads
        first = Gate()
        ready = start(self.work.prepared(lambda: first() and 1, add))
        first.reached.wait(PATIENCE)
        slow = [start(self.work.files(gate)) for gate in long]
        behind = start(self.work.prepared(lambda: 2, add))
        first.open()
        self.assertEqual(await ready, 1)
        self.assertFalse(behind.called)
        for gate in long:
            gate.open()
        self.assertEqual(await gatherResults([*slow, behind]), ["through", "through", 2])

    async def test_enough_of_them_wait_for_no_other(self) -> None:
        gate = Gate()
        last = start(self.work.prepared(lambda: gate() and 1, add))
        gate.reached.wait(PATIENCE)
        many = [start(self.work.prepared(lambda n=n: n, add)) for n in range(2, 2 + ENOUGH)]
        self.assertEqual(await gatherResults(many), list(range(2, 2 + ENOUGH)))
        gate.open()
        await last

    async def test_what_cannot_be_prepared_is_not_written(self) -> None:
        def prepare() -> int:
            raise OSError(28, "No space left on device")

        await self.assertFailure(start(self.work.prepared(prepare, add)), OSError)
        self.assertEqual(self.database.batches, [])

    async def test_a_full_writer_refuses_after_the_preparation(self) -> None:
        gate = Gate()
        first = start(self.work.transaction(gate))
        gate.reached.wait(PATIENCE)
        waiting = [start(self.work.transaction(add, number)) for number in range(300)]
        await self.assertFailure(start(self.work.prepared(lambda: 1000, add)), Overloaded)
        gate.open()
        await gatherResults([first, *waiting])


class TestPools(WorkCase):
    async def test_each_kind_has_its_threads(self) -> None:
        def name(*_args: Any) -> str:
            return threading.current_thread().name

        runs: list[tuple[Callable[..., Any], str]] = [
            (self.work.read, "mailstack-db-read-0"),
            (self.work.files, "mailstack-files-0"),
            (self.work.hash, "mailstack-hash-0"),
            (self.work.compute, "mailstack-compute-0"),
            (self.work.transaction, "mailstack-db-write"),
        ]
        for run, expected in runs:
            self.assertEqual(await run(name), expected)

    async def test_answers_and_errors_arrive_in_the_reactors_thread(self) -> None:
        here = threading.current_thread()

        def divide(a: int, b: int) -> float:
            return a / b

        self.assertEqual(await self.work.compute(divide, 6, 3), 2.0)
        self.assertIs(threading.current_thread(), here)
        await self.assertFailure(start(self.work.compute(divide, 1, 0)), ZeroDivisionError)
        self.assertIs(threading.current_thread(), here)
        self.assertEqual(await self.work.compute(divide, 8, 4), 2.0)  # the thread has survived

    async def test_no_more_threads_than_allowed(self) -> None:
        def name() -> str:
            return threading.current_thread().name

        names = await gatherResults([start(self.work.files(name)) for _ in range(50)])
        self.assertLessEqual(set(names), {"mailstack-files-0", "mailstack-files-1"})

    async def test_two_file_threads_work_at_once(self) -> None:
        gate = Gate()
        slow = start(self.work.files(gate))
        gate.reached.wait(PATIENCE)
        self.assertEqual(await self.work.files(lambda: "fast"), "fast")
        gate.open()
        self.assertEqual(await slow, "through")

    async def test_reading_does_not_wait_for_the_writer(self) -> None:
        gate = Gate()
        slow = start(self.work.transaction(gate))
        gate.reached.wait(PATIENCE)
        self.assertEqual(await self.work.read(ids), [])
        gate.open()
        await slow


class TestBounds(WorkCase):
    config = WorkConfig(readers=1, files=1, hashers=1, queue=3)

    async def test_a_full_queue_refuses_at_once_and_takes_work_again(self) -> None:
        for run in (self.work.files, self.work.hash, self.work.read, self.work.transaction):
            gate = Gate()
            first = start(run(gate))
            gate.reached.wait(PATIENCE)
            waiting = [start(run(lambda *_: "done")) for _ in range(3)]
            await self.assertFailure(start(run(lambda *_: "too much")), Overloaded)
            gate.open()
            self.assertEqual(await gatherResults([first, *waiting]), ["through", "done", "done", "done"])
            self.assertEqual(await run(lambda *_: "again"), "again")


class TestClose(WorkCase):
    async def test_what_is_queued_is_finished_first(self) -> None:
        gate = Gate()
        first = start(self.work.transaction(gate))
        gate.reached.wait(PATIENCE)
        waiting = [start(self.work.transaction(add, number)) for number in range(5)]
        self.closed = True
        closing = start(self.work.close())
        gate.open()
        await closing
        self.assertEqual(await gatherResults(waiting), [0, 1, 2, 3, 4])
        self.assertEqual(await first, "through")
        self.assertEqual(self.database.read(ids), [0, 1, 2, 3, 4])
        self.database.dispose()

    async def test_a_file_that_is_being_prepared_gets_its_row(self) -> None:
        gate = Gate()
        prepared = start(self.work.prepared(lambda: gate() and 9, add))
        gate.reached.wait(PATIENCE)
        self.closed = True
        closing = start(self.work.close())
        gate.open()
        await closing
        self.assertEqual(await prepared, 9)

    async def test_afterwards_all_work_is_refused_and_no_thread_is_left(self) -> None:
        await self.work.transaction(add, 1)
        await self.work.files(int)
        before = {thread for thread in threading.enumerate() if thread.name.startswith("mailstack-")}
        self.closed = True
        await self.work.close()
        for run in (
            self.work.transaction,
            self.work.read,
            self.work.files,
            self.work.hash,
            self.work.compute,
        ):
            await self.assertFailure(start(run(int)), Overloaded)
        mine = {"mailstack-db-write", "mailstack-files-0"}
        self.assertFalse([thread for thread in before if thread.name in mine and thread.is_alive()])

    async def test_without_work_it_closes_at_once(self) -> None:
        self.closed = True
        self.work.startService()
        await self.work.stopService()
