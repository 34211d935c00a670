"""What a POP3 server says (RFC 1939 section 3, RFC 2449 section 8)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ok:
    """``+OK``, the whole answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Err:
    """``-ERR``, with a response code such as IN-USE, AUTH, SYS/TEMP (RFC 2449 section 8, RFC 3206) or ""."""

    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Bye:
    """``-ERR``, and the connection is closed."""

    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Lines:
    """``+OK`` and lines, all at once; `lines` end in CRLF, and none begins with a dot."""

    text: str
    lines: bytes


@dataclass(frozen=True, slots=True)
class Whole:
    """``+OK`` and the octets of a message, all at once; the session makes lines of them."""

    text: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Begin:
    """``+OK`` before content that comes in pieces: Content as often as needed, then End."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """Octets of a message, cut anywhere; the session makes lines of them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The content was whole."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """``+`` and the mechanism's words in base64 (RFC 5034 section 4)."""

    data: bytes


Reply = Ok | Err | Bye | Lines | Whole | Begin | Content | End | Challenge
