"""A large file as octets of which only a few are in our memory at a time.

Theory of operation. A file that is mapped counts as ours page by page as it is read, until it is unmapped:
reading one of 50 MB once would cost 50 MB. So what is searched or copied is given back behind the reader;
the pages stay in the system's cache, from where they come again at the cost of a page fault.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any

WINDOW = 1024 * 1024  # octets that are looked at together


class Mapped(mmap.mmap):
    """A read-only map, made like any other, with what reading a message takes of the methods of `bytes`."""

    def find(self, sub: Any, start: int = 0, end: int = sys.maxsize) -> int:
        """Where `sub` lies from `start` on, before `end`; -1: nowhere. No argument below 0."""
        end, more = min(end, len(self)), max(0, len(sub) - 1)
        while True:
            stop = min(end, start + WINDOW + more)
            found = super().find(sub, start, stop)
            if found >= 0 or stop >= end:
                return found
            self._give_back(start, stop)
            start += WINDOW

    def __getitem__(self, wanted: Any) -> Any:
        """An octet, or a copy of some."""
        found = super().__getitem__(wanted)
        if isinstance(found, bytes) and len(found) >= WINDOW:
            start = wanted.indices(len(self))[0]
            self._give_back(start, start + len(found))
        return found

    def _give_back(self, start: int, stop: int) -> None:
        first = start - start % mmap.PAGESIZE
        self.madvise(mmap.MADV_DONTNEED, first, stop - first)
