"""The queue's rows: written, claimed, settled. Blocking functions, each a part of one transaction.

Theory of operation. An entry is claimed by a lease: a process's name and a time. While it lasts nobody else
takes the entry; the process renews it while it works, and if it dies the lease ends by itself, or at once
when a process of the same name starts again. So an attempt can be repeated after a crash, never forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, or_, select, text, true, update

from mailstack.mail.address import Address
from mailstack.mail.envelope import DeliverBy, Envelope, Recipient
from mailstack.mta.tables import WAITING, queue_entries, queue_messages

MOST_RECIPIENTS = 100  # of one transaction: RFC 5321 section 4.5.3.1.8 promises no more

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
    forwarded_by: str | None = None  # our address that stands for the recipient
    state: str = WAITING


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
            state=entry.state,
            forwarded_by=entry.forwarded_by,
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


_Key = tuple[str, str | None]  # of a group: its message, and our address that stands for its recipients


def claim(
    db: Connection, lease: Lease, now: float, most: int, room: Callable[[str], int], after: str
) -> tuple[list[Batch], str]:
    """Lease at most `most` batches that are due, each hop in turn; return them, and where the next begins.

    Hops are gone through in the order of their names from `after` on and round again, by an index, so what
    waits elsewhere costs nothing; only those with urgent mail come before their turn (RFC 6710). `room(hop)`
    is how many more batches a hop may have; it is asked here, in the database's thread.
    """
    db.execute(update(queue_entries).where(_e.lease_until <= now).values(lease_owner=None, lease_until=None))
    urgent = _urgent_hops(db, now, most, room)
    hops, last = _due_hops(db, now, most, room, after)
    hops = urgent | {hop: more for hop, more in hops.items() if hop not in urgent}
    found = {hop: _due_groups(db, hop, now, most, more, hop in urgent) for hop, more in hops.items()}
    waiting = {hop: groups for hop, groups in found.items() if groups}
    chosen: list[tuple[str, str, list[int]]] = []
    while waiting and len(chosen) < most:  # one each, round and round
        for hop in list(waiting)[: most - len(chosen)]:
            (message_id, _), ids = waiting[hop].popitem()
            chosen.append((message_id, hop, ids))
            if not waiting[hop]:
                del waiting[hop]
    if not chosen:
        return [], last
    every = [entry_id for _, _, ids in chosen for entry_id in ids]
    db.execute(
        update(queue_entries).where(_e.id.in_(every)).values(lease_owner=lease.owner, lease_until=lease.until)
    )
    return _batches(db, chosen, every), last


# A loose index scan: each step seeks the next name. Read as far as there is need for.
_HOPS_DUE = text(
    """
    WITH RECURSIVE hops(hop) AS (
        SELECT (SELECT q.hop FROM queue_entries q WHERE q.state = 'waiting' AND q.hop > :after
                ORDER BY q.hop LIMIT 1)
        UNION ALL
        SELECT (SELECT q.hop FROM queue_entries q WHERE q.state = 'waiting' AND q.hop > hops.hop
                ORDER BY q.hop LIMIT 1)
        FROM hops WHERE hops.hop IS NOT NULL
    )
    SELECT hop FROM hops WHERE hop IS NOT NULL
    AND (SELECT q.next_attempt FROM queue_entries q
         WHERE q.state = 'waiting' AND q.hop = hops.hop AND q.lease_owner IS NULL
         ORDER BY q.next_attempt LIMIT 1) <= :now
    """
)


def _due_hops(
    db: Connection, now: float, most: int, room: Callable[[str], int], after: str
) -> tuple[dict[str, int], str]:
    """At most `most` hops with due entries and their room, from `after` on and round; and the last."""
    hops: dict[str, int] = {}
    last = after
    for start in dict.fromkeys((after, "")):
        for (hop,) in db.execute(_HOPS_DUE, {"after": start, "now": now}):
            if start != after and hop > after:
                break
            more = room(hop)  # once: the reactor's thread changes it meanwhile
            if hop not in hops and more > 0:
                hops[hop] = more
                last = hop
            if len(hops) >= most:
                return hops, last
    return hops, last if hops else ""


def _urgent_hops(db: Connection, now: float, most: int, room: Callable[[str], int]) -> dict[str, int]:
    """Hops with room and due entries of a priority above 0, the most urgent first; such have an index."""
    found = db.execute(
        select(_e.hop)
        .where(text("priority > 0"), _e.state == WAITING, _e.next_attempt <= now, _e.lease_owner.is_(None))
        .group_by(_e.hop)
        .order_by(func.max(_e.priority).desc(), _e.hop)
        .limit(most)
    )
    rooms = {hop: room(hop) for (hop,) in found}
    return {hop: more for hop, more in rooms.items() if more > 0}


def _due_groups(
    db: Connection, hop: str, now: float, most: int, room: int, urgent: bool
) -> dict[_Key, list[int]]:
    """The due entries of a hop by group, at most `room` groups; the last is the one to take first.

    That is the one of the highest priority, then the one that waits longest (RFC 6710). Urgent ones are
    looked for by themselves, so that no backlog hides them.
    """
    found: dict[int, tuple[int, _Key]] = {}
    for look in (text("priority > 0"), text("priority <= 0")) if urgent else (true(),):
        due = db.execute(
            select(_e.id, _e.message_id, _e.forwarded_by, _e.priority)
            .where(_e.state == WAITING, _e.hop == hop, _e.next_attempt <= now, _e.lease_owner.is_(None), look)
            .order_by(_e.next_attempt, _e.id)
            .limit(MOST_RECIPIENTS + min(room, most))
            .with_for_update(skip_locked=True)  # PostgreSQL; SQLite's writers stand in line anyway
        )
        found |= {row.id: (row.priority, (row.message_id, row.forwarded_by)) for row in due}
    groups: dict[_Key, list[int]] = {}
    for entry_id, (_, key) in sorted(found.items(), key=lambda one: -one[1][0]):  # a stable sort
        if key not in groups and len(groups) >= room:
            continue
        group = groups.setdefault(key, [])
        if len(group) < MOST_RECIPIENTS:
            group.append(entry_id)
    return dict(reversed(groups.items()))


def is_due(db: Connection, now: float) -> bool:
    """Whether any entry is due that nobody attempts."""
    free = or_(_e.lease_owner.is_(None), _e.lease_until <= now)
    found = select(_e.id).where(_e.state == WAITING, _e.next_attempt <= now, free).limit(1)
    return db.execute(found).first() is not None


def following(db: Connection, now: float) -> float | None:
    """When the next entry becomes due, or a lease ends, after `now`; None: none will."""
    when: float | None = db.scalar(
        select(_e.next_attempt)
        .where(_e.state == WAITING, _e.next_attempt > now)
        .order_by(_e.next_attempt)
        .limit(1)
    )
    ends: float | None = db.scalar(select(func.min(_e.lease_until)).where(_e.lease_until > now))
    return min((time for time in (when, ends) if time is not None), default=None)


PUT_OFF = 1000  # entries in one transaction


def put_off(db: Connection, hop: str, now: float, until: float, why: str, warn_after: float) -> int:
    """Have due entries of a hop that is down wait until it is tried again; return how many, at most PUT_OFF.

    Those that expire by then, whose DELIVERBY ends by then, whose sender is to hear of the delay, or that the
    operator wants tried stay due: for them an attempt is made, which needs no connection to fail.
    """
    released = func.coalesce(_m.hold_until, _m.received_at)
    young = exists().where(_m.id == _e.message_id, released > now - warn_after)
    overdue = exists().where(_m.id == _e.message_id, _m.deliver_by <= until)
    told = or_(_e.delay_warned, young) if warn_after > 0 else _e.id.is_not(None)
    chosen = (
        select(_e.id)
        .where(_e.state == WAITING, _e.hop == hop, _e.next_attempt <= now, _e.lease_owner.is_(None))
        .where(_e.expires > until, ~_e.asked, told, or_(_e.delay_warned, ~overdue))
        .limit(PUT_OFF)
    )
    return db.execute(
        update(queue_entries).where(_e.id.in_(chosen)).values(next_attempt=until, last_reply=why)
    ).rowcount


def _batches(db: Connection, chosen: Sequence[tuple[str, str, list[int]]], every: list[int]) -> list[Batch]:
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
                asked=False,
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
