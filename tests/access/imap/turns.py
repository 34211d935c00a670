"""A server whose threads work only when they are told to: the order of all that runs at once is chosen.

Theory of operation. A job of `mailstack.work` has two moments: it is done in its thread, and its outcome reaches
the reactor. Between them, and before both, anything else may happen. `Turns` keeps jobs until one is chosen,
then keeps outcomes until one is chosen; only what one real thread does in order keeps its order. A `Host` is a
server process, a `Stage` is one or two of them on one database and one folder, with a clock of their own.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mailstack.access.imap import ImapAccess
from mailstack.access.pop3 import Pop3Access
from mailstack.access.settings import ImapConfig, Pop3Config
from mailstack.db import Database, DatabaseConfig, Ear
from mailstack.db.announcements import announce
from mailstack.net.conversation import Conversation
from mailstack.store.message_store import MessageStore
from mailstack.store.news import by
from mailstack.store.settings import StoreConfig
from mailstack.wire import pop3
from mailstack.wire.imap.server import Server
from tests.access.imap.harness import LOOPBACK, People, Wire, World
from tests.net.sign_ins import sign_in_with

Committed = Callable[[Any], object]  # told who has committed
Choice = Callable[[], None]


@dataclass(slots=True, eq=False)
class Job:
    """Something for a thread, asked for by `by` (see `store.news.by`)."""

    run: Callable[[], Any]
    answer: Deferred[Any]
    by: Any
    then: Callable[[Any], Any] | None = None  # a file thread's: what it writes to the database afterwards


class Turns:
    """`mailstack.work.Work`, one step at a time."""

    def __init__(self, database: Database, committed: Committed) -> None:
        self._database = database
        self._committed = committed
        self._jobs: list[Job] = []  # of pools: any thread takes any
        self._writes: deque[Job] = deque()  # of the writer's one thread
        self._written: deque[tuple[Job, Any]] = deque()
        self._done: list[tuple[Job, Any]] = []

    def choices(self) -> list[Choice]:
        """What may happen next."""
        found: list[Choice] = [lambda job=job: self._start(job) for job in self._jobs]  # type: ignore[misc]
        if self._writes:
            found.append(self._write)
        if self._written:
            found.append(lambda: self._hand_over(*self._written.popleft()))
        found += [lambda pair=pair: self._hand_over_one(pair) for pair in self._done]  # type: ignore[misc]
        return found

    async def transaction(self, function: Callable[..., Any], *args: Any) -> Any:
        job = Job(lambda: self._database.write(function, *args), Deferred(), by.get())
        self._writes.append(job)
        return await job.answer

    async def prepared(
        self, prepare: Callable[[], Any], function: Callable[..., Any], quick: bool = True
    ) -> Any:
        def write(value: Any) -> Any:
            return self._database.write(function, value)

        return await self._pooled(prepare, write)

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._pooled(lambda: self._database.read(function, *args))

    async def files(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._pooled(lambda: function(*args))

    compute = hash = files

    async def _pooled(self, run: Callable[[], Any], then: Callable[[Any], Any] | None = None) -> Any:
        job = Job(run, Deferred(), by.get(), then)
        self._jobs.append(job)
        return await job.answer

    def _start(self, job: Job) -> None:
        self._jobs.remove(job)
        value, then = _outcome(job.run), job.then
        if then is None or isinstance(value, Failure):
            self._done.append((job, value))
            return
        job.run = lambda: then(value)
        if self._writes:  # as `work` has it: whoever finds the writer idle writes at once
            self._writes.append(job)
        else:
            self._done.append((job, self._commit(job)))

    def _write(self) -> None:
        job = self._writes.popleft()
        self._written.append((job, self._commit(job)))

    def _commit(self, job: Job) -> Any:
        value = _outcome(job.run)
        self._committed(job.by)
        return value

    def _hand_over_one(self, pair: tuple[Job, Any]) -> None:
        self._done.remove(pair)
        self._hand_over(*pair)

    def _hand_over(self, job: Job, value: Any) -> None:
        if not job.answer.called:
            job.answer.callback(value)


def _outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception:
        return Failure()


class Ticks(Clock):
    """A clock that knows what is to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(1_790_000_000)
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    @property
    def is_due(self) -> bool:
        """Whether something is to be called now."""
        return any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())


class Link:
    """A client's connection, to `Conversation` and no further."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.wire = Wire()
        conversation.makeConnection(self.wire)

    @property
    def role(self) -> Any:
        """Who answers."""
        return self.conversation._role

    @property
    def closed(self) -> bool:
        return bool(self.wire.disconnecting or self.wire.aborted)

    def send(self, data: bytes) -> None:
        self.conversation.dataReceived(data)

    def heard(self) -> bytes:
        data: bytes = self.wire.value()
        self.wire.clear()
        return data

    def lose(self) -> None:
        self.conversation.connectionLost(Failure(ConnectionResetError()))


class Heard:
    """What a process hears of the others, and how far it has heard: see `Stage.drain`."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear
        self.calls = 0
        self.closed = False

    def fileno(self) -> int:
        return self._ear.fileno()

    def hear(self) -> list[str]:
        lines = self._ear.hear()
        self.calls += lines.count("call")
        return [line for line in lines if line != "call"]

    def close(self) -> None:
        self.closed = True
        self._ear.close()


class Host:
    """One server process."""

    def __init__(self, world: World, clock: Ticks, committed: Committed, alone: bool) -> None:
        self.clock = clock
        url = world.database.url.render_as_string(hide_password=False)
        self.database = Database(DatabaseConfig(url))
        self.turns = turns = Turns(self.database, committed)
        work: Any = turns
        config = StoreConfig(path=world.path / "mail", poll=2.0 if alone else 86_400.0, index=False)
        self.heard: Heard | None = None
        listen = None if alone else self._listen
        self.store = MessageStore(config, work, clock, listen=listen)
        sign_in = sign_in_with(People(world.people), clock, LOOPBACK)
        self._imap = ImapAccess(self.store, sign_in, ImapConfig(), clock=clock, work=work)
        self._pop3 = Pop3Access(self.store, sign_in, Pop3Config(), clock=clock, work=work)
        self.store.startService()

    def _listen(self) -> Heard:
        self.heard = Heard(self.database.listen())
        return self.heard

    def imap(self) -> Link:
        return Link(Conversation(Server(), self._imap, self.clock))

    def pop3(self) -> Link:
        return Link(Conversation(pop3.Server(), self._pop3, self.clock))


class Stage:
    """All hosts; whoever chooses, chooses here."""

    def __init__(self, world: World, hosts: int, committed: Committed) -> None:
        self.world = world
        self.clock = Ticks()
        self._commits = 0
        self._committed = committed
        self.hosts = [Host(world, self.clock, self._count, hosts == 1) for _ in range(hosts)]

    def _count(self, by: Any) -> None:
        self._commits += 1
        self._committed(by)

    def choices(self) -> list[Choice]:
        """What may happen next, in any process."""
        found = [choice for host in self.hosts for choice in host.turns.choices()]
        if self.clock.is_due:
            found.append(lambda: self.clock.advance(0))
        if self.clock.readers:
            ready, _, _ = select.select(self.clock.readers, [], [], 0)
            found += [reader.doRead for reader in ready]
        return found

    def drain(self, look: Callable[[], None] = lambda: None) -> None:
        """Until nothing is left to do now, in order; `look` after each step.

        What SQLite's processes tell each other is there with the commit. PostgreSQL brings it a moment later, but
        in order: when a call that was sent last has come, all has come.
        """
        commits = -1
        while commits != self._commits:
            commits = self._commits
            self._drain(look)
            listening = [
                host.heard for host in self.hosts if host.heard is not None and not host.heard.closed
            ]
            if self.world.database.is_sqlite or not listening:
                return
            until = [heard.calls + 1 for heard in listening]
            self.world.database.write(lambda db: announce(db, "call"))
            while any(heard.calls < least for heard, least in zip(listening, until, strict=True)):
                assert select.select(self.clock.readers, [], [], 60)[0], "the database does not tell"
                self._drain(look)

    def _drain(self, look: Callable[[], None]) -> None:
        for _ in range(20_000):
            choices = self.choices()
            if not choices:
                return
            choices[0]()
            look()
        raise AssertionError("it never ends")

    def run(self, coroutine: Any) -> Any:
        """Its outcome, with everything drained on the way."""
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)
        self.drain()
        assert results, "the coroutine still waits"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def close(self) -> None:
        for host in self.hosts:
            host.store.stopService()
        self.drain()
        for host in self.hosts:
            host.database.dispose()
