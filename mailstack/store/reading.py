"""What is read of the index for an open mailbox. Blocking; in a read transaction."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from mailstack.store.flags import Keywords
from mailstack.store.hot import Hot, slices
from mailstack.store.news import Change, Row
from mailstack.store.rows import Box, Span, box_by_id, keywords_of
from mailstack.store.spanned import Spanned
from mailstack.store.tables import UID_MASK, expunged, mailboxes, message_facts, message_id, messages
from mailstack.store.values import Counts, FactColumns, Facts, NoSuchMailbox

_ID = itemgetter(0)
_BOXES = 1_000  # mailboxes asked for in one statement
ROWS = select(  # what a `Row` is made of
    messages.c.id,
    messages.c.flags,
    messages.c.modseq,
    messages.c.internal_date,
    messages.c.zone,
    messages.c.size,
)
_ALL = Hot(ROWS.where(messages.c.id.between(bindparam("low"), bindparam("high"))).order_by(messages.c.id))
_CHANGED = Hot(
    ROWS.where(
        messages.c.mailbox_id == bindparam("mailbox"), messages.c.modseq > bindparam("known")
    ).order_by(messages.c.id)
)
_EXPUNGED = select(expunged.c.id).where(
    expunged.c.mailbox_id == bindparam("mailbox"), expunged.c.modseq > bindparam("known")
)
_PLACE = select(messages.c.id, messages.c.name, messages.c.disk_info, messages.c.is_new, messages.c.size)
_PLACES = Spanned(_PLACE)
_NEXT_PLACES = Hot(
    _PLACE.where(messages.c.id.between(bindparam("low"), bindparam("high")))
    .order_by(messages.c.id)
    .limit(bindparam("most"))
)
FACT_COLUMNS = tuple(field.name for field in fields(Facts))
KEPT_COLUMNS = tuple(name for name in FACT_COLUMNS if name != "saved")  # those of message_facts
_NO_FACTS = Facts()
LATE_COLUMNS = frozenset({"email_id", "thread_id", "preview"})  # which rows from before 0004 lack


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that is known of a mailbox's messages, at one moment."""

    box: Box
    keywords: Keywords
    rows: dict[int, Row]  # by UID, ascending
    uids: array[int]


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Where a message's file should lie."""

    name: str
    disk_info: str
    is_new: bool
    size: int


def load(db: Connection, mailbox_id: int) -> Loaded:
    """Everything of one mailbox. Raise NoSuchMailbox."""
    box = box_by_id(db, mailbox_id, lock=False)
    rows: dict[int, Row] = {}
    bounds = {"low": message_id(mailbox_id, 0), "high": message_id(mailbox_id, UID_MASK)}
    for some in slices(_ALL.run(db, bounds)):
        rows.update(zip(map(UID_MASK.__and__, map(_ID, some)), some, strict=True))
    return Loaded(box, keywords_of(db, mailbox_id), rows, array("I", rows))


def changes_since(db: Connection, mailbox_id: int, known: int) -> Change:
    """What happened to a mailbox after modseq `known`, whoever did it."""
    try:
        box = box_by_id(db, mailbox_id, lock=False)
    except NoSuchMailbox:
        return Change(mailbox_id, known, known, gone=True)
    parameters = {"mailbox": mailbox_id, "known": known}
    rows = tuple(row for some in slices(_CHANGED.run(db, parameters)) for row in some)
    graves = tuple(sorted(id & UID_MASK for id in db.execute(_EXPUNGED, parameters).scalars()))
    keywords = tuple(keywords_of(db, mailbox_id).names.items())
    present = None if known >= box.forgotten else _present(db, mailbox_id)
    return Change(mailbox_id, known, box.modseq, rows, graves, present, keywords)


def expunged_since(db: Connection, mailbox_id: int, known: int) -> list[int] | None:
    """The UIDs expunged after modseq `known`, ascending; None where some are forgotten.

    Raise NoSuchMailbox.
    """
    if known < box_by_id(db, mailbox_id, lock=False).forgotten:
        return None
    parameters = {"mailbox": mailbox_id, "known": known}
    return sorted(id & UID_MASK for id in db.execute(_EXPUNGED, parameters).scalars())


def complete_facts(db: Connection, mailbox_id: int, found: Mapping[int, Facts]) -> None:
    """Write down facts that were not kept when the messages came. In a write transaction."""
    ids = [message_id(mailbox_id, uid) for uid in found]
    there = set(db.execute(select(messages.c.id).where(messages.c.id.in_(ids))).scalars())
    rows = [
        {"message_id": id, **{name: getattr(found[id & UID_MASK], name) for name in KEPT_COLUMNS}}
        for id in sorted(there)
    ]
    if rows:
        db.execute(delete(message_facts).where(message_facts.c.message_id.in_(there)))
        db.execute(message_facts.insert(), rows)


def _present(db: Connection, mailbox_id: int) -> frozenset[int]:
    query = select(messages.c.id).where(messages.c.mailbox_id == mailbox_id)
    return frozenset(id & UID_MASK for id in db.execute(query).scalars())


def read_facts(
    db: Connection, mailbox_id: int, uids: Sequence[int], spans: Sequence[Span], names: frozenset[str]
) -> FactColumns:
    """The facts of some messages, in the order of `uids`; those that are gone are missing."""
    wanted = tuple(name for name in FACT_COLUMNS if name in names)
    found = {} if "saved" in names else _rows_of(_kept_query(wanted), db, mailbox_id, spans)
    if not all(map(found.__contains__, uids)):  # some are gone, or only what is kept of them
        found = _rows_of(_facts_query(wanted), db, mailbox_id, spans)
    known = [uid for uid in uids if uid in found]
    columns = zip(*[found[uid][1:] for uid in known], strict=True) if known else [()] * len(wanted)
    filled = {name: _filled(name, column) for name, column in zip(wanted, columns, strict=True)}
    return FactColumns(known, filled)


def _rows_of(query: Spanned, db: Connection, mailbox_id: int, spans: Sequence[Span]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for some in query.rows(db, mailbox_id, spans):
        found.update(zip(map(UID_MASK.__and__, map(_ID, some)), some, strict=True))
    return found


def _filled(name: str, column: Sequence[Any]) -> Sequence[Any]:
    """What a message whose facts are missing gets: empty ones."""
    if None not in column:
        return column
    empty = getattr(_NO_FACTS, name)
    return [empty if value is None else value for value in column]


@lru_cache(maxsize=64)
def _kept_query(wanted: tuple[str, ...]) -> Spanned:
    """Of what is kept alone: to find each message as well takes as long again."""
    id = message_facts.c.message_id
    return Spanned(select(id, *(message_facts.c[name] for name in wanted)), id)


@lru_cache(maxsize=64)
def _facts_query(wanted: tuple[str, ...]) -> Spanned:
    columns_of = {"saved": messages.c.saved, **{name: message_facts.c[name] for name in KEPT_COLUMNS}}
    query = select(messages.c.id, *(columns_of[name] for name in wanted))
    return Spanned(query.outerjoin(message_facts, message_facts.c.message_id == messages.c.id))


def read_places(db: Connection, mailbox_id: int, uid: int, more: int) -> dict[int, FilePlace]:
    """Where the files of a message and of the `more` after it should lie, by UID."""
    bounds = {"low": message_id(mailbox_id, uid), "high": message_id(mailbox_id, UID_MASK), "most": more + 1}
    rows = _NEXT_PLACES.run(db, bounds).fetchall()
    return {row[0] & UID_MASK: FilePlace(row[1], row[2], bool(row[3]), row[4]) for row in rows}


def places_of(db: Connection, mailbox_id: int, spans: Sequence[Span]) -> dict[int, FilePlace]:
    """Where the files of some messages should lie, by UID; those that are gone are missing."""
    found: dict[int, FilePlace] = {}
    for some in _PLACES.rows(db, mailbox_id, spans):
        found.update([(row[0] & UID_MASK, FilePlace(row[1], row[2], bool(row[3]), row[4])) for row in some])
    return found


def directory(db: Connection, root: Path, mailbox_id: int) -> Path:
    """Where a mailbox lies. Raise NoSuchMailbox."""
    return box_by_id(db, mailbox_id, lock=False).path(root)


def modseqs(db: Connection, mailbox_ids: Sequence[int]) -> dict[int, int]:
    """The highest modseq of each of some mailboxes; those that are gone are missing."""
    query = select(mailboxes.c.id, mailboxes.c.modseq).where(
        mailboxes.c.id.in_(mailbox_ids), mailboxes.c.selectable
    )
    return dict(tuple(row) for row in db.execute(query))


def counts(db: Connection, mailbox_ids: Sequence[int]) -> dict[int, Counts]:
    """How much each of some mailboxes holds; those that are gone are missing."""
    columns = (
        mailboxes.c.id,
        mailboxes.c.uidvalidity,
        mailboxes.c.uidnext,
        mailboxes.c.modseq,
        mailboxes.c.messages,
        mailboxes.c.unseen,
    )
    found = {}
    for start in range(0, len(mailbox_ids), _BOXES):
        some = mailbox_ids[start : start + _BOXES]
        query = select(*columns).where(mailboxes.c.id.in_(some), mailboxes.c.selectable)
        found.update({row[0]: Counts(*row[1:]) for row in db.execute(query)})
    return found
