"""What is written down about a message, and whom those that see it tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from mailstack.mail.address import Address

RECEIVED = "received"  # by SMTP, or made here: from whom, over what, how authenticated
CHECKED = "checked"  # a check's verdict
REFUSED = "refused"  # at MAIL, RCPT or after the content
SIGNED = "signed"  # with DKIM, or sealed with ARC
QUEUED = "queued"  # one recipient waits here
HELD = "held"  # one recipient waits for the operator
RELEASED = "released"  # by the operator
RETRIED = "retried"  # the operator wants it attempted now
SENT = "sent"  # an attempt: the next hop took it
CUT_SHORT = "cut short"  # an attempt that ended with its process, and is repeated
DEFERRED = "deferred"  # an attempt: later
BOUNCED = "bounced"  # an attempt: refused for good
EXPIRED = "expired"  # an attempt: later, and there is no later
DELIVERED = "delivered"  # into a mailbox
FORWARDED = "forwarded"  # under another reverse-path
REPORTED = "reported"  # its sender was told
DROPPED = "dropped"  # by the operator

MOST_TEXT = 1000  # characters of one value
_MESSAGE_ID = re.compile(rb"^message-id:[ \t\r\n]*(<[^<>\r\n]{1,996}>)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that happened to one message. `at` is in seconds of the epoch."""

    at: float
    id: str  # the envelope's
    event: str
    address: str | None = None  # whose it is about, as `key_of` has it: a recipient, or the sender
    message_id: str | None = None  # the Message-ID field, with its angle brackets
    detail: dict[str, Any] = field(default_factory=dict)


class Notes(Protocol):
    """Something that writes down. `note` never raises, never waits, and costs next to nothing.

    `write` is for whoever is in a transaction anyhow: blocking, a part of it.
    """

    def write(self, db: Connection, notes: Sequence[Note]) -> None: ...

    def note(
        self,
        id: str,
        event: str,
        address: Address | str | None = None,
        message_id: str | None = None,
        **detail: Any,
    ) -> None: ...


class _NoNotes:
    """Writes nothing down."""

    def note(self, *what: Any, **detail: Any) -> None:
        """Forget it."""

    def write(self, db: Connection, notes: Sequence[Note]) -> None:
        """Forget them."""


NO_NOTES: Notes = _NoNotes()


def key_of(address: Address | str | None) -> str | None:
    """What an address is found by: in lower case; "" is the null path."""
    return None if address is None else str(address).lower()


def message_id_of(header: bytes) -> str | None:
    """The Message-ID of a header section, with its angle brackets."""
    found = _MESSAGE_ID.search(header)
    return found[1].decode("utf-8", "replace") if found else None
