"""Which messages the last changes of a mailbox concern: views that are nearly up to date look at few."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mailstack.store.news import Change, uids_of

_LENGTH = 200  # changes remembered; a view further behind looks at every row
_UIDS = 5_000  # messages in them at most


class ChangeLog:
    """The last changes of one mailbox."""

    def __init__(self, modseq: int) -> None:
        self._changes: deque[tuple[int, list[int]]] = deque()
        self._uids = 0  # in all of them
        self._from = modseq  # it is whole after this modseq

    def note(self, change: Change) -> None:
        """Remember a change, which continues those before."""
        if not change.rows:
            return
        self._changes.append((change.modseq, uids_of(change.rows)))
        self._uids += len(change.rows)
        while len(self._changes) > _LENGTH or self._uids > _UIDS:
            self._from, forgotten = self._changes.popleft()
            self._uids -= len(forgotten)

    def since(self, modseq: int) -> Sequence[int] | None:
        """The UIDs of messages new or changed after `modseq`, ascending; None where it is not known."""
        if modseq < self._from:
            return None
        found: set[int] = set()
        for at, uids in reversed(self._changes):
            if at <= modseq:
                break
            found.update(uids)
        return sorted(found)
