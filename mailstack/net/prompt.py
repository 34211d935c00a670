"""A transport that says short things at once, and closes at once.

Theory of operation. Twisted keeps what is written until the reactor finds the socket ready: two changes of
the epoll set and one more turn of the loop, for a reply that the socket would have taken there and then. So
a short one is offered to the socket first, and the reactor gets what it did not take. Long ones go Twisted's
way: a stream must stop at a full buffer, or one fast reader would keep the reactor to itself. So it is with
the end: where all is said when the client's last command is answered, there is nothing to wait for.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.main import CONNECTION_LOST
from twisted.internet.tcp import Connection, Server

SHORT = 64 * 1024  # octets: a reply, also one with a usual message in it


class PromptServer(Server):
    """One accepted connection; set it as the `transport` of a Twisted `Port`."""

    _reading = False  # the protocol is being given what was read
    _done = False  # and it wants no more

    def doRead(self) -> Any:
        """Read once; what is returned tells the reactor that the connection is over."""
        self._reading = True
        try:
            why = super().doRead()
        finally:
            self._reading = False
        return why or (CONNECTION_LOST if self._done and not self.disconnected else None)

    def loseConnection(self) -> None:
        """Close once all is written: after this read, where all is."""
        if self._reading and self.connected and not self.TLS and not _has_unsent(self):
            self._done = self.disconnecting = True
        else:
            super().loseConnection()

    def write(self, data: bytes) -> None:
        """Send `data`, now where that is possible, else as soon as it is.

        After STARTTLS the TLS layer comes between, and goes Twisted's way.
        """
        if len(data) <= SHORT:
            data = offer(self, data)
        if data:
            super().write(data)


def offer(transport: Connection, data: bytes) -> bytes:
    """Have the socket take what it will of `data`, where nothing waits before it; return the rest."""
    if not transport.connected or transport.TLS or _has_unsent(transport):
        return data
    sent = transport.writeSomeData(data)
    # Else the connection is lost: the reactor will find it so.
    return data[sent:] if isinstance(sent, int) else data


def _has_unsent(transport: Connection) -> bool:
    return bool(transport._tempDataBuffer or transport.dataBuffer or transport._writeDisconnected)
