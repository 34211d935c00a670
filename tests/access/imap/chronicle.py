"""What the mailboxes held after each commit, and who brought that about: the truth of `test_interleaved`.

Theory of operation. After each transaction the rows are read, by nothing of the server's, and compared with those
before. The difference must be just what one command under way was to do, all of it at once: its `Effect` says so.
So the order of changes is the server's, what changes is the model's. What a client is told later is held against
this history: of a message it may be told what is true, or what was true a moment ago, never anything older than
it already knew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import URL

from mailstack.store.flags import Keywords
from mailstack.store.tables import UID_BITS, UID_MASK

Flags = frozenset[str]
Key = tuple[int, int]  # mailbox, UID
Name = tuple[int, str]  # user, mailbox


@dataclass(frozen=True, slots=True)
class Mark:
    """A message from one commit on."""

    at: int
    flags: Flags
    modseq: int


@dataclass(frozen=True, slots=True)
class Shown:
    """One mailbox after a commit."""

    name: Name
    uidvalidity: int
    uidnext: int
    modseq: int
    letters: Mapping[int, tuple[Flags, int]]  # by UID: flags and modseq


State = Mapping[int, Shown]


@dataclass(slots=True)
class Difference:
    """What a commit has changed, by mailbox."""

    added: dict[int, dict[int, Flags]] = field(default_factory=dict)
    removed: dict[int, set[int]] = field(default_factory=dict)
    changed: dict[int, dict[int, tuple[Flags, Flags]]] = field(default_factory=dict)
    made: dict[int, Name] = field(default_factory=dict)
    lost: dict[int, Name] = field(default_factory=dict)
    renamed: dict[int, tuple[Name, Name]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.changed, self.made, self.lost, self.renamed))

    def only(self, *kinds: str) -> bool:
        """Whether nothing but these is different."""
        return not any(getattr(self, kind) for kind in self.__slots__ if kind not in kinds)


class Effect:
    """What a command is to do, in one commit."""

    is_known_at_once = True  # to every session of its process; what is appended is, but for some moments

    def __init__(self) -> None:
        self.by: Any = None
        self.since = 0  # the last commit before the command was sent
        self.at: int | None = None  # the commit that did it
        self.did = Difference()
        self.states: list[State] = []  # after each commit so far

    @property
    def open(self) -> bool:
        """Whether it may still be done."""
        return self.at is None

    def fits(self, before: State, after: State, done: Difference) -> bool:
        """Whether that difference is this effect."""
        raise NotImplementedError

    def is_vain(self, state: State) -> bool:
        """Whether there was nothing to do in that state."""
        raise NotImplementedError

    def bodies(self, chronicle: Chronicle) -> None:
        """Note the texts of the messages that it added."""


class Chronicle:
    """All states there were."""

    def __init__(self, url: URL) -> None:
        self._db, self._begin = _reader(url)
        self.states: list[State] = [self._read()]
        self.effects: list[Effect] = []
        self.marks: dict[Key, list[Mark]] = {}
        self.gone: dict[Key, int] = {}
        self.bodies: dict[Key, bytes] = {}
        self.boxes: dict[tuple[int, int], int] = {}  # user and UIDVALIDITY: mailbox
        self.answered = 0  # the last commit whose command was answered, and all before it
        self.alone = True  # there is one process only: it knows of whatever it has answered
        self.trouble: AssertionError | None = None
        self._note({}, self.states[0])

    @property
    def last(self) -> int:
        """The number of the last commit."""
        return len(self.states) - 1

    @property
    def state(self) -> State:
        """As it is now."""
        return self.states[-1]

    def close(self) -> None:
        self._db.close()

    def expect(self, effect: Effect, by: Any = None) -> None:
        """From now on this may be done."""
        effect.by, effect.since, effect.states = by, self.last, self.states
        self.effects.append(effect)

    def answer(self, effect: Effect) -> None:
        """Its command is over."""
        self.effects.remove(effect)
        if effect.at is not None and self.alone and effect.is_known_at_once:
            self.answered = max(self.answered, effect.at)

    def settle(self) -> None:
        """All is quiet: everybody knows of everything."""
        self.answered = self.last

    def committed(self, by: Any) -> int:
        """A transaction is over; its number. What is wrong with it is raised by `verify`."""
        before, after = self.state, self._read()
        self.states.append(after)
        try:
            self._note(before, after)
            done = difference(before, after)
            if done:
                self._explain(by, before, after, done)
        except AssertionError as error:
            self.trouble = self.trouble or error
        return self.last

    def verify(self) -> None:
        """Raise AssertionError if a commit was wrong."""
        if self.trouble is not None:
            raise self.trouble

    def at(self, name: Name, state: State | None = None) -> int | None:
        """The mailbox of that name."""
        return next((id for id, box in (state or self.state).items() if box.name == name), None)

    def ever(self, since: int, test: Callable[[State], bool]) -> bool:
        """Whether something was so after any commit from `since` on."""
        return any(map(test, self.states[since:]))

    def _explain(self, by: Any, before: State, after: State, done: Difference) -> None:
        for owner in (by, None):
            for effect in self.effects:
                if effect.by is owner and effect.open and effect.fits(before, after, done):
                    effect.at, effect.did = self.last, done
                    effect.bodies(self)
                    return
        waiting = [vars(effect) for effect in self.effects if effect.by is by and effect.open]
        raise AssertionError(f"nobody was to do this: {done}; under way: {waiting}")

    def _note(self, before: State, after: State) -> None:
        for id, box in after.items():
            old = before.get(id)
            if old is box:
                continue
            if old is None:
                key = box.name[0], box.uidvalidity
                assert self.boxes.setdefault(key, id) == id, f"UIDVALIDITY {key} again"
            _monotone(old, box)
            for uid, (flags, modseq) in box.letters.items():
                if old is None or old.letters.get(uid) != (flags, modseq):
                    self.marks.setdefault((id, uid), []).append(Mark(len(self.states) - 1, flags, modseq))
        for id, box in before.items():
            left = after[id].letters if id in after else {}
            for uid in box.letters:
                if uid not in left:
                    self.gone[id, uid] = len(self.states) - 1

    def _read(self) -> State:
        keywords: dict[int, dict[int, str]] = {}
        letters: dict[int, dict[int, tuple[Flags, int]]] = {}
        db = self._db
        db.execute(self._begin)
        for id, bit, name in db.execute("SELECT mailbox_id, bit, name FROM keywords"):
            keywords.setdefault(id, {})[bit] = name
        names = {id: Keywords(found) for id, found in keywords.items()}
        plain = Keywords({})
        for id, mask, modseq in db.execute("SELECT id, flags, modseq FROM messages ORDER BY id"):
            box = id >> UID_BITS
            flags = names.get(box, plain).flags(mask)
            letters.setdefault(box, {})[id & UID_MASK] = (flags, modseq)
        columns = "id, user_id, name, uidvalidity, uidnext, modseq"
        rows = db.execute(f"SELECT {columns} FROM mailboxes WHERE selectable ORDER BY id").fetchall()
        db.execute("COMMIT")
        before = self.states[-1] if hasattr(self, "states") else {}
        found = {}
        for id, user, name, *rest in rows:
            box = Shown((user, name), *rest, letters.get(id, {}))
            found[id] = before[id] if before.get(id) == box else box
        return found


def _reader(url: URL) -> tuple[Any, str]:
    """A connection that is not the server's, and what begins a look that sees one moment."""
    if url.get_backend_name() == "sqlite":
        return sqlite3.connect(str(url.database), isolation_level=None), "BEGIN"
    import psycopg

    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(text, autocommit=True), "BEGIN ISOLATION LEVEL REPEATABLE READ"


def _monotone(old: Shown | None, box: Shown) -> None:
    """UIDs, UIDNEXT and MODSEQ as RFC 9051 section 2.3.1.1 and RFC 7162 section 3.1 have them."""
    floor = 0 if old is None else old.modseq
    known = {} if old is None else old.letters
    assert old is None or (old.uidvalidity == box.uidvalidity and old.uidnext <= box.uidnext)
    assert floor <= box.modseq, f"{box.name}: HIGHESTMODSEQ went from {floor} to {box.modseq}"
    for uid, (flags, modseq) in box.letters.items():
        assert uid < box.uidnext
        assert modseq <= box.modseq
        if uid not in known:
            assert old is None or uid >= old.uidnext, f"{box.name}: UID {uid} again"
        if uid not in known or known[uid][0] != flags:
            assert old is None or modseq > floor, f"{box.name}: UID {uid} has changed, but not its modseq"
        else:
            assert modseq == known[uid][1], f"{box.name}: UID {uid} has another modseq, but has not changed"
    if set(known) - set(box.letters):
        assert box.modseq > floor, f"{box.name}: an expunge without a modseq"


def difference(before: State, after: State) -> Difference:
    """What has changed."""
    done = Difference()
    for id, box in after.items():
        old = before.get(id)
        if old is box:
            continue
        if old is None:
            done.made[id] = box.name
        elif old.name != box.name:
            done.renamed[id] = (old.name, box.name)
        _compare(done, id, {} if old is None else old.letters, box.letters)
    done.lost = {id: box.name for id, box in before.items() if id not in after}
    return done


def _compare(
    done: Difference, id: int, old: Mapping[int, tuple[Flags, int]], new: Mapping[int, tuple[Flags, int]]
) -> None:
    added = {uid: new[uid][0] for uid in new if uid not in old}
    removed = set(old) - set(new)
    changed = {uid: (old[uid][0], new[uid][0]) for uid in new if uid in old and old[uid][0] != new[uid][0]}
    for kind, found in ((done.added, added), (done.removed, removed), (done.changed, changed)):
        if found:
            kind[id] = found  # type: ignore[index]
