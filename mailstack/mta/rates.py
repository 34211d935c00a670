"""How fast mail may go to one hop: [mta] messages_per_minute."""

from __future__ import annotations

from collections.abc import Mapping

_MOST = 10_000  # hops remembered


class Rates:
    """Counts what was started; times are seconds of any clock."""

    def __init__(self, per_minute: Mapping[str, int], routes: Mapping[str, str]) -> None:
        # A domain that has a route is known by that, and so is all else that goes there.
        self._per_minute = {routes.get(name, name): most for name, most in per_minute.items() if name != "*"}
        self._others = per_minute.get("*")
        self._started: dict[str, tuple[float, float]] = {}  # hop: messages that may go, as of when

    def left(self, hop: str, now: float) -> int | None:
        """How many messages may go to `hop` now; None: there is no limit."""
        limit = self._limit(hop)
        return None if limit is None else int(self._room(hop, limit, now))

    def start(self, hop: str, now: float) -> None:
        """One goes."""
        limit = self._limit(hop)
        if limit is not None:
            self._started[hop] = (self._room(hop, limit, now) - 1, now)
            if len(self._started) > _MOST:
                del self._started[next(iter(self._started))]

    def most(self, hop: str) -> int:
        """How many may go at once: ten seconds' share."""
        return max(1, (self._limit(hop) or 0) // 6)

    def _limit(self, hop: str) -> int | None:
        return self._per_minute.get(hop, self._others)

    def _room(self, hop: str, limit: int, now: float) -> float:
        most = float(self.most(hop))
        room, since = self._started.get(hop, (most, now))
        return min(most, room + (now - since) * limit / 60.0)
