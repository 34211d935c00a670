"""What is known of each next hop: how much it takes at once, and whether it can be reached at all.

Theory of operation. A hop begins with a small window of transfers at once; it grows by one for each windowful
of transfers that went well and is halved by a failure (as TCP does, and Postfix's queue). A hop that fails
before anything went well, or LOSSES times in a row, is down: until a time, nothing is sent there and its
mail is deferred with the reason; then one transfer tries it, and each further failure doubles the pause.
Only that nobody could be reached counts as failure: a refused message says that somebody is there. The
memory is this process's own and bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from mailstack.mta.result import Result
from mailstack.mta.settings import MtaConfig

MOST_HOPS = 20_000  # remembered
LONGEST = 3600.0  # seconds that a hop is left alone at most
LOSSES = 3  # in a row, that make a hop down which worked before
_SPREAD = 0.1  # of a pause: what failed together is not tried together


@dataclass(slots=True)
class _Hop:
    window: float
    losses: int = 0  # failures in a row
    worked: bool = False  # something went well since it was last down
    until: float = 0.0  # it is down until then
    reason: Result | None = None


class Hops:
    """The memory. `seconds` is the time, `first` and `most` the bounds of the windows, `pause` in seconds."""

    def __init__(
        self, seconds: Callable[[], float], random: Random, first: int, most: int, pause: float
    ) -> None:
        self._seconds = seconds
        self._random = random
        self._first = min(first, most)
        self._most = most
        self._pause = pause
        self._hops: OrderedDict[str, _Hop] = OrderedDict()

    def window(self, hop: str) -> int:
        """How many transfers may go there at once."""
        known = self._hops.get(hop)
        return self._first if known is None else max(1, int(known.window))

    def down(self, hop: str) -> Result | None:
        """What the last failure was, while the hop is left alone; None: it may be tried."""
        known = self._hops.get(hop)
        return known.reason if known is not None and known.until > self._seconds() else None

    def until(self, hop: str) -> float:
        """When a hop that is down is tried again; 0 where it is not."""
        known = self._hops.get(hop)
        return known.until if known is not None and known.until > self._seconds() else 0.0

    def went_well(self, hop: str) -> None:
        """A transfer reached a server there."""
        known = self._known(hop)
        known.losses = 0
        known.worked = True
        known.until = 0.0
        known.window = min(self._most, known.window + 1 / known.window)

    def went_wrong(self, hop: str, result: Result) -> bool:
        """A transfer reached nobody; whether the hop is down from now on."""
        known = self._known(hop)
        if known.until > self._seconds():
            return False  # one of several that were under way when it went down
        known.losses += 1
        known.window = max(1.0, known.window / 2)
        if known.worked and known.losses < LOSSES:
            return False
        times = known.losses - (LOSSES if known.worked else 1)
        pause = min(LONGEST, self._pause * 2.0 ** min(times, 20))
        known.until = self._seconds() + pause * self._random.uniform(1 - _SPREAD, 1 + _SPREAD)
        known.reason = result
        known.worked = False
        known.window = 1.0
        return True

    def forgive(self, hop: str) -> None:
        """Have a hop that is down tried again now."""
        known = self._hops.get(hop)
        if known is not None:
            known.until = 0.0

    def _known(self, hop: str) -> _Hop:
        known = self._hops.get(hop)
        if known is None:
            known = self._hops[hop] = _Hop(float(self._first))
            if len(self._hops) > MOST_HOPS:
                self._hops.popitem(last=False)
        else:
            self._hops.move_to_end(hop)
        return known


def known_hops(config: MtaConfig, clock: Any, random: Random) -> Hops:
    """The memory of hops as the settings have it."""
    return Hops(clock.seconds, random, config.first_concurrency, config.concurrency_per_hop, config.hop_pause)
