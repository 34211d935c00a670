"""A maildrop's messages read: small ones several at a time, big ones in pieces as the client takes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

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
    """Small messages in order: who takes one takes them all, so those that follow are read with it."""

    __slots__ = ("_following", "_last", "_mailbox", "_octets")

    def __init__(self, mailbox: Mailbox, following: Following) -> None:
        self._mailbox = mailbox
        self._following = following
        self._octets: dict[int, bytes] = {}  # by UID, of those that are not taken yet
        self._last = 0  # the UID asked for before

    async def body(self, uid: int) -> bytes:
        """All octets of a small message. Raise Expunged, OSError, Overloaded."""
        last, self._last = self._last, uid
        if not self._mailbox.rows((uid,)):
            raise Expunged(f"message {uid}")
        if not last or uid <= last:  # the first, or not in order: nothing is known of what comes next
            self._octets.clear()
            return await self._mailbox.body(uid)
        if uid not in self._octets:
            uids = (uid, *self._following(uid))
            found = await self._mailbox.bodies([(each, 0, None) for each in uids])
            self._octets = {each: data for each, data in zip(uids, found, strict=True) if data is not None}
        data = self._octets.pop(uid, None)
        if data is None:
            raise Expunged(f"message {uid}")
        return data


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
