"""Step 2 of the journey: the queue takes charge of a message and sees to each recipient until the end.

Theory of operation. A message for our own recipients goes straight to the MDA: its reply is the answer, and
nothing is written here; only those it cannot take now are queued, where others were accepted. Where any
recipient is elsewhere, one transaction writes an entry for every recipient beside the durable spool file,
and the 250 rests on that commit alone; our own recipients' entries are leased to us and attempted before
the answer; the others, where their hop has room, right after it. An attempt that a crash cut short is
repeated, under the same delivery id, so the MDA recognises it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.dsn import Status
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import LOCAL_ERROR, Refused, Reply
from mailstack.mta import entries
from mailstack.mta.attempts import Attempts, Forwards, pause, queued
from mailstack.mta.bounce import Bounces, wanted
from mailstack.mta.entering import BatchKey, Entering, Restraint, batch_key
from mailstack.mta.entries import CutShort, NewEntry
from mailstack.mta.hops import Hops, known_hops
from mailstack.mta.ledger import Ledger
from mailstack.mta.leftovers import Leftovers
from mailstack.mta.postmaster import Postmaster
from mailstack.mta.routes import LOCAL, Routes, Step
from mailstack.mta.scheduler import Scheduler
from mailstack.mta.senders import Senders
from mailstack.mta.settings import MtaConfig
from mailstack.mta.spool import Spool
from mailstack.trail.notes import CUT_SHORT, NO_NOTES, Notes
from mailstack.work import Work

_log = Logger(namespace="mailstack.queue")

ORPHAN_AGE = 3600.0  # seconds: a spool file without a row may be one that is being written
_NOWHERE = Step(Recipient(Address("", "")), "")
_HERE: BatchKey = (LOCAL, None)

Sign = Callable[[Envelope, Message], Awaitable[Message]]


async def unsigned(envelope: Envelope, message: Message) -> Message:
    """The message as it is."""
    return message


class Queue(Service):
    """Accepts messages for anybody. `spool` is the folder of its files, `node` what its leases are named."""

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
        hops: Hops | None = None,
        trail: Notes = NO_NOTES,
        sign: Sign = unsigned,
        forwarding: Forwards | None = None,
        postmaster: Callable[[], Awaitable[Address]] | None = None,
    ) -> None:
        self._config = config
        self._work = work
        self._routes = routes
        self._clock = clock
        self._random = random
        self._owner = node or hostname
        self._hops = hops or known_hops(config, clock, random)
        self._trail = trail
        self._sign = sign  # what is ours and leaves
        self._spool = Spool(spool)
        self._leftovers = Leftovers(work, self._spool)
        self._ledger = Ledger(work, trail, self._leftovers)
        self._senders = Senders(
            config,
            work,
            clock,
            hostname=hostname,
            postmaster=postmaster or Postmaster(routes, hostname).address,
            send=self.take,
            trail=trail,
        )
        self._bounces = Bounces(hostname, config.returned, work, clock, self.take, trail, postmaster)
        self._attempts = Attempts(
            config,
            routes,
            self._spool,
            self._ledger,
            self._bounces,
            clock,
            random,
            trail=trail,
            forwarding=forwarding,
            refused=self._senders.refused,
        )
        self._scheduler = Scheduler(
            config, self._owner, work, self._attempts, clock, self._hops, self._cut_short
        )
        self._entering = Entering(config, self._spool, self._ledger, self._hops, self._scheduler.lease, clock)
        self._starting: Deferred[None] | None = None

    # Taking charge.

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """Answer for each recipient: 2xx it is delivered or queued (RFC 5321 section 6.1).

        If no recipient can be accepted, each gets its own 4xx or 5xx, and the client keeps it. If some
        can, all are: the others wait in the queue, or bounce.
        """
        return await self._accept(envelope, message)

    async def submit(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """As `accept`, for a message of our own users: it is signed, unless all of it stays here."""
        return await self._accept(envelope, message, ours=True)

    async def take(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """As `submit`, for a message that we made ourselves: what cannot be delivered now is queued."""
        return await self._accept(envelope, message, ours=True, keep=True)

    async def deliver(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """As `accept`, but each answer is that recipient's own, and what is for the MDA never waits here.

        What an alias sends elsewhere is queued: we are not the last hop for that (RFC 2033 section 2).
        """
        steps: dict[Address, list[Step]] = {}
        answers: dict[Address, Reply] = {}
        for recipient in envelope.recipients:
            try:
                steps[recipient.address] = await self._routes.steps(recipient, envelope.reverse_path)
            except Refused as answer:
                answers[recipient.address] = answer.reply
            except Exception:
                _log.failure("{id}: no way found for a recipient", id=envelope.id)
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
                _log.failure("{id}: not queued", id=envelope.id)
                answers |= {one.address: LOCAL_ERROR for one in onward}
        return answers

    async def _accept(
        self, envelope: Envelope, message: Message, ours: bool = False, keep: bool = False
    ) -> dict[Address, Reply]:
        steps: list[Step] = []
        refused: dict[Address, Reply] = {}
        for recipient in envelope.recipients:
            try:
                steps += await self._routes.steps(recipient, envelope.reverse_path)
            except Refused as answer:
                refused[recipient.address] = answer.reply
            except Exception:
                _log.failure("{id}: no way found for a recipient", id=envelope.id)
                return dict.fromkeys(_addresses(envelope), LOCAL_ERROR)
        if not steps:
            return refused
        steps = _once(steps)
        stays = all(step.local for step in steps)
        if ours and not stays:
            message = await self._sign(envelope, message)
        if self._held(envelope):
            await self._hold(envelope, message, steps, refused)
            return dict.fromkeys(_addresses(envelope), queued(envelope.id))
        if stays:
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
        new = self._later(left, replies)
        try:
            await self._entering.write(envelope, message, new)
        except Exception:
            _log.failure("{id}: not queued", id=envelope.id)
            return replies
        self._scheduler.waits(new)
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
        now = self._clock.seconds()
        delivered = [
            Status(one.address, "delivered", replies[one.address], one.orcpt, last_attempt=now)
            for one in recipients
            if replies[one.address].accepted and wanted(one, "delivered")
        ]
        if delivered:
            await self._bounces.report(f"{envelope.id}.deli0", envelope, now, message, delivered)

    async def _enqueue(
        self, envelope: Envelope, message: Message, steps: list[Step], refused: dict[Address, Reply]
    ) -> dict[Address, Reply]:
        """Some are elsewhere: entries for all, our own recipients at once, others where there is room."""
        now = self._clock.seconds()
        restraint = await self._restraint(envelope, steps)
        promised = set() if restraint.delay or restraint.held else self._promises(steps)
        new = [
            self._entering.entry(envelope, step, now, restraint, step.local or batch_key(step) in promised)
            for step in steps
        ]
        # What there is no such user for bounces from the queue, by the MDA's own words.
        new += [NewEntry(one, LOCAL, now) for one in envelope.recipients if one.address in refused]
        try:
            batches = await self._entering.write(envelope, message, new)
        except BaseException:
            for hop, _ in promised:
                self._scheduler.forget(hop)
            raise
        in_memory = message if message.in_memory else None
        for key in promised:
            if key in batches:
                self._scheduler.begin(batches[key], in_memory)
            else:  # it was queued before
                self._scheduler.forget(key[0])
        if _HERE in batches:
            try:
                await self._attempts.make(batches[_HERE], message)
            except Exception:  # it is in the queue: whatever happened now, the answer is 250
                _log.failure("{id}: the first attempt failed by itself", id=envelope.id)
        self._scheduler.waits(new)
        await self._tell_of_expansion(envelope, message, steps)
        return dict.fromkeys(_addresses(envelope), queued(envelope.id))

    async def _tell_of_expansion(self, envelope: Envelope, message: Message, steps: Iterable[Step]) -> None:
        taken = Reply(250, "2.1.5", "Passed on")
        expanded = {step.expanded.address: step.expanded for step in steps if step.expanded is not None}
        told = [Status(one.address, "expanded", taken, one.orcpt) for one in expanded.values()]
        if told:
            now = self._clock.seconds()
            await self._bounces.report(f"{envelope.id}.expa0", envelope, now, message, told)

    async def _restraint(self, envelope: Envelope, steps: Sequence[Step]) -> Restraint:
        login = envelope.authenticated
        delay = await self._senders.submitted(login, sum(not step.local for step in steps))
        return Restraint(delay, await self._senders.why_held(login))

    def _promises(self, steps: Sequence[Step]) -> set[BatchKey]:
        """What may be attempted elsewhere at once: where there is room, and it fits into one transaction."""
        sizes = Counter(batch_key(step) for step in steps if not step.local)
        small = (key for key, size in sizes.items() if size <= entries.MOST_RECIPIENTS)
        return {key for key in small if self._scheduler.promise(key[0])}

    def _held(self, envelope: Envelope) -> bool:
        return envelope.hold_until is not None and envelope.hold_until > self._clock.seconds()

    async def _hold(
        self, envelope: Envelope, message: Message, steps: list[Step], refused: dict[Address, Reply]
    ) -> None:
        """Nothing of it leaves before its time, not even a bounce (RFC 4865)."""
        assert envelope.hold_until is not None
        until, restraint = envelope.hold_until, await self._restraint(envelope, steps)
        new = [self._entering.entry(envelope, step, until, restraint, leased=False) for step in steps]
        new += [NewEntry(one, LOCAL, until) for one in envelope.recipients if one.address in refused]
        await self._entering.write(envelope, message, new)
        self._scheduler.waits(new)

    # Running.

    def startService(self) -> None:
        """Take back what a former process left, then attempt what is due."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._begin())

    def stopService(self) -> Deferred[None]:
        """Let attempts under way end, for a while."""
        super().stopService()
        self._scheduler.end()  # at once, however long our start still takes
        return Deferred.fromCoroutine(self._end())

    def wake(self) -> None:
        """Look at the queue now: something else has changed it."""
        self._scheduler.wake()

    async def _begin(self) -> None:
        try:
            self._cut_short(await self._work.transaction(entries.release_all, self._owner))
        except Exception:
            _log.failure("what a former process left is taken up when its lease ends")
        self._scheduler.start()
        try:
            await self._leftovers.sweep(self._clock.seconds() - ORPHAN_AGE, lambda: bool(self.running))
        except Exception:
            _log.failure("the queue was not tidied")

    def _cut_short(self, attempts: Sequence[CutShort]) -> None:
        """Where a process ended between the next hop's answer and our writing it down, that gets it again.

        RFC 5321 section 4.5.3.2.6 and RFC 1047 know no way around that; our MDA does, by the delivery's id.
        """
        for one in attempts:
            words = "is repeated" if one.hop == LOCAL else "is repeated, and may arrive twice"
            _log.warn(
                "{id}: to=<{recipient}> an attempt was cut short and {words} hop={hop}",
                id=one.message_id,
                recipient=one.recipient,
                words=words,
                hop=one.hop,
            )
            self._trail.note(one.message_id, CUT_SHORT, one.recipient, hop=one.hop, then=words)

    async def _end(self) -> None:
        if self._starting is not None:
            await self._starting
        await self._scheduler.stop()
        await self._leftovers.close()


class Submissions:
    """The queue as it is for those who take our own users' mail; see `Accepts`."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """See `Queue.submit`."""
        return await self._queue.submit(envelope, message)


def _once(steps: Iterable[Step]) -> list[Step]:
    """Each address once for each hop."""
    return list({(step.recipient.address, step.hop): step for step in steps}.values())


def _addresses(envelope: Envelope) -> list[Address]:
    return [recipient.address for recipient in envelope.recipients]
