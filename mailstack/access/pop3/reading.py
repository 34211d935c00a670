"""A big message's octets in pieces, read as the client takes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import BinaryIO

from mailstack.mail.message import Stored
from mailstack.store import Mailbox
from mailstack.work import Work

PIECE = 256 * 1024  # octets read at a time of what is bigger
_TRIES = 3  # a change of flags renames the file between the look-up and the opening


class Truncated(Exception):
    """The file holds less than it should."""


async def pieces(mailbox: Mailbox, work: Work, uid: int, size: int) -> AsyncGenerator[bytes, None]:
    """The message in pieces, the first once it can be read; raises Expunged, OSError, Truncated.

    Close it (`aclosing`): it holds a file.
    """
    file = await _open(mailbox, work, uid)
    left = size
    try:
        while left:
            data = await work.files(file.read, min(left, PIECE))
            if not data:
                raise Truncated(f"UID {uid}: {left} octets are missing")
            left -= len(data)
            yield data
    finally:
        file.close()  # nothing was written: this does not block


async def _open(mailbox: Mailbox, work: Work, uid: int) -> BinaryIO:
    for tries_left in reversed(range(_TRIES)):
        stored = await mailbox.stored(uid)
        try:
            return await work.files(_open_at, stored)
        except FileNotFoundError:
            if not tries_left:
                raise
    raise AssertionError("not reached")


def _open_at(stored: Stored) -> BinaryIO:
    file = stored.path.open("rb")
    file.seek(stored.offset)
    return file
