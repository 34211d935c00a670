"""Which messages the last changes of a mailbox concern: views that are nearly up to date look at few."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mailstack.store.news import Change, uids_of

_LENGTH = 200  # changes remembered; a view further behind looks at every row
_UIDS = 5_000  # messages in one remembered change at most


class ChangeLog:
    """The last changes of one mailbox."""

    def __init__(self, modseq: int) -> None:
        self._changes: deque[tuple[int, list[int]]] = deque()
        self._from = modseq  # it is whole after this modseq

    def note(self, change: Change) -> None:
        """Remember a change, which continues those before."""
        if len(change.rows) > _UIDS:
            self._changes.clear()
            self._from = change.modseq
        elif change.rows:
            self._changes.append((change.modseq, uids_of(change.rows)))
            if len(self._changes) > _LENGTH:
                self._from = self._changes.popleft()[0]

    def since(self, modseq: int) -> Iterable[int] | None:
        """The UIDs of messages new or changed after `modseq`, ascending; None where it is not known."""
        if modseq < self._from:
            return None
        found: set[int] = set()
        for at, uids in reversed(self._changes):
            if at <= modseq:
                break
            found.update(uids)
        return sorted(found)
