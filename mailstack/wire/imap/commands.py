"""What `Server.next_event` returns: each command and each other thing a client can say (RFC 3501 section 6).

Every event carries the `tag` of its command. Mailbox names are Unicode (modified UTF-7 is read here),
`INBOX` in upper case. Strings are decoded as UTF-8, else Latin-1.

The events that are not whole commands, and what the role owes them:

- `LiteralAnnounced`: answer `responses.Continuation()`.
- `Append`: answer `Continuation()` to take the message (also for a non-synchronizing literal, where it
  writes nothing) or a `Tagged` NO to refuse it; the session then skips whatever the client still sends of it.
  Then come `AppendChunk`s (answer None, or `Tagged` NO to break off) and either `AppendEnd` (answer
  `Tagged`), or, with MULTIAPPEND, another `Append` with `following=True`, or `Malformed`: drop all.
- `Authenticate`: answer `Challenge(data)` and get an `AuthResponse`, or `Tagged`.
- `Idle`: answer `Continuation("idling")` and push what happens until `IdleDone` or `Malformed` comes.
- `Malformed`: answer `responses.refusal(event)`; what was in progress (APPEND, AUTHENTICATE, IDLE) is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from mailstack.wire.imap.items import Attribute as Attribute
from mailstack.wire.imap.items import Binary as Binary
from mailstack.wire.imap.items import BinarySize as BinarySize
from mailstack.wire.imap.items import Item as Item
from mailstack.wire.imap.items import Preview as Preview
from mailstack.wire.imap.items import Section as Section
from mailstack.wire.imap.keys import Key
from mailstack.wire.imap.sequence import SequenceSet


@dataclass(frozen=True, slots=True)
class Command:
    """Something that a client said under a tag. The tag is ASCII."""

    tag: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A command that cannot be read, or is not allowed now. Its octets are skipped and the stream is in step.

    `tag` is None where none was readable. `status` is BAD or NO; `code` a response code without brackets.
    `fatal`: the client is beyond hope (HTTP, too many bad commands); say BYE and close.
    """

    tag: str | None
    text: str
    code: str | None = None
    status: str = "BAD"
    fatal: bool = False


# Any state (RFC 3501 section 6.1)


class Capability(Command):
    """CAPABILITY."""

    __slots__ = ()


class Noop(Command):
    """NOOP."""

    __slots__ = ()


class Logout(Command):
    """LOGOUT: answer `(Bye(...), Tagged(tag, "OK", ...))` in one."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Id(Command):
    """ID (RFC 2971): the client's field and value pairs in its order, names in lower case; empty for NIL."""

    parameters: tuple[tuple[str, str | None], ...] = ()


# Not authenticated (RFC 3501 section 6.2)


class StartTls(Command):
    """STARTTLS. A `Tagged` OK starts TLS and drops everything buffered."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Authenticate(Command):
    """AUTHENTICATE; mechanism in upper case; `initial` decoded (RFC 4959), b"" for "=", None where absent."""

    mechanism: str
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AuthResponse(Command):
    """The client's answer to a `Challenge`, decoded from base64; None: it cancels with "*" (answer BAD)."""

    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Login(Command):
    """LOGIN."""

    user: str
    password: str = field(repr=False)


# Authenticated (RFC 3501 section 6.3)


@dataclass(frozen=True, slots=True)
class Resync:
    """The QRESYNC parameter of SELECT (RFC 7162 section 3.2.5). Known UIDs and the match data may be None."""

    uidvalidity: int
    modseq: int
    uids: SequenceSet | None = None
    matches: tuple[SequenceSet, SequenceSet] | None = None  # sequence numbers, and their UIDs


@dataclass(frozen=True, slots=True)
class Partial:
    """A part of a result (RFC 9394): from the first to the last, 1 being the first of all.

    Both are negative where they count from the end, -1 being the last of all: (-1, -100) is the last hundred.
    """

    first: int
    last: int

    def slice(self, count: int) -> slice:
        """The part of `count` things in ascending order."""
        if self.first < 0:
            return slice(max(0, count + self.last), max(0, count + self.first + 1))
        return slice(self.first - 1, self.last)

    def __str__(self) -> str:
        return f"{self.first}:{self.last}"


@dataclass(frozen=True, slots=True)
class Select(Command):
    """SELECT, or EXAMINE where `read_only`. `condstore` and `qresync`: its parameters (RFC 4466, 7162).

    Whatever was selected before is closed at once, also when the answer is NO (RFC 3501 section 6.3.1).
    """

    mailbox: str
    read_only: bool = False
    condstore: bool = False
    qresync: Resync | None = None


@dataclass(frozen=True, slots=True)
class Create(Command):
    r"""CREATE. A trailing "/" of the name is kept. `special_use` as sent: (r"\Sent",) (RFC 6154)."""

    mailbox: str
    special_use: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete(Command):
    """DELETE."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename(Command):
    """RENAME."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Subscribe(Command):
    """SUBSCRIBE."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Unsubscribe(Command):
    """UNSUBSCRIBE."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class List(Command):
    """LIST, plain or extended (RFC 5258, 5819, 6154). Patterns are Unicode with the wildcards * and %.

    `selection` of SUBSCRIBED REMOTE RECURSIVEMATCH SPECIAL-USE; `returns` of SUBSCRIBED CHILDREN SPECIAL-USE
    MYRIGHTS (RFC 8440); `status`: items of RETURN (STATUS (...)), empty if not asked for; `metadata`: entries
    of RETURN (METADATA (...)) (RFC 9590), as GETMETADATA has them. `extended`: any of the extended syntax
    was used; if not, one pattern, and an empty one asks for the hierarchy delimiter.
    """

    reference: str
    patterns: tuple[str, ...]
    selection: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    extended: bool = False
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lsub(Command):
    """LSUB."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Status(Command):
    """STATUS; `items` of MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN SIZE HIGHESTMODSEQ DELETED, each once.

    Also DELETED-STORAGE (RFC 9208), MAILBOXID (RFC 8474) and APPENDLIMIT (RFC 7889).
    """

    mailbox: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DateTime:
    """A date-time of APPEND: seconds since 1970 in UTC, and the zone it was written in (minutes east)."""

    seconds: int
    zone: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """The message that REPLACE replaces: by UID or by sequence number, 0 for "*"."""

    uid: bool
    number: int


@dataclass(frozen=True, slots=True)
class Append(Command):
    """APPEND, up to its message literal of `size` octets, maybe 0. The module's text tells what follows.

    `synchronizing`: the client waits for the continuation before it sends the message.
    `following`: a further message of the same command (MULTIAPPEND, RFC 3502).
    `binary`: a literal8, so there may be NULs (RFC 3516 section 4.4); `utf8`: UTF8 (...) was said, the
    header may be in UTF-8 (RFC 6855 section 4). `catenated`: there is no literal here, its parts follow (see
    `extensions`). `replaces`: it is REPLACE (RFC 8508), and the message to go once this one is stored.
    """

    mailbox: str
    size: int
    flags: frozenset[str] = frozenset()
    date: DateTime | None = None
    synchronizing: bool = True
    following: bool = False
    binary: bool = False
    utf8: bool = False
    catenated: bool = False
    replaces: Replaced | None = None


@dataclass(frozen=True, slots=True)
class AppendChunk(Command):
    """The next octets of the message, never empty. They are as sent: a NUL or a bare LF is not touched."""

    data: bytes = field(repr=False)


class AppendEnd(Command):
    """The APPEND is complete: store the message (or messages) and answer."""

    __slots__ = ()


class Namespace(Command):
    """NAMESPACE (RFC 2342)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Enable(Command):
    """ENABLE (RFC 5161); names in upper case."""

    capabilities: tuple[str, ...]


class Idle(Command):
    """IDLE (RFC 2177)."""

    __slots__ = ()


class IdleDone(Command):
    """DONE; the tag is the IDLE's. Answer `Tagged` OK."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class GetQuota(Command):
    """GETQUOTA (RFC 9208 section 4.1.1)."""

    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot(Command):
    """GETQUOTAROOT."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class SetQuota(Command):
    """SETQUOTA: resource names in upper case, and limits."""

    root: str
    limits: tuple[tuple[str, int], ...]


# Selected (RFC 3501 section 6.4)


class Check(Command):
    """CHECK."""

    __slots__ = ()


class Close(Command):
    """CLOSE: expunge silently (unless read-only) and unselect."""

    __slots__ = ()


class Unselect(Command):
    """UNSELECT (RFC 3691)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Expunge(Command):
    """EXPUNGE, or UID EXPUNGE where `uids` is given (RFC 4315 section 2.1)."""

    uids: SequenceSet | None = None


@dataclass(frozen=True, slots=True)
class Search(Command):
    """SEARCH or UID SEARCH. `returns` (RFC 4731) of MIN MAX ALL COUNT; None: plain SEARCH response.

    Also in `returns`: SAVE (RFC 5182), RELEVANCY (RFC 6203), CONTEXT and UPDATE (RFC 5267), and PARTIAL,
    whose range is `partial` (RFC 5267, RFC 9394). `update`: what to FETCH of new messages (RFC 5465).
    """

    uid: bool
    key: Key
    returns: frozenset[str] | None = None
    partial: Partial | None = None
    update: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """FETCH or UID FETCH. Macros are expanded, double items removed, and UID FETCH always has Attribute.UID.

    `changed_since`: only messages with a greater modseq (RFC 7162 section 3.1.4.1, `vanished` 3.2.6).
    `partial`: only so many of the set's messages (RFC 9394 section 3.3).
    """

    uid: bool
    set: SequenceSet
    items: tuple[Item, ...]
    changed_since: int | None = None
    vanished: bool = False
    partial: Partial | None = None


@dataclass(frozen=True, slots=True)
class Store(Command):
    """STORE or UID STORE; `mode` is add, remove or replace; `silent`: no FETCH responses for our own change.

    System flags come in the RFC's spelling; \\Recent is refused by the parser.
    """

    uid: bool
    set: SequenceSet
    mode: str
    flags: frozenset[str]
    silent: bool = False
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy(Command):
    """COPY or UID COPY."""

    uid: bool
    set: SequenceSet
    mailbox: str


@dataclass(frozen=True, slots=True)
class Move(Command):
    """MOVE or UID MOVE (RFC 6851)."""

    uid: bool
    set: SequenceSet
    mailbox: str


@dataclass(frozen=True, slots=True)
class LiteralAnnounced(Command):
    """The client waits before it sends `size` octets of an argument: answer `Continuation()`."""

    size: int


Event: TypeAlias = Command | Malformed
