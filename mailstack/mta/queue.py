"""Step 2 of the journey: the queue takes charge of a message and sees to each recipient until the end.

Theory of operation. A message for our own recipients goes straight to the MDA: its reply is the answer, and
nothing is written here; only those it cannot take now are queued, where others were accepted. Where any
recipient is elsewhere, one transaction writes an entry for every recipient beside the durable spool file,
and the 250 rests on that commit alone; our own recipients' entries are leased to us and attempted before
the answer, the others right after it. An attempt that a crash cut short is repeated, under the same
delivery id, so the MDA recognises it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.db import sync_directory
from mailstack.mail.address import Address
from mailstack.mail.dsn import Status
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import LOCAL_ERROR, Refused, Reply
from mailstack.mta import entries
from mailstack.mta.attempts import Attempts, pause, queued
from mailstack.mta.bounce import Bounces, wanted
from mailstack.mta.entries import Batch, Entry, NewEntry
from mailstack.mta.routes import LOCAL, Routes, Step
from mailstack.mta.scheduler import Scheduler
from mailstack.mta.settings import MtaConfig
from mailstack.mta.spool import Spool
from mailstack.work import Work

ORPHAN_AGE = 3600.0  # seconds: a spool file without a row may be one that is being written
_NOWHERE = Step(Recipient(Address("", "")), "")
_CHECKED = 500  # spool files looked up at once


class Queue(Service):
    """Accepts messages for anybody. `spool` is the folder of its files, `node` what its leases are named."""

    _log = Logger(namespace="mailstack.queue")

    def __init__(
        self,
        config: MtaConfig,
        work: Work,
        routes: Routes,
        clock: Any,
        *,
        hostname: str,
        spool: Path,
        random: Random,
        node: str = "",
    ) -> None:
        self._config = config
        self._work = work
        self._routes = routes
        self._clock = clock
        self._random = random
        self._owner = node or hostname
        self._spool = Spool(spool)
        self._bounces = Bounces(hostname, config.returned, work, clock, self.take)
        self._attempts = Attempts(config, work, routes, self._spool, self._bounces, clock, random)
        self._scheduler = Scheduler(config, self._owner, work, self._attempts, clock)
        self._starting: Deferred[None] | None = None

    # Taking charge.

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """Answer for each recipient: 2xx it is delivered or queued (RFC 5321 section 6.1).

        If no recipient can be accepted, each gets its own 4xx or 5xx, and the client keeps it. If some
        can, all are: the others wait in the queue, or bounce.
        """
        return await self._accept(envelope, message, keep=False)

    async def take(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """As `accept`, for a message that we made ourselves: what cannot be delivered now is queued."""
        return await self._accept(envelope, message, keep=True)

    async def deliver(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """As `accept`, but each answer is that recipient's own, and what is for the MDA never waits here.

        What an alias sends elsewhere is queued: we are not the last hop for that (RFC 2033 section 2).
        """
        steps: dict[Address, list[Step]] = {}
        answers: dict[Address, Reply] = {}
        for recipient in envelope.recipients:
            try:
                steps[recipient.address] = await self._routes.steps(recipient)
            except Refused as answer:
                answers[recipient.address] = answer.reply
            except Exception:
                self._log.failure("{id}: no way found for a recipient", id=envelope.id)
                answers[recipient.address] = LOCAL_ERROR
        here = tuple(
            one
            for one in envelope.recipients
            if all(step.local for step in steps.get(one.address, [_NOWHERE]))
        )
        if here:
            results = await self._routes.deliver(LOCAL, envelope.only(here), message)
            answers |= {address: result.reply for address, result in results.items()}
            await self._tell_of_success(envelope.only(here), message, here, answers)
        onward = tuple(one for one in envelope.recipients if one.address not in answers)
        if onward:
            several = [step for one in onward for step in steps[one.address]]
            try:
                answers |= await self._enqueue(envelope.only(onward), message, _once(several), {})
            except Exception:
                self._log.failure("{id}: not queued", id=envelope.id)
                answers |= {one.address: LOCAL_ERROR for one in onward}
        return answers

    async def _accept(self, envelope: Envelope, message: Message, keep: bool) -> dict[Address, Reply]:
        steps: list[Step] = []
        refused: dict[Address, Reply] = {}
        for recipient in envelope.recipients:
            try:
                steps += await self._routes.steps(recipient)
            except Refused as answer:
                refused[recipient.address] = answer.reply
            except Exception:
                self._log.failure("{id}: no way found for a recipient", id=envelope.id)
                return dict.fromkeys(_addresses(envelope), LOCAL_ERROR)
        if not steps:
            return refused
        steps = _once(steps)
        if self._held(envelope):
            await self._hold(envelope, message, steps, refused)
            return dict.fromkeys(_addresses(envelope), queued(envelope.id))
        if all(step.local for step in steps):
            return await self._deliver(envelope, message, steps, refused, keep)
        return await self._enqueue(envelope, message, steps, refused)

    async def _deliver(
        self,
        envelope: Envelope,
        message: Message,
        steps: list[Step],
        refused: dict[Address, Reply],
        keep: bool,
    ) -> dict[Address, Reply]:
        """All are ours: the MDA's replies, and the queue for those that it cannot take now."""
        recipients = tuple(step.recipient for step in steps)
        results = await self._routes.deliver(LOCAL, envelope.only(recipients), message)
        replies = {address: result.reply for address, result in results.items()} | refused
        accepted = any(reply.accepted for reply in replies.values())
        if accepted:
            await self._tell_of_success(envelope, message, recipients, replies)
        refused_now = (one for one in envelope.recipients if not replies[one.address].accepted)
        left = list({one.address: one for one in refused_now}.values())
        if not left or not (accepted or (keep and any(replies[one.address].transient for one in left))):
            return replies
        try:
            await self._write(envelope, message, self._later(left, replies))
        except Exception:
            self._log.failure("{id}: not queued", id=envelope.id)
            return replies
        self._scheduler.wake()
        return replies | {one.address: queued(envelope.id) for one in left}

    def _later(self, recipients: Iterable[Recipient], replies: dict[Address, Reply]) -> list[NewEntry]:
        """Entries for recipients that the MDA refused: for another day, or to bounce at once."""
        now = self._clock.seconds()
        first = now + pause(self._config, 1, self._random)
        return [
            NewEntry(one, LOCAL, first if reply.transient else now, 1, str(reply))
            for one in recipients
            for reply in [replies[one.address]]
        ]

    async def _tell_of_success(
        self,
        envelope: Envelope,
        message: Message,
        recipients: Iterable[Recipient],
        replies: dict[Address, Reply],
    ) -> None:
        delivered = [
            Status(one.address, "delivered", replies[one.address], one.orcpt)
            for one in recipients
            if replies[one.address].accepted and wanted(one, "delivered")
        ]
        if delivered:
            now = self._clock.seconds()
            await self._bounces.report(f"{envelope.id}.deli0", envelope, now, message, delivered)

    async def _enqueue(
        self, envelope: Envelope, message: Message, steps: list[Step], refused: dict[Address, Reply]
    ) -> dict[Address, Reply]:
        """Some are elsewhere: entries for all, then our own recipients at once."""
        now = self._clock.seconds()
        new = [NewEntry(step.recipient, step.hop, now, leased=step.local) for step in steps]
        # What there is no such user for bounces from the queue, by the MDA's own words.
        new += [NewEntry(one, LOCAL, now) for one in envelope.recipients if one.address in refused]
        batch = await self._write(envelope, message, new)
        if batch is not None and batch.entries:
            try:
                await self._attempts.make(batch, message)
            except Exception:  # it is in the queue: whatever happened now, the answer is 250
                self._log.failure("{id}: the first attempt failed by itself", id=envelope.id)
        self._scheduler.wake()
        return dict.fromkeys(_addresses(envelope), queued(envelope.id))

    def _held(self, envelope: Envelope) -> bool:
        return envelope.hold_until is not None and envelope.hold_until > self._clock.seconds()

    async def _hold(
        self, envelope: Envelope, message: Message, steps: list[Step], refused: dict[Address, Reply]
    ) -> None:
        """Nothing of it leaves before its time, not even a bounce (RFC 4865)."""
        assert envelope.hold_until is not None
        new = [NewEntry(step.recipient, step.hop, envelope.hold_until) for step in steps]
        new += [
            NewEntry(one, LOCAL, envelope.hold_until) for one in envelope.recipients if one.address in refused
        ]
        await self._write(envelope, message, new)
        self._scheduler.wake()

    def _expires(self, envelope: Envelope, now: float) -> float:
        """When it bounces: counted from its release, and never after the time that DELIVERBY sets."""
        expires = max(now, envelope.hold_until or now) + self._config.expire
        by = envelope.deliver_by
        return min(expires, by.deadline) if by is not None and by.returned else expires

    async def _write(self, envelope: Envelope, message: Message, new: Sequence[NewEntry]) -> Batch | None:
        """Spool file and rows, durable; return our leased entries, None where it was queued before."""
        now = self._clock.seconds()
        expires = self._expires(envelope, now)
        size = message.size
        lease = self._scheduler.lease()

        def insert(db: Connection, name: str) -> tuple[int, ...]:
            sync_directory(db, self._spool.folder(name))
            return entries.insert_message(db, envelope, name, size, now, expires, new, lease)

        ids = await self._work.prepared(partial(self._spool.write, envelope.id, message), insert)
        if not ids:
            return None
        leased = tuple(
            Entry(entry_id, one.recipient, one.attempts, expires, False)
            for entry_id, one in zip(ids, new, strict=True)
            if one.leased
        )
        ours = envelope.only(tuple(entry.recipient for entry in leased))
        return Batch(ours, LOCAL, leased, "", size, now)

    # Running.

    def startService(self) -> None:
        """Take back what a former process left, then attempt what is due."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._begin())

    def stopService(self) -> Deferred[None]:
        """Let attempts under way end, for a while."""
        super().stopService()
        return Deferred.fromCoroutine(self._end())

    def wake(self) -> None:
        """Look at the queue now: something else has changed it."""
        self._scheduler.wake()

    async def _begin(self) -> None:
        try:
            released = await self._work.transaction(entries.release_all, self._owner)
            if released:
                self._log.info("{n} attempts were cut short, and are repeated", n=released)
            removed = await self._work.files(self._sweep_names)
            await self._sweep(removed)
        except Exception:
            self._log.failure("the queue was not tidied")
        self._scheduler.start()

    async def _end(self) -> None:
        if self._starting is not None:
            await self._starting
        await self._scheduler.stop()

    def _sweep_names(self) -> list[str]:
        return list(self._spool.older_than(self._clock.seconds() - ORPHAN_AGE))

    async def _sweep(self, names: list[str]) -> None:
        """Remove spool files that a crash left between their writing and their row."""
        for start in range(0, len(names), _CHECKED):
            some = names[start : start + _CHECKED]
            wanted_still = await self._work.read(entries.known, some)
            for name in some:
                if name not in wanted_still:
                    await self._work.files(self._spool.remove, name)
                    self._log.info("removed a spool file without a message: {name}", name=name)


def _once(steps: Iterable[Step]) -> list[Step]:
    """Each address once for each hop."""
    return list({(step.recipient.address, step.hop): step for step in steps}.values())


def _addresses(envelope: Envelope) -> list[Address]:
    return [recipient.address for recipient in envelope.recipients]
