"""Whether a mailbox's directories hold what its rows say: other programs may have changed that.

Theory of operation. Names come and go only with a change of their directory's times. So one that agreed with
the rows does so until these differ, and two stat calls tell; our own transactions change rows and names
together. That is known for each directory by itself, because new/ changes often and is short, and written
into a large mailbox's row for the next process. Times have grains: a directory that was changed shortly
before it was read may be changed again without showing it, and is read again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Text, bindparam, case, literal_column, select, update

from mailstack.store import maildir
from mailstack.store.hot import Hot, slices
from mailstack.store.rows import Box, box_by_id
from mailstack.store.tables import UID_MASK, expunged, mailboxes, message_id, messages
from mailstack.work import Work

PASSING = 500  # findings from which on none is thought to be a transaction under way
NOTED = 1_000  # messages of a mailbox whose next look is worth a transaction
_SETTLED = 1_000_000_000  # nanoseconds after a change in which there may be another with the same time

_OF_BOX = messages.c.id.between(bindparam("low"), bindparam("high"))
_INFO = messages.c.name + literal_column("':2,'", Text) + messages.c.disk_info
_EXPECTED = {  # the names that files should have: `maildir.relative`, said in SQL
    "new": Hot(
        select(
            case((messages.c.disk_info == literal_column("''", Text), messages.c.name), else_=_INFO)
        ).where(_OF_BOX, messages.c.is_new)
    ),
    "cur": Hot(select(_INFO).where(_OF_BOX, ~messages.c.is_new)),
}
# Of those kept to be put back none lies in new/ or cur/, unless somebody has put it there.
_BURIED = select(expunged.c.name).where(
    expunged.c.mailbox_id == bindparam("mailbox"),
    expunged.c.name.is_not(None),
    ~expunged.c.name.startswith(f"{maildir.KEPT}/"),
)
_NOTE = update(mailboxes).where(mailboxes.c.id == bindparam("mailbox")).values(surveyed=bindparam("marks"))

Marks = tuple[str | None, str | None]  # of new/ and cur/: which directory it is, and when it was last changed
DOUBT: Marks = (None, None)  # look at both, whatever the times say


@dataclass(frozen=True, slots=True)
class Survey:
    """What one look at a mailbox's directories found."""

    marks: Marks  # as the directories agreed with the rows; None: look again at that one
    unknown: tuple[str, ...] = ()  # paths from the mailbox's directory
    missing: frozenset[str] = frozenset()  # base names of files with other names than their rows say, or none
    is_dear: bool = False  # the next process would look for long at what this one has seen: `note`

    @property
    def is_passing(self) -> bool:
        """Whether it may be no more than what a transaction that is under way has done already."""
        return 0 < len(self.unknown) + len(self.missing) < PASSING

    def confirming(self, before: Survey) -> Survey:
        """What this look and an earlier one both found."""
        unknown = tuple(path for path in self.unknown if path in before.unknown)
        return Survey(self.marks, unknown, self.missing & before.missing)


async def look(work: Work, root: Path, mailbox_id: int, known: Marks | None) -> Survey:
    """`survey`; and again, which costs less than a transaction, where it may have seen one halfway."""
    found = await work.read(survey, root, mailbox_id, known)
    if found.is_passing:
        found = (await work.read(survey, root, mailbox_id, known)).confirming(found)
    return found


def survey(db: Connection, root: Path, mailbox_id: int, known: Marks | None) -> Survey:
    """Look at the directories; `known` is what an earlier look gave, None: what is noted counts.

    Raise NoSuchMailbox, OSError.
    """
    box = box_by_id(db, mailbox_id, lock=False)
    path = box.path(root)
    if known is None:
        known = _noted(box)
    statuses = [os.stat(path / name) for name in ("new", "cur")]
    now = time.time_ns()  # after that: what changes later has a later time
    new, cur = map(_mark, statuses)
    if (new, cur) == known:
        return Survey((new, cur))
    marks = new if _is_settled(statuses[0], now) else None, cur if _is_settled(statuses[1], now) else None
    if cur == known[1] and maildir.list_names(path, "new") == _expected(db, mailbox_id, "new"):
        return _seen(box, marks[0], cur)
    maildir.remove_stale(path)
    lies = {name: maildir.list_names(path, name) for name in _EXPECTED}
    expected = {name: _expected(db, mailbox_id, name) for name in _EXPECTED}
    if lies == expected:
        return _seen(box, *marks)
    return _differing(db, box, marks, lies, expected)


def note(db: Connection, mailbox_id: int, marks: Marks) -> None:
    """Write down for other processes what a look gave."""
    db.execute(_NOTE, {"mailbox": mailbox_id, "marks": " ".join(mark or "-" for mark in marks)})


def buried(db: Connection, mailbox_id: int) -> set[str]:
    """The base names of those expunged messages whose files are about to be unlinked."""
    return {maildir.base_of(path) for path in db.execute(_BURIED, {"mailbox": mailbox_id}).scalars()}


def marks_of(paths: Sequence[Path]) -> list[Marks | None]:
    """The times of some mailboxes' directories; None where they cannot be seen. In a file thread."""
    found: list[Marks | None] = []
    for path in paths:
        try:
            found.append(_marks(path))
        except OSError:
            found.append(None)
    return found


def _marks(mailbox: Path) -> Marks:
    return (_mark(os.stat(mailbox / "new")), _mark(os.stat(mailbox / "cur")))


def _mark(status: os.stat_result) -> str:
    """Who restores a backup sets the time of modification as it was; that of change cannot be set."""
    return f"{status.st_ino}.{status.st_mtime_ns}.{status.st_ctime_ns}"


def _is_settled(status: os.stat_result, now: int) -> bool:
    return now - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED


def _noted(box: Box) -> Marks:
    new, _, cur = (box.surveyed or "").partition(" ")
    return (new, cur) if cur else DOUBT


def _seen(box: Box, new: str | None, cur: str | None) -> Survey:
    """They agree."""
    is_dear = box.messages >= NOTED and None not in (new, cur) and _noted(box) != (new, cur)
    return Survey((new, cur), is_dear=is_dear)


def _expected(db: Connection, mailbox_id: int, directory: str) -> set[str]:
    bounds = {"low": message_id(mailbox_id, 0), "high": message_id(mailbox_id, UID_MASK)}
    names: set[str] = set()
    for some in slices(_EXPECTED[directory].run(db, bounds)):
        names.update([row[0] for row in some])
    return names


def _differing(
    db: Connection, box: Box, marks: Marks, lies: dict[str, set[str]], expected: dict[str, set[str]]
) -> Survey:
    """What they do not agree in, apart from files that are about to be unlinked."""
    missing = frozenset(maildir.base_of(path) for path in _paths(expected, lies))
    explained = missing | buried(db, box.id)
    # By base name, which begins with the time of delivery: parts of them are taken over in this order.
    found = sorted((maildir.base_of(path), path) for path in _paths(lies, expected))
    unknown = tuple(path for base, path in found if base not in explained)
    if unknown or missing:
        return Survey(DOUBT, unknown, missing)
    return _seen(box, *marks)


def _paths(these: dict[str, set[str]], without: dict[str, set[str]]) -> list[str]:
    return [f"{place}/{name}" for place, names in these.items() for name in names - without[place]]
