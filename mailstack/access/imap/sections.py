"""BODY[...]: which octets of a message a section names (RFC 3501 section 6.4.5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from mailstack.mail.charset import decode_transfer
from mailstack.mail.fields import select_fields
from mailstack.mail.mime import Part, find
from mailstack.store.facts import COMMON_FIELDS
from mailstack.wire.imap.commands import Binary, BinarySize, Section
from mailstack.wire.imap.responses import NIL, literal


@dataclass(frozen=True, slots=True)
class Span:
    """Octets ``[start, end)`` of the message."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many."""
        return self.end - self.start


def span_of(section: Section, root: Part) -> Span | None:
    """The octets that `section` is cut from, its partial not yet applied; None: there is no such part."""
    part = find(root, section.part)
    if part is None:
        return None
    if section.text == "MIME":
        return Span(part.header, part.body)
    if not section.text:
        return Span(part.body, part.end) if section.part else Span(part.header, part.end)
    if section.part:
        # HEADER and TEXT with a number are those of an embedded message
        if not part.is_message:
            return None
        part = part.children[0]
    return Span(part.body, part.end) if section.text == "TEXT" else Span(part.header, part.body)


def needs_structure(section: Section) -> bool:
    """Whether the parts must be known; if not, the header's size is enough."""
    return bool(section.part) or section.text == "MIME"


def is_made(section: Section | Decoded) -> bool:
    """Whether the value is made of the octets, and not just they."""
    return isinstance(section, Decoded) or is_fields(section)


def is_fields(section: Section) -> bool:
    """HEADER.FIELDS and HEADER.FIELDS.NOT: some fields of the octets."""
    return section.text.startswith("HEADER.FIELDS")


def is_common(section: Section) -> bool:
    """Whether the fields that the index keeps are enough to answer it."""
    return (
        section.text == "HEADER.FIELDS"
        and not section.part
        and all(name.lower().encode("utf-8", "replace") in COMMON_FIELDS for name in section.fields)
    )


def cut(section: Section, span: Span) -> Span:
    """`span` with the partial applied: ``<o.n>`` is at most n octets from offset o."""
    if section.partial is None or is_fields(section):
        return span
    offset, most = section.partial
    start = min(span.start + offset, span.end)
    return Span(start, min(start + most, span.end))


@dataclass(frozen=True, slots=True)
class Decoded:
    """BINARY[...] or BINARY.SIZE[...] of a part whose transfer encoding is known (RFC 3516 section 4.2)."""

    item: Binary | BinarySize
    encoding: str

    def value(self, octets: bytes) -> bytes:
        """The part's body without its encoding: a literal8 where it holds NULs; or only its size."""
        data = decode_transfer(octets, self.encoding)
        if isinstance(self.item, BinarySize):
            return b"%d" % len(data)
        if self.item.partial is not None:
            offset, most = self.item.partial
            data = data[offset : offset + most]
        return b"~" + literal(data) if b"\0" in data else literal(data)


def absent(section: Section | Decoded) -> bytes:
    """The value where there is no such part: NIL, but for BINARY.SIZE a number (RFC 3516 section 7)."""
    return b"0" if isinstance(section, Decoded) and isinstance(section.item, BinarySize) else NIL


class UnknownEncoding(Exception):
    """A part's Content-Transfer-Encoding is none that can be undone: NO [UNKNOWN-CTE]."""


def decoded(item: Binary | BinarySize, root: Part) -> tuple[Decoded, Span | None]:
    """How to answer the item, and the octets it is made of. Raise UnknownEncoding."""
    part = find(root, item.part)
    if part is None:
        return Decoded(item, "7bit"), None
    if not item.part:  # the whole message, which has no encoding of its own
        return Decoded(item, "7bit"), Span(part.header, part.end)
    if part.encoding not in _ENCODINGS:
        raise UnknownEncoding
    encoding = "7bit" if part.children else part.encoding  # RFC 2045 section 6.4
    return Decoded(item, encoding), Span(part.body, part.end)


_ENCODINGS = frozenset({"7bit", "8bit", "binary", "base64", "quoted-printable"})


def value(section: Section | Decoded, octets: bytes) -> bytes:
    """`octets` (of the cut span) as the item's value, a literal."""
    if isinstance(section, Decoded):
        return section.value(octets)
    if is_fields(section):
        return literal(fields_value(section, octets))
    return literal(octets)


def fields_value(section: Section, header: bytes) -> bytes:
    """The fields that `section` asks for, of a header section, and a blank line; the partial applied."""
    names = [name.encode("utf-8", "replace") for name in section.fields]
    chosen = select_fields(header, names, section.text.endswith(".NOT"))
    return _partial(section, chosen)


def common_fields(section: Section) -> Callable[[bytes], bytes]:
    """A function that answers `section` from the index's fields; made once for a FETCH of many messages."""
    every = field_pattern(name.encode("utf-8", "replace") for name in section.fields).findall

    def answer(fields: bytes) -> bytes:
        return literal(_partial(section, b"".join(every(fields)) + b"\r\n"))

    return answer


def _partial(section: Section, octets: bytes) -> bytes:
    if section.partial is None:
        return octets
    offset, most = section.partial
    return octets[offset : offset + most]


def field_pattern(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Finds the whole fields of those names, any case, with their continuation lines."""
    return _pattern(tuple(sorted({name.lower() for name in names})))


@lru_cache(maxsize=256)
def _pattern(names: tuple[bytes, ...]) -> re.Pattern[bytes]:
    either = b"|".join(map(re.escape, names))
    return re.compile(rb"^(?:%b)[ \t]*:[^\n]*\n?(?:[ \t][^\n]*\n?)*" % either, re.IGNORECASE | re.MULTILINE)
