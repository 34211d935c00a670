"""The mailboxes that are loaded: each once, for all its sessions, and true to what others do to it.

Theory of operation. A mailbox is loaded when it is first opened and stays so for a while after its last use,
because clients come back. Whoever opens it, and a look around every few seconds, compares it with the
database, which other processes write, and with its directories, which other programs may. The times of the
directories say whether there is anything to compare.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.store import adoption, reading, surveying
from mailstack.store.mailbox import Mailbox, Surroundings
from mailstack.store.news import Change, News
from mailstack.store.rows import Box
from mailstack.store.settings import StoreConfig
from mailstack.store.values import NoSuchMailbox, StoreError
from mailstack.work import Overloaded, Work

_log = Logger(namespace="mailstack.store")

_MARKS = 10_000  # mailboxes whose directories' times are remembered
_POLLED = 500  # ids in one query


class Opened:
    """The loaded mailboxes of one store."""

    around: Surroundings  # of each; the store sets it

    def __init__(self, config: StoreConfig, root: Path, work: Work, clock: Any, news: News) -> None:
        self._config = config
        self._root = root
        self._work = work
        self._clock = clock
        self._news = news
        self._open: dict[int, Mailbox] = {}
        self._idle: OrderedDict[int, float] = OrderedDict()  # loaded but unused, since when
        self._loading: dict[int, list[Deferred[None]]] = {}
        self._marks: OrderedDict[int, surveying.Marks] = OrderedDict()

    async def open(self, box: Box) -> Mailbox:
        """The live mailbox of a row, what other programs did taken over. Raise NoSuchMailbox, OSError."""
        while box.id in self._loading:
            waiter: Deferred[None] = Deferred()
            self._loading[box.id].append(waiter)
            await waiter
        mailbox = self._open.get(box.id)
        if mailbox is not None:
            mailbox.uses += 1  # before the first wait: it must not be dropped meanwhile
            self._idle.pop(box.id, None)
        try:
            return await (self._loaded(box) if mailbox is None else self._freshened(mailbox, box))
        except BaseException:
            if mailbox is not None:
                self.released(mailbox)
            raise

    async def scan(self, mailbox_id: int) -> None:
        """Take over what other programs did to a mailbox's files. Raise NoSuchMailbox, OSError."""
        try:
            found = await surveying.look(self._work, self._root, mailbox_id, self._marks.get(mailbox_id))
        except FileNotFoundError:  # deleted while we look, or lost
            await self._work.read(reading.directory, self._root, mailbox_id)
            raise
        self._marks[mailbox_id] = found.marks
        self._marks.move_to_end(mailbox_id)
        if len(self._marks) > _MARKS:
            self._marks.popitem(last=False)
        if found.unknown or found.missing:
            await self._settle(mailbox_id, found)
        elif found.is_dear:
            await self._note(mailbox_id, found.marks)

    def released(self, mailbox: Mailbox) -> None:
        """A use has ended."""
        mailbox.uses -= 1
        if mailbox.uses > 0:
            return
        self._idle[mailbox.id] = self._clock.seconds()
        self._idle.move_to_end(mailbox.id)
        if mailbox.deleted or len(self._idle) > self._config.keep_mailboxes:
            self._drop(mailbox.id if mailbox.deleted else next(iter(self._idle)))

    def forget(self, mailbox_id: int) -> None:
        """It is deleted; who uses it has heard of that."""
        self._marks.pop(mailbox_id, None)
        if mailbox_id in self._idle:
            self._drop(mailbox_id)

    def doubted(self, mailbox_id: int) -> None:
        """A file was not where it should be: the next look at the directories is a thorough one."""
        self._marks[mailbox_id] = surveying.DOUBT

    async def look_around(self) -> None:
        """What other processes and programs did to the mailboxes that are open here."""
        oldest = self._clock.seconds() - self._config.keep
        for mailbox_id in [key for key, since in self._idle.items() if since <= oldest]:
            self._drop(mailbox_id)
        boxes = [box for box in self._open.values() if box.id not in self._idle and not box.deleted]
        for start in range(0, len(boxes), _POLLED):
            some = boxes[start : start + _POLLED]
            modseqs = await self._work.read(reading.modseqs, [box.id for box in some])
            marks = await self._work.files(surveying.marks_of, [box.directory for box in some])
            for box, times in zip(some, marks, strict=True):
                if modseqs.get(box.id) != box.highest_modseq or times != self._marks.get(box.id):
                    await self._look_at(box)

    async def _freshened(self, mailbox: Mailbox, box: Box) -> Mailbox:
        if box.modseq > mailbox.highest_modseq:
            await mailbox.refresh()
        await self.scan(mailbox.id)
        if mailbox.deleted:
            raise NoSuchMailbox(mailbox.name)
        return mailbox

    async def _loaded(self, box: Box) -> Mailbox:
        self._loading[box.id] = []
        try:
            await self.scan(box.id)
            early: list[Change] = []  # news that come while we read
            unsubscribe = self._news.subscribe(box.id, early.append)
            try:
                mailbox = Mailbox(await self._work.read(reading.load, box.id), self.around)
            finally:
                unsubscribe()
            self._open[box.id] = mailbox
            mailbox.uses += 1
            for change in early:
                mailbox.hear(change)
            if mailbox.deleted:
                self.released(mailbox)
                raise NoSuchMailbox(mailbox.name)
            return mailbox
        finally:
            for waiter in self._loading.pop(box.id):
                waiter.callback(None)

    async def _settle(self, mailbox_id: int, found: surveying.Survey) -> None:
        """Take over what was found, a part at a time."""
        directory = await self._work.read(reading.directory, self._root, mailbox_id)
        doubtful = bool(found.missing)
        for start in range(0, max(len(found.unknown), 1), adoption.ROUND):
            paths = found.unknown[start : start + adoption.ROUND]
            files = await self._work.files(adoption.examine, directory, paths) if paths else []
            if not files and not doubtful:
                continue  # nothing that we can read
            wanted = (files, doubtful, int(time.time()))
            change = await self._work.transaction(adoption.settle, self._root, mailbox_id, *wanted)
            doubtful = False
            if change is not None:
                self._news.publish(change)
                self.around.behind()

    async def _note(self, mailbox_id: int, marks: surveying.Marks) -> None:
        try:
            await self._work.transaction(surveying.note, mailbox_id, marks)
        except (Overloaded, OSError, DBAPIError) as error:  # the next process looks once more, that is all
            _log.warn("what mailbox {id} was seen to hold is not noted: {error}", id=mailbox_id, error=error)

    def _drop(self, mailbox_id: int) -> None:
        self._idle.pop(mailbox_id, None)
        mailbox = self._open.pop(mailbox_id, None)
        if mailbox is not None:
            mailbox.unsubscribe()

    async def _look_at(self, mailbox: Mailbox) -> None:
        try:
            await mailbox.refresh()
            if not mailbox.deleted:
                await self.scan(mailbox.id)
        except NoSuchMailbox:
            pass  # deleted: its sessions hear of that
        except (StoreError, OSError) as error:
            _log.warn("mailbox {id} could not be looked at: {error}", id=mailbox.id, error=error)
