"""The two databases that every contract runs on, each a fixture with one test for each: without tables
(`empty_database`), or with all of them (`made_database`).

The latter go from test to test. To make the tables takes a hundred times as long as to empty them, and a Database
that is kept has its statements compiled.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

import mailstack.directory.tables
import mailstack.mta.tables
import mailstack.signing.tables
import mailstack.store.tables
import mailstack.trail.tables
from mailstack.db import Database, DatabaseConfig, metadata
from tests.postgres import fresh_database

DECLARED = (
    mailstack.directory.tables,
    mailstack.mta.tables,
    mailstack.signing.tables,
    mailstack.store.tables,
    mailstack.trail.tables,
)  # on `metadata`
KINDS = ("sqlite", "postgresql")
_BUSY = 10.0  # seconds


def database_url(kind: str, folder: Path) -> str:
    """The URL of a new, empty database; skips the test where PostgreSQL is not installed."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'test.db'}"
    try:
        url = _shared()
    except unittest.SkipTest as skip:
        pytest.skip(str(skip))
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as db:
        db.execute(text("DROP SCHEMA public CASCADE"))
        db.execute(text("CREATE SCHEMA public"))
    return url


@functools.cache
def _shared() -> str:
    """One database for the whole process: to empty it is ten times as fast as to make another."""
    return fresh_database()


@pytest.fixture(params=KINDS)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    database = Database(DatabaseConfig(database_url(request.param, tmp_path), busy_timeout=_BUSY))
    yield database
    database.dispose()


@pytest.fixture(params=KINDS)
def made_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with all tables, and no row."""
    try:
        with made(request.param) as one:
            yield one.database
    except unittest.SkipTest as skip:
        pytest.skip(str(skip))


class MadeFile:
    """SQLite's: the file is written anew."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        folder = tempfile.mkdtemp(prefix="mailstack-test-", dir=memory if memory.is_dir() else None)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._file = Path(folder, "test.db")
        self.database = Database(DatabaseConfig(f"sqlite:///{self._file}", busy_timeout=_BUSY))

    def empty(self) -> None:
        """Have all tables, and no row."""
        self.fill(_without_rows())

    def fill(self, content: bytes) -> None:
        """Be this file, and have nothing beside it."""
        self.database.dispose()
        for path in self._file.parent.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._file.write_bytes(content)


class MadeOnServer:
    """PostgreSQL's: rows, and tables that are not ours, are taken away, and numbers begin again."""

    def __init__(self) -> None:
        import psycopg

        url = fresh_database()
        self.database = Database(DatabaseConfig(url, busy_timeout=_BUSY))
        metadata.create_all(self.database.engine)
        plain = self.database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: Any = psycopg.connect(plain, autocommit=True)  # a new one would know no table yet
        sequences = self._first("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'")
        self._empty = ";".join(
            [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]
            + [f"SELECT setval('{name}', 1, false)" for name in sequences]
        )

    def empty(self) -> None:
        """Have all tables, and no row."""
        # What a failed test has left behind would keep us waiting.
        self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        there = self._first("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for name in there - set(metadata.tables):
            self._connection.execute(f"DROP TABLE {name} CASCADE")
        if set(metadata.tables) - there:
            metadata.create_all(self.database.engine)
        self._connection.execute(self._empty)

    def _first(self, query: str) -> set[str]:
        return {row[0] for row in self._connection.execute(query)}


_idle: dict[str, list[Any]] = {kind: [] for kind in KINDS}


@contextmanager
def made(kind: str) -> Iterator[Any]:
    """A MadeFile or MadeOnServer without rows, which nobody else uses meanwhile; raise SkipTest where there is none."""
    one = _idle[kind].pop() if _idle[kind] else {"sqlite": MadeFile, "postgresql": MadeOnServer}[kind]()
    one.empty()
    try:
        yield one
    finally:
        if kind == "sqlite":  # PostgreSQL's connections know the tables: a new one reads its catalogs first
            one.database.dispose()
        _idle[kind].append(one)


@functools.cache
def _without_rows() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "test.db")
        database = Database(DatabaseConfig(f"sqlite:///{file}"))
        metadata.create_all(database.engine)
        database.dispose()
        return file.read_bytes()
