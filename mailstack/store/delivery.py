"""Mail comes in: by delivery, exactly once, and by APPEND.

Theory of operation. All files of one call are written to tmp/ and fsynced in a file thread; a disk that is
full refuses all of them there. Then, in the writer's transaction, each takes its UID, is renamed to its place
and gets its rows; the directories are fsynced before the commit. A crash between leaves either a file in
tmp/, which nobody will miss since no 250 was said, or a file in place without a row, which the next open of
the mailbox adopts. The delivery's name is in the file's name and in the row: the same delivery again finds
one or the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, bindparam, select, union_all

from mailstack.db import undo
from mailstack.mail.message import Message
from mailstack.store.hot import Hot
from mailstack.store.maildir import Written, delivery_key, remove, write_message
from mailstack.store.news import Change
from mailstack.store.packing import Compression
from mailstack.store.rows import Addition, add_messages, box_by_name, check_quota, flag_mask
from mailstack.store.tables import UID_MASK, expunged, messages
from mailstack.store.values import Appended, Delivered, New, Parcel, Quota, StoreError

_REPEATED = Hot(
    union_all(
        *(
            select(table.c.id).where(
                table.c.mailbox_id == bindparam("mailbox"), table.c.delivery == bindparam("key")
            )
            for table in (messages, expunged)
        )
    )
)


@dataclass(frozen=True, slots=True)
class When:
    """The time something comes in, and where."""

    seconds: int  # of the epoch
    zone: int  # minutes east of Greenwich


def write_parcels(
    homes: Sequence[Path], parcels: Sequence[Parcel], when: When, compression: Compression = "none"
) -> list[Written]:
    """Write every parcel's message under its user's tmp/, durably; or none. Raise OSError."""
    return _write_all(
        [(home, parcel.message, when.seconds) for home, parcel in zip(homes, parcels, strict=True)],
        compression,
    )


def write_new(
    maildir: Path, new: Sequence[New], when: When, compression: Compression = "none"
) -> list[Written]:
    """The same for APPEND; all into one user's tmp/. Raise OSError."""
    return _write_all(
        [
            (maildir, item.message, when.seconds if item.internal_date is None else item.internal_date)
            for item in new
        ],
        compression,
    )


def deliver_txn(
    db: Connection, root: Path, written: Sequence[Written], parcels: Sequence[Parcel], when: When
) -> tuple[list[Delivered | StoreError], list[Change]]:
    """Deliver what `write_parcels` wrote: an outcome for each. Raise OSError; then none is delivered."""
    undo(db, lambda: remove_written(written))
    outcomes: list[Delivered | StoreError] = []
    changes: list[Change] = []
    for parcel, file in zip(parcels, written, strict=True):
        try:
            outcome, change = _deliver(db, root, parcel, file, when)
        except StoreError as error:  # raised before the first change
            remove(file.path)
            outcomes.append(error)
            continue
        outcomes.append(outcome)
        if change is not None:
            changes.append(change)
    return outcomes, changes


def append_txn(
    db: Connection,
    root: Path,
    written: Sequence[Written],
    target: tuple[int, str],
    new: Sequence[New],
    quota: Quota,
    when: When,
) -> tuple[Appended, Change | None]:
    """Append what `write_new` wrote, all or none. Raise NoSuchMailbox, OverQuota, TooMany, OSError."""
    undo(db, lambda: remove_written(written))
    box = box_by_name(db, *target)
    check_quota(box, sum(file.size for file in written), len(written), quota)
    additions, known = [], None
    for item, file in zip(new, written, strict=True):
        mask, added = flag_mask(db, root, box, item.flags)
        known = added or known
        date, zone = (
            (when.seconds, when.zone) if item.internal_date is None else (item.internal_date, item.zone)
        )
        additions.append(Addition(file.path, False, mask, date, zone, file.size, file.facts))
    if not additions:
        return Appended(box.uidvalidity, ()), None
    change = add_messages(db, root, box, additions, when.seconds, known)
    return Appended(box.uidvalidity, tuple(row[0] & UID_MASK for row in change.rows)), change


def remove_written(written: Sequence[Written]) -> None:
    """Remove files of tmp/ that will not be delivered."""
    for file in written:
        remove(file.path)


def _deliver(
    db: Connection, root: Path, parcel: Parcel, file: Written, when: When
) -> tuple[Delivered, Change | None]:
    box = box_by_name(db, parcel.user_id, parcel.mailbox)
    key = delivery_key(parcel.delivery)
    earlier = _REPEATED.run(db, {"mailbox": box.id, "key": key}).fetchone()
    if earlier is not None:
        remove(file.path)
        return Delivered(box.id, box.uidvalidity, earlier[0] & UID_MASK, repeated=True), None
    check_quota(box, file.size, 1, parcel.quota)
    mask, known = flag_mask(db, root, box, parcel.flags)
    addition = Addition(file.path, False, mask, when.seconds, when.zone, file.size, file.facts, key)
    change = add_messages(db, root, box, [addition], when.seconds, known)
    return Delivered(box.id, box.uidvalidity, box.uidnext), change


def _write_all(items: Sequence[tuple[Path, Message, int]], compression: Compression) -> list[Written]:
    written: list[Written] = []
    try:
        for maildir, message, date in items:
            written.append(write_message(f"{maildir}/tmp", message, date, compression))
    except BaseException:
        remove_written(written)
        raise
    return written
