"""Sequence numbers: each session's own picture of a mailbox, at almost no cost while nothing is expunged.

Theory of operation. The UIDs of a mailbox are one array, shared by all sessions. New messages are appended; a
view is a count of how many of them its client was told. An expunge cannot change an array that somebody still
numbers by: a new `Epoch` with its own array follows then, and the old one records what was removed between
them. A view that catches up walks to the last epoch, and tells its client in one pass what went. An epoch
that no view stands in is changed in place, so that there are never more arrays than views that lag behind.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol
from weakref import WeakSet, ref

from mailstack.store.news import Later, Row
from mailstack.store.tables import UID_MASK
from mailstack.store.values import Update

MANY = 5_000  # messages that are not looked at in one go
_FEW = 10  # looking one up costs as much as listing so many


class Epoch:
    """The mailbox between two expunges: its UIDs, ascending; only appended to."""

    __slots__ = ("__weakref__", "following", "removed", "uids", "views")

    def __init__(self, uids: array[int]) -> None:
        self.uids = uids
        self.views: WeakSet[View] = WeakSet()  # those that stand here
        self.removed: set[int] = set()  # UIDs that the following epoch lacks
        self.following: Epoch | None = None


class Timeline:
    """The epochs of one mailbox; holds the last, the others live as long as a view stands there."""

    def __init__(self, uids: array[int]) -> None:
        self.current = Epoch(uids)
        self._before: ref[Epoch] | None = None

    def add(self, uid: int) -> None:
        """Append a UID higher than all before."""
        self.current.uids.append(uid)

    def remove(self, uids: Collection[int]) -> None:
        """Take UIDs out; views notice when they catch up."""
        epoch = self.current
        removed = set(uids)
        left = _without(epoch.uids, removed)
        if epoch.views:
            epoch.removed = removed
            epoch.following = self.current = Epoch(left)
            self._before = ref(epoch)
            return
        epoch.uids = left
        before = self._before() if self._before else None
        if before is not None:
            before.removed |= removed


class Source(Protocol):
    """What a view needs of its mailbox."""

    timeline: Timeline
    highest_modseq: int

    def rows(self, uids: Iterable[int]) -> Iterable[Row]: ...

    def known_changes(self, modseq: int) -> Sequence[int] | None: ...

    def claim_recent(self, read_only: bool) -> tuple[int, int]: ...


class Recent(Collection[int]):
    """The UIDs that are \\Recent in one view: runs of UIDs that it was the first to be told of."""

    __slots__ = ("_runs", "_view")

    def __init__(self, view: View, runs: list[tuple[int, int]]) -> None:
        self._view = view
        self._runs = runs

    def __contains__(self, uid: object) -> bool:
        return any(first <= uid < end for first, end in self._runs)  # type: ignore[operator]

    def __iter__(self) -> Iterator[int]:
        for start, end in self._places():
            yield from self._view.slice(start, end)

    def __len__(self) -> int:
        return sum(end - start for start, end in self._places())

    def _places(self) -> Iterator[tuple[int, int]]:
        for first, end in self._runs:
            yield self._view.place(first), self._view.place(end)


class View:
    """One session's picture of a mailbox. It changes only in `catch_up`."""

    __slots__ = (
        "__weakref__", "_count", "_epoch", "_mailbox", "_modseq", "_runs", "_silenced", "read_only", "told"
    )  # fmt: skip

    def __init__(self, mailbox: Source, read_only: bool) -> None:
        self._mailbox = mailbox
        self.read_only = read_only
        self._enter(mailbox.timeline.current)
        self._count = len(self._epoch.uids)
        self._modseq = mailbox.highest_modseq
        self.told = self._modseq  # nothing that happened up to this modseq is still to be told
        self._silenced: dict[int, int] = {}  # UID to the modseq of a change that the client made itself
        self._runs: list[tuple[int, int]] = []  # UIDs that are recent here: from, to before
        self._claim()

    def __len__(self) -> int:
        """The messages that the client knows of."""
        return self._count

    @property
    def is_behind(self) -> bool:
        """Whether an expunge is still to be told: one of what came and went untold is none."""
        if self._epoch.following is None or not self._count:
            return False
        last = self._epoch.uids[self._count - 1]
        return any(uid <= last for uid in self.gone())

    @property
    def uids(self) -> Sequence[int]:
        """Their UIDs, ascending: a copy, an array."""
        return self._epoch.uids[: self._count]

    @property
    def recent(self) -> Collection[int]:
        """The UIDs that are \\Recent here (RFC 3501 section 2.3.2)."""
        return Recent(self, self._runs)

    def slice(self, start: int, end: int) -> Sequence[int]:
        """The UIDs of places `start` to before `end`, counted from 0."""
        return self._epoch.uids[start : min(end, self._count)]

    def uid(self, seq: int) -> int:
        """The UID of a sequence number. Raise IndexError."""
        if not 1 <= seq <= self._count:
            raise IndexError(f"no message {seq}")
        return self._epoch.uids[seq - 1]

    def place(self, uid: int) -> int:
        """How many messages have a lower UID."""
        return bisect_left(self._epoch.uids, uid, 0, self._count)

    def sequence(self, uid: int) -> int | None:
        """The sequence number of a UID, or None."""
        place = self.place(uid)
        return place + 1 if place < self._count and self._epoch.uids[place] == uid else None

    def sequences(self, uids: Sequence[int]) -> Mapping[int, int]:
        """Sequence numbers by UID, of those of `uids` at least that this view has: `sequence` for many."""
        first = self.place(uids[0]) if uids else 0
        if list(self.slice(first, first + len(uids))) == uids:  # neighbors: what thousands mostly are
            return dict(zip(uids, range(first + 1, first + 1 + len(uids)), strict=True))
        if len(uids) * _FEW > self._count:
            return dict(zip(self.uids, range(1, self._count + 1), strict=True))
        return {uid: number for uid in uids if (number := self.sequence(uid)) is not None}

    def numbers(self, uids: Sequence[int]) -> Iterable[int]:
        """The sequence numbers of ascending UIDs that this view has, all of them."""
        first = self.place(uids[0]) if uids else 0
        if uids and self.place(uids[-1]) - first == len(uids) - 1:  # a run: every FETCH 1:*
            return range(first + 1, first + 1 + len(uids))
        return [self.place(uid) + 1 for uid in uids]

    def knows(self, row: Row) -> bool:
        """Whether the client was told the flags of a message that it knows of, as they are in `row`."""
        return row[2] <= max(self._modseq, self._silenced.get(row[0] & UID_MASK, 0))

    def silence(self, uids: Iterable[int]) -> None:
        """The client knows the flags of these as they are now: it set them itself."""
        self._silenced.update([(row[0] & UID_MASK, row[2]) for row in self._mailbox.rows(uids)])

    def catch_up(self, expunges: bool) -> Update:
        """Take over what happened, and say what to tell the client.

        Without `expunges` (during FETCH, STORE and SEARCH, RFC 3501 section 7.4.1) no number may change: what
        was expunged, and what came after it, waits.
        """
        changed, later = self._changed()
        if not expunges and self.is_behind:
            return Update(changed=changed, later=later)
        self.told = self._mailbox.highest_modseq
        expunged, vanished = self._leave() if self._epoch.following is not None else ([], [])
        exists = recent = None
        if len(self._epoch.uids) > self._count:
            exists = self._count = len(self._epoch.uids)
            self._claim()
        if exists is not None or (expunged and self.recent):
            recent = len(self.recent)
        return Update(expunged, exists, recent, changed, vanished, later)

    def gone(self) -> set[int]:
        """The UIDs that were expunged since; the client counts those that it was told of."""
        removed: set[int] = set()
        epoch = self._epoch
        while epoch.following is not None:
            removed |= epoch.removed
            epoch = epoch.following
        return removed

    def close(self) -> None:
        """The session leaves the mailbox. A view that is merely forgotten is as good as closed."""
        self._epoch.views.discard(self)

    def _claim(self) -> None:
        first, end = self._mailbox.claim_recent(self.read_only)
        if self._runs and first <= self._runs[-1][1]:
            first, last_end = self._runs.pop()
            end = max(end, last_end)
        if first < end:
            self._runs.append((first, end))

    def _enter(self, epoch: Epoch) -> None:
        self._epoch = epoch
        epoch.views.add(self)

    def _leave(self) -> tuple[list[int], list[int]]:
        """Go to the last epoch; the sequence numbers that went, the highest first: so each stays true.

        And their UIDs, ascending.
        """
        gone = sorted(uid for uid in self.gone() if self.sequence(uid) is not None)
        numbers = [number for number in map(self.sequence, gone) if number is not None]
        self._epoch.views.discard(self)
        self._count -= len(numbers)
        self._enter(self._mailbox.timeline.current)
        return numbers[::-1], gone

    def _changed(self) -> tuple[list[int], Later | None]:
        """The UIDs whose flags others changed, which the client was not told yet, or how to find them."""
        mailbox = self._mailbox
        if self._modseq == mailbox.highest_modseq:
            return [], None
        later = Later(self._modseq, self._silenced, self._epoch.uids[self._count - 1] if self._count else 0)
        uids = mailbox.known_changes(self._modseq)
        self._modseq = mailbox.highest_modseq
        self._silenced = {}
        if uids is None and self._count > MANY:
            return [], later
        return later.among(mailbox.rows(self.uids if uids is None else uids)), None


def _without(uids: array[int], removed: set[int]) -> array[int]:
    if len(removed) > 50:
        return array("I", [uid for uid in uids if uid not in removed])
    left = uids[:]
    for uid in removed:
        place = bisect_left(left, uid)
        if place < len(left) and left[place] == uid:
            del left[place]
    return left
