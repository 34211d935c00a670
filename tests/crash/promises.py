"""What a server has promised, and until when: each promise is an answer, known by the octets of its connection.

Every message carries a token, and one client at a time does something to it. So its history is a list of states: in
which mailboxes it is, and with which flags. At any moment it is in the state that was answered last, or, where the
next operation was under way, in that one's.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Mark = tuple[tuple[int, int], int]  # a connection's ports, the server's first, and octets sent on it so far
Flags = frozenset[str]
Where = Mapping[str, Flags]  # in which mailboxes, with which flags
NEVER = 1 << 60

ABSENT: Where = {}


@dataclass(frozen=True, slots=True)
class Step:
    """A state that was asked for after `begun`, and answered by `answered`."""

    begun: Mark
    answered: Mark
    where: Where


@dataclass(frozen=True, slots=True)
class Uid:
    """A client was told that a message is this one."""

    told: Mark
    uidvalidity: int
    uid: int
    token: str


@dataclass(slots=True)
class Promises:
    """All of them, by user."""

    steps: dict[tuple[str, str], list[Step]] = field(default_factory=dict)  # by user and token
    mailboxes: dict[tuple[str, str], list[Step]] = field(default_factory=dict)  # by user and name
    content: dict[str, bytes] = field(default_factory=dict)  # by token: how the message ends
    queued: dict[tuple[str, str], Step] = field(default_factory=dict)  # by token and recipient
    taken: dict[tuple[str, str], list[Mark]] = field(default_factory=dict)  # by the next hop
    uids: dict[str, list[Uid]] = field(default_factory=dict)  # by user
    lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, user: str, tokens: Iterable[str], begun: Mark, answered: Mark, where: Where) -> None:
        """Those messages are so now."""
        with self.lock:
            for token in tokens:
                self.steps.setdefault((user, token), []).append(Step(begun, answered, dict(where)))

    def mailbox(self, user: str, name: str, begun: Mark, answered: Mark, there: bool) -> None:
        """A mailbox was made or removed."""
        where: Where = {name: frozenset()} if there else ABSENT
        with self.lock:
            self.mailboxes.setdefault((user, name), []).append(Step(begun, answered, where))

    def last(self, user: str, token: str) -> Where:
        """The state that was promised last."""
        with self.lock:
            return self.steps[user, token][-1].where

    def told(self, user: str, uid: Uid) -> None:
        """A UID was told."""
        with self.lock:
            self.uids.setdefault(user, []).append(uid)

    def queue(self, token: str, recipient: str, begun: Mark, answered: Mark) -> None:
        """A message was taken for somebody elsewhere."""
        with self.lock:
            self.queued[token, recipient] = Step(begun, answered, {"queue": frozenset()})

    def take(self, token: str, recipient: str, mark: Mark) -> None:
        """The next hop has all of it: the server had sent so many octets to it by then."""
        with self.lock:
            self.taken.setdefault((token, recipient), []).append(mark)


class Clock:
    """Marks, as places in a trace."""

    def __init__(self, sent: Mapping[tuple[int, int], list[tuple[int, int]]]) -> None:
        self._sent = {
            key: ([total for _, total in known], [place for place, _ in known]) for key, known in sent.items()
        }

    def place(self, mark: Mark) -> int:
        """The item of the trace that began to send the last of those octets; -1 for none."""
        key, count = mark
        if count == 0:
            return -1
        totals, places = self._sent[key]
        number = bisect_left(totals, count)
        assert number < len(totals), f"{mark}: only {totals[-1]} octets were sent"
        return places[number]


@dataclass(frozen=True, slots=True)
class Due:
    """What may be true of one message, or mailbox, at a moment: any of these."""

    answered: Where
    under_way: Where | None  # None: nothing is

    def allows(self, found: Where) -> bool:
        """Whether it may be so; a move that was not answered may have been half done, which leaves two."""
        if dict(found) == dict(self.answered):
            return True
        if self.under_way is None:
            return False
        return dict(found) in (dict(self.under_way), {**self.answered, **self.under_way})

    @property
    def names(self) -> frozenset[str]:
        """The mailboxes where it must be."""
        after = self.answered if self.under_way is None else self.under_way
        return frozenset(self.answered) & frozenset(after)


def due(steps: Iterable[tuple[int, int, Where]], moment: int) -> Due:
    """At a place of the trace; each step with the places at which it was begun and answered."""
    answered: Where = ABSENT
    for begun, done, where in steps:
        if done <= moment:
            answered = where
        elif begun <= moment:
            return Due(answered, where)
        else:
            break
    return Due(answered, None)
