"""A moment that moves often and is seldom reached: a connection's patience."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime


class Deadline:
    """Calls `reached` when the seconds last `set` are over.

    It has one timer, which is moved only where it would fire too late: most deadlines are put off before
    they come, and a timer made and canceled for each would cost more than the command it waits for.
    """

    def __init__(self, clock: IReactorTime, reached: Callable[[], None]) -> None:
        self._clock = clock
        self._reached = reached
        self._moment = 0.0
        self._timer: Any = None

    def set(self, seconds: float) -> None:
        """So many seconds from now, whatever it was before."""
        self._moment = self._clock.seconds() + seconds
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        elif self._timer.getTime() > self._moment:
            # Not `reset`: to move a timer forward, Twisted looks for it among all that there are.
            self._timer.cancel()
            self._timer = self._clock.callLater(seconds, self._look)

    def cancel(self) -> None:
        """Never, unless it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        left = self._moment - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._reached()
