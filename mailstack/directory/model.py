"""What the directory answers: small frozen values, safe to hand from a thread to the reactor."""

from __future__ import annotations

from dataclasses import dataclass

from mailstack.mail.address import Address


class NotLocal(Exception):
    """The address is in a domain that we do not serve."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who logs in and has mailboxes. A quota of None is no limit."""

    id: int
    address: Address
    quota_octets: int | None
    quota_messages: int | None
    max_message_octets: int | None = None  # of one that they submit; None: as [msa] says


@dataclass(frozen=True, slots=True)
class Local:
    """One user who gets the message; `recipient` is the address under which, `detail` the tag of user+tag."""

    user: User
    recipient: Address
    detail: str | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """Whom an address stands for: each user and each address elsewhere, once."""

    locals: tuple[Local, ...]
    forwards: tuple[Address, ...]
