"""What the operator does with the queue: look, retry, hold, release, drop. Blocking, each one transaction's
part.

A running server notices within a few seconds. An entry that is being attempted meanwhile is attempted to
its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, join, or_, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from mailstack.mta.entries import remove_empty
from mailstack.mta.tables import HELD, WAITING, queue_entries, queue_messages
from mailstack.trail import notes, rows
from mailstack.trail.notes import Note, key_of

_e = queue_entries.c
_m = queue_messages.c


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One recipient of one message in wait. Times are seconds of the epoch."""

    id: int
    message_id: str
    sender: str  # "" is the null path
    recipient: str
    hop: str
    state: str  # "waiting" or "held"
    size: int  # octets
    received_at: float
    next_attempt: float
    attempts: int
    last_attempt: float | None
    last_reply: str | None
    expires: float
    active: bool  # it is being attempted


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue in numbers."""

    messages: int
    entries: int
    waiting: int
    held: int
    active: int
    octets: int
    oldest: float | None  # when the oldest message came
    next_attempt: float | None
    hops: tuple[tuple[str, int], ...]  # the ten with most entries


@dataclass(frozen=True, slots=True)
class Dropped:
    """What `drop` removed."""

    entries: int
    spool: tuple[str, ...]  # files below the queue's folder, to delete once the transaction is committed


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entries are meant: those that match all that is given; nothing given: every entry."""

    ids: tuple[str, ...] = ()  # of entries and of messages
    sender: str | None = None  # "" is the null path
    recipient: str | None = None
    domain: str | None = None  # the recipient's
    state: str | None = None
    reason: str | None = None  # a part of the last reply, in any case


EVERYTHING = Choice()


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants something done, and when, in seconds of the epoch: for the trail."""

    by: str
    at: float


def list_entries(
    db: Connection,
    choice: Choice = EVERYTHING,
    limit: int = 1000,
    after: tuple[float, int] = (0.0, 0),
) -> list[QueueEntry]:
    """Entries, oldest first, from behind `after` on: when the last one was received, and its id."""
    behind = tuple_(_m.received_at, _e.id) > after
    query = _entries().where(behind, *_filters(choice)).order_by(_m.received_at, _e.id).limit(limit)
    return [_entry(row) for row in db.execute(query)]


def pick(db: Connection, choice: Choice, after: int, most: int) -> list[str]:
    """Ids of chosen entries, at most `most`, in their order from behind `after` on."""
    query = select(_e.id).join_from(queue_entries, queue_messages).where(_e.id > after, *_filters(choice))
    return [str(id_) for id_ in db.scalars(query.order_by(_e.id).limit(most))]


def count(db: Connection, choice: Choice) -> int:
    """How many entries are chosen."""
    query = select(func.count()).select_from(join(queue_entries, queue_messages)).where(*_filters(choice))
    return db.scalar(query) or 0


def message_of(db: Connection, entry_id: int) -> str | None:
    """The message that an entry belongs to."""
    found: str | None = db.scalar(select(_e.message_id).where(_e.id == entry_id))
    return found


def _filters(choice: Choice) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if choice.ids:
        where.append(_chosen(choice.ids))
    if choice.sender is not None:
        sender = choice.sender.lower()
        where.append(func.lower(_m.reverse_path) == sender if sender else _m.reverse_path.is_(None))
    if choice.recipient is not None:
        where.append(func.lower(_e.recipient) == choice.recipient.lower())
    if choice.domain is not None:
        where.append(func.lower(_e.recipient).endswith(f"@{choice.domain.lower()}", autoescape=True))
    if choice.state is not None:
        where.append(_e.state == choice.state)
    if choice.reason is not None:
        where.append(func.lower(_e.last_reply).contains(choice.reason.lower(), autoescape=True))
    return where


def show(db: Connection, queue_id: str) -> list[QueueEntry]:
    """All entries of one message; none: there is no such message."""
    return [_entry(row) for row in db.execute(_entries().where(_m.id == queue_id).order_by(_e.id))]


def retry(db: Connection, chosen: Sequence[str], now: float, order: Order | None = None) -> int:
    """Have waiting entries of these messages (or all, with "all") attempted now; return how many."""
    where = _chosen(chosen) & (_e.state == WAITING) & _e.lease_owner.is_(None)
    _tell(db, where, notes.RETRIED, order)
    return db.execute(update(queue_entries).where(where).values(next_attempt=now, asked=True)).rowcount


def hold(db: Connection, chosen: Sequence[str], order: Order | None = None) -> int:
    """Attempt these messages (or all) no more until they are released; return how many entries changed."""
    where = _chosen(chosen) & (_e.state == WAITING)
    _tell(db, where, notes.HELD, order)
    return db.execute(update(queue_entries).where(where).values(state=HELD)).rowcount


def release(db: Connection, chosen: Sequence[str], now: float, order: Order | None = None) -> int:
    """Attempt these held messages (or all) again, now; return how many entries changed."""
    where = _chosen(chosen) & (_e.state == HELD)
    _tell(db, where, notes.RELEASED, order)
    return db.execute(
        update(queue_entries).where(where).values(state=WAITING, next_attempt=now, asked=True)
    ).rowcount


def drop(
    db: Connection, chosen: Sequence[str], recipient: str | None = None, order: Order | None = None
) -> Dropped:
    """Remove these messages (or all), or one recipient of theirs, without a word to their senders."""
    where = _chosen(chosen)
    if recipient is not None:
        where &= func.lower(_e.recipient) == recipient.lower()
    _tell(db, where, notes.DROPPED, order)
    messages = list(db.scalars(select(_e.message_id).where(where).distinct()))
    removed = db.execute(delete(queue_entries).where(where)).rowcount
    files = [name for message_id in messages for name in remove_empty(db, message_id)]
    return Dropped(removed, tuple(files))


def _tell(db: Connection, where: ColumnElement[bool], event: str, order: Order | None) -> None:
    """Write down in the trail what is about to happen to these entries, and by whom."""
    if order is not None:
        found = db.execute(select(_e.message_id, _e.recipient).where(where))
        rows.write(
            db, [Note(order.at, one[0], event, key_of(one[1]), None, {"by": order.by}) for one in found]
        )


def stats(db: Connection) -> QueueStats:
    """The queue in numbers."""
    states: dict[str, int] = dict(db.execute(select(_e.state, func.count()).group_by(_e.state)).all())
    messages, octets, oldest = db.execute(
        select(func.count(), func.coalesce(func.sum(_m.size), 0), func.min(_m.received_at))
    ).one()
    active = db.scalar(select(func.count()).where(_e.lease_owner.is_not(None)))
    following = db.scalar(select(func.min(_e.next_attempt)).where(_e.state == WAITING))
    count = func.count()
    hops = db.execute(select(_e.hop, count).group_by(_e.hop).order_by(count.desc(), _e.hop).limit(10))
    return QueueStats(
        messages=messages,
        entries=sum(states.values()),
        waiting=states.get(WAITING, 0),
        held=states.get(HELD, 0),
        active=active or 0,
        octets=int(octets),
        oldest=oldest,
        next_attempt=following,
        hops=tuple((hop, number) for hop, number in hops),
    )


def _chosen(chosen: Sequence[str]) -> ColumnElement[bool]:
    if "all" in chosen:
        return _e.id.is_not(None)
    numbers = [int(one) for one in chosen if one.isascii() and one.isdecimal() and len(one) < 19]
    return or_(_e.message_id.in_(chosen), _e.id.in_(numbers))


def _entries() -> Select[Any]:
    return select(
        _e.id,
        _e.message_id,
        _m.reverse_path,
        _e.recipient,
        _e.hop,
        _e.state,
        _m.size,
        _m.received_at,
        _e.next_attempt,
        _e.attempts,
        _e.last_attempt,
        _e.last_reply,
        _e.expires,
        _e.lease_owner,
    ).join_from(queue_entries, queue_messages)


def _entry(row: Row[Any]) -> QueueEntry:
    return QueueEntry(
        id=row.id,
        message_id=row.message_id,
        sender=row.reverse_path or "",
        recipient=row.recipient,
        hop=row.hop,
        state=row.state,
        size=row.size,
        received_at=row.received_at,
        next_attempt=row.next_attempt,
        attempts=row.attempts,
        last_attempt=row.last_attempt,
        last_reply=row.last_reply,
        expires=row.expires,
        active=row.lease_owner is not None,
    )
