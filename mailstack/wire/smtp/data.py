"""The content of a message on its way in: where DATA ends, what was stuffed, and what must not be there.

Theory of operation. Content is scanned as it comes, never line by line. Only CRLF.CRLF ends it (RFC 5321
section 4.1.1.4), also at its very start, for which a CRLF is imagined in front. The last octets of what has
arrived, at most four, wait for the next if they may begin that mark. So no dot that was stuffed and no CRLF
is ever cut in two, and each run can be checked and un-stuffed by itself. A CR or LF that stands alone makes
the content refused at its end: some server behind us may take it for a line end and see commands in what we
saw as text ("SMTP smuggling"). So does a null octet, which some server may drop, and with it what kept a dot
from standing alone (RFC 2045 section 2.8: no text has one).

Where a lone LF is mended instead (submission may, RFC 6409 section 8: scripts that send text files as they
are mean it well), it becomes CRLF once the content is read, so it never ends the message, and a dot after it
is only a dot, stuffed by us on its way on.
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder

_END = b"\r\n.\r\n"
_HELD = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")  # what may begin the mark, longest first
_LONE_LF = re.compile(rb"(?<!\r)\n")


class DotContent:
    """Reads the content that follows DATA."""

    __slots__ = ("_held", "_lines", "_mends", "_skip", "bare", "null")

    def __init__(self, mends: bool = False) -> None:
        self._lines = _LineEnds()
        self._mends = mends  # a bare LF becomes CRLF
        self._held = b"\r\n"
        self._skip = 2  # octets still to drop: the imagined CRLF
        self.bare = False  # a bare CR or LF was seen
        self.null = False  # a null octet was seen

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """(content, what comes after its end); the second is None until the end is there."""
        if self._held:
            data = self._held + data
            self._held = b""
        dot = data.find(
            b"."
        )  # most of what is large is base64, and a single octet is found ten times as fast
        end = -1 if dot < 0 else data.find(_END, max(0, dot - 2))
        if end >= 0:
            return self._text(data[: end + 2], dot < end), data[end + len(_END) :]
        for held in _HELD:
            if data.endswith(held):
                self._held = held
                data = data[: -len(held)]
                break
        return self._text(data, dot >= 0), None

    def _text(self, data: bytes, dots: bool) -> bytes:
        if not data:
            return data
        found = self._lines.bare_in(data, final=True)
        if b"\0" in data:
            self.null = True
        if dots and b"\r\n." in data:
            data = data.replace(b"\r\n.", b"\r\n")  # RFC 5321 section 4.5.2: dot-stuffing
        if found and self._mends:
            data = _LONE_LF.sub(b"\r\n", data)
            found = self._lines.bare_cr
        self.bare = found
        if self._skip:
            data = data[self._skip :]
            self._skip = 0
        return data


class ChunkContent:
    """Checks the content of a transaction's BDAT chunks (RFC 3030), which may cut a CRLF in two."""

    __slots__ = ("_lines", "bare", "null")

    def __init__(self) -> None:
        self._lines = _LineEnds()
        self.bare = False  # a bare CR or LF was seen
        self.null = False  # a null octet was seen

    def feed(self, data: bytes) -> None:
        """Look at the next octets."""
        self.bare = self._lines.bare_in(data)
        if b"\0" in data:
            self.null = True

    def end(self) -> None:
        """The last chunk has come whole."""
        self.bare = self._lines.bare_in(b"", final=True)


class _LineEnds:
    """Looks for a CR or LF without the other.

    What Python reads text files with notes the kinds of line ends as it goes, at five times the speed of
    counting them.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = IncrementalNewlineDecoder(None, translate=False)

    def bare_in(self, data: bytes, final: bool = False) -> bool:
        """Whether there was one up to here; a CR at the end may find its LF later unless this is `final`."""
        self._decoder.decode(data.decode("latin-1"), final)
        return self._decoder.newlines not in (None, "\r\n")

    @property
    def bare_cr(self) -> bool:
        """Whether there was a CR without LF up to here."""
        kinds = self._decoder.newlines or ()
        return kinds == "\r" if isinstance(kinds, str) else "\r" in kinds
