"""Messages changed where they are: flags, expunge, copy, move. Blocking; in the writer's transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, insert, select, true, update

from mailstack.store import maildir
from mailstack.store.acl import locate, quota_of
from mailstack.store.flags import DELETED_BIT, SEEN_BIT, Keywords
from mailstack.store.hot import Hot
from mailstack.store.news import Change, Row
from mailstack.store.reading import ROWS
from mailstack.store.rows import (
    Addition,
    Box,
    Span,
    add_messages,
    advance,
    box_by_id,
    box_by_name,
    check_quota,
    flag_mask,
    keywords_of,
    within,
)
from mailstack.store.spanned import Spanned
from mailstack.store.tables import UID_MASK, expunged, messages
from mailstack.store.values import Copied, Expunged, NoSuchMailbox, Quota, Stored

_FEW = 32  # messages whose flags are written one by one
_BY_SPANS = Spanned(ROWS)
_FLAG = Hot(
    update(messages)
    .where(messages.c.id == bindparam("message"))
    .values(flags=bindparam("mask"), modseq=bindparam("now"), dirty=true())
)


@dataclass(frozen=True, slots=True)
class FlagChange:
    """What STORE asks (RFC 3501 section 6.4.6, RFC 7162 section 3.1.3)."""

    mode: str  # "add", "remove" or "replace"
    flags: frozenset[str]
    unchanged_since: int | None = None
    kept: int = 0  # bits that "replace" leaves as they are: the user may not change them (RFC 4314)

    def after(self, before: int, mask: int) -> int:
        """The bits that a message has then."""
        if self.mode == "add":
            return before | mask
        return before & ~mask if self.mode == "remove" else (before & self.kept) | (mask & ~self.kept)

    def concerns(self, mask: int) -> ColumnElement[bool]:
        """Which rows `after` would change."""
        column = messages.c.flags
        if self.mode == "add":
            condition = column.bitwise_and(mask) != mask
        else:
            condition = column.bitwise_and(mask) != 0 if self.mode == "remove" else column != self.value(mask)
        if self.unchanged_since is not None:
            condition = and_(condition, messages.c.modseq <= self.unchanged_since)
        return condition

    def value(self, mask: int) -> ColumnElement[int] | int:
        """`after`, said in SQL."""
        if self.mode == "add":
            return messages.c.flags.bitwise_or(mask)
        if self.mode == "remove":
            return messages.c.flags.bitwise_and(~mask)
        return messages.c.flags.bitwise_and(self.kept).bitwise_or(mask & ~self.kept) if self.kept else mask


def store_flags(
    db: Connection, root: Path, mailbox_id: int, spans: Sequence[Span], change: FlagChange
) -> tuple[Stored, Change | None]:
    """Change flags. Raise NoSuchMailbox; TooMany keywords."""
    box = box_by_id(db, mailbox_id)
    mask, known = _mask(db, root, box, change)
    modseq = box.modseq + 1
    changed: list[Row] = []
    failed: list[int] = []
    unseen = 0
    for rows in _BY_SPANS.rows(db, mailbox_id, spans):
        pairs = _changed(rows, change, mask, modseq, failed)
        seen = sum([(row[1] & SEEN_BIT) - (before & SEEN_BIT) for before, row in pairs]) // SEEN_BIT
        unseen -= seen
        changed += [row for _, row in pairs]
    if len(changed) > _FEW:
        values: dict[str, Any] = {"flags": change.value(mask), "modseq": modseq, "dirty": True}
        for condition in within(mailbox_id, spans):
            db.execute(update(messages).where(condition, change.concerns(mask)).values(values))
    elif changed:
        _FLAG.run_many(db, [{"message": row[0], "mask": row[1], "now": modseq} for row in changed])
    outcome = Stored(sorted(row[0] & UID_MASK for row in changed), sorted(failed))
    if not changed and known is None:
        return outcome, None
    advance(db, box, modseq, 0, unseen, 0)
    names = None if known is None else tuple(known.names.items())
    return outcome, Change(box.id, box.modseq, modseq, tuple(changed), keywords=names)


def expunge(
    db: Connection, mailbox_id: int, spans: Sequence[Span], marked: bool = False
) -> tuple[list[int], Change | None]:
    r"""Remove messages for good, with `marked` only those that are \Deleted; the UIDs that were there.

    Their rows go now, their files after the commit.
    """
    return _expunge(db, box_by_id(db, mailbox_id), spans, marked)


def expunge_one(db: Connection, mailbox_id: int, uid: int) -> Change | None:
    """The same for one message, which must be there. Raise Expunged, NoSuchMailbox."""
    gone, change = expunge(db, mailbox_id, [(uid, uid)])
    if not gone:
        raise Expunged(f"message {uid}")
    return change


def copy(
    db: Connection,
    root: Path,
    mailbox_id: int,
    spans: Sequence[Span],
    to_name: str,
    quota: Quota,
    now: int,
    move: bool = False,
    user_id: int | None = None,
) -> tuple[Copied, list[Change]]:
    """Copy messages, flags and dates kept, by hard links; for a move remove the originals with it.

    `to_name` is what `user_id` (None: the owner) calls it. In another user's mailbox that user's quota
    counts. Raise NoSuchMailbox, NoPermission, OverQuota, TooMany, OSError, Expunged where a file has
    vanished, or the mailbox they are in: nothing is done then.
    """
    source = _source(db, mailbox_id)
    acting = source.user_id if user_id is None else user_id
    place = locate(db, acting, to_name).need("i")
    readable = "r" in place.rights
    target = box_by_name(db, place.owner_id, place.name, lock=False)
    if place.owner_id != acting:
        quota = quota_of(db, place.owner_id)
    for each in sorted({source.id, target.id}):  # two processes never wait for each other in a circle
        box_by_id(db, each)
    source, target = box_by_id(db, source.id), box_by_id(db, target.id)
    rows: list[Any] = []
    for condition in within(mailbox_id, spans):
        rows += db.execute(select(messages).where(condition)).all()
    if not rows:
        return Copied(target.uidvalidity, [], readable), []
    rows.sort(key=lambda row: row.id)
    if not move or source.user_id != target.user_id:
        check_quota(target, sum(row.size for row in rows), len(rows), quota)
    masks, known = _translate(db, root, source, target, {row.flags for row in rows})
    additions = [_addition(str(source.path(root)), row, masks[row.flags]) for row in rows]
    changes = [add_messages(db, root, target, additions, now, known)]
    pairs = [(old.id & UID_MASK, new[0] & UID_MASK) for old, new in zip(rows, changes[0].rows, strict=True)]
    if move:
        _, gone = _expunge(db, box_by_id(db, source.id), [(uid, uid) for uid, _ in pairs])
        changes += [gone] if gone else []
    return Copied(target.uidvalidity, pairs, readable), changes


def move_all(db: Connection, root: Path, user_id: int, name: str, to_name: str, now: int) -> list[Change]:
    """Move every message: what RENAME does to INBOX (RFC 3501 section 6.3.5). Errors as `copy`."""
    source = box_by_name(db, user_id, name)
    _, changes = copy(db, root, source.id, [(1, UID_MASK)], to_name, (None, None), now, move=True)
    return changes


def _source(db: Connection, mailbox_id: int) -> Box:
    """Where the messages are; it is not the mailbox that the client is to be told to make."""
    try:
        return box_by_id(db, mailbox_id, lock=False)
    except NoSuchMailbox:
        raise Expunged("the mailbox is gone") from None


def _mask(db: Connection, root: Path, box: Box, change: FlagChange) -> tuple[int, Any]:
    if change.mode == "remove":  # a keyword that nobody has needs no bit
        mask, missing = Keywords({}).mask(change.flags)
        return (keywords_of(db, box.id).mask(change.flags)[0] if missing else mask), None
    return flag_mask(db, root, box, change.flags)


def _changed(
    rows: Sequence[Any], change: FlagChange, mask: int, modseq: int, failed: list[int]
) -> list[tuple[int, Row]]:
    """The rows that change, as they are then, each with its bits before."""
    changed: list[tuple[int, Row]] = []
    since = change.unchanged_since
    for row in rows:
        if since is not None and row[2] > since:
            failed.append(row[0] & UID_MASK)
            continue
        after = change.after(row[1], mask)
        if after != row[1]:
            changed.append((row[1], (row[0], after, modseq, *row[3:])))
    return changed


def _expunge(
    db: Connection, box: Box, spans: Sequence[Span], marked: bool = False
) -> tuple[list[int], Change | None]:
    modseq, now = box.modseq + 1, int(time.time())
    gone: list[Any] = []
    for condition in within(box.id, spans):
        if marked:
            condition = and_(condition, messages.c.flags.bitwise_and(DELETED_BIT) != 0)
        rows = db.execute(select(messages).where(condition)).all()
        if rows:
            db.execute(insert(expunged), [_grave(row, modseq, now) for row in rows])
            db.execute(delete(messages).where(condition))
            gone += rows
    if not gone:
        return [], None
    unseen = sum(1 for row in gone if not row.flags & SEEN_BIT)
    advance(db, box, modseq, -len(gone), -unseen, -sum(row.size for row in gone))
    uids = sorted(row.id & UID_MASK for row in gone)
    return uids, Change(box.id, box.modseq, modseq, expunged=tuple(uids))


def _grave(row: Any, modseq: int, now: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "mailbox_id": row.mailbox_id,
        "modseq": modseq,
        "name": maildir.relative(row.name, row.disk_info, row.is_new),
        "delivery": row.delivery,
        "at": now,
        "flags": row.flags,
        "internal_date": row.internal_date,
        "zone": row.zone,
        "size": row.size,
    }


def _translate(
    db: Connection, root: Path, source: Box, target: Box, masks: set[int]
) -> tuple[dict[int, int], Any]:
    """What each mask of the source is in the target: keywords have other bits there."""
    if source.id == target.id or all(mask < 1 << 8 for mask in masks):
        return {mask: mask for mask in masks}, None
    names, known, translated = keywords_of(db, source.id), None, {}
    for mask in masks:
        translated[mask], added = flag_mask(db, root, target, names.flags(mask))
        known = added or known
    return translated, known


def _addition(mailbox: str, row: Any, mask: int) -> Addition:
    path = f"{mailbox}/{maildir.relative(row.name, row.disk_info, row.is_new)}"
    return Addition(path, True, mask, row.internal_date, row.zone, row.size, row.id)
