"""TLS that answers at once.

Theory of operation. A TLS record for each small write would be dear, so Twisted gathers what is written until
the next turn of its loop: for each reply a timer, which is most of what the reply costs. Here what is written
while the peer's octets are being answered goes out, together, when they are; only what is said at other times
waits for the next turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

GATHERED = 64_000  # octets that are written without waiting for more


class PromptTls(TLSMemoryBIOProtocol):
    """One connection in TLS; made by a `TLSMemoryBIOFactory`."""

    def __init__(self, clock: IReactorTime, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._clock = clock
        self._gathered: list[bytes] = []
        self._size = 0  # octets gathered
        self._reading = False  # the peer's octets are being answered
        self._turn: Any = None  # the call of the next turn

    def dataReceived(self, data: bytes) -> None:
        """Answer what the peer says."""
        self._reading = True
        try:
            super().dataReceived(data)
        finally:
            self._reading = False
        self._flush()

    def write(self, data: bytes) -> None:
        """Say something, soon."""
        if not self.connected:
            return
        self._gathered.append(data)
        self._size += len(data)
        if self._size > GATHERED:
            self._flush()
        elif not self._reading and self._turn is None:
            self._turn = self._clock.callLater(0, self._flush_now)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Say several things."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close, once all is said."""
        self._flush()
        super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing more can be said."""
        self._forget()
        super().connectionLost(reason)
        self._forget()  # what the protocol said in farewell

    def _flush_now(self) -> None:
        self._turn = None
        self._flush()

    def _flush(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._size = 0
            super().write(data)

    def _forget(self) -> None:
        self._gathered.clear()
        self._size = 0
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
