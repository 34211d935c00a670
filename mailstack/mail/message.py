"""A message as it travels: bytes in memory, in a spool file, or some of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 256 * 1024  # octets read at a time


@dataclass(frozen=True, slots=True)
class Stored:
    """A run of octets in a file: `length` octets from `offset`."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Message:
    """Header section and body with CRLF line ends, as parts in order; nothing is parsed, nothing altered."""

    parts: tuple[bytes | Stored, ...]

    @classmethod
    def of(cls, data: bytes) -> Message:
        """A message that is in memory."""
        return cls((data,))

    @property
    def size(self) -> int:
        """Its octets."""
        return sum([len(part) if isinstance(part, bytes) else part.length for part in self.parts])

    @property
    def in_memory(self) -> bool:
        """Whether none of it is in a file."""
        return all(isinstance(part, bytes) for part in self.parts)

    def prefixed(self, fields: bytes) -> Message:
        """The same message with header fields in front: how trace fields are added."""
        return Message((fields, *self.parts))

    def chunks(self) -> Iterator[bytes]:
        """The octets in order, at most CHUNK at a time from a file. Blocks: call it in a thread."""
        for part in self.parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from _read(part)

    def read(self) -> bytes:
        """All octets at once. Blocks where a part is in a file."""
        return b"".join(self.chunks())


def _read(part: Stored) -> Iterator[bytes]:
    left = part.length
    with part.path.open("rb") as file:
        file.seek(part.offset)
        while left:
            data = file.read(min(left, CHUNK))
            if not data:
                raise EOFError(f"{part.path} is {left} octets short")
            left -= len(data)
            yield data
