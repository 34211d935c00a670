"""Matching mailbox names against LIST patterns (RFC 3501 section 6.3.8).

Theory of operation. A pattern becomes a set of bit masks, one bit for each place in it; matching walks the
name once and keeps the set of places reached as one integer. So the cost is the name's length whatever the
pattern is: no `*a*a*a*a` makes it grow, as it would with a regular expression.
"""

from __future__ import annotations

import re
import unicodedata

SEPARATOR = "/"
INBOX = "INBOX"
_RUN = re.compile(r"[*%]{2,}")


class Pattern:
    """One LIST pattern: ``*`` is anything, ``%`` anything but the separator; INBOX in any case."""

    __slots__ = ("_any", "_end", "_letters", "_level")

    def __init__(self, text: str) -> None:
        text = _RUN.sub(lambda run: "*" if "*" in run[0] else "%", text)
        self._end = 1 << len(text)
        self._any = self._level = 0
        self._letters: dict[str, int] = {}
        for place, letter in enumerate(text):
            bit = 1 << place
            if letter == "*":
                self._any |= bit
            elif letter == "%":
                self._level |= bit
            else:
                self._letters[letter] = self._letters.get(letter, 0) | bit

    def matches(self, name: str) -> bool:
        """Whether the whole `name` matches."""
        wild = self._any | self._level
        reached = 1 | (1 & wild) << 1
        inbox = len(INBOX) if name == INBOX or name.startswith(INBOX + SEPARATOR) else 0
        for place, letter in enumerate(name):
            bits = self._letters.get(letter, 0)
            if place < inbox:  # RFC 3501 section 5.1: INBOX in any case
                bits |= self._letters.get(letter.lower(), 0)
            stay = self._any if letter == SEPARATOR else wild
            reached = (reached & bits) << 1 | reached & stay
            reached |= (reached & wild) << 1  # a wildcard may match nothing
        return bool(reached & self._end)


def join(reference: str, pattern: str) -> str:
    """The canonical pattern of a LIST: our names know no root, so one follows the other.

    Names are kept in normal form C (RFC 9051 section 5.1).
    """
    return unicodedata.normalize("NFC", reference + pattern)
