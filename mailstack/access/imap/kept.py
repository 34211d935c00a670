"""Sort keys and thread inputs of messages, made once and kept while their mailbox is open.

A message's text never changes, so what was made of it stays right for as long as its UID names it. All that
is kept, of all mailboxes, is bounded; what is over the bound is forgotten, the mailbox used least recently
first.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

from mailstack.store import Mailbox

MOST = 200_000  # messages, each kind of each mailbox counted; about 100 MB
MOST_KINDS = 8  # of one mailbox


class Kept:
    """What was made of messages, by mailbox, kind and UID."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._mailboxes: WeakKeyDictionary[Mailbox, dict[Hashable, dict[int, Any]]] = WeakKeyDictionary()

    def of(self, mailbox: Mailbox, kind: Hashable) -> dict[int, Any]:
        """What is kept of one kind; the caller adds what it makes, then calls `bound`."""
        kinds = self._mailboxes.pop(mailbox, {})
        self._mailboxes[mailbox] = kinds  # the last in order: used most recently
        found = kinds.pop(kind, {})
        kinds[kind] = found
        if len(kinds) > MOST_KINDS:
            del kinds[next(iter(kinds))]
        return found

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
