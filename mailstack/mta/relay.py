"""Relay (step 3, the receiving side): mail from other MTAs, for our own recipients only.

Whoever connects to port 25 needs no login, and gets none: our users submit on other ports. What is not for
one of our domains is refused, so this is no open relay; who does not exist here is refused at RCPT, so no
bounce goes to a forged sender.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailstack.directory.model import Resolution, User
from mailstack.mail.address import Address
from mailstack.mail.envelope import Accepts, Recipient
from mailstack.mail.reply import Refused, Reply
from mailstack.net.peer import Peer
from mailstack.net.reception import Reception, SmtpRole

RELAYING_DENIED = Reply(550, "5.7.1", "Relaying denied")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")
MAILBOX_FULL = Reply(452, "4.2.2", "Mailbox is full; try again later")


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """[relay] of the configuration file: what another MTA may ask of us on port 25."""

    max_message_octets: int = 50 * 1024 * 1024  # of one message, as announced by SIZE (RFC 1870)
    max_recipients: int = 1000  # of one message; RFC 5321 section 4.5.3.1.8 asks for 100
    max_received: int = 50  # Received fields; more is a mail loop (RFC 5321 section 6.3)
    max_errors: int = 20  # commands that make no sense, then 421
    idle_seconds: float = 300.0  # of silence (RFC 5321 section 4.5.3.2.7)
    min_deliver_by_seconds: int = 0  # the shortest time that DELIVERBY may ask for (RFC 2852); 0: any

    def __post_init__(self) -> None:
        for name in ("max_message_octets", "max_recipients", "max_received"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.min_deliver_by_seconds < 0:
            raise ValueError("min_deliver_by_seconds must be 0 or more")
        if self.idle_seconds <= 0:
            raise ValueError("idle_seconds must be above 0")


class Residents(Protocol):
    """What relay asks of the directory."""

    async def is_local(self, domain: str) -> bool: ...

    async def resolve(self, address: Address) -> Resolution | None: ...


Full = Callable[[User], Awaitable[bool]]


async def _never(user: User) -> bool:
    return False


class Relay:
    """Welcomes other MTAs."""

    def __init__(
        self,
        config: RelayConfig,
        *,
        hostname: str,
        directory: Residents,
        accepts: Accepts,
        reception: Reception,
        tls: bool = False,
        full: Full = _never,
        postmaster: Address | None = None,
    ) -> None:
        self.config = config
        self.hostname = hostname
        self.directory = directory
        self.accepts = accepts
        self.reception = reception
        self.tls = tls  # STARTTLS can be offered: there is a certificate
        self.full = full  # whether a user's quota is used up
        self.postmaster = postmaster  # who gets mail to <Postmaster>; None: at the host's own domain

    def welcome(self, peer: Peer, say: object) -> RelayRole:
        """The role for one connection."""
        return RelayRole(self, peer)


class RelayRole(SmtpRole):
    """Answers one MTA."""

    def __init__(self, service: Relay, peer: Peer) -> None:
        super().__init__(service.config, service.hostname, service.accepts, service.reception, peer)
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
