"""What each user has submitted in the last hour, counted in the database. Blocking.

Theory of operation. An hour is twelve slots of five minutes, the one that is under way among them, so a limit
holds for every hour and not for the clock's; a row for a user and a slot costs one statement to write. All
processes count in the same rows, and a restart forgets nothing. What is older than an hour is removed when
something is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from mailstack.directory.tables import sent_counts

SLOT = 300  # seconds
SLOTS = 12  # of an hour

_c = sent_counts.c


@dataclass(frozen=True, slots=True)
class Count:
    """Messages, their recipients, and recipients that did not exist."""

    messages: int = 0
    recipients: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Hour:
    """What one user has submitted, slot by slot, oldest first."""

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


def read(db: Connection, user_id: int, now: float) -> Hour:
    """The last hour of a user."""
    oldest = int(now) // SLOT - SLOTS + 1
    query = select(_c.slot, _c.messages, _c.recipients, _c.unknown)
    rows = db.execute(query.where(_c.user_id == user_id, _c.slot >= oldest).order_by(_c.slot))
    return Hour(tuple((row.slot, Count(row.messages, row.recipients, row.unknown)) for row in rows))


def add(db: Connection, user_id: int, now: float, more: Count) -> None:
    """Count `more` in the slot that is under way."""
    slot = int(now) // SLOT
    kind: Any = sqlite if db.dialect.name == "sqlite" else postgresql
    new = {"messages": more.messages, "recipients": more.recipients, "unknown": more.unknown}
    statement = kind.insert(sent_counts).values(user_id=user_id, slot=slot, **new)
    summed = {name: sent_counts.c[name] + value for name, value in new.items()}
    db.execute(statement.on_conflict_do_update(index_elements=[_c.user_id, _c.slot], set_=summed))
    db.execute(delete(sent_counts).where(_c.user_id == user_id, _c.slot <= slot - SLOTS))


def take(
    db: Connection, user_id: int, now: float, more: Count, most_messages: int, most_recipients: int
) -> Hour | None:
    """Count a message and its recipients if the limits (0: none) allow it; the full hour where they do not.

    One transaction, in which other processes cannot count for the same user.
    """
    add(db, user_id, now, Count())  # locks the row on PostgreSQL; SQLite has one writer
    hour = read(db, user_id, now)
    full = (most_messages and hour.room_at(messages, most_messages, more.messages) is not None) or (
        most_recipients and hour.room_at(recipients, most_recipients, more.recipients) is not None
    )
    if full:
        return hour
    add(db, user_id, now, more)
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
