"""What other processes change in the same store, heard at once (see `db.announcements`), as news.

Theory of operation. A line says which mailbox is at which modseq, whose list has changed, which annotations.
It becomes news without rows, at which a mailbox that is open here reads the index again, and whoever watches
looks. While nothing happens nothing is done, however many sessions there are. Where something may have been
missed, every mailbox that somebody listens to is looked at; and the looks every `store.poll` seconds stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailstack.db import EVERYTHING, Ear
from mailstack.store import reading
from mailstack.store.news import Change, Item, Listed, News, Noted
from mailstack.work import Overloaded, Work

_log = Logger(namespace="mailstack.store")

RETRY = 5.0  # seconds until we try to listen again
TOGETHER = 0.2  # seconds in which what was missed is looked for once
_ASKED = 500  # ids in one query


@implementer(IReadDescriptor)
class Peers:
    """Listens to the other processes on our database."""

    def __init__(self, listen: Callable[[], Ear], news: News, work: Work, reactor: Any) -> None:
        self._listen = listen
        self._news = news
        self._work = work
        self._reactor = reactor
        self._ear: Ear | None = None
        self._later: Any = None  # the call that tries again
        self._looking: Any = None  # the call that looks at everything
        self._stopped = True
        self._missed = False  # there was a time in which nobody listened

    def start(self) -> None:
        """Begin to listen."""
        self._stopped = False
        self._begin()

    def stop(self) -> None:
        """Listen no more."""
        self._stopped = True
        for call in (self._later, self._looking):
            if call is not None:
                call.cancel()
        self._later = self._looking = None
        self._close()

    # What the reactor calls

    def fileno(self) -> int:
        """What to watch."""
        return -1 if self._ear is None else self._ear.fileno()

    def logPrefix(self) -> str:
        """A name for the reactor's log."""
        return "peers"

    def doRead(self) -> None:
        """Something was announced."""
        if self._ear is None:
            return
        try:
            lines = self._ear.hear()
        except OSError as error:
            _log.warn("cannot hear other processes: {error}; trying again", error=error)
            self._close()
            self._try_again()
            return
        for item in self._items(lines):
            self._news.publish(item)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
        self._close()

    # Inside

    def _begin(self) -> None:
        self._later = None
        Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        try:
            ear = await self._work.files(self._listen)
        except (OSError, Overloaded) as error:
            if not self._missed:
                _log.warn("cannot listen to other processes: {error}; trying again", error=error)
            self._try_again()
            return
        if self._stopped:
            ear.close()
            return
        self._ear = ear
        self._reactor.addReader(self)
        self._missed = False
        self._look_at_all()  # what happened before somebody listened

    def _try_again(self) -> None:
        self._missed = True
        if not self._stopped:
            self._later = self._reactor.callLater(RETRY, self._begin)

    def _close(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            self._reactor.removeReader(self)
            ear.close()

    def _items(self, lines: Sequence[str]) -> list[Item]:
        """The lines as news, of each mailbox its last modseq only."""
        mailboxes: dict[int, Change] = {}
        others: dict[Item, None] = {}
        for line in lines:
            if line == EVERYTHING:
                self._look_at_all()
                continue
            try:
                item = parse(line)
            except (ValueError, IndexError):
                _log.warn("another process said what we do not understand: {line}", line=line[:100])
                continue
            if not isinstance(item, Change) or item.gone or item.renamed is not None:
                others[item] = None
            elif item.mailbox_id not in mailboxes or mailboxes[item.mailbox_id].modseq < item.modseq:
                mailboxes[item.mailbox_id] = item
        return [*others, *mailboxes.values()]

    def _look_at_all(self) -> None:
        """Something was missed: all who listen look for themselves, soon, however often it is said."""
        if self._looking is None:
            self._looking = self._reactor.callLater(TOGETHER, self._look)

    def _look(self) -> None:
        self._looking = None
        self._news.publish(Listed(None))
        Deferred.fromCoroutine(self._doubt(self._news.mailboxes())).addErrback(
            lambda failure: _log.failure("the mailboxes could not be looked at", failure)
        )

    async def _doubt(self, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), _ASKED):
            some = ids[start : start + _ASKED]
            found = await self._work.read(reading.modseqs, some)
            for id in some:
                modseq = found.get(id)
                gone = modseq is None
                self._news.publish(Change(id, modseq or 0, modseq or 0, gone=gone))


def parse(line: str) -> Item:
    """One line as news. Raise ValueError, IndexError."""
    kind, *words = line.split(" ")
    match kind:
        case "mailbox":
            return Change(int(words[0]), int(words[1]), int(words[1]))
        case "gone":
            return Change(int(words[0]), 0, 0, gone=True)
        case "renamed":
            return Change(int(words[0]), 0, 0, renamed=unquote(words[1]))
        case "list":
            return Listed(_id(words[0]))
        case "notes":
            return Noted(_id(words[0]), _id(words[1]), (words[2],))
    raise ValueError(kind)


def _id(word: str) -> int | None:
    return None if word == "-" else int(word)
