"""The queue's rows: written, claimed, settled. Blocking functions, each a part of one transaction.

Theory of operation. An entry is claimed by a lease: a process's name and a time. While it lasts nobody else
takes the entry; the process renews it while it works, and if it dies the lease ends by itself, or at once
when a process of the same name starts again. So an attempt can be repeated after a crash, never forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from mailstack.mail.address import Address
from mailstack.mail.envelope import DeliverBy, Envelope, Recipient
from mailstack.mta.tables import WAITING, queue_entries, queue_messages

MOST_RECIPIENTS = 100  # of one transaction: RFC 5321 section 4.5.3.1.8 promises no more
_LOOKED_AT = 500  # due entries that one claim chooses from

_e = queue_entries.c
_m = queue_messages.c


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A recipient on its way into the queue."""

    recipient: Recipient
    hop: str
    next_attempt: float
    attempts: int = 0
    last_reply: str | None = None
    leased: bool = False  # to the process that writes it


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


@dataclass(frozen=True, slots=True)
class Deferred:
    """What a deferred entry's row becomes."""

    id: int
    next_attempt: float
    last_reply: str
    delay_warned: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """Who claims, and until when."""

    owner: str
    until: float


def insert_message(
    db: Connection,
    envelope: Envelope,
    spool: str,
    size: int,
    now: float,
    expires: float,
    new: Sequence[NewEntry],
    lease: Lease,
) -> tuple[int, ...]:
    """Queue a message; return its entries' ids, or none where a message of this id is queued already."""
    if db.execute(select(_m.id).where(_m.id == envelope.id)).first():
        return ()
    reverse_path = None if envelope.reverse_path is None else str(envelope.reverse_path)
    db.execute(
        insert(queue_messages).values(
            id=envelope.id,
            reverse_path=reverse_path,
            spool=spool,
            size=size,
            body=envelope.body,
            smtputf8=envelope.smtputf8,
            ret=envelope.ret,
            envid=envelope.envid,
            authenticated=envelope.authenticated,
            junk=envelope.junk,
            received_at=now,
            requiretls=envelope.requiretls,
            tls_optional=envelope.tls_optional,
            hold_until=envelope.hold_until,
            **_by_columns(envelope.deliver_by),
        )
    )
    return tuple(_insert_entry(db, envelope, entry, now, expires, lease) for entry in new)


def _by_columns(by: DeliverBy | None) -> dict[str, object]:
    if by is None:
        return {}
    return {"deliver_by": by.deadline, "by_mode": f"{'R' if by.returned else 'N'}{'T' if by.trace else ''}"}


def _by_of(deadline: float | None, mode: str | None) -> DeliverBy | None:
    if deadline is None or mode is None:
        return None
    return DeliverBy(deadline, mode.startswith("R"), mode.endswith("T"))


def _insert_entry(
    db: Connection, envelope: Envelope, entry: NewEntry, now: float, expires: float, lease: Lease
) -> int:
    result = db.execute(
        insert(queue_entries).values(
            message_id=envelope.id,
            priority=envelope.priority,
            recipient=str(entry.recipient.address),
            orcpt=entry.recipient.orcpt,
            notify=",".join(sorted(entry.recipient.notify)),
            hop=entry.hop,
            state=WAITING,
            next_attempt=entry.next_attempt,
            attempts=entry.attempts,
            last_attempt=now if entry.attempts else None,
            last_reply=entry.last_reply,
            expires=expires,
            delay_warned=False,
            lease_owner=lease.owner if entry.leased else None,
            lease_until=lease.until if entry.leased else None,
        )
    )
    assert result.inserted_primary_key is not None
    return int(result.inserted_primary_key[0])


def claim(
    db: Connection, lease: Lease, now: float, most: int, per_hop: int, active: Counter[str]
) -> list[Batch]:
    """Lease at most `most` batches that are due, with those in `active` at most `per_hop` to one hop."""
    full = [hop for hop, number in active.items() if number >= per_hop]
    chosen: dict[tuple[str, str], list[int]] = {}
    hops = Counter(active)
    for entry_id, message_id, hop in _by_urgency(db, now, full):
        key = (message_id, hop)
        if key in chosen:
            if len(chosen[key]) < MOST_RECIPIENTS:
                chosen[key].append(entry_id)
        elif len(chosen) < most and hops[hop] < per_hop:
            chosen[key] = [entry_id]
            hops[hop] += 1
    if not chosen:
        return []
    ids = [entry_id for group in chosen.values() for entry_id in group]
    db.execute(
        update(queue_entries).where(_e.id.in_(ids)).values(lease_owner=lease.owner, lease_until=lease.until)
    )
    return [_batch(db, message_id, hop, group) for (message_id, hop), group in chosen.items()]


def _by_urgency(db: Connection, now: float, full: Collection[str]) -> list[tuple[int, str, str]]:
    """Due entries (id, message, hop) in the order to take them: by priority, then as they wait (RFC 6710).

    Urgent ones are looked for by themselves, so that no backlog hides them; they have an index of their own.
    """
    found: dict[int, tuple[int, str, str, int]] = {}
    for where in (_e.priority > 0, _e.id.is_not(None)):
        due = db.execute(
            select(_e.id, _e.message_id, _e.hop, _e.priority)
            .where(_due(now, full), where)
            .order_by(_e.next_attempt, _e.id)
            .limit(_LOOKED_AT)
            .with_for_update(skip_locked=True)  # PostgreSQL; SQLite's writers stand in line anyway
        )
        for row in due:
            found.setdefault(row.id, (row.id, row.message_id, row.hop, row.priority))
    ordered = sorted(found.values(), key=lambda entry: -entry[3])  # a stable sort
    return [entry[:3] for entry in ordered]


def earliest(db: Connection, full: Collection[str]) -> float | None:
    """When the next entry is due, but for those of the hops in `full`; None: none is."""
    when: float | None = db.scalar(
        select(_e.next_attempt)
        .where(_e.state == WAITING, _e.lease_owner.is_(None), _e.hop.not_in(full))
        .order_by(_e.next_attempt)
        .limit(1)
    )
    ends: float | None = db.scalar(select(func.min(_e.lease_until)).where(_e.lease_owner.is_not(None)))
    return min((time for time in (when, ends) if time is not None), default=None)


def _due(now: float, full: Collection[str]) -> ColumnElement[bool]:
    free = or_(_e.lease_owner.is_(None), _e.lease_until <= now)
    return (_e.state == WAITING) & (_e.next_attempt <= now) & free & _e.hop.not_in(full)


def _batch(db: Connection, message_id: str, hop: str, ids: Sequence[int]) -> Batch:
    message = db.execute(select(queue_messages).where(_m.id == message_id)).one()
    rows = db.execute(select(queue_entries).where(_e.id.in_(ids)).order_by(_e.id)).all()
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
        id=message_id,
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
        junk=message.junk,
    )
    return Batch(envelope, hop, entries, message.spool, message.size, message.received_at)


def _recipient(address: str, notify: str, orcpt: str | None) -> Recipient:
    return Recipient(stored_address(address), frozenset(filter(None, notify.split(","))), orcpt)


def stored_address(text: str) -> Address:
    """An address as we wrote it: it parses, or (a bare postmaster) is taken as it stands."""
    try:
        return Address.parse(text)
    except ValueError:
        local_part, _, domain = text.rpartition("@")
        return Address(local_part, domain)


def settle(
    db: Connection, message_id: str, done: Sequence[int], deferred: Sequence[Deferred], now: float
) -> str | None:
    """Write what an attempt came to; return the spool file's name once no recipient is left."""
    if done:
        db.execute(delete(queue_entries).where(_e.id.in_(done)))
    for entry in deferred:
        db.execute(
            update(queue_entries)
            .where(_e.id == entry.id)
            .values(
                next_attempt=entry.next_attempt,
                last_reply=entry.last_reply,
                delay_warned=entry.delay_warned,
                last_attempt=now,
                attempts=_e.attempts + 1,
                lease_owner=None,
                lease_until=None,
            )
        )
    return remove_empty(db, message_id)


def remove_empty(db: Connection, message_id: str) -> str | None:
    """Delete a message without recipients; return its spool file's name, which may go once committed."""
    empty = ~exists().where(_e.message_id == queue_messages.c.id)
    removed = delete(queue_messages).where(_m.id == message_id, empty).returning(_m.spool)
    spool: str | None = db.execute(removed).scalar()
    return spool


def renew(db: Connection, lease: Lease, ids: Sequence[int]) -> None:
    """Keep the leases of entries whose attempts are still under way."""
    db.execute(
        update(queue_entries)
        .where(_e.id.in_(ids), _e.lease_owner == lease.owner)
        .values(lease_until=lease.until)
    )


def release_all(db: Connection, owner: str) -> int:
    """Give up the leases of a process that has ended; return how many there were."""
    released = update(queue_entries).where(_e.lease_owner == owner).values(lease_owner=None, lease_until=None)
    return db.execute(released).rowcount


def known(db: Connection, names: Sequence[str]) -> frozenset[str]:
    """Those of these spool files that a message has."""
    return frozenset(db.scalars(select(_m.spool).where(_m.spool.in_(names))))
