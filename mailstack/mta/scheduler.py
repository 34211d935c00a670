"""When entries are attempted: the loop that claims what is due and starts attempts, within bounds.

Theory of operation. New mail for a hop with room is attempted at once, without a claim; where all mail is,
the queue is hardly looked at. The loop looks when something came that could not be begun at once, when an
attempt has ended and more is known to wait, when the next entry is due, and at least every POLL seconds,
because the operator's commands and other processes change the queue too. It claims only as many batches as
it starts at once, so memory does not grow with the queue; its look while nothing is known to wait is one
small read.
Each hop in turn gets its share, as much at once as it has shown to take; what a claim under way may take of
that is promised to nobody else. A hop that cannot be reached holds up nobody: a transfer that takes long
leaves its place to others, and once the hop is known to be down, what waits for it is put off in one go.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from mailstack.mail.message import Message
from mailstack.mta import claims, entries
from mailstack.mta.attempts import Attempts
from mailstack.mta.entries import Batch, CutShort, Lease, NewEntry
from mailstack.mta.hops import Hops
from mailstack.mta.rates import Rates
from mailstack.mta.result import not_tried
from mailstack.mta.routes import LOCAL
from mailstack.mta.settings import MtaConfig
from mailstack.work import Work

_log = Logger(namespace="mailstack.queue")

POLL = 5.0  # seconds
LEASE = 900.0  # seconds; renewed at a third of them
GRACE = 20.0  # seconds that attempts under way get when the process stops
SLOW = 3.0  # seconds: an attempt that takes longer waits for its peer, and another one may begin
MOST_SLOW = 5  # times as many attempts as `concurrency`, with the slow ones


class Scheduler:
    """Runs attempts. `owner` names this process in its leases."""

    def __init__(
        self,
        config: MtaConfig,
        owner: str,
        work: Work,
        attempts: Attempts,
        clock: Any,
        hops: Hops,
        repeats: Callable[[Sequence[CutShort]], None] = lambda cut_short: None,
    ) -> None:
        self._config = config
        self._owner = owner
        self._work = work
        self._attempts = attempts
        self._clock = clock
        self._hops = hops
        self._repeats = repeats  # told of the attempts that other processes left behind
        self._running = False
        self._over = False
        self._woken = False
        self._sleeping: Deferred[None] | None = None
        self._alarm: Any = None
        self._looping: Deferred[None] | None = None
        self._active: dict[Deferred[float | None], tuple[Batch, float]] = {}
        self._at: Counter[str] = Counter()  # attempts under way or promised, by hop
        self._rates = Rates(config.messages_per_minute, config.routes)
        self._promised = 0
        self._offered: dict[str, int] = {}  # what the claim under way may take, by hop
        self._claiming = 0  # how much it may take in all
        self._offering = threading.Lock()
        self._turn = ""  # the hop after which the next turn begins
        self._waiting = True  # more is due, as far as we know
        self._putting_off: set[str] = set()
        self._renewed = 0.0

    def lease(self) -> Lease:
        """A lease for this process from now."""
        return Lease(self._owner, self._clock.seconds() + LEASE)

    def start(self) -> None:
        """Begin to look at the queue."""
        self._running = not self._over
        self._renewed = self._clock.seconds()
        self._looping = Deferred.fromCoroutine(self._loop())

    def end(self) -> None:
        """Start nothing more, from now on."""
        self._over = True
        self._running = False
        self.wake()

    async def stop(self) -> None:
        """Start nothing more; let what is under way end, for a while, then give it up."""
        self.end()
        if self._looping is not None:
            await self._looping
        if self._active:
            call = self._clock.callLater(GRACE, self._give_up)
            await DeferredList(list(self._active), consumeErrors=True)
            if call.active():
                call.cancel()

    def waits(self, new: Iterable[NewEntry]) -> None:
        """Entries are in the queue that nobody attempts yet."""
        now = self._clock.seconds()
        for one in new:
            if one.leased:
                continue
            if one.next_attempt > now:
                self._due_at(one.next_attempt)
                continue
            self._waiting = True
            # A claim under way may have looked too early; without room, an attempt's end is soon enough.
            if self._claiming or (self._room() > 0 and self._room_at(one.hop) > 0):
                self.wake()

    def _due_at(self, when: float) -> None:
        """Sleep no longer than until then."""
        if self._sleeping is None:
            self._woken = True  # the loop is about to reckon how long it may sleep
        elif self._alarm is not None and self._alarm.active() and self._alarm.getTime() > when:
            self._alarm.reset(max(0.0, when - self._clock.seconds()))

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
                _log.failure("the queue cannot be read now")
                seconds = POLL
            if self._running and not self._woken:
                await self._sleep(seconds)

    async def _look(self) -> float:
        """Start what is due; return for how long there is nothing more to start."""
        await self._renew()
        room = self._room()
        if room <= 0:
            return min(POLL, SLOW)
        now = self._clock.seconds()
        if not self._waiting:
            when = await self._work.read(claims.next_due, now)
            if when is None or when > now:
                return POLL if when is None else min(POLL, when - now)
        if not self._running:
            return POLL  # told to end while we looked: what is claimed now would have to be begun
        await self._claim(now, room - room // 4)  # the rest is for new mail that comes meanwhile
        if self._waiting:
            return POLL  # for who has no room: the end of an attempt wakes us, or time gives it
        self._woken = True  # look when the next is due
        return 0.0

    async def _claim(self, now: float, most: int) -> None:
        """Claim what is due and begin its attempts."""
        self._waiting = False
        self._claiming = most
        left = True
        try:
            claimed = await self._work.transaction(
                claims.claim, self.lease(), now, most, self._offer, self._turn
            )
            self._turn, left = claimed.last, claimed.left
        finally:
            self._claiming = 0
            self._offered.clear()
            self._waiting |= left
        self._repeats(claimed.cut_short)
        for batch in claimed.batches:
            self._at[batch.hop] += 1
            self._rates.start(batch.hop, now)
            self._begin(batch)
        if len(claimed.batches) >= most:
            self._woken = True

    def _offer(self, hop: str) -> int:
        """How many more a hop may have. Called in the database's thread."""
        with self._offering:
            room = self._room_at(hop)
            if room > 0:
                self._offered[hop] = room
            return room

    def _room(self) -> int:
        """How many attempts may begin now."""
        slow_since = self._clock.seconds() - SLOW
        quick = sum(1 for _, since in self._active.values() if since > slow_since)
        most: int = self._config.concurrency
        return min(most - quick, most * MOST_SLOW - len(self._active)) - self._promised - self._claiming

    def _room_at(self, hop: str) -> int:
        """How many more a hop may have. Called in the database's thread too: it only looks."""
        if hop == LOCAL:
            return self._config.concurrency_per_hop - self._at.get(hop, 0)
        room = self._hops.window(hop) - self._at.get(hop, 0)
        left = self._rates.left(hop, self._clock.seconds())
        return room if left is None else min(room, left)

    def promise(self, hop: str) -> bool:
        """Whether an attempt at this hop may begin at once; if so, `begin` or `forget` must follow."""
        with self._offering:
            if not self._running or self._room() <= 0 or self._hops.down(hop):
                return False
            if self._room_at(hop) - self._offered.get(hop, 0) <= 0:
                return False
            self._promised += 1
            self._at[hop] += 1
            self._rates.start(hop, self._clock.seconds())
            return True

    def forget(self, hop: str) -> None:
        """The promised attempt is not made."""
        self._promised -= 1
        self._left(hop)
        if self._waiting:
            self.wake()

    def begin(self, batch: Batch, message: Message | None) -> None:
        """Make the promised attempt; the batch's entries are leased to us."""
        self._promised -= 1
        if self._running:
            self._begin(batch, message)
        else:
            self._left(batch.hop)  # the next process finds its lease and attempts it

    def _left(self, hop: str) -> None:
        self._at[hop] -= 1
        if self._at[hop] <= 0:
            del self._at[hop]

    def _begin(self, batch: Batch, message: Message | None = None) -> None:
        if batch.asked:
            self._hops.forgive(batch.hop)
        attempt = Deferred.fromCoroutine(self._attempts.make(batch, message))
        self._active[attempt] = (batch, self._clock.seconds())
        attempt.addErrback(self._gave_up, batch)
        attempt.addCallback(lambda again: self._ended(attempt, again))

    def _gave_up(self, failure: Any, batch: Batch) -> None:
        _log.warn(
            "{id}: the attempt was given up, it is repeated later and may arrive twice: {why}",
            id=batch.envelope.id,
            why=failure.value,
        )

    def _ended(self, attempt: Deferred[float | None], again: float | None) -> None:
        batch, _ = self._active.pop(attempt)
        self._left(batch.hop)
        if self._running and self._hops.down(batch.hop) and batch.hop not in self._putting_off:
            self._putting_off.add(batch.hop)
            putting = Deferred.fromCoroutine(self._put_off(batch.hop))
            putting.addBoth(lambda _: self._putting_off.discard(batch.hop))
        if again is not None:
            self._due_at(again)
        if self._waiting:
            self.wake()

    async def _put_off(self, hop: str) -> None:
        """Have all that waits for a hop that is down wait until it is tried again."""
        try:
            number = claims.PUT_OFF
            while self._running and number >= claims.PUT_OFF:
                down, until = self._hops.down(hop), self._hops.until(hop)
                if down is None:
                    return
                number = await self._work.transaction(
                    claims.put_off,
                    hop,
                    self._clock.seconds(),
                    until,
                    str(not_tried(down)),
                    self._config.warn_after,
                )
        except Exception:
            _log.failure("{hop}: its mail was not put off", hop=hop)

    async def _renew(self) -> None:
        now = self._clock.seconds()  # the lease counts from here, however long the writing takes
        if not self._active or now < self._renewed + LEASE / 3:
            return
        ids = [entry.id for batch, _ in self._active.values() for entry in batch.entries]
        await self._work.transaction(entries.renew, self.lease(), ids)
        self._renewed = now

    async def _sleep(self, seconds: float) -> None:
        sleeping: Deferred[None] = Deferred()
        self._sleeping = sleeping
        self._alarm = self._clock.callLater(seconds, self.wake)
        await sleeping
        if self._alarm.active():
            self._alarm.cancel()
        self._alarm = None
