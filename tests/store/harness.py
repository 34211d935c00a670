"""A message store on a real database and real files, its threads replaced by doing everything at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, inspect
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

import mailstack.directory.tables as directory
from mailstack.db import Database, metadata
from mailstack.mail.message import Message
from mailstack.store.indexer import index_of
from mailstack.store.maildir import base_of, list_files
from mailstack.store.message_store import MessageStore
from mailstack.store.rows import box_by_name
from mailstack.store.settings import StoreConfig
from mailstack.store.tables import messages
from mailstack.store.values import Delivered, New, Parcel

T = TypeVar("T")
_numbers = itertools.count(1)


class Crash(BaseException):
    """The process ends here: nothing after it runs, not even what undoes."""


class InlineWork:
    """`Work` without threads."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.trips = 0
        self.before_commit: Callable[[], None] | None = None

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        self.trips += 1
        return self.database.read(function, *args)

    async def transaction(self, function: Callable[..., T], *args: Any) -> T:
        self.trips += 1

        def run(db: Connection) -> T:
            value = function(db, *args)
            if self.before_commit is not None:
                self.before_commit()
            return value

        return self.database.write(run)

    async def prepared(
        self, prepare: Callable[[], Any], function: Callable[[Connection, Any], T], quick: bool = True
    ) -> T:
        value = prepare()
        return await self.transaction(function, value)

    async def files(self, function: Callable[..., T], *args: Any) -> T:
        self.trips += 1
        return function(*args)

    compute = files


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine that waits for nothing; its error is raised."""
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    assert found, "it waits for something"
    if isinstance(found[0], Failure):
        found[0].raiseException()
    value: T = found[0]
    return value


def text(number: int = 0, size: int = 0) -> bytes:
    """A small message; `number` tells it from others."""
    head = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: number %d\r\n\r\n" % number
    return head + b"body %d\r\n" % number + b"x" * size


class Harness:
    """A store with users alice (1) and bob (2)."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.root = folder / "mail"
        self.root.mkdir()
        if not database.read(_has_tables):
            metadata.create_all(database.engine)
        database.write(_add_users)
        self.restart()

    def restart(self, **settings: Any) -> None:
        """As after a new start of the process, with other settings: the database and the files stay."""
        self.work = InlineWork(self.database)
        self.clock = Clock()
        config = StoreConfig(path=self.root, **settings)
        self.index = index_of(self.database)
        self.store = MessageStore(config, self.work, self.clock, index=self.index)  # type: ignore[arg-type]

    def settle_clock(self) -> None:
        """Let every directory look as if it had not changed for long: two stat calls are believed then."""
        self.store._opened._marks.clear()

    def deliver(self, number: int = 0, user: int = 1, mailbox: str = "INBOX", **options: Any) -> Delivered:
        """One message, which must be taken."""
        options.setdefault("delivery", f"d{next(_numbers)}")
        parcel = Parcel(user, mailbox, Message.of(text(number)), **options)
        [outcome] = now(self.store.deliver([parcel]))
        assert isinstance(outcome, Delivered), outcome
        return outcome

    def append(
        self, numbers: Iterable[int], mailbox: str = "INBOX", flags: Iterable[str] = ()
    ) -> tuple[int, ...]:
        """Several messages."""
        new = [New(Message.of(text(number)), frozenset(flags), 1_600_000_000 + number) for number in numbers]
        return now(self.store.append(1, mailbox, new)).uids

    def path(self, mailbox: str = "INBOX", user: int = 1) -> Path:
        """A mailbox's directory."""
        return self.database.read(lambda db: box_by_name(db, user, mailbox, False).path(self.root))

    def files(self, mailbox: str = "INBOX") -> list[str]:
        """The files of new/ and cur/, sorted."""
        return sorted(list_files(self.path(mailbox)).values())

    def letters(self, mailbox: str = "INBOX") -> list[str]:
        """What the files' names say of flags, by base name; those in new/ say None."""
        return [name.partition(":2,")[2] for name in sorted(self.files(mailbox), key=base_of)]

    def contents(self, mailbox: str = "INBOX", user: int = 1) -> dict[int, bytes]:
        """All messages of a mailbox by UID, read the way a session reads them."""
        live = now(self.store.open(user, mailbox))
        view = live.view(read_only=True)
        try:
            return {uid: now(live.body(uid)) for uid in view.uids}
        finally:
            view.close()
            live.close()

    def flags(self, mailbox: str = "INBOX") -> dict[int, set[str]]:
        """The flags of all messages of a mailbox by UID."""
        live = now(self.store.open(1, mailbox))
        try:
            entries = [live.entry(uid) for uid in live.view(read_only=True).uids]
            return {entry.uid: set(entry.flags) for entry in entries if entry}
        finally:
            live.close()

    def upkeep(self) -> None:
        """Everything that follows later, now."""
        now(self.store.upkeep.catch_up())

    def check(self) -> None:
        """Counters agree with rows; files agree with rows."""

        def look(db: Connection) -> None:
            rows = db.execute(messages.select()).all()
            for user in (1, 2):
                for info in now(self.store.mailboxes(user)):
                    mine = [row for row in rows if row.mailbox_id == info.id]
                    assert info.messages == len(mine)
                    assert info.unseen == sum(1 for row in mine if not row.flags & 8)
                    assert info.octets == sum(row.size for row in mine)
                    if info.selectable:
                        path = box_by_name(db, user, info.name, False).path(self.root)
                        assert {row.name for row in mine} <= set(list_files(path))

        for user in (1, 2):
            boxes = now(self.store.mailboxes(user))
            used = now(self.store.usage(user))
            assert used.messages == sum(info.messages for info in boxes)
            assert used.octets == sum(info.octets for info in boxes)
        self.database.read(look)


def _has_tables(db: Connection) -> bool:
    return inspect(db).has_table(directory.users.name)


def _add_users(db: Connection) -> None:
    db.execute(insert(directory.domains).values(id=1, name="example.org", created=0))
    for number, name in enumerate(("alice", "bob"), 1):
        db.execute(
            insert(directory.users).values(
                id=number,
                domain_id=1,
                address=f"{name}@example.org",
                password_hash="",
                enabled=True,
                created=0,
            )
        )
