"""Who may enter, and how often they may try: USER and PASS, AUTH (RFC 1939 section 7, RFC 5034)."""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted.logger import Logger

from mailstack.access.pop3.maildrop import Maildrop
from mailstack.access.pop3.retention import begin
from mailstack.access.settings import Pop3Config
from mailstack.directory import User
from mailstack.net.peer import Peer
from mailstack.net.sign_in import Outcome, Patience, Refusal, SignIn, Welcome, Why
from mailstack.store.message_store import MessageStore
from mailstack.wire import pop3, sasl
from mailstack.work import Clock, Work

_log = Logger(namespace="mailstack.access.pop3")


@dataclass(frozen=True, slots=True)
class Services:
    """What all connections share."""

    store: MessageStore
    sign_in: SignIn
    config: Pop3Config
    clock: Clock
    work: Work
    hostname: str
    offers_tls: bool
    busy: set[int] = field(default_factory=set)  # users whose maildrop a session of this process holds
    entered: Recently = field(default_factory=lambda: Recently())  # who has logged in a short while ago


class Recently:
    """Who has logged in, and when: of so many users at most as log in within the delay."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: dict[int, float] = {}  # in the order of time

    def is_too_soon(self, user_id: int, now: float, delay: float) -> bool:
        """Whether the last login of that user is less than `delay` seconds ago."""
        while self._times and next(iter(self._times.values())) + delay <= now:
            del self._times[next(iter(self._times))]
        return user_id in self._times

    def note(self, user_id: int, now: float) -> None:
        """Somebody has logged in."""
        self._times.pop(user_id, None)
        self._times[user_id] = now


class Login:
    """The way from the greeting to an open maildrop, for one connection."""

    def __init__(self, services: Services, peer: Peer) -> None:
        self._services = services
        self._peer = peer
        self._name: str | None = None
        config = services.config
        patience = Patience(config.max_auth_failures, config.auth_failure_seconds)
        self._door = services.sign_in.door(peer, "pop3", patience)
        self.maildrop: Maildrop | None = None

    @property
    def is_private(self) -> bool:
        """Whether a password may be sent here."""
        return self._door.is_private

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms that can be used now."""
        return self._door.mechanisms

    @property
    def offers_tls(self) -> bool:
        """Whether STLS is possible now."""
        return self._services.offers_tls and not self._peer.secure

    def cancel(self) -> None:
        """End an exchange that was begun."""
        self._door.abandon()

    def abandon(self) -> None:
        """Forget all that was said so far."""
        self._door.abandon()
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
        return await self._said(await self._door.password(name or "", event.password))

    async def authenticate(self, event: pop3.Auth) -> pop3.Reply:
        """AUTH, with or without an initial response; bare, it lists the mechanisms, as old clients expect."""
        self._name = None
        if event.mechanism is None:
            names = "".join(f"{name}\r\n" for name in self.mechanisms)
            return pop3.Lines("Mechanisms follow", names.encode())
        try:
            response = None if event.initial is None else sasl.decode_initial(event.initial)
        except sasl.BadExchange as error:
            return await self._said(self._door.malformed(str(error)))
        return await self._said(await self._door.begin(event.mechanism, response))

    async def respond(self, event: pop3.AuthLine) -> pop3.Reply:
        """The next line of the exchange (RFC 5034 section 4); None cancels it."""
        try:
            response = None if event.data is None else sasl.decode(event.data)
        except sasl.BadExchange as error:
            return await self._said(self._door.malformed(str(error)))
        return await self._said(await self._door.respond(response))

    async def _said(self, outcome: Outcome) -> pop3.Reply:
        match outcome:
            case sasl.Challenge(data):
                return pop3.Challenge(data)
            case Welcome(user):
                return await self._enter(user)
            case Refusal(Why.MALFORMED, text):
                reply = pop3.Err(text[:1].upper() + text[1:])
            case Refusal(why):
                reply = _REFUSALS[why]
        return pop3.Bye(reply.text, reply.code) if self._door.is_worn else reply

    async def _enter(self, user: User) -> pop3.Reply:
        if user.id in self._services.busy:
            return pop3.Err("Another session holds the maildrop", "IN-USE")  # RFC 2449 section 8.1.1
        services, now = self._services, self._services.clock.seconds()
        delay = services.config.login_delay
        if delay and services.entered.is_too_soon(user.id, now, delay):  # RFC 2449 section 8.1.1
            return pop3.Err(f"Log in once in {delay} seconds", "LOGIN-DELAY")
        self.maildrop = maildrop = await self._open(user)
        if delay:
            services.entered.note(user.id, now)
        return pop3.Ok(f"{maildrop.count} messages ({maildrop.octets} octets)")

    async def _open(self, user: User) -> Maildrop:
        services, busy = self._services, self._services.busy
        busy.add(user.id)
        try:
            mailbox = await services.store.open(user.id, "INBOX")
            try:
                after = await begin(services.store, mailbox, services.config, services.clock.seconds)
                return Maildrop(mailbox, lambda: busy.discard(user.id), after)
            except BaseException:
                mailbox.close()
                raise
        except BaseException:
            busy.discard(user.id)
            raise


_IN_CLEAR = pop3.Err("No login in clear: use STLS or the TLS port", "AUTH")
_REFUSALS = {
    Why.IN_CLEAR: _IN_CLEAR,
    Why.UNKNOWN_MECHANISM: pop3.Err("No such mechanism"),
    Why.CANCELLED: pop3.Err("Cancelled"),
    Why.WRONG: pop3.Err("Wrong user name or password", "AUTH"),  # RFC 3206 section 4
    Why.UNAVAILABLE: pop3.Err("Cannot check it now; try again later", "SYS/TEMP"),
    Why.TOO_MANY: pop3.Err("Too many failed logins; try again later", "SYS/TEMP"),
}
