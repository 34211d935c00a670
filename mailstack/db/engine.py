"""Transactions on SQLite or PostgreSQL, blocking: called only from the threads of `mailstack.work`.

Theory of operation. Writers are serialised: on SQLite every write transaction opens with BEGIN IMMEDIATE,
because the driver's own mode starts none at SELECT and two readers would then both write what they
computed from the same row; on PostgreSQL it opens with an advisory lock, to the same end. Many operations
share one commit: each runs in its own SAVEPOINT, so that one that fails takes back only its own rows, and
all that succeeded become durable together. Before that commit the directories that they renamed files into
are fsynced: bytes, then directory, then row, then the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event, make_url

T = TypeVar("T")

_WRITER = 0x6D61696C  # the PostgreSQL advisory lock of whoever writes ("mail")
_DIRECTORIES = "mailstack.directories"  # Connection.info: set[Path] to fsync before the commit
_UNDO = "mailstack.undo"  # Connection.info: list of callables that take back what the files saw


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """[database] of the configuration file."""

    url: str = ""  # SQLAlchemy URL; empty: mailstack.db in the data directory
    busy_timeout: float = 5.0  # seconds a writer waits for another process's transaction


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What one operation of a shared transaction came to: a value, or the error that took it back."""

    value: T | None
    error: BaseException | None


class Database:
    """The engine with our transaction rules. Every method blocks."""

    def __init__(self, config: DatabaseConfig) -> None:
        self.url = make_url(config.url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        # SQLite's read transactions are snapshots by themselves.
        self._snapshot = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self.engine = self._sqlite(config) if self.is_sqlite else self._postgresql(config)
        # SQLite's writer keeps the pages it wrote: on another connection it would read them all again.
        self._writing = self._sqlite(config) if self.is_sqlite else self.engine

    def read(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a read transaction: one consistent snapshot."""
        with self.engine.connect().execution_options(**self._snapshot) as db, db.begin():
            return function(db, *args)

    def write(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a write transaction of its own; return or raise what it does."""
        [outcome] = self.write_together([lambda db: function(db, *args)])
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[return-value]

    def write_together(self, functions: Sequence[Callable[[Connection], Any]]) -> list[Outcome[Any]]:
        """Run each in a savepoint of one write transaction: those that raise are taken back, the rest commit.

        Never raises: where the transaction as a whole fails, every outcome carries that error.
        """
        done: list[Callable[[], None]] = []
        outcomes: list[Outcome[Any]] = []
        try:
            with self._writing.connect().execution_options(mailstack_write=True) as db:
                db.info[_DIRECTORIES] = set()
                try:
                    with db.begin():
                        outcomes.extend(_in_savepoint(db, function, done) for function in functions)
                        for directory in db.info[_DIRECTORIES]:
                            _fsync_directory(directory)
                finally:
                    db.info.pop(_DIRECTORIES, None)
        except Exception as error:
            # SQLite tells a failed commit from a made one; a lost PostgreSQL connection may hide a commit
            # that was made, and a file taken back then would leave its row without bytes.
            if self.is_sqlite:
                _take_back(done)
            return [Outcome(None, error) for _ in functions]
        return outcomes

    def dispose(self) -> None:
        """Close every pooled connection."""
        self._writing.dispose()
        self.engine.dispose()

    def _sqlite(self, config: DatabaseConfig) -> Engine:
        pool = NullPool if self.url.database in (None, "", ":memory:") else QueuePool
        engine = create_engine(self.url, poolclass=pool, connect_args={"timeout": config.busy_timeout})

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-8000"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(db: Connection) -> None:
            writing = db.get_execution_options().get("mailstack_write")
            db.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

        return engine

    def _postgresql(self, config: DatabaseConfig) -> Engine:
        engine = create_engine(self.url, pool_size=8, max_overflow=8, pool_pre_ping=True)

        @event.listens_for(engine, "begin")
        def begin(db: Connection) -> None:
            if db.get_execution_options().get("mailstack_write"):
                # One writer at a time over all processes, as BEGIN IMMEDIATE gives on SQLite.
                limit = int(config.busy_timeout * 1000)  # milliseconds
                db.exec_driver_sql(
                    f"SELECT set_config('lock_timeout', '{limit}', true), pg_advisory_xact_lock({_WRITER})"
                )

        return engine


def sync_directory(db: Connection, directory: Path) -> None:
    """Have `directory` fsynced before this transaction commits; asked for often, done once."""
    db.info[_DIRECTORIES].add(directory)


def undo(db: Connection, action: Callable[[], None]) -> None:
    """Have `action` called if this operation is rolled back: what was done to files beside the rows."""
    db.info[_UNDO].append(action)


def _in_savepoint(
    db: Connection, function: Callable[[Connection], T], done: list[Callable[[], None]]
) -> Outcome[T]:
    actions: list[Callable[[], None]] = []
    db.info[_UNDO] = actions
    driver: Any = db.connection.driver_connection  # SQLAlchemy's own savepoints cost ten times as much
    driver.execute("SAVEPOINT one")
    try:
        value = function(db)
        driver.execute("RELEASE SAVEPOINT one")
    except Exception as error:
        _take_back(actions)
        if _is_over(db):
            raise
        driver.execute("ROLLBACK TO SAVEPOINT one")
        driver.execute("RELEASE SAVEPOINT one")
        return Outcome(None, error)
    finally:
        del db.info[_UNDO]
    done.extend(actions)
    return Outcome(value, None)


def _is_over(db: Connection) -> bool:
    """Whether SQLite has rolled back the whole transaction by itself, as it may on a full disk.

    What ran before is lost then, and what ran after would commit statement by statement.
    """
    return getattr(db.connection.dbapi_connection, "in_transaction", True) is False


def _take_back(actions: list[Callable[[], None]]) -> None:
    for action in reversed(actions):
        try:
            action()
        except OSError:
            pass  # a file left behind is found by the next scan of its mailbox; it is never lost


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
