"""A port: gives each connection that the places admit a `Conversation`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from mailstack.net.conversation import Conversation, Session, Welcomes
from mailstack.net.peer import Network, Peer, plain_address
from mailstack.net.places import Places
from mailstack.net.prompt import PromptServer
from mailstack.net.prompt_tls import PromptTls
from mailstack.net.proxied import ProxiedFactory
from mailstack.net.transcript import Transcript

_log = Logger(namespace="mailstack.net")


class PortUnavailable(Exception):
    """The operating system refuses the port; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Speaks:
    """What a port speaks: its protocol's name, its core, and the words for a connection too many."""

    name: str  # smtp, submission, submissions, imap, imaps, pop3, pop3s: as in the log
    session: Callable[[], Session]
    busy: bytes
    alpn: tuple[bytes, ...] = ()  # what a client may call it in TLS (RFC 7301); none: that is not looked at


class Listener(Service):
    """One port of one service, in clear (with an upgrade) or in TLS from the first byte."""

    def __init__(
        self,
        reactor: Any,
        speaks: Speaks,
        service: Welcomes,
        *,
        places: Places,
        port: int,
        interface: str = "",
        path: Path | None = None,
        mode: int = 0o660,
        tls: Any | None = None,
        implicit_tls: bool = False,
        backlog: int = 511,
        transcript: Callable[[Peer], Transcript] | None = None,
        proxies: Sequence[Network] = (),
        proxy_seconds: float = 10.0,
    ) -> None:
        self.setName(f"{speaks.name}-{path or interface}-{port}")
        self._path = path  # a socket in the file system, in place of a port
        self._mode = mode  # its permissions
        self._reactor = reactor
        self._number = port
        self._interface = interface
        self._backlog = backlog
        self._name = speaks.name
        self._factory = _Conversations(reactor, speaks, service, places, tls, implicit_tls, transcript)
        self._listens: Any = self._factory
        if implicit_tls:
            self._listens = TLSMemoryBIOFactory(cast(Any, tls), False, self._factory)
            self._listens.protocol = partial(PromptTls, reactor)
        self._proxied: ProxiedFactory | None = None
        if proxies:  # the header stands before the TLS handshake
            self._proxied = ProxiedFactory(speaks.name, self._listens, proxies, proxy_seconds, reactor)
            self._listens = self._proxied
        self._port: IListeningPort | None = None

    @property
    def address(self) -> IAddress:
        """Where it listens, once started: with port 0 the system chose."""
        if self._port is None:
            raise RuntimeError("the listener is not started")
        return self._port.getHost()

    def privilegedStartService(self) -> None:
        """Bind while we may still take a port below 1024; raise PortUnavailable."""
        super().privilegedStartService()
        if self._port is not None:
            return
        try:
            self._port = self._bind()
        except CannotListenError as error:
            where = self._path or f"{self._interface or '*'} port {self._number}"
            raise PortUnavailable(f"{self._name}: cannot listen on {where}: {error.socketError}") from error

    def _bind(self) -> IListeningPort:
        """Bind the address; "" is every address, IPv6 and IPv4 by one socket where there is IPv6."""
        if self._path is not None:
            # wantPID keeps a lock beside it, so that the socket of a process that died is replaced.
            path = str(self._path)
            made: IListeningPort = self._reactor.listenUNIX(
                path, self._listens, self._backlog, mode=self._mode, wantPID=True
            )
            return made
        interfaces = [self._interface] if self._interface else ["::", ""]
        for interface in interfaces[:-1]:
            try:
                return self._listen(interface)
            except CannotListenError as error:
                if getattr(error.socketError, "errno", None) not in (EAFNOSUPPORT, EADDRNOTAVAIL):
                    raise
        return self._listen(interfaces[-1])

    def _listen(self, interface: str) -> IListeningPort:
        port: Any = self._reactor.listenTCP(
            self._number, self._listens, backlog=self._backlog, interface=interface
        )
        port.transport = PromptServer
        return cast(IListeningPort, port)

    def startService(self) -> None:
        """Listen."""
        super().startService()
        self.privilegedStartService()
        here = self.address
        if isinstance(here, IPv4Address | IPv6Address):
            _log.info("{name} listens on {host} port {port}", name=self._name, host=here.host, port=here.port)
        else:
            _log.info("{name} listens on {path}", name=self._name, path=str(self._path))

    async def close(self) -> None:
        """Take no more connections, let the answers that are being made go out, close."""
        if self._port is not None:
            stopped = self._port.stopListening()
            self._port = None
            if stopped is not None:
                await stopped
        if self._proxied is not None:
            self._proxied.close()
        await self._factory.close()

    def stopService(self) -> Deferred[None]:
        """Called by Twisted when the process ends."""
        super().stopService()
        return Deferred.fromCoroutine(self.close())


class _Conversations(Factory):
    """Makes the conversations of one port and counts them."""

    noisy = False

    def __init__(
        self,
        reactor: Any,
        speaks: Speaks,
        service: Welcomes,
        places: Places,
        tls: Any | None,
        implicit_tls: bool,
        transcript: Callable[[Peer], Transcript] | None,
    ) -> None:
        self._reactor = reactor
        self._speaks = speaks
        self._service = service
        self._tls = tls
        self._secure = implicit_tls
        self._places = places
        self._transcript = transcript
        self._open: set[Conversation] = set()
        self._empty: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> TwistedProtocol:
        """A conversation, or a short refusal where there are too many."""
        host = plain_address(getattr(addr, "host", "127.0.0.1"))  # a socket in the file system is loopback
        against = self._places.enter(host)
        if against:
            if self._places.first_refusal(host):
                name = self._speaks.name
                _log.warn("{name}: {host} is sent away: {against}", name=name, host=host, against=against)
            return _Busy(self._speaks)
        conversation = Conversation(
            self._speaks.session(),
            self._service,
            self._reactor,
            tls=self._tls,
            secure=self._secure,
            transcript=self._transcript,
            gone=lambda gone: self._closed(gone, host),
            origin=(host, getattr(addr, "port", 0)),
            alpn=self._speaks.alpn,
        )
        self._open.add(conversation)
        return conversation

    async def close(self) -> None:
        """Ask every conversation to end; wait for the last."""
        for conversation in list(self._open):
            conversation.shut_down()
        if self._open:
            empty: Deferred[None] = Deferred()
            self._empty.append(empty)
            await empty.addTimeout(5, self._reactor, onTimeoutCancel=lambda _result, _timeout: None)

    def _closed(self, conversation: Conversation, host: str) -> None:
        self._open.discard(conversation)
        self._places.leave(host)
        if not self._open:
            waiting, self._empty = self._empty, []
            for empty in waiting:
                empty.callback(None)


class _Busy(TwistedProtocol):
    """Says one line and closes."""

    def __init__(self, speaks: Speaks) -> None:
        self._words = speaks.busy
        self.alpn = speaks.alpn

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._words)
        transport.loseConnection()
