"""Values in IMAP's syntax (RFC 3501 section 9), as ready bytes: atoms, strings, literals, flags, dates."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

from mailstack.wire.imap import mutf7

NIL = b"NIL"

# ASTRING-CHAR, which allows "]". A "+" at the end or "{" would be no trouble here, but old clients stumble.
_ASTRING = re.compile(rb"""[!#$&'+,./0-9:;<=>?@A-Z\[\]^_`a-z|}~-]+""")
_QUOTED = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*")
_SPECIALS = re.compile(rb'(["\\])')
_UNQUOTABLE = re.compile(rb"[\0\r\n]")
_LONGEST_QUOTED = 1000  # octets; a longer string goes as a literal, as clients' line buffers are small
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = datetime.date(1970, 1, 1)


def octets(value: str | bytes) -> bytes:
    """Text as UTF-8; octets as they are."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else value


def quote(value: str | bytes) -> bytes:
    """A quoted string; a literal where a quoted string cannot hold it (CR, LF, NUL, 8-bit) or it is long."""
    value = octets(value)
    if len(value) > _LONGEST_QUOTED or not _QUOTED.fullmatch(value):
        return literal(value)
    return b'"' + _SPECIALS.sub(rb"\\\1", value) + b'"'


def literal(value: bytes) -> bytes:
    """A literal: `{n}` CRLF and the octets."""
    return b"{%d}\r\n%b" % (len(value), value)


def string(value: str | bytes) -> bytes:
    """A string: quoted or literal, never an atom. The same as `quote`."""
    return quote(value)


def nstring(value: str | bytes | None) -> bytes:
    """A string, or NIL for None."""
    return NIL if value is None else quote(value)


def astring(value: str | bytes) -> bytes:
    """The plainest form: an atom, else a quoted string, else a literal. Never the atom NIL."""
    value = octets(value)
    if _ASTRING.fullmatch(value) and value.upper() != NIL:
        return value
    return quote(value)


def mailbox(name: str) -> bytes:
    """A mailbox name in modified UTF-7, as an astring."""
    return astring(mutf7.encode(name))


def mailbox_utf8(name: str) -> bytes:
    """A mailbox name in UTF-8, as an astring or a quoted string (RFC 6855 section 3, RFC 9051 section 9)."""
    if name.isascii():
        return astring(name)
    value = name.encode("utf-8", "replace")
    if len(value) > _LONGEST_QUOTED or _UNQUOTABLE.search(value):
        return literal(value)
    return b'"' + _SPECIALS.sub(rb"\\\1", value) + b'"'


def quoted(value: bytes) -> bytes:
    """What `mailbox` or `astring` gave, never an atom: for clients that know only a string there."""
    return value if value[:1] in (b'"', b"{") else b'"' + value + b'"'


def parenthesized(items: Iterable[bytes]) -> bytes:
    """`(a b c)`."""
    return b"(" + b" ".join(items) + b")"


def flags(names: Iterable[str]) -> bytes:
    r"""`(\Seen $Forwarded)`, in the order given; the names are taken to be good atoms."""
    return ("(" + " ".join(names) + ")").encode("ascii", "replace")


def date_time(seconds: int, zone: int = 0) -> bytes:
    """INTERNALDATE of seconds since 1970 in the zone given (minutes east of UTC), with its quotes.

    A year outside 1 to 9999 or an impossible zone is drawn to the nearest that can be written.
    """
    zone = max(-5999, min(zone, 5999))
    days, second = divmod(seconds + zone * 60, 86_400)
    day = _EPOCH + datetime.timedelta(days=max(-719_162, min(days, 2_932_896)))
    hours, minutes = divmod(abs(zone), 60)
    return b'"%2d-%b-%04d %02d:%02d:%02d %b%02d%02d"' % (
        day.day,
        _MONTHS[day.month - 1].encode(),
        day.year,
        second // 3600,
        second // 60 % 60,
        second % 60,
        b"-" if zone < 0 else b"+",
        hours,
        minutes,
    )


_UNFIT = re.compile("[^ -~]+")


def text(words: str) -> bytes:
    """Human text for a status response: one line of printable ASCII, never empty, never taken for a code."""
    words = _UNFIT.sub(" ", words).strip()
    if words.startswith("["):
        words = "(" + words[1:]
    return words.encode("ascii") or b"."
