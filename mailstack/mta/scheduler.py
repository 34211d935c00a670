"""When entries are attempted: the loop that claims what is due and starts attempts, within bounds.

Theory of operation. The loop looks at the queue when it is woken (a message came, an attempt ended), when
the next entry is due, and at least every POLL seconds, because the operator's commands change the queue
from another process. It claims only as many batches as it starts at once, so memory does not grow with the
queue, and its look while nothing is due is one small read.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from mailstack.mta import entries
from mailstack.mta.attempts import Attempts
from mailstack.mta.entries import Batch, Lease
from mailstack.mta.rates import Rates
from mailstack.mta.settings import MtaConfig
from mailstack.work import Work

POLL = 5.0  # seconds
LEASE = 900.0  # seconds; renewed at a third of them
GRACE = 20.0  # seconds that attempts under way get when the process stops


class Scheduler:
    """Runs attempts. `owner` names this process in its leases."""

    _log = Logger(namespace="mailstack.queue")

    def __init__(self, config: MtaConfig, owner: str, work: Work, attempts: Attempts, clock: Any) -> None:
        self._config = config
        self._owner = owner
        self._work = work
        self._attempts = attempts
        self._clock = clock
        self._running = False
        self._woken = False
        self._sleeping: Deferred[None] | None = None
        self._looping: Deferred[None] | None = None
        self._active: dict[Deferred[None], Batch] = {}
        self._rates = Rates(config.messages_per_minute)
        self._renewed = 0.0

    def lease(self) -> Lease:
        """A lease for this process from now."""
        return Lease(self._owner, self._clock.seconds() + LEASE)

    def start(self) -> None:
        """Begin to look at the queue."""
        self._running = True
        self._renewed = self._clock.seconds()
        self._looping = Deferred.fromCoroutine(self._loop())

    async def stop(self) -> None:
        """Start nothing more; let what is under way end, for a while, then give it up."""
        self._running = False
        self.wake()
        if self._looping is not None:
            await self._looping
        if self._active:
            call = self._clock.callLater(GRACE, self._give_up)
            await DeferredList(list(self._active), consumeErrors=True)
            if call.active():
                call.cancel()

    def wake(self) -> None:
        """Look at the queue now."""
        self._woken = True
        sleeping, self._sleeping = self._sleeping, None
        if sleeping is not None:
            sleeping.callback(None)

    def _give_up(self) -> None:
        for attempt in list(self._active):
            attempt.cancel()

    async def _loop(self) -> None:
        while self._running:
            self._woken = False
            try:
                seconds = await self._look()
            except Exception:
                self._log.failure("the queue cannot be read now")
                seconds = POLL
            if self._running and not self._woken:
                await self._sleep(seconds)

    async def _look(self) -> float:
        """Start what is due; return for how long there is nothing more to start."""
        await self._renew()
        room = self._config.concurrency - len(self._active)
        if room <= 0:
            return POLL
        now = self._clock.seconds()
        active = Counter(batch.hop for batch in self._active.values())
        per_hop = self._rates.per_hop(self._config.concurrency_per_hop)
        hops = self._rates.counted(active, per_hop, now)
        full = [hop for hop, number in hops.items() if number >= per_hop]
        when = await self._work.read(entries.earliest, full)
        now = self._clock.seconds()
        if when is None or when > now:
            return POLL if when is None else min(POLL, when - now)
        batches = await self._work.transaction(entries.claim, self.lease(), now, room, per_hop, hops)
        for batch in batches:
            self._rates.start(batch.hop, now)
            self._begin(batch)
        return 0.0 if batches else POLL

    def _begin(self, batch: Batch) -> None:
        attempt = Deferred.fromCoroutine(self._attempts.make(batch))
        if attempt.called:
            return
        self._active[attempt] = batch
        attempt.addErrback(self._gave_up, batch)
        attempt.addCallback(lambda _: self._ended(attempt))

    def _gave_up(self, failure: Any, batch: Batch) -> None:
        self._log.warn(
            "{id}: the attempt was given up, it is repeated later and may arrive twice: {why}",
            id=batch.envelope.id,
            why=failure.value,
        )

    def _ended(self, attempt: Deferred[None]) -> None:
        del self._active[attempt]
        self.wake()

    async def _renew(self) -> None:
        now = self._clock.seconds()  # the lease counts from here, however long the writing takes
        if not self._active or now < self._renewed + LEASE / 3:
            return
        ids = [entry.id for batch in self._active.values() for entry in batch.entries]
        await self._work.transaction(entries.renew, self.lease(), ids)
        self._renewed = now

    async def _sleep(self, seconds: float) -> None:
        sleeping: Deferred[None] = Deferred()
        self._sleeping = sleeping
        call = self._clock.callLater(seconds, self.wake)
        await sleeping
        if call.active():
            call.cancel()
