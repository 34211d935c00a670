"""The threads where blocking is allowed.

Theory of operation. Five kinds of blocking work do not share threads: the database's writer (one thread,
group commit: whatever waits when it is free goes into its next transaction), its readers, files, password
hashes, and long computation on message text. Only file threads whose files are to get rows write these
themselves, one thread for all whose files are written at the same time. Results come back in batches: one
wake-up of the reactor for all that finished since the last, because a wake-up per result costs more than
most of the work. Each queue is bounded; a full one refuses at once with `Overloaded`, which a peer sees as
4xx or NO.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
P = TypeVar("P")

ENOUGH = 16  # operations that wait for no other to come


class Overloaded(Exception):
    """A queue of work is full: say 4xx or NO, and let the peer come again."""


@dataclass(frozen=True, slots=True)
class WorkConfig:
    """[work] of the configuration file."""

    readers: int = 4  # database read threads
    files: int = 4  # file threads
    hashers: int = 0  # password hash threads; 0: one a core
    batch: int = 200  # operations at most in one commit
    queue: int = 10_000  # waiting operations at most, for each kind of thread


class Transactions(Protocol):
    """What the writer and the readers need of the database (`mailstack.db.Database`)."""

    def read(self, function: Callable[..., T], *args: Any) -> T: ...

    def write_together(self, functions: list[Callable[[Connection], Any]]) -> list[Any]: ...

    def dispose(self) -> None: ...


class Clock(Protocol):
    """What is asked of the reactor's time (IReactorTime)."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any: ...


class FromThread(Protocol):
    """The one thing asked of the reactor."""

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None: ...


class Work(Service):
    """Runs blocking functions in threads and answers in the reactor's thread."""

    def __init__(self, reactor: FromThread, database: Transactions, config: WorkConfig | None = None) -> None:
        config = config or WorkConfig()
        self._database = database
        self._results = _Results(reactor)
        self._writer = _Writer(database, self._results, config)
        limit = config.queue
        self._readers = _Pool("db-read", config.readers, limit, self._results)
        self._files = _Pool("files", config.files, limit, self._results)
        self._hashers = _Pool("hash", config.hashers or os.cpu_count() or 1, limit, self._results)
        self._computers = _Pool("compute", 1, limit, self._results)

    async def transaction(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in the writer's next transaction; return once it is durable."""
        answer: Deferred[T] = Deferred()
        self._writer.put(lambda db: function(db, *args), answer)
        return await answer

    async def prepared(
        self, prepare: Callable[[], P], function: Callable[[Connection, P], T], quick: bool = True
    ) -> T:
        """`prepare()` in a file thread, then `function(db, prepared)` in a transaction: one trip.

        What is `quick` to prepare is waited for by others who are prepared, to share their commit.
        """
        answer: Deferred[T] = Deferred()
        writer = self._writer

        def first() -> None:
            writer.expect(quick)  # not before: it may have waited for a thread behind what takes long
            try:
                value = prepare()
                writer.add(lambda db: function(db, value), answer)
            finally:
                writer.arrived(quick)

        self._files.put(first, answer, answers=False)
        return await answer

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a read transaction."""
        return await self._readers.run(self._database.read, function, *args)

    async def files(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)` where files may be read and written."""
        return await self._files.run(function, *args)

    async def hash(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)` where passwords are hashed and checked."""
        return await self._hashers.run(function, *args)

    async def compute(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(*args)`, long work in pure Python such as a body search, beside everything else."""
        return await self._computers.run(function, *args)

    def startService(self) -> None:
        """Nothing to start: threads come with the first work."""
        super().startService()

    async def close(self) -> None:
        """Finish what is queued, stop the threads, close the database."""
        for pool in (self._files, self._readers, self._hashers, self._computers):
            await pool.close()
        await self._writer.close()
        self._database.dispose()

    def stopService(self) -> Deferred[None]:
        """Called by Twisted when the process ends."""
        super().stopService()
        return Deferred.fromCoroutine(self.close())


class _Results:
    """Brings results to the reactor's thread, all that are there in one call."""

    def __init__(self, reactor: FromThread) -> None:
        self._reactor = reactor
        self._ready: deque[tuple[Deferred[Any], Any]] = deque()
        self._asked = False
        self._lock = threading.Lock()

    def put(self, results: list[tuple[Deferred[Any], Any]]) -> None:
        with self._lock:
            self._ready.extend(results)
            ask, self._asked = not self._asked, True
        if ask:
            self._reactor.callFromThread(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            ready, self._ready = self._ready, deque()
            self._asked = False
        for answer, value in ready:
            if not answer.called:  # cancelled by whoever asked: the work is done, nobody wants to know
                answer.callback(value)


class _Queue:
    """A bounded queue that a thread, or several, take from.

    Each thread that waits has a lock of its own, and whoever began to wait last is woken first: a job wakes
    one thread and no other, the one whose caches are warm. (`SimpleQueue` has one lock, which every thread
    that took a job passes on to the next, who finds nothing.)
    """

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._jobs: deque[Any] = deque()
        self._waiting: list[threading.Lock] = []  # each is released once there may be a job
        self._closed = False

    def put(self, job: Any, wake: bool = True) -> bool:
        """Add a job; return whether a thread was waiting for one, and was woken. Raise Overloaded."""
        if self._closed or len(self._jobs) >= self._limit:
            raise Overloaded(f"{self._name}: {len(self._jobs)} operations are waiting")
        self._jobs.append(job)
        return wake and self.wake()

    def __len__(self) -> int:
        return len(self._jobs)

    def take(self) -> Any | None:
        """The next job, waited for; None once the queue is closed and empty."""
        while True:
            try:
                return self._jobs.popleft()
            except IndexError:
                if self._closed:
                    return None
            self._wait()

    def _wait(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self._waiting.append(lock)
        if self._jobs or self._closed:  # that came before anybody could know that we wait
            try:
                self._waiting.remove(lock)
            except ValueError:
                pass  # somebody does know, and is about to release it
            else:
                return
        lock.acquire()

    def wake(self) -> bool:
        """Wake a thread that waits, if there is one."""
        try:
            self._waiting.pop().release()
        except IndexError:
            return False
        return True

    def take_waiting(self, most: int) -> list[Any]:
        """At most `most` jobs of those that are there."""
        jobs: list[Any] = []
        try:
            while len(jobs) < most:
                jobs.append(self._jobs.popleft())
        except IndexError:
            pass
        return jobs

    def close(self) -> None:
        """Refuse new jobs, and let threads end after the last."""
        self._closed = True
        while self.wake():
            pass


class _Pool:
    """Threads that run functions one by one."""

    def __init__(self, name: str, threads: int, limit: int, results: _Results) -> None:
        self._queue = _Queue(name, limit)
        self._name = name
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._results = results

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        answer: Deferred[T] = Deferred()
        self.put(lambda: function(*args), answer)
        return await answer

    def put(self, job: Callable[[], Any], answer: Deferred[Any], answers: bool = True) -> None:
        """Queue `job`; its value goes to `answer`, or, with `answers` false, only its error does.

        A job for which no thread waits brings one, as long as there may be more.
        """
        if not self._queue.put((job, answer, answers)) and len(self._threads) < self._most:
            self._threads.append(_start(f"{self._name}-{len(self._threads)}", self._run))

    def _run(self) -> None:
        while True:
            taken = self._queue.take()
            if taken is None:
                return
            job, answer, answers = taken
            try:
                value = job()
            except BaseException:
                self._results.put([(answer, Failure())])
            else:
                if answers:
                    self._results.put([(answer, value)])
            del taken, job, answer

    async def close(self) -> None:
        await _close(self._queue, self._threads, self._results)


class _Writer:
    """Writes to the database, one transaction at a time: group commit.

    It has a thread of its own. Operations that come from file threads are written by the thread that brings
    the last one: a hand-over costs more than the rows, and a commit more than ten of them. So who comes while
    others are about to come leaves the commit to them, unless ENOUGH are there.
    """

    def __init__(self, database: Transactions, results: _Results, config: WorkConfig) -> None:
        self._database = database
        self._results = results
        self._batch = config.batch
        self._queue = _Queue("db-write", config.queue)
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._turn = threading.Lock()  # to write
        self._coming = 0  # operations whose files are being written
        self._counting = threading.Lock()

    def expect(self, quick: bool) -> None:
        """An operation will be added, soon if it is `quick`; whatever happens, it is to say `arrived`."""
        with self._counting:
            self._coming += quick

    def add(self, function: Callable[[Connection], Any], answer: Deferred[Any]) -> None:
        """Have it written once those who are expected have `arrived`. Raise Overloaded."""
        self._queue.put((function, answer), wake=False)

    def arrived(self, quick: bool) -> None:
        """Write what waits, in this thread, unless somebody does or comes soon. Blocks."""
        with self._counting:
            self._coming -= quick
        while self._is_time and self._turn.acquire(blocking=False):
            try:
                results = self._commit(self._queue.take_waiting(self._batch))
            finally:
                self._turn.release()
            self._results.put(results)

    @property
    def _is_time(self) -> bool:
        waiting = len(self._queue)
        return waiting > 0 and (self._coming <= 0 or waiting >= ENOUGH)

    def put(self, function: Callable[[Connection], Any], answer: Deferred[Any]) -> None:
        """Have it written by the writer's own thread. Raise Overloaded."""
        self._queue.put((function, answer), wake=False)
        self._wake()

    def _wake(self) -> None:
        if not self._queue.wake() and not self._threads:
            with self._starting:
                if not self._threads:
                    self._threads.append(_start("db-write", self._run))

    def _run(self) -> None:
        while True:
            first = self._queue.take()
            if first is None:
                return
            with self._turn:
                # And what came while somebody else wrote.
                jobs = [first, *self._queue.take_waiting(self._batch - 1)]
                results = self._commit(jobs)
            self._results.put(results)
            del first, jobs, results

    def _commit(self, jobs: list[tuple[Callable[[Connection], Any], Deferred[Any]]]) -> list[tuple[Any, Any]]:
        """The jobs' answers with what each came to. Whatever is raised, everybody is answered."""
        if not jobs:  # somebody was quicker
            return []
        try:
            outcomes = self._database.write_together([function for function, _ in jobs])
        except BaseException:
            failure = Failure()
            return [(answer, failure) for _, answer in jobs]
        return [
            (answer, outcome.value if outcome.error is None else Failure(outcome.error))
            for (_, answer), outcome in zip(jobs, outcomes, strict=True)
        ]

    async def close(self) -> None:
        await _close(self._queue, self._threads, self._results)


def _start(name: str, run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(name=f"mailstack-{name}", target=run, daemon=True)
    thread.start()
    return thread


async def _close(queue: _Queue, threads: list[threading.Thread], results: _Results) -> None:
    queue.close()
    if threads:
        ended: Deferred[None] = Deferred()

        def join() -> None:
            for thread in threads:
                thread.join()
            results.put([(ended, None)])

        _start("closing", join)
        await ended
