"""The envelope: where a message comes from and where it goes; never read from header fields."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from mailstack.mail.address import Address
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient with the DSN parameters of its RCPT command (RFC 3461 section 4)."""

    address: Address
    notify: frozenset[str] = frozenset()  # of NEVER, SUCCESS, FAILURE, DELAY; empty: not given
    orcpt: str | None = None  # "rfc822;bob@example.org", as decoded


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """Until when a message is to be delivered, and what happens if it is not (RFC 2852)."""

    deadline: float  # seconds of the epoch
    returned: bool  # mode R: it is sent back undelivered; else mode N: its sender hears of the delay
    trace: bool = False  # its sender hears of every relay


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path and recipients of one transaction, with the parameters of MAIL.

    `id` names the transaction for good: it is the queue id, stands in Received and in the log, and makes a
    repeated delivery recognisable. `reverse_path` None is the null path ``<>``.
    """

    id: str
    reverse_path: Address | None
    recipients: tuple[Recipient, ...]
    body: str = "7BIT"  # or 8BITMIME, BINARYMIME (RFC 6152, RFC 3030)
    smtputf8: bool = False  # RFC 6531
    ret: str | None = None  # FULL or HDRS (RFC 3461 section 4.3)
    envid: str | None = None  # RFC 3461 section 4.4
    authenticated: str | None = None  # the login it was submitted with; None: it came from outside
    requiretls: bool = False  # it may travel only in TLS, to servers that promise the same (RFC 8689)
    tls_optional: bool = False  # "TLS-Required: No": it is worth sending even where TLS fails (RFC 8689)
    priority: int = 0  # -9 to 9 (RFC 6710)
    hold_until: float | None = None  # seconds of the epoch: not to be sent before (RFC 4865)
    deliver_by: DeliverBy | None = None  # RFC 2852
    received_from: str | None = None  # the client's HELO and address: "mta.example.net ([192.0.2.1])"
    junk: bool = False  # a check of the policy holds it for unwanted: it goes to the mailbox Junk

    def only(self, recipients: tuple[Recipient, ...]) -> Envelope:
        """The same envelope for some of its recipients."""
        return self if recipients == self.recipients else replace(self, recipients=recipients)


class Accepts(Protocol):
    """Something that takes charge of a message: the queue, the MDA, the next MTA."""

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """Answer for each recipient: 2xx it is ours, 4xx try again, 5xx bounce it.

        Responsibility passes with a 2xx (RFC 5321 section 6.1). The caller keeps the message's files until
        this returns; whoever needs them for longer makes a copy or a link.
        """
        ...
