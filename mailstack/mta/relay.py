"""Relay (step 3, the receiving side): mail from other MTAs, for our own recipients only.

Whoever connects to port 25 needs no login, and gets none: our users submit on other ports. What is not for
one of our domains is refused, so this is no open relay; who does not exist here is refused at RCPT, so no
bounce goes to a forged sender.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailstack.directory.model import Resolution, User
from mailstack.mail.address import Address
from mailstack.mail.envelope import Accepts, Recipient
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.relay_settings import RelayConfig
from mailstack.net.peer import Network, Peer
from mailstack.net.reception import SmtpRole
from mailstack.net.transaction import Limits, Reception

_log = Logger(namespace="mailstack.smtp")

RELAYING_DENIED = Reply(550, "5.7.1", "Relaying denied")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")
TOO_EARLY = Reply(554, "5.5.1", "Protocol error: you talked before the greeting")
TOO_MANY_REFUSED = Reply(421, "4.7.0", "Too many refused recipients; closing")
REPORTS_ONLY = Reply(550, "5.7.1", "A return path takes reports only, from <>")
MAILBOX_FULL = Reply(452, "4.2.2", "Mailbox is full; try again later")

_FREE = 5  # recipients that are refused at once; those after them wait, each twice as long
_TARPIT = (0.25, 8.0)  # seconds: the first wait, and the longest


class Residents(Protocol):
    """What relay asks of the directory."""

    async def is_local(self, domain: str) -> bool: ...

    async def resolve(self, address: Address) -> Resolution | None: ...


Full = Callable[[User], Awaitable[bool]]
IsReturnPath = Callable[[Address], bool]


async def _never(user: User) -> bool:
    return False


class Incoming:
    """What the two that take mail for our own recipients know: `Relay`, and `mailstack.mta.lmtp.Lmtp`."""

    def __init__(
        self,
        config: Limits,
        *,
        hostname: str,
        directory: Residents,
        accepts: Accepts,
        reception: Reception,
        tls: bool = False,
        full: Full = _never,
        is_return_path: IsReturnPath = lambda address: False,
        postmaster: Address | None = None,
    ) -> None:
        self.limits = config
        self.hostname = hostname
        self.directory = directory
        self.accepts = accepts
        self.reception = reception
        self.tls = tls  # STARTTLS can be offered: there is a certificate
        self.full = full  # whether a user's quota is used up
        self.is_return_path = is_return_path  # whether an address of ours stands for a sender elsewhere
        self.postmaster = postmaster  # who gets mail to <Postmaster>; None: at the host's own domain


class Relay(Incoming):
    """Welcomes other MTAs."""

    def __init__(self, config: RelayConfig, *, patient: Sequence[Network] = (), **surroundings: Any) -> None:
        super().__init__(config, **surroundings)
        self.config = config
        self.patient = tuple(patient)  # who is greeted at once

    def welcome(self, peer: Peer, say: object) -> RelayRole:
        """The role for one connection."""
        return RelayRole(self, peer)


class IncomingRole(SmtpRole):
    """Answers one client that brings mail for our own recipients."""

    def __init__(self, service: Incoming, peer: Peer) -> None:
        super().__init__(service.limits, service.hostname, service.accepts, service.reception, peer)
        self._service = service

    def hello(self) -> Sequence[str]:
        """STARTTLS where it can still be had; never AUTH."""
        offers = super().hello()
        return (*offers, "STARTTLS") if self._service.tls and not self.peer.secure else offers

    def identity(self, address: Address) -> str:
        """All who get mail here are ours, and our local-parts ignore case."""
        return address.key

    async def rcpt(self, recipient: Recipient) -> Recipient:
        """Only who is here, and has room."""
        directory = self._service.directory
        if not recipient.address.domain:
            recipient = Recipient(await self._postmaster(), recipient.notify, recipient.orcpt)
        if not await directory.is_local(recipient.address.domain):
            raise Refused(RELAYING_DENIED)
        if self._in_transaction().mail.reverse_path is not None:
            if self._service.is_return_path(recipient.address):
                raise Refused(REPORTS_ONLY)  # else whoever has seen one could write to that sender by us
        resolution = await directory.resolve(recipient.address)
        if resolution is None:
            raise Refused(NO_SUCH_USER)
        if resolution.locals and not resolution.forwards and await self._all_full(resolution):
            raise Refused(MAILBOX_FULL)
        return recipient

    async def _postmaster(self) -> Address:
        """Who <Postmaster> without a domain is: ours (RFC 5321 section 4.5.1)."""
        service = self._service
        if service.postmaster:
            return service.postmaster
        labels = service.hostname.lower().split(".")
        for i in range(len(labels)):  # mail.example.org may well serve example.org
            domain = ".".join(labels[i:])
            if await service.directory.is_local(domain):
                return Address("postmaster", domain)
        return Address("postmaster", service.hostname.lower())

    async def _all_full(self, resolution: Resolution) -> bool:
        for local in resolution.locals:
            if not await self._service.full(local.user):
                return False
        return True


class RelayRole(IncomingRole):
    """Answers one MTA."""

    service = "relay"

    def __init__(self, service: Relay, peer: Peer) -> None:
        super().__init__(service, peer)
        self._config = service.config
        self._refused = 0  # recipients, in this connection
        if not peer.within(service.patient):
            self.greet_pause = service.config.greet_pause

    async def greet(self) -> Reply:
        """Our first words, unless the client had the first word (RFC 5321 section 4.3.1)."""
        if self.peer.early:
            refuse = self._config.early_talkers == "refuse"
            _log.info(
                "{peer} talked before the greeting{so}",
                peer=self.peer.address,
                so=": refused" if refuse else "",
            )
            if refuse:
                return TOO_EARLY
        return await super().greet()

    async def rcpt(self, recipient: Recipient) -> Recipient:
        """Only who is here, and has room; who asks for many that are not is slowed down, then cut."""
        try:
            return await super().rcpt(recipient)
        except Refused as refused:
            if refused.reply.permanent:
                await self._tarpit()
            raise

    async def _tarpit(self) -> None:
        self._refused += 1
        if self._refused > self._config.max_refused_recipients:
            raise Refused(TOO_MANY_REFUSED)
        if self._refused > _FREE:
            first, longest = _TARPIT
            delay = min(longest, first * 2.0 ** (self._refused - _FREE - 1))
            await deferLater(self.reception.clock, delay)
