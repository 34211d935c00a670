"""What one reception of mail is made of: the transaction, and what all transactions of a server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from mailstack.mail.address import Address
from mailstack.mail.envelope import DeliverBy, Envelope, Recipient
from mailstack.net import checks, trace
from mailstack.net.spool import Content, FileThreads, Spool
from mailstack.trail.notes import NO_NOTES, Notes
from mailstack.wire.smtp import events

MOST_LOGGED = 20  # recipients shown in one line of the log


class Limits(Protocol):
    """What `MsaConfig` and `RelayConfig` both say."""

    @property
    def max_message_octets(self) -> int: ...

    @property
    def max_recipients(self) -> int: ...

    @property
    def max_errors(self) -> int: ...

    @property
    def max_received(self) -> int: ...

    @property
    def idle_seconds(self) -> float: ...

    @property
    def min_deliver_by_seconds(self) -> int: ...


class Reception:
    """What all transactions of this server share: the spool, the clock, and names for messages."""

    def __init__(
        self,
        work: FileThreads,
        folder: Path,
        clock: IReactorTime,
        random: trace.RandomSource,
        policy: checks.Policy | None = None,
        trail: Notes = NO_NOTES,
    ) -> None:
        self.work = work
        self.spool = Spool(work, folder)
        self.clock = clock
        self.policy = policy  # the checks that the operator lists; None: there are none
        self.trail = trail  # what happens to each message is written there
        self.names = trace.Names(clock, random)

    def prepare(self) -> None:
        """Make the spool folder and empty it, before the first listener starts. Blocks; raises OSError."""
        self.spool.prepare()


@dataclass(slots=True)
class Transaction:
    """MAIL to the reply after the content."""

    mail: events.Mail
    id: str
    content: Content
    recipients: dict[str | Address, Recipient]  # one named twice gets one copy
    began: float  # seconds of the epoch
    room: Callable[[str], Content]  # for bodies that checks put in the place of its own
    spares: list[Content] = field(default_factory=list)
    overflowed: bool = False  # there was a recipient too many: the log knows

    def spare(self) -> Content:
        """Room for one more body."""
        self.spares.append(self.room(f"{self.id}-{len(self.spares)}"))
        return self.spares[-1]

    def discard(self) -> None:
        """Release its content."""
        for content in (self.content, *self.spares):
            content.discard()

    def envelope(self, login: str | None, client: str | None) -> Envelope:
        """Its envelope, once all recipients are known; `client` as `trace.client` has it."""
        mail = self.mail
        by = mail.by
        hold = mail.hold_until if mail.hold_for is None else self.began + mail.hold_for
        return Envelope(
            self.id,
            mail.reverse_path,
            tuple(self.recipients.values()),
            mail.body,
            mail.smtputf8,
            mail.ret,
            mail.envid,
            login,
            requiretls=mail.requiretls,
            priority=mail.priority or 0,
            hold_until=hold,
            deliver_by=DeliverBy(self.began + by.seconds, by.returned, by.trace) if by else None,
            received_from=client,
        )

    def described(self) -> dict[str, Any]:
        """Fields of the log that tell of it."""
        addresses = [str(one.address) for one in self.recipients.values()]
        shown = ", ".join(addresses[:MOST_LOGGED])
        more = len(addresses) - MOST_LOGGED
        priority = self.mail.priority
        return {
            **({"priority": priority} if priority else {}),  # RFC 6710 section 4.1
            "id": self.id,
            "sender": path_of(self.mail.reverse_path),
            "recipients": f"{shown} and {more} more" if more > 0 else shown,
            "size": self.content.size,
        }


def path_of(address: Address | None) -> str:
    """An address as the log shows a path."""
    return f"<{address or ''}>"
