"""Transactions on SQLite or PostgreSQL, blocking: called only from the threads of `mailstack.work`.

Theory of operation. Writers never see each other half done: on SQLite every write transaction opens with
BEGIN IMMEDIATE, because the driver's own mode starts none at SELECT and two readers would then both write
what they computed from the same row; on PostgreSQL it opens with advisory locks, on the database or on what
it names (`touches`). Many operations share one commit: each runs in its own SAVEPOINT, so that one that fails
takes back only its own rows, and all that succeeded become durable together. Before that commit the
directories that they renamed files into are fsynced: bytes, then directory, then row, then the answer.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from mailstack.db.announcements import Announcements, Ear, Notify, Pipes
from mailstack.db.announcements import begin as begin_announcing
from mailstack.db.announcements import end as end_announcing
from mailstack.db.touches import is_conflict, locks_of, take, touches

T = TypeVar("T")

_TRIES = 3  # at an operation that PostgreSQL takes back because of another transaction
_DIRECTORIES = "mailstack.directories"  # Connection.info: set[str] to fsync before the commit
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
        self.engine = self._sqlite(config) if self.is_sqlite else self._postgresql()
        self._patience = config.busy_timeout
        self._announcements = self._announced()
        self._kept = _KeptWriter(self._sqlite(config)) if self.is_sqlite else None
        self._readers = _KeptReaders(self._sqlite(config, kept=True)) if self.is_sqlite else None

    def read(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a read transaction: one consistent snapshot."""
        if self._readers is not None:
            return self._readers.read(function, *args)
        with self.engine.connect().execution_options(**self._snapshot) as db, db.begin():
            return function(db, *args)

    def apart(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a transaction that waits for no writer: for tables of its own.

        On PostgreSQL only: SQLite has one writer.
        """
        with self.engine.connect() as db, db.begin():
            return function(db, *args)

    def write(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a write transaction of its own; return or raise what it does."""

        def run(db: Connection) -> T:
            return function(db, *args)

        if (names := getattr(function, "touches", None)) is not None:
            touches(*names)(run)
        [outcome] = self.write_together([run])
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[return-value]

    def write_together(self, functions: Sequence[Callable[[Connection], Any]]) -> list[Outcome[Any]]:
        """Run each in a savepoint of one write transaction: those that raise are taken back, the rest commit.

        Never raises: where the transaction as a whole fails, every outcome carries that error.
        """
        for _ in range(_TRIES - 1):
            outcomes, again = self._write_once(functions)
            if not again:
                return outcomes
        return self._write_once(functions)[0]

    def _write_once(
        self, functions: Sequence[Callable[[Connection], Any]]
    ) -> tuple[list[Outcome[Any]], bool]:
        """The outcomes, and whether the same once more may end better."""
        done: list[Callable[[], None]] = []
        outcomes: list[Outcome[Any]] = []
        committing = False
        try:
            with self._transaction(functions) as db:
                directories: set[str] = set()
                db.info[_DIRECTORIES] = directories
                begin_announcing(db)
                try:
                    run = _in_savepoint if len(functions) > 1 else _alone
                    outcomes.extend(run(db, function, done) for function in functions)
                    for directory in directories:
                        _fsync_directory(directory)
                    lines = end_announcing(db)
                    self._announcements.before_commit(db, lines)
                    committing = True
                finally:
                    db.info.pop(_DIRECTORIES, None)
                    end_announcing(db)
        except Exception as error:
            # SQLite tells a failed commit from a made one; a lost PostgreSQL connection may hide a commit
            # that was made, and a file taken back then would leave its row without bytes.
            conflict = is_conflict(error)
            if self.is_sqlite or conflict or not committing:
                _take_back(done)
            return [Outcome(None, error) for _ in functions], conflict and not done
        self._announcements.after_commit(lines)
        return outcomes, False

    def listen(self) -> Ear:
        """Hear from now on what other processes announce (`announcements`). Raise OSError."""
        return self._announcements.listen()

    def dispose(self) -> None:
        """Close every connection."""
        if self._kept is not None:
            self._kept.close()
        if self._readers is not None:
            self._readers.close()
        self.engine.dispose()

    def _announced(self) -> Announcements:
        if not self.is_sqlite:
            return Notify(self.url)
        name = self.url.database
        return Pipes(None if name in (None, "", ":memory:") else Path(f"{name}.peers"))

    @contextmanager
    def _transaction(self, functions: Sequence[Callable[..., Any]]) -> Iterator[Connection]:
        """A write transaction for these, committed at the end."""
        if self._kept is not None:
            with self._kept.transaction() as db:
                yield db
        else:
            with self.engine.connect() as db, db.begin():
                take(db, locks_of(functions), self._patience)
                yield db

    def _sqlite(self, config: DatabaseConfig, kept: bool = False) -> Engine:
        pool = NullPool if kept or self.url.database in (None, "", ":memory:") else QueuePool
        engine = create_engine(self.url, poolclass=pool, connect_args={"timeout": config.busy_timeout})

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # we say BEGIN ourselves
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-8000"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(db: Connection) -> None:
            if not db.get_execution_options().get("mailstack_kept"):
                db.exec_driver_sql("BEGIN")

        return engine

    def _postgresql(self) -> Engine:
        return create_engine(self.url, pool_size=8, max_overflow=8, pool_pre_ping=True)


class _KeptWriter:
    """SQLite's writer: one connection, kept from one transaction to the next.

    It keeps the pages it wrote, which another connection would read again, and it says BEGIN and COMMIT to
    the driver itself: what SQLAlchemy does around each transaction costs as much as writing three rows. To
    SQLAlchemy it is in one transaction as long as it lives, so that it begins none of its own.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._db: Connection | None = None
        self._turn = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction, committed at the end; one at a time. Raise DBAPIError."""
        with self._turn:
            db = self._db or self._connect()
            driver: Any = db.connection.dbapi_connection
            try:
                _say(driver, "BEGIN IMMEDIATE")
                yield db
                _say(driver, "COMMIT")
            except BaseException:
                self._recover(driver)
                raise

    def close(self) -> None:
        """Close the connection; the next transaction opens another."""
        with self._turn:
            db, self._db = self._db, None
            if db is not None:
                db.close()
            self._engine.dispose()

    def _connect(self) -> Connection:
        db = self._engine.connect().execution_options(mailstack_kept=True)
        db.begin()
        self._db = db
        return db

    def _recover(self, driver: Any) -> None:
        try:
            driver.rollback()
        except sqlite3.Error:
            db, self._db = self._db, None
            if db is not None:
                db.invalidate()
                db.close()


class _KeptReaders:
    """SQLite's readers: a connection for each thread, kept as the writer's is, and to the same end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mine = threading.local()
        self._open: WeakSet[Connection] = WeakSet()
        self._lock = threading.Lock()

    def read(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a read transaction. Raise DBAPIError, or what it does."""
        db: Connection | None = getattr(self._mine, "db", None)
        if db is None or db.closed:
            db = self._connect()
        driver: Any = db.connection.dbapi_connection
        if driver.in_transaction:  # a read within a read: it has a snapshot of its own
            with self._engine.connect() as other, other.begin():
                return function(other, *args)
        _say(driver, "BEGIN")
        try:
            return function(db, *args)
        finally:
            try:
                driver.rollback()  # which also ends what was read in part
            except sqlite3.Error:
                del self._mine.db
                db.invalidate()
                db.close()

    def close(self) -> None:
        """Close the connections; whoever reads again opens another."""
        with self._lock:
            while self._open:
                self._open.pop().close()
        self._engine.dispose()

    def _connect(self) -> Connection:
        db = self._engine.connect().execution_options(mailstack_kept=True)
        db.begin()
        self._mine.db = db
        with self._lock:
            self._open.add(db)
        return db


def _say(driver: Any, statement: str) -> None:
    try:
        driver.execute(statement)
    except sqlite3.Error as error:
        raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error


def sync_directory(db: Connection, directory: Path | str) -> None:
    """Have `directory` fsynced before this transaction commits; asked for often, done once."""
    db.info[_DIRECTORIES].add(str(directory))


def undo(db: Connection, action: Callable[[], None]) -> None:
    """Have `action` called if this operation is rolled back: what was done to files beside the rows."""
    db.info[_UNDO].append(action)


def _alone(db: Connection, function: Callable[[Connection], T], done: list[Callable[[], None]]) -> Outcome[T]:
    """In no savepoint: nobody else's rows go with it if it fails. Raise what it does."""
    db.info[_UNDO] = done
    try:
        return Outcome(function(db), None)
    finally:
        del db.info[_UNDO]


def _in_savepoint(
    db: Connection, function: Callable[[Connection], T], done: list[Callable[[], None]]
) -> Outcome[T]:
    for left in reversed(range(_TRIES)):
        actions: list[Callable[[], None]] = []
        outcome = _in_one_savepoint(db, function, actions)
        if outcome.error is None:
            done.extend(actions)
        elif left and not actions and is_conflict(outcome.error):
            continue
        break
    return outcome


def _in_one_savepoint(
    db: Connection, function: Callable[[Connection], T], actions: list[Callable[[], None]]
) -> Outcome[T]:
    """One try; `actions` gets what takes back what it did to files."""
    db.info[_UNDO] = actions
    driver: Any = db.connection.dbapi_connection  # SQLAlchemy's own savepoints cost ten times as much
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


def _fsync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
