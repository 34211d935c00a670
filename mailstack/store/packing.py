"""Files of stored mail, plain or compressed, read and written alike.

Theory of operation. ``S=`` in a file's name is the size of the message. A file of just so many octets is
the message itself, whatever it begins with; one of another size that begins like a compressed file is one:
gzip, bzip2, xz or Zstandard, as Dovecot's zlib plugin writes them. So nothing needs to be noted anywhere,
compressed and plain files lie side by side, and what we compress is always smaller than its message.

What is read is bounded by what was asked for, never by what a file claims to hold: no more is undone than
the octets up to those wanted, and never more than `MOST_UNPACKED`. The dictionaries that a file may ask
memory for are bounded too.
"""

from __future__ import annotations

import bz2
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

Compression = Literal["none", "zlib", "zstd"]

CHUNK = 256 * 1024  # octets read at a time
MOST_UNPACKED = 512 * 1024 * 1024  # octets of a message; a longer one is kept as it is
_LEAST = 256  # octets of a message below which nothing can be won
_XZ_MEMORY = 128 * 1024 * 1024  # octets: a dictionary of 64 MiB, the largest of xz's presets
_ZSTD_WINDOW = 8 * 1024 * 1024  # octets: what a decoder must support (RFC 8878 section 3.1.1.1.2)
_MOST_BLOCKS = 1_000_000  # of a file of Zstandard
_SIZE = re.compile(r",S=(\d{1,18})(?=,|:|$)")
_LONGEST = 6  # octets of a magic


class Damaged(OSError):
    """A compressed file does not hold what it should."""


class _Decoder(Protocol):
    """What bz2 and lzma have."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Source(Protocol):
    """Octets in order."""

    def read(self, most: int, /) -> bytes: ...


class _Gzip:
    """zlib's decoder in the manner of the others (RFC 1952)."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Unpacked:
    """The octets that a compressed file stands for, in order; its members one after the other."""

    def __init__(self, file: BinaryIO, make: Callable[[], _Decoder]) -> None:
        self._file = file
        self._make = make
        self._decoder = make()
        self._left = b""  # of the file, read and not decoded

    def read(self, most: int) -> bytes:
        """At most so many octets; none at the end. Raise Damaged."""
        try:
            while True:
                if self._decoder.eof and not self._next_member():
                    return b""
                data = self._input()
                found = self._decoder.decompress(data, most)
                if found:
                    return found
                if not data and self._decoder.needs_input and not self._decoder.eof:
                    raise Damaged("a compressed file ends too soon")
        except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError) as error:
            raise error if isinstance(error, Damaged) else Damaged(str(error)) from error

    def _input(self) -> bytes:
        if not self._decoder.needs_input:
            return b""
        data, self._left = self._left, b""
        return data or self._file.read(CHUNK)

    def _next_member(self) -> bool:
        self._left = self._decoder.unused_data or self._file.read(CHUNK)
        if not self._left:
            return False
        self._decoder = self._make()
        return True


class _Zstd:
    """The same for Zstandard (RFC 8878)."""

    def __init__(self, file: BinaryIO) -> None:
        import zstandard  # only who needs it pays for it

        if not _is_whole(file.fileno(), os.fstat(file.fileno()).st_size):
            raise Damaged("a compressed file ends too soon")
        self._error = zstandard.ZstdError
        decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._reader = decoder.stream_reader(file, read_size=CHUNK, read_across_frames=True, closefd=False)

    def read(self, most: int) -> bytes:
        """At most so many octets; none at the end. Raise Damaged."""
        try:
            return bytes(self._reader.read(most))
        except self._error as error:
            raise Damaged(str(error)) from error


def _is_whole(descriptor: int, size: int) -> bool:
    """Whether Zstandard's last frame has its last block: the library takes any end for one."""
    at = 0
    for _ in range(_MOST_BLOCKS):
        if at >= size:
            break
        head = os.pread(descriptor, 8, at)
        if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # skippable (RFC 8878 section 3.1.2)
            at += 8 + int.from_bytes(head[4:8], "little")
        elif head.startswith(b"\x28\xb5\x2f\xfd") and len(head) > 4:
            at = _end_of_frame(descriptor, at, head[4])
        else:
            return False
    return at == size


def _end_of_frame(descriptor: int, at: int, flags: int) -> int:
    """Where a frame ends that begins at `at` (RFC 8878 section 3.1.1); beyond the file where it does not."""
    single = flags >> 5 & 1
    at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
    for _ in range(_MOST_BLOCKS):
        block = int.from_bytes(os.pread(descriptor, 3, at), "little")
        at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)  # one octet that is repeated, or so many
        if block & 1:
            return at + (4 if flags >> 2 & 1 else 0)
    return -1


def _lzma() -> _Decoder:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


_KINDS: dict[bytes, Callable[[BinaryIO], _Source]] = {
    b"\x1f\x8b": lambda file: _Unpacked(file, _Gzip),
    b"BZh": lambda file: _Unpacked(file, bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": lambda file: _Unpacked(file, _lzma),
    b"\x28\xb5\x2f\xfd": _Zstd,
}


def kind_of(file: BinaryIO, name: str) -> bytes | None:
    """The magic of a compressed file that stands at its beginning; None for a message as it is."""
    said = _SIZE.search(name)
    if said is not None and int(said[1]) == os.fstat(file.fileno()).st_size:
        return None
    begin = os.pread(file.fileno(), _LONGEST, 0)
    return next((magic for magic in _KINDS if begin.startswith(magic)), None)


class Text:
    """A message's file, held open: it may be renamed or removed meanwhile. Blocking; close it."""

    def __init__(self, path: Path | str) -> None:
        """Raise OSError."""
        self._file: BinaryIO = open(path, "rb", buffering=0)  # noqa: SIM115
        try:
            self.kind = kind_of(self._file, os.path.basename(path))
        except BaseException:
            self._file.close()
            raise
        self._source: _Source = self._file
        self._at = -1  # where a compressed source stands; not opened yet

    def read(self, offset: int, length: int) -> bytes:
        """`length` octets of the message from `offset`, fewer only at its end. Raise OSError.

        Forward is cheap; back means to begin anew in a compressed file.
        """
        if self.kind is None:
            number = self._file.fileno()
            return pread(number, offset, min(length, max(0, os.fstat(number).st_size - offset)))
        if offset < self._at or self._at < 0:
            self._file.seek(0)
            self._source, self._at = _KINDS[self.kind](self._file), 0
        while self._at < offset:
            if not self._some(min(CHUNK, offset - self._at)):
                return b""
        found: list[bytes] = []
        while length and (data := self._some(min(CHUNK, length))):
            found.append(data)
            length -= len(data)
        return b"".join(found)

    def chunks(self) -> Iterator[bytes]:
        """All of it, at most `CHUNK` octets at a time. Raise OSError; Damaged beyond `MOST_UNPACKED`."""
        at = 0
        while data := self.read(at, CHUNK):
            at += len(data)
            if self.kind is not None and at > MOST_UNPACKED:
                raise Damaged("it holds too much")
            yield data

    @property
    def links(self) -> int:
        """How many names the file has now; 0: it was removed or replaced."""
        return os.fstat(self._file.fileno()).st_nlink

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def __enter__(self) -> Text:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _some(self, most: int) -> bytes:
        data = self._source.read(most)
        self._at += len(data)
        return data


def pread(descriptor: int, offset: int, length: int) -> bytes:
    """Octets of an open file, fewer only at its end. Raise OSError."""
    data = os.pread(descriptor, length, offset)
    while 0 < len(data) < length:  # one read ends at 2 GiB
        more = os.pread(descriptor, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def size_of_text(path: Path) -> int:
    """The octets of the message in a file; of a file that cannot be undone its own. Raise OSError."""
    try:
        with Text(path) as text:
            if text.kind is not None:
                return sum(map(len, text.chunks()))
    except Damaged:
        pass
    return os.stat(path).st_size


def pack(data: bytes, compression: Compression) -> bytes | None:
    """A whole message compressed; None where that would not make it smaller."""
    if compression == "none" or len(data) < _LEAST:
        return None
    encoder = _encoder(compression)
    packed: bytes = encoder.compress(data) + encoder.flush()
    return packed if len(packed) < len(data) else None


def packed_pieces(chunks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """The same of a big one, in pieces, whatever their size is together."""
    encoder = _encoder(compression)
    for chunk in chunks:
        yield encoder.compress(chunk)
    yield encoder.flush()


def again(kind: bytes) -> Compression:
    """What to compress with in place of a file of that kind: what we can write that is next to it."""
    return "zstd" if _KINDS[kind] is _Zstd else "zlib"


def _encoder(compression: Compression) -> Any:
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    return zlib.compressobj(6, wbits=31)
