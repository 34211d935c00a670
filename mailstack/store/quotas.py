"""Whose limits count for a mailbox of another user, and who may know of them (RFC 9208). Blocking.

A quota root holds all mailboxes of one user. What it holds tells of how much mail there is: it takes the
right "r" on a mailbox of the root to be told (section 6), or "k" and "r" on the one above a mailbox that is
not there yet, which would be of the same root (section 4.1.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from mailstack.store import acl
from mailstack.store.mailboxes import usage_of
from mailstack.store.tables import mailbox_rights, mailboxes
from mailstack.store.values import NoSuchMailbox, Quota, Usage


@dataclass(frozen=True, slots=True)
class Account:
    """What a user may hold, and does."""

    owner_id: int
    address: str  # in lower case
    quota: Quota
    usage: Usage


def account_for(db: Connection, user_id: int, name: str) -> Account:
    """Of the owner of a mailbox as `user_id` calls it. Raise NoSuchMailbox, NoPermission."""
    try:
        place = acl.locate(db, user_id, name)
    except NoSuchMailbox:
        place = acl.locate_new(db, user_id, name)
        if place.owner_id == user_id:  # the name of a user, who is no mailbox
            raise
    return account_of(db, place.need("r").owner_id)


def account_with(db: Connection, user_id: int, address: str) -> Account | None:
    """Of the user with that address (in lower case), if `user_id` may read a mailbox of theirs; else None."""
    asker = acl.address_of(db, user_id)
    query = (
        select(mailboxes.c.user_id, mailboxes.c.id)
        .join(mailbox_rights, mailbox_rights.c.mailbox_id == mailboxes.c.id)
        .where(mailbox_rights.c.identifier.in_([acl.ANYONE, asker]), mailboxes.c.user_id != user_id)
        .distinct()
    )
    shared: dict[int, list[int]] = {}
    for owner_id, mailbox_id in db.execute(query):
        shared.setdefault(owner_id, []).append(mailbox_id)
    for owner_id, ids in shared.items():
        if acl.address_of(db, owner_id) == address:
            rights = [acl.effective(acl.entries_of(db, mailbox_id), asker) for mailbox_id in ids]
            return account_of(db, owner_id) if any({"l", "r"} <= set(each) for each in rights) else None
    return None


def account_of(db: Connection, owner_id: int) -> Account:
    """Of one user. Raise NoSuchMailbox if there is none."""
    address = acl.address_of(db, owner_id)
    return Account(owner_id, address, acl.quota_of(db, owner_id), usage_of(db, owner_id))
