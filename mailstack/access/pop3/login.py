"""Who may enter, and how often they may try: USER and PASS, AUTH (RFC 1939 section 7, RFC 5034)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.access.pop3.maildrop import Maildrop
from mailstack.access.settings import Pop3Config
from mailstack.directory import User
from mailstack.net.peer import Network, Peer
from mailstack.store import MessageStore
from mailstack.wire import pop3, sasl
from mailstack.work import Work

_log = Logger(namespace="mailstack.access.pop3")


class Clock(Protocol):
    """What we ask of the reactor: IReactorTime."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any: ...


class Authenticates(Protocol):
    """What we ask of the directory (`mailstack.directory.Directory`)."""

    async def authenticate(self, login: str, password: str) -> User | None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What all connections share."""

    store: MessageStore
    directory: Authenticates
    config: Pop3Config
    clock: Clock
    work: Work
    plaintext_networks: Sequence[Network]
    hostname: str
    offers_tls: bool
    busy: set[int] = field(default_factory=set)  # users whose maildrop a session of this process holds

    async def pause(self, seconds: float) -> None:
        """Wait while the reactor serves others."""
        done: Deferred[None] = Deferred()
        self.clock.callLater(seconds, done.callback, None)
        await done


class Login:
    """The way from the greeting to an open maildrop, for one connection."""

    def __init__(self, services: Services, peer: Peer) -> None:
        self._services = services
        self._peer = peer
        self._name: str | None = None
        self._exchange: sasl.Mechanism | None = None
        self._failures = 0
        self.maildrop: Maildrop | None = None

    @property
    def is_private(self) -> bool:
        """Whether a password may be sent here."""
        return self._peer.secure or self._peer.within(self._services.plaintext_networks)

    @property
    def offers_tls(self) -> bool:
        """Whether STLS is possible now."""
        return self._services.offers_tls and not self._peer.secure

    def cancel(self) -> None:
        """End an exchange that was begun."""
        self._exchange = None

    def abandon(self) -> None:
        """Forget all that was said so far."""
        self._exchange = None
        self._name = None

    async def user(self, event: pop3.User) -> pop3.Reply:
        """USER: every name gets the same answer."""
        if not self.is_private:
            return _IN_CLEAR
        self._name = event.name
        return pop3.Ok("Now the password")

    async def password(self, event: pop3.Pass) -> pop3.Reply:
        """PASS."""
        name, self._name = self._name, None
        if not self.is_private:
            return _IN_CLEAR
        if name is None or "\0" in name + event.password:
            return await self._failed()
        return await self._enter(name, event.password)

    async def authenticate(self, event: pop3.Auth) -> pop3.Reply:
        """AUTH, with or without an initial response; bare, it lists the mechanisms, as old clients expect."""
        if event.mechanism is None:
            names = sasl.MECHANISMS if self.is_private else ()
            return pop3.Lines("Mechanisms follow", b"".join(name.encode() + b"\r\n" for name in names))
        if not self.is_private:
            return _IN_CLEAR
        self._exchange = sasl.start(event.mechanism)
        if self._exchange is None:
            return pop3.Err("No such mechanism")
        try:
            response = None if event.initial is None else sasl.decode_initial(event.initial)
        except sasl.BadExchange as error:
            return self._broken(error)
        return await self._step(self._exchange, response)

    async def respond(self, event: pop3.AuthLine) -> pop3.Reply:
        """The next line of the exchange (RFC 5034 section 4)."""
        exchange = self._exchange
        if event.data is None or exchange is None:
            self.abandon()
            return pop3.Err("Cancelled")
        try:
            return await self._step(exchange, sasl.decode(event.data))
        except sasl.BadExchange as error:
            return self._broken(error)

    async def _step(self, exchange: sasl.Mechanism, response: bytes | None) -> pop3.Reply:
        try:
            step = exchange.step(response)
        except sasl.BadExchange as error:
            return self._broken(error)
        if isinstance(step, sasl.Challenge):
            return pop3.Challenge(step.data)
        self.abandon()
        return await self._enter(step.login, step.password)

    def _broken(self, error: sasl.BadExchange) -> pop3.Reply:
        self.abandon()
        self._failures += 1
        return self._last_chance(pop3.Err(str(error).capitalize()))

    async def _enter(self, name: str, password: str) -> pop3.Reply:
        user = await self._services.directory.authenticate(name, password)
        if user is None:
            return await self._failed()
        if user.id in self._services.busy:
            return pop3.Err("Another session holds the maildrop", "IN-USE")  # RFC 2449 section 8.1.1
        self.maildrop = maildrop = await self._open(user)
        _log.info("logged in", login=str(user.address), peer=self._peer.address, tls=self._peer.tls)
        return pop3.Ok(f"{maildrop.count} messages ({maildrop.octets} octets)")

    async def _open(self, user: User) -> Maildrop:
        busy = self._services.busy
        busy.add(user.id)
        try:
            mailbox = await self._services.store.open(user.id, "INBOX")
            try:
                return Maildrop(mailbox, lambda: busy.discard(user.id))
            except BaseException:
                mailbox.close()
                raise
        except BaseException:
            busy.discard(user.id)
            raise

    async def _failed(self) -> pop3.Reply:
        self._failures += 1
        await self._services.pause(self._services.config.auth_failure_seconds)
        return self._last_chance(pop3.Err("Wrong user name or password", "AUTH"))  # RFC 3206 section 4

    def _last_chance(self, reply: pop3.Err) -> pop3.Reply:
        if self._failures < self._services.config.max_auth_failures:
            return reply
        return pop3.Bye(reply.text, reply.code)


_IN_CLEAR = pop3.Err("No login in clear: use STLS or the TLS port", "AUTH")
