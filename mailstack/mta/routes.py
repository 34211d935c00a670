"""Where each recipient goes next: to the MDA, on to other addresses, or to another MTA."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from mailstack.directory import Resolution
from mailstack.mail.address import Address
from mailstack.mail.envelope import Accepts, Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.result import Result
from mailstack.mta.tls_reports import ReportReader

LOCAL = "local:"  # the hop of what the MDA delivers; no domain and no route looks like it

UNKNOWN_USER = Reply(550, "5.1.1", "No such user here")


class Residents(Protocol):
    """What is asked of the directory."""

    async def is_local(self, domain: str) -> bool: ...

    async def resolve(self, address: Address) -> Resolution | None: ...


class Transfers(Protocol):
    """What is asked of `Transfer`."""

    def hop(self, domain: str, sender: Address | None = None) -> str: ...

    async def send(self, hop: str, envelope: Envelope, message: Message) -> dict[Address, Result]: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One recipient and its next hop."""

    recipient: Recipient
    hop: str
    forwarded_by: Address | None = None  # ours, which stands for the recipient
    expanded: Recipient | None = None  # stands for several, and its sender is to hear of that

    @property
    def local(self) -> bool:
        """Whether the MDA delivers it."""
        return self.hop == LOCAL


class Routes:
    """Knows the MDA, the transfer, and which of them a recipient is for; `reports` sees what comes for it."""

    def __init__(
        self, directory: Residents, mda: Accepts, transfer: Transfers, reports: ReportReader | None = None
    ) -> None:
        self._directory = directory
        self._mda = mda
        self._transfer = transfer
        self._reports = reports

    async def is_local(self, domain: str) -> bool:
        """Whether we serve `domain`."""
        return await self._directory.is_local(domain)

    async def steps(self, recipient: Recipient, sender: Address | None = None) -> list[Step]:
        """Where `recipient` goes, an alias to several places; `sender` may have routes of its own.

        Raise Refused: there is no such user.
        """
        domain = recipient.address.domain
        if not await self._directory.is_local(domain):
            return [Step(recipient, self._transfer.hop(domain, sender))]
        resolution = await self._directory.resolve(recipient.address)
        if resolution is None or not (resolution.locals or resolution.forwards):
            raise Refused(UNKNOWN_USER)
        several = len(resolution.locals) + len(resolution.forwards) > 1
        expanded = None
        if resolution.forwards and several and "SUCCESS" in recipient.notify:
            # RFC 3461 section 5.2.7.3: the report of success is ours to send, now; failures go on being told.
            expanded = recipient
            recipient = replace(recipient, notify=recipient.notify - {"SUCCESS"} or frozenset({"NEVER"}))
        local = [Step(recipient, LOCAL, expanded=expanded)] if resolution.locals else []
        return local + list(self._forwards(recipient, resolution.forwards, sender, expanded))

    def _forwards(
        self,
        recipient: Recipient,
        addresses: Iterable[Address],
        sender: Address | None,
        expanded: Recipient | None,
    ) -> Iterable[Step]:
        # RFC 5321 section 3.9.1: an alias changes the recipient only; the reverse-path stays. RFC 3461
        # section 5.2.7: the original recipient goes along.
        orcpt = recipient.orcpt or f"rfc822;{recipient.address}"
        for address in addresses:
            forwarded = replace(recipient, address=address, orcpt=orcpt)
            yield Step(forwarded, self._transfer.hop(address.domain, sender), recipient.address, expanded)

    async def deliver(self, hop: str, envelope: Envelope, message: Message) -> dict[Address, Result]:
        """One attempt: hand the message to the hop; a result for each recipient."""
        if hop != LOCAL:
            return await self._transfer.send(hop, envelope, message)
        replies = await self._mda.accept(envelope, message)
        if self._reports is not None and self._reports.is_for_us(envelope):
            await self._reports.read(envelope, message)
        return {address: Result(reply, dsn=False) for address, reply in replies.items()}
