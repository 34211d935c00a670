"""Writes the queue's rows of many messages together.

Theory of operation. A message passes through the database twice: when it is queued, and when its attempt is
over. While one transaction is under way, all that is to be written next gathers, and becomes one operation
of the next: its rows go in by few statements, whatever the number of messages, so the writer's thread, which
takes turns with the reactor's for the interpreter's lock, has so much less to do. What fails together is
written one by one: a message that cannot be written is nobody else's trouble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailstack.db import sync_directory
from mailstack.mta import entries
from mailstack.mta.entries import NewMessage, Settled
from mailstack.mta.leftovers import Leftovers
from mailstack.mta.suppression import suppress
from mailstack.trail.notes import Note, Notes
from mailstack.work import Overloaded, Work

_log = Logger(namespace="mailstack.queue")

AT_ONCE = 200  # messages in one operation
MOST_WAITING = 10_000  # messages


@dataclass(frozen=True, slots=True)
class Queued:
    """A message came: what goes into its rows, and what the trail says unless it was queued before."""

    message: NewMessage
    notes: Sequence[Note] = ()
    folder: Path | None = None  # where its file is; to be fsynced


@dataclass(frozen=True, slots=True)
class Attempted:
    """An attempt is over: its rows, what the trail says, which addresses do not exist and who says so."""

    settled: Settled
    notes: Sequence[Note] = ()
    hard: Sequence[tuple[str, str]] = ()
    until: float = 0.0  # seconds of the epoch: so long nothing is sent to those


Ids = tuple[int, ...]
_Job = Queued | Attempted


class Ledger:
    """The queue's way into the database; files that no row names any more are left to `leftovers`."""

    def __init__(self, work: Work, trail: Notes, leftovers: Leftovers) -> None:
        self._work = work
        self._trail = trail
        self._leftovers = leftovers
        self._waiting: list[tuple[_Job, Deferred[Ids]]] = []
        self._writing = False

    async def write(self, job: _Job) -> Ids:
        """Write it down; return, once that is durable, the ids of a new message's entries.

        None: it was queued before. Raise Overloaded, or what the database does.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded(f"the queue: {MOST_WAITING} messages are waiting to be written")
        answer: Deferred[Ids] = Deferred()
        self._waiting.append((job, answer))
        if not self._writing:
            self._writing = True
            Deferred.fromCoroutine(self._write_waiting())
        return await answer

    async def write_with_file(self, file: Callable[[], object], job: Queued, quick: bool) -> Ids:
        """As `write`, for a message that has a file, which `file()` makes in a thread. Raise what it does."""

        def write(db: Connection, made: object) -> tuple[list[Ids], list[str]]:
            return _write(db, self._trail, [job])

        return self._written(await self._work.prepared(file, write, quick))[0]

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                some = self._waiting[:AT_ONCE]
                del self._waiting[: len(some)]
                await self._write_some(some)
        finally:
            self._writing = False

    async def _write_some(self, some: Sequence[tuple[_Job, Deferred[Ids]]]) -> None:
        try:
            jobs = [job for job, _ in some]
            results = self._written(await self._work.transaction(_write, self._trail, jobs))
        except Exception as error:
            if len(some) == 1:
                _answer(some[0][1], Failure())
                return
            _log.warn("{n} messages are written one by one: {why}", n=len(some), why=error)
            await gatherResults([Deferred.fromCoroutine(self._write_some([one])) for one in some])
            return
        for (_, answer), ids in zip(some, results, strict=True):
            _answer(answer, ids)

    def _written(self, result: tuple[list[Ids], list[str]]) -> list[Ids]:
        ids, files = result
        for name in files:
            self._leftovers.remove(name)
        return ids


def _answer(answer: Deferred[Ids], value: Ids | Failure) -> None:
    if not answer.called:  # cancelled by whoever asked: it is written, nobody wants to know
        answer.callback(value)


def _write(db: Connection, trail: Notes, jobs: Sequence[_Job]) -> tuple[list[Ids], list[str]]:
    """Write them in one transaction; return what each came to, and files that may go once it is committed."""
    new = [job for job in jobs if isinstance(job, Queued)]
    over = [job for job in jobs if isinstance(job, Attempted)]
    given: dict[int, Ids] = {}
    notes: list[Note] = []
    files: list[str] = []
    if new:
        ids = entries.insert_messages(db, [job.message for job in new])
        given = dict(zip(map(id, new), ids, strict=True))
        notes += [note for job in new if given[id(job)] for note in job.notes]
        files += [name for job in new for name in _sync_or_spare(db, job, bool(given[id(job)]))]
    if over:
        for job in over:
            for address, reason in job.hard:
                suppress(db, address, reason, job.settled.now, job.until)
            notes += job.notes
        files += entries.settle(db, [job.settled for job in over])
    trail.write(db, notes)
    return [given.get(id(job), ()) for job in jobs], files


def _sync_or_spare(db: Connection, new: Queued, is_new: bool) -> list[str]:
    """Have a file's name become durable; of a message that was queued before, a file that is one too many."""
    name = new.message.spool
    if new.folder is None:
        return []
    if not is_new:
        return [name] if entries.spool_file(db, new.message.envelope.id) != name else []
    sync_directory(db, new.folder)
    return []
