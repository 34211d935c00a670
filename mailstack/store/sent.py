"""One copy in Sent, although two send it there: we, when a message is submitted, and the user's own program.

Theory of operation. A message that comes into a mailbox for sent mail, by either way, gets a delivery name
made of its Message-ID. Who comes second, within some minutes, finds it: our own copy is dropped; the
program's is dropped too, but its flags are set on ours, and it is answered with our UID, so that it sees what
it appended. Later than that, a message of the same Message-ID is another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from mailstack.store.changes import FlagChange, store_flags
from mailstack.store.delivery import When
from mailstack.store.maildir import Written, delivery_key, remove
from mailstack.store.news import Change
from mailstack.store.rows import Addition, Box, add_messages, box_by_name, check_quota, flag_mask
from mailstack.store.tables import UID_MASK, mailboxes, messages
from mailstack.store.values import Appended, New, Quota

SENT = "\\Sent"
WINDOW = 600  # seconds in which two of the same Message-ID are one

_MESSAGE_ID = re.compile(rb"(?im)^message-id[ \t]*:[ \t\r\n]*(<[\x21-\x7e]{1,900}>)")


def sent_key(file: Written) -> str | None:
    """The delivery name of a message in Sent; None where it has no Message-ID."""
    match = _MESSAGE_ID.search(file.facts.fields)
    return delivery_key(f"sent:{match[1].decode()}") if match else None


def is_sent(box: Box) -> bool:
    """Whether a mailbox is for sent mail (RFC 6154)."""
    return SENT in box.special_use.split(" ")


def sent_mailbox(db: Connection, user_id: int) -> str | None:
    """The name of the user's mailbox for sent mail, the first by name; None where they have none."""
    query = select(mailboxes.c.name, mailboxes.c.special_use).where(mailboxes.c.user_id == user_id)
    rows = db.execute(query.where(mailboxes.c.selectable).order_by(mailboxes.c.name))
    return next((row.name for row in rows if SENT in row.special_use.split(" ")), None)


def append_sent_txn(
    db: Connection, root: Path, written: Sequence[Written], box: Box, new: New, quota: Quota, when: When
) -> tuple[Appended, Change | None]:
    """The user's program appends one message to Sent: it may be ours by now. Raises as `append_txn` does."""
    [file] = written
    key, earlier = _find(db, box, file)
    if earlier is not None and earlier.saved >= when.seconds - WINDOW:
        remove(file.path)
        uid = earlier.id & UID_MASK
        _, change = store_flags(db, root, box.id, [(uid, uid)], FlagChange("replace", new.flags))
        return Appended(box.uidvalidity, (uid,)), change
    date, zone = (when.seconds, when.zone) if new.internal_date is None else (new.internal_date, new.zone)
    change = _add(db, root, box, file, new.flags, (date, zone), None if earlier else key, quota, when)
    return Appended(box.uidvalidity, (change.rows[0][0] & UID_MASK,)), change


def save_sent_txn(
    db: Connection, root: Path, written: Sequence[Written], user_id: int, quota: Quota, when: When
) -> Change | None:
    """Our own copy of what the user has submitted. Raises as `append_txn` does."""
    [file] = written
    name = sent_mailbox(db, user_id)
    box = None if name is None else box_by_name(db, user_id, name)
    key, earlier = (None, None) if box is None else _find(db, box, file)
    if box is None or (earlier is not None and earlier.saved >= when.seconds - WINDOW):
        remove(file.path)
        return None
    date = (when.seconds, when.zone)
    return _add(db, root, box, file, {"\\Seen"}, date, None if earlier else key, quota, when)


def _find(db: Connection, box: Box, file: Written) -> tuple[str | None, Row[Any, Any] | None]:
    key = sent_key(file)
    if key is None:
        return None, None
    query = select(messages.c.id, messages.c.saved)
    return key, db.execute(query.where(messages.c.mailbox_id == box.id, messages.c.delivery == key)).first()


def _add(
    db: Connection,
    root: Path,
    box: Box,
    file: Written,
    flags: Iterable[str],
    date: tuple[int, int],
    key: str | None,
    quota: Quota,
    when: When,
) -> Change:
    check_quota(box, file.size, 1, quota)
    mask, known = flag_mask(db, root, box, flags)
    addition = Addition(file.path, False, mask, *date, file.size, file.facts, key)
    return add_messages(db, root, box, [addition], when.seconds, known)
