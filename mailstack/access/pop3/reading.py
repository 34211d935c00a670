"""A maildrop's messages read: small ones several at a time, big ones in pieces as the client takes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from twisted.internet.defer import Deferred

from mailstack.store.mailbox import Mailbox
from mailstack.store.packing import Text
from mailstack.store.values import Expunged
from mailstack.work import Work

PIECE = 256 * 1024  # octets read at a time of what is bigger
_TRIES = 3  # a change of flags renames the file between the look-up and the opening

AHEAD = 32  # messages read at a time, at most
AHEAD_OCTETS = 256 * 1024  # of them, at most (but always one message)

Following = Callable[[int], Sequence[int]]  # the UIDs after one that may be asked for next, ascending


class ReadAhead:
    """Small messages in order: who takes one takes them all.

    Those that follow are read with the one that is asked for, and while the client takes these, the next: no
    more than two batches are held at a time.
    """

    __slots__ = ("_coming", "_end", "_following", "_last", "_mailbox", "_octets")

    def __init__(self, mailbox: Mailbox, following: Following) -> None:
        self._mailbox = mailbox
        self._following = following
        self._octets: dict[int, bytes] = {}  # by UID, of those that are not taken yet
        self._coming: Deferred[None] | None = None  # fires when the next batch is in `_octets`
        self._last = 0  # the UID asked for before
        self._end = 0  # the last UID that was read, or is being read

    async def body(self, uid: int) -> bytes:
        """All octets of a small message. Raise Expunged, OSError, Overloaded."""
        last, self._last = self._last, uid
        if not self._mailbox.rows((uid,)):
            raise Expunged(f"message {uid}")
        if not last or uid <= last:  # the first, or not in order: nothing is known of what comes next
            await self._forget()
            return await self._mailbox.body(uid)
        if uid not in self._octets and self._coming is not None and uid <= self._end:
            await self._coming
        if uid not in self._octets:
            await self._forget()
            await self._read((uid, *self._following(uid)))
        data = self._octets.pop(uid, None)
        if self._coming is None and len(self._octets) <= AHEAD // 2:
            self._read_on()
        if data is None:
            raise Expunged(f"message {uid}")
        return data

    async def _forget(self) -> None:
        if self._coming is not None:
            await self._coming
        self._octets.clear()

    async def _read(self, uids: Sequence[int]) -> None:
        self._end = uids[-1]
        found = await self._mailbox.bodies([(each, 0, None) for each in uids])
        self._octets |= {each: data for each, data in zip(uids, found, strict=True) if data is not None}

    def _read_on(self) -> None:
        """Have the next batch read. What goes wrong now is met again, and told, when it is asked for."""
        uids = self._following(self._end)
        if uids:
            self._coming = Deferred.fromCoroutine(self._read(uids))
            self._coming.addErrback(lambda failure: None)
            self._coming.addCallback(self._came)

    def _came(self, _: None) -> None:
        self._coming = None


class Truncated(Exception):
    """The file holds less than it should."""


async def pieces(mailbox: Mailbox, work: Work, uid: int, size: int) -> AsyncGenerator[bytes, None]:
    """The message in pieces, the first once it can be read; raises Expunged, OSError, Truncated.

    Close it (`aclosing`): it holds a file.
    """
    text, at = await _open(mailbox, work, uid)
    end = at + size
    try:
        while at < end:
            data = await work.files(text.read, at, min(end - at, PIECE))
            if not data:
                raise Truncated(f"UID {uid}: {end - at} octets are missing")
            at += len(data)
            yield data
    finally:
        text.close()  # nothing was written: this does not block


async def _open(mailbox: Mailbox, work: Work, uid: int) -> tuple[Text, int]:
    for tries_left in reversed(range(_TRIES)):
        stored = await mailbox.stored(uid)
        try:
            return await work.files(Text, stored.path), stored.offset
        except FileNotFoundError:
            if not tries_left:
                raise
    raise AssertionError("not reached")
