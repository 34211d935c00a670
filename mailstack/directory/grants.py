"""Addresses that a user may send as, besides their own and the aliases that reach them. Blocking.

A grant is for one address, or for a whole domain, written "@domain"; neither needs to be ours, because who
may speak for an address is the operator's to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from mailstack.directory.names import address_key, domain_key
from mailstack.directory.tables import grants, users
from mailstack.directory.verbs import Refusal, get_user
from mailstack.mail.address import Address, BadAddress, parse_domain


@dataclass(frozen=True, slots=True)
class GrantInfo:
    """One address that a user may send as."""

    user: str
    address: str


def is_granted(db: Connection, user_id: int, key: str) -> bool:
    """Whether the user was granted the address of this key, or all of its domain."""
    wanted = (key, f"@{key.rpartition('@')[2]}")
    where = (grants.c.user_id == user_id) & grants.c.address.in_(wanted)
    return db.execute(select(grants.c.address).where(where)).first() is not None


def grant(db: Connection, user: str, address: str) -> str:
    """Let `user` send as `address`; return it as stored. Raise Refusal."""
    found, key = get_user(db, user), _key(address)
    if _has(db, found.id, key):
        raise Refusal(f"{found.address} may send as {key} already")
    db.execute(insert(grants).values(user_id=found.id, address=key))
    return key


def revoke(db: Connection, user: str, address: str) -> str:
    """Take a grant back; return the address as it was stored. Raise Refusal where there is none."""
    found, key = get_user(db, user), _key(address)
    if not _has(db, found.id, key):
        raise Refusal(f"{found.address} was not granted {key}")
    db.execute(delete(grants).where(grants.c.user_id == found.id, grants.c.address == key))
    return key


def list_grants(db: Connection, user: str | None = None) -> list[GrantInfo]:
    """Every grant by user, or those of one. Raise Refusal."""
    query = select(users.c.address, grants.c.address).join(users, users.c.id == grants.c.user_id)
    if user is not None:
        query = query.where(users.c.id == get_user(db, user).id)
    rows = db.execute(query.order_by(users.c.address, grants.c.address))
    return [GrantInfo(*row) for row in rows]


def _has(db: Connection, user_id: int, key: str) -> bool:
    where = (grants.c.user_id == user_id) & (grants.c.address == key)
    return db.execute(select(grants.c.user_id).where(where)).first() is not None


def _key(text: str) -> str:
    try:
        if text.startswith("@"):
            return f"@{domain_key(parse_domain(text[1:]))}"
        return address_key(Address.parse(text))
    except BadAddress as error:
        raise Refusal(f"{text!r} is not an address: {error}") from error
