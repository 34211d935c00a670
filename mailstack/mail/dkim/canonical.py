"""Canonicalization (RFC 6376 section 3.4), streaming: a body of any size in bounded memory.

Theory of operation. White space is reduced by `bytes.replace`, which is far faster than a regular expression.
What may change with the next chunk is held back: white space and CR at the end, and the number of line ends,
which count only if anything follows.
"""

from __future__ import annotations

import hashlib

_RUN = 64 * 1024  # blank lines hashed at once


def relaxed_field(raw: bytes) -> bytes:
    """One header field, with its CRLF (RFC 6376 section 3.4.2)."""
    name, _, value = raw.partition(b":")
    value = value.replace(b"\r\n", b"").replace(b"\t", b" ")
    while b"  " in value:
        value = value.replace(b"  ", b" ")
    return name.rstrip(b" \t").lower() + b":" + value.strip(b" \r\n") + b"\r\n"


def simple_field(raw: bytes) -> bytes:
    """One header field as it is (RFC 6376 section 3.4.1)."""
    return raw if raw.endswith(b"\r\n") else raw + b"\r\n"


class BodyHash:
    """SHA-256 of a body in canonical form; `limit` is l=, in octets of that form."""

    def __init__(self, relaxed: bool, limit: int | None = None) -> None:
        self._relaxed = relaxed
        self._limit = limit
        self._hash = hashlib.sha256()
        self._held = b""  # the end of what came, which the next chunk may change
        self._blank = 0  # line ends that count only if anything follows
        self._any = False
        self.octets = 0  # of the canonical form so far

    def update(self, chunk: bytes) -> None:
        """The next octets of the body."""
        data = self._held + chunk if self._held else chunk
        if self._relaxed:
            data = data.replace(b"\t", b" ")
            while b"  " in data:
                data = data.replace(b"  ", b" ")
            data = data.replace(b" \r\n", b"\r\n")
        keep = len(data) - self._uncertain(data)
        self._held, data = data[keep:], data[:keep]
        content, ends = _without_blank_lines(data)
        if content:
            self._line_ends(self._blank)
            self._put(content)
            self._any = True
            self._blank = ends
        else:
            self._blank += ends

    def digest(self) -> bytes:
        """The hash; nothing may follow."""
        rest = self._held.rstrip(b" ") if self._relaxed else self._held
        if rest:
            self._line_ends(self._blank)
            self._put(rest)
            self._any = True
        if self._any or not self._relaxed:  # an empty body: simple has a CRLF, relaxed nothing
            self._put(b"\r\n")
        return self._hash.digest()

    def _uncertain(self, data: bytes) -> int:
        if data.endswith(b"\r"):
            return 2 if self._relaxed and data.endswith(b" \r") else 1
        return 1 if self._relaxed and data.endswith(b" ") else 0

    def _line_ends(self, count: int) -> None:
        while count > 0:
            self._put(b"\r\n" * min(count, _RUN))
            count -= _RUN

    def _put(self, data: bytes) -> None:
        if self._limit is not None:
            data = data[: max(0, self._limit - self.octets)]
        self.octets += len(data)
        self._hash.update(data)


def _without_blank_lines(data: bytes) -> tuple[bytes, int]:
    """`data` without the CRLFs at its end, and how many they were."""
    content = data.rstrip(b"\r\n")
    tail = len(data) - len(content)
    if tail % 2 == 0 and data.endswith(b"\r\n" * (tail // 2)):
        return content, tail // 2
    end = len(data)  # a bare CR or LF is no line end
    while data.endswith(b"\r\n", 0, end):
        end -= 2
    return data[:end], (len(data) - end) // 2
