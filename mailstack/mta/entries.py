"""The queue's rows: written, claimed, settled. Blocking functions, each a part of one transaction.

Theory of operation. An entry is claimed by a lease: a process's name and a time. While it lasts nobody else
takes the entry; the process renews it while it works, and if it dies the lease ends by itself, or at once
when a process of the same name starts again. So an attempt can be repeated after a crash, never forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, CursorResult, Row, select, text, update

from mailstack.db import touches
from mailstack.db.many import Insert, execute
from mailstack.mail.address import Address
from mailstack.mail.envelope import DeliverBy, Envelope, Recipient
from mailstack.mta.tables import WAITING, queue_entries, queue_messages

MOST_RECIPIENTS = 100  # of one transaction: RFC 5321 section 4.5.3.1.8 promises no more

_e = queue_entries.c
_m = queue_messages.c

_INSERT_MESSAGES = Insert(queue_messages, new_only=True)
_INSERT_ENTRIES = Insert(queue_entries, "id")
_DEFER = text(
    """
    UPDATE queue_entries SET next_attempt = :next_attempt, last_reply = :last_reply,
    delay_warned = :delay_warned, last_attempt = :now, attempts = attempts + 1, asked = :false,
    lease_owner = NULL, lease_until = NULL WHERE id = :id
    """
)
_RELEASE = """
    UPDATE queue_entries SET lease_owner = NULL, lease_until = NULL WHERE {}
    RETURNING message_id, recipient, hop
"""
_RELEASE_OWNER = text(_RELEASE.format("lease_owner = :owner"))
_RELEASE_ENDED = {
    locking: text(
        _RELEASE.format(f"id IN (SELECT id FROM queue_entries WHERE lease_until <= :now {locking})")
    )
    for locking in ("", "FOR UPDATE SKIP LOCKED")  # SQLite has no such words, and one writer
}
_DELETE_ENTRIES = "DELETE FROM queue_entries WHERE id IN {}"
_DELETE_EMPTY = """
    DELETE FROM queue_messages WHERE id IN {}
    AND NOT EXISTS (SELECT 1 FROM queue_entries WHERE message_id = queue_messages.id)
"""
_DELETE_EMPTY_WITH_FILE = _DELETE_EMPTY + " RETURNING spool"


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A recipient on its way into the queue."""

    recipient: Recipient
    hop: str
    next_attempt: float
    attempts: int = 0
    last_reply: str | None = None
    leased: bool = False  # to the process that writes it
    forwarded_by: str | None = None  # our address that stands for the recipient
    state: str = WAITING


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message on its way into the queue. Times are seconds of the epoch."""

    envelope: Envelope
    size: int  # octets
    now: float
    expires: float
    entries: Sequence[NewEntry]
    lease: Lease  # for those of them that are leased
    content: bytes | None = None  # of a small one; of others there is the file
    spool: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A recipient that this process attempts now."""

    id: int
    recipient: Recipient
    attempts: int  # made so far
    expires: float
    delay_warned: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries of one message that go to one hop together."""

    envelope: Envelope  # its recipients are those of the entries, in order
    hop: str
    entries: tuple[Entry, ...]
    spool: str
    size: int
    received_at: float
    asked: bool = False  # the operator wants it tried now, whatever is known of the hop
    forwarded_by: str | None = None  # our address that stands for its recipients
    content: bytes | None = None  # of a small message; of others there is the file


@dataclass(frozen=True, slots=True)
class Deferred:
    """What a deferred entry's row becomes."""

    id: int
    next_attempt: float
    last_reply: str
    delay_warned: bool


@dataclass(frozen=True, slots=True)
class CutShort:
    """An attempt that ended with its process: whether its message went out, nobody knows."""

    message_id: str
    recipient: str
    hop: str


@dataclass(frozen=True, slots=True)
class Lease:
    """Who claims, and until when."""

    owner: str
    until: float


class Repeated(Exception):
    """Of several new messages one is queued already."""


def insert_messages(db: Connection, several: Sequence[NewMessage]) -> list[tuple[int, ...]]:
    """Queue messages; return for each its entries' ids, or none for one whose id is queued already.

    Raise Repeated where that is one of several: they have to be written one by one.
    """
    if _INSERT_MESSAGES.rows(db, [_message_row(one) for one in several]) < len(several):
        if len(several) > 1:
            raise Repeated
        return [()]
    ids = iter(_INSERT_ENTRIES.ids(db, [row for one in several for row in _entry_rows(one)]))
    return [tuple(islice(ids, len(one.entries))) for one in several]


def _message_row(new: NewMessage) -> dict[str, Any]:
    envelope, by = new.envelope, new.envelope.deliver_by
    return {
        "id": envelope.id,
        "reverse_path": None if envelope.reverse_path is None else str(envelope.reverse_path),
        "spool": new.spool,
        "size": new.size,
        "body": envelope.body,
        "smtputf8": envelope.smtputf8,
        "ret": envelope.ret,
        "envid": envelope.envid,
        "authenticated": envelope.authenticated,
        "junk": envelope.junk,
        "received_at": new.now,
        "requiretls": envelope.requiretls,
        "tls_optional": envelope.tls_optional,
        "hold_until": envelope.hold_until,
        "deliver_by": None if by is None else by.deadline,
        "received_from": envelope.received_from,
        "by_mode": None if by is None else f"{'R' if by.returned else 'N'}{'T' if by.trace else ''}",
        "content": new.content,
    }


def _by_of(deadline: float | None, mode: str | None) -> DeliverBy | None:
    if deadline is None or mode is None:
        return None
    return DeliverBy(deadline, mode.startswith("R"), mode.endswith("T"))


def _entry_rows(new: NewMessage) -> Iterator[dict[str, Any]]:
    for entry in new.entries:
        yield {
            "message_id": new.envelope.id,
            "priority": new.envelope.priority,
            "recipient": str(entry.recipient.address),
            "orcpt": entry.recipient.orcpt,
            "notify": ",".join(sorted(entry.recipient.notify)),
            "hop": entry.hop,
            "state": entry.state,
            "forwarded_by": entry.forwarded_by,
            "next_attempt": entry.next_attempt,
            "attempts": entry.attempts,
            "last_attempt": new.now if entry.attempts else None,
            "last_reply": entry.last_reply,
            "expires": new.expires,
            "delay_warned": False,
            "asked": False,
            "lease_owner": new.lease.owner if entry.leased else None,
            "lease_until": new.lease.until if entry.leased else None,
        }


def batches(db: Connection, chosen: Sequence[tuple[str, str, list[int]]], every: list[int]) -> list[Batch]:
    """What was claimed, in two look-ups."""
    ids = {message_id for message_id, _, _ in chosen}
    messages = {row.id: row for row in db.execute(select(queue_messages).where(_m.id.in_(ids)))}
    rows = {row.id: row for row in db.execute(select(queue_entries).where(_e.id.in_(every)))}
    return [
        _batch(messages[message_id], hop, [rows[one] for one in group]) for message_id, hop, group in chosen
    ]


def _batch(message: Row[Any], hop: str, rows: Sequence[Row[Any]]) -> Batch:
    entries = tuple(
        Entry(
            row.id,
            _recipient(row.recipient, row.notify, row.orcpt),
            row.attempts,
            row.expires,
            row.delay_warned,
        )
        for row in rows
    )
    envelope = Envelope(
        id=message.id,
        reverse_path=None if message.reverse_path is None else stored_address(message.reverse_path),
        recipients=tuple(entry.recipient for entry in entries),
        body=message.body,
        smtputf8=message.smtputf8,
        ret=message.ret,
        envid=message.envid,
        authenticated=message.authenticated,
        requiretls=message.requiretls,
        tls_optional=message.tls_optional,
        priority=rows[0].priority if rows else 0,
        hold_until=message.hold_until,
        deliver_by=_by_of(message.deliver_by, message.by_mode),
        received_from=message.received_from,
        junk=message.junk,
    )
    asked = any(row.asked for row in rows)
    return Batch(
        envelope,
        hop,
        entries,
        message.spool,
        message.size,
        message.received_at,
        asked,
        rows[0].forwarded_by if rows else None,
        message.content,
    )


def _recipient(address: str, notify: str, orcpt: str | None) -> Recipient:
    return Recipient(stored_address(address), frozenset(filter(None, notify.split(","))), orcpt)


def stored_address(text: str) -> Address:
    """An address as we wrote it: it parses, or (a bare postmaster) is taken as it stands."""
    try:
        return Address.parse(text)
    except ValueError:
        local_part, _, domain = text.rpartition("@")
        return Address(local_part, domain)


@dataclass(frozen=True, slots=True)
class Settled:
    """What an attempt at some entries of a message came to. `now` is in seconds of the epoch."""

    message_id: str
    spool: str  # "" where it has no file
    now: float
    done: Sequence[int] = ()
    deferred: Sequence[Deferred] = ()


def settle(db: Connection, several: Sequence[Settled]) -> list[str]:
    """Write what attempts came to; return the spool files of messages that have no recipient left."""
    execute(db, _DELETE_ENTRIES, [id_ for one in several for id_ in one.done])
    deferred = [
        {**asdict(entry), "now": one.now, "false": False} for one in several for entry in one.deferred
    ]
    if deferred:
        db.execute(_DEFER, deferred)
    execute(db, _DELETE_EMPTY, [one.message_id for one in several if not one.spool])
    return remove_empty(db, [one.message_id for one in several if one.spool])


def remove_empty(db: Connection, message_ids: Sequence[str]) -> list[str]:
    """Delete those messages that have no recipients; return their spool files: they may go once committed."""
    return [name for (name,) in execute(db, _DELETE_EMPTY_WITH_FILE, message_ids) if name]


@touches()  # but for what is leased to us
def renew(db: Connection, lease: Lease, ids: Sequence[int]) -> None:
    """Keep the leases of entries whose attempts are still under way."""
    db.execute(
        update(queue_entries)
        .where(_e.id.in_(ids), _e.lease_owner == lease.owner)
        .values(lease_until=lease.until)
    )


def release_all(db: Connection, owner: str) -> list[CutShort]:
    """Give up the leases of a process that has ended; return whose attempts they were for."""
    return _released(db.execute(_RELEASE_OWNER, {"owner": owner}))


def end_leases(db: Connection, now: float) -> list[CutShort]:
    """Give up the leases that were not renewed in time; return whose attempts they were for."""
    locking = "" if db.dialect.name == "sqlite" else "FOR UPDATE SKIP LOCKED"
    return _released(db.execute(_RELEASE_ENDED[locking], {"now": now}))


def _released(result: CursorResult[Any]) -> list[CutShort]:
    return [CutShort(row.message_id, row.recipient, row.hop) for row in result]


def spool_file(db: Connection, queue_id: str) -> str | None:
    """The name, below the queue's folder, of the file with a message's octets; "": its row has them."""
    name: str | None = db.scalar(select(_m.spool).where(_m.id == queue_id))
    return name


def content(db: Connection, queue_id: str) -> bytes | None:
    """A message's octets, where they are in its row."""
    octets: bytes | None = db.scalar(select(_m.content).where(_m.id == queue_id))
    return octets


def known(db: Connection, names: Sequence[str]) -> frozenset[str]:
    """Those of these spool files that a message has."""
    return frozenset(db.scalars(select(_m.spool).where(_m.spool.in_(names))))
