"""Removes the spool files of messages that are done with, several in one trip to a thread."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.mta.spool import Spool
from mailstack.work import Work

_log = Logger(namespace="mailstack.queue")


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
