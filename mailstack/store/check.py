"""Whether files, rows, counters and text files of a user's mail agree. Blocking; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from mailstack.store import maildir
from mailstack.store.flags import SEEN_BIT
from mailstack.store.packing import size_of_text
from mailstack.store.rows import BOX, Box
from mailstack.store.statefile import MailboxState
from mailstack.store.tables import UID_MASK, expunged, mailboxes, messages, usage

_SHOWN = 20  # of one kind in one mailbox
_MORE = "and "  # how the rest of them is told
_OF_FILES = frozenset({"lost-file", "unknown-file", "size", "uid"})  # kinds that name a file


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not agree."""

    mailbox: str  # "" is the user as a whole
    kind: str  # a word that stays the same, for programs
    detail: str


def count_messages(db: Connection, user_id: int) -> int:
    """How many messages a check or a rebuild of the user looks at, as far as is known."""
    query = select(usage.c.messages).where(usage.c.user_id == user_id)
    return int(db.execute(query).scalar_one_or_none() or 0)


def check_user(db: Connection, root: Path, user_id: int, looked: Callable[[int], None]) -> list[Problem]:
    """Every problem; `looked` is told how many messages were looked at. In a read transaction.

    While a server runs, mail that is just being delivered may look like a problem: see `lasting`.
    """
    boxes = [Box._make(row) for row in db.execute(BOX.where(mailboxes.c.user_id == user_id))]
    problems: list[Problem] = []
    for box in boxes:
        if box.selectable:
            problems += [Problem(box.name, *found) for found in _mailbox(db, root, box, looked)]
    held = db.execute(
        select(usage.c.octets, usage.c.messages).where(usage.c.user_id == user_id)
    ).one_or_none()
    sums = (sum(box.octets for box in boxes), sum(box.messages for box in boxes))
    if held is not None and tuple(held) != sums:
        problems.append(Problem("", "usage", f"says {held[0]} octets in {held[1]} messages, it is {sums}"))
    return problems


def lasting(before: Sequence[Problem], after: Sequence[Problem]) -> list[Problem]:
    """Those of the problems found `after` that were found `before` too: the others were mail on its way."""
    known = set(map(_same, before))
    return [problem for problem in after if _same(problem) in known]


def _same(problem: Problem) -> tuple[str, ...]:
    """What two looks at one problem have in common: a counter's figures move on a busy server."""
    of_file = problem.kind in _OF_FILES and not problem.detail.startswith(_MORE)
    return (problem.mailbox, problem.kind, *([problem.detail] if of_file else []))


def _mailbox(
    db: Connection, root: Path, box: Box, looked: Callable[[int], None]
) -> Iterator[tuple[str, str]]:
    rows = db.execute(select(messages).where(messages.c.mailbox_id == box.id).order_by(messages.c.id)).all()
    path = box.path(root)
    try:
        files = maildir.find_files(path, [row.name for row in rows])
    except OSError as error:
        yield "directory", f"{error.filename}: {error.strerror}"
        return
    yield from _counters(db, box, rows)
    yield from _state(path, box)
    yield from _files(db, path, box, rows, files)
    looked(len(rows))


def _counters(db: Connection, box: Box, rows: Sequence[Any]) -> Iterator[tuple[str, str]]:
    counted = {
        "messages": (box.messages, len(rows)),
        "unseen": (box.unseen, sum(1 for row in rows if not row.flags & SEEN_BIT)),
        "octets": (box.octets, sum(row.size for row in rows)),
    }
    for name, (said, is_) in counted.items():
        if said != is_:
            yield name, f"the mailbox says {said}, it is {is_}"
    last = rows[-1].id & UID_MASK if rows else 0
    buried = db.execute(select(func.max(expunged.c.id)).where(expunged.c.mailbox_id == box.id)).scalar()
    last = max(last, (buried or 0) & UID_MASK)
    if last >= box.uidnext:
        yield "uidnext", f"is {box.uidnext}, but UID {last} was given"
    newest = max((row.modseq for row in rows), default=0)
    if newest > box.modseq:
        yield "modseq", f"is {box.modseq}, but a message has {newest}"


def _state(path: Path, box: Box) -> Iterator[tuple[str, str]]:
    state = MailboxState.read(path)
    if state is None:
        yield "state-file", "is missing or makes no sense: UIDs would not survive the loss of the database"
    elif state.uidvalidity != box.uidvalidity or state.reserved < box.uidnext:
        yield "state-file", f"says UIDVALIDITY {state.uidvalidity}, UIDs below {state.reserved}"


def _files(
    db: Connection, path: Path, box: Box, rows: Sequence[Any], files: dict[str, str]
) -> Iterator[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for row in rows:
        file = files.pop(row.name, None)
        if file is None:
            found.append(("lost-file", f"UID {row.id & UID_MASK}: {row.name}"))
            continue
        try:
            if not maildir.holds(path / file, os.stat(path / file), row.size):
                size = size_of_text(path / file)
                found.append(("size", f"UID {row.id & UID_MASK}: {file} has {size} octets, not {row.size}"))
        except FileNotFoundError:  # renamed or removed since the directory was read
            found.append(("lost-file", f"UID {row.id & UID_MASK}: {file}"))
        if maildir.uid_of(row.name) != row.id & UID_MASK:
            found.append(("uid", f"UID {row.id & UID_MASK}: the file is {row.name}"))
    names = select(expunged.c.name).where(expunged.c.mailbox_id == box.id, expunged.c.name.is_not(None))
    buried = {maildir.base_of(name) for name in db.execute(names).scalars()}
    found += [("unknown-file", files[base]) for base in sorted(files) if base not in buried]
    counts: dict[str, int] = {}
    for kind, detail in found:
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= _SHOWN:
            yield kind, detail
    for kind, count in counts.items():
        if count > _SHOWN:
            yield kind, f"{_MORE}{count - _SHOWN} more"
