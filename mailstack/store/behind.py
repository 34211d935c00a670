"""What follows the index: names of files, files of expunged messages, directories of deleted mailboxes.

Each step is found again from rows after a crash: `messages.dirty`, `expunged.name`, `discarded`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, or_, select, text, update

from mailstack.db import sync_directory, undo
from mailstack.store import maildir
from mailstack.store.flags import info
from mailstack.store.hot import Hot
from mailstack.store.maildir import KEPT, fsync_directory, relative, remove, take
from mailstack.store.rows import box_by_id, mailbox_path
from mailstack.store.tables import UID_BITS, discarded, expunged, mailboxes, message_id, messages, usage
from mailstack.store.values import NoSuchMailbox

Grave = tuple[int, Path, str]  # id, mailbox's directory, path of the file from it

_BEHIND = text("messages.dirty")  # as the index has it: where it says "= 1" SQLite does not use that
_DIRTY = Hot(select(messages.c.id).where(_BEHIND).order_by(messages.c.id).limit(bindparam("most")))
_ON_DISK = Hot(
    select(messages.c.id, messages.c.name, messages.c.flags, messages.c.disk_info, messages.c.is_new).where(
        messages.c.id.between(bindparam("low"), bindparam("high")), _BEHIND
    )
)
_NAMED = Hot(
    update(messages)
    .where(messages.c.id == bindparam("message"))
    .values(disk_info=bindparam("now_info"), is_new=bindparam("now_new"), dirty=bindparam("behind"))
)
_GRAVES = (
    select(expunged.c.id, expunged.c.name, usage.c.home, mailboxes.c.directory)
    .join(mailboxes, mailboxes.c.id == expunged.c.mailbox_id)
    .join(usage, usage.c.user_id == mailboxes.c.user_id)
    .where(expunged.c.name.is_not(None))
    .order_by(expunged.c.id)
    .limit(bindparam("most"))
)
_KEPT = expunged.c.name.startswith(f"{KEPT}/")
_ASIDE = "mailstack-removed-"  # how directories are called that nobody looks into any more
_NOTED = 7 * 86_400  # seconds for which an expunged delivery is recognized when it is repeated, in any case


def sync_names(db: Connection, root: Path, most: int) -> int:
    """Rename up to `most` files so that they say their flags; how many rows were behind.

    In a transaction, under the locks of the mailboxes' rows: nobody looks at the directories meanwhile.
    """
    ids = [row[0] for row in _DIRTY.run(db, {"most": most}).fetchall()]
    for mailbox_id in sorted({id >> UID_BITS for id in ids}):
        try:
            box = box_by_id(db, mailbox_id)
        except NoSuchMailbox:
            continue
        some = [id for id in ids if id >> UID_BITS == mailbox_id]
        path = box.path(root)
        rows = _ON_DISK.run(db, {"low": some[0], "high": some[-1]}).fetchall()
        _NAMED.run_many(db, [_rename(str(path), *row) for row in rows])
        sync_directory(db, path / "cur")
    return len(ids)


def graves(db: Connection, root: Path, most: int, before: int | None = None) -> list[Grave]:
    """Expunged messages whose files are to be unlinked: all, or those expunged before a time in seconds."""
    query = (
        _GRAVES
        if before is None
        else _GRAVES.where(
            or_(expunged.c.at < before, expunged.c.size.is_(None))  # put back: see `undelete`
        )
    )
    return _located(db, root, query, most)


def to_keep(db: Connection, root: Path, most: int) -> list[Grave]:
    """Expunged messages whose files still lie in new/ or cur/."""
    return _located(db, root, _GRAVES.where(~_KEPT, expunged.c.size.is_not(None)), most)


def keep(files: Sequence[Grave]) -> list[tuple[int, str | None]]:
    """Take those files out of their mailboxes, durably; ids and new paths of those done. In a file thread."""
    done: list[tuple[int, str | None]] = []
    moved: dict[Path, list[tuple[int, str | None]]] = {}
    for id, mailbox, name in files:
        try:
            moved.setdefault(mailbox, []).append((id, maildir.keep(mailbox, name)))
        except FileNotFoundError:  # the whole directory is gone
            done.append((id, None))
        except OSError:
            continue  # next time
    for mailbox, some in moved.items():
        if _are_durable(mailbox, ("", KEPT)):
            done += some
    return done


def note_kept(db: Connection, kept: Sequence[tuple[int, str | None]]) -> None:
    """Those files lie there now."""
    for id, name in kept:
        db.execute(update(expunged).where(expunged.c.id == id).values(name=name))


def prune(db: Connection, before: int, most: int, now: int) -> int:
    """Forget what was expunged before a time, and all but the last `most` of each mailbox; how many rows.

    Each mailbox notes up to which modseq it no longer knows (`mailboxes.forgotten`).
    """
    old = (
        select(expunged.c.mailbox_id, func.max(expunged.c.modseq))
        .where(expunged.c.at < before)
        .group_by(expunged.c.mailbox_id)
    )
    floors: dict[int, int] = dict(tuple(row) for row in db.execute(old))
    crowded = select(expunged.c.mailbox_id).group_by(expunged.c.mailbox_id).having(func.count() > most)
    for mailbox_id in db.execute(crowded).scalars().all():
        modseqs = select(expunged.c.modseq).where(expunged.c.mailbox_id == mailbox_id)
        last = db.execute(modseqs.order_by(expunged.c.modseq.desc()).offset(most).limit(1)).scalar_one()
        floors[mailbox_id] = max(last, floors.get(mailbox_id, 0))
    return sum(
        _forget(db, mailbox_id, floor, min(before, now - _NOTED)) for mailbox_id, floor in floors.items()
    )


def _forget(db: Connection, mailbox_id: int, floor: int, noted: int) -> int:
    """Up to modseq `floor`; but what came by a delivery only if it was expunged before `noted`."""
    db.execute(
        update(mailboxes)
        .where(mailboxes.c.id == mailbox_id, mailboxes.c.forgotten < floor)
        .values(forgotten=floor)
    )
    needless = or_(expunged.c.delivery.is_(None), expunged.c.at < noted)
    done = db.execute(
        delete(expunged).where(
            expunged.c.mailbox_id == mailbox_id,
            expunged.c.modseq <= floor,
            expunged.c.name.is_(None),
            needless,
        )
    )
    return int(done.rowcount)


def _located(db: Connection, root: Path, query: Select[Any], most: int) -> list[Grave]:
    rows = db.execute(query, {"most": most})
    return [(row.id, mailbox_path(root, row.home, row.directory or ""), row.name) for row in rows]


def unlink(files: Sequence[Grave]) -> list[int]:
    """Unlink those files, durably; the ids of those that are done. In a file thread.

    Durably, because their names are forgotten next: a file that a power cut brought back after that would be
    a message that nobody has expunged.
    """
    done: list[int] = []
    unlinked: dict[Path, list[int]] = {}
    directories: dict[Path, set[str]] = {}
    for id, mailbox, name in files:
        try:
            directories.setdefault(mailbox, set()).update(_unlink(mailbox, name))
        except FileNotFoundError:  # the whole directory is gone
            done.append(id)
        except OSError:
            continue  # next time
        else:
            unlinked.setdefault(mailbox, []).append(id)
    for mailbox, ids in unlinked.items():
        if _are_durable(mailbox, sorted(directories[mailbox])):
            done += ids
    return done


def forget_names(db: Connection, ids: Sequence[int]) -> None:
    """Those files are unlinked."""
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        db.execute(update(expunged).where(expunged.c.id.in_(some)).values(name=None))


def discarded_paths(db: Connection) -> list[str]:
    """Directories of deleted mailboxes, relative to the store's folder."""
    return list(db.execute(select(discarded.c.path)).scalars())


def set_aside(db: Connection, root: Path) -> list[str]:
    """Give those directories names that no mailbox gets; all such names. In a transaction.

    So nobody, however late, removes a mailbox that was made in the place of one that another process has
    removed. Raise OSError.
    """
    paths = discarded_paths(db)
    names = {path for path in paths if path.rpartition("/")[2].startswith(_ASIDE)}
    for path in sorted(set(paths) - names):
        aside = _name_aside(root, path, names)
        names.add(aside)
        try:
            os.rename(root / path, root / aside)
        except FileNotFoundError:  # it is gone, or it was renamed before a crash
            pass
        else:
            undo(db, partial(os.rename, root / aside, root / path))
            sync_directory(db, (root / aside).parent)
        db.execute(update(discarded).where(discarded.c.path == path).values(path=aside))
    return sorted(names)


def _name_aside(root: Path, path: str, taken: Container[str]) -> str:
    folder, _, name = path.rpartition("/")
    number = 1
    while True:
        aside = f"{folder}/{_ASIDE}{number}{name if name.startswith('.') else f'.{name}'}"
        if aside not in taken and not ((root / path).exists() and (root / aside).exists()):
            return aside
        number += 1


def remove_directories(root: Path, paths: Sequence[str]) -> list[str]:
    """Remove directories that were set aside; those that are done. In a file thread."""
    done = []
    for path in paths:
        directory = root / path
        try:
            if directory.exists():
                shutil.rmtree(directory)
                fsync_directory(directory.parent)
        except OSError:
            continue  # next time
        done.append(path)
    return done


def forget_discarded(db: Connection, paths: Sequence[str]) -> None:
    """Those directories are removed."""
    db.execute(delete(discarded).where(discarded.c.path.in_(paths)))


def claim_recent(db: Connection, claims: dict[int, int]) -> None:
    """Sessions were told of the UIDs below: their files belong into cur/ now."""
    for mailbox_id, uid in sorted(claims.items()):
        first = select(mailboxes.c.recent_uid).where(mailboxes.c.id == mailbox_id).with_for_update()
        before = db.execute(first).scalar_one_or_none()
        if before is None or before >= uid:
            continue
        db.execute(update(mailboxes).where(mailboxes.c.id == mailbox_id).values(recent_uid=uid))
        told = messages.c.id.between(message_id(mailbox_id, before), message_id(mailbox_id, uid - 1))
        db.execute(update(messages).where(told, messages.c.is_new).values(dirty=True))


def _rename(mailbox: str, id: int, base: str, flags: int, letters: str, is_new: bool) -> dict[str, Any]:
    """Rename one file; what to note of it. One that is not there is left to the next survey."""
    wanted = info(flags, letters)
    before, after = relative(base, letters, is_new), relative(base, wanted, False)
    if before != after:
        try:
            os.rename(f"{mailbox}/{before}", f"{mailbox}/{after}")
        except OSError:
            if not os.path.exists(f"{mailbox}/{after}"):  # not a rename of ours before a crash
                wanted, after = letters, before
    return {"message": id, "now_info": wanted, "now_new": after.startswith("new/"), "behind": False}


def _unlink(mailbox: Path, name: str) -> set[str]:
    """The directories that may have lost the file's name just now, or shortly before a crash."""
    if name.startswith(f"{KEPT}/"):  # a file of that name elsewhere was put there by hand
        remove(mailbox / name)
        return {KEPT}
    taken = take(mailbox, name, lambda now: os.unlink(mailbox / now))
    return {"new", "cur"} if taken is None else {taken.partition("/")[0]}


def _are_durable(mailbox: Path, directories: Sequence[str]) -> bool:
    """Whether what was done to the names in a mailbox's directories will outlive a power cut."""
    for name in directories:
        try:
            fsync_directory(mailbox / name)
        except FileNotFoundError:  # with all that was in it
            continue
        except OSError:
            return False  # next time
    return True
