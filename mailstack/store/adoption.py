"""What other programs did to the files is taken over: dropped, renamed and removed messages.

What a survey (`surveying`) found is only a suspicion: a delivery may have renamed its file and not yet
committed its row. So `settle` looks again inside a write transaction, under the lock of the mailbox's row,
and believes only that. A crash between a rename and its commit is found in the same way: the file is adopted,
its UID and its delivery read off its name.

A message whose file has vanished is expunged; should the file come back, it is a new message. Nothing is ever
unlinked here but a second copy of a delivery that the index has already.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, bindparam, delete, insert, select, update

from mailstack.db import sync_directory
from mailstack.store import maildir
from mailstack.store.flags import SEEN_BIT, Keywords, info, letters_mask
from mailstack.store.news import Change, Row
from mailstack.store.rows import Box, advance, box_by_id, keywords_of, reserve_uids
from mailstack.store.surveying import buried
from mailstack.store.tables import UID_BITS, UID_MASK, expunged, message_facts, message_id, messages
from mailstack.store.values import Facts

ROUND = 500  # files adopted in one transaction
_ASKED = 500  # values in one statement
_FILES = select(messages.c.id, messages.c.name, messages.c.disk_info, messages.c.is_new)
_TAKE_OVER = (
    update(messages)
    .where(messages.c.id == bindparam("message"))
    .values(
        disk_info=bindparam("now_info"),
        is_new=bindparam("now_new"),
        flags=bindparam("now_flags"),
        modseq=bindparam("now_modseq"),
        dirty=bindparam("behind"),
    )
)


@dataclass(frozen=True, slots=True)
class Found:
    """A file that no row knows, read."""

    path: str  # from the mailbox's directory
    size: int
    modified: int  # seconds of the epoch
    facts: Facts

    @property
    def base(self) -> str:
        """The base name."""
        return maildir.base_of(self.path)


def examine(mailbox: Path, paths: Sequence[str]) -> list[Found]:
    """Read files that no row knows, and give them the line ends of mail. In a file thread.

    What cannot be read, or is no plain file, is left where it is.
    """
    found = []
    for name in paths:
        path = mailbox / name
        try:
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                base = maildir.base_of(name)
                size = maildir.size_of(base)
                if maildir.uid_of(base) is None or size is None or not maildir.holds(path, status, size):
                    maildir.make_crlf(mailbox, path)  # not a file of ours: those are as they came
                found.append(Found(name, *maildir.file_facts(path)))
        except OSError:
            continue
    return found


def settle(
    db: Connection, root: Path, mailbox_id: int, found: Sequence[Found], doubtful: bool, now: int
) -> Change | None:
    """Take over what is true of a survey's findings. Raise NoSuchMailbox, OSError."""
    box = box_by_id(db, mailbox_id)
    modseq = box.modseq + 1
    known = keywords_of(db, mailbox_id)
    keys = [key for file in found if (key := _delivery(file)) is not None]
    names = _known(db, box, messages.c.name, [file.base for file in found])
    if found:
        names |= buried(db, mailbox_id)
    rows: Sequence[Any] = ()
    changed: list[Row] = []
    gone: list[Any] = []
    if doubtful:
        rows = db.execute(_FILES.add_columns(*_MORE).where(messages.c.mailbox_id == mailbox_id)).all()
        files = maildir.find_files(box.path(root), [row.name for row in rows])
        gone = [row for row in rows if row.name not in files]
        changed = _take_over(db, box.path(root), rows, files, known, modseq)
        _bury(db, gone, modseq, now)
    # Asked only now: what has another base name is no second copy of a row that has lost its file by that.
    deliveries = _known(db, box, messages.c.delivery, keys)
    uidnext, added = _adopt(db, root, box, _Arrivals(names, deliveries, found, known, modseq, now))
    if not (changed or gone or added):
        return None
    before = sum(1 for row in rows if not row.flags & SEEN_BIT)
    flags = {row.id: row.flags for row in rows} | {row[0]: row[1] for row in (*changed, *added)}
    flags |= {row.id: SEEN_BIT for row in gone}
    unseen = sum(1 for mask in flags.values() if not mask & SEEN_BIT) - before
    octets = sum(row[5] for row in added) - sum(row.size for row in gone)
    advance(db, box, modseq, len(added) - len(gone), unseen, octets, uidnext)
    uids = tuple(sorted(row.id & UID_MASK for row in gone))
    return Change(box.id, box.modseq, modseq, (*changed, *added), uids)


@dataclass(frozen=True, slots=True)
class _Arrivals:
    names: set[str]  # those of the files found that rows have, as they were, or expunged messages
    deliveries: set[str]  # the deliveries of those found that rows have
    found: Sequence[Found]
    known: Keywords
    modseq: int
    now: int


_MORE = (
    messages.c.flags,
    messages.c.modseq,
    messages.c.internal_date,
    messages.c.zone,
    messages.c.size,
)


def _take_over(
    db: Connection, mailbox: Path, rows: Sequence[Any], files: dict[str, str], known: Keywords, modseq: int
) -> list[Row]:
    """Flags that other programs wrote into names: what differs from what we last saw there, and only that."""
    ours = _meant(known)
    changes: list[dict[str, Any]] = []
    changed: list[Row] = []
    for row in rows:
        path = files.get(row.name)
        if path is None or path == maildir.relative(row.name, row.disk_info, row.is_new):
            continue
        letters, is_new = maildir.letters_of(path), path.startswith("new/")
        _make_regular(mailbox, path, maildir.relative(row.name, letters, is_new))
        delta = (letters_mask(letters) ^ letters_mask(row.disk_info)) & ours
        flags = row.flags & ~delta | letters_mask(letters) & delta
        values = {"message": row.id, "now_info": letters, "now_new": is_new, "now_flags": flags}
        values["now_modseq"] = modseq if flags != row.flags else row.modseq
        changes.append(values | {"behind": info(flags, letters) != letters})
        if flags != row.flags:
            changed.append((row.id, flags, modseq, row.internal_date, row.zone, row.size))
    if changes:
        db.execute(_TAKE_OVER, changes)
    return changed


def _make_regular(mailbox: Path, path: str, wanted: str) -> None:
    """A file in cur/ without ``:2,`` gets it: then its row can tell its name."""
    if path != wanted:
        try:
            (mailbox / path).rename(mailbox / wanted)
        except FileNotFoundError:
            pass


def _meant(known: Keywords) -> int:
    """The bits that mean something in a mailbox."""
    return 0xFF | sum(1 << bit for bit in known.names)


def _bury(db: Connection, gone: Sequence[Any], modseq: int, now: int) -> None:
    """Files that vanished. Neither name nor delivery is noted: one that comes back is taken in again."""
    for start in range(0, len(gone), 500):
        some = gone[start : start + 500]
        graves = [
            {"id": row.id, "mailbox_id": row.id >> UID_BITS, "modseq": modseq, "name": None, "at": now}
            for row in some
        ]
        db.execute(insert(expunged), graves)
        db.execute(delete(messages).where(messages.c.id.in_([row.id for row in some])))


def _adopt(db: Connection, root: Path, box: Box, arrivals: _Arrivals) -> tuple[int, list[Row]]:
    """Rename and index the files that still are unknown; UIDNEXT after that, and the new rows."""
    names, deliveries = arrivals.names, set(arrivals.deliveries)
    reserved = box.uid_reserved
    uidnext, added, facts = box.uidnext, [], []
    wanted = sorted(arrivals.found, key=_order)
    for file in wanted:
        if file.base in names:
            continue
        key = _delivery(file)
        if key is not None and (key in deliveries or _expunged(db, box, key, file)):
            maildir.remove(box.path(root) / file.path)  # a crash left it, and the delivery was repeated
            continue
        written_uid = maildir.uid_of(file.base) or 0
        uid = written_uid if uidnext <= written_uid < reserved else uidnext
        box = box._replace(uid_reserved=reserve_uids(db, root, box, uid + 1))
        row = _row(box, file, uid, key, arrivals)
        if not _rename(db, box.path(root), file, row):
            continue
        uidnext = uid + 1
        if key is not None:
            deliveries.add(key)
        added.append(row)
        facts.append({"message_id": row["id"], **{name: getattr(file.facts, name) for name in _FACTS}})
    if added:
        db.execute(insert(messages), added)
        db.execute(insert(message_facts), facts)
    return uidnext, [tuple(row[name] for name in _ROW) for row in added]


_FACTS = [column.name for column in message_facts.c if column.name != "message_id"]
_ROW = ("id", "flags", "modseq", "internal_date", "zone", "size")


def _row(box: Box, file: Found, uid: int, key: str | None, arrivals: _Arrivals) -> dict[str, Any]:
    is_new = file.path.startswith("new/")
    letters = maildir.letters_of(file.path)
    mask = letters_mask(letters) & _meant(arrivals.known)
    return {
        "id": message_id(box.id, uid),
        "mailbox_id": box.id,
        "name": maildir.with_uid(file.base, file.size, uid),
        "disk_info": letters,
        "is_new": is_new,
        "dirty": False,
        "flags": mask,
        "modseq": arrivals.modseq,
        "internal_date": file.modified,
        "zone": 0,
        "size": file.size,
        "saved": arrivals.now,
        "delivery": key,
    }


def _order(file: Found) -> tuple[int, int, str]:
    """Files with UIDs first, then by age."""
    return (maildir.uid_of(file.base) or 1 << 32, file.modified, file.base)


def _rename(db: Connection, mailbox: Path, file: Found, row: dict[str, Any]) -> bool:
    """Give the file its UID in its name; False if another program took it away meanwhile."""
    target = mailbox / maildir.relative(row["name"], row["disk_info"], row["is_new"])
    try:
        (mailbox / file.path).rename(target)
    except FileNotFoundError:
        return False
    sync_directory(db, target.parent)
    return True


def _known(db: Connection, box: Box, column: Column[Any], values: Sequence[str]) -> set[str]:
    """Those of the values that rows of the mailbox have: none that is not text."""
    values = [value for value in values if value.isascii() or value.encode(errors="ignore").decode() == value]
    known: set[str] = set()
    for start in range(0, len(values), _ASKED):
        some = values[start : start + _ASKED]
        known.update(
            db.execute(select(column).where(messages.c.mailbox_id == box.id, column.in_(some))).scalars()
        )
    return known


def _delivery(file: Found) -> str | None:
    """The key of the delivery that brought the file: only where the name is wholly one of ours."""
    return maildir.delivery_of(file.base) if maildir.uid_of(file.base) else None


def _expunged(db: Connection, box: Box, key: str, file: Found) -> bool:
    """Whether a delivery came under another UID and was expunged; under the same somebody put it back."""
    query = select(expunged.c.id).where(expunged.c.mailbox_id == box.id, expunged.c.delivery == key)
    uids = [id & UID_MASK for id in db.execute(query).scalars()]
    return bool(uids) and maildir.uid_of(file.base) not in uids
