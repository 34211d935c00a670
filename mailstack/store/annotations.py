"""Annotations of mailboxes and of the server (RFC 5464). Blocking; in a transaction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select

from mailstack.db import announce
from mailstack.store.acl import locate
from mailstack.store.news import Noted
from mailstack.store.rows import box_by_name
from mailstack.store.tables import mailbox_annotations as rows
from mailstack.store.values import BadEntry, NoPermission, TooLarge, TooMany

_ENTRY = re.compile(r"/(private|shared)((?:/[!-$&-)+-.0-~]+)+)")  # ASCII without "*", "%" and empty levels
_MAX_ENTRY = 500  # characters
_READ, _WRITE = "r", "w"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept."""

    entries: int  # of one mailbox: shared, and of each user
    octets: int  # of one value


def read(db: Connection, user_id: int, mailbox: str | None) -> dict[str, bytes]:
    """All that a user may read of a mailbox, or with None of the server: whole names and values, sorted.

    Raise NoSuchMailbox, NoPermission.
    """
    mailbox_id = _mailbox(db, user_id, mailbox, _READ)
    query = select(rows.c.user_id, rows.c.entry, rows.c.value).where(
        _of(mailbox_id), or_(rows.c.user_id.is_(None), rows.c.user_id == user_id)
    )
    found = {
        ("/shared" if of is None else "/private") + entry: bytes(value)
        for of, entry, value in db.execute(query)
    }
    return dict(sorted(found.items()))


def write(
    db: Connection, user_id: int, mailbox: str | None, entries: Mapping[str, bytes | None], limits: Limits
) -> list[Noted]:
    """Set annotations, or with None remove them; all or none. What to tell of it.

    Raise BadEntry, TooLarge, TooMany, NoSuchMailbox; NoPermission for shared ones of the server, which are
    the operator's, and without the right "w" for shared ones of a mailbox.
    """
    parsed = {_parsed(entry): value for entry, value in entries.items()}
    shares = any(shared for shared, _ in parsed)
    if shares and mailbox is None:
        raise NoPermission("the server's shared annotations are its operator's")
    mailbox_id = _mailbox(db, user_id, mailbox, _WRITE if shares else _READ)
    for (shared, entry), value in parsed.items():
        whose, name = ("-", "/shared") if shared else (user_id, "/private")
        announce(db, f"notes {'-' if mailbox_id is None else mailbox_id} {whose} {name}{entry}")
        _put(db, mailbox_id, None if shared else user_id, entry, value, limits)
    names = {shared: tuple(entry for kind, entry in parsed if kind is shared) for shared in (True, False)}
    return [
        Noted(mailbox_id, user_id if prefix == "/private" else None, tuple(prefix + name for name in some))
        for prefix, some in (("/shared", names[True]), ("/private", names[False]))
        if some
    ]


def _put(
    db: Connection,
    mailbox_id: int | None,
    user_id: int | None,
    entry: str,
    value: bytes | None,
    limits: Limits,
) -> None:
    if value is not None and len(value) > limits.octets:
        raise TooLarge(f"{len(value)} octets", limits.octets)
    of = rows.c.user_id.is_(None) if user_id is None else rows.c.user_id == user_id
    scope = and_(_of(mailbox_id), of)
    db.execute(delete(rows).where(scope, rows.c.entry == entry))
    if value is None:
        return
    if db.execute(select(func.count()).select_from(rows).where(scope)).scalar_one() >= limits.entries:
        raise TooMany(f"at most {limits.entries} annotations")
    db.execute(insert(rows).values(mailbox_id=mailbox_id, user_id=user_id, entry=entry, value=value))


def _parsed(entry: str) -> tuple[bool, str]:
    """Whether it is shared, and its name below that."""
    match = _ENTRY.fullmatch(entry.lower())
    if match is None or len(entry) > _MAX_ENTRY:
        raise BadEntry(entry[:_MAX_ENTRY])
    return match[1] == "shared", match[2]


def _mailbox(db: Connection, user_id: int, name: str | None, right: str) -> int | None:
    if name is None:
        return None
    place = locate(db, user_id, name).need(right)
    return box_by_name(db, place.owner_id, place.name, lock=False).id


def _of(mailbox_id: int | None) -> ColumnElement[bool]:
    return rows.c.mailbox_id.is_(None) if mailbox_id is None else rows.c.mailbox_id == mailbox_id
