"""The keys that sign URLs of mailboxes (RFC 4467 section 2): one of each user for each mailbox. Blocking."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, column, delete, func, insert, select, table, true

from mailstack.store.acl import locate
from mailstack.store.rows import box_by_name
from mailstack.store.tables import url_keys

OCTETS = 32  # RFC 4467 section 2.2: at least 16
_users = table("users", column("id"), column("address"), column("enabled"))


def user_of(db: Connection, address: str) -> int | None:
    """The user with that address who may log in."""
    same = func.lower(_users.c.address) == address.lower()
    found = db.execute(select(_users.c.id).where(same, _users.c.enabled == true())).scalars().all()
    return int(found[0]) if len(found) == 1 else None


def key_of(db: Connection, user_id: int, name: str) -> bytes | None:
    """The user's key for a mailbox that they may read, if there is one. Raise NoSuchMailbox, NoPermission."""
    return _key(db, user_id, _mailbox(db, user_id, name))


def made_key(db: Connection, user_id: int, name: str) -> bytes:
    """The same, made if there is none."""
    mailbox_id = _mailbox(db, user_id, name)
    key = _key(db, user_id, mailbox_id)
    if key is None:
        key = secrets.token_bytes(OCTETS)
        db.execute(insert(url_keys).values(mailbox_id=mailbox_id, user_id=user_id, key=key))
    return key


def reset(db: Connection, user_id: int, name: str | None) -> None:
    """Forget the user's key for a mailbox, or all: what they have signed is worth nothing from now on.

    Raise NoSuchMailbox, NoPermission.
    """
    wanted = url_keys.c.user_id == user_id
    if name is not None:
        wanted &= url_keys.c.mailbox_id == _mailbox(db, user_id, name)
    db.execute(delete(url_keys).where(wanted))


def _mailbox(db: Connection, user_id: int, name: str) -> int:
    place = locate(db, user_id, name).need("r")
    return box_by_name(db, place.owner_id, place.name, lock=False).id


def _key(db: Connection, user_id: int, mailbox_id: int) -> bytes | None:
    query = select(url_keys.c.key).where(url_keys.c.mailbox_id == mailbox_id, url_keys.c.user_id == user_id)
    key = db.execute(query).scalar_one_or_none()
    return None if key is None else bytes(key)
