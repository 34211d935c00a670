"""The transaction rules, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from mailstack.db import Database, DatabaseConfig, sync_directory, undo

things = Table("things", MetaData(), Column("id", Integer, primary_key=True), Column("value", Text))


@pytest.fixture
def database(empty_database: Database) -> Database:
    things.metadata.create_all(empty_database.engine)
    return empty_database


def numbers(db: Connection) -> int:
    return db.scalar(select(func.count()).select_from(things)) or 0


def add(db: Connection, number: int, value: str = "") -> int:
    db.execute(insert(things).values(id=number, value=value))
    return number


def ids(db: Connection) -> list[int]:
    return list(db.scalars(select(things.c.id).order_by(things.c.id)))


class TestContract:
    def test_a_write_is_seen_by_the_next_read(self, database: Database) -> None:
        assert database.write(add, 7) == 7
        assert database.read(ids) == [7]

    def test_a_read_within_a_read(self, database: Database) -> None:
        database.write(add, 1)

        def outer(db: Connection) -> tuple[int, int, int]:
            before = numbers(db)
            database.write(add, 2)
            return before, database.read(numbers), numbers(db)

        assert database.read(outer) == (1, 2, 1)
        assert database.read(numbers) == 2

    def test_a_read_that_fails_or_stops_half_way_leaves_the_next_its_own_snapshot(
        self, database: Database
    ) -> None:
        database.write(add, 1)
        database.write(add, 2)

        def half(db: Connection) -> int:
            return next(iter(db.execute(select(things.c.id).order_by(things.c.id)))).id

        assert database.read(half) == 1
        database.write(add, 3)
        assert database.read(numbers) == 3
        with pytest.raises(OperationalError if database.is_sqlite else ProgrammingError):
            database.read(lambda db: db.execute(text("SELECT nothing FROM nowhere")))
        database.write(add, 4)
        assert database.read(numbers) == 4

    def test_reading_again_after_all_was_closed(self, database: Database) -> None:
        database.write(add, 1)
        assert database.read(numbers) == 1
        database.dispose()
        assert database.read(numbers) == 1

    def test_concurrent_read_then_update_loses_nothing(self, database: Database) -> None:
        database.write(add, 1, "0")

        def count(db: Connection) -> None:
            seen = db.scalar(select(things.c.value).where(things.c.id == 1))
            db.execute(update(things).where(things.c.id == 1).values(value=str(int(seen or 0) + 1)))

        errors: list[BaseException] = []

        def run() -> None:
            try:
                for _ in range(150):
                    database.write(count)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert database.read(lambda db: db.scalar(select(things.c.value))) == "600"

    def test_an_operation_that_fails_takes_back_only_its_own_rows(self, database: Database) -> None:
        def half(db: Connection) -> None:
            add(db, 2)
            add(db, 1)  # there already

        first, second, third = database.write_together([lambda db: add(db, 1), half, lambda db: add(db, 3)])
        assert (first.value, first.error) == (1, None)
        assert isinstance(second.error, IntegrityError)
        assert (third.value, third.error) == (3, None)
        assert database.read(ids) == [1, 3]

    def test_write_raises_the_error_of_its_function(self, database: Database) -> None:
        def fail(db: Connection) -> None:
            add(db, 1)
            raise LookupError("no")

        with pytest.raises(LookupError, match="no"):
            database.write(fail)
        assert database.read(ids) == []

    def test_undo_runs_for_what_failed_newest_first(self, database: Database) -> None:
        done: list[str] = []

        def fail(db: Connection) -> None:
            undo(db, lambda: done.append("first"))
            undo(db, lambda: done.append("second"))
            raise LookupError

        def succeed(db: Connection) -> None:
            undo(db, lambda: done.append("never"))

        database.write_together([fail, succeed])
        assert done == ["second", "first"]

    def test_an_undo_that_cannot_does_not_stop_the_others(self, database: Database) -> None:
        done: list[str] = []

        def gone() -> None:
            raise FileNotFoundError

        def fail(db: Connection) -> None:
            undo(db, lambda: done.append("first"))
            undo(db, gone)
            raise LookupError

        [outcome] = database.write_together([fail])
        assert isinstance(outcome.error, LookupError)
        assert done == ["first"]

    def test_each_directory_is_synced_once_before_the_commit(
        self, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there: list[int] = []
        synced: list[str] = []

        def fsync(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            there.append(len(database.read(ids)))  # what another connection sees at this moment

        monkeypatch.setattr(os, "fsync", fsync)

        def deliver(number: int) -> Callable[[Connection], None]:
            def put(db: Connection) -> None:
                add(db, number)
                sync_directory(db, tmp_path)

            return put

        database.write_together([deliver(1), deliver(2)])
        assert synced == [str(tmp_path)]
        assert there == [0]
        assert database.read(ids) == [1, 2]

    def test_a_directory_that_cannot_be_synced_fails_every_operation(
        self, database: Database, tmp_path: Path
    ) -> None:
        def deliver(db: Connection) -> None:
            add(db, 2)
            sync_directory(db, tmp_path / "missing")

        outcomes = database.write_together([lambda db: add(db, 1), deliver])
        assert [type(outcome.error) for outcome in outcomes] == [FileNotFoundError, FileNotFoundError]
        assert database.read(ids) == []
        assert database.write(add, 5) == 5

    def test_a_read_sees_one_snapshot(self, database: Database) -> None:
        database.write(add, 1)

        def twice(db: Connection) -> tuple[int, int]:
            before = len(ids(db))
            other = threading.Thread(target=database.write, args=(add, 2))
            other.start()
            other.join()
            return before, len(ids(db))

        assert database.read(twice) == (1, 1)
        assert database.read(ids) == [1, 2]

    def test_a_writer_that_waits_too_long_gets_an_error_and_the_next_one_works(
        self, database: Database
    ) -> None:
        impatient = Database(DatabaseConfig(database.url.render_as_string(False), busy_timeout=0.05))
        database.write(add, 1)
        try:

            def hold(db: Connection) -> list[Any]:
                add(db, 2)
                return impatient.write_together([lambda other: add(other, 3), lambda other: add(other, 4)])

            outcomes = database.write(hold)
            assert [type(outcome.error) for outcome in outcomes] == [OperationalError, OperationalError]
            assert impatient.write(add, 5) == 5
            assert impatient.read(ids) == [1, 2, 5]
        finally:
            impatient.dispose()


class Conflict(Exception):
    """As psycopg has it: the transaction was taken back because of another one."""

    sqlstate = "40001"


@pytest.mark.parametrize(("error", "files", "times"), [(Conflict, 0, 2), (Conflict, 1, 1), (OSError, 0, 1)])
def test_only_a_conflict_is_tried_again_and_not_where_files_were_changed(
    database: Database, error: type[Exception], files: int, times: int
) -> None:
    tries, taken_back = [], []

    def put(db: Connection) -> int:
        tries.append(1)
        for _ in range(files):
            undo(db, lambda: taken_back.append(1))
        add(db, 1)
        if len(tries) == 1:
            raise error
        return 1

    [outcome] = database.write_together([put])
    assert (len(tries), len(taken_back)) == (times, files)
    assert (type(outcome.error), database.read(ids)) == ((type(None), [1]) if times == 2 else (error, []))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_is_lost_at_the_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """PostgreSQL may have made the commit: a file that was taken back then would leave its row without octets."""
    transaction = database._transaction
    taken_back: list[int] = []

    @contextmanager
    def losing(functions: Any) -> Iterator[Connection]:
        with transaction(functions) as db:
            yield db
        raise OSError("the connection is lost")

    def put(db: Connection) -> int:
        undo(db, lambda: taken_back.append(1))
        if when == "before":
            raise OSError("the disk is full")
        return add(db, 1)

    monkeypatch.setattr(database, "_transaction", losing)
    [outcome] = database.write_together([put])
    assert isinstance(outcome.error, OSError)
    assert taken_back == ([1] if when == "before" or database.is_sqlite else [])


class TestSqlite:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        database = Database(DatabaseConfig(f"sqlite:///{tmp_path / 'one.db'}"))
        things.metadata.create_all(database.engine)
        yield database
        database.dispose()

    def test_it_is_durable_and_keeps_references(self, database: Database) -> None:
        def pragma(db: Connection, name: str) -> Any:
            return db.execute(text(f"PRAGMA {name}")).scalar()

        assert database.read(pragma, "journal_mode") == "wal"
        assert database.read(pragma, "synchronous") == 2  # FULL: a commit survives a power cut
        assert database.read(pragma, "foreign_keys") == 1

    def test_a_full_disk_fails_the_batch_whole_and_is_got_over(
        self, database: Database, tmp_path: Path
    ) -> None:
        taken_back: list[int] = []
        database.write(add, 1)

        def limit(db: Connection, pages: int) -> None:
            db.execute(text(f"PRAGMA max_page_count={pages}"))

        def put(number: int, size: int) -> Callable[[Connection], int]:
            def run(db: Connection) -> int:
                undo(db, lambda: taken_back.append(number))
                return add(db, number, "x" * size)

            return run

        database.write(limit, 20)
        outcomes = database.write_together([put(2, 10), put(3, 1_000_000), put(4, 10)])
        kept = set(database.read(ids))
        # Whoever was told of success has a row; whoever ran and was told of failure has taken back its file.
        said = {number for number, outcome in zip((2, 3, 4), outcomes, strict=True) if outcome.error is None}
        assert kept == {1} | said
        assert set(taken_back) == {2, 3}
        assert said == set()
        database.write(limit, 1_000_000)
        database.write(put(5, 1_000_000))
        assert database.read(lambda db: db.scalar(select(func.max(things.c.id)))) == 5

    def test_a_commit_that_fails_takes_back_what_was_done(self, database: Database) -> None:
        done: list[str] = []

        def put(db: Connection) -> int:
            undo(db, lambda: done.append("taken back"))
            db.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
            db.exec_driver_sql("INSERT INTO children VALUES (1)")
            return 1

        database.write(
            lambda db: db.exec_driver_sql(
                "CREATE TABLE children (id INTEGER REFERENCES things DEFERRABLE INITIALLY DEFERRED)"
            )
        )
        [outcome] = database.write_together([put])
        assert isinstance(outcome.error, (IntegrityError, sqlite3.IntegrityError))
        assert done == ["taken back"]
        assert database.write(add, 1) == 1
