"""What a check of the policy is: the one interface for what may be asked at the five points of a reception.

Theory of operation. A client connects, names itself, names a sender, names recipients, and sends a message:
at each of these points the checks that the operator lists are asked, in the file's order, and see what was
said so far as a frozen `Transaction`. A check answers None (nothing against it), a `Verdict` (with fields to
add, or what becomes of the message), or raises `Refused`. What runs them is `mailstack.policy`; reception
knows only the two protocols at the end, and has neither where no check is listed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.fields import decode_words, field_value, iterate_fields
from mailstack.mail.message import Message, Stored
from mailstack.net.peer import Peer
from mailstack.net.spool import Content, FileThreads
from mailstack.wire.smtp import events

CHUNK = 65_535  # octets of a body that a check is given at a time: as many as a milter takes


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One client's connection, the same object while it lasts: a check may keep what it knows by it."""

    peer: Peer  # .address, .port, .local_port, .secure, .tls ("TLSv1.3 TLS_AES_256_GCM_SHA384"), .early
    service: str  # "relay": from other MTAs; "submission": from our users; "lmtp": from a program's queue
    hostname: str  # ours


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is known of a client and its message at one of the points; later points know more."""

    connection: Connection
    helo: str | None = None  # what the client calls itself
    extended: bool = False  # by EHLO
    login: str | None = None  # the user that it has proved to be
    mechanism: str | None = None  # by which SASL mechanism
    id: str = ""  # the queue id; "" before MAIL
    reverse_path: Address | None = None  # None: the null path <>, or no MAIL yet
    size: int | None = None  # as announced with MAIL (RFC 1870)
    body: str = "7BIT"
    smtputf8: bool = False
    recipients: tuple[Recipient, ...] = ()  # accepted so far; at `recipient` the last is the one in question

    @property
    def address(self) -> str:
        """The client's IP address."""
        return self.connection.peer.address

    @classmethod
    def begun(
        cls, connection: Connection, helo: events.Helo | None, login: str | None, mechanism: str | None
    ) -> Transaction:
        """Before MAIL."""
        if helo is None:
            return cls(connection, login=login, mechanism=mechanism)
        return cls(connection, helo.domain, helo.extended, login, mechanism)

    def joined(self, id: str, mail: events.Mail, recipients: tuple[Recipient, ...]) -> Transaction:
        """After it."""
        return replace(
            self,
            id=id,
            reverse_path=mail.reverse_path,
            size=mail.size,
            body=mail.body,
            smtputf8=mail.smtputf8,
            recipients=recipients,
        )


@dataclass(frozen=True, slots=True)
class Changes:
    """What a filter changes in a message, beyond fields in front; None is: as it was.

    `header` is the whole new header section (CRLF after every field, no blank line), `body` what was written
    to `Incoming.new_body`.
    """

    header: bytes | None = None
    body: Content | None = None
    sender: tuple[Address | None] | None = None  # (the new reverse-path,)
    add_recipients: tuple[Address, ...] = ()
    remove_recipients: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says that is not a refusal."""

    fields: tuple[tuple[str, str], ...] = ()  # (name, value), added in front of the message
    final: bool = False  # the checks after this one are not asked at this point: see docs/policy.md
    junk: bool = False  # deliver into the Junk mailbox
    discard: bool = False  # tell the client that it is accepted, and drop it
    changes: Changes | None = None  # only from `message`
    note: str = ""  # what the message's trail says of it; "" where the other values say it all


ACCEPT = Verdict(final=True)


class Incoming:
    """A message that has come whole, as one check sees it: with what those before it have changed."""

    def __init__(self, header: bytes, body: Message, work: FileThreads, spare: Callable[[], Content]) -> None:
        self.header = header  # CRLF after every field; without the blank line
        self._body = body
        self._work = work
        self._spare = spare

    @property
    def body_size(self) -> int:
        """Octets of the body."""
        return self._body.size

    def fields(self) -> list[tuple[str, str]]:
        """All header fields in order: names in lower case, values unfolded."""
        return [
            (name.decode("ascii", "replace"), field_value(raw)) for name, raw in iterate_fields(self.header)
        ]

    def field(self, name: str) -> str:
        """The value of the first field of that name, unfolded and decoded (RFC 2047); "" if there is none."""
        wanted = name.lower().encode()
        for found, raw in iterate_fields(self.header):
            if found == wanted:
                return decode_words(field_value(raw))
        return ""

    @property
    def content(self) -> Message:
        """The body, for a thread to read."""
        return self._body

    async def body(self) -> AsyncIterator[bytes]:
        """The body in pieces of at most CHUNK octets, so that a big one need never be in memory."""
        for part in self._body.parts:
            if isinstance(part, bytes):
                for start in range(0, len(part), CHUNK):
                    yield part[start : start + CHUNK]
            else:
                for start in range(0, part.length, CHUNK):
                    length = min(CHUNK, part.length - start)
                    yield await self._work.files(_read, Stored(part.path, part.offset + start, length))

    def changed(self, header: bytes, body: Message | None) -> Incoming:
        """What the next check sees."""
        return Incoming(header, body or self._body, self._work, self._spare)

    def new_body(self) -> Content:
        """Room for a body to put in this one's place: write and finish it, and name it in `Changes`."""
        return self._spare()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message at the checks."""

    envelope: Envelope
    header: bytes
    body: Content | None = None  # None: as it was
    discard: bool = False


class Inspection(Protocol):
    """The checks of one connection. Each method raises Refused with the reply for the client."""

    def verdicts(self) -> list[str]:
        """What each check has said so far of the transaction, and of what came before it."""

    async def connected(self, now: Transaction) -> None: ...

    async def hello(self, now: Transaction) -> None: ...

    async def mail(self, now: Transaction) -> None: ...

    async def recipient(self, now: Transaction) -> None: ...

    async def message(self, now: Transaction, envelope: Envelope, incoming: Incoming) -> Outcome: ...

    def reset(self) -> None: ...

    def closed(self) -> None: ...


class Policy(Protocol):
    """All checks: gives each connection its inspection, or None where there is none for its service."""

    def inspection(self, connection: Connection) -> Inspection | None: ...


def _read(stored: Stored) -> bytes:
    return Message((stored,)).read()
