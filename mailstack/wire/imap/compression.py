"""COMPRESS=DEFLATE (RFC 4978): a raw deflate stream each way, flushed after each piece of output.

A few octets may inflate to a thousand times as many, so `inflate` gives a bounded piece and keeps the rest
compressed: what is in memory is what the peer has sent, a piece, and zlib's own window.
"""

from __future__ import annotations

import zlib
from typing import Protocol

PIECE = 64 * 1024  # octets that `inflate` gives at most
_WINDOW = -15  # raw deflate, with no header (RFC 4978 section 3)
_LEVEL = 6
# Ours may be smaller: 64 KiB for each connection instead of 256, for a few hundredths more octets.
_OUR_WINDOW = -13
_MEMORY = 6


class Tap(Protocol):
    """Who listens to a conversation of which only compressed octets are on the wire."""

    def received(self, data: bytes) -> None: ...

    def sent(self, data: bytes) -> None: ...


class Deflate:
    """Both directions of one connection."""

    __slots__ = ("_deflate", "_inflate", "_waiting", "broken")

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _OUR_WINDOW, _MEMORY)
        self._inflate = zlib.decompressobj(_WINDOW)
        self._waiting = b""
        self.broken = False  # what came is no deflate stream: nothing more can be read

    @property
    def waiting(self) -> int:
        """Octets that have come and are not inflated yet."""
        return len(self._waiting)

    def deflate(self, data: bytes) -> bytes:
        """The octets to send for these: whole, so that the peer can read them at once (Z_SYNC_FLUSH)."""
        if not data:
            return b""
        return self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def feed(self, data: bytes) -> None:
        """Keep what the peer has sent."""
        if not self.broken:
            self._waiting += data

    def inflate(self, most: int = PIECE) -> bytes:
        """The next octets that the peer meant; empty until more has come, or once `broken`."""
        if self.broken:
            return b""
        try:
            data = self._inflate.decompress(self._waiting, most)
        except zlib.error:
            self._waiting, self.broken = b"", True
            return b""
        self._waiting = self._inflate.unconsumed_tail
        # The peer ended its stream, which RFC 4978 has no word for: it has nothing more to say.
        self.broken = self._inflate.eof
        return data
