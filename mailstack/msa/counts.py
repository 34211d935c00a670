"""What each user, or each trusted client, has submitted in the last hour, counted in the database. Blocking.

Theory of operation. An hour is twelve slots of five minutes, the one that is under way among them, so a limit
holds for every hour and not for the clock's; a row for one of them and a slot costs one statement to write.
All processes count in the same rows, and a restart forgets nothing. What is older than an hour is removed
when something is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from mailstack.directory.tables import client_counts, sent_counts

Who = int | str  # a user's id, or a client's address

SLOT = 300  # seconds
SLOTS = 12  # of an hour


@dataclass(frozen=True, slots=True)
class Count:
    """Messages, their recipients, and recipients that did not exist."""

    messages: int = 0
    recipients: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Hour:
    """What one of them has submitted, slot by slot, oldest first."""

    slots: tuple[tuple[int, Count], ...] = ()

    def total(self, of: Callable[[Count], int]) -> int:
        """In the whole hour."""
        return sum(of(count) for _, count in self.slots)

    def room_at(self, of: Callable[[Count], int], most: int, more: int) -> float | None:
        """When `more` will fit below `most`, in seconds of the epoch; None: they do now.

        What never fits, because it is more than an hour's worth by itself, is told the end of this hour.
        """
        held = self.total(of)
        if held + more <= most:
            return None
        for slot, count in self.slots:
            held -= of(count)
            if held + more <= most:
                return float((slot + SLOTS) * SLOT)
        return float((self.slots[-1][0] + SLOTS) * SLOT) if self.slots else 0.0


def read(db: Connection, who: Who, now: float) -> Hour:
    """The last hour of a user or a client."""
    table, key = _rows(who)
    c = table.c
    oldest = int(now) // SLOT - SLOTS + 1
    query = select(c.slot, c.messages, c.recipients, c.unknown)
    rows = db.execute(query.where(key == who, c.slot >= oldest).order_by(c.slot))
    return Hour(tuple((row.slot, Count(row.messages, row.recipients, row.unknown)) for row in rows))


def add(db: Connection, who: Who, now: float, more: Count) -> None:
    """Count `more` in the slot that is under way."""
    table, key = _rows(who)
    slot = int(now) // SLOT
    kind: Any = sqlite if db.dialect.name == "sqlite" else postgresql
    new = {"messages": more.messages, "recipients": more.recipients, "unknown": more.unknown}
    statement = kind.insert(table).values({key.name: who, "slot": slot, **new})
    summed = {name: table.c[name] + value for name, value in new.items()}
    db.execute(statement.on_conflict_do_update(index_elements=[key, table.c.slot], set_=summed))
    db.execute(delete(table).where(key == who, table.c.slot <= slot - SLOTS))


def _rows(who: Who) -> tuple[Table, Column[Any]]:
    """The table that counts for them, and the column that names them."""
    if isinstance(who, int):
        return sent_counts, sent_counts.c.user_id
    return client_counts, client_counts.c.client


def take(
    db: Connection, who: Who, now: float, more: Count, most_messages: int, most_recipients: int
) -> Hour | None:
    """Count a message and its recipients if the limits (0: none) allow it; the full hour where they do not.

    One transaction, in which other processes cannot count for the same one.
    """
    add(db, who, now, Count())  # locks the row on PostgreSQL; SQLite has one writer
    hour = read(db, who, now)
    full = (most_messages and hour.room_at(messages, most_messages, more.messages) is not None) or (
        most_recipients and hour.room_at(recipients, most_recipients, more.recipients) is not None
    )
    if full:
        return hour
    add(db, who, now, more)
    return None


def messages(count: Count) -> int:
    """How many messages."""
    return count.messages


def recipients(count: Count) -> int:
    """How many recipients."""
    return count.recipients


def unknown(count: Count) -> int:
    """How many recipients that do not exist."""
    return count.unknown
