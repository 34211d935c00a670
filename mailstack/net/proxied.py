"""Connections that come through a proxy: the header first (PROXY protocol), then all the rest.

Theory of operation. `ProxiedFactory` stands in front of a listener's own factory, below TLS. A connection
from elsewhere goes straight to that factory, so a header in it is only a strange first command. One from a
listed network is silent until its header is whole: then the protocol for the real client is made, takes this
one's place at the transport, and gets what came behind the header. Nothing stays in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailstack.net.peer import Network, plain_address, within
from mailstack.wire import proxy

_log = Logger(namespace="mailstack.net")


class ProxiedFactory(Factory):
    """Waits for the header on connections from `networks`, at most `seconds`."""

    noisy = False

    def __init__(
        self, name: str, behind: Any, networks: Sequence[Network], seconds: float, clock: Any
    ) -> None:
        self._name = name
        self._behind = behind
        self._networks = tuple(networks)
        self._seconds = seconds
        self._clock = clock
        self._waiting: set[_AwaitsHeader] = set()

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol | None:
        """For a proxy one that waits, for others what is behind."""
        if within(plain_address(getattr(addr, "host", "")), self._networks):
            return _AwaitsHeader(self, addr)
        built: TwistedProtocol | None = self._behind.buildProtocol(addr)
        return built

    def doStart(self) -> None:
        """The port is open."""
        super().doStart()
        self._behind.doStart()

    def doStop(self) -> None:
        """The port is closed."""
        super().doStop()
        self._behind.doStop()

    def close(self) -> None:
        """Cut those that have not said who they are."""
        for waiting in list(self._waiting):
            waiting.cut()

    def wait(self, waiting: _AwaitsHeader) -> Any:
        """Keep the connection until its header is there; returns what ends the wait."""
        self._waiting.add(waiting)
        return self._clock.callLater(self._seconds, waiting.refuse, f"no header in {self._seconds:g} s")

    def leave(self, waiting: _AwaitsHeader) -> None:
        """It waits no more."""
        self._waiting.discard(waiting)

    def refused(self, addr: Any, why: str) -> None:
        """Tell the operator."""
        host = getattr(addr, "host", "")
        _log.warn("{name}: the proxy {host} is cut: {why}", name=self._name, host=host, why=why)

    def behind(self, addr: Any, header: proxy.ProxyHeader) -> TwistedProtocol | None:
        """The protocol for the client that the header names."""
        if header.address is not None:
            kind = IPv6Address if ":" in header.address else IPv4Address
            addr = kind("TCP", header.address, header.port)
        built: TwistedProtocol | None = self._behind.buildProtocol(addr)
        return built


class _AwaitsHeader(TwistedProtocol):
    """A connection whose first bytes are the proxy's."""

    def __init__(self, factory: ProxiedFactory, addr: Any) -> None:
        self._proxied = factory
        self._addr = addr
        self._data = b""
        self._timer: Any = None

    def connectionMade(self) -> None:
        """Say nothing: the header comes first."""
        self._timer = self._proxied.wait(self)

    def dataReceived(self, data: bytes) -> None:
        """More of the header, or all of it and more."""
        if self._timer is None:
            return  # refused: what still arrives is for nobody
        self._data += data
        try:
            header = proxy.read(self._data)
        except proxy.BadProxyHeader as error:
            self.refuse(str(error))
            return
        if header is not None:
            self._give_way(header)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The proxy has closed."""
        self._end()

    def refuse(self, why: str) -> None:
        """Log one line and close."""
        self._proxied.refused(self._addr, why)
        self.cut()

    def cut(self) -> None:
        """Close without a word."""
        self._end()
        transport: Any = self.transport
        transport.abortConnection()

    def _give_way(self, header: proxy.ProxyHeader) -> None:
        self._end()
        transport: Any = self.transport
        protocol = self._proxied.behind(self._addr, header)
        if protocol is None:
            transport.abortConnection()
            return
        rest, self._data = self._data[header.size :], b""
        transport.protocol = protocol  # as `startTLS` does: this one is done
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)

    def _end(self) -> None:
        self._proxied.leave(self)
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
