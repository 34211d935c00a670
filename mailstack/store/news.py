"""News of a mailbox's changes: the one narrow way from whoever changed it to whoever has it open.

In memory now. News may be lost or come from another process: a `Change` that does not continue what a
listener knows makes it read the database again, so that nothing depends on the news arriving.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

_log = Logger()

Row = tuple[int, int, int, int, int, int]  # id, flag bits, modseq, internal date, zone, size


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


class News:
    """Publishes changes to the listeners of a mailbox. Only in the reactor's thread."""

    def __init__(self) -> None:
        self._listeners: dict[int, list[Callable[[Change], None]]] = {}
        self.always: list[Callable[[Change], None]] = []  # told of every mailbox's changes

    def publish(self, change: Change) -> None:
        """Tell every listener, at once."""
        for listener in (*self._listeners.get(change.mailbox_id, ()), *self.always):
            try:
                listener(change)
            except Exception:
                _log.failure("a listener to mailbox {id} failed", id=change.mailbox_id)

    def subscribe(self, mailbox_id: int, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` with every change of that mailbox until the returned function is called."""
        self._listeners.setdefault(mailbox_id, []).append(listener)

        def unsubscribe() -> None:
            listeners = self._listeners.get(mailbox_id, [])
            if listener in listeners:
                listeners.remove(listener)
            if not listeners:
                self._listeners.pop(mailbox_id, None)

        return unsubscribe
