"""A mailbox's row, locked and changed: what every transaction on a mailbox begins and ends with.

Each takes the lock of the mailbox's row (and of its user's `usage`) first; on SQLite the whole database is
locked already. File names in a mailbox's directories change only under that lock, so that whoever holds it
and looks finds directory and rows in agreement, apart from what other programs did.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, bindparam, or_, select, update

from mailstack.db import announce, sync_directory, undo
from mailstack.store.flags import SEEN_BIT, Keywords, info
from mailstack.store.hot import Hot
from mailstack.store.identity import mailbox_id
from mailstack.store.links import link
from mailstack.store.maildir import base_name, relative, remove
from mailstack.store.names import canonical
from mailstack.store.news import Change
from mailstack.store.statefile import MailboxState
from mailstack.store.tables import UID_MASK, keywords, mailboxes, message_facts, message_id, messages, usage
from mailstack.store.values import Facts, NoSuchMailbox, OverQuota, Quota, TooMany

Span = tuple[int, int]  # first and last UID of a run; what lies between belongs to it
RESERVE = 1_000  # UIDs reserved at a time
MAILDIR = "Maildir"
_IN_LIST = 500  # ids in one statement


class Box(NamedTuple):
    """A mailbox's row and what its user holds."""

    id: int
    user_id: int
    name: str
    directory: str | None
    selectable: bool
    uidvalidity: int
    uidnext: int
    uid_reserved: int
    recent_uid: int
    modseq: int
    special_use: str
    messages: int
    unseen: int
    octets: int
    forgotten: int
    surveyed: str | None
    home: str
    used_octets: int
    used_messages: int

    def path(self, root: Path) -> Path:
        """Its directory: that of new/ and cur/."""
        return mailbox_path(root, self.home, self.directory or "")

    @property
    def object_id(self) -> str:
        """Its MAILBOXID (RFC 8474 section 4.1)."""
        return mailbox_id(self.home, self.directory or "", self.uidvalidity)


@dataclass(frozen=True, slots=True)
class Addition:
    """A message about to come into a mailbox: renamed or linked from `source`."""

    source: str | Path
    link: bool
    mask: int
    internal_date: int
    zone: int
    size: int
    facts: Facts | int  # or the id of the message whose facts these are
    key: str | None = None  # of its delivery


BOX: Select[Any] = select(
    *(column for column in mailboxes.c if column.name != "created"),
    usage.c.home,
    usage.c.octets.label("used_octets"),
    usage.c.messages.label("used_messages"),
).join(usage, usage.c.user_id == mailboxes.c.user_id)
_BY_ID = BOX.where(mailboxes.c.id == bindparam("mailbox_id"))
_BY_NAME = BOX.where(mailboxes.c.user_id == bindparam("owner"), mailboxes.c.name == bindparam("mailbox"))
_BOX_BY_ID = {False: Hot(_BY_ID), True: Hot(_BY_ID.with_for_update())}  # locked or not
_BOX_BY_NAME = {False: Hot(_BY_NAME), True: Hot(_BY_NAME.with_for_update())}
_KEYWORDS = Hot(select(keywords.c.bit, keywords.c.name).where(keywords.c.mailbox_id == bindparam("mailbox")))
_ADVANCE = Hot(
    update(mailboxes)
    .where(mailboxes.c.id == bindparam("mailbox"))
    .values(
        uidnext=bindparam("next_uid"),
        modseq=bindparam("new_modseq"),
        messages=mailboxes.c.messages + bindparam("more"),
        unseen=mailboxes.c.unseen + bindparam("more_unseen"),
        octets=mailboxes.c.octets + bindparam("more_octets"),
    )
)
_USE = Hot(
    update(usage)
    .where(usage.c.user_id == bindparam("owner"))
    .values(octets=usage.c.octets + bindparam("more_octets"), messages=usage.c.messages + bindparam("more"))
)
_ADD_FACTS = Hot(message_facts.insert(), message_facts.c.keys())
_ADD_MESSAGES = Hot(messages.insert(), messages.c.keys())
_COPY_FACTS = Hot(
    message_facts.insert().from_select(
        [column.name for column in message_facts.c],
        select(
            message_facts.c.message_id + bindparam("delta", type_=message_facts.c.message_id.type),
            *(column for column in message_facts.c if column.name != "message_id"),
        ).where(message_facts.c.message_id.between(bindparam("low"), bindparam("high"))),
    )
)


@lru_cache(maxsize=4096)
def mailbox_path(root: Path, home: str, directory: str) -> Path:
    """The directory of a mailbox."""
    maildir = root / home / MAILDIR
    return maildir / directory if directory else maildir


def box_by_id(db: Connection, mailbox_id: int, lock: bool = True) -> Box:
    """The row of a mailbox. Raise NoSuchMailbox."""
    return _box(_BOX_BY_ID[lock].run(db, {"mailbox_id": mailbox_id}).fetchone(), f"mailbox {mailbox_id}")


def box_by_name(db: Connection, user_id: int, name: str, lock: bool = True) -> Box:
    """The row of a mailbox that can hold messages. Raise NoSuchMailbox."""
    parameters = {"owner": user_id, "mailbox": canonical(name)}
    return _box(_BOX_BY_NAME[lock].run(db, parameters).fetchone(), name)


def keywords_of(db: Connection, mailbox_id: int) -> Keywords:
    """The keywords of a mailbox."""
    return Keywords(dict(_KEYWORDS.run(db, {"mailbox": mailbox_id}).fetchall()))


def flag_mask(db: Connection, root: Path, box: Box, flags: Iterable[str]) -> tuple[int, Keywords | None]:
    """The bits of those flags, new keywords given theirs; and all keywords, where some are new.

    Raise TooMany when the mailbox has no bit left.
    """
    mask, missing = Keywords({}).mask(flags)
    if not missing:
        return mask, None
    known = keywords_of(db, box.id)
    mask, missing = known.mask(flags)
    if not missing:
        return mask, None
    known, added = known.with_names(missing)
    db.execute(
        keywords.insert(), [{"mailbox_id": box.id, "bit": bit, "name": name} for bit, name in added.items()]
    )
    write_state(root, box, known)
    return known.mask(flags)[0], known


def write_state(root: Path, box: Box, known: Keywords) -> None:
    """Write the mailbox's text file as the row is. Raise OSError."""
    state = MailboxState(box.name, box.uidvalidity, box.uid_reserved, box.special_use, known.names)
    state.write(box.path(root))


def reserve_uids(db: Connection, root: Path, box: Box, uidnext: int) -> int:
    """Write down, durably and before they are given, that UIDs up to `uidnext` may be in use.

    And some more; the new `uid_reserved`.
    """
    if uidnext <= box.uid_reserved:
        return box.uid_reserved
    reserved = uidnext + RESERVE
    if reserved > UID_MASK:
        raise TooMany("the mailbox has given its last UID")
    state = MailboxState(box.name, box.uidvalidity, reserved, box.special_use, keywords_of(db, box.id).names)
    state.write(box.path(root))
    db.execute(update(mailboxes).where(mailboxes.c.id == box.id).values(uid_reserved=reserved))
    return reserved


def check_quota(box: Box, octets: int, count: int, quota: Quota) -> None:
    """Raise OverQuota where that much more would pass a limit."""
    if quota[0] is not None and box.used_octets + octets > quota[0]:
        raise OverQuota(f"{box.used_octets} + {octets} octets of {quota[0]}")
    if quota[1] is not None and box.used_messages + count > quota[1]:
        raise OverQuota(f"{box.used_messages} + {count} messages of {quota[1]}")


def add_messages(
    db: Connection,
    root: Path,
    box: Box,
    additions: Sequence[Addition],
    now: int,
    known: Keywords | None = None,
) -> Change:
    """Put files and rows into a locked mailbox. Raise OSError; all is taken back then."""
    first, modseq = box.uidnext, box.modseq + 1
    reserve_uids(db, root, box, first + len(additions))
    rows, payload = [], []
    for uid, addition in enumerate(additions, first):
        rows.append(_message_row(box, addition, uid, modseq, now))
        row = rows[-1]
        payload.append(
            (row["id"], addition.mask, modseq, addition.internal_date, addition.zone, addition.size)
        )
    _place_files(db, box.path(root), additions, rows)
    _ADD_MESSAGES.run_many(db, rows)
    _add_facts(db, additions, rows)
    octets = sum(addition.size for addition in additions)
    unseen = sum(not addition.mask & SEEN_BIT for addition in additions)
    advance(db, box, modseq, len(rows), unseen, octets, first + len(rows))
    changed = None if known is None else tuple(known.names.items())
    return Change(box.id, box.modseq, modseq, tuple(payload), keywords=changed)


def advance(
    db: Connection, box: Box, modseq: int, more: int, unseen: int, octets: int, uidnext: int | None = None
) -> None:
    """Move a mailbox's modseq and counters on, and what its user holds; negative numbers take away."""
    changes = {
        "mailbox": box.id,
        "next_uid": uidnext or box.uidnext,
        "new_modseq": modseq,
        "more": more,
        "more_unseen": unseen,
        "more_octets": octets,
    }
    _ADVANCE.run(db, changes)
    announce(db, f"mailbox {box.id}", modseq)
    if more or octets:
        _USE.run(db, {"owner": box.user_id, "more": more, "more_octets": octets})


def spans_of(uids: Iterable[int], among: Sequence[int] | None = None) -> list[Span]:
    """UIDs as runs. UIDs that are neighbors in `among`, all that the mailbox has, count as a run."""
    numbers = sorted(set(uids))
    if among is None:
        return list(_runs(numbers))
    if numbers and numbers == list(among[(first := bisect_left(among, numbers[0])) : first + len(numbers)]):
        return [(numbers[0], numbers[-1])]  # neighbors all of them: what thousands mostly are
    places = []
    for uid in numbers:
        place = bisect_left(among, uid)
        if place < len(among) and among[place] == uid:
            places.append(place)
    return [(among[first], among[last]) for first, last in _runs(places)]


def within(
    mailbox_id: int, spans: Sequence[Span], id: ColumnElement[int] = messages.c.id
) -> Iterator[ColumnElement[bool]]:
    """Conditions on the ids of messages that together select the spans; few ids or runs in each."""
    for start in range(0, len(spans), _IN_LIST):
        some = spans[start : start + _IN_LIST]
        single = [message_id(mailbox_id, low) for low, high in some if low == high]
        runs = [
            id.between(message_id(mailbox_id, low), message_id(mailbox_id, high))
            for low, high in some
            if low != high
        ]
        for at in range(0, len(runs), 50):
            yield or_(*runs[at : at + 50])
        if single:
            yield id.in_(single)


def _box(row: Any, name: str) -> Box:
    if row is None or not row[4]:
        raise NoSuchMailbox(name)
    return Box._make(row)


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    if not numbers:
        return
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def _message_row(box: Box, addition: Addition, uid: int, modseq: int, now: int) -> dict[str, Any]:
    return {
        "id": message_id(box.id, uid),
        "mailbox_id": box.id,
        "name": base_name(now, addition.key, addition.size, uid),
        "disk_info": info(addition.mask),
        "is_new": not addition.mask,
        "dirty": False,
        "flags": addition.mask,
        "modseq": modseq,
        "internal_date": addition.internal_date,
        "zone": addition.zone,
        "size": addition.size,
        "saved": now,
        "delivery": addition.key,
    }


def _place_files(
    db: Connection, mailbox: Path, additions: Sequence[Addition], rows: Sequence[dict[str, Any]]
) -> None:
    placed: list[str] = []

    def take_back() -> None:
        for path in placed:
            remove(path)

    undo(db, take_back)
    for addition, row in zip(additions, rows, strict=True):
        target = f"{mailbox}/{relative(row['name'], row['disk_info'], row['is_new'])}"
        if addition.link:
            link(db, str(addition.source), target)
        else:
            os.rename(addition.source, target)
        placed.append(target)
    for is_new in {row["is_new"] for row in rows}:
        sync_directory(db, f"{mailbox}/{'new' if is_new else 'cur'}")


def _add_facts(db: Connection, additions: Sequence[Addition], rows: Sequence[dict[str, Any]]) -> None:
    written, copied = [], []
    for addition, row in zip(additions, rows, strict=True):
        facts = addition.facts
        if isinstance(facts, int):
            copied.append((row["id"], facts))
            continue
        written.append(
            {
                "message_id": row["id"],
                "envelope": facts.envelope,
                "body": facts.body,
                "body_structure": facts.body_structure,
                "fields": facts.fields,
                "structure": facts.structure,
                "header_size": facts.header_size,
                "email_id": facts.email_id,
                "thread_id": facts.thread_id,
                "preview": facts.preview,
                "sent": facts.sent,
                "base": facts.base,
                "refs": facts.refs,
                "heading": facts.heading,
            }
        )
    if written:
        _ADD_FACTS.run_many(db, written)
    if copied:
        _copy_facts(db, copied)


def _copy_facts(db: Connection, pairs: Sequence[tuple[int, int]]) -> None:
    """Facts of new messages, as those of old ones; a statement for each run whose ids go up together."""
    start = 0
    for place in range(1, len(pairs) + 1):
        first, last = pairs[start], pairs[place - 1]
        if place < len(pairs) and pairs[place][0] - pairs[place][1] == first[0] - first[1]:
            continue
        run = {"delta": first[0] - first[1], "low": first[1], "high": last[1]}
        _COPY_FACTS.run(db, run)
        start = place
