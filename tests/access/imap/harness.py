"""IMAP conversations over the real store, in one thread: nothing waits, so transcripts are exact."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

import mailstack.store.tables
from mailstack.access.imap import ImapAccess
from mailstack.access.settings import ImapConfig
from mailstack.db import Database, DatabaseConfig, metadata
from mailstack.directory import User
from mailstack.directory.tables import domains, users
from mailstack.mail.address import Address
from mailstack.mail.message import Message
from mailstack.net.conversation import Conversation
from mailstack.store.message_store import MessageStore
from mailstack.store.settings import StoreConfig
from mailstack.store.values import New, Parcel
from mailstack.wire.imap.server import Server
from tests.databases import made
from tests.net.sign_ins import sign_in_with

assert mailstack.store.tables  # its tables are on `metadata`

PASSWORDS = {"alice@example.test": "secret", "bob@example.test": "sesame"}
MAIL = "mail"
LOOPBACK = (ip_network("127.0.0.0/8"),)
HELLO = b"From: Bob <bob@example.test>\r\nTo: alice@example.test\r\nSubject: hello\r\n\r\nHello, Alice.\r\n"


class SyncWork:
    """`mailstack.work.Work` without threads."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.trips: list[str] = []
        self.failing: dict[str, Exception] = {}  # kind of work to the error it meets

    def _note(self, kind: str) -> None:
        self.trips.append(kind)
        if kind in self.failing:
            raise self.failing[kind]

    async def transaction(self, function: Callable[..., Any], *args: Any) -> Any:
        self._note("transaction")
        return self.database.write(function, *args)

    async def prepared(
        self, prepare: Callable[[], Any], function: Callable[..., Any], quick: bool = True
    ) -> Any:
        self._note("prepared")
        return self.database.write(function, prepare())

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        self._note("read")
        return self.database.read(function, *args)

    async def files(self, function: Callable[..., Any], *args: Any) -> Any:
        self._note("files")
        return function(*args)

    async def hash(self, function: Callable[..., Any], *args: Any) -> Any:
        self._note("hash")
        return function(*args)

    async def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        self._note("compute")
        return function(*args)


class People:
    """A directory of two."""

    def __init__(self, found: dict[str, User]) -> None:
        self.found = found

    async def authenticate(self, login: str, password: str, peer: str = "") -> User | None:
        return self.found.get(login) if PASSWORDS.get(login) == password else None


class Wire(StringTransport):
    """A transport that shows what was written, and can be full."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "127.0.0.1", 40000))
        self.producing = True
        self.tls = False
        self.aborted = False

    def pauseProducing(self) -> None:
        self.producing = False

    def resumeProducing(self) -> None:
        self.producing = True

    def startTLS(self, context: Any) -> None:
        self.tls = True

    def abortConnection(self) -> None:
        self.aborted = True


class Client:
    """One connection."""

    def __init__(self, world: World, session: Server, access: ImapAccess, secure: bool = False) -> None:
        self.world = world
        self.wire = Wire()
        self.conversation = Conversation(session, access, world.clock, secure=secure)
        self.conversation.makeConnection(self.wire)
        world.settle()

    @property
    def closed(self) -> bool:
        return self.wire.disconnecting or self.wire.aborted

    def send(self, data: bytes, one_by_one: bool = False) -> None:
        for piece in [data[i : i + 1] for i in range(len(data))] if one_by_one else [data]:
            self.conversation.dataReceived(piece)
            self.world.settle()

    def heard(self) -> bytes:
        data: bytes = self.wire.value()
        self.wire.clear()
        return data

    def ask(self, command: bytes | str) -> bytes:
        """Send a command line (CRLF added); all that is said until now."""
        data = command.encode() if isinstance(command, str) else command
        self.send(data + b"\r\n")
        return self.heard()

    def login(self, name: str = "alice") -> Client:
        self.heard()
        said = self.ask(f"l LOGIN {name}@example.test {PASSWORDS[name + '@example.test']}")
        assert said.startswith(b"l OK"), said
        return self

    def select(self, name: str = "INBOX") -> Client:
        self.login()
        said = self.ask(f"s SELECT {name}")
        assert b"\r\ns OK" in said, said
        return self

    def lose(self) -> None:
        self.conversation.connectionLost(Failure(ConnectionResetError()))
        self.world.settle()


@functools.cache
def _first_day() -> tuple[bytes, list[Path], dict[Path, bytes]]:
    """The database, the folders and the files of a world as it begins: to write them is twenty times as fast as
    to make them.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        work = SyncWork(Database(DatabaseConfig(url=f"sqlite:///{root / 'mailstack.db'}")))
        metadata.create_all(work.database.engine)
        _add_people(work.database)
        store = MessageStore(StoreConfig(path=root / MAIL), work, Clock())  # type: ignore[arg-type]
        for number, _ in enumerate(PASSWORDS, 1):
            done = Deferred.fromCoroutine(store.provision(number))
            assert done.called
        work.database.dispose()
        folders = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_dir())
        files = {
            path.relative_to(root): path.read_bytes() for path in (root / MAIL).rglob("*") if path.is_file()
        }
        return (root / "mailstack.db").read_bytes(), folders, files


def _add_people(database: Database) -> None:
    values = {"domain_id": 1, "password_hash": "x", "enabled": True, "created": 0}
    with database.engine.begin() as db:
        db.execute(insert(domains).values(id=1, name="example.test", created=0))
        for number, address in enumerate(PASSWORDS, 1):
            db.execute(insert(users).values(id=number, address=address, **values))


class World:
    """A store, a directory and a clock."""

    def __init__(
        self,
        config: ImapConfig | None = None,
        quota: tuple[int | None, int | None] = (None, None),
        url: str | None = None,  # of an empty database; else one of its own
        **store: Any,  # settings of the store
    ) -> None:
        shared = Path("/dev/shm")
        self.path = Path(tempfile.mkdtemp(prefix="mailstack-test-", dir=shared if shared.is_dir() else None))
        self._lent = contextlib.ExitStack()
        if url is None:
            one = self._lent.enter_context(made("sqlite"))
            self.database = one.database
            content, folders, files = _first_day()
            one.fill(content)
            for path in folders:
                (self.path / path).mkdir()
            for path, data in files.items():
                (self.path / path).write_bytes(data)
        else:
            self.database = Database(DatabaseConfig(url=url))
            self._lent.callback(self.database.dispose)
            metadata.create_all(self.database.engine)
            _add_people(self.database)
        self.work: Any = SyncWork(self.database)
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self._settings = store
        self.store = self._store()
        self.people = {
            name: User(number, Address.parse(name), *quota) for number, name in enumerate(PASSWORDS, 1)
        }
        for user in self.people.values():
            self.run(self.store.provision(user.id))
        self.config = config or ImapConfig()

    def limit(self, name: str, octets: int | None, messages: int | None) -> None:
        """Give somebody a quota: their next login knows of it."""
        user = self.people[name]
        self.people[name] = replace(user, quota_octets=octets, quota_messages=messages)
        with self.database.engine.begin() as db:
            row = update(users).where(users.c.id == user.id)
            db.execute(row.values(quota_octets=octets, quota_messages=messages))

    def _store(self) -> MessageStore:
        return MessageStore(StoreConfig(path=self.path / MAIL, **self._settings), self.work, self.clock)

    def limit_mailboxes(self, most: int) -> None:
        """Start again with a lower limit."""
        self.store = MessageStore(
            StoreConfig(path=self.path / MAIL, max_mailboxes=most), self.work, self.clock
        )

    def restart(self) -> None:
        """Another process takes over: nothing is in memory."""
        self.store.stopService()
        self.store = self._store()

    @property
    def alice(self) -> User:
        return self.people["alice@example.test"]

    def settle(self) -> None:
        """Let everything run that is due now."""
        for _ in range(10_000):
            due = [call for call in self.clock.getDelayedCalls() if call.getTime() <= self.clock.seconds()]
            if not due:
                return
            self.clock.advance(0)
        raise AssertionError("it never ends")

    def run(self, coroutine: Awaitable[Any]) -> Any:
        """The coroutine's result; it must need no more than the clock as it is."""
        results: list[Any] = []
        Deferred.fromCoroutine(coroutine).addBoth(results.append)  # type: ignore[arg-type]
        self.settle()
        assert results, "the coroutine still waits"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def access(self, *, plaintext: bool = True, offers_tls: bool = True) -> ImapAccess:
        return ImapAccess(
            self.store,
            sign_in_with(People(self.people), self.clock, LOOPBACK if plaintext else ()),
            self.config,
            clock=self.clock,
            work=self.work,
            hostname="mail.example.test",
            offers_tls=offers_tls,
        )

    def connect(self, *, plaintext: bool = True, secure: bool = False, offers_tls: bool = True) -> Client:
        return Client(self, Server(), self.access(plaintext=plaintext, offers_tls=offers_tls), secure)

    def deliver(self, *messages: bytes, mailbox: str = "INBOX", flags: Iterable[str] = ()) -> list[Any]:
        """As the MDA does."""
        self._delivered = getattr(self, "_delivered", 0)
        parcels = []
        for data in messages:
            self._delivered += 1
            name = f"delivery-{self._delivered}"
            parcels.append(Parcel(self.alice.id, mailbox, Message.of(data), name, frozenset(flags)))
        done: list[Any] = self.run(self.store.deliver(parcels))
        for each in done:
            if isinstance(each, Exception):
                raise each
        return done

    def append(
        self,
        data: bytes,
        mailbox: str = "INBOX",
        flags: Iterable[str] = (),
        date: int | None = None,
        zone: int = 0,
    ) -> int:
        """As APPEND does; the UID."""
        new = [New(Message.of(data), frozenset(flags), date, zone)]
        return self.run(self.store.append(self.alice.id, mailbox, new)).uids[0]

    def close(self) -> None:
        self._lent.close()
        shutil.rmtree(self.path, ignore_errors=True)


def converse(client: Client, text: str, one_by_one: bool = False) -> None:
    """Run a transcript: ``C:`` lines are sent, ``S:`` lines must be all that is said; ``...`` is any text."""
    steps: list[tuple[list[str], list[str]]] = []
    for line in (line.strip() for line in text.strip().splitlines()):
        kind, words = line[:2], line[3:]
        if kind == "C:":
            if not steps or steps[-1][1]:
                steps.append(([], []))
            steps[-1][0].append(words)
        elif kind == "S:":
            if not steps:
                steps.append(([], []))
            steps[-1][1].append(words)
        else:
            raise AssertionError(f"neither C: nor S: {line!r}")
    for sent, expected in steps:
        client.send("".join(f"{line}\r\n" for line in sent).encode("utf-8"), one_by_one)
        said = client.heard().decode("utf-8").split("\r\n")
        assert said.pop() == "", "the last line has no end"
        fits = len(said) == len(expected) and all(map(_fits, expected, said))
        shown = "expected:\n  " + "\n  ".join(expected) + "\nsaid:\n  " + "\n  ".join(said)
        assert fits, f"after {sent!r}\n{shown}"


def _fits(expected: str, said: str) -> bool:
    pattern = ".*".join(map(re.escape, expected.split("...")))
    return re.fullmatch(pattern, said, re.DOTALL) is not None
