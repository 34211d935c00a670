"""What the store hands out and takes in: small frozen values, and its few plain errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from mailstack.mail.message import Message

if TYPE_CHECKING:
    from mailstack.store.news import Later

SEEN = r"\Seen"
ANSWERED = r"\Answered"
FLAGGED = r"\Flagged"
DELETED = r"\Deleted"
DRAFT = r"\Draft"

ALL_RIGHTS = "lrswipkxtea"  # RFC 4314 section 2.1
Quota = tuple[int | None, int | None]  # octets, messages; None: no limit
NO_QUOTA: Quota = (None, None)


class StoreError(Exception):
    """Something the store refuses; each protocol has its own words for each of these."""


class NoSuchMailbox(StoreError):
    """No mailbox of that name, or one that only holds others."""


class MailboxExists(StoreError):
    """The name is taken."""


class BadMailboxName(StoreError):
    """The name is no name we allow; or INBOX, where that cannot be."""


class OverQuota(StoreError):
    """The user's limit of octets or of messages would be passed."""


class Expunged(StoreError):
    """The message was removed for good."""


class NoPermission(StoreError):
    """The user has not the right to do that (RFC 4314), and may know that the mailbox is there."""


class BadRights(StoreError):
    """No such rights, or no such identifier (RFC 4314 section 3)."""


class BadEntry(StoreError):
    """The annotation's name is none that we keep (RFC 5464 section 3.2)."""


class TooLarge(StoreError):
    """The annotation's value is longer than the limit, which is the second argument, in octets."""


class TooMany(StoreError):
    """A bound of ours is reached: mailboxes of a user, keywords of a mailbox."""


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    """One mailbox as LIST and STATUS show it (RFC 3501 sections 7.2.2 and 7.2.4)."""

    id: int
    user_id: int
    name: str
    uidvalidity: int
    uidnext: int
    highest_modseq: int
    messages: int
    unseen: int
    recent: int
    octets: int
    special_use: tuple[str, ...] = ()
    subscribed: bool = False
    selectable: bool = True
    object_id: str = ""  # RFC 8474, MAILBOXID; empty if not selectable
    rights: str = ALL_RIGHTS  # RFC 4314: what the user who asked may do here


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a mailbox holds, at one moment."""

    uidvalidity: int
    uidnext: int
    highest_modseq: int
    messages: int
    unseen: int


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message for one mailbox. `delivery` names this delivery for good: the same again is done once."""

    user_id: int
    mailbox: str
    message: Message
    delivery: str
    flags: frozenset[str] = frozenset()
    quota: Quota = NO_QUOTA


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where a parcel lies now; `repeated`: from an earlier delivery of the same name."""

    mailbox_id: int
    uidvalidity: int
    uid: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class New:
    """One message of APPEND (RFC 3501 section 6.3.11)."""

    message: Message
    flags: frozenset[str] = frozenset()
    internal_date: int | None = None  # seconds of the epoch; None: now
    zone: int = 0  # minutes east of Greenwich


@dataclass(frozen=True, slots=True)
class Appended:
    """What APPEND gave (RFC 4315 section 3, APPENDUID)."""

    uidvalidity: int
    uids: tuple[int, ...]
    readable: bool = True  # the user may select that mailbox: only then they are told


@dataclass(frozen=True, slots=True)
class Copied:
    """What COPY or MOVE gave (RFC 4315 section 3, COPYUID): pairs of old and new UID."""

    uidvalidity: int
    pairs: list[tuple[int, int]]
    readable: bool = True  # the user may select the target: only then they are told


@dataclass(frozen=True, slots=True)
class Stored:
    """What STORE did: UIDs whose flags changed; UIDs that `unchanged_since` kept (RFC 7162 section 3.1.3)."""

    changed: list[int]
    failed: list[int]


@dataclass(frozen=True, slots=True)
class Since:
    """What happened to a mailbox after some modseq (RFC 7162 section 3.2.5.1)."""

    changed: list[int]  # UIDs, ascending, of messages that are new or have new flags
    vanished: list[tuple[int, int]]  # runs of UIDs that are no more, first and last
    whole: bool  # False: what was expunged is forgotten; `vanished` is every UID that is not there


@dataclass(frozen=True, slots=True)
class Usage:
    """What a user holds."""

    octets: int
    messages: int


class Entry(NamedTuple):
    """One message's row in a mailbox."""

    uid: int
    flags: frozenset[str]  # without \Recent, which is a view's
    modseq: int
    internal_date: int  # seconds of the epoch
    zone: int  # minutes east of Greenwich
    size: int  # octets, exact
    id: int  # unique among all messages of all mailboxes


@dataclass(frozen=True, slots=True)
class Facts:
    """What is computed once, at delivery, of a message's text. Columns that were not asked for are empty."""

    envelope: bytes = b""  # finished IMAP syntax (RFC 3501 section 7.4.2)
    body: bytes = b""
    body_structure: bytes = b""
    fields: bytes = b""  # raw bytes of the common header fields, in order; see `facts.COMMON_FIELDS`
    structure: bytes = b""  # `mail.mime.pack` of the parts
    header_size: int = 0  # octets of the header section with its blank line
    email_id: bytes = b""  # RFC 8474: the same wherever the same octets lie
    thread_id: bytes = b""  # RFC 8474: the same in all messages of a conversation
    preview: bytes = b""  # RFC 8970: the first 200 characters of the text, UTF-8
    sent: int | None = None  # this and what follows: see `heading.Heading`
    base: str = ""
    refs: bytes = b""
    heading: str | None = None
    saved: int = 0  # seconds of the epoch: when it came into this mailbox (RFC 8514)


@dataclass(frozen=True, slots=True)
class FactColumns:
    """Facts of many messages, column by column: an object for each would cost more than to read them."""

    uids: list[int]  # in the order asked for; messages that are gone are missing
    columns: Mapping[str, Sequence[Any]]  # a value for each of them, by names of `Facts`

    def facts(self) -> list[Facts]:
        """The same, message by message."""
        return [
            Facts(**dict(zip(self.columns, values, strict=True)))
            for _, *values in zip(self.uids, *self.columns.values(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Update:
    """What a session must tell its client, in this order (RFC 3501 section 7)."""

    expunged: list[int] = field(default_factory=list)  # sequence numbers, in the order to announce
    exists: int | None = None
    recent: int | None = None
    changed: list[int] = field(default_factory=list)  # UIDs whose flags others changed
    vanished: list[int] = field(default_factory=list)  # UIDs of `expunged`, ascending
    later: Later | None = None  # in the place of `changed`, where all messages have to be looked at

    def __bool__(self) -> bool:
        return bool(self.expunged or self.changed) or self.exists is not None or self.recent is not None
