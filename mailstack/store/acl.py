"""Who may do what with a mailbox (RFC 4314), and how mailboxes of others are named. Blocking.

The owner of a mailbox has every right, always. Others see it as ``Other Users/<owner's address>/<name>`` if
they have the right "l". Rights are given to addresses and to "anyone", which is every user here; an
identifier with "-" before it takes rights away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, column, delete, func, insert, or_, select, table

from mailstack.db import announce
from mailstack.store.mailboxes import list_mailboxes, list_subscriptions
from mailstack.store.names import OTHER_USERS, SEPARATOR, canonical
from mailstack.store.tables import mailbox_rights, mailboxes
from mailstack.store.values import (
    ALL_RIGHTS,
    BadRights,
    MailboxInfo,
    NoPermission,
    NoSuchMailbox,
    Quota,
    TooMany,
)

ANYONE = "anyone"
MAX_IDENTIFIERS = 500  # of one mailbox
_VIRTUAL = {"c": "kx", "d": "te"}  # RFC 4314 section 2.1.1
_PREFIX = OTHER_USERS + SEPARATOR
_users = table("users", column("id"), column("address"), column("quota_octets"), column("quota_messages"))


@dataclass(frozen=True, slots=True)
class Place:
    """The mailbox that a name means to a user: its owner, its name there, what the user may do."""

    owner_id: int
    name: str
    rights: str

    def need(self, rights: str) -> Place:
        """This place, if the user has those rights. Raise NoPermission."""
        if not set(rights) <= set(self.rights):
            raise NoPermission(f"{self.name}: the right {rights} is needed")
        return self


def parse_rights(text: str) -> str:
    """Rights as a client writes them, in our order, "c" and "d" said anew. Raise BadRights."""
    wanted = {right for letter in text for right in _VIRTUAL.get(letter, letter)}
    if not wanted <= set(ALL_RIGHTS):
        raise BadRights(f"{text}: the rights are {ALL_RIGHTS}")
    return _ordered(wanted)


def effective(entries: Mapping[str, str], address: str) -> str:
    """What the entries of an access control list let that user do (RFC 4314 section 2)."""
    given = set(entries.get(ANYONE, "")) | set(entries.get(address, ""))
    taken = set(entries.get(f"-{ANYONE}", "")) | set(entries.get(f"-{address}", ""))
    return _ordered(given - taken)


def is_shared(name: str) -> bool:
    """Whether the name is one of another user's mailboxes."""
    return name.startswith(_PREFIX)


def locate(db: Connection, user_id: int, name: str) -> Place:
    """What a name means to a user. Raise NoSuchMailbox, also where the user may not know of it."""
    if not is_shared(name):
        return Place(user_id, canonical(name), ALL_RIGHTS)
    owner_id, own = _owner(db, name)
    if owner_id == user_id:
        return Place(owner_id, own, ALL_RIGHTS)
    query = select(mailboxes.c.id).where(mailboxes.c.user_id == owner_id, mailboxes.c.name == own)
    mailbox_id = db.execute(query).scalar_one_or_none()
    rights = "" if mailbox_id is None else effective(entries_of(db, mailbox_id), address_of(db, user_id))
    if "l" not in rights:
        raise NoSuchMailbox(name)
    return Place(owner_id, own, rights)


def locate_new(db: Connection, user_id: int, name: str) -> Place:
    """The same for a mailbox to be made: the right "k" is needed on the one above it.

    Raise NoSuchMailbox, NoPermission.
    """
    if not is_shared(name):
        return Place(user_id, canonical(name), ALL_RIGHTS)
    above, _, last = name.removesuffix(SEPARATOR).rpartition(SEPARATOR)
    place = locate(db, user_id, above).need("k")
    return replace(place, name=f"{place.name}{SEPARATOR}{last}")


def rights_in(db: Connection, user_id: int, mailbox_id: int) -> str:
    """What a user may do with a mailbox, whatever its name is; nothing if it is gone."""
    owner = db.execute(select(mailboxes.c.user_id).where(mailboxes.c.id == mailbox_id)).scalar_one_or_none()
    if owner is None:
        return ""
    if owner == user_id:
        return ALL_RIGHTS
    try:
        return effective(entries_of(db, mailbox_id), address_of(db, user_id))
    except NoSuchMailbox:  # the user was just removed
        return ""


def shared_with(db: Connection, user_id: int) -> list[MailboxInfo]:
    """The mailboxes of others that the user may see, by name."""
    try:
        address = address_of(db, user_id)
    except NoSuchMailbox:  # the user was just removed
        return []
    names = [ANYONE, address]
    query = (
        select(mailboxes.c.user_id, mailboxes.c.id)
        .join(mailbox_rights, mailbox_rights.c.mailbox_id == mailboxes.c.id)
        .where(mailbox_rights.c.identifier.in_(names), mailboxes.c.user_id != user_id)
        .distinct()
    )
    by_owner: dict[int, set[int]] = {}
    for owner_id, mailbox_id in db.execute(query):
        by_owner.setdefault(owner_id, set()).add(mailbox_id)
    subscribed = list_subscriptions(db, user_id)
    found = []
    for owner_id, ids in by_owner.items():
        prefix = f"{_PREFIX}{address_of(db, owner_id)}{SEPARATOR}"
        for info in list_mailboxes(db, owner_id):
            rights = effective(entries_of(db, info.id), address) if info.id in ids else ""
            if "l" in rights:
                name = prefix + info.name
                found.append(
                    replace(info, name=name, rights=rights, special_use=(), subscribed=name in subscribed)
                )
    return sorted(found, key=lambda info: info.name)


def entries_of(db: Connection, mailbox_id: int) -> dict[str, str]:
    """What is given to whom, without the owner, by identifier."""
    query = select(mailbox_rights.c.identifier, mailbox_rights.c.rights)
    rows = db.execute(query.where(mailbox_rights.c.mailbox_id == mailbox_id))
    return dict(sorted(tuple(row) for row in rows))


def read_acl(db: Connection, user_id: int, name: str) -> dict[str, str]:
    """The list of a mailbox, its owner first. Raise NoSuchMailbox, NoPermission without "a"."""
    place = locate(db, user_id, name).need("a")
    return {address_of(db, place.owner_id): ALL_RIGHTS, **entries_of(db, _id_of(db, place))}


def change_acl(
    db: Connection, user_id: int, name: str, identifier: str, mode: str, rights: str
) -> int | None:
    """Give or take rights; `mode` is "add", "remove" or "replace" (RFC 4314 section 3.1).

    The user whose rights are others now; None: everybody.

    Raise NoSuchMailbox, NoPermission, BadRights, TooMany.
    """
    place = locate(db, user_id, name).need("a")
    mailbox_id = _id_of(db, place)
    identifier = _checked(db, place, identifier)
    entries = entries_of(db, mailbox_id)
    before, wanted = set(entries.get(identifier, "")), set(parse_rights(rights))
    after = {"add": before | wanted, "remove": before - wanted, "replace": wanted}[mode]
    if identifier not in entries and len(entries) >= MAX_IDENTIFIERS:
        raise TooMany(f"a mailbox has at most {MAX_IDENTIFIERS} identifiers")
    this = (mailbox_rights.c.mailbox_id == mailbox_id, mailbox_rights.c.identifier == identifier)
    db.execute(delete(mailbox_rights).where(*this))
    if after:
        row = {"mailbox_id": mailbox_id, "identifier": identifier, "rights": _ordered(after)}
        db.execute(insert(mailbox_rights).values(row))
    plain = identifier.removeprefix("-")
    query = select(_users.c.id).where(func.lower(_users.c.address) == plain)
    concerned = None if plain == ANYONE else db.execute(query).scalars().first()
    announce(db, f"list {place.owner_id}")
    announce(db, f"list {'-' if concerned is None else concerned}")
    return concerned


def inherit(db: Connection, user_id: int, above: str, name: str) -> None:
    """Give a new mailbox the list of the one above it (RFC 4314 section 3)."""
    ids = select(mailboxes.c.name, mailboxes.c.id).where(
        mailboxes.c.user_id == user_id, mailboxes.c.name.in_([above, name])
    )
    found: dict[str, int] = dict(tuple(row) for row in db.execute(ids))
    if above in found and name in found:
        rows = [
            {"mailbox_id": found[name], "identifier": identifier, "rights": rights}
            for identifier, rights in entries_of(db, found[above]).items()
        ]
        if rows:
            db.execute(insert(mailbox_rights), rows)


def address_of(db: Connection, user_id: int) -> str:
    """A user's address in lower case. Raise NoSuchMailbox if there is no such user."""
    address = db.execute(select(_users.c.address).where(_users.c.id == user_id)).scalar_one_or_none()
    if address is None:
        raise NoSuchMailbox(f"there is no user {user_id}")
    return str(address).lower()


def quota_of(db: Connection, user_id: int) -> Quota:
    """A user's limits: what others put into their mailboxes counts there."""
    query = select(_users.c.quota_octets, _users.c.quota_messages).where(_users.c.id == user_id)
    row = db.execute(query).one_or_none()
    return (row[0], row[1]) if row else (None, None)


def _owner(db: Connection, name: str) -> tuple[int, str]:
    address, _, own = name.removeprefix(_PREFIX).partition(SEPARATOR)
    same = or_(_users.c.address == address, func.lower(_users.c.address) == address.lower())
    found = db.execute(select(_users.c.id).where(same)).scalars().all()
    if len(found) != 1 or not own:
        raise NoSuchMailbox(name)
    return int(found[0]), canonical(own)


def _id_of(db: Connection, place: Place) -> int:
    query = select(mailboxes.c.id).where(
        mailboxes.c.user_id == place.owner_id, mailboxes.c.name == place.name
    )
    found = db.execute(query).scalar_one_or_none()
    if found is None:
        raise NoSuchMailbox(place.name)
    return int(found)


def _checked(db: Connection, place: Place, identifier: str) -> str:
    """The identifier as it is kept. Raise BadRights if it is nobody; NoPermission for the owner."""
    plain = identifier.removeprefix("-").lower()
    if plain == address_of(db, place.owner_id):
        raise NoPermission("the owner has every right, always")
    known = db.execute(select(_users.c.id).where(func.lower(_users.c.address) == plain)).first()
    if plain != ANYONE and known is None:
        raise BadRights(f"{identifier}: there is no such user")
    return f"-{plain}" if identifier.startswith("-") else plain


def _ordered(rights: Iterable[str]) -> str:
    wanted = set(rights)
    return "".join(right for right in ALL_RIGHTS if right in wanted)
