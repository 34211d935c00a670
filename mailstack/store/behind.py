"""What follows the index: names of files, files of expunged messages, directories of deleted mailboxes.

Each step is found again from rows after a crash: `messages.dirty`, `expunged.name`, `discarded`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from mailstack.db import sync_directory
from mailstack.store.flags import info
from mailstack.store.maildir import find, fsync_directory, relative, remove
from mailstack.store.rows import box_by_id, mailbox_path
from mailstack.store.tables import UID_BITS, discarded, expunged, mailboxes, message_id, messages, usage
from mailstack.store.values import NoSuchMailbox

_DIRTY = select(messages.c.id).where(messages.c.dirty).order_by(messages.c.id).limit(bindparam("most"))
_NAMED = (
    update(messages)
    .where(messages.c.id == bindparam("message"))
    .values(disk_info=bindparam("now_info"), is_new=bindparam("now_new"), dirty=False)
)
_GRAVES = (
    select(expunged.c.id, expunged.c.name, usage.c.home, mailboxes.c.directory)
    .join(mailboxes, mailboxes.c.id == expunged.c.mailbox_id)
    .join(usage, usage.c.user_id == mailboxes.c.user_id)
    .where(expunged.c.name.is_not(None))
    .limit(bindparam("most"))
)


def sync_names(db: Connection, root: Path, most: int) -> int:
    """Rename up to `most` files so that they say their flags; how many rows were behind.

    In a transaction, under the locks of the mailboxes' rows: nobody looks at the directories meanwhile.
    """
    ids = list(db.execute(_DIRTY, {"most": most}).scalars())
    for mailbox_id in sorted({id >> UID_BITS for id in ids}):
        try:
            box = box_by_id(db, mailbox_id)
        except NoSuchMailbox:
            continue
        some = [id for id in ids if id >> UID_BITS == mailbox_id]
        rows = db.execute(select(messages).where(messages.c.id.in_(some), messages.c.dirty)).all()
        named = [_rename(box.path(root), row) for row in rows]
        if named:
            db.execute(_NAMED, named)
        sync_directory(db, box.path(root) / "cur")
    return len(ids)


def graves(db: Connection, root: Path, most: int) -> list[tuple[int, Path, str]]:
    """Expunged messages whose files are still there: id, mailbox directory, path from it."""
    rows = db.execute(_GRAVES, {"most": most})
    return [(row.id, mailbox_path(root, row.home, row.directory or ""), row.name) for row in rows]


def unlink(files: Sequence[tuple[int, Path, str]]) -> list[int]:
    """Unlink those files; the ids of those that are done. In a file thread."""
    done = []
    for id, mailbox, name in files:
        try:
            _unlink(mailbox, name)
        except FileNotFoundError:  # the whole directory is gone
            pass
        except OSError:
            continue  # next time
        done.append(id)
    return done


def forget_names(db: Connection, ids: Sequence[int]) -> None:
    """Those files are unlinked."""
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        db.execute(update(expunged).where(expunged.c.id.in_(some)).values(name=None))


def discarded_paths(db: Connection) -> list[str]:
    """Directories of deleted mailboxes, relative to the store's folder."""
    return list(db.execute(select(discarded.c.path)).scalars())


def remove_directories(root: Path, paths: Sequence[str]) -> list[str]:
    """Remove those directories; those that are done. In a file thread."""
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


def _rename(mailbox: Path, row: Any) -> dict[str, Any]:
    """Rename one file; what to note of it. One that is not there is left to the next survey."""
    letters = info(row.flags, row.disk_info)
    before, after = (
        relative(row.name, row.disk_info, row.is_new),
        relative(row.name, letters, False),
    )
    if before != after:
        try:
            (mailbox / before).rename(mailbox / after)
        except OSError:
            if not (mailbox / after).exists():  # not a rename of ours before a crash
                return {"message": row.id, "now_info": row.disk_info, "now_new": row.is_new}
    return {"message": row.id, "now_info": letters, "now_new": False}


def _unlink(mailbox: Path, name: str) -> None:
    path = mailbox / name
    if path.exists():
        remove(path)
        return
    found = find(mailbox, path.name.partition(":2,")[0])
    if found is not None:
        remove(mailbox / found)
