"""Sort keys of messages and answers to THREAD, made once and kept while their mailbox is open.

A message's text never changes, so what was made of it stays right for as long as its UID names it; and the
threads of some messages stay what they are. All that is kept, of all mailboxes, is bounded; what is over the
bound is forgotten, the mailbox used least recently first.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from mailstack.store.mailbox import Mailbox

MOST = 600_000  # messages, each kind of each mailbox counted; about 100 MB
MOST_KINDS = 8  # of one mailbox


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of some messages."""

    asked: tuple[array[int], array[int]]  # their UIDs, and what the session calls them
    said: bytes

    def __len__(self) -> int:
        return len(self.asked[0])


class Kept:
    """What was made of messages, by mailbox, kind and UID; and of many together, by mailbox and kind."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._mailboxes: WeakKeyDictionary[Mailbox, dict[Hashable, Any]] = WeakKeyDictionary()

    def of(self, mailbox: Mailbox, kind: Hashable) -> dict[int, Any]:
        """What is kept of one kind; the caller adds what it makes, then calls `bound`."""
        found: dict[int, Any] = self._kinds(mailbox).pop(kind, {})
        self._set(mailbox, kind, found)
        return found

    def answer(self, mailbox: Mailbox, kind: Hashable) -> Answer | None:
        """The last answer of a kind."""
        found: Answer | None = self._kinds(mailbox).get(kind)
        return found

    def put(self, mailbox: Mailbox, kind: Hashable, answer: Answer) -> None:
        """Keep an answer in the place of the last."""
        self._kinds(mailbox).pop(kind, None)
        self._set(mailbox, kind, answer)
        self.bound()

    def _kinds(self, mailbox: Mailbox) -> dict[Hashable, Any]:
        kinds = self._mailboxes.pop(mailbox, {})
        self._mailboxes[mailbox] = kinds  # the last in order: used most recently
        return kinds

    def _set(self, mailbox: Mailbox, kind: Hashable, value: Any) -> None:
        kinds = self._kinds(mailbox)
        kinds[kind] = value
        if len(kinds) > MOST_KINDS:
            del kinds[next(iter(kinds))]

    def bound(self) -> None:
        """Forget what is too much."""
        sizes = {box: sum(map(len, kinds.values())) for box, kinds in self._mailboxes.items()}
        total = sum(sizes.values())
        for mailbox, size in sizes.items():
            if total <= self._most:
                return
            del self._mailboxes[mailbox]
            total -= size


KEPT = Kept()
