"""A maildrop: INBOX as it was at login, numbered for one POP3 session (RFC 1939 section 4)."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from mailstack.store.flags import SEEN_BIT
from mailstack.store.mailbox import Mailbox
from mailstack.store.news import uids_of
from mailstack.store.tables import UID_MASK
from mailstack.store.values import SEEN

FLUSH = 500  # messages fetched before they are marked \Seen together


class AfterFetching(Protocol):
    """What becomes of messages that were fetched whole, by the operator's settings."""

    hidden: frozenset[int]  # UIDs that are not shown
    deletes: bool  # QUIT removes what was fetched

    async def note(self, uids: Sequence[int]) -> None:
        """They were fetched, and the client has said QUIT."""


class NoSuchMessage(Exception):
    """No message of that number, or it is marked as deleted."""


class Maildrop:
    """The snapshot, what the client marked as deleted, and what it has fetched.

    Sizes are those of the stored message, whose line ends are CRLF: what RETR sends, before dots are stuffed.
    (A message that another program left in the Maildir with LF alone is sent with CRLF, and so is longer than
    it says.)
    """

    def __init__(
        self, mailbox: Mailbox, release: Callable[[], None], after: AfterFetching | None = None
    ) -> None:
        self.mailbox = mailbox
        self._after = after
        hidden = after.hidden if after is not None else frozenset()
        self._release: Callable[[], None] | None = release
        rows = mailbox.rows(mailbox.view(read_only=True).uids)
        if hidden:
            rows = [row for row in rows if row[0] & UID_MASK not in hidden]
        self._uids = array("I", uids_of(rows))
        self._sizes = array("Q", [row[5] for row in rows])
        self._seen = {row[0] & UID_MASK for row in rows if row[1] & SEEN_BIT}
        self._fetched: set[int] = set()  # UIDs that are not yet marked \Seen
        self._deleted: set[int] = set()  # numbers, from 1
        self._retrieved: set[int] = set()  # numbers that were fetched whole

    @property
    def count(self) -> int:
        """Messages that are not marked as deleted."""
        return len(self._uids) - len(self._deleted)

    @property
    def octets(self) -> int:
        """Their size."""
        return sum(self._sizes) - sum(self._sizes[number - 1] for number in self._deleted)

    def size(self, number: int) -> int:
        """Octets of one message; raise NoSuchMessage."""
        self._check(number)
        return self._sizes[number - 1]

    def uid(self, number: int) -> int:
        """The UID of one message; raise NoSuchMessage."""
        self._check(number)
        return self._uids[number - 1]

    def following(self, uid: int, small: int, most: int, octets: int) -> list[int]:
        """The UIDs of the messages after one, as long as all are `small`: few, and not too long together."""
        found: list[int] = []
        start = bisect_right(self._uids, uid)
        for place in range(start, min(start + most, len(self._uids))):
            octets -= self._sizes[place]
            if (found and octets < 0) or self._sizes[place] > small:
                break
            if place + 1 not in self._deleted:
                found.append(self._uids[place])
        return found

    def unique_id(self, number: int) -> str:
        """What UIDL says: UIDVALIDITY and UID are for life (RFC 1939 section 7); raise NoSuchMessage."""
        return f"{self.mailbox.uidvalidity}.{self.uid(number)}"

    def sizes(self) -> bytes:
        """The lines of LIST."""
        return b"".join([b"%d %d\r\n" % (number, self._sizes[number - 1]) for number in self._numbers()])

    def unique_ids(self) -> bytes:
        """The lines of UIDL."""
        epoch, uids = self.mailbox.uidvalidity, self._uids
        return b"".join([b"%d %d.%d\r\n" % (number, epoch, uids[number - 1]) for number in self._numbers()])

    def delete(self, number: int) -> None:
        """Mark one message; raise NoSuchMessage."""
        self._check(number)
        self._deleted.add(number)

    def reset(self) -> None:
        """Unmark all; what was fetched so far counts as not fetched."""
        self._deleted.clear()
        self._retrieved.clear()

    async def fetched(self, number: int) -> None:
        """The client has the message: it will be marked \\Seen, with others."""
        uid = self._uids[number - 1]
        self._retrieved.add(number)
        if uid not in self._seen:
            self._fetched.add(uid)
        if len(self._fetched) >= FLUSH:
            await self._mark(self._fetched)

    async def commit(self) -> None:
        """Expunge what is marked as deleted (RFC 1939 section 6).

        Without an exception all of that is gone: what the store did not find, somebody else has removed.
        """
        left = [self._uids[number - 1] for number in sorted(self._retrieved - self._deleted)]
        if self._after is not None and left and not self._after.deletes:
            await self._after.note(left)
        implied = self._retrieved if self._after is not None and self._after.deletes else set()
        deleted = [self._uids[number - 1] for number in sorted(self._deleted | implied)]
        await self._mark(self._fetched.difference(deleted))
        self._fetched.clear()
        if deleted:
            await self.mailbox.expunge(deleted)

    async def leave(self) -> None:
        """Note what was fetched, then give the maildrop free; doing it again does nothing."""
        release, self._release = self._release, None
        if release is None:
            return
        try:
            await self._mark(self._fetched)
        finally:
            self.mailbox.close()
            release()

    async def _mark(self, uids: Collection[int]) -> None:
        seen = sorted(uids)
        if seen:
            await self.mailbox.store_flags(seen, "add", frozenset((SEEN,)))
            self._seen.update(seen)
            self._fetched.difference_update(seen)

    def _numbers(self) -> Iterator[int]:
        numbers = range(1, len(self._uids) + 1)
        if not self._deleted:
            return iter(numbers)
        return (number for number in numbers if number not in self._deleted)

    def _check(self, number: int) -> None:
        if not 1 <= number <= len(self._uids) or number in self._deleted:
            raise NoSuchMessage
