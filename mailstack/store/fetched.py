"""What POP3 clients have fetched of a mailbox, and when first. Blocking."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from mailstack.store.rows import spans_of, within
from mailstack.store.tables import UID_MASK, message_id, messages, pop3_fetched


def read(db: Connection, mailbox_id: int) -> dict[int, int]:
    """When each message was first fetched, in seconds of the epoch, by UID."""
    low, high = message_id(mailbox_id, 0), message_id(mailbox_id, UID_MASK)
    query = select(pop3_fetched.c.message_id, pop3_fetched.c.at)
    rows = db.execute(query.where(pop3_fetched.c.message_id.between(low, high)))
    return {row.message_id & UID_MASK: int(row.at) for row in rows}


def note(db: Connection, mailbox_id: int, uids: Sequence[int], at: int) -> None:
    """Remember it of messages that are still there; those that are known keep their time."""
    known = read(db, mailbox_id)
    wanted = sorted(set(uids) - known.keys())
    for ids in within(mailbox_id, spans_of(wanted)):
        found = db.execute(select(messages.c.id).where(ids)).scalars()
        rows = [{"message_id": id, "at": at} for id in found]
        if rows:
            db.execute(insert(pop3_fetched), rows)
