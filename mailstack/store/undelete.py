"""Expunged mail put back while its files are kept (`[store] keep_expunged`). Blocking; in a transaction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, func, select, update

from mailstack.store import maildir
from mailstack.store.flags import DELETED_BIT
from mailstack.store.news import Change
from mailstack.store.rows import Addition, add_messages, box_by_name
from mailstack.store.tables import UID_MASK, expunged

SLICE = 50  # messages put back in one transaction


def count_kept(db: Connection, user_id: int, mailbox: str, since: int) -> int:
    """How many messages could be put back that were expunged at or after `since`, seconds of the epoch.

    Raise NoSuchMailbox.
    """
    box = box_by_name(db, user_id, mailbox, lock=False)
    query = select(func.count()).select_from(expunged).where(_kept(box.id, since))
    return int(db.execute(query).scalar_one())


def put_back(
    db: Connection, root: Path, user_id: int, mailbox: str, since: int, now: int
) -> tuple[list[tuple[int, int]], int, Change | None]:
    """Put back the first `SLICE` of them: old and new UIDs, how many rows were looked at, and the change.

    A message comes back under a new UID, as it was, without its \\Deleted. One whose file is gone stays gone.
    Quotas do not hinder. Raise NoSuchMailbox, OSError.
    """
    box = box_by_name(db, user_id, mailbox)
    rows = db.execute(select(expunged).where(_kept(box.id, since)).order_by(expunged.c.id).limit(SLICE)).all()
    path = box.path(root)
    there: list[tuple[Any, Addition]] = []
    for row in rows:
        addition = _addition(path, row)
        if addition is not None:
            there.append((row, addition))
        # Its file is linked, not renamed: where this is rolled back it is still there. Without a size the row
        # does not come back twice, and upkeep unlinks the old name at once.
        db.execute(update(expunged).where(expunged.c.id == row.id).values(size=None, delivery=None))
    if not there:
        return [], len(rows), None
    change = add_messages(db, root, box, [addition for _, addition in there], now)
    pairs = [(row.id & UID_MASK, new[0] & UID_MASK) for (row, _), new in zip(there, change.rows, strict=True)]
    return pairs, len(rows), change


def _kept(mailbox_id: int, since: int) -> Any:
    return and_(
        expunged.c.mailbox_id == mailbox_id,
        expunged.c.name.is_not(None),
        expunged.c.size.is_not(None),
        expunged.c.at >= since,
    )


def _addition(mailbox: Path, row: Any) -> Addition | None:
    path = mailbox / row.name
    try:
        if not path.exists():
            found = maildir.find(mailbox, maildir.base_of(row.name))
            if found is None:
                return None
            path = mailbox / found
        size, _, facts = maildir.file_facts(path)
    except FileNotFoundError:
        return None
    mask = row.flags & ~DELETED_BIT
    return Addition(path, True, mask, row.internal_date, row.zone, size, facts, row.delivery)
