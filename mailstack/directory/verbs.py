"""What an operator does to domains, users and aliases. Blocking; each runs in one transaction of `Database`.

Every verb raises Refusal with one line for the operator where it cannot do what was asked, and changes
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, delete, func, insert, select, update

from mailstack.directory.keys import StoredKeys
from mailstack.directory.lookups import MAX_TARGETS, replace_keys
from mailstack.directory.names import address_key, our_domain
from mailstack.directory.tables import aliases, domains, user_keys, users
from mailstack.mail.address import Address, BadAddress


class Refusal(Exception):
    """It cannot be done; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """A domain, with what is in it."""

    name: str
    users: int
    aliases: int
    created: int  # Unix seconds


@dataclass(frozen=True, slots=True)
class UserInfo:
    """A user, as the operator sees them: no password hash."""

    id: int
    address: str
    enabled: bool
    quota_octets: int | None
    quota_messages: int | None
    created: int  # Unix seconds
    last_login: int | None  # Unix seconds
    max_message_octets: int | None  # of one that they submit; None: as [msa] says


@dataclass(frozen=True, slots=True)
class AliasInfo:
    """One target of an alias."""

    address: str
    target: str


# Domains


def add_domain(db: Connection, name: str) -> str:
    """Serve a domain from now on; return its name as stored."""
    key = _domain_key(name)
    if _domain_id(db, key) is not None:
        raise Refusal(f"{key} is there already")
    db.execute(insert(domains).values(name=key, created=_now()))
    return key


def remove_domain(db: Connection, name: str) -> str:
    """Serve a domain no longer; refused while it has users or aliases."""
    key = _domain_key(name)
    domain_id = _existing_domain(db, key)
    for table, words in ((users, "users"), (aliases, "aliases")):
        count = db.scalar(select(func.count()).select_from(table).where(table.c.domain_id == domain_id))
        if count:
            raise Refusal(f"{key} still has {count} {words}; remove them first")
    db.execute(delete(domains).where(domains.c.id == domain_id))
    return key


def one_domain(db: Connection, name: str) -> str:
    """A domain's name as stored."""
    key = _domain_key(name)
    _existing_domain(db, key)
    return key


def list_domains(db: Connection) -> list[DomainInfo]:
    """Every domain by name."""
    of_users, of_aliases = _counts(db, users.c.domain_id), _counts(db, aliases.c.domain_id)
    return [
        DomainInfo(row.name, of_users.get(row.id, 0), of_aliases.get(row.id, 0), row.created)
        for row in db.execute(select(domains).order_by(domains.c.name))
    ]


# Users


def add_user(
    db: Connection,
    address: str,
    password_hash: str,
    quota_octets: int | None = None,
    quota_messages: int | None = None,
    keys: Iterable[StoredKeys] = (),
) -> int:
    """A new user, enabled; return their id. The caller provisions the mailboxes in the same transaction.

    `keys` are of the same password as the hash.
    """
    parsed = _address(address)
    key = address_key(parsed)
    domain_id = _existing_domain(db, key.rpartition("@")[2])
    if db.execute(select(users.c.id).where(users.c.address == key)).first():
        raise Refusal(f"{key} is there already")
    if db.execute(select(aliases.c.id).where(aliases.c.address == key)).first():
        raise Refusal(f"{key} is an alias; a user of that address would hide it: remove the alias first")
    values = {
        "domain_id": domain_id,
        "address": key,
        "password_hash": password_hash,
        "enabled": True,
        "quota_octets": quota_octets,
        "quota_messages": quota_messages,
        "created": _now(),
    }
    user_id: int = db.execute(insert(users).values(values).returning(users.c.id)).scalar_one()
    replace_keys(db, user_id, keys)
    return user_id


def remove_user(db: Connection, address: str) -> int:
    """Take a user away; return the id they had. The caller removes what refers to it, the mail, before."""
    found = get_user(db, address)
    db.execute(delete(users).where(users.c.id == found.id))
    return found.id


def get_user(db: Connection, address: str) -> UserInfo:
    """The user of this address."""
    key = address_key(_address(address))
    row = db.execute(select(*_INFO).where(users.c.address == key)).first()
    if row is None:
        raise Refusal(f"{key}: no such user")
    return UserInfo(*row)


def list_users(db: Connection, domain: str | None = None) -> list[UserInfo]:
    """Every user by address, or those of one domain."""
    query = select(*_INFO).order_by(users.c.address)
    if domain is not None:
        query = query.where(users.c.domain_id == _existing_domain(db, _domain_key(domain)))
    return [UserInfo(*row) for row in db.execute(query)]


def set_password(db: Connection, address: str, password_hash: str, keys: Iterable[StoredKeys] = ()) -> None:
    """A new password, and its keys; logins with the old one fail from now on, in every process."""
    _change(db, address, {"password_hash": password_hash})
    replace_keys(db, get_user(db, address).id, keys)


def mechanisms_of_users(db: Connection) -> dict[int, tuple[str, ...]]:
    """For which mechanisms of SCRAM and CRAM-MD5 each user has keys; who has none is not there."""
    query = select(user_keys.c.user_id, user_keys.c.mechanism).order_by(user_keys.c.mechanism)
    found: dict[int, tuple[str, ...]] = {}
    for row in db.execute(query):
        found[row.user_id] = (*found.get(row.user_id, ()), row.mechanism)
    return found


def set_quota(db: Connection, address: str, octets: int | None, messages: int | None) -> None:
    """New limits; None is no limit. What is there already stays."""
    _change(db, address, {"quota_octets": octets, "quota_messages": messages})


def set_max_message(db: Connection, address: str, octets: int | None) -> None:
    """The largest message that a user may submit; None: what [msa] says."""
    _change(db, address, {"max_message_octets": octets})


def set_enabled(db: Connection, address: str, enabled: bool) -> None:
    """Let a user log in, or not. Mail arrives all the same."""
    _change(db, address, {"enabled": enabled})


# Aliases


def add_alias(db: Connection, address: str, targets: Iterable[str]) -> str:
    """Have `address`, or every unknown one in "@domain", stand for `targets` too; return it as stored."""
    key = _alias_key(address)
    domain_id = _existing_domain(db, key.rpartition("@")[2])
    if db.execute(select(users.c.id).where(users.c.address == key)).first():
        raise Refusal(f"{key} is a user; an alias of that address would never be used")
    known = {alias.target for alias in list_aliases(db, address)}
    for target in dict.fromkeys(str(_address(target)) for target in targets):
        if target in known:
            raise Refusal(f"{key} stands for {target} already")
        if address_key(_address(target)) == key:
            raise Refusal(f"{key} cannot stand for itself")
        known.add(target)
        db.execute(insert(aliases).values(domain_id=domain_id, address=key, target=target))
    if len(known) > MAX_TARGETS:
        raise Refusal(f"{key} would stand for more than {MAX_TARGETS} addresses; use a mailing list")
    return key


def remove_alias(db: Connection, address: str, target: str | None = None) -> int:
    """Take away one target of an alias, or all; return how many."""
    key = _alias_key(address)
    query = delete(aliases).where(aliases.c.address == key)
    if target is not None:
        query = query.where(aliases.c.target == str(_address(target)))
    removed = db.execute(query).rowcount
    if not removed:
        raise Refusal(f"{key}: no such alias" + (f" of {target}" if target else ""))
    return removed


def list_aliases(db: Connection, address: str | None = None, domain: str | None = None) -> list[AliasInfo]:
    """Every alias by address, those of one address, or those of one domain."""
    query = select(aliases.c.address, aliases.c.target).order_by(aliases.c.address, aliases.c.id)
    if address is not None:
        query = query.where(aliases.c.address == _alias_key(address))
    if domain is not None:
        query = query.where(aliases.c.domain_id == _existing_domain(db, _domain_key(domain)))
    return [AliasInfo(*row) for row in db.execute(query)]


def aliases_of(db: Connection, address: str) -> list[str]:
    """The aliases that stand for `address` directly."""
    key = address_key(_address(address))
    found = (alias.address for alias in list_aliases(db) if address_key(_address(alias.target)) == key)
    return list(dict.fromkeys(found))


def count(db: Connection) -> dict[str, int]:
    """How many domains, users and aliases there are."""
    found = {}
    for table in (domains, users, aliases):
        found[table.name] = db.scalar(select(func.count()).select_from(table)) or 0
    return found


_INFO = (
    users.c.id,
    users.c.address,
    users.c.enabled,
    users.c.quota_octets,
    users.c.quota_messages,
    users.c.created,
    users.c.last_login,
    users.c.max_message_octets,
)


def _now() -> int:
    return int(time.time())


def _change(db: Connection, address: str, values: dict[str, object]) -> None:
    key = address_key(_address(address))
    if not db.execute(update(users).where(users.c.address == key).values(values)).rowcount:
        raise Refusal(f"{key}: no such user")


def _counts(db: Connection, column: Column[Any]) -> dict[int, int]:
    return {row[0]: row[1] for row in db.execute(select(column, func.count()).group_by(column))}


def _domain_key(name: str) -> str:
    try:
        return our_domain(name)
    except BadAddress as error:
        raise Refusal(f"{name!r} is not a domain: {error}") from error


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except BadAddress as error:
        raise Refusal(f"{text!r} is not an address: {error}") from error


def _alias_key(address: str) -> str:
    if address.startswith("@"):
        return f"@{_domain_key(address[1:])}"
    return address_key(_address(address))


def _domain_id(db: Connection, key: str) -> int | None:
    return db.scalar(select(domains.c.id).where(domains.c.name == key))


def _existing_domain(db: Connection, key: str) -> int:
    found = _domain_id(db, key)
    if found is None:
        raise Refusal(f"{key} is not a domain of ours; add it with: mailstack domain add {key}")
    return found
