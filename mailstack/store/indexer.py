"""Takes mail into the full-text indexes, beside everything else: a little at a time."""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailstack.db import Database
from mailstack.store.file_index import FileIndex
from mailstack.store.index import Hits, Needle, Scope, Source, TextIndex, can_be_asked
from mailstack.store.mailboxes import usage_of
from mailstack.store.maildir import relative
from mailstack.store.news import Change
from mailstack.store.rows import MAILDIR, Box, box_by_id
from mailstack.store.tables import UID_MASK, mailboxes, message_id, messages
from mailstack.store.trigram_index import TrigramIndex
from mailstack.store.values import NoSuchMailbox
from mailstack.work import Overloaded, Work

_log = Logger()

BATCH = 50  # messages looked at in one trip
SECONDS = 0.05  # of work in one trip: a search waits no longer for its turn
_REST = 1.0  # of the time spent: rest as long as you worked
_SLACK = 1_000  # messages expunged since they were taken in that are always left


def index_of(database: Database) -> TextIndex:
    """The kind of index that goes with a database."""
    return FileIndex() if database.is_sqlite else TrigramIndex(database)


def scope_of(root: Path, box: Box) -> Scope:
    """Where a mailbox's texts are."""
    return Scope(root / box.home / MAILDIR, box.id, box.uidvalidity)


def find_scope(db: Connection, root: Path, mailbox_id: int) -> Scope:
    """The same by the mailbox's id. Raise NoSuchMailbox."""
    return scope_of(root, box_by_id(db, mailbox_id, lock=False))


def following(db: Connection, root: Path, mailbox_id: int, mark: int, most: int = BATCH) -> list[Source]:
    """The messages after a mark, ascending. Raise NoSuchMailbox."""
    path = box_by_id(db, mailbox_id, lock=False).path(root)
    query = (
        select(messages.c.id, messages.c.name, messages.c.disk_info, messages.c.is_new)
        .where(messages.c.id.between(message_id(mailbox_id, mark + 1), message_id(mailbox_id, UID_MASK)))
        .order_by(messages.c.id)
        .limit(most)
    )
    return [
        Source(row.id & UID_MASK, path, row.name, relative(row.name, row.disk_info, row.is_new))
        for row in db.execute(query)
    ]


def is_worn(db: Connection, mailbox_id: int, taken: int) -> list[int]:
    """The mailboxes to be taken in anew, where most of what was taken in is expunged."""
    box = box_by_id(db, mailbox_id, lock=False)
    if taken <= 2 * usage_of(db, box.user_id).messages + _SLACK:
        return []
    query = select(mailboxes.c.id).where(mailboxes.c.user_id == box.user_id, mailboxes.c.selectable)
    return list(db.execute(query).scalars())


class Indexer:
    """One mailbox after the other. In the reactor's thread; the work is done in the thread for long work."""

    def __init__(
        self, index: TextIndex, root: Path, work: Work, clock: Any, enabled: bool, delay: float
    ) -> None:
        self.enabled = enabled
        self._index = index
        self._root = root
        self._work = work
        self._clock = clock
        self._delay = delay
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._marks: dict[int, int] = {}  # what is known of how far each mailbox is
        self._call: Any = None
        self._running = False
        self._stopped = True

    def hear(self, change: Change) -> None:
        """News of a mailbox: what came in is taken in soon, once the mailbox has been searched.

        To take a message in costs as much as to deliver it: who never searches never pays.
        """
        if change.gone:
            self._marks.pop(change.mailbox_id, None)
        elif change.rows and change.mailbox_id in self._marks:
            if change.rows[-1][0] & UID_MASK > self._marks[change.mailbox_id]:
                self.want(change.mailbox_id)

    def want(self, mailbox_id: int) -> None:
        """Look soon whether something of that mailbox is to be taken in."""
        if not self.enabled or self._stopped:
            return
        self._waiting[mailbox_id] = None
        if self._call is None and not self._running:
            self._call = self._clock.callLater(self._delay, self._begin)

    def start(self) -> None:
        """Work when there is work."""
        self._stopped = False

    def stop(self) -> None:
        """No more; what is not done is found again by the next search."""
        self._stopped = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def candidates(self, mailbox_id: int, needle: Needle, last: int) -> Hits | None:
        """What the index knows of a needle, as `TextIndex.search` has it; None where it cannot tell.

        `last`: the highest UID.
        """
        if not self.enabled or not can_be_asked(needle):
            return None
        try:
            scope = await self._work.read(find_scope, self._root, mailbox_id)
            hits = await self._work.files(self._index.search, scope, needle)
            if hits is None or hits.mark < last:
                self.want(mailbox_id)
            return hits
        except (OSError, NoSuchMailbox) as error:
            _log.warn("the index of mailbox {id} cannot be asked: {error}", id=mailbox_id, error=error)
            return None

    async def catch_up(self) -> None:
        """Take in all that waits."""
        self._running = True
        try:
            while self._waiting and not self._stopped:
                mailbox_id, _ = self._waiting.popitem(last=False)
                await self._take_in(mailbox_id)
        finally:
            self._running = False

    async def _take_in(self, mailbox_id: int) -> None:
        try:
            scope = await self._work.read(find_scope, self._root, mailbox_id)
            if not await self._work.files(self._index.prepare):
                self.enabled = False
                return
            mark = await self._work.files(self._index.mark_of, scope)
            while not self._stopped:
                sources = await self._work.read(following, self._root, mailbox_id, mark)
                if not sources:
                    break
                started = time.monotonic()
                mark = await self._work.compute(self._index.take_in, scope, mark, sources, SECONDS)
                await deferLater(self._clock, (time.monotonic() - started) * _REST)
            self._marks[mailbox_id] = mark
            await self._work.files(self._index.settle, scope)
            await self._renew(scope)
        except NoSuchMailbox:
            pass
        except (OSError, Overloaded) as error:
            _log.warn("mailbox {id} is not indexed now: {error}", id=mailbox_id, error=error)

    async def _renew(self, scope: Scope) -> None:
        taken = await self._work.files(self._index.taken, scope)
        worn = await self._work.read(is_worn, scope.mailbox_id, taken)
        if worn:
            await self._work.files(self._index.discard, scope.maildir, worn)
            for mailbox_id in worn:
                self._marks.pop(mailbox_id, None)
                self._waiting[mailbox_id] = None

    def _begin(self) -> None:
        self._call = None
        if not self._running:
            running = Deferred.fromCoroutine(self.catch_up())
            running.addErrback(lambda failure: _log.failure("the index failed", failure))
