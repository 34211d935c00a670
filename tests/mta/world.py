"""A queue with everything around it scripted: directory, MDA, next hops, time; the database is real."""

from __future__ import annotations

import email
import shutil
import tempfile
from collections.abc import Callable
from email.message import Message as Parsed
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

import mailstack.directory.tables
import mailstack.store.tables  # noqa: F401
from mailstack.directory import Local, Resolution, User
from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.mta import verbs
from mailstack.mta.queue import Queue
from mailstack.mta.routes import Routes
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transfer import Result
from mailstack.work import Work
from tests.databases import made
from tests.running import PATIENCE

OK = Reply(250, "2.0.0", "taken")
LATER = Reply(451, "4.2.0", "not now")
NEVER = Reply(550, "5.1.1", "no such user")
START = 1_000_000_000.0
TEXT = b"Subject: hello\r\nMessage-ID: <1@a.test>\r\n\r\nhello\r\n"


def addr(text: str) -> Address:
    """`text` as an address."""
    return Address.parse(text)


class Directory:
    """a.test is ours; whoever is in `users` or `aliases` exists."""

    def __init__(self) -> None:
        self.users = {"alice", "bob", "carol"}
        self.aliases: dict[str, tuple[str, ...]] = {}
        self.broken = False

    async def is_local(self, domain: str) -> bool:
        if self.broken:
            raise OSError("the database is gone")
        return domain == "a.test"

    async def resolve(self, address: Address) -> Resolution | None:
        if address.local_part in self.users:
            return Resolution((Local(User(1, address, None, None), address, None),), ())
        targets = self.aliases.get(address.local_part)
        if targets is None:
            return None
        locals_ = [addr(target) for target in targets if target.endswith("@a.test")]
        return Resolution(
            tuple(Local(User(1, one, None, None), one, None) for one in locals_),
            tuple(addr(target) for target in targets if not target.endswith("@a.test")),
        )


class Hand:
    """Takes messages as `says` tells: a reply, or something to call, by address; OK otherwise."""

    def __init__(self) -> None:
        self.says: dict[str, Any] = {}
        self.got: list[tuple[str, str, tuple[str, ...], bytes]] = []  # hop, id, recipients, content
        self.envelopes: list[Envelope] = []
        self.before: Callable[[], Any] | None = None
        self.dsn = False
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.most_in_all = 0
        self.hold: list[Deferred[None]] | None = None

    async def take(self, hop: str, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        self.running[hop] = self.running.get(hop, 0) + 1
        self.most[hop] = max(self.most.get(hop, 0), self.running[hop])
        self.most_in_all = max(self.most_in_all, sum(self.running.values()))
        try:
            if self.before is not None:
                await self.before()
            if self.hold is not None:
                waiting: Deferred[None] = Deferred()
                self.hold.append(waiting)
                await waiting
            self.envelopes.append(envelope)
            names = tuple(str(one.address) for one in envelope.recipients)
            self.got.append((hop, envelope.id, names, message.read()))
            replies = {}
            for one in envelope.recipients:
                reply = self.says.get(str(one.address), OK)
                replies[one.address] = reply() if callable(reply) else reply
            return replies
        finally:
            self.running[hop] -= 1


class Mda(Hand):
    """The local side."""

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        return await self.take("local", envelope, message)


class Transfer(Hand):
    """The remote side."""

    def hop(self, domain: str, sender: Address | None = None) -> str:
        return domain

    async def send(self, hop: str, envelope: Envelope, message: Message) -> dict[Address, Result]:
        replies = await self.take(hop, envelope, message)
        return {
            one: Result(reply, f"mx.{hop}[192.0.2.1]:25", "TLSv1.3", f"mx.{hop}", self.dsn)
            for one, reply in replies.items()
        }


class World(TestCase):
    """The base of the queue's tests; `kind` chooses the database."""

    kind = "sqlite"
    timeout = PATIENCE

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.database = self.enterContext(made(self.kind)).database
        self.work = Work(reactor, self.database)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.work.close()))
        self.clock = Clock()
        self.clock.advance(START)
        self.directory, self.mda, self.transfer = Directory(), Mda(), Transfer()
        self.addCleanup(self.work_settled)
        self.queues: list[Queue] = []
        self.queue = self.make()

    def make(self, work: Any = None, **options: Any) -> Queue:
        """A queue on our database; the tests that call it again play a process that starts anew."""
        work = work or self.work
        queue = Queue(
            MtaConfig(**options),
            work,
            Routes(self.directory, self.mda, self.transfer),
            self.clock,
            hostname="mail.a.test",
            spool=self.folder / "spool",
            random=Random(1),
        )
        self.queues.append(queue)
        return queue

    def start(self, queue: Queue | None = None) -> None:
        """Run it until the test ends."""
        queue = queue or self.queue
        queue.startService()
        self.addCleanup(queue.stopService)

    def work_settled(self) -> Deferred[None]:
        """Nothing is under way any more."""
        for hand in (self.mda, self.transfer):
            held, hand.hold = hand.hold or [], None
            for one in held:
                one.callback(None)
        return deferLater(reactor, 0, lambda: None)

    async def send(
        self,
        *recipients: str | Recipient,
        sender: str | None = "alice@a.test",
        id: str = "q1",
        **options: Any,
    ) -> dict[str, Reply]:
        """Hand a message to the queue; the replies."""
        queue = options.pop("queue", self.queue)
        to = tuple(Recipient(addr(one)) if isinstance(one, str) else one for one in recipients)
        envelope = Envelope(id, None if sender is None else addr(sender), to, **options)
        replies = await queue.accept(envelope, Message.of(TEXT))
        return {str(address): reply for address, reply in replies.items()}

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Let the threads work until `condition()`; trial's own time-out ends what never comes."""
        while not (value := condition()):
            await deferLater(reactor, 0.002, lambda: None)
        return value

    def entries(self) -> list[verbs.QueueEntry]:
        """What is in the queue."""
        return self.database.read(verbs.list_entries)

    def files(self) -> list[str]:
        """What is in the spool."""
        return sorted(path.name for path in (self.folder / "spool").rglob("*") if path.is_file())

    async def pass_time(self, seconds: float) -> None:
        """Let the clock run, and have the queues look at what is due then."""
        self.clock.advance(seconds)
        for queue in self.queues:
            queue.wake()
        await deferLater(reactor, 0, lambda: None)

    def bounce(self, hand: Hand, number: int = -1) -> tuple[Envelope, Parsed]:
        """A notification that `hand` got."""
        found = [
            (envelope, got[3])
            for envelope, got in zip(hand.envelopes, hand.got, strict=True)
            if envelope.reverse_path is None
        ]
        envelope, content = found[number]
        parsed = email.message_from_bytes(content)
        assert parsed.get_content_type() == "multipart/report"
        return envelope, parsed

    def bounces(self, hand: Hand) -> int:
        """How many notifications `hand` got."""
        return sum(envelope.reverse_path is None for envelope in hand.envelopes)


def fields(report: Parsed) -> list[Parsed]:
    """The groups of fields of a notification."""
    parts: Any = report.get_payload()
    groups: list[Parsed] = parts[1].get_payload()
    return groups
