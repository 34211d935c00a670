"""Answers remembered for a short while, so that a busy recipient or login costs no trip to a thread."""

from __future__ import annotations

from typing import Generic, TypeVar

from mailstack.work import Clock

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most `most` answers, each for `seconds`; the oldest makes room."""

    def __init__(self, clock: Clock, seconds: float, most: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._answers: dict[K, tuple[float, V]] = {}

    def get(self, key: K) -> V | None:
        """The answer, or None where there is none or it is too old."""
        found = self._answers.get(key)
        if found is None:
            return None
        until, answer = found
        if until <= self._clock.seconds():
            del self._answers[key]
            return None
        return answer

    def put(self, key: K, answer: V) -> None:
        """Remember `answer` from now on."""
        if self._seconds <= 0:
            return
        self._answers.pop(key, None)  # a dict keeps the place of a key that it has: the newest goes last
        while len(self._answers) >= self._most:
            del self._answers[next(iter(self._answers))]
        self._answers[key] = (self._clock.seconds() + self._seconds, answer)

    def drop(self, key: K) -> None:
        """Forget one answer."""
        self._answers.pop(key, None)

    def forget(self) -> None:
        """Drop every answer."""
        self._answers.clear()

    def __len__(self) -> int:
        return len(self._answers)
