"""Writes the trail, behind everything else.

Theory of operation. Whoever sees something happen says so with `note`, which appends to a list and returns. A
second later all that is in the list becomes one operation of the writer's next transaction. What belongs to
rows that are written anyhow (an entry's queueing, an attempt's end) goes into their own transaction instead.
While the database cannot be written, the list grows to a bound; then notes are lost, and the log says how
many: mail matters more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.trail import rows
from mailstack.trail.notes import Note, key_of
from mailstack.trail.settings import TrailConfig

_log = Logger(namespace="mailstack.trail")

T = TypeVar("T")

DELAY = 1.0  # seconds that notes gather
MOST_WAITING = 20_000  # notes in memory
AT_ONCE = 2000  # notes in one operation
PRUNE_EVERY = 600.0  # seconds


class Writes(Protocol):
    """What is needed of `mailstack.work.Work`."""

    async def transaction(self, function: Callable[..., T], *args: Any) -> T: ...


class Trail(Service):
    """Writes down what happens to messages; see `Notes`. `clock` is the reactor."""

    def __init__(self, config: TrailConfig, work: Writes, clock: Any) -> None:
        self._keep = config.keep
        self._work = work
        self._clock = clock
        self._waiting: list[Note] = []
        self._lost = 0
        self._call: Any = None
        self._writing: Deferred[None] | None = None
        self._pruning = LoopingCall(self._prune)
        self._pruning.clock = clock

    def note(
        self,
        id: str,
        event: str,
        address: Address | str | None = None,
        message_id: str | None = None,
        **detail: Any,
    ) -> None:
        """Write down, soon, that `event` happened to the message of the envelope `id`."""
        if not self._keep:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(Note(self._clock.seconds(), id, event, key_of(address), message_id, detail))
        if self._call is None and self._writing is None:
            self._call = self._clock.callLater(DELAY, self._begin)

    def write(self, db: Connection, notes: Sequence[Note]) -> None:
        """Write down what happened in the transaction that `db` is in. Blocking."""
        if self._keep:
            rows.write(db, notes)

    def startService(self) -> None:
        """Begin to prune what is older than it is kept."""
        super().startService()
        self._pruning.start(PRUNE_EVERY, now=True)

    def stopService(self) -> Deferred[None]:
        """Write what waits."""
        super().stopService()
        if self._pruning.running:
            self._pruning.stop()
        return Deferred.fromCoroutine(self.flush())

    async def flush(self) -> None:
        """Write all that waits, now; what cannot be written is lost."""
        if self._writing is not None:
            ended: Deferred[None] = Deferred()
            self._writing.chainDeferred(ended)
            await ended
        if self._call is not None:
            self._call.cancel()
            self._call = None
        await self._write()

    def _begin(self) -> None:
        self._call = None
        self._writing = Deferred.fromCoroutine(self._write())
        self._writing.addCallback(lambda _: self._written())

    def _written(self) -> None:
        self._writing = None
        if self._waiting and self._call is None:
            self._call = self._clock.callLater(DELAY, self._begin)

    async def _write(self) -> None:
        if self._lost:
            _log.error("{n} notes are lost: too many waited", n=self._lost)
            self._lost = 0
        while self._waiting:
            some = self._waiting[:AT_ONCE]
            try:
                await self._work.transaction(rows.write, some)
            except Exception as error:
                _log.warn("{n} notes wait to be written: {why}", n=len(self._waiting), why=error)
                return
            del self._waiting[: len(some)]

    async def _prune(self) -> None:
        before = self._clock.seconds() - self._keep
        try:
            while self.running and await self._work.transaction(rows.prune, before) >= rows.SLICE:
                pass
        except Exception as error:
            _log.warn("the trail is not pruned: {why}", why=error)
