"""A transport that says short things at once.

Theory of operation. Twisted keeps what is written until the reactor finds the socket ready: two changes of
the epoll set and one more turn of the loop, for a reply that the socket would have taken there and then. So
a short one is offered to the socket first, and the reactor gets what it did not take. Long ones go Twisted's
way: a stream must stop at a full buffer, or one fast reader would keep the reactor to itself.
"""

from __future__ import annotations

from twisted.internet.tcp import Server

SHORT = 4096  # octets: a reply, or one in its TLS record


class PromptServer(Server):
    """One accepted connection; set it as the `transport` of a Twisted `Port`."""

    def write(self, data: bytes) -> None:
        """Send `data`, now where that is possible, else as soon as it is.

        After STARTTLS the TLS layer comes between, and goes Twisted's way.
        """
        if len(data) <= SHORT and self.connected and not (self.TLS or self._has_unsent()):
            sent = self.writeSomeData(data)
            if isinstance(sent, int):  # else the connection is lost: the reactor will find it so
                data = data[sent:]
        if data:
            super().write(data)

    def _has_unsent(self) -> bool:
        return bool(self._tempDataBuffer or self.dataBuffer or self._writeDisconnected)
