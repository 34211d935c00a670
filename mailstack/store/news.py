"""News of changes: the one narrow way from whoever made them to whoever has to know.

News may be lost or come from another process: a `Change` that does not continue what a listener knows makes
it read the database again, so that nothing depends on the news arriving. `by` is whoever makes the changes
that the running coroutine makes; it says so itself, and can leave out its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from mailstack.store.tables import UID_MASK

_log = Logger()

by: ContextVar[object | None] = ContextVar("by", default=None)

Row = tuple[int, int, int, int, int, int]  # id, flag bits, modseq, internal date, zone, size


def uids_of(rows: Iterable[Row]) -> list[int]:
    """The UIDs of rows."""
    return [row[0] & UID_MASK for row in rows]


@dataclass(frozen=True, slots=True)
class Later:
    """Which messages have flags that a client was not told: looked for in slices, where they may be many."""

    modseq: int  # what came after that
    silenced: Mapping[int, int]  # but for these UIDs, where only what came after these modseqs
    last: int  # the last UID that the client knew

    def among(self, rows: Iterable[Row]) -> list[int]:
        """The UIDs of those of some messages."""
        known = self.modseq
        newer = [(row[0] & UID_MASK, row[2]) for row in rows if row[2] > known]
        silenced, last = self.silenced, self.last
        return [uid for uid, modseq in newer if uid <= last and modseq > silenced.get(uid, 0)]


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction did to a mailbox: it was at modseq `since` and is at `modseq` now."""

    mailbox_id: int
    since: int
    modseq: int
    rows: tuple[Row, ...] = ()  # new messages and those with new flags, as they are now
    expunged: tuple[int, ...] = ()  # UIDs
    present: frozenset[int] | None = None  # all UIDs, where those expunged are no longer known
    keywords: tuple[tuple[int, str], ...] | None = None  # all of them, where some are new
    gone: bool = False  # the mailbox was deleted
    renamed: str | None = None  # its new name

    @property
    def topic(self) -> Hashable:
        """What its listeners subscribe to: the mailbox's id."""
        return self.mailbox_id


@dataclass(frozen=True, slots=True)
class Listed:
    """The mailboxes that a user sees, what they may do there, or their subscriptions, have changed.

    Those who see some of that user's mailboxes are concerned too. None: every user.
    """

    user_id: int | None

    @property
    def topic(self) -> Hashable:
        """What its listeners subscribe to."""
        return "list", self.user_id


@dataclass(frozen=True, slots=True)
class Noted:
    """Annotations of a mailbox, or with None of the server, were set or removed (RFC 5464)."""

    mailbox_id: int | None
    user_id: int | None  # who alone sees them; None: all do
    entries: tuple[str, ...]  # whole names

    @property
    def topic(self) -> Hashable:
        """What its listeners subscribe to."""
        return "notes", self.mailbox_id


Item = Change | Listed | Noted


class News:
    """Publishes changes to those who subscribe to their topic. Only in the reactor's thread."""

    def __init__(self) -> None:
        self._listeners: dict[Hashable, list[Callable[[Any], None]]] = {}
        self.always: list[Callable[[Change], None]] = []  # told of every mailbox's changes

    def publish(self, item: Item) -> None:
        """Tell every listener, at once."""
        listeners = [*self._listeners.get(item.topic, ())]
        if isinstance(item, Change):
            listeners += self.always
        for listener in listeners:
            try:
                listener(item)
            except Exception:
                _log.failure("a listener to {topic} failed", topic=item.topic)

    def mailboxes(self) -> list[int]:
        """The ids of the mailboxes that somebody listens to."""
        return [topic for topic in self._listeners if isinstance(topic, int)]

    def subscribe(self, topic: Hashable, listener: Callable[[Any], None]) -> Callable[[], None]:
        """Call `listener` with every item of that topic until the returned function is called."""
        self._listeners.setdefault(topic, []).append(listener)

        def unsubscribe() -> None:
            listeners = self._listeners.get(topic, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                self._listeners.pop(topic, None)

        return unsubscribe
