"""SEARCH and UID SEARCH (RFC 3501 section 6.4.4), with RETURN of RFC 4731."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from encodings.aliases import aliases

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import keys as k
from mailstack.wire.imap import mutf7
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor
from mailstack.wire.imap.grammar.mailboxes import LARGEST

MOST_DEPTH = 50  # parentheses, NOT and OR inside each other
MOST_KEYS = 1000  # in one SEARCH
_RETURNS = frozenset({"MIN", "MAX", "ALL", "COUNT"})
_WORD = re.compile(r"[A-Za-z]+")
# Looking up a name that does not exist costs memory for good in `encodings`: ask only for known ones.
_CHARSETS = frozenset(aliases) | frozenset(aliases.values()) | {"koi8_u", "cp874", "cp720", "utf_8_sig"}
_NO_CHARSETS = frozenset(
    {"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape", "mbcs", "oem"}
)
_BAD_CHARSET = "BADCHARSET (UTF-8 US-ASCII)"


def search(tag: str, cursor: Cursor, *, uid: bool = False) -> c.Command:
    """SEARCH. An unknown charset is NO [BADCHARSET]."""
    cursor.expect(" ")
    returns = None
    if _option(cursor, "RETURN "):
        returns = frozenset(cursor.listed(lambda: _return(cursor), empty=True)) or frozenset({"ALL"})
        cursor.expect(" ")
    charset = None
    if _option(cursor, "CHARSET "):
        charset = _charset(cursor.astring())
        cursor.expect(" ")
    return c.Search(tag, uid, _Reader(cursor, charset).keys(), returns)


def uid_search(tag: str, cursor: Cursor) -> c.Command:
    """UID SEARCH (RFC 3501 section 6.4.8)."""
    return search(tag, cursor, uid=True)


def _option(cursor: Cursor, word: str) -> bool:
    if cursor.text[cursor.at : cursor.at + len(word)].upper() != word:
        return False
    cursor.at += len(word)
    return True


def _return(cursor: Cursor) -> str:
    name = cursor.keyword("a RETURN option")
    if name not in _RETURNS:
        raise BadSyntax("unknown RETURN option")
    return name


def _charset(name: bytes) -> str | None:
    """The codec's name; None for US-ASCII, which is read tolerantly."""
    key = name.decode("latin-1").lower().replace("-", "_").replace(" ", "_")
    if key in ("us_ascii", "ascii"):
        return None
    if key not in _CHARSETS or key in _NO_CHARSETS:
        raise BadSyntax("unknown charset", _BAD_CHARSET, "NO")
    info = codecs.lookup(key)
    if not info._is_text_encoding or info.name.replace("-", "_") in _NO_CHARSETS:
        raise BadSyntax("not a charset", _BAD_CHARSET, "NO")
    return info.name


class _Reader:
    """Reads search keys, in one charset, and counts them."""

    __slots__ = ("_charset", "_count", "cursor")

    def __init__(self, cursor: Cursor, charset: str | None) -> None:
        self.cursor = cursor
        self._charset = charset
        self._count = 0

    def keys(self, depth: int = 0) -> k.Key:
        """One or more keys, all of which must match."""
        keys = [self.key(depth)]
        cursor = self.cursor
        while cursor.skip(" ") and cursor.at < len(cursor.text) and not cursor.peek(")"):
            keys.append(self.key(depth))
        return keys[0] if len(keys) == 1 else k.And(tuple(keys))

    def key(self, depth: int) -> k.Key:
        """One key."""
        self._count += 1
        if depth > MOST_DEPTH or self._count > MOST_KEYS:
            raise BadSyntax("SEARCH is too complex", "LIMIT", "NO")
        cursor = self.cursor
        if cursor.skip("("):
            keys = self.keys(depth + 1)
            cursor.expect(")")
            return keys
        found = cursor.match(_WORD)
        if found is None:
            return k.Numbers(cursor.sequence_set())
        word = found[0].upper()
        if word in _SIMPLE:
            return _SIMPLE[word]
        read = _WITH_ARGUMENT.get(word)
        if read is None:
            raise BadSyntax("unknown search key")
        cursor.expect(" ")
        return read(self, depth)

    def text(self) -> str:
        """A string in the charset of the command."""
        value = self.cursor.astring()
        if self._charset is None:
            return mutf7.raw(value)
        try:
            return value.decode(self._charset)
        except ValueError:
            raise BadSyntax("a string is not in the charset") from None

    def or_(self, depth: int) -> k.Key:
        """The two keys of OR."""
        left = self.key(depth + 1)
        self.cursor.expect(" ")
        return k.Or(left, self.key(depth + 1))

    def header(self, depth: int) -> k.Key:
        """The field name and string of HEADER."""
        name = mutf7.raw(self.cursor.astring())
        self.cursor.expect(" ")
        return k.Header(name, self.text())

    def modseq(self, depth: int) -> k.Key:
        """MODSEQ, whose entry name and type are of no effect (RFC 7162 section 3.1.5)."""
        if self.cursor.peek('"'):
            self.cursor.string()
            self.cursor.expect(" ")
            self.cursor.keyword("priv, shared or all")
            self.cursor.expect(" ")
        return k.ModSeq(self.cursor.number(LARGEST))


_Read = Callable[[_Reader, int], k.Key]


def _field(name: str) -> _Read:
    return lambda reader, depth: k.Header(name, reader.text())


def _dated(key: type[k.Arrived] | type[k.Sent], relation: k.Relation) -> _Read:
    return lambda reader, depth: key(relation, reader.cursor.date())


_FLAGS = ("Answered", "Deleted", "Draft", "Flagged", "Seen")
_SYSTEM = {name.upper(): k.HasFlag("\\" + name) for name in _FLAGS}
_SIMPLE: dict[str, k.Key] = {
    "ALL": k.All(),
    "NEW": k.And((k.Recent(), k.Not(_SYSTEM["SEEN"]))),
    "OLD": k.Not(k.Recent()),
    "RECENT": k.Recent(),
    **_SYSTEM,
    **{f"UN{name}": k.Not(key) for name, key in _SYSTEM.items()},
}
_WITH_ARGUMENT: dict[str, _Read] = {
    **{name.upper(): _field(name) for name in ("Bcc", "Cc", "From", "Subject", "To")},
    **{relation.value: _dated(k.Arrived, relation) for relation in k.Relation},
    **{f"SENT{relation.value}": _dated(k.Sent, relation) for relation in k.Relation},
    "BODY": lambda reader, depth: k.Body(reader.text()),
    "TEXT": lambda reader, depth: k.Text(reader.text()),
    "HEADER": _Reader.header,
    "KEYWORD": lambda reader, depth: k.HasFlag(reader.cursor.flag()),
    "UNKEYWORD": lambda reader, depth: k.Not(k.HasFlag(reader.cursor.flag())),
    "LARGER": lambda reader, depth: k.Larger(reader.cursor.number(LARGEST)),
    "SMALLER": lambda reader, depth: k.Smaller(reader.cursor.number(LARGEST)),
    "MODSEQ": _Reader.modseq,
    "UID": lambda reader, depth: k.Uids(reader.cursor.sequence_set()),
    "NOT": lambda reader, depth: k.Not(reader.key(depth + 1)),
    "OR": _Reader.or_,
}
