"""The questions put to the tables. Blocking; run in one of `Work`'s threads.

Theory of operation. A recipient is expanded level by level, each level with three selects whatever its size.
What an address stands for is decided by the first that exists of: the user; the alias; the user, then the
alias, of the address without its detail (user+detail); the catch-all of the domain; for postmaster, whom the
configuration or the domain's age names. Each address is expanded once, so a loop of aliases ends by itself;
depth and number are bounded, and an address that passes them stands for nobody, rather than for some of those
it was meant for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from mailstack.directory.keys import StoredKeys
from mailstack.directory.model import Local, NotLocal, Resolution, User
from mailstack.directory.names import address_key, domain_key, split_detail, stored_address
from mailstack.directory.settings import DirectoryConfig
from mailstack.directory.tables import aliases, domains, secrets, user_keys, users
from mailstack.mail.address import Address, BadAddress
from mailstack.wire.sasl import Keys

MAX_DEPTH = 10  # aliases of aliases
MAX_TARGETS = 100  # addresses that one may stand for
_MOST_ROWS = 1000  # of aliases read for one level, whether they come to be used or not
LOGIN_NOTED_EVERY = 3600  # seconds between two writes of last_login for one user

_USER = (
    users.c.id,
    users.c.address,
    users.c.quota_octets,
    users.c.quota_messages,
    users.c.max_message_octets,
)
_CREDENTIALS = select(*_USER, users.c.password_hash, users.c.enabled, users.c.last_login).where(
    users.c.address == bindparam("key")
)  # every login asks for them: built once


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a login is checked against."""

    user: User
    password_hash: str
    enabled: bool
    last_login: int | None  # Unix seconds


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose keys they are; `keys` is None where the user has none for the mechanism asked for."""

    user: User
    enabled: bool
    last_login: int | None  # Unix seconds
    keys: Keys | None


class TooManyTargets(Exception):
    """The address stands for more than MAX_TARGETS others, or through more than MAX_DEPTH aliases."""


def is_local(db: Connection, domain: str) -> bool:
    """Whether `domain` (a key) is ours."""
    return db.execute(select(domains.c.id).where(domains.c.name == domain)).first() is not None


def find_user(db: Connection, key: str) -> User | None:
    """The user of exactly this address, enabled or not."""
    row = db.execute(select(*_USER).where(users.c.address == key)).first()
    return None if row is None else _user(row)


def credentials(db: Connection, key: str) -> Credentials | None:
    """The hash of the user of this address; None where there is no such user."""
    row = db.execute(_CREDENTIALS, {"key": key}).first()
    if row is None:
        return None
    return Credentials(_user(row), row.password_hash, row.enabled, row.last_login)


def note_login(db: Connection, user_id: int, now: int, old_hash: str, new_hash: str | None) -> None:
    """Write down a login, and the better hash if there is one and nobody has changed the password since."""
    db.execute(update(users).where(users.c.id == user_id).values(last_login=now))
    if new_hash is not None:
        same = (users.c.id == user_id) & (users.c.password_hash == old_hash)
        db.execute(update(users).where(same).values(password_hash=new_hash))


def holder(db: Connection, key: str, mechanism: str) -> Holder | None:
    """The user of this address with their keys for `mechanism`; None where there is no such user."""
    kept = (user_keys.c.user_id == users.c.id) & (user_keys.c.mechanism == mechanism)
    of_keys = (user_keys.c.salt, user_keys.c.iterations, user_keys.c.stored_key, user_keys.c.server_key)
    query = select(*_USER, users.c.enabled, users.c.last_login, *of_keys).outerjoin_from(
        users, user_keys, kept
    )
    row = db.execute(query.where(users.c.address == key)).first()
    if row is None:
        return None
    keys = None if row.salt is None else Keys(row.salt, row.iterations, row.stored_key, row.server_key)
    return Holder(_user(row), row.enabled, row.last_login, keys)


def kinds_of_keys(db: Connection, user_id: int) -> frozenset[tuple[str, int]]:
    """Which mechanisms the user has keys for, with their iterations."""
    query = select(user_keys.c.mechanism, user_keys.c.iterations).where(user_keys.c.user_id == user_id)
    return frozenset((row.mechanism, row.iterations) for row in db.execute(query))


def replace_keys(db: Connection, user_id: int, keys: Iterable[StoredKeys]) -> None:
    """Take away a user's keys and put these in their place."""
    db.execute(delete(user_keys).where(user_keys.c.user_id == user_id))
    for one in keys:
        values = {name: getattr(one.keys, name) for name in one.keys.__slots__}
        db.execute(insert(user_keys).values(user_id=user_id, mechanism=one.mechanism, **values))


def complete_keys(db: Connection, user_id: int, hashes: Sequence[str], keys: Sequence[StoredKeys]) -> None:
    """Store the keys that a login has made, while the password is that of one of `hashes` still."""
    same = (users.c.id == user_id) & users.c.password_hash.in_(hashes)
    if db.execute(select(users.c.id).where(same)).first() is not None:
        replace_keys(db, user_id, keys)


def secret(db: Connection, name: str) -> bytes | None:
    """The installation's secret called `name`, if it has been made."""
    found: bytes | None = db.scalar(select(secrets.c.value).where(secrets.c.name == name))
    return found


def make_secret(db: Connection, name: str, value: bytes) -> bytes:
    """Make `value` the secret called `name`, unless there is one; return what it is then."""
    found = secret(db, name)
    if found is None:
        db.execute(insert(secrets).values(name=name, value=value))
    return found or value


def resolve(db: Connection, address: Address, config: DirectoryConfig) -> Resolution | None:
    """Whom `address` stands for; None where there is nobody. Raise NotLocal, TooManyTargets."""
    return _Expansion(db, config).of(address)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An address to expand: its keys in order of precedence, and the detail that came with it."""

    address: Address
    detail: str | None
    exact: str
    base: str | None
    catch_all: str

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key in (self.exact, self.base, self.catch_all) if key is not None)


class _Expansion:
    """One address's way through users and aliases."""

    def __init__(self, db: Connection, config: DirectoryConfig) -> None:
        self._db = db
        self._config = config
        self._locals: dict[int, Local] = {}
        self._forwards: dict[str, Address] = {}
        self._seen: set[str] = set()

    def of(self, address: Address) -> Resolution | None:
        if not is_local(self._db, domain_key(address.domain)):
            raise NotLocal(str(address))
        level: list[tuple[Address, str | None]] = [(address, None)]
        for _ in range(MAX_DEPTH + 1):
            level = self._expand(self._new(level))
            if not level:
                break
        else:
            raise TooManyTargets(f"{address} leads through more than {MAX_DEPTH} aliases")
        first = self._wanted(address, None)
        if not self._locals and not self._forwards and _is_postmaster(first):
            self._deliver_to_first(first)  # whom the configuration names is gone
        if not self._locals and not self._forwards:
            return None
        return Resolution(tuple(self._locals.values()), tuple(self._forwards.values()))

    def _new(self, level: Iterable[tuple[Address, str | None]]) -> list[_Wanted]:
        found = []
        for address, detail in level:
            wanted = self._wanted(address, detail)
            if wanted.exact not in self._seen:
                self._seen.add(wanted.exact)
                found.append(wanted)
        if len(self._seen) > MAX_TARGETS + 1:  # the address itself is the one
            raise TooManyTargets(f"more than {MAX_TARGETS} addresses")
        return found

    def _wanted(self, address: Address, inherited: str | None) -> _Wanted:
        domain = domain_key(address.domain)
        base, detail = split_detail(address.local_part, self._config.recipient_delimiter)
        base_key = None if detail is None else address_key(Address(base, domain))
        return _Wanted(
            address, inherited if detail is None else detail, address_key(address), base_key, f"@{domain}"
        )

    def _expand(self, level: Sequence[_Wanted]) -> list[tuple[Address, str | None]]:
        """Sort one level into users and forwards; what is left are the targets of its aliases."""
        if not level:
            return []
        ours = self._ours(level)
        local = [wanted for wanted in level if wanted.catch_all[1:] in ours]
        for wanted in level:
            if wanted.catch_all[1:] not in ours:
                self._forwards[wanted.exact] = wanted.address
        keys = {key for wanted in local for key in wanted.keys}
        people = self._people(keys)
        targets = self._targets(keys)
        return [step for wanted in local for step in self._step(wanted, people, targets)]

    def _step(
        self, wanted: _Wanted, people: dict[str, User], targets: dict[str, list[Address]]
    ) -> list[tuple[Address, str | None]]:
        for key in wanted.keys:
            if key in people:
                self._deliver(people[key], wanted, key)
                return []
            if key in targets:
                # The detail goes along, so that lists+news, an alias of bob, reaches bob as bob+news.
                detail = None if key == wanted.catch_all else wanted.detail
                return [(target, detail) for target in targets[key]]
        return self._postmaster(wanted)

    def _deliver(self, user: User, wanted: _Wanted, key: str) -> None:
        detail = wanted.detail
        if key == wanted.exact and wanted.base is not None:
            detail = None  # a user whose very name has the delimiter in it
        recipient = wanted.address
        if detail is not None and wanted.base is None:
            mark = self._config.recipient_delimiter[:1]
            recipient = Address(f"{recipient.local_part}{mark}{detail}", recipient.domain)
        self._locals.setdefault(user.id, Local(user, recipient, detail))

    def _postmaster(self, wanted: _Wanted) -> list[tuple[Address, str | None]]:
        """postmaster@ reaches somebody in every domain of ours (RFC 5321 section 4.5.1)."""
        if not _is_postmaster(wanted):
            return []
        if self._config.postmaster is not None:
            named = Address.parse(self._config.postmaster)
            if address_key(named) not in self._seen:
                return [(named, None)]
        self._deliver_to_first(wanted)
        return []

    def _deliver_to_first(self, wanted: _Wanted) -> None:
        """To the domain's oldest user who may log in; to anybody, before a postmaster finds nobody."""
        domain = select(domains.c.id).where(domains.c.name == wanted.catch_all[1:]).scalar_subquery()
        order = ((users.c.domain_id == domain).desc(), users.c.enabled.desc(), users.c.id)
        row = self._db.execute(select(*_USER).order_by(*order).limit(1)).first()
        if row is not None:
            user = _user(row)
            self._locals.setdefault(user.id, Local(user, user.address, None))

    def _ours(self, level: Sequence[_Wanted]) -> set[str]:
        names = {wanted.catch_all[1:] for wanted in level}
        return set(self._db.scalars(select(domains.c.name).where(domains.c.name.in_(names))))

    def _people(self, keys: set[str]) -> dict[str, User]:
        rows = self._db.execute(select(*_USER).where(users.c.address.in_(keys)))
        return {row.address: _user(row) for row in rows}

    def _targets(self, keys: set[str]) -> dict[str, list[Address]]:
        query = select(aliases.c.address, aliases.c.target).where(aliases.c.address.in_(keys))
        found: dict[str, list[Address]] = {}
        rows = self._db.execute(query.order_by(aliases.c.id).limit(_MOST_ROWS)).all()
        if len(rows) == _MOST_ROWS:
            raise TooManyTargets(f"more than {MAX_TARGETS} addresses")
        for row in rows:
            try:
                found.setdefault(row.address, []).append(Address.parse(row.target))
            except BadAddress:
                continue  # only a hand in the table itself can have written it
        return found


def _is_postmaster(wanted: _Wanted) -> bool:
    return (wanted.base or wanted.exact) == f"postmaster{wanted.catch_all}"


def _user(row: Any) -> User:
    address = stored_address(row.address)
    return User(row.id, address, row.quota_octets, row.quota_messages, row.max_message_octets)
