"""A start of the product on what a power cut has left, in this process, and what it finds then.

The same code runs as in a server: every mailbox is opened, what is behind catches up, the queue's folder is swept.
One `Database` serves state after state, at the same path: to make one takes longer than all the rest.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select
from twisted.internet.task import Clock

import mailstack.directory.tables as directory
from mailstack.db import Database, DatabaseConfig
from mailstack.mta.leftovers import Leftovers
from mailstack.mta.spool import Spool
from mailstack.mta.tables import queue_entries, queue_messages
from mailstack.store import check, maildir, tables
from mailstack.store.flags import Keywords
from mailstack.store.message_store import MessageStore
from mailstack.store.packing import Text
from mailstack.store.rows import box_by_id, keywords_of
from mailstack.store.settings import StoreConfig
from tests.store.harness import InlineWork, now

_SUBJECT = re.compile(rb"^Subject: (\S+)\r\n", re.MULTILINE)
_STORE = (
    tables.message_facts,
    tables.messages,
    tables.expunged,
    tables.keywords,
    tables.subscriptions,
    tables.discarded,
    tables.mailboxes,
    tables.usage,
)


@dataclass(frozen=True, slots=True)
class Found:
    """A message in a mailbox."""

    mailbox: str
    uidvalidity: int
    uid: int
    flags: frozenset[str]
    content: bytes

    @property
    def token(self) -> str:
        """Its subject, if that is one word."""
        match = _SUBJECT.search(self.content.partition(b"\r\n\r\n")[0] + b"\r\n")
        return "" if match is None else match[1].decode()


@dataclass(slots=True)
class World:
    """What a start has found."""

    messages: dict[str, list[Found]] = field(default_factory=dict)  # by user
    boxes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)  # UIDVALIDITY, UIDNEXT
    queue: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by queue id and recipient
    problems: list[str] = field(default_factory=list)


class Recovery:
    """Starts on the folder `data`, whatever lies there at the time."""

    def __init__(self, data: Path, **settings: Any) -> None:
        self._data = data
        self._settings = settings
        self._database = Database(DatabaseConfig(url=f"sqlite:///{data / 'mailstack.db'}"))
        self._work = InlineWork(self._database)

    def start(self) -> World:
        """As after a power cut."""
        world = World()
        try:
            store = self._store()
            users = self._users()
            self._recover(store, users)
            self._look(store, users, world)
            self._queue(world)
        finally:
            self._database.dispose()
        return world

    def rebuild(self) -> World:
        """The same where the index is lost as well."""
        world = World()
        self.forget()
        try:
            store = self._store()
            users = self._users()
            for user_id in users.values():
                now(store.provision(user_id))
            self._look(store, users, world)
        finally:
            self._database.dispose()
        return world

    def forget(self) -> None:
        """Let the index be lost."""
        try:
            self._database.write(_forget)
        finally:
            self._database.dispose()

    def _store(self) -> MessageStore:
        config = StoreConfig(path=self._data / "mail", **self._settings)
        return MessageStore(config, self._work, Clock())  # type: ignore[arg-type]

    def _users(self) -> dict[str, int]:
        def read(db: Connection) -> dict[str, int]:
            rows = db.execute(select(directory.users.c.address, directory.users.c.id))
            return {address.partition("@")[0]: id for address, id in rows}

        return self._database.read(read)

    def _recover(self, store: MessageStore, users: dict[str, int]) -> None:
        for _ in range(2):  # what the first look has found may be behind
            for user_id in users.values():
                for info in now(store.mailboxes(user_id)):
                    if info.selectable:
                        now(store.open(user_id, info.name)).close()
            now(store.upkeep.catch_up())
        spool = self._data / "spool" / "queue"
        if spool.exists():
            leftovers = Leftovers(self._work, Spool(spool))  # type: ignore[arg-type]
            now(leftovers.sweep(float("inf"), lambda: True))

    def _look(self, store: MessageStore, users: dict[str, int], world: World) -> None:
        root = self._data / "mail"
        for user, user_id in users.items():
            found = self._database.read(check.check_user, root, user_id, lambda more: None)
            world.problems += [f"{user}: {one.mailbox}: {one.kind}: {one.detail}" for one in found]
            infos = [info for info in now(store.mailboxes(user_id)) if info.selectable]
            world.boxes[user] = {info.name: (info.uidvalidity, info.uidnext) for info in infos}
            world.messages[user] = [
                message
                for info in infos
                for message in self._database.read(_messages, root, info.id, info.name, info.uidvalidity)
            ]

    def _queue(self, world: World) -> None:
        spool = Spool(self._data / "spool" / "queue")

        def read(db: Connection) -> None:
            query = select(queue_entries.c.message_id, queue_entries.c.recipient, queue_messages)
            for row in db.execute(query.join(queue_messages)):
                content = row.content
                if content is None:
                    content = spool.message(row.spool, row.size).read()
                world.queue[row.message_id, row.recipient] = content

        self._database.read(read)


def _messages(db: Connection, root: Path, mailbox_id: int, name: str, uidvalidity: int) -> list[Found]:
    path = box_by_id(db, mailbox_id, lock=False).path(root)
    known: Keywords = keywords_of(db, mailbox_id)
    found = []
    query = select(tables.messages).where(tables.messages.c.mailbox_id == mailbox_id)
    for row in db.execute(query.order_by(tables.messages.c.id)):
        with Text(path / maildir.relative(row.name, row.disk_info, row.is_new)) as text:
            content = b"".join(text.chunks())
        uid = row.id & tables.UID_MASK
        found.append(Found(name, uidvalidity, uid, known.flags(row.flags), content))
    return found


def _forget(db: Connection) -> None:
    for table in _STORE:
        db.execute(delete(table))


def damage(database: Path) -> Iterator[str]:
    """What SQLite says is wrong with a database; opens it, and so does what a start does first."""
    with sqlite3.connect(database) as db:
        rows = db.execute("PRAGMA integrity_check").fetchall()
        if rows != [("ok",)]:
            yield from (f"integrity_check: {row[0]}" for row in rows)
        yield from (f"foreign_key_check: {row}" for row in db.execute("PRAGMA foreign_key_check"))
    db.close()
