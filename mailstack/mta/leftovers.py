"""Removes spool files that no row names: of messages that are done with, and what a crash left."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.mta import entries
from mailstack.mta.spool import Spool
from mailstack.work import Work

_log = Logger(namespace="mailstack.queue")

_CHECKED = 500  # spool files looked up at once


class Leftovers:
    """The files that no row names any more: nobody waits for their end."""

    def __init__(self, work: Work, spool: Spool) -> None:
        self._work = work
        self._spool = spool
        self._names: list[str] = []
        self._removing: Deferred[None] | None = None

    def remove(self, name: str) -> None:
        """Have a file removed soon; what cannot be removed now, the next start of the process removes."""
        self._names.append(name)
        if self._removing is None:
            removing = self._removing = Deferred.fromCoroutine(self._remove_all())
            removing.addBoth(lambda _: self._ended())

    async def sweep(self, before: float, go_on: Callable[[], bool]) -> None:
        """Remove files that a crash left between their writing, which was before `before`, and their row.

        Raise OSError, Overloaded, or what the database does.
        """
        for folder in await self._work.files(self._spool.folders):
            names = await self._work.files(self._spool.older_than, before, folder)
            for start in range(0, len(names), _CHECKED):
                if not go_on():
                    return
                some = names[start : start + _CHECKED]
                wanted_still = await self._work.read(entries.known, some)
                for name in some:
                    if name not in wanted_still:
                        await self._work.files(self._spool.remove, name)
                        _log.info("removed a spool file without a message: {name}", name=name)

    async def close(self) -> None:
        """Wait until all are removed."""
        if self._removing is not None:
            ended: Deferred[None] = Deferred()
            self._removing.addBoth(lambda _: ended.callback(None))
            await ended

    def _ended(self) -> None:
        self._removing = None

    async def _remove_all(self) -> None:
        while self._names:
            names, self._names = self._names, []
            try:
                await self._work.files(self._spool.remove, *names)
            except Exception as error:  # the disk fails, or too much waits for it
                _log.warn("{n} spool files stay for now: {why}", n=len(names), why=error)
