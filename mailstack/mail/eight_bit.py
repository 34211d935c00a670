"""The header section of a message that arrives in pieces."""

from __future__ import annotations

import re

_BLANK_LINE = re.compile(rb"\n\r?\n")


class Header:
    """Looks for 8-bit octets in the header section, wherever the message is cut."""

    __slots__ = ("_ended", "_tail")

    def __init__(self) -> None:
        self._ended = False
        self._tail = b"\n"  # of what has come: a blank line may have begun there, also as the very first

    def has_8bit(self, data: bytes) -> bool:
        """Whether the header section has any, as far as these next octets reach."""
        if self._ended:
            return False
        text = self._tail + data
        found = _BLANK_LINE.search(text)
        self._ended, self._tail = found is not None, text[-2:]
        return not text[: found.start() if found else None].isascii()
