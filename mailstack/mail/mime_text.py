"""The text of a message as a person reads it: what SEARCH looks at."""

from __future__ import annotations

import mmap
import re

from mailstack.mail.charset import decode, decode_encoded_words, decode_transfer, raw_text
from mailstack.mail.mime_content import decode_parameter
from mailstack.mail.mime_part import Part

Data = bytes | mmap.mmap

MAX_TEXT = 32 * 1024 * 1024  # octets of one part, before decoding, that are read
MAX_HEADER = 1024 * 1024  # octets of one header section that are read

_FOLD = re.compile(rb"\r?\n(?=[ \t])")


def decode_body(part: Part, data: Data, most: int = MAX_TEXT) -> str:
    """The text of one leaf, transfer encoding and charset undone; never raises.

    At most the first `most` octets are read. An unknown charset is read as UTF-8 or else Latin-1.
    """
    raw = data[part.body : min(part.end, part.body + most)]
    return decode(decode_transfer(raw, part.encoding), part.value("charset"))


def decode_header(part: Part, data: Data) -> str:
    """The header section of a part as text: fields unfolded, RFC 2047 words decoded; never raises."""
    raw = data[part.header : min(part.body, part.header + MAX_HEADER)]
    unfolded = _FOLD.sub(b"", raw)
    if unfolded.isascii():
        return decode_encoded_words(unfolded.decode("ascii"))
    return decode_encoded_words("\n".join(map(raw_text, unfolded.split(b"\n"))))


def search_text(part: Part, data: Data, header: bool = True) -> str:
    """All text that SEARCH TEXT looks at, or SEARCH BODY with `header` False; never raises.

    Header sections of the parts within count as body (RFC 3501 section 6.4.4), and so does what a report says
    to programs (message/delivery-status and its like). Parts that are not text are left out, save their
    header sections, which hold file names; HTML keeps its tags.
    """
    found: list[str] = []
    waiting = [(part, header)]
    while waiting:
        entity, with_header = waiting.pop()
        if with_header:
            found.append(decode_header(entity, data))
        if entity.children:
            waiting.extend((child, True) for child in reversed(entity.children))
        elif entity.type in ("text", "message"):
            found.append(decode_body(entity, data))
    return "\r\n".join(found)


def parameter(part: Part, name: str) -> str | None:
    """A content-type or disposition parameter, RFC 2231 and RFC 2047 undone ("filename", "name")."""
    disposition = part.disposition[1] if part.disposition else ()
    found = decode_parameter(disposition, name)
    return decode_parameter(part.parameters, name) if found is None else found
