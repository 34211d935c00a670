"""Multi-line responses: octets cut anywhere become lines (RFC 1939 section 3)."""

from __future__ import annotations

import re

# An LF before a dot, or without its CR. One pass that knows how to stop at LFs only: counting LF and CRLF and
# looking for LF and dot cost six times as much, more than all else that RETR does.
_CHANGES = re.compile(rb"\n(?:\.|(?<!\r\n))").search


class Stuffer:
    """Makes lines of a message's octets: dots stuffed, LF alone made CRLF, a CRLF at the very end."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b"\n"  # the octet before: at first as if a line had ended

    def feed(self, data: bytes) -> bytes:
        """The next octets, ready to send."""
        if not data:
            return b""
        before, self._last = self._last, data[-1:]
        first = b""
        if before == b"\r" and data[:1] == b"\n":
            first, before, data = b"\n", b"\n", data[1:]
        if before == b"\n" and data[:1] == b".":
            first += b"."
        if _CHANGES(data):
            data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"\n.", b"\n..")
        return first + data if first else data

    def finish(self) -> bytes:
        """What ends the response, after a CRLF if the message lacks it."""
        return b".\r\n" if self._last == b"\n" else b"\r\n.\r\n"


class TopLines:
    """Cuts a message after its header section and some lines of its body (RFC 1939 section 7, TOP)."""

    __slots__ = ("_before", "_left", "done")

    def __init__(self, lines: int) -> None:
        self._before: bytes | None = b"\n"  # the octets before, while in the header section
        self._left = lines
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """What of the next octets belongs to it; once `done`, nothing more does."""
        if self.done:
            return b""
        start = 0
        if self._before is not None:
            start = self._header(self._before, data)
            if start < 0:
                return data
        return data[: self._body(data, start)]

    def _header(self, before: bytes, data: bytes) -> int:
        """Where in `data` the body begins; -1: the header section goes on."""
        joined = before + data
        ends = [at + len(blank) for blank in (b"\n\r\n", b"\n\n") if (at := joined.find(blank)) >= 0]
        if not ends:
            self._before = joined[-2:]
            return -1
        self._before = None
        return min(ends) - len(before)

    def _body(self, data: bytes, start: int) -> int:
        """Where in `data` the last line that is wanted ends."""
        lines = data.count(b"\n", start)
        if lines < self._left:
            self._left -= lines
            return len(data)
        while self._left:
            start = data.find(b"\n", start) + 1
            self._left -= 1
        self.done = True
        return start
