"""What is due, and who attempts it: the looks at the queue that a process makes. Blocking functions.

Theory of operation. Hops are gone through in the order of their names, by an index, each with its share; what
waits elsewhere costs nothing, however much it is. A claim leases what its process can start at once and says
whether it left anything behind, so that nobody looks again before there is room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, exists, func, or_, select, text, true, update

from mailstack.db import touches
from mailstack.mta.entries import MOST_RECIPIENTS, Batch, CutShort, Lease, batches, end_leases
from mailstack.mta.tables import WAITING, queue_entries, queue_messages

PUT_OFF = 1000  # entries in one transaction

_e = queue_entries.c
_m = queue_messages.c
_Key = tuple[str, str | None]  # of a group: its message, and our address that stands for its recipients


@dataclass(frozen=True, slots=True)
class Claimed:
    """What `claim` leased."""

    batches: list[Batch]
    last: str  # the hop after which the next turn begins
    left: bool  # more is due
    cut_short: list[CutShort]  # attempts of processes that have ended


class _Look:
    """One claim: how much there is room for, and whether that was too little."""

    def __init__(self, db: Connection, now: float, most: int, room: Callable[[str], int]) -> None:
        self.db = db
        self.now = now
        self.most = most
        self.left = False
        self._room = room
        self._rooms: dict[str, int] = {}

    def room(self, hop: str) -> int:
        """How many batches a hop may have: asked once, the reactor's thread changes it meanwhile."""
        if hop not in self._rooms:
            self._rooms[hop] = self._room(hop)
            self.left |= self._rooms[hop] <= 0
        return self._rooms[hop]


@touches("claims")  # two at once would pass over what the other only looks at, and come back with too little
def claim(
    db: Connection, lease: Lease, now: float, most: int, room: Callable[[str], int], after: str
) -> Claimed:
    """Lease at most `most` batches that are due, each hop in turn.

    Hops come in the order of their names from `after` on and round again; only those with urgent mail come
    before their turn (RFC 6710). `room(hop)` is how many more batches a hop may have; it is asked here, in
    the database's thread.
    """
    ended = end_leases(db, now)
    look = _Look(db, now, most, room)
    urgent = _urgent_hops(look)
    hops, last = _due_hops(look, after)
    hops = urgent | {hop: more for hop, more in hops.items() if hop not in urgent}
    found = {hop: _due_groups(look, hop, more, hop in urgent) for hop, more in hops.items()}
    waiting = {hop: groups for hop, groups in found.items() if groups}
    chosen: list[tuple[str, str, list[int]]] = []
    while waiting and len(chosen) < most:  # one each, round and round
        for hop in list(waiting)[: most - len(chosen)]:
            (message_id, _), ids = waiting[hop].popitem()
            chosen.append((message_id, hop, ids))
            if not waiting[hop]:
                del waiting[hop]
    left = look.left or bool(waiting)
    if not chosen:
        return Claimed([], last, left, ended)
    every = [entry_id for _, _, ids in chosen for entry_id in ids]
    db.execute(
        update(queue_entries).where(_e.id.in_(every)).values(lease_owner=lease.owner, lease_until=lease.until)
    )
    return Claimed(batches(db, chosen, every), last, left, ended)


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


def _due_hops(look: _Look, after: str) -> tuple[dict[str, int], str]:
    """At most `most` hops with due entries and their room, from `after` on and round; and the last."""
    hops: dict[str, int] = {}
    last = after
    for start in dict.fromkeys((after, "")):
        for (hop,) in look.db.execute(_HOPS_DUE, {"after": start, "now": look.now}):
            if start != after and hop > after:
                break
            if len(hops) >= look.most:
                look.left = True
                return hops, last
            more = look.room(hop)
            if hop not in hops and more > 0:
                hops[hop] = more
                last = hop
    return hops, last if hops else ""


_URGENT = (
    select(_e.hop)
    .where(
        text("priority > 0"),  # as the index has it
        _e.state == WAITING,
        _e.next_attempt <= bindparam("now"),
        _e.lease_owner.is_(None),
    )
    .group_by(_e.hop)
    .order_by(func.max(_e.priority).desc(), _e.hop)
    .limit(bindparam("most"))
)


def _urgent_hops(look: _Look) -> dict[str, int]:
    """Hops with room and due entries of a priority above 0, the most urgent first; such have an index."""
    found = look.db.execute(_URGENT, {"now": look.now, "most": look.most}).all()
    rooms = {hop: look.room(hop) for (hop,) in found}
    return {hop: more for hop, more in rooms.items() if more > 0}


_OF_HOP = (
    _e.state == WAITING,
    _e.hop == bindparam("hop"),
    _e.next_attempt <= bindparam("now"),
    _e.lease_owner.is_(None),
)
_COLUMNS = (_e.id, _e.message_id, _e.forwarded_by, _e.priority)
_DUE, _DUE_URGENT, _DUE_OTHERS = (
    select(*_COLUMNS)
    .where(*_OF_HOP, which)
    .order_by(_e.next_attempt, _e.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)  # PostgreSQL; SQLite's writers stand in line anyway
    for which in (true(), text("priority > 0"), text("priority <= 0"))
)
_WITH_THEM = (
    select(*_COLUMNS)
    .where(*_OF_HOP, _e.message_id.in_(bindparam("messages", expanding=True)))
    .order_by(_e.next_attempt, _e.id)
    .with_for_update(skip_locked=True)
)
_FEW = 10  # entries read at least: what has so few waiting is read whole


def _due_groups(look: _Look, hop: str, room: int, urgent: bool) -> dict[_Key, list[int]]:
    """The due entries of a hop by group, at most `room` groups; the last is the one to take first.

    That is the one of the highest priority, then the one that waits longest (RFC 6710). Urgent ones are
    looked for by themselves, so that no backlog hides them.
    """
    most = _FEW + 2 * min(room, look.most)
    about = {"hop": hop, "now": look.now}
    found: dict[int, tuple[int, _Key]] = {}
    whole = True
    for query in (_DUE_URGENT, _DUE_OTHERS) if urgent else (_DUE,):
        due = look.db.execute(query, {**about, "most": most}).all()
        whole &= len(due) < most
        found |= {row.id: (row.priority, (row.message_id, row.forwarded_by)) for row in due}
    in_turn = [key for _, key in sorted(found.values(), key=lambda one: -one[0])]  # a stable sort
    chosen = list(dict.fromkeys(in_turn))
    if len(chosen) > room:
        look.left = True
        del chosen[room:]
    if not whole:  # there is more of them than was read: those of the same messages go together
        look.left = True
        messages = {message_id for message_id, _ in chosen}
        due = look.db.execute(_WITH_THEM, {**about, "messages": list(messages)}).all()
        found = {row.id: (row.priority, (row.message_id, row.forwarded_by)) for row in due}
    groups: dict[_Key, list[int]] = {key: [] for key in chosen}
    for entry_id, (_, key) in found.items():
        if key in groups:
            if len(groups[key]) < MOST_RECIPIENTS:
                groups[key].append(entry_id)
            else:
                look.left = True
    return dict(reversed(groups.items()))


_FREE = or_(_e.lease_owner.is_(None), _e.lease_until <= bindparam("now"))
_NEXT = select(_e.next_attempt).where(_e.state == WAITING, _FREE).order_by(_e.next_attempt).limit(1)
_LEASE_ENDS = select(func.min(_e.lease_until)).where(_e.lease_until > bindparam("now"))


def next_due(db: Connection, now: float) -> float | None:
    """When the next entry that nobody attempts is due, or a lease ends; None: neither will be."""
    times = (db.scalar(query, {"now": now}) for query in (_NEXT, _LEASE_ENDS))
    return min((time for time in times if time is not None), default=None)


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
