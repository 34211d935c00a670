"""The stack as it runs: its ports, its start and its end."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailstack import __version__
from mailstack.ground import Ground
from mailstack.net.conversation import Welcomes
from mailstack.net.listener import Listener, Speaks
from mailstack.net.places import PlaceLimits, Places
from mailstack.net.settings import ListenersConfig
from mailstack.work import Overloaded

TLS_SECONDS = 60.0  # between looks whether the certificate was renewed
BUSY = {
    "smtp": b"421 4.7.0 Too many connections, try again later\r\n",
    "imap": b"* BYE [UNAVAILABLE] Too many connections, try again later\r\n",
    "pop3": b"-ERR [SYS/TEMP] Too many connections, try again later\r\n",
}
# IANA's names of protocols in TLS (RFC 7301). It has none for SMTP: these are Exim's, and what else clients
# of SMTP's ports may say.
ALPN = {"smtp": (b"smtp", b"esmtp", b"submission", b"lmtp"), "imap": (b"imap",), "pop3": (b"pop3",)}

_log = Logger(namespace="mailstack")


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a service speaks, and who answers."""

    protocol: str  # a key of BUSY
    session: Callable[[], Any]
    service: Welcomes


def listeners(ground: Ground, speaks: Mapping[str, Spoken]) -> list[Listener]:
    """A listener for each service and each address; TLS ports only where there is a certificate."""
    config = ground.config.listeners
    places = Places(_place_limits(config), ground.reactor)
    _allow_open_files(config.connections)
    return [
        Listener(
            ground.reactor,
            Speaks(place.service, spoken.session, BUSY[spoken.protocol], ALPN[spoken.protocol]),
            spoken.service,
            places=places,
            port=place.port,
            interface=address,
            path=place.socket,
            mode=config.lmtp_socket_mode,
            tls=ground.tls,
            implicit_tls=place.tls,
            backlog=config.backlog,
            transcript=ground.transcript(place.service),
            proxies=config.proxy_networks if place.service in config.proxy_services else (),
            proxy_seconds=config.proxy_seconds,
        )
        for place in config.services()
        if ground.tls is not None or not place.tls
        for spoken in [speaks[place.service]]
        for address in place.addresses
    ]


def _place_limits(config: ListenersConfig) -> PlaceLimits:
    return PlaceLimits(
        config.connections,
        config.connections_per_address,
        config.connections_per_network,
        config.new_connections_per_address,
        config.new_connections_per_network,
        config.unlimited_networks,
    )


def _allow_open_files(connections: int) -> None:
    """Raise our own limit of open files to what that many connections need, as far as the system lets us."""
    wanted = 2 * connections + 1000  # a connection may have a file, and the rest of the stack has some
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < connections:
        _log.warn(
            "only {most} files may be open, fewer than listeners.connections: {connections}; "
            "raise the limit (LimitNOFILE, ulimit -n) or lower the setting",
            most=most,
            connections=connections,
        )


class Stack(Service):
    """What `assemble` put together, started from the bottom up and stopped from the top down."""

    def __init__(self, ground: Ground, listeners: list[Listener], below: list[Any]) -> None:
        self._ground = ground
        self._listeners = listeners
        self._below = below  # queue, store, trail, work: each needs those after it
        self._renewals = LoopingCall(self._look_for_renewal)
        self._renewals.clock = ground.reactor

    def privilegedStartService(self) -> None:
        """Take the ports while we still may; raise PortUnavailable."""
        for listener in self._listeners:
            listener.privilegedStartService()

    def startService(self) -> None:
        """Start everything; raise OSError or PortUnavailable."""
        super().startService()
        self._ground.reception.prepare()
        for service in reversed(self._below):
            service.startService()
        for listener in self._listeners:
            listener.startService()
        self._renewals.start(TLS_SECONDS, now=False)
        _log.info("mailstack {version} is ready", version=__version__)

    def stopService(self) -> Deferred[None]:
        """Take no more connections, finish what was begun, then stop the queue, the store and the threads."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._renewals.stop()
        await gatherResults([Deferred.fromCoroutine(listener.close()) for listener in self._listeners])
        for service in self._below:
            await maybeDeferred(service.stopService)
        _log.info("mailstack has stopped")

    async def _look_for_renewal(self) -> None:
        if self._ground.tls is not None:
            try:
                await self._ground.work.files(self._ground.tls.refresh)
            except Overloaded:
                pass  # there is a next time
