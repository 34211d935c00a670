"""The headings of an open mailbox's messages (`heading`), read for thousands at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, or_, select, update

from mailstack.store.heading import Heading, heading_of
from mailstack.store.hot import Hot, slices
from mailstack.store.rows import Span
from mailstack.store.spanned import Spanned
from mailstack.store.tables import UID_MASK, message_facts, message_id
from mailstack.store.values import FactColumns, Facts
from mailstack.work import Work

_LENGTH = itemgetter(1)
SLICE = 5_000  # messages whose headings are read in one trip
_LATE = 500  # messages from before there were headings, made up for in one trip
_COLUMNS = {"sent": message_facts.c.sent, "base": message_facts.c.base, "refs": message_facts.c.refs}
_MADE_UP_FOR = (
    update(message_facts)
    .where(message_facts.c.message_id == bindparam("message"))
    .values({name: bindparam(f"new_{name}") for name in ("sent", "base", "refs", "heading")})
)
ReadFacts = Callable[[Sequence[int], frozenset[str]], Awaitable[list[Facts | None]]]


class Headings:
    """Of one mailbox. In the reactor's thread."""

    def __init__(
        self, mailbox_id: int, work: Work, spans: Callable[[Sequence[int]], list[Span]], facts: ReadFacts
    ) -> None:
        self._id = mailbox_id
        self._work = work
        self._spans = spans
        self._facts = facts

    async def read(self, uids: Sequence[int], names: Sequence[str]) -> FactColumns:
        """What is kept of some messages, in any order; of those that are missing the fields must be read.

        `names`: of "sent", "base" and "refs". One trip to a thread: ask for at most `SLICE` messages.
        """
        spans = self._spans(uids)
        found, late = await self._work.read(read, self._id, spans, names)
        if late:
            await self._make_up_for(late)
            found, _ = await self._work.read(read, self._id, spans, names)
        return found

    async def holding(self, needle: str) -> set[int] | None:
        """The UIDs of messages that may hold a casemapped text in a field of `heading.NAMES`: no others do.

        None where that cannot be asked.
        """
        if "\0" in needle or any("\ud800" <= character <= "\udfff" for character in needle):
            return None
        found, late = await self._work.read(holding, self._id, needle)
        if late:
            await self._make_up_for(late)
            found, _ = await self._work.read(holding, self._id, needle)
        return found

    async def _make_up_for(self, uids: Sequence[int]) -> None:
        for start in range(0, len(uids), _LATE):
            some = uids[start : start + _LATE]
            facts = await self._facts(some, frozenset({"fields"}))
            known = {uid: each.fields for uid, each in zip(some, facts, strict=True) if each is not None}
            made = await self._work.compute(_headings, known)
            await self._work.transaction(keep, self._id, made)


def _headings(fields: Mapping[int, bytes]) -> dict[int, Heading]:
    """Long work: run it in a thread. Where the common fields are too long to be there, nothing is kept."""
    return {uid: heading_of(raw).kept() if raw else Heading() for uid, raw in fields.items()}


# Blocking, in a transaction


def read(
    db: Connection, mailbox_id: int, spans: Sequence[Span], names: Sequence[str]
) -> tuple[FactColumns, list[int]]:
    """What `Headings.read` gives, and the messages from before there were headings."""
    kept: list[Any] = []
    late: list[int] = []
    for some in _query(tuple(names)).rows(db, mailbox_id, spans):
        kept += filter(_LENGTH, some)
        late += [row[0] & UID_MASK for row in some if row[1] is None]
    ids, _, *columns = zip(*kept, strict=True) if kept else [()] * (2 + len(names))
    return FactColumns([id & UID_MASK for id in ids], dict(zip(names, columns, strict=True))), late


@lru_cache(maxsize=16)
def _query(names: tuple[str, ...]) -> Spanned:
    id, refs = message_facts.c.message_id, message_facts.c.refs
    return Spanned(select(id, func.length(refs), *(_COLUMNS[name] for name in names)), id)


def holding(db: Connection, mailbox_id: int, needle: str) -> tuple[set[int], list[int]]:
    """The same for `Headings.holding`."""
    parameters = {
        "low": message_id(mailbox_id, 0),
        "high": message_id(mailbox_id, UID_MASK),
        "needle": needle,
    }
    query = _holding("instr" if db.dialect.name == "sqlite" else "strpos")
    found: set[int] = set()
    late: list[int] = []
    for some in slices(query.run(db, parameters)):
        found.update([row[0] & UID_MASK for row in some])
        late += [row[0] & UID_MASK for row in some if row[1]]
    return found, late


@lru_cache(maxsize=2)
def _holding(place_of: str) -> Hot:
    id, text, refs = message_facts.c.message_id, message_facts.c.heading, message_facts.c.refs
    place = getattr(func, place_of)(text, bindparam("needle", type_=text.type))
    return Hot(
        select(id, refs.is_(None)).where(
            id.between(bindparam("low"), bindparam("high")), or_(text.is_(None), place > literal_column("0"))
        )
    )


def keep(db: Connection, mailbox_id: int, made: Mapping[int, Heading]) -> None:
    """Write down headings of messages from before there were any."""
    rows = [
        {
            "message": message_id(mailbox_id, uid),
            "new_sent": heading.sent,
            "new_base": heading.base,
            "new_refs": heading.refs,
            "new_heading": heading.text,
        }
        for uid, heading in made.items()
    ]
    if rows:
        db.execute(_MADE_UP_FOR, rows)
