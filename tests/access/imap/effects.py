"""What each command does to mailboxes, as `chronicle` recognizes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.access.imap.chronicle import Chronicle, Difference, Effect, Flags, Name, State
from tests.access.imap.model import changed

SEEN, DELETED = r"\Seen", r"\Deleted"


class Flagging(Effect):
    """STORE: all of it at once (RFC 9051 section 6.4.6, RFC 7162 section 3.1.3)."""

    def __init__(
        self, box: int, uids: Iterable[int], mode: str, flags: Flags, unchanged: int | None = None
    ) -> None:
        super().__init__()
        self.box, self.uids, self.mode, self.flags = box, frozenset(uids), mode, flags
        self.unchanged = unchanged

    def _expected(self, state: State) -> dict[int, tuple[Flags, Flags]]:
        if self.box not in state:
            return {}
        found = {}
        for uid, (flags, modseq) in state[self.box].letters.items():
            if uid in self.uids and (self.unchanged is None or modseq <= self.unchanged):
                after = changed(flags, self.mode, self.flags)
                if after != flags:
                    found[uid] = (flags, after)
        return found

    def fits(self, before: State, after: State, done: Difference) -> bool:
        return done.only("changed") and done.changed == {self.box: self._expected(before)}

    def is_vain(self, state: State) -> bool:
        return not self._expected(state)


class Seeing(Effect):
    r"""FETCH of a text, RETR: \Seen, some now and some later."""

    def __init__(self, box: int, uids: Iterable[int]) -> None:
        super().__init__()
        self.box, self.uids = box, frozenset(uids)
        self.over = False

    @property
    def open(self) -> bool:
        return not self.over

    def fits(self, before: State, after: State, done: Difference) -> bool:
        return (
            done.only("changed")
            and set(done.changed) == {self.box}
            and set(done.changed[self.box]) <= self.uids
            and all(now == old | {SEEN} for old, now in done.changed[self.box].values())
        )

    def is_vain(self, state: State) -> bool:
        return True


class Removing(Effect):
    r"""EXPUNGE, UID EXPUNGE, CLOSE; with `marked` false POP3's QUIT.

    Of `uids` (None: all) those that are \Deleted; those of `sure` in any case, if they were all the time: of one that
    somebody has just marked again the process may not know yet.
    """

    def __init__(
        self, box: int, uids: Iterable[int] | None, sure: Iterable[int], marked: bool = True
    ) -> None:
        super().__init__()
        self.box, self.marked = box, marked
        self.uids = None if uids is None else frozenset(uids)
        self.sure = frozenset(sure)

    def _possible(self, state: State) -> set[int]:
        if self.box not in state:
            return set()
        return {
            uid
            for uid, (flags, _) in state[self.box].letters.items()
            if (DELETED in flags or not self.marked) and (self.uids is None or uid in self.uids)
        }

    def fits(self, before: State, after: State, done: Difference) -> bool:
        possible = self._possible(before)
        return (
            done.only("removed")
            and set(done.removed) == {self.box}
            and done.removed[self.box] <= possible
            and self._lasting() & possible <= done.removed[self.box]
        )

    def _lasting(self) -> set[int]:
        states = [state[self.box].letters for state in self.states[self.since : -1] if self.box in state]
        none: tuple[Flags, int] = (frozenset(), 0)
        return {
            uid
            for uid in self.sure
            if not self.marked or all(DELETED in letters.get(uid, none)[0] for letters in states)
        }

    def is_vain(self, state: State) -> bool:
        return not self.sure & self._possible(state)


class Adding(Effect):
    """APPEND and deliveries: all messages or none."""

    is_known_at_once = False

    def __init__(self, target: Name, letters: Sequence[tuple[bytes, Flags]]) -> None:
        super().__init__()
        self.target, self.letters = target, letters

    def fits(self, before: State, after: State, done: Difference) -> bool:
        if not done.only("added") or len(done.added) != 1:
            return False
        [(box, added)] = done.added.items()
        return before[box].name == self.target and list(added.values()) == [each[1] for each in self.letters]

    def is_vain(self, state: State) -> bool:
        return False

    @property
    def uids(self) -> list[int]:
        """What they became."""
        return [uid for added in self.did.added.values() for uid in added]

    def bodies(self, chronicle: Chronicle) -> None:
        for box, added in self.did.added.items():
            for uid, (body, _) in zip(added, self.letters, strict=True):
                chronicle.bodies[box, uid] = body


class Adopting(Effect):
    """Files that another program has put there are found, some or all."""

    def __init__(self, target: Name, body: bytes, flags: Flags) -> None:
        super().__init__()
        self.target, self.body, self.flags = target, body, flags
        self.waiting = 0

    @property
    def open(self) -> bool:
        return self.waiting > 0

    def fits(self, before: State, after: State, done: Difference) -> bool:
        if not done.only("added") or len(done.added) != 1:
            return False
        [(box, added)] = done.added.items()
        known = before[box].name == self.target and len(added) <= self.waiting
        return known and set(added.values()) == {self.flags}

    def is_vain(self, state: State) -> bool:
        return True

    def bodies(self, chronicle: Chronicle) -> None:
        for box, added in self.did.added.items():
            self.waiting -= len(added)
            chronicle.bodies.update({(box, uid): self.body for uid in added})


class Copying(Effect):
    """COPY and MOVE: all that are still there, at once, in order (RFC 9051 sections 6.4.7 and 6.4.8)."""

    def __init__(self, box: int, uids: Iterable[int], target: Name, move: bool) -> None:
        super().__init__()
        self.box, self.uids, self.target, self.move = box, frozenset(uids), target, move
        self.pairs: list[tuple[int, int]] = []
        self.to = 0

    def _there(self, state: State) -> list[int]:
        letters = state[self.box].letters if self.box in state else ()
        return [uid for uid in letters if uid in self.uids]

    def fits(self, before: State, after: State, done: Difference) -> bool:
        there = self._there(before)
        if not done.only("added", "removed") or len(done.added) != 1 or not there:
            return False
        [(target, added)] = done.added.items()
        flags = [before[self.box].letters[uid][0] for uid in there]
        self.to, self.pairs = target, list(zip(there, added, strict=False))
        return (
            before[target].name == self.target
            and list(added.values()) == flags
            and done.removed == ({self.box: set(there)} if self.move else {})
        )

    def is_vain(self, state: State) -> bool:
        return not self._there(state)

    def bodies(self, chronicle: Chronicle) -> None:
        for old, new in self.pairs:
            chronicle.bodies[self.to, new] = chronicle.bodies[self.box, old]


class Making(Effect):
    """CREATE."""

    def __init__(self, name: Name) -> None:
        super().__init__()
        self.name = name

    def fits(self, before: State, after: State, done: Difference) -> bool:
        return done.only("made") and list(done.made.values()) == [self.name]

    def is_vain(self, state: State) -> bool:
        return False


class Dropping(Making):
    """DELETE."""

    def fits(self, before: State, after: State, done: Difference) -> bool:
        return done.only("lost") and list(done.lost.values()) == [self.name]


class Naming(Effect):
    """RENAME; of INBOX: its messages move to a new mailbox."""

    def __init__(self, old: Name, new: Name) -> None:
        super().__init__()
        self.old, self.new = old, new

    def fits(self, before: State, after: State, done: Difference) -> bool:
        if self.old[1] != "INBOX":
            return done.only("renamed") and list(done.renamed.values()) == [(self.old, self.new)]
        [inbox] = [id for id, box in before.items() if box.name == self.old]
        if not done.only("made", "added", "removed") or list(done.made.values()) != [self.new]:
            return False
        letters = before[inbox].letters
        [made] = done.made
        flags = [each[0] for each in letters.values()]
        moved = list(done.added.get(made, {}).values()) == flags
        return moved and done.removed == ({inbox: set(letters)} if letters else {})

    def is_vain(self, state: State) -> bool:
        return False

    def bodies(self, chronicle: Chronicle) -> None:
        for made, added in self.did.added.items():
            [(box, removed)] = self.did.removed.items()
            for old, new in zip(sorted(removed), added, strict=True):
                chronicle.bodies[made, new] = chronicle.bodies[box, old]
