"""A wait for somebody else's code that ends when its time is over, whatever that code does.

Theory of operation. A coroutine that takes too long is canceled, as `Deferred.addTimeout` does it. But it
can catch that, and wait for something else: then who waits for it waits on. Here the two are apart: who waits
hears that the time is over, and what the coroutine still comes to is nobody's any more.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger(namespace="mailstack.policy")

T = TypeVar("T")


class Bounded(Generic[T]):
    """One call. `name` is what the log calls it."""

    def __init__(self, name: str, call: Coroutine[Deferred[Any], Any, T]) -> None:
        self._name = name
        self._answer: Deferred[T] = Deferred()
        self._over = False
        self._asked = Deferred.fromCoroutine(call)
        self._asked.addBoth(self._heard)

    async def within(self, seconds: float, clock: IReactorTime) -> T:
        """What it returns; raise what it raises, or TimeoutError."""
        if self._answer.called:
            return await self._answer
        timer = clock.callLater(seconds, self._give_up)
        try:
            return await self._answer
        finally:
            if timer.active():
                timer.cancel()

    def _give_up(self) -> None:
        self._over = True
        self._asked.cancel()  # it may still say something to that, and that counts
        if not self._answer.called:
            _log.error("{check} does not stop when it is canceled: it is left alone", check=self._name)
            self._answer.errback(TimeoutError())

    def _heard(self, result: T | Failure) -> None:
        if isinstance(result, Failure):
            result = self._as_error(result)
        if not self._answer.called:
            self._answer.callback(result)  # a Failure makes it an errback
        elif isinstance(result, Failure):
            _log.failure("{check} failed after its time was over", result, check=self._name)

    def _as_error(self, failure: Failure) -> Failure:
        """What ends a program or another framework's task ends no session of ours."""
        if self._over and failure.check(CancelledError):
            return Failure(TimeoutError())
        if not isinstance(failure.value, Exception):
            return Failure(RuntimeError(f"it raised {type(failure.value).__name__}"))
        return failure
