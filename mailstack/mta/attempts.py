"""One attempt at a batch of entries, and what comes of it: sent, deferred, bounced.

Theory of operation. The notification about a failure is queued before the failed entry is removed, under an
id made from that entry, so a crash between the two repeats it under the same id. An attempt that succeeded
is written down until that works: forgetting it would deliver the message twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.dsn import Status
from mailstack.mail.envelope import DeliverBy, Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import LOCAL_ERROR, Reply
from mailstack.mta import entries
from mailstack.mta.bounce import Bounces, wanted
from mailstack.mta.entries import Batch, Entry, Settled
from mailstack.mta.ledger import Attempted, Ledger
from mailstack.mta.result import Result
from mailstack.mta.routes import LOCAL, Routes
from mailstack.mta.settings import MtaConfig
from mailstack.mta.spool import Spool
from mailstack.mta.suppression import is_hard
from mailstack.trail import notes
from mailstack.trail.notes import NO_NOTES, Note, Notes, key_of

_log = Logger(namespace="mailstack.queue")

JITTER = 0.1  # of a pause, so that what failed together is not retried together
SETTLE_PAUSE = 5.0  # seconds between tries to write down what an attempt came to
_NO_RESULT = Result(LOCAL_ERROR)
_TOO_LATE = Result(Reply(554, "5.4.7", "Delivery time expired"))


def pause(config: MtaConfig, attempts: int, random: Random) -> float:
    """Seconds to wait after the attempt of this number, the first being 1 (RFC 5321 section 4.5.4.1)."""
    seconds = config.retry[min(attempts, len(config.retry)) - 1]
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)


@dataclass(slots=True)
class _Outcome:
    """What an attempt came to, entry by entry."""

    sent: list[tuple[Entry, Result]] = field(default_factory=list)
    failed: list[tuple[Entry, Result]] = field(default_factory=list)
    waiting: list[tuple[Entry, Result]] = field(default_factory=list)


class Forwards(Protocol):
    """What is asked of `Forwarding`."""

    async def onward(self, by: Address, envelope: Envelope, message: Message) -> tuple[Envelope, Message]: ...


class Attempts:
    """Makes attempts. `clock` and `random` are its time and its dice."""

    def __init__(
        self,
        config: MtaConfig,
        routes: Routes,
        spool: Spool,
        ledger: Ledger,
        bounces: Bounces,
        clock: Any,
        random: Random,
        trail: Notes = NO_NOTES,
        forwarding: Forwards | None = None,
        refused: Callable[[str | None, int], Awaitable[None]] | None = None,
    ) -> None:
        self._config = config
        self._routes = routes
        self._spool = spool
        self._ledger = ledger
        self._bounces = bounces
        self._clock = clock
        self._random = random
        self._trail = trail
        self._forwarding = forwarding
        self._refused = refused  # told of each login's recipients that remote servers refuse

    async def make(self, batch: Batch, message: Message | None = None) -> float | None:
        """Hand the batch to its hop, tell the sender what is to be told, write down the rest.

        `message` where it is at hand still, else it is read from the spool. Returns when the first of what
        was deferred is due again.
        """
        if message is None:
            message = self._message(batch)
        results = await self._results(batch, message)
        outcome = self._sorted(batch, results)
        warned = await self._tell(batch, message, outcome)
        return await self._settle(batch, outcome, warned)

    def _message(self, batch: Batch) -> Message:
        if batch.content is not None:
            return Message.of(batch.content)
        return self._spool.message(batch.spool, batch.size)

    async def _results(self, batch: Batch, message: Message) -> list[tuple[Entry, Result]]:
        by = batch.envelope.deliver_by
        if by is not None and by.returned and self._clock.seconds() >= by.deadline:
            # RFC 2852 section 4.1.3: it must not be delivered now.
            return [(entry, _TOO_LATE) for entry in batch.entries]
        try:
            envelope = batch.envelope
            if batch.forwarded_by is not None and self._forwarding is not None:
                ours = entries.stored_address(batch.forwarded_by)
                envelope, message = await self._forwarding.onward(ours, envelope, message)
            results = await self._routes.deliver(batch.hop, envelope, message)
        except CancelledError:
            raise  # the process stops: the entries stay as they are, and the next one attempts them at once
        except Exception:
            _log.failure("{id}: the attempt failed by itself", id=batch.envelope.id)
            results = {}
        return [(entry, results.get(entry.recipient.address, _NO_RESULT)) for entry in batch.entries]

    def _sorted(self, batch: Batch, results: Sequence[tuple[Entry, Result]]) -> _Outcome:
        outcome = _Outcome()
        now = self._clock.seconds()
        for entry, result in results:
            word = "sent"
            if result.reply.accepted:
                outcome.sent.append((entry, result))
            elif result.reply.permanent:
                outcome.failed.append((entry, result))
                word = "bounced"
            elif now >= entry.expires:
                outcome.failed.append((entry, _last_words(batch.envelope.deliver_by, result)))
                word = "expired"
            else:
                outcome.waiting.append((entry, result))
                word = "deferred"
            _log.info(
                "{id}: to=<{recipient}> {word} attempt={attempt} hop={hop} {result}",
                id=batch.envelope.id,
                recipient=entry.recipient.address,
                word=word,
                attempt=entry.attempts + 1,
                hop=batch.hop,
                result=result,
            )
        return outcome

    async def _tell(self, batch: Batch, message: Message, outcome: _Outcome) -> frozenset[int]:
        """Queue the notifications; return the entries whose sender knows of the delay now.

        A failure that cannot be told now is no failure yet: the entry waits, and the next attempt tells.
        """
        success = "delivered" if batch.hop == LOCAL else "relayed"
        reported = [
            (entry, result)
            for entry, result in outcome.sent
            if not result.dsn and wanted(entry.recipient, success)
        ]
        await self._report(batch, message, success, reported)
        await self._report(batch, message, "relayed", _left_the_range(batch, outcome.sent), always=True)
        overdue = self._overdue(batch)
        late = [
            (entry, _not_in_time(result) if overdue else result)
            for entry, result in outcome.waiting
            if self._late(batch, entry)
        ]
        warned = await self._report(batch, message, "delayed", late)
        if not await self._report(batch, message, "failed", outcome.failed):
            outcome.waiting += outcome.failed
            outcome.failed = []
        return frozenset(entry.id for entry, _ in late) if warned else frozenset()

    def _late(self, batch: Batch, entry: Entry) -> bool:
        limit = self._config.warn_after
        released = max(batch.received_at, batch.envelope.hold_until or 0.0)
        long_since = 0 < limit <= self._clock.seconds() - released
        return (self._overdue(batch) or long_since) and not entry.delay_warned

    def _overdue(self, batch: Batch) -> bool:
        by = batch.envelope.deliver_by
        return by is not None and self._clock.seconds() >= by.deadline  # RFC 2852 section 4.1.3, mode N

    async def _report(
        self,
        batch: Batch,
        message: Message,
        action: str,
        about: Sequence[tuple[Entry, Result]],
        always: bool = False,
    ) -> bool:
        if not about:
            return True
        now = self._clock.seconds()
        statuses = [
            Status(
                entry.recipient.address,
                action,
                result.reply,
                orcpt=entry.recipient.orcpt,
                remote=result.server,
                last_attempt=now,
                will_retry_until=entry.expires if action == "delayed" else None,
            )
            for entry, result in about
        ]
        notification = f"{batch.envelope.id}.{action[:4]}{about[0][0].id}"
        return await self._bounces.report(
            notification, batch.envelope, batch.received_at, message, statuses, always
        )

    def _notes(self, batch: Batch, outcome: _Outcome, next_: dict[int, float], now: float) -> list[Note]:
        """What the trail says of this attempt; what the MDA took, it has told itself."""
        words = [(one, notes.BOUNCED) for one in outcome.failed]
        words += [(one, notes.DEFERRED) for one in outcome.waiting]
        if batch.hop != LOCAL:
            words += [(one, notes.SENT) for one in outcome.sent]
        return [
            Note(
                now,
                batch.envelope.id,
                notes.EXPIRED if word == notes.BOUNCED and not result.reply.permanent else word,
                key_of(entry.recipient.address),
                None,
                {
                    "attempt": entry.attempts + 1,
                    "hop": batch.hop,
                    "exchanger": result.exchanger or None,
                    "tls": " ".join(filter(None, (result.tls, result.cipher))) or None,
                    "security": result.trust or None,
                    "reply": str(result.reply),
                    "next_attempt": next_.get(entry.id),
                },
            )
            for (entry, result), word in words
        ]

    async def _settle(self, batch: Batch, outcome: _Outcome, warned: frozenset[int]) -> float | None:
        done = [entry.id for entry, _ in outcome.sent + outcome.failed]
        now = self._clock.seconds()
        deferred = [
            entries.Deferred(
                entry.id,
                self._next(batch.envelope.deliver_by, entry, now),
                str(result),
                entry.delay_warned or entry.id in warned,
            )
            for entry, result in outcome.waiting
        ]
        following = {one.id: one.next_attempt for one in deferred}
        await self._written_down(
            Attempted(
                Settled(batch.envelope.id, batch.spool, now, done, deferred),
                self._notes(batch, outcome, following, now),
                self._hard(batch, outcome),
                now + self._config.suppress,
            )
        )
        if batch.hop != LOCAL and self._refused is not None:
            refused = sum(
                result.reply.permanent and result.server is not None for _, result in outcome.failed
            )
            await self._count_refused(batch, refused)
        return min(following.values(), default=None)

    def _hard(self, batch: Batch, outcome: _Outcome) -> list[tuple[str, str]]:
        """The addresses that do not exist, and who says so."""
        if not self._config.suppress or batch.hop == LOCAL:
            return []
        return [
            (str(entry.recipient.address), str(result)) for entry, result in outcome.failed if is_hard(result)
        ]

    async def _count_refused(self, batch: Batch, number: int) -> None:
        assert self._refused is not None
        try:
            await self._refused(batch.envelope.authenticated, number)
        except CancelledError:
            raise
        except Exception:
            _log.failure("{id}: refusals were not counted", id=batch.envelope.id)

    def _next(self, by: DeliverBy | None, entry: Entry, now: float) -> float:
        following = now + pause(self._config, entry.attempts + 1, self._random)
        if by is not None and now < by.deadline:
            following = min(following, by.deadline)  # its sender hears then
        return following if now >= entry.expires else min(following, entry.expires)

    async def _written_down(self, attempted: Attempted) -> None:
        while True:
            try:
                await self._ledger.write(attempted)
                return
            except CancelledError:
                raise  # the process stops
            except Exception:
                _log.failure("{id}: not written down yet", id=attempted.settled.message_id)
            await deferLater(self._clock, SETTLE_PAUSE)


def _last_words(by: DeliverBy | None, result: Result) -> Result:
    """What is said of an entry whose time is over."""
    if by is None or not by.returned:
        return result
    text = f"Delivery time expired; the last attempt came to: {result.reply}"
    return replace(result, reply=Reply(554, "5.4.7", text))


def _not_in_time(result: Result) -> Result:
    """What is said of an entry that is late by DELIVERBY, and goes on (RFC 2852 section 4.1.3)."""
    text = f"Delivery time expired; we keep trying; the last attempt came to: {result.reply}"
    return replace(result, reply=Reply(451, "4.4.7", text))


def _left_the_range(batch: Batch, sent: Sequence[tuple[Entry, Result]]) -> list[tuple[Entry, Result]]:
    """Whom DELIVERBY has reported as relayed: where a server makes no promise, or a trace is asked for."""
    by = batch.envelope.deliver_by
    if by is None or batch.hop == LOCAL:
        return []
    return [
        (entry, result)
        for entry, result in sent
        if (by.trace or not result.by)
        and "NEVER" not in entry.recipient.notify
        and (result.dsn or not wanted(entry.recipient, "relayed"))  # the others were told already
    ]


def queued(queue_id: str) -> Reply:
    """What is said of a message that is safe in the queue."""
    return Reply(250, "2.0.0", f"Ok: queued as {queue_id}")
