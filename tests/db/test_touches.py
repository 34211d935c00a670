"""What may be written side by side on PostgreSQL, and what not: two servers, each with connections of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select, text, update
from sqlalchemy.exc import OperationalError

from mailstack.db import Database, DatabaseConfig, touches, undo
from mailstack.db.touches import locks_of
from tests.databases import database_url
from tests.running import PATIENCE

things = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("value", Integer))
IMPATIENT = 0.05


def add_one(db: Connection, *ids: int) -> None:
    """Not in one statement: what another writes between reading and writing would be lost."""
    for id_ in ids:
        value = db.scalar(select(things.c.value).where(things.c.id == id_)) or 0
        db.execute(update(things).where(things.c.id == id_).values(value=value + 1))


def raise_one(db: Connection, id_: int) -> None:
    """In one statement: it waits for whoever writes the row, and loses nothing of theirs."""
    db.execute(update(things).where(things.c.id == id_).values(value=things.c.value + 1))


def values(db: Connection) -> list[int]:
    return list(db.scalars(select(things.c.value).order_by(things.c.id)))


class Two:
    """Two servers on one database."""

    def __init__(self, url: str) -> None:
        self.one = Database(DatabaseConfig(url, busy_timeout=PATIENCE))
        self.two = Database(DatabaseConfig(url, busy_timeout=PATIENCE))
        self.hasty = Database(DatabaseConfig(url, busy_timeout=IMPATIENT))
        self.threads = ThreadPoolExecutor(2)

    def begin(self, operation: Callable[[Connection], Any]) -> tuple[Callable[[], None], Future[Any]]:
        """Have the first server write, up to just before its commit; and what lets it go on."""
        reached, gate = threading.Event(), threading.Event()

        def run(db: Connection) -> Any:
            value = operation(db)
            reached.set()
            assert gate.wait(PATIENCE)
            return value

        if (names := getattr(operation, "touches", None)) is not None:
            run.touches = names  # type: ignore[attr-defined]
        writing = self.threads.submit(self.one.write, run)
        assert reached.wait(PATIENCE)
        return gate.set, writing

    def second(self, operation: Callable[[Connection], Any]) -> Future[Any]:
        """Have the second server write; return when it has, or waits for a lock."""
        writing = self.threads.submit(self.two.write, operation)
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not writing.done() and not self.one.read(lambda db: db.scalar(waiting)):
            time.sleep(0.002)
        return writing

    def close(self) -> None:
        self.threads.shutdown()
        for database in (self.one, self.two, self.hasty):
            database.dispose()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    both = Two(database_url("postgresql", tmp_path))
    things.metadata.create_all(both.one.engine)
    both.one.write(lambda db: db.execute(insert(things), [{"id": n, "value": 0} for n in range(4)]) and None)
    yield both
    both.close()


def named(*names: str, ids: tuple[int, ...] = (0,)) -> Callable[[Connection], None]:
    return touches(*names)(partial(_add, ids))


def _add(ids: tuple[int, ...], db: Connection) -> None:
    add_one(db, *ids)


def saying_nothing(db: Connection) -> None:
    add_one(db, 1)


class TestSideBySide:
    def test_what_names_nothing_of_the_same_goes_beside(self, two: Two) -> None:
        go_on, writing = two.begin(named("a", ids=(0,)))
        two.hasty.write(named("b", ids=(1,)))
        two.hasty.write(named(ids=(2,)))
        assert two.two.read(values) == [0, 1, 1, 0]
        go_on()
        writing.result(PATIENCE)
        assert two.two.read(values) == [1, 1, 1, 0]

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (named("a"), named("b", "a")),
            (named("a"), saying_nothing),
            (saying_nothing, named("a")),
            (saying_nothing, named()),
            (saying_nothing, saying_nothing),
        ],
    )
    def test_everything_else_waits(self, two: Two, first: Any, second: Any) -> None:
        go_on, writing = two.begin(first)
        with pytest.raises(OperationalError, match="lock timeout"):
            two.hasty.write(second)
        go_on()
        writing.result(PATIENCE)
        two.hasty.write(second)
        assert sum(two.two.read(values)) == 2

    def test_one_that_says_nothing_has_the_database_for_all_that_is_written_with_it(self, two: Two) -> None:
        go_on, writing = two.begin(named("a"))
        outcomes = two.hasty.write_together([named("b", ids=(2,)), saying_nothing])
        assert all(isinstance(one.error, OperationalError) for one in outcomes)
        go_on()
        writing.result(PATIENCE)

    def test_names_in_any_order_lose_nothing_and_never_wait_in_a_circle(self, two: Two) -> None:
        rounds = 60

        def work(database: Database, names: tuple[str, ...], ids: tuple[int, ...]) -> list[BaseException]:
            some = [named(name, ids=(id_,)) for name, id_ in zip(names, ids, strict=True)]
            outcomes = [one for _ in range(rounds) for one in database.write_together(some)]
            return [one.error for one in outcomes if one.error is not None]

        first = two.threads.submit(work, two.one, ("a", "b", "c"), (0, 1, 2))
        second = two.threads.submit(work, two.two, ("c", "b", "a"), (2, 1, 0))
        assert (first.result(PATIENCE), second.result(PATIENCE)) == ([], [])
        assert two.one.read(values) == [2 * rounds] * 3 + [0]

    def test_too_many_names_are_all_of_them(self) -> None:
        assert locks_of([named(*map(str, range(2000)))]) is None
        assert locks_of([named("a"), saying_nothing]) is None
        assert locks_of([]) == []
        both = locks_of([named("a", "b"), named("c", "a")])
        assert both is not None
        assert both == sorted(set(both))
        assert len(both) == 3
        assert all(-(1 << 31) <= one < 1 << 31 for one in both)


class TestConflicts:
    """Operations that say less than they should: PostgreSQL finds the circle and takes one of them back."""

    def meet(self, two: Two, *, files: bool = False, beside: bool = False) -> list[Any]:
        meeting = threading.Barrier(2)
        tries: list[int] = []

        @touches()
        def nothing(db: Connection) -> None:
            pass

        def work(database: Database, ids: tuple[int, int]) -> Any:
            @touches()
            def circle(db: Connection) -> None:
                db.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
                if files:
                    undo(db, lambda: None)
                tries.append(1)
                raise_one(db, ids[0])
                try:
                    meeting.wait(PATIENCE if len(tries) < 3 else 0)
                except threading.BrokenBarrierError:
                    pass
                raise_one(db, ids[1])

            return database.write_together([circle, nothing] if beside else [circle])[0].error

        found = [two.threads.submit(work, two.one, (0, 1)), two.threads.submit(work, two.two, (1, 0))]
        return [*(one.result(PATIENCE) for one in found), len(tries)]

    @pytest.mark.parametrize("beside", [False, True])
    def test_it_is_tried_again(self, two: Two, beside: bool) -> None:
        [*errors, tries] = self.meet(two, beside=beside)
        assert errors == [None, None]
        assert tries >= 3  # the next try may meet the other one again
        assert two.one.read(values) == [2, 2, 0, 0]

    def test_but_not_what_has_done_something_to_files(self, two: Two) -> None:
        [*errors, tries] = self.meet(two, files=True)
        assert sorted(str(error).count("deadlock detected") for error in errors) == [0, 1]
        assert tries == 2
        assert two.one.read(values) == [1, 1, 0, 0]
