"""Trusted networks: printers, scanners and scripts that cannot log in submit by their address alone.

Theory of operation. Whom a connection comes from is settled before its first word, by its address or by what
a listed proxy says; nothing that the client says changes it. In the name of our own domains such a client
sends anywhere, and its message is a submission like any other: put in order, signed, counted by address. In
any other name it may do what every client of port 25 may: send to our own users. So a script's
``root@host.lan`` reaches its reader, and nobody sends to strangers as a stranger.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mailstack.directory.model import Resolution
from mailstack.directory.names import address_key, domain_key
from mailstack.mail.address import Address
from mailstack.mail.envelope import Accepts, Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused, Reply
from mailstack.mail.results import without_claims
from mailstack.msa.fix_up import Draft
from mailstack.msa.limits import HourlyLimits
from mailstack.msa.settings import TrustedConfig
from mailstack.msa.submission import NO_SUCH_USER, Submission, SubmissionRole
from mailstack.net.conversation import Role, Say, Welcomes
from mailstack.net.peer import Network, Peer, ip_address, origin
from mailstack.net.reception import SmtpRole
from mailstack.wire.smtp import events

NOT_AS_A_STRANGER = Reply(
    550, "5.7.1", "Without a login you may send elsewhere from an address of our own domains only"
)


class Residents(Protocol):
    """What is asked of the directory."""

    async def is_local(self, domain: str) -> bool: ...

    async def resolve(self, address: Address) -> Resolution | None: ...


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is trusted, with what."""

    config: TrustedConfig
    residents: Residents
    accepts: Accepts  # takes what is not in our name: it is not signed
    postmaster: Callable[[], Awaitable[Address]]
    limits: HourlyLimits | None = None
    is_return_path: Callable[[Address], bool] = lambda address: False  # it stands for a sender elsewhere
    proxies: Sequence[Network] = ()  # never trusted themselves: they speak for others
    gateways: frozenset[str] = field(default_factory=frozenset)  # nor these, unless named one by one

    def network_of(self, peer: Peer) -> Network | None:
        """The network for whose sake the client is trusted; None: it is not.

        Behind NAT, or in a container, the whole world may come from the address of the router.
        """
        if not self.config.networks or peer.within(self.proxies):
            return None
        address = ip_address(peer.address)
        for network in self.config.networks:
            if address is not None and address in network:
                if network.num_addresses == 1 or str(address) not in self.gateways:
                    return network
        return None

    async def may_send_as(self, address: Address) -> bool:
        """Whether a trusted client may use the address elsewhere: one of ours, or one that is listed."""
        if not self.config.senders:
            return await self.residents.is_local(address.domain)
        key, domain = address_key(address), domain_key(address.domain)
        return any(_covers(sender, key, domain) for sender in self.config.senders)


def _covers(sender: str, key: str, domain: str) -> bool:
    if sender.startswith("@"):
        return domain_key(sender[1:]) == domain
    return address_key(Address.parse(sender)) == key


class TrustedFirst:
    """Welcomes trusted clients as `service` does its users; all others go to `otherwise`."""

    def __init__(self, trust: Trust, service: Submission, otherwise: Welcomes, logins: bool = True) -> None:
        self._trust = trust
        self._service = service
        self._otherwise = otherwise
        self._logins = logins  # whether they can log in all the same

    def welcome(self, peer: Peer, say: Say) -> Role:
        """The role for one connection."""
        network = self._trust.network_of(peer)
        if network is None:
            return self._otherwise.welcome(peer, say)
        return TrustedRole(self._service, self._trust, network, peer, self._logins)


class TrustedRole(SubmissionRole):
    """Answers one trusted client; once it has logged in, it is a user like others."""

    def __init__(self, service: Submission, trust: Trust, network: Network, peer: Peer, logins: bool) -> None:
        super().__init__(service, peer)
        self._trust = trust
        self._logins = logins
        self._client = origin(peer.address)
        self._accepts = self
        self._stranger = False  # the reverse-path is not ours
        self._leaves = False  # a recipient is elsewhere
        self._ours = False  # the message is in our name
        self.record.trusted = str(network)

    def hello(self) -> Sequence[str]:
        """As to users; on port 25 there is no login."""
        offers = super().hello()
        return offers if self._logins else [one for one in offers if not one.startswith("AUTH ")]

    def for_users(self) -> list[str]:
        """Nothing before a login: an address is no authorization (RFC 6710 section 4.1)."""
        return [] if self._user is None else super().for_users()

    async def auth(self, event: events.Auth | events.AuthLine) -> Reply:
        """Where there is a login."""
        if self._logins:
            return await super().auth(event)
        return await SmtpRole.auth(self, event)

    async def mail(self, event: events.Mail) -> None:
        """Any reverse-path; whose it is decides what may follow."""
        if self._user is not None:
            await super().mail(event)
            return
        path = event.reverse_path
        self._stranger = path is not None and not await self._trust.may_send_as(path)
        self._leaves = False
        self._named = 0
        limits = self._trust.limits
        if limits is not None:
            self._hour = await limits.hour(self._client)
            limits.check_message(self._hour)

    async def rcpt(self, recipient: Recipient) -> Recipient:
        """Here who exists; elsewhere anybody, in our name."""
        if self._user is not None:
            return await super().rcpt(recipient)
        limits = self._trust.limits
        if limits is not None:
            limits.check_recipients(self._hour, self._named + 1)
        if not recipient.address.domain:
            recipient = replace(recipient, address=await self._trust.postmaster())
        address = recipient.address
        if await self._trust.residents.is_local(address.domain):
            if self._stranger and self._trust.is_return_path(address):
                raise Refused(NOT_AS_A_STRANGER)
            if await self._trust.residents.resolve(address) is None:
                await self._count_unknown()
                raise Refused(NO_SUCH_USER)
        else:
            await self._check_elsewhere(address)
            self._leaves = True
        self._named += 1
        return recipient

    async def _check_elsewhere(self, address: Address) -> None:
        if self._stranger:
            raise Refused(NOT_AS_A_STRANGER)
        reply = await self._service.refusal(address) if self._service.refusal is not None else None
        if reply is not None:
            raise Refused(reply)

    async def _count_unknown(self) -> None:
        limits = self._trust.limits
        if limits is not None:
            await limits.count_unknown(self._client)
            self._hour = await limits.hour(self._client)

    async def message(self, envelope: Envelope, header: bytes) -> tuple[bytes, bytes]:
        """In our name it is put in order as our users' mail is; else it stays as it is, and here."""
        if self._user is not None:
            return await super().message(envelope, header)
        kept = without_claims(header, self.hostname)
        draft = Draft(kept)
        reply = None if self._stranger else await self._not_ours(draft)
        if reply is not None and self._leaves:
            raise Refused(reply)
        self._ours = reply is None and not self._stranger
        if self._trust.limits is not None:
            await self._trust.limits.count(self._client, len(envelope.recipients))
        if not self._ours:
            return b"", kept
        author = envelope.reverse_path or await self._trust.postmaster()
        return await self.ordered(draft, envelope, author, self._trust.may_send_as), draft.remaining()

    async def _not_ours(self, draft: Draft) -> Reply | None:
        """Why the From field is not one that a trusted client may write to others."""
        try:
            for address in draft.authors():
                if not await self._trust.may_send_as(address):
                    return Reply(550, "5.7.1", f"From: {address} is not your address")
        except Refused as refused:
            return refused.reply
        return None

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """To the queue, as a submission if it is in our name (`Accepts`)."""
        if self._user is not None:
            return await self._service.accepts.accept(envelope, message)
        if not self._ours:
            return await self._trust.accepts.accept(envelope, message)
        # Who sprays is held by this name; a login cannot look like it.
        named = replace(envelope, authenticated=f"[{self._client}]")
        return await self._service.accepts.accept(named, message)
