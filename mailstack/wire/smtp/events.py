"""What an SMTP client may say, in the words of RFC 5321, and what the session makes of content."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailstack.mail.address import Address
from mailstack.mail.envelope import Recipient
from mailstack.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class Helo:
    """The client names itself, by EHLO if `extended` (RFC 5321 section 4.1.1.1)."""

    domain: str
    extended: bool


@dataclass(frozen=True, slots=True)
class By:
    """``BY=seconds;mode`` (RFC 2852 section 4): deliver within `seconds`, which may be negative in mode N."""

    seconds: int
    returned: bool  # mode R, else N
    trace: bool = False


@dataclass(frozen=True, slots=True)
class Mail:
    """A transaction begins (RFC 5321 section 4.1.1.2). `reverse_path` None is the null path ``<>``."""

    reverse_path: Address | None
    size: int | None = None  # octets the client expects to send (RFC 1870)
    body: str = "7BIT"  # or 8BITMIME, BINARYMIME (RFC 6152, RFC 3030)
    smtputf8: bool = False  # RFC 6531
    ret: str | None = None  # FULL or HDRS (RFC 3461 section 4.3)
    envid: str | None = None  # decoded (RFC 3461 section 4.4)
    auth: str | None = None  # decoded; "" is the client's ``<>`` (RFC 4954 section 5)
    requiretls: bool = False  # RFC 8689
    priority: int | None = None  # -9 to 9; None: not said (RFC 6710)
    hold_for: int | None = None  # seconds (RFC 4865)
    hold_until: float | None = None  # seconds of the epoch (RFC 4865)
    by: By | None = None  # RFC 2852


@dataclass(frozen=True, slots=True)
class Rcpt:
    """One forward-path with its DSN parameters (RFC 5321 section 4.1.1.3).

    ``<Postmaster>`` without a domain has the empty domain.
    """

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Data:
    """The client asks to send content; 354 lets it (RFC 5321 section 4.1.1.4)."""


@dataclass(frozen=True, slots=True)
class Bdat:
    """A chunk of `size` octets follows (RFC 3030). It takes no reply now; a refusal is kept for its end."""

    size: int
    last: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """Octets of content, dots un-stuffed. It takes no reply; a refusal is kept for the end."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndOfChunk:
    """A chunk of `size` octets, not the last, has come whole; `refused` is what must be answered, if set."""

    size: int
    refused: Reply | None = None


@dataclass(frozen=True, slots=True)
class EndOfData:
    """The content is complete; `refused` is what must be answered, if set."""

    refused: Reply | None = None


@dataclass(frozen=True, slots=True)
class Auth:
    """The client begins a SASL exchange (RFC 4954 section 4); the initial response is decoded."""

    mechanism: str
    initial_response: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AuthLine:
    """The next response in a SASL exchange, decoded; None cancels it (RFC 4954 section 4, ``*``)."""

    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartTls:
    """The client asks for TLS (RFC 3207)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """RSET: forget the transaction (RFC 5321 section 4.1.1.5)."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP (RFC 5321 section 4.1.1.9)."""


@dataclass(frozen=True, slots=True)
class Help:
    """HELP (RFC 5321 section 4.1.1.8)."""

    topic: str


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY: is there such a user (RFC 5321 section 4.1.1.6)."""

    who: str


@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN: who is on this list (RFC 5321 section 4.1.1.7)."""

    which: str


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT (RFC 5321 section 4.1.1.10)."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """What was said is no command, or not now; `reply` is the answer.

    `spoiled`: it is the last chunk of a message of which one before was refused.
    """

    reply: Reply
    spoiled: bool = False


Event = (
    Helo | Mail | Rcpt | Data | Bdat | Chunk | EndOfChunk | EndOfData | Auth | AuthLine | StartTls | Reset
    | Noop | Help | Vrfy | Expn | Quit | Malformed
)  # fmt: skip
