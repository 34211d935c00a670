"""Which write transactions of several processes may run at once on PostgreSQL, and which stand in line.

Theory of operation. An operation that says nothing has the database to itself: it may read anything and
write what follows from it. One that says what it `touches` takes a share in the database instead, and locks
what it names: a user's mail, a message of the queue. So it runs beside others that name nothing of the same,
and beside none that says nothing. What it promises for that: whatever it reads and then writes belongs to
what it names, or to nobody else (rows of its own making, entries that are leased to it), or is taken with
FOR UPDATE SKIP LOCKED, which never waits.

All locks are advisory ones, taken before the first operation of the transaction, the names in the order of
their numbers, and held until it is committed and seen by all. So nobody waits for a lock while holding one
that comes later: no two transactions of ours can wait for each other. SQLite has one writer anyway; there
the names cost nothing and do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from zlib import crc32

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

F = TypeVar("F", bound=Callable[..., Any])

_DATABASE = 0x6D61696C  # the advisory lock of all writers ("mail")
_NAMES = 0x6D61696C  # the class of those of two numbers, which PostgreSQL keeps apart from it
_MOST = 1000  # names of one transaction: PostgreSQL has room for some thousand locks
_CONFLICTS = ("40001", "40P01")  # PostgreSQL's serialization_failure and deadlock_detected


def touches(*names: str) -> Callable[[F], F]:
    """Say of an operation, which is no one else's function, what it names; none: nothing of anybody's."""

    def mark(function: F) -> F:
        function.touches = names  # type: ignore[attr-defined]
        return function

    return mark


def user_mail(user_id: int) -> str:
    """The name of all mailboxes of a user."""
    return f"mail of {user_id}"


def queued_message(queue_id: str) -> str:
    """The name of a message of the queue with all its entries."""
    return f"queued {queue_id}"


def locks_of(operations: Iterable[Callable[..., Any]]) -> list[int] | None:
    """The numbers to lock for a transaction of these, in order; None: it has the database to itself."""
    numbers: set[int] = set()
    for operation in operations:
        names = getattr(operation, "touches", None)
        if names is None:
            return None
        numbers.update(crc32(name.encode()) - 0x80000000 for name in names)
    return sorted(numbers) if len(numbers) <= _MOST else None


def take(db: Connection, locks: list[int] | None, patience: float) -> None:
    """Wait for the locks, `patience` seconds for each; they are held until the commit. Raise DBAPIError."""
    shared = "" if locks is None else "_shared"
    db.exec_driver_sql(
        f"SELECT set_config('lock_timeout', '{int(patience * 1000)}', true), "
        f"pg_advisory_xact_lock{shared}({_DATABASE})"
    )
    if locks:
        statement = f"SELECT pg_advisory_xact_lock({_NAMES}, one) FROM unnest(%s::int[]) AS one"
        db.exec_driver_sql(statement, (locks,))


def is_conflict(error: BaseException) -> bool:
    """Whether PostgreSQL took something back because of another transaction: the same again may work."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) in _CONFLICTS
