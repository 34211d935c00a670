"""A place in a command's text, and the small words of the grammar (RFC 3501 section 9).

A command's text comes as one string of Latin-1, one character an octet; where a literal stood there is a
LITERAL character, which cannot occur otherwise, and the literals come in a list. Everything is read from left
to right, once, by compiled patterns without backtracking.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import TypeVar

from mailstack.wire.imap import mutf7
from mailstack.wire.imap.commands import DateTime, Partial
from mailstack.wire.imap.sequence import SequenceSet

LITERAL = "\n"
MOST_ITEMS = 1000  # in any parenthesized list
T = TypeVar("T")


class BadSyntax(Exception):
    """The command is not in the grammar. `code` and `status` as in `Malformed`."""

    def __init__(self, text: str, code: str | None = None, status: str = "BAD") -> None:
        super().__init__(text)
        self.text, self.code, self.status = text, code, status


_ATOM = re.compile(r"""[!#$&'+,./0-9:;<=>?@A-Z\[^_`a-z|}~-]+""")
_ASTRING = re.compile(r"""[!#$&'+,./0-9:;<=>?@A-Z\[\]^_`a-z|}~-]+""")
_PATTERN = re.compile(r"""[!#$%&'*+,./0-9:;<=>?@A-Z\[\]^_`a-z|}~\x80-\xff-]+""")
_RAW_NAME = re.compile(r"""[!#$&'+,./0-9:;<=>?@A-Z\[\]^_`a-z|}~\x80-\xff-]+""")
_QUOTED = re.compile(r'"([^"\\\r\n\0]*(?:\\["\\][^"\\\r\n\0]*)*)"')
_ESCAPED = re.compile(r'\\(["\\])')
_NUMBER = re.compile(r"[0-9]{1,20}(?![0-9])")
_SEQUENCE = re.compile(r"[0-9*:,]+|\$")
_OBJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,255}(?![A-Za-z0-9_-])")
_PARTIAL = re.compile(r"(-?)([0-9]{1,10}):(-?)([0-9]{1,10})(?![0-9])")
_FLAG = re.compile(r"""\\?[!#$&'+,./0-9:;<=>?@A-Z\[^_`a-z|}~-]+""")
_DATE = re.compile(r'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    r'"([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SYSTEM_FLAGS = {
    name.lower(): name for name in (r"\Answered", r"\Flagged", r"\Deleted", r"\Seen", r"\Draft", r"\Recent")
}
_LONGEST_FLAG = 255
_EPOCH = datetime.date(1970, 1, 1).toordinal()


class Cursor:
    """Reads forward. Every method raises BadSyntax if what it names does not stand here."""

    __slots__ = ("_literals", "at", "labels", "text", "utf8")

    def __init__(
        self, text: str, literals: list[bytes], at: int = 0, *, utf8: bool = False, labels: bool = True
    ) -> None:
        self.text = text
        self.at = at
        # Mailbox names are UTF-8, not modified UTF-7 (RFC 6855 section 3, RFC 9051 section 5.1).
        self.utf8 = utf8
        self.labels = labels  # SEARCH may name a charset (not after ENABLE UTF8=ACCEPT: RFC 6855 section 3)
        self._literals = iter(literals)

    def left(self) -> list[bytes]:
        """The literals that have not been read; the cursor has them no more."""
        return list(self._literals)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The pattern if it stands here; goes past it."""
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def word(self, pattern: re.Pattern[str], what: str) -> str:
        """The text of the pattern."""
        found = pattern.match(self.text, self.at)
        if found is None:
            raise BadSyntax(f"expected {what}")
        self.at = found.end()
        return found[0]

    def peek(self, character: str) -> bool:
        """Whether the character stands here."""
        return self.text.startswith(character, self.at)

    def skip(self, characters: str) -> bool:
        """Go past the characters if they stand here."""
        if not self.text.startswith(characters, self.at):
            return False
        self.at += len(characters)
        return True

    def expect(self, characters: str) -> None:
        """Go past the characters."""
        if not self.skip(characters):
            raise BadSyntax("expected a space" if characters == " " else f"expected {characters}")

    def end(self) -> None:
        """Nothing follows but spaces, which some clients leave at the end of a line."""
        if self.text[self.at :].strip(" "):
            raise BadSyntax("unexpected words at the end")

    def atom(self, what: str = "an atom") -> str:
        """An atom."""
        return self.word(_ATOM, what)

    def keyword(self, what: str = "a word") -> str:
        """An atom in upper case."""
        return self.word(_ATOM, what).upper()

    def string(self, *, loose: bool = False) -> bytes:
        """A quoted string or a literal.

        8-bit octets in a quoted string must be UTF-8 (RFC 6855 section 3), unless `loose`: where they are in
        another charset that was named, or a password.
        """
        if self.skip(LITERAL):
            value = next(self._literals)
            if b"\0" in value:  # RFC 3501 section 9: CHAR8 is not NUL
                raise BadSyntax("NUL in a literal")
            return value
        found = self.match(_QUOTED)
        if found is None:
            raise BadSyntax("expected a string")
        value = found[1].encode("latin-1")
        if not loose and not value.isascii():
            _as_utf8(value)
        return _unescape(found[1]) if b"\\" in value else value

    def astring(self, *, loose: bool = False) -> bytes:
        """An atom (with "]" allowed) or a string."""
        found = _ASTRING.match(self.text, self.at)
        if found is None:
            return self.string(loose=loose)
        self.at = found.end()
        return found[0].encode("latin-1")

    def binary(self) -> bytes | None:
        """A literal8, in which NUL may be, or what `nstring` reads (RFC 3516, RFC 5464 section 5)."""
        if self.skip("~" + LITERAL):
            return next(self._literals)
        return self.nstring()

    def nstring(self) -> bytes | None:
        """A string, or None for NIL."""
        if self.text[self.at : self.at + 3].upper() == "NIL":
            self.at += 3
            return None
        return self.string()

    def words(self) -> str:
        """An astring as text: UTF-8, else Latin-1."""
        return mutf7.raw(self.astring(loose=True))

    def number(self, most: int = 2**32 - 1) -> int:
        """A number up to `most`."""
        value = int(self.word(_NUMBER, "a number"))
        if value > most:
            raise BadSyntax("number too large")
        return value

    def sequence_set(self) -> SequenceSet:
        """A sequence-set."""
        try:
            return SequenceSet.parse(self.word(_SEQUENCE, "a sequence set"))
        except ValueError as error:
            raise BadSyntax(str(error)) from None

    def mailbox(self) -> str:
        """A mailbox name, in Unicode; INBOX in upper case. 8-bit octets in an atom are tolerated."""
        found = self.match(_RAW_NAME)
        name = self._name(found)
        return "INBOX" if name.upper() == "INBOX" else name

    def pattern(self) -> str:
        """A list-mailbox: a mailbox name with wildcards, in Unicode."""
        return self._name(self.match(_PATTERN))

    def _name(self, found: re.Match[str] | None) -> str:
        wire = found[0].encode("latin-1") if found else self.string()
        return _as_utf8(wire) if self.utf8 else mutf7.decode(wire)

    def object_id(self) -> str:
        """An objectid (RFC 8474 section 7)."""
        return self.word(_OBJECT_ID, "an object identifier")

    def partial(self) -> Partial:
        """A partial-range (RFC 9394 section 5): `1:100`, or `-1:-100` from the end."""
        found = self.match(_PARTIAL)
        if found is None:
            raise BadSyntax("expected a range like 1:100")
        first, last = int(found[2]), int(found[4])
        if found[1] != found[3] or not 0 < first < 2**32 or not 0 < last < 2**32:
            raise BadSyntax("no such range")
        first, last = min(first, last), max(first, last)
        return Partial(-first, -last) if found[1] else Partial(first, last)

    def flag(self) -> str:
        r"""A flag; system flags in the RFC's spelling. Raises for a `\Name` that is no system flag."""
        name = self.word(_FLAG, "a flag")
        if name.startswith("\\"):
            if name.lower() not in _SYSTEM_FLAGS:
                raise BadSyntax("unknown system flag")
            return _SYSTEM_FLAGS[name.lower()]
        if len(name) > _LONGEST_FLAG:
            raise BadSyntax("keyword too long")
        return name

    def flag_list(self) -> frozenset[str]:
        """A parenthesized list of flags, maybe empty."""
        return frozenset(self.listed(self.flag, empty=True))

    def listed(self, read: Callable[[], T], *, empty: bool = False, most: int = MOST_ITEMS) -> list[T]:
        """`(a b c)`, each read by `read`."""
        self.expect("(")
        if empty and self.skip(")"):
            return []
        items = [read()]
        while self.skip(" "):
            if len(items) >= most:
                raise BadSyntax("too many items in a list")
            if self.peek(")"):  # a space before the closing parenthesis: old Outlook
                break
            items.append(read())
        self.expect(")")
        return items

    def date(self) -> datetime.date:
        """A date, quoted or not: `1-Feb-1994`."""
        found = self.match(_DATE)
        if found is None:
            raise BadSyntax("expected a date like 1-Feb-1994")
        return _date(found[2], found[3], found[4])

    def date_time(self) -> DateTime:
        """A quoted date-time: `" 7-Feb-1994 22:43:04 -0800"`."""
        found = self.match(_DATE_TIME)
        if found is None:
            raise BadSyntax("expected a date-time")
        days = _date(found[1], found[2], found[3]).toordinal() - _EPOCH
        hour, minute, second = int(found[4]), int(found[5]), int(found[6])
        zone_hours, zone_minutes = int(found[8]), int(found[9])
        if hour > 23 or minute > 59 or second > 60 or zone_minutes > 59:
            raise BadSyntax("no such time")
        zone = (zone_hours * 60 + zone_minutes) * (-1 if found[7] == "-" else 1)
        return DateTime(days * 86_400 + hour * 3600 + minute * 60 + second - zone * 60, zone)


def _as_utf8(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise BadSyntax("expected UTF-8") from None


def _unescape(quoted: str) -> bytes:
    return _ESCAPED.sub(r"\1", quoted).encode("latin-1")


def _date(day: str, month: str, year: str) -> datetime.date:
    try:
        return datetime.date(int(year), _MONTHS.index(month.lower()) + 1, int(day))
    except ValueError:
        raise BadSyntax("no such date") from None
