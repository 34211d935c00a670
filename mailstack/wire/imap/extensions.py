"""The commands of extensions, beside those of `commands`. Every one says its RFC.

SORT, THREAD, ESEARCH; URLs and CATENATE; rights; metadata; NOTIFY; the session itself.

What is not a whole command: CATENATE (RFC 4469) is an `Append` with `catenated`. Answer `Continuation()`
(nothing is written) or `Tagged` NO; then come in any order `CatenateUrl` (answer None, or `Tagged` NO) and
`CatenateText` (answer `Continuation()` or `Tagged` NO, and get its `AppendChunk`s), and in the end
`AppendEnd`, another `Append`, or `Malformed`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailstack.wire.imap.commands import Command, Item, Partial
from mailstack.wire.imap.keys import Key

SORT_KEYS = frozenset(  # RFC 5256 section 3, RFC 5957 section 3, RFC 6203 section 5
    ("ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO", "RELEVANCY")
)
ALGORITHMS = frozenset(("ORDEREDSUBJECT", "REFERENCES", "REFS"))


@dataclass(frozen=True, slots=True)
class Criterion:
    """One sort key of SORT_KEYS; `reverse`: the largest first."""

    key: str
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Sort(Command):
    """SORT or UID SORT (RFC 5256); `returns` and what follows as in `Search` (RFC 5267 section 3)."""

    uid: bool
    criteria: tuple[Criterion, ...]
    key: Key
    returns: frozenset[str] | None = None
    partial: Partial | None = None
    update: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Thread(Command):
    """THREAD or UID THREAD (RFC 5256) by one of ALGORITHMS."""

    uid: bool
    algorithm: str
    key: Key


@dataclass(frozen=True, slots=True)
class MailboxFilter:
    """Which mailboxes (RFC 5465 section 6): `kind` and the names that some kinds have.

    Kinds: selected, selected-delayed, inboxes, personal, subscribed; with names: subtree, mailboxes,
    subtree-one.
    """

    kind: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MultiSearch(Command):
    """ESEARCH (RFC 7377): a search of many mailboxes, by UID; `sources` None: the selected one."""

    sources: tuple[MailboxFilter, ...] | None
    key: Key
    returns: frozenset[str]
    partial: Partial | None = None
    update: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class CancelUpdate(Command):
    """CANCELUPDATE (RFC 5267 section 4.3.5): the tags of searches that are to update no more."""

    tags: tuple[str, ...]


# URLs (RFC 4467, RFC 4469)


@dataclass(frozen=True, slots=True)
class CatenateUrl(Command):
    """The next part of the message is what this URL names."""

    url: str


@dataclass(frozen=True, slots=True)
class CatenateText(Command):
    """The next part of the message is a literal of `size` octets. `synchronizing`, `utf8`: as in `Append`."""

    size: int
    synchronizing: bool = True
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class GenUrlAuth(Command):
    """GENURLAUTH (RFC 4467 section 7): rumps of URLs, each with a mechanism in upper case."""

    urls: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class UrlFetch(Command):
    """URLFETCH (RFC 4467 section 7)."""

    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResetKey(Command):
    """RESETKEY (RFC 4467 section 7): of one mailbox and mechanisms (empty: all), or of all mailboxes."""

    mailbox: str | None = None
    mechanisms: tuple[str, ...] = ()


# The session


class Unauthenticate(Command):
    """UNAUTHENTICATE (RFC 8437): OK takes the session back to where it began; TLS and COMPRESS stay."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Compress(Command):
    """COMPRESS (RFC 4978): the mechanism, always DEFLATE. The session compresses after the tagged OK."""

    mechanism: str


@dataclass(frozen=True, slots=True)
class Language(Command):
    """LANGUAGE (RFC 5255 section 3.2): ranges in the order of preference; empty: list what there is."""

    ranges: tuple[str, ...] = ()


# Rights (RFC 4314 section 3)


@dataclass(frozen=True, slots=True)
class SetAcl(Command):
    """SETACL: `mode` is add, remove or replace; `rights` as sent, known letters of the RFC or not."""

    mailbox: str
    identifier: str
    mode: str
    rights: str


@dataclass(frozen=True, slots=True)
class DeleteAcl(Command):
    """DELETEACL."""

    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class GetAcl(Command):
    """GETACL."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class ListRights(Command):
    """LISTRIGHTS."""

    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MyRights(Command):
    """MYRIGHTS."""

    mailbox: str


# Metadata (RFC 5464 section 4)


@dataclass(frozen=True, slots=True)
class GetMetadata(Command):
    """GETMETADATA; `mailbox` "" is the server. `depth`: 0, 1, or None for infinity."""

    mailbox: str
    entries: tuple[str, ...]
    max_size: int | None = None
    depth: int | None = 0


@dataclass(frozen=True, slots=True)
class SetMetadata(Command):
    """SETMETADATA: entries and their new values; None removes one."""

    mailbox: str
    values: tuple[tuple[str, bytes | None], ...]


# NOTIFY (RFC 5465)


@dataclass(frozen=True, slots=True)
class EventGroup:
    """What is wanted of some mailboxes.

    `events` of MessageNew MessageExpunge FlagChange AnnotationChange MailboxName SubscriptionChange
    MailboxMetadataChange ServerMetadataChange, in lower case; empty for NONE. `items`: what to FETCH of each
    new message, which only a group of the selected mailbox has.
    """

    filter: MailboxFilter
    events: frozenset[str]
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify(Command):
    """NOTIFY; `groups` is empty for NOTIFY NONE. `status`: say STATUS of the mailboxes at once."""

    groups: tuple[EventGroup, ...]
    status: bool = False
