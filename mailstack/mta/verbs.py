"""What the operator does with the queue: look, retry, hold, release, drop. Blocking, each one transaction's
part.

A running server notices within a few seconds. An entry that is being attempted meanwhile is attempted to
its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, Select, delete, func, join, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from mailstack.mta.entries import remove_empty
from mailstack.mta.tables import HELD, WAITING, queue_entries, queue_messages
from mailstack.trail import notes, rows
from mailstack.trail.notes import Note, key_of

T = TypeVar("T")

_AT_ONCE = 1000  # values in one statement
_e = queue_entries.c
_m = queue_messages.c


class QueueEntry(NamedTuple):
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
class Part:
    """Some of the entries that are chosen, in the order of their ids."""

    after: int = 0  # the id behind which it begins
    most: int | None = None  # None: all of them


@dataclass(frozen=True, slots=True)
class Changed:
    """What a verb did."""

    entries: int
    last: int = 0  # the last one's id, behind which the next part begins
    spool: tuple[str, ...] = ()  # files below the queue's folder, to delete once the transaction is committed


@dataclass(frozen=True, slots=True)
class Choice:
    """Which entries are meant: those that match all that is given; nothing given: every entry."""

    ids: tuple[str, ...] = ()  # of entries and of messages
    sender: str | None = None  # "" is the null path
    recipient: str | None = None
    domain: str | None = None  # the recipient's
    state: str | None = None
    reason: str | None = None  # a part of the last reply, in any case
    login: str | None = None  # who submitted it


EVERYTHING = Choice()
WHOLE = Part()


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants something done, and when, in seconds of the epoch: for the trail."""

    by: str
    at: float


def list_entries(
    db: Connection, choice: Choice = EVERYTHING, limit: int = 1000, after: int = 0
) -> list[QueueEntry]:
    """Entries in the order of their ids, which is that of their coming, from behind `after` on."""
    query = _entries().where(_e.id > after, *_filters(choice)).order_by(_e.id).limit(limit)
    return [QueueEntry._make(row) for row in db.execute(query)]


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
    if choice.login is not None:
        where.append(func.lower(_m.authenticated) == choice.login.lower())
    if choice.recipient is not None:
        where.append(func.lower(_e.recipient) == choice.recipient.lower())
    if choice.domain is not None:
        where.append(func.lower(_e.recipient).endswith(f"@{choice.domain.lower()}", autoescape=True))
    if choice.state is not None:
        # No bare column: by its index each part would read and sort all that are in this state.
        where.append(func.coalesce(_e.state, "") == choice.state)
    if choice.reason is not None:
        where.append(func.lower(_e.last_reply).contains(choice.reason.lower(), autoescape=True))
    return where


def show(db: Connection, queue_id: str) -> list[QueueEntry]:
    """All entries of one message; none: there is no such message."""
    return [QueueEntry._make(row) for row in db.execute(_entries().where(_m.id == queue_id).order_by(_e.id))]


def retry(
    db: Connection, choice: Choice, now: float, order: Order | None = None, part: Part = WHOLE
) -> Changed:
    """Have waiting entries attempted now."""
    found = _found(db, replace(choice, state=WAITING), part, _e.lease_owner.is_(None))
    return _changed(db, found, notes.RETRIED, order, {"next_attempt": now, "asked": True})


def hold(db: Connection, choice: Choice, order: Order | None = None, part: Part = WHOLE) -> Changed:
    """Attempt waiting entries no more until they are released."""
    found = _found(db, replace(choice, state=WAITING), part)
    return _changed(db, found, notes.HELD, order, {"state": HELD})


def release(
    db: Connection, choice: Choice, now: float, order: Order | None = None, part: Part = WHOLE
) -> Changed:
    """Attempt held entries again, now."""
    found = _found(db, replace(choice, state=HELD), part)
    return _changed(db, found, notes.RELEASED, order, {"state": WAITING, "next_attempt": now, "asked": True})


def drop(db: Connection, choice: Choice, order: Order | None = None, part: Part = WHOLE) -> Changed:
    """Remove entries without a word to their senders, and the messages that have none left."""
    found = _found(db, choice, part)
    tell(db, found, notes.DROPPED, order)
    for some in _some(found):
        db.execute(delete(queue_entries).where(_e.id.in_([one.id for one in some])))
    messages = list(dict.fromkeys(one.message_id for one in found))
    files = remove_empty(db, messages)
    return Changed(len(found), found[-1].id if found else 0, tuple(files))


def _found(db: Connection, choice: Choice, part: Part, *where: ColumnElement[bool]) -> list[Row[Any]]:
    """The entries that a verb is about to change."""
    query = select(_e.id, _e.message_id, _e.recipient).where(_e.id > part.after, *_filters(choice), *where)
    if choice.sender is not None or choice.login is not None:
        query = query.join_from(queue_entries, queue_messages)
    return list(db.execute(query.order_by(_e.id).limit(part.most)))


def _changed(
    db: Connection, found: Sequence[Row[Any]], event: str, order: Order | None, values: dict[str, Any]
) -> Changed:
    tell(db, found, event, order)
    for some in _some(found):
        db.execute(update(queue_entries).where(_e.id.in_([one.id for one in some])).values(values))
    return Changed(len(found), found[-1].id if found else 0)


def tell(db: Connection, found: Iterable[Row[Any]], event: str, order: Order | None) -> None:
    """Write down in the trail what is done to these entries, and by whom."""
    if order is not None:
        by = {"by": order.by}
        rows.write(
            db, [Note(order.at, one.message_id, event, key_of(one.recipient), None, by) for one in found]
        )


def _some(all_of_them: Sequence[T]) -> Iterable[Sequence[T]]:
    """As many at a time as one statement takes."""
    return (all_of_them[at : at + _AT_ONCE] for at in range(0, len(all_of_them), _AT_ONCE))


def stats(db: Connection) -> QueueStats:
    """The queue in numbers."""
    states: dict[str, int] = dict(db.execute(select(_e.state, func.count()).group_by(_e.state)).all())
    messages, octets, oldest = db.execute(
        select(func.count(), func.coalesce(func.sum(_m.size), 0), func.min(_m.received_at))
    ).one()
    active = db.scalar(select(func.count()).where(_e.lease_until.is_not(None)))  # by its index
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


def _chosen(ids: Sequence[str]) -> ColumnElement[bool]:
    numbers = [int(one) for one in ids if one.isascii() and one.isdecimal() and len(one) < 19]
    return or_(_e.message_id.in_(ids), _e.id.in_(numbers))


def _entries() -> Select[Any]:
    """The columns of a QueueEntry, in its order."""
    return select(
        _e.id,
        _e.message_id,
        func.coalesce(_m.reverse_path, ""),
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
        _e.lease_owner.is_not(None),
    ).join_from(queue_entries, queue_messages)
