"""What a message becomes in the queue: an entry for each recipient, and rows and a spool file that last.

Theory of operation. A message up to IN_ROW octets has no file: its row holds it, and there is one thing less
to make durable. Entries that are leased from the start are attempted by this process at once; they come back
as batches, each with what goes to one hop in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mta.entries import Batch, Entry, Lease, NewEntry, NewMessage
from mailstack.mta.hops import Hops
from mailstack.mta.ledger import Ledger, Queued
from mailstack.mta.result import not_tried
from mailstack.mta.routes import Step
from mailstack.mta.settings import MtaConfig
from mailstack.mta.spool import Spool
from mailstack.mta.tables import HELD, WAITING
from mailstack.trail.notes import HELD as HELD_EVENT
from mailstack.trail.notes import QUEUED, Note, key_of

IN_ROW = 16 * 1024  # octets

BatchKey = tuple[str, str | None]  # a hop, and our address that stands for its recipients


class Restraint(NamedTuple):
    """What a sender that sends too much must put up with."""

    delay: float  # seconds that what goes elsewhere waits
    held: str | None  # why all is held


class Entering:
    """The way into the queue's rows; `lease` makes a lease for this process."""

    def __init__(
        self,
        config: MtaConfig,
        spool: Spool,
        ledger: Ledger,
        hops: Hops,
        lease: Callable[[], Lease],
        clock: Any,
    ) -> None:
        self._config = config
        self._spool = spool
        self._ledger = ledger
        self._hops = hops
        self._lease = lease
        self._clock = clock

    def entry(
        self, envelope: Envelope, step: Step, when: float, restraint: Restraint, leased: bool
    ) -> NewEntry:
        """An entry; for a hop that is left alone now, one that waits with it, until its DELIVERBY at most."""
        held = restraint.held
        leased = leased and not held
        why = f"held: {held}" if held else None
        down = None if step.local or leased else self._hops.down(step.hop)
        if not step.local:
            when += restraint.delay
        until = self._hops.until(step.hop)
        if down is not None and until > when:
            by = envelope.deliver_by
            when = until if by is None else min(until, max(when, by.deadline))
            why = why or str(not_tried(down))
        return NewEntry(
            step.recipient,
            step.hop,
            when,
            last_reply=why,
            leased=leased,
            forwarded_by=batch_key(step)[1],
            state=HELD if held else WAITING,
        )

    async def write(
        self, envelope: Envelope, message: Message, new: Sequence[NewEntry]
    ) -> dict[BatchKey, Batch]:
        """Spool file and rows, durable; return our leased entries; none: it was queued before.

        Raise OSError, Overloaded, or what the database does: then nothing is queued.
        """
        now = self._clock.seconds()
        size = message.size
        content = message.read() if message.in_memory and size <= IN_ROW else None
        name = self._spool.name(envelope.id, now)
        spool = name if content is None else ""
        expires = self._expires(envelope, now)
        rows = NewMessage(envelope, size, now, expires, new, self._lease(), content, spool)
        notes = [_queued(envelope, one, now) for one in new]
        if content is not None:
            ids = await self._ledger.write(Queued(rows, notes))
        else:
            file = partial(self._spool.write, spool, message)
            job = Queued(rows, notes, self._spool.folder(spool))
            ids = await self._ledger.write_with_file(file, job, quick=message.in_memory)
        return _batches(rows, ids)

    def _expires(self, envelope: Envelope, now: float) -> float:
        """When it bounces: counted from its release, and never after the time that DELIVERBY sets."""
        expires = max(now, envelope.hold_until or now) + self._config.expire
        by = envelope.deliver_by
        return min(expires, by.deadline) if by is not None and by.returned else expires


def batch_key(step: Step) -> BatchKey:
    """What goes into one transaction with others that have the same."""
    return step.hop, None if step.forwarded_by is None else str(step.forwarded_by)


def _batches(rows: NewMessage, ids: Sequence[int]) -> dict[BatchKey, Batch]:
    leased: dict[BatchKey, list[Entry]] = {}
    for entry_id, one in zip(ids, rows.entries, strict=False):
        if one.leased:
            entry = Entry(entry_id, one.recipient, one.attempts, rows.expires, False)
            leased.setdefault((one.hop, one.forwarded_by), []).append(entry)
    return {
        (hop, by): Batch(
            rows.envelope.only(tuple(entry.recipient for entry in some)),
            hop,
            tuple(some),
            rows.spool,
            rows.size,
            rows.now,
            forwarded_by=by,
            content=rows.content,
        )
        for (hop, by), some in leased.items()
    }


def _queued(envelope: Envelope, entry: NewEntry, now: float) -> Note:
    detail = {"hop": entry.hop, "last_reply": entry.last_reply, "next_attempt": entry.next_attempt}
    event = QUEUED if entry.state == WAITING else HELD_EVENT
    return Note(now, envelope.id, event, key_of(entry.recipient.address), None, detail)
