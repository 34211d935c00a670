"""One MIME entity by its place in the message, its compact form, and IMAP's part numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

Parameters = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One MIME entity by octet offsets into the message (RFC 2045, 2046).

    The header section is ``[header, body)``, its blank line included; the body is ``[body, end)``. Type,
    subtype, encoding, disposition and parameter names are in lower case. Parameter values are as written,
    unquoted, RFC 2231 continuations joined, charsets not decoded: `mime.parameter` does that. What was 8-bit
    is UTF-8 or else Latin-1.
    """

    header: int
    body: int
    end: int
    lines: int  # LFs in the body, for leaves and message/rfc822 (RFC 3501 body-fld-lines)
    type: str = "text"
    subtype: str = "plain"
    parameters: Parameters = ()
    id: str | None = None
    description: str | None = None
    encoding: str = "7bit"
    md5: str | None = None
    disposition: tuple[str, Parameters] | None = None
    language: tuple[str, ...] = ()
    location: str | None = None
    fields: bytes = b""  # of an embedded message: the raw header fields that its ENVELOPE needs
    children: tuple[Part, ...] = ()  # of multipart: at least one; of message/rfc822: the embedded message

    @property
    def size(self) -> int:
        """Octets of the body (RFC 3501 body-fld-octets)."""
        return self.end - self.body

    @property
    def is_multipart(self) -> bool:
        """Whether `children` are its parts."""
        return self.type == "multipart"

    @property
    def is_message(self) -> bool:
        """Whether its one child is an embedded message (RFC 2046 section 5.2.1)."""
        return self.type == "message" and bool(self.children)

    def value(self, name: str) -> str | None:
        """The raw value of the first content-type parameter of that name (lower case), or None."""
        for key, value in self.parameters:
            if key == name:
                return value
        return None


def find(part: Part, section: tuple[int, ...]) -> Part | None:
    """The part with IMAP's number, ``(4, 2)`` for 4.2, or None (RFC 3501 section 6.4.5).

    ``()`` is the message itself. ``(1,)`` of a message that is not multipart is the message: its body is then
    the text. For a message/rfc822 part the embedded message is ``children[0]``: HEADER and TEXT are that
    one's.
    """
    counts = True  # whether `part` is a message, or the multipart of one: what has numbers below it
    for number in section:
        if not counts and part.is_message:
            part = part.children[0]
        elif not counts and not part.is_multipart:
            return None
        if part.is_multipart:
            if not 1 <= number <= len(part.children):
                return None
            part = part.children[number - 1]
        elif number != 1:
            return None
        counts = False
    return part


# The packed form is a JSON list of the fields in order, defaults at its end left out: `disposition` as [type,
# parameters], parameters as one flat list, `fields` as Latin-1 text, children as such lists. JSON is read
# back safely whatever it holds, and CPython's reader and writer of it are in C.
_TO_JSON = json.JSONEncoder(separators=(",", ":")).encode
_DEFAULTS: list[Any] = ["text", "plain", [], "7bit", None, None, None, None, [], None, "", []]


def pack(part: Part) -> bytes:
    """A compact form for the database, 7-bit: about 60 octets for a simple message."""
    return _TO_JSON(_packed(part)).encode("ascii")


def _packed(part: Part) -> list[Any]:
    disposition = part.disposition
    values: list[Any] = [
        part.type,
        part.subtype,
        _flat(part.parameters),
        part.encoding,
        part.id,
        part.description,
        part.md5,
        None if disposition is None else [disposition[0], _flat(disposition[1])],
        list(part.language),
        part.location,
        part.fields.decode("latin-1"),
        [_packed(child) for child in part.children],
    ]
    used = len(values)
    while used and values[used - 1] == _DEFAULTS[used - 1]:
        used -= 1
    return [part.header, part.body, part.end, part.lines, *values[:used]]


def _flat(parameters: Parameters) -> list[str]:
    return [text for pair in parameters for text in pair]


def unpack(data: bytes) -> Part:
    """The part that `pack` packed. Raise ValueError if the bytes are not from there."""
    try:
        return _unpacked(json.loads(data))
    except (TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError("not a packed part") from error


def _unpacked(values: Any) -> Part:
    header, body, end, lines = values[:4]
    given = values[4:]
    (
        kind,
        subtype,
        parameters,
        encoding,
        id_,
        description,
        md5,
        disposition,
        language,
        location,
        fields,
        children,
    ) = given + _DEFAULTS[len(given) :]
    return Part(
        header,
        body,
        end,
        lines,
        kind,
        subtype,
        _pairs(parameters),
        id_,
        description,
        encoding,
        md5,
        None if disposition is None else (disposition[0], _pairs(disposition[1])),
        tuple(language),
        location,
        fields.encode("latin-1"),
        tuple([_unpacked(child) for child in children]),
    )


def _pairs(flat: list[str]) -> Parameters:
    return tuple(zip(flat[::2], flat[1::2], strict=True))
