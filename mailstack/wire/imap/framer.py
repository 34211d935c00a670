"""Octets into lines and literals (RFC 3501 section 2.2.1 and 4.3, RFC 7888).

Only CRLF ends a line. A line that ends with `{n}` or `{n+}` is followed by a literal and then goes on. What
is broken (overlong, a bare LF) is reported once and then skipped to the end of its command, with the
literals in it, so that the stream stays in step. Memory is bounded by the limits given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LITERAL = re.compile(rb"(~?)\{([0-9]{1,20})(\+?)\}\Z")
_LONGEST_HEADER = 24  # octets of the longest literal header, `~{n+}` with 20 digits


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one session, in octets except where said. All are enforced before memory is spent."""

    command: int = 256 * 1024  # one command: its text and its literals, but not APPEND's message
    line: int = 64 * 1024  # the text of one command
    literal: int = 64 * 1024  # one literal, but not APPEND's message
    literals: int = 1000  # literals (a count) in one command
    before_login: int = 16 * 1024  # one command, while nobody has logged in
    message: int = 64 * 1024 * 1024  # APPEND's message
    skipped: int = 256 * 1024 * 1024  # what is read and thrown away of one broken command
    chunk: int = 256 * 1024  # of an APPEND's message in one event
    bad_commands: int = 10  # one after the other (a count), then BYE


@dataclass(frozen=True, slots=True)
class Literal:
    """The announcement of a literal: its octets, and whether the client waits for a continuation."""

    size: int
    synchronizing: bool
    binary: bool = False  # literal8 (RFC 3516)


@dataclass(frozen=True, slots=True)
class Line:
    """Text up to CRLF, without the literal's header if one follows."""

    text: bytes
    literal: Literal | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that cannot be one; `start` is its first octets, to find a tag in. Skipping has begun."""

    start: bytes
    reason: str


class Framer:
    """A buffer that is read as lines, or by count."""

    __slots__ = ("_buffer", "_left", "_seen", "_tail", "skipped", "skipping")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._buffer = bytearray()
        self._seen = 0  # octets known to hold no LF
        self._left = 0  # octets of a literal still to skip
        self._tail = b""  # the end of the part of a line that was skipped
        self.skipping = False  # the rest of a broken command is being thrown away
        self.skipped = 0  # octets thrown away since skipping began

    def feed(self, data: bytes) -> None:
        """Keep octets."""
        self._buffer += data

    def startswith(self, prefix: bytes) -> bool:
        """Whether the unread octets begin so."""
        return self._buffer.startswith(prefix)

    def line(self, limit: int) -> Line | Broken | None:
        """The next line of at most `limit` octets; None until it is here."""
        end = self._buffer.find(b"\n", self._seen)
        length = len(self._buffer) if end < 0 else end
        if length > limit + 1:  # 1 for the CR
            return self._broken("line too long", limit)
        if end < 0:
            self._seen = length
            return None
        if not end or self._buffer[end - 1] != 0x0D:
            return self._broken("bare LF in a line", limit)
        text = bytes(self._buffer[: end - 1])
        self._discard(end + 1)
        literal = _announced(text)
        if literal is None:
            return Line(text)
        return Line(text[: text.rindex(b"~{" if literal.binary else b"{")], literal)

    def take(self, size: int) -> bytes | None:
        """Exactly `size` octets; None until they are here."""
        if len(self._buffer) < size:
            return None
        return self.some(size)

    def some(self, most: int) -> bytes:
        """What is here, at most so many octets; may be empty."""
        data = bytes(self._buffer[:most])
        self._discard(len(data))
        return data

    def skip_literal(self, size: int) -> None:
        """Begin to throw away a literal of `size` octets and the rest of its command."""
        self.skipping, self.skipped, self._left, self._tail = True, 0, size, b""

    def skip(self, limit: int) -> bool:
        """Throw away what is here of a broken command; True once all of it is gone.

        Stops when `skipped` has passed the limit: the caller then ends the session.
        """
        while self.skipping and self._buffer and self.skipped <= limit:
            if self._left:
                self._skip_octets()
            elif not self._skip_line():
                break
        return not self.skipping

    def _broken(self, reason: str, limit: int) -> Broken:
        start = bytes(self._buffer[: min(300, max(0, limit + 2))])  # not more, however much has come by now
        self.skip_literal(0)
        return Broken(start, reason)

    def _skip_octets(self) -> None:
        count = min(self._left, len(self._buffer))
        self._left -= count
        self.skipped += count
        self._discard(count)

    def _skip_line(self) -> bool:
        """Throw away to the end of the line, or what is here of it; False if it has not ended yet."""
        end = self._buffer.find(b"\r\n")
        if end < 0:
            keep = 1 if self._buffer.endswith(b"\r") else 0  # its LF may follow
            self._forget(len(self._buffer) - keep)
            return False
        self._forget(end)
        self._discard(2)
        literal = _announced(self._tail)
        self._tail = b""
        if literal is None or literal.synchronizing:  # a client that waits has our refusal as its answer
            self.skipping = False
        else:
            self._left = literal.size
        return True

    def _forget(self, count: int) -> None:
        self._tail = (self._tail + self._buffer[max(0, count - _LONGEST_HEADER) : count])[-_LONGEST_HEADER:]
        self.skipped += count
        self._discard(count)

    def _discard(self, count: int) -> None:
        del self._buffer[:count]
        self._seen = 0


def _announced(text: bytes) -> Literal | None:
    if not text.endswith(b"}"):
        return None
    match = _LITERAL.search(text, max(0, len(text) - _LONGEST_HEADER))
    return match and Literal(int(match[2]), not match[3], bool(match[1]))
