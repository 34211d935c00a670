"""SEARCH, SORT, THREAD and ESEARCH: one program of keys (RFC 3501 section 6.4.4), with RETURN (RFC 4731)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from encodings.aliases import aliases

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import keys as k
from mailstack.wire.imap import mutf7
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor
from mailstack.wire.imap.grammar.fetch import fetch_item
from mailstack.wire.imap.grammar.mailboxes import LARGEST
from mailstack.wire.imap.grammar.notify import mailbox_filters
from mailstack.wire.imap.sequence import SequenceSet

MOST_DEPTH = 50  # parentheses, NOT and OR inside each other
MOST_KEYS = 1000  # in one SEARCH
# RFC 4731, RFC 5182, RFC 6203, RFC 5267, RFC 9394
_RETURNS = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE", "RELEVANCY", "CONTEXT", "UPDATE", "PARTIAL"})
_LONGEST_INTERVAL = 2**32 - 1  # seconds (RFC 5032 section 4)
_ALGORITHM = re.compile(r"[A-Za-z=]+")
_FILTER = re.compile(r"""[!#$&'+,.0-9:;<=>?@A-Z\[^_`a-z|}~-]{1,100}""")
_WORD = re.compile(r"[A-Za-z]+")
# Looking up a name that does not exist costs memory for good in `encodings`: ask only for known ones.
_CHARSETS = frozenset(aliases) | frozenset(aliases.values()) | {"koi8_u", "cp874", "cp720", "utf_8_sig"}
_NO_CHARSETS = frozenset(
    {"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape", "mbcs", "oem"}
)
_BAD_CHARSET = "BADCHARSET (UTF-8 US-ASCII)"


@dataclass(frozen=True, slots=True)
class _Returns:
    """What stood in RETURN (...)."""

    options: frozenset[str] | None = None
    partial: c.Partial | None = None
    update: tuple[c.Item, ...] = ()


def search(tag: str, cursor: Cursor, *, uid: bool = False) -> c.Command:
    """SEARCH. An unknown charset is NO [BADCHARSET]."""
    cursor.expect(" ")
    returns, key = _program(cursor)
    return c.Search(tag, uid, key, returns.options, returns.partial, returns.update)


def uid_search(tag: str, cursor: Cursor) -> c.Command:
    """UID SEARCH (RFC 3501 section 6.4.8)."""
    return search(tag, cursor, uid=True)


def multi_search(tag: str, cursor: Cursor) -> c.Command:
    """ESEARCH (RFC 7377 section 2.1)."""
    cursor.expect(" ")
    sources: tuple[x.MailboxFilter, ...] | None = None
    if _option(cursor, "IN "):
        cursor.expect("(")
        sources = mailbox_filters(cursor, "selected", "subtree-one")
        cursor.expect(") ")
    returns, key = _program(cursor)
    return x.MultiSearch(
        tag, sources, key, returns.options or frozenset({"ALL"}), returns.partial, returns.update
    )


def sort(tag: str, cursor: Cursor, *, uid: bool = False) -> c.Command:
    """SORT (RFC 5256 section 3, RFC 5267 section 3)."""
    cursor.expect(" ")
    returns = _returns(cursor)
    criteria = tuple(cursor.listed(lambda: _criterion(cursor), most=30))
    key = _after_charset(cursor)
    return x.Sort(tag, uid, criteria, key, returns.options, returns.partial, returns.update)


def uid_sort(tag: str, cursor: Cursor) -> c.Command:
    """UID SORT."""
    return sort(tag, cursor, uid=True)


def thread(tag: str, cursor: Cursor, *, uid: bool = False) -> c.Command:
    """THREAD (RFC 5256 section 3)."""
    cursor.expect(" ")
    name = cursor.word(_ALGORITHM, "a threading algorithm").upper()
    if name not in x.ALGORITHMS:
        raise BadSyntax("unknown threading algorithm")
    return x.Thread(tag, uid, name, _after_charset(cursor))


def uid_thread(tag: str, cursor: Cursor) -> c.Command:
    """UID THREAD."""
    return thread(tag, cursor, uid=True)


def _program(cursor: Cursor) -> tuple[_Returns, k.Key]:
    """RETURN (...) CHARSET x keys, the first two if they are there."""
    returns = _returns(cursor)
    charset = None
    if _option(cursor, "CHARSET "):
        if not cursor.labels:  # RFC 6855 section 3
            raise BadSyntax("no charset after UTF8=ACCEPT")
        charset = _charset(cursor.astring(loose=True))
        cursor.expect(" ")
    return returns, _Reader(cursor, charset or ("utf-8" if cursor.utf8 else None)).keys()


def read_key(program: bytes) -> k.Key:
    """A search program that is kept as text, `CHARSET` allowed (RFC 5466 section 3.2). Raises BadSyntax."""
    cursor = Cursor(program.decode("latin-1"), [])
    charset = "utf-8"
    if _option(cursor, "CHARSET "):
        charset = _charset(cursor.astring(loose=True)) or charset
        cursor.expect(" ")
    key = _Reader(cursor, charset).keys()
    cursor.end()
    return key


def _after_charset(cursor: Cursor) -> k.Key:
    """` charset keys`, as SORT and THREAD have them."""
    cursor.expect(" ")
    charset = _charset(cursor.astring(loose=True))
    cursor.expect(" ")
    return _Reader(cursor, charset).keys()


def _criterion(cursor: Cursor) -> x.Criterion:
    name, reverse = cursor.keyword("a sort key"), False
    if name == "REVERSE":
        cursor.expect(" ")
        name, reverse = cursor.keyword("a sort key"), True
    if name not in x.SORT_KEYS:
        raise BadSyntax("unknown sort key")
    return x.Criterion(name, reverse)


def _option(cursor: Cursor, word: str) -> bool:
    if cursor.text[cursor.at : cursor.at + len(word)].upper() != word:
        return False
    cursor.at += len(word)
    return True


def _returns(cursor: Cursor) -> _Returns:
    if not _option(cursor, "RETURN "):
        return _Returns()
    partial: c.Partial | None = None
    update: list[c.Item] = []

    def option() -> str:
        nonlocal partial
        name = cursor.keyword("a RETURN option")
        if name not in _RETURNS:
            raise BadSyntax("unknown RETURN option")
        if name == "PARTIAL":
            if partial is not None:
                raise BadSyntax("PARTIAL twice")
            cursor.expect(" ")
            partial = cursor.partial()
        if name == "UPDATE" and cursor.text.startswith(" (", cursor.at):  # RFC 5465 section 7
            cursor.skip(" ")
            update.extend(cursor.listed(lambda: fetch_item(cursor), most=100))
        return name

    options = frozenset(cursor.listed(option, empty=True)) or frozenset({"ALL"})
    if {"ALL", "PARTIAL"} <= options:  # RFC 9394 section 3.1
        raise BadSyntax("ALL and PARTIAL together")
    cursor.expect(" ")
    return _Returns(options, partial, tuple(dict.fromkeys(update)))


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
        value = self.cursor.astring(loose=self._charset is not None)
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

    def interval(self) -> int:
        """Seconds, at least one (RFC 5032 section 4)."""
        seconds = self.cursor.number(_LONGEST_INTERVAL)
        if not seconds:
            raise BadSyntax("an interval of nothing")
        return seconds

    def uid_bound(self, *, after: bool) -> k.Key:
        """UIDAFTER and UIDBEFORE (RFC 9738 section 3.2): above a UID, or below it."""
        bound = self.cursor.number(2**32 - 1)
        if not bound:
            raise BadSyntax("no such UID")
        if after:
            return k.Not(k.Uids(SequenceSet(((1, bound),))))
        return k.Uids(SequenceSet(((1, bound - 1),))) if bound > 1 else k.Not(k.All())

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


def _dated(key: type[k.Arrived] | type[k.Sent] | type[k.Saved], relation: k.Relation) -> _Read:
    return lambda reader, depth: key(relation, reader.cursor.date())


_FLAGS = ("Answered", "Deleted", "Draft", "Flagged", "Seen")
_SYSTEM = {name.upper(): k.HasFlag("\\" + name) for name in _FLAGS}
_SIMPLE: dict[str, k.Key] = {
    "ALL": k.All(),
    "NEW": k.And((k.Recent(), k.Not(_SYSTEM["SEEN"]))),
    "OLD": k.Not(k.Recent()),
    "RECENT": k.Recent(),
    "SAVEDATESUPPORTED": k.SaveDateSupported(),
    **_SYSTEM,
    **{f"UN{name}": k.Not(key) for name, key in _SYSTEM.items()},
}
_WITH_ARGUMENT: dict[str, _Read] = {
    **{name.upper(): _field(name) for name in ("Bcc", "Cc", "From", "Subject", "To")},
    **{relation.value: _dated(k.Arrived, relation) for relation in k.Relation},
    **{f"SENT{relation.value}": _dated(k.Sent, relation) for relation in k.Relation},
    **{f"SAVED{relation.value}": _dated(k.Saved, relation) for relation in k.Relation},
    "OLDER": lambda reader, depth: k.Older(reader.interval()),
    "YOUNGER": lambda reader, depth: k.Younger(reader.interval()),
    "EMAILID": lambda reader, depth: k.EmailId(reader.cursor.object_id()),
    "THREADID": lambda reader, depth: k.ThreadId(reader.cursor.object_id()),
    "FUZZY": lambda reader, depth: k.Fuzzy(reader.key(depth + 1)),
    "FILTER": lambda reader, depth: k.Filter(reader.cursor.word(_FILTER, "a filter's name")),
    "BODY": lambda reader, depth: k.Body(reader.text()),
    "TEXT": lambda reader, depth: k.Text(reader.text()),
    "HEADER": _Reader.header,
    "KEYWORD": lambda reader, depth: k.HasFlag(reader.cursor.flag()),
    "UNKEYWORD": lambda reader, depth: k.Not(k.HasFlag(reader.cursor.flag())),
    "LARGER": lambda reader, depth: k.Larger(reader.cursor.number(LARGEST)),
    "SMALLER": lambda reader, depth: k.Smaller(reader.cursor.number(LARGEST)),
    "MODSEQ": _Reader.modseq,
    "UID": lambda reader, depth: k.Uids(reader.cursor.sequence_set()),
    "UIDAFTER": lambda reader, depth: reader.uid_bound(after=True),
    "UIDBEFORE": lambda reader, depth: reader.uid_bound(after=False),
    "NOT": lambda reader, depth: k.Not(reader.key(depth + 1)),
    "OR": _Reader.or_,
}
