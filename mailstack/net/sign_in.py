"""Signing in, the same for SMTP, IMAP and POP3: who may come in, by what, and how often they may try.

Theory of operation. A `Door` goes with each connection. The protocol's role hands it what the client says,
already decoded, and gets back an outcome: the next challenge, a welcome, or a refusal, which the role puts
in its protocol's words. Where a mechanism wants keys, a password or a token looked at, the door asks the
directory or the provider. Passwords and tokens are taken only where nobody can listen. A refusal waits,
each longer than the one before, of the connection or of its address; unknown users, wrong passwords and
users whose secret does not fit the mechanism are refused alike. Who has guessed too often (see `guesses`)
is refused unasked, before a login is looked at and again when it has been: so of many guesses made at the
same time those beyond the limit learn nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailstack.directory.directory import Claim
from mailstack.directory.model import User
from mailstack.net.binding import END_POINT
from mailstack.net.guesses import Guesses
from mailstack.net.peer import Peer
from mailstack.net.settings import AuthConfig
from mailstack.wire import sasl
from mailstack.wire.sasl import Challenge
from mailstack.work import Overloaded

_log = Logger(namespace="mailstack.sign_in")

_NONCE_OCTETS = 18  # of chance in SCRAM and CRAM-MD5; 144 bits, 24 letters
_GROWTH = 1.5  # a refusal waits so many times as long as the one before
_SHOWN = 100  # characters of a login in the log
_LONGEST = 30.0  # seconds that a refusal waits at most


class Accounts(Protocol):
    """What we ask of the directory (`mailstack.directory.Directory`)."""

    async def authenticate(self, login: str, password: str, peer: str = ...) -> User | None: ...

    async def claim(self, login: str, mechanism: str) -> Claim: ...

    async def admit(self, claim: Claim, peer: str) -> User | None: ...

    async def vouched(self, address: str, peer: str) -> User | None: ...

    def refused(self, login: str, peer: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Vouched:
    """A token is good: whose it is."""

    address: str


@dataclass(frozen=True, slots=True)
class NotVouched:
    """A token is not good: why, for the log, and what the client is told (RFC 7628 section 3.2.2)."""

    reason: str
    told: Mapping[str, str]


class Unavailable(Exception):
    """The provider cannot be asked for its keys now; the message says why."""


class Vouches(Protocol):
    """What we ask of the OpenID provider (`mailstack.net.oauth.Provider`)."""

    async def vouch(self, login: str, token: str) -> Vouched | NotVouched:
        """Whose token it is, or why it is nobody's; raise Unavailable."""
        ...


class Why(Enum):
    """Why nobody was let in."""

    IN_CLEAR = auto()  # somebody could listen
    UNKNOWN_MECHANISM = auto()
    CANCELLED = auto()  # by the client
    MALFORMED = auto()  # what it said is not in the mechanism's form
    WRONG = auto()  # whatever is wrong: user, password, key, token
    UNAVAILABLE = auto()  # it cannot be checked now
    TOO_MANY = auto()  # failures before this one: it is not looked at


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nobody was let in; the exchange is over."""

    why: Why
    text: str = ""  # in what it was malformed


@dataclass(frozen=True, slots=True)
class Welcome:
    """The client is this user."""

    user: User


Outcome = Challenge | Refusal | Welcome


@dataclass(frozen=True, slots=True)
class Patience:
    """What a protocol bears with in one connection."""

    failures: int  # then it is closed
    seconds: float  # that the first refusal waits


class SignIn:
    """What all doors share."""

    def __init__(
        self,
        directory: Accounts,
        clock: IReactorTime,
        config: AuthConfig,
        *,
        hostname: str = "localhost",
        provider: Vouches | None = None,
        nonce: Callable[[], str] = lambda: secrets.token_urlsafe(_NONCE_OCTETS),
    ) -> None:
        self.directory = directory
        self.clock = clock
        self.networks = config.plaintext_networks
        self.hostname = hostname
        self.provider = provider
        self.guesses = Guesses(config, clock)
        self.nonce = nonce  # printable, without a comma, never the same again
        self.mechanisms = tuple(
            name for name in config.mechanisms if provider is not None or name not in sasl.BEARER
        )
        self.unbound = tuple(name for name in self.mechanisms if not name.endswith(sasl.PLUS))

    def door(self, peer: Peer, protocol: str, patience: Patience) -> Door:
        """The door of a new connection."""
        return Door(self, peer, protocol, patience)


class Door:
    """One connection's way in."""

    __slots__ = (
        "_binds",
        "_claim",
        "_mechanism",
        "_name",
        "_patience",
        "_peer",
        "_protocol",
        "_service",
        "failures",
        "has_refused",
    )

    def __init__(self, service: SignIn, peer: Peer, protocol: str, patience: Patience) -> None:
        self._service = service
        self._peer = peer
        self._protocol = protocol
        self._patience = patience
        self._binds: bool | None = None  # whether this TLS connection can be bound to, once we have looked
        self._name = ""
        self._mechanism: sasl.Mechanism | None = None  # of the exchange that is going on
        self._claim: Claim | None = None  # whom it is about, in SCRAM and CRAM-MD5
        self.has_refused = False  # a token, and told the client why: what it says to that is of no interest
        self.failures = 0  # in this connection

    @property
    def is_private(self) -> bool:
        """Whether a password may be sent here."""
        return self._peer.secure or self._peer.within(self._service.networks)

    @property
    def is_worn(self) -> bool:
        """Whether there were as many failures as this connection may have."""
        return self.failures >= self._patience.failures

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What can be used now, in the order to be offered in."""
        if not self.is_private:
            return ()
        service = self._service
        if service.mechanisms == service.unbound or self._can_bind():
            return service.mechanisms
        return service.unbound

    def _can_bind(self) -> bool:
        if not self._peer.secure:
            return False
        if self._binds is None:
            self._binds = END_POINT in self._peer.bindings
        return self._binds

    def abandon(self) -> None:
        """Forget the exchange that was begun."""
        self._mechanism = self._claim = None
        self.has_refused = False

    async def begin(self, name: str, initial: bytes | None) -> Outcome:
        """An exchange of the mechanism `name`, with its initial response if there is one."""
        self.abandon()
        if not self.is_private:
            return Refusal(Why.IN_CLEAR)
        offered = self.mechanisms
        if name.upper() not in offered:
            return Refusal(Why.UNKNOWN_MECHANISM)
        self._name = name.upper()
        terms = sasl.Terms(
            self._service.nonce(),
            self._service.hostname,
            self._peer.bindings if self._name.endswith(sasl.PLUS) else {},
            binding_offered=self._name.removesuffix(sasl.PLUS) + sasl.PLUS in offered,
        )
        self._mechanism = sasl.start(name, terms)
        return await self.respond(initial, initial=True)

    async def respond(self, data: bytes | None, initial: bool = False) -> Outcome:
        """The client's next words; None cancels, unless it is the initial response that was not given."""
        mechanism = self._mechanism
        if mechanism is None or (data is None and not initial):
            self.abandon()
            return Refusal(Why.CANCELLED)
        try:
            outcome = await self._settle(mechanism.step(data))
        except sasl.BadExchange as error:
            return self.malformed(str(error))
        except (Overloaded, Unavailable) as error:
            self.abandon()
            return self._unavailable(error)
        except BaseException:
            self.abandon()
            raise
        if not isinstance(outcome, Challenge):
            self.abandon()
        return outcome

    async def password(self, login: str, password: str) -> Outcome:
        """A user name and a password that came without SASL."""
        self.abandon()
        if not self.is_private:
            return Refusal(Why.IN_CLEAR)
        if not login or not password or "\0" in login + password:
            return await self._wrong(login, password)
        self._name = "password"
        try:
            return await self._check(login, password)
        except Overloaded as error:
            return self._unavailable(error)

    def malformed(self, text: str) -> Refusal:
        """Count words that are not even in the right form; after a refused token, all words are the same."""
        refused = self.has_refused
        self.abandon()
        if refused:  # RFC 7628 section 3.2.3: the server fails the exchange; it was counted before
            return Refusal(Why.WRONG)
        self.failures += 1
        return Refusal(Why.MALFORMED, text)

    def _unavailable(self, error: Exception) -> Refusal:
        _log.warn(
            "{protocol}: a login from {peer} cannot be checked now: {why}",
            protocol=self._protocol,
            peer=self._peer.address,
            why=str(error),
        )
        return Refusal(Why.UNAVAILABLE)

    async def _settle(self, step: sasl.Step) -> Outcome:
        """Do what the mechanism asks for until it has something to say, or is done."""
        directory, peer = self._service.directory, self._peer.address
        while True:
            match step:
                case Challenge():
                    return step
                case sasl.Credentials(login, password):
                    return await self._check(login, password)
                case sasl.Wanted(login, mechanism, resume):
                    barred = await self._barred(login)
                    if barred is not None:
                        return barred
                    self._claim = await directory.claim(login, mechanism)
                    step = resume(self._claim.keys)
                case sasl.Proven():
                    assert self._claim is not None  # or the mechanism could have proved nothing
                    user = await directory.admit(self._claim, peer)
                    return await self._entered(user, self._claim.login)
                case sasl.Denied(reason):
                    if self._claim is None:  # a token: it was counted when it was refused
                        return Refusal(Why.WRONG)
                    login = self._claim.login
                    directory.refused(login, peer, self._claim.obstacle or reason)
                    return await self._wrong(login)
                case sasl.Token(login, token, refuse):
                    barred = await self._barred(login)
                    if barred is not None:
                        return barred
                    found = await self._vouched(login, token)
                    if isinstance(found, User):
                        return await self._entered(found, login)
                    await self._wrong(login)  # now, because the client may break off instead of hearing it
                    step, self.has_refused = refuse(found), True

    async def _check(self, login: str, password: str) -> Outcome:
        barred = await self._barred(login)
        if barred is not None:
            return barred
        user = await self._service.directory.authenticate(login, password, self._peer.address)
        return await self._entered(user, login, password)

    async def _vouched(self, login: str, token: str) -> User | Mapping[str, str]:
        """The user whose token it is, or what to tell the client."""
        provider = self._service.provider
        assert provider is not None  # or the mechanism would not have been offered
        directory, peer = self._service.directory, self._peer.address
        answer = await provider.vouch(login, token)
        if isinstance(answer, NotVouched):
            directory.refused(login, peer, answer.reason)
            return answer.told
        return await directory.vouched(answer.address, peer) or {"status": "invalid_token"}

    async def _entered(self, user: User | None, login: str, password: str | None = None) -> Outcome:
        if user is None:
            return await self._wrong(login, password)
        address = str(user.address)
        barred = await self._barred(login or address)
        if barred is not None:
            return barred
        self._service.guesses.passed(self._peer.address, address)
        _log.info(
            "{protocol} login of {login} from {peer} by {mechanism}",
            protocol=self._protocol,
            login=address,
            peer=self._peer.address,
            mechanism=self._name,
            tls=self._peer.tls,
        )
        return Welcome(user)

    async def _barred(self, login: str) -> Refusal | None:
        """The refusal of who has guessed too often, whatever it is that they say now."""
        guesses, peer = self._service.guesses, self._peer.address
        reason = guesses.against(peer, login)
        if reason is None:
            return None
        if guesses.to_be_told(peer, login):
            self._service.directory.refused(login, peer, reason)
        await self._wait()
        return Refusal(Why.TOO_MANY)

    async def _wrong(self, login: str, password: str | None = None) -> Refusal:
        """Refuse slowly: guessing must not pay. The directory has logged why."""
        peer = self._peer.address
        barred = await self._barred(login)
        if barred is not None:
            return barred
        for what, seconds in self._service.guesses.failed(peer, login, password):
            _log.warn(
                "{protocol}: too many failed logins of {what}: refused for {seconds:.0f} s; "
                "login={login!r} peer={peer}",
                protocol=self._protocol,
                what=what,
                seconds=seconds,
                login=login[:_SHOWN],
                peer=peer,
            )
        await self._wait()
        return Refusal(Why.WRONG)

    async def _wait(self) -> None:
        steps = max(self.failures, self._service.guesses.level(self._peer.address) - 1)
        delay = self._patience.seconds * _GROWTH ** min(steps, 20)
        self.failures += 1
        await deferLater(self._service.clock, min(delay, _LONGEST))
