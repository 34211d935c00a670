"""Header fields (RFC 5322): split, select, decode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date

from mailstack.mail.address_list import Group, Mailbox, parse_addresses
from mailstack.mail.charset import decode_encoded_words, encode_words, raw_text

__all__ = [
    "ENVELOPE_FIELDS",
    "Group",
    "Mailbox",
    "decode_words",
    "encode_words",
    "field_value",
    "iterate_fields",
    "parse_addresses",
    "parse_date",
    "parse_message_id",
    "select_fields",
    "split_fields",
]

ENVELOPE_FIELDS = frozenset(  # what ENVELOPE is made of (RFC 3501 section 7.4.2)
    (
        b"date",
        b"subject",
        b"from",
        b"sender",
        b"reply-to",
        b"to",
        b"cc",
        b"bcc",
        b"in-reply-to",
        b"message-id",
    )
)

# A line and those that continue it; a line of blanks alone continues too (RFC 5322 section 4.2).
_FIELD = re.compile(rb"[^\n]*\n?(?:[ \t][^\n]*\n?)*")


_BLANK = frozenset((b"", b"\r\n", b"\n"))


def iterate_fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Like `split_fields`, one at a time; stops at the blank line."""
    for match in _FIELD.finditer(header):
        raw = match[0]
        name, colon, _ = raw.partition(b":")
        if colon:
            yield name.rstrip(b" \t").lower(), raw
        elif raw in _BLANK:
            return
        else:
            yield b"", raw


def split_fields(header: bytes) -> list[tuple[bytes, bytes]]:
    """Fields in order as (name in lower case, whole raw field with its line ends).

    A line with no colon has the name b"". The blank line and what follows it are left out. The list takes
    about 150 octets a field: bound the header.
    """
    return list(iterate_fields(header))


def select_fields(
    header: bytes, names: Iterable[bytes], not_: bool = False, most: int | None = None
) -> bytes:
    """The raw fields with (or without) those names, any case, then a blank line (RFC 3501 HEADER.FIELDS).

    `most` bounds the octets that are taken: a field that would go beyond is left out.
    """
    wanted = frozenset(map(bytes.lower, names))
    kept: list[bytes] = []
    room = len(header) if most is None else most
    for name, raw in iterate_fields(header):
        if (name in wanted) != not_ and len(raw) <= room:
            room -= len(raw)
            kept.append(raw if raw.endswith(b"\n") else raw + b"\r\n")
    kept.append(b"\r\n")
    return b"".join(kept)


def field_value(raw: bytes) -> str:
    """The body of a raw field, unfolded and stripped, RFC 2047 words left; 8-bit is UTF-8 or else Latin-1."""
    value = raw.partition(b":")[2].strip()
    if b"\n" in value:  # RFC 5322 section 2.2.3: the line end goes, the blank after it stays
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return raw_text(value)


def decode_words(value: bytes | str) -> str:
    """The value unfolded, its RFC 2047 words decoded; never raises."""
    text = raw_text(value) if isinstance(value, bytes) else value
    if "\n" in text:
        text = text.replace("\r\n", "").replace("\n", "")
    return decode_encoded_words(text)


def parse_message_id(value: bytes | str) -> str | None:
    """The first ``<id>`` of the value with its brackets, or the stripped value; None if empty."""
    text = raw_text(value) if isinstance(value, bytes) else value
    start = text.find("<")
    end = text.find(">", start + 1) if start >= 0 else -1
    if end > 0:
        return "".join(text[start : end + 1].split())
    return text.strip() or None


_DATE = re.compile(
    r"(?:[a-z]{3,9}\.?\s*,?\s*)?(?P<day>\d{1,2})[\s-]+(?P<month>[a-z]{3})[a-z]{0,6}\.?[\s,-]+(?P<year>\d{2,4})"
    r"(?:\s+|,|T)+(?P<hour>\d{1,2})[:.](?P<minute>\d{1,2})(?:[:.](?P<second>\d{1,2})(?:[.,]\d+)?)?"
    r"\s*(?:(?P<sign>[+-])(?P<zone>\d{1,2}:?\d{2})|(?P<name>[a-z]{1,5})(?![a-z]))?",
    re.ASCII | re.IGNORECASE,
)
_ASCTIME = re.compile(
    r"[a-z]{3}\s+(?P<month>[a-z]{3})\s+(?P<day>\d{1,2})\s+(?P<hour>\d{1,2}):(?P<minute>\d{2}):(?P<second>\d{2})"
    r"\s+(?:(?P<name>[a-z]{1,5})\s+)?(?P<year>\d{4})(?:\s+(?P<sign>[+-])(?P<zone>\d{4}))?",
    re.ASCII | re.IGNORECASE,
)
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
# RFC 5322 section 4.3: other names, and the military letters, are no more than -0000.
_ZONES = {
    "est": -300,
    "edt": -240,
    "cst": -360,
    "cdt": -300,
    "mst": -420,
    "mdt": -360,
    "pst": -480,
    "pdt": -420,
}
_EPOCH = date(1970, 1, 1).toordinal()
_MAX_DATE = 256  # characters that are read


def parse_date(value: bytes | str) -> tuple[int, int] | None:
    """(unix seconds, zone in minutes east of UTC) of a Date value, or None (RFC 5322 sections 3.3, 4.3)."""
    text = (raw_text(value[:_MAX_DATE]) if isinstance(value, bytes) else value[:_MAX_DATE]).strip()
    if "(" in text:
        text = text.partition("(")[0]
    text = text.replace("\r", "").replace("\n", "")
    found = _DATE.match(text) or _ASCTIME.match(text)
    if found is None:
        return None
    month = _MONTHS.find(found["month"].lower()) // 4 + 1  # every name is three letters: 0 if there is none
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    if not month or hour > 23 or minute > 59 or second > 60:
        return None
    try:
        days = date(_year(found["year"]), month, int(found["day"])).toordinal() - _EPOCH
    except ValueError:
        return None
    zone = _zone(found)
    return days * 86400 + hour * 3600 + minute * 60 + second - zone * 60, zone


def _year(digits: str) -> int:
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (2000 if len(digits) == 2 and year < 50 else 1900)  # RFC 5322 section 4.3


def _zone(found: re.Match[str]) -> int:
    digits = found["zone"]
    if not digits:
        return _ZONES.get((found["name"] or "").lower(), 0)
    hours, minutes = int(digits.replace(":", "")[:-2]), int(digits[-2:])
    if hours > 23 or minutes > 59:
        return 0
    return (hours * 60 + minutes) * (-1 if found["sign"] == "-" else 1)
