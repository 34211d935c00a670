"""How much mailboxes hold: all who ask in one turn of the reactor share one query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred

from mailstack.store import reading
from mailstack.store.values import Counts
from mailstack.work import Work


class Counting:
    """Collects questions until the turn ends; a change that a thousand sessions watch is read once."""

    def __init__(self, work: Work, clock: Any) -> None:
        self._work = work
        self._clock = clock
        self._ids: set[int] = set()
        self._waiting: list[Deferred[dict[int, Counts]]] = []

    async def counts(self, mailbox_ids: Iterable[int]) -> dict[int, Counts]:
        """Of each of these, as it is after the question; those that are gone are missing."""
        ids = list(mailbox_ids)
        if not self._waiting:
            self._clock.callLater(0.0, self._ask)
        self._ids.update(ids)
        answer: Deferred[dict[int, Counts]] = Deferred()
        self._waiting.append(answer)
        found = await answer
        return {id: found[id] for id in ids if id in found}

    def _ask(self) -> None:
        ids, self._ids = self._ids, set()
        waiting, self._waiting = self._waiting, []
        asked = Deferred.fromCoroutine(self._work.read(reading.counts, sorted(ids)))

        def answer(result: Any) -> None:
            for one in waiting:
                one.callback(result)  # a Failure is raised where it is awaited

        asked.addBoth(answer)
