"""What a POP3 client says (RFC 1939, 2449, 2595, 5034)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailstack.wire.pop3.replies import Err


@dataclass(frozen=True, slots=True)
class User:
    """The client names its maildrop (RFC 1939 section 7)."""

    name: str


@dataclass(frozen=True, slots=True)
class Pass:
    """Its password: all that follows the blank, blanks included (RFC 1939 section 7)."""

    password: str = field(repr=False)  # so that no log or traceback shows it


@dataclass(frozen=True, slots=True)
class Auth:
    """A SASL exchange begins (RFC 5034 section 4); without a mechanism, the client asks which there are."""

    mechanism: str | None
    initial: bytes | None = field(default=None, repr=False)  # still base64, or "="


@dataclass(frozen=True, slots=True)
class AuthLine:
    """The next line of the exchange, still base64; None: the client cancels with "*"."""

    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Capa:
    """What do you offer (RFC 2449 section 5)."""


@dataclass(frozen=True, slots=True)
class Stls:
    """Start TLS (RFC 2595 section 4)."""


@dataclass(frozen=True, slots=True)
class Utf8:
    """From here on the client reads UTF-8 (RFC 6856 section 2.1)."""


@dataclass(frozen=True, slots=True)
class Lang:
    """The language of the texts of replies; None: which are there (RFC 6856 section 3). In lower case."""

    wanted: str | None


@dataclass(frozen=True, slots=True)
class Stat:
    """How many messages and octets (RFC 1939 section 5)."""


@dataclass(frozen=True, slots=True)
class List:
    """The size of one message or of all (RFC 1939 section 5)."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Uidl:
    """The unique-id of one message or of all (RFC 1939 section 7)."""

    number: int | None


@dataclass(frozen=True, slots=True)
class Retr:
    """A whole message (RFC 1939 section 5)."""

    number: int


@dataclass(frozen=True, slots=True)
class Top:
    """Header section and the first lines of the body (RFC 1939 section 7)."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Dele:
    """Mark a message; QUIT removes it (RFC 1939 section 5)."""

    number: int


@dataclass(frozen=True, slots=True)
class Noop:
    """Nothing (RFC 1939 section 5)."""


@dataclass(frozen=True, slots=True)
class Rset:
    """Unmark all messages (RFC 1939 section 5)."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Good-bye; after login, remove what is marked (RFC 1939 section 6)."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no command, or not now: the reply says why."""

    reply: Err


Command = (
    User
    | Pass
    | Auth
    | Capa
    | Stls
    | Utf8
    | Lang
    | Stat
    | List
    | Uidl
    | Retr
    | Top
    | Dele
    | Noop
    | Rset
    | Quit
)  # what has a keyword of its own
Event = Command | AuthLine | Malformed
