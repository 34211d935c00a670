"""Where the content of a message waits while it is being received.

Theory of operation. Content stays in memory up to a limit, then all of it goes to a file of its own, written
in the file threads; whoever sends it waits for each write, so memory is bounded. A limit that each message
has for itself must be small. So there is a fund beside: who needs more borrows from it as long as there is
any, and a message of a megabyte mostly goes without a file, however many small ones come in at once. One
that needs a file all the same gives back what it has borrowed but for a step, so that it writes in larger
pieces. The file is no promise:
nobody has been told 250 yet, so it is not synced, and what is found here at start belongs to nobody and is
removed. Who takes charge of the message makes a copy or a link before `accept` returns.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.mail.message import Message, Stored

_log = Logger(namespace="mailstack.smtp")

T = TypeVar("T")

MEMORY_OCTETS = 64 * 1024  # of one message's content, in any case
FUND_OCTETS = 32 * 1024 * 1024  # that all messages together may borrow
STEP = 256 * 1024  # octets borrowed at a time
MOST_STEPS = 5  # that one message may borrow
HEADER_OCTETS = 256 * 1024  # of a header section, which is kept in memory

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC


class HeaderTooLarge(ValueError):
    """The header section is longer than HEADER_OCTETS."""


class FileThreads(Protocol):
    """What is needed of `mailstack.work.Work`."""

    async def files(self, function: Callable[..., T], *args: object) -> T: ...


class Fund:
    """Memory that is lent, step by step, to messages that are larger than most."""

    def __init__(self, octets: int) -> None:
        self._steps = octets // STEP

    def lend(self) -> bool:
        """Lend one step, if there is one."""
        if not self._steps:
            return False
        self._steps -= 1
        return True

    def give_back(self, steps: int) -> None:
        """Take them back."""
        self._steps += steps


class Spool:
    """The folder of messages that are being received."""

    def __init__(
        self, work: FileThreads, folder: Path, memory: int = MEMORY_OCTETS, fund: int = FUND_OCTETS
    ) -> None:
        self._work = work
        self._folder = folder
        self._memory = memory
        self._fund = Fund(fund)

    def prepare(self) -> None:
        """Make the folder; remove what an earlier process left in it. Blocks; raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    def content(self, name: str) -> Content:
        """Room for one message; `name` is unique and safe in a path."""
        return Content(self._work, self._folder, name, self._memory, fund=self._fund)

    def body(self, name: str) -> Content:
        """Room for a body alone: no header section is looked for."""
        return Content(self._work, self._folder, name, self._memory, header=b"", fund=self._fund)


class Content:
    """Header section and body of one message as they arrive."""

    def __init__(
        self,
        work: FileThreads,
        folder: Path,
        name: str,
        memory: int,
        header: bytes | None = None,
        fund: Fund | None = None,
    ) -> None:
        self._work = work
        self._folder = folder
        self._name = name
        self._memory = memory
        self._fund = fund or Fund(0)
        self._steps = 0  # borrowed from it
        self._blocks: list[bytes] = []  # not in the file
        self._waiting = 0  # octets in the blocks
        self._filed = 0  # octets in the file
        self._made = False  # the file may be there
        self._head = b""  # of content that is in a file: its beginning, until the header section is whole
        self._header = header  # found in it

    @property
    def _path(self) -> Path:
        return self._folder / self._name  # asked for by the few that need a file

    @property
    def size(self) -> int:
        """Octets written so far."""
        return self._filed + self._waiting

    async def write(self, data: bytes) -> None:
        """Add octets; raise OSError where the disk does, HeaderTooLarge if no header section ends in time."""
        self._blocks.append(data)
        self._waiting += len(data)
        if self._header is None and self._waiting > HEADER_OCTETS:
            self._header = self._checked(_header_of(self._in_memory(), whole=False), self._waiting)
        while self._waiting > self._memory + self._steps * STEP:
            if self._filed or not self._borrow():
                await self._spill()

    async def finish(self) -> None:
        """All is written: what is in a file is whole there. Raises OSError."""
        if self._filed and self._waiting:
            await self._spill()

    def header(self) -> bytes:
        """The header section with the line end of its last field, without the blank line; after `finish`."""
        if self._filed:
            return self._head if self._header is None else self._header
        return _header_of(self._in_memory()) or b""

    def message(self, skip: int = 0) -> Message:
        """The message from octet `skip` on; after `finish`."""
        if self._filed:
            return Message((Stored(self._path, skip, self._filed - skip),))
        data = self._in_memory()
        return Message.of(data[skip:] if skip else data)

    def discard(self) -> None:
        """Release memory and file; no write may be under way."""
        self._blocks.clear()
        self._waiting = 0
        self._head = b""
        self._give_back()
        if self._made:
            self._made = False
            Deferred.fromCoroutine(self._remove())

    async def _spill(self) -> None:
        data = self._in_memory()
        if self._header is None:
            self._look_for_header(data)
        flags = _APPEND if self._made else _CREATE
        self._made = True
        await self._work.files(_write, self._path, flags, data)
        self._filed += len(data)
        self._blocks.clear()
        self._waiting = 0
        self._give_back(keep=1)

    def _borrow(self) -> bool:
        """Whether there is one step more of memory."""
        if self._steps >= MOST_STEPS or not self._fund.lend():
            return False
        self._steps += 1
        return True

    def _give_back(self, keep: int = 0) -> None:
        more = max(0, self._steps - keep)
        self._steps -= more
        self._fund.give_back(more)

    def _look_for_header(self, data: bytes) -> None:
        self._head += data
        self._header = self._checked(_header_of(self._head, whole=False), len(self._head))
        if self._header is not None:
            self._head = b""

    def _checked(self, header: bytes | None, seen: int) -> bytes | None:
        if (seen if header is None else len(header)) > HEADER_OCTETS:
            raise HeaderTooLarge(f"no header section ends in {HEADER_OCTETS} octets")
        return header

    def _in_memory(self) -> bytes:
        if len(self._blocks) > 1:
            self._blocks[:] = [b"".join(self._blocks)]
        return self._blocks[0] if self._blocks else b""

    async def _remove(self) -> None:
        try:
            await self._work.files(_remove, self._path)
        except Exception:
            # It costs room until the next start, and nothing else.
            _log.failure("cannot remove {path}", path=str(self._path))


def _header_of(data: bytes, whole: bool = True) -> bytes | None:
    """The fields that `data` begins with; None if their end is not there and `data` is not `whole`."""
    if data.startswith(b"\r\n"):
        return b""
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        return data[: end + 2]
    return data if whole else None


def _write(path: Path, flags: int, data: bytes) -> None:
    with open(os.open(path, flags, 0o600), "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
