"""What SEARCH looks for, as a tree (RFC 3501 section 6.4.4).

The many words of the RFC become few shapes: UNSEEN is `Not(HasFlag(r"\\Seen"))`, NEW is
`And((Recent(), Not(HasFlag(r"\\Seen"))))`, FROM x is `Header("From", x)`. Strings are decoded from the
command's charset. The tree's depth is bounded by the parser (grammar.MOST_DEPTH).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TypeAlias

from mailstack.wire.imap.sequence import SequenceSet


class Relation(Enum):
    """How a message's date must lie to the key's date; days are compared, time and zone disregarded."""

    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    """Every one of the keys matches; at least two keys."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Either key matches."""

    left: Key
    right: Key


@dataclass(frozen=True, slots=True)
class Not:
    """The key does not match."""

    key: Key


@dataclass(frozen=True, slots=True)
class HasFlag:
    """A system flag in the RFC's spelling (`\\Seen`), or a keyword as sent (compare without case)."""

    flag: str


@dataclass(frozen=True, slots=True)
class Recent:
    """The message has \\Recent in this session."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Sequence numbers."""

    set: SequenceSet


@dataclass(frozen=True, slots=True)
class Uids:
    """UID set: unique identifiers."""

    set: SequenceSet


@dataclass(frozen=True, slots=True)
class Header:
    """A field of this name contains the string, without case; an empty string asks only for the field.

    FROM, TO, CC, BCC and SUBJECT are this too, with name From, To, Cc, Bcc, Subject.
    """

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Body:
    """The body contains the string, without case."""

    value: str


@dataclass(frozen=True, slots=True)
class Text:
    """Header or body contains the string, without case."""

    value: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """BEFORE, ON, SINCE: by internal date."""

    relation: Relation
    date: date


@dataclass(frozen=True, slots=True)
class Sent:
    """SENTBEFORE, SENTON, SENTSINCE: by the Date field."""

    relation: Relation
    date: date


@dataclass(frozen=True, slots=True)
class Larger:
    """More octets than this."""

    octets: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """Fewer octets than this."""

    octets: int


@dataclass(frozen=True, slots=True)
class ModSeq:
    """Modseq at least this (RFC 7162 section 3.1.5)."""

    value: int


@dataclass(frozen=True, slots=True)
class Older:
    """The internal date is this many seconds ago or longer (RFC 5032); at least 1."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Younger:
    """The internal date is this many seconds ago or less (RFC 5032)."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Saved:
    """SAVEDBEFORE, SAVEDON, SAVEDSINCE: by the date of arrival in this mailbox (RFC 8514 section 4.3)."""

    relation: Relation
    date: date


@dataclass(frozen=True, slots=True)
class SaveDateSupported:
    """The mailbox keeps save dates: every message matches, or none (RFC 8514 section 4.3)."""


@dataclass(frozen=True, slots=True)
class EmailId:
    """The message's content has this identifier (RFC 8474 section 6)."""

    id: str


@dataclass(frozen=True, slots=True)
class ThreadId:
    """The message belongs to this thread (RFC 8474 section 6)."""

    id: str


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """The key matches, or nearly (RFC 6203 section 3)."""

    key: Key


@dataclass(frozen=True, slots=True)
class Filter:
    """A search that the user or server has stored under this name (RFC 5466 section 3.1)."""

    name: str


Key: TypeAlias = (
    All | And | Or | Not | HasFlag | Recent | Numbers | Uids | Header | Body | Text | Arrived | Sent
    | Larger | Smaller | ModSeq | Older | Younger | Saved | SaveDateSupported | EmailId | ThreadId | Fuzzy |
    Filter
)  # fmt: skip
