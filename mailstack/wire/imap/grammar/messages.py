"""Commands about messages, other than FETCH and SEARCH: APPEND's head, STORE, COPY, MOVE, EXPUNGE."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.commands import Command
from mailstack.wire.imap.framer import Literal
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor
from mailstack.wire.imap.grammar.mailboxes import LARGEST
from mailstack.wire.imap.sequence import SequenceSet

_STORE = re.compile(r"([+-]?)FLAGS(\.SILENT)? ", re.IGNORECASE)
_LARGEST_NUMBER = 2**32 - 1
LONGEST_URL = 4096
_MODES = {"+": "add", "-": "remove", "": "replace"}


def append(tag: str, cursor: Cursor) -> c.Command:
    """APPEND that has come to an end without its message."""
    raise BadSyntax("expected a message literal")


_REPLACED = re.compile(r"\*|[1-9][0-9]{0,9}(?![0-9])")
_BEFORE_MAILBOX = re.compile(r" (?:[0-9*]{1,10} )?")
_CATENATE = re.compile(r"CATENATE \(", re.IGNORECASE)
_UTF8 = re.compile(r"UTF8 \(\Z", re.IGNORECASE)
_TEXT = re.compile(r"TEXT \Z", re.IGNORECASE)
_URL = re.compile(r"URL ", re.IGNORECASE)


def append_head(tag: str, cursor: Cursor, literal: Literal | None, command: str) -> c.Append:
    """APPEND or REPLACE up to its first message literal; the cursor stands after the word.

    RFC 3501 section 6.3.11, RFC 8508 section 3.1.
    """
    cursor.expect(" ")
    replaces = None
    if command.endswith("REPLACE"):
        word = cursor.word(_REPLACED, "a message number")
        number = 0 if word == "*" else int(word)
        if number > _LARGEST_NUMBER:
            raise BadSyntax("number too large")
        replaces = c.Replaced(command.startswith("UID"), number)
        cursor.expect(" ")
    return replace(append_next(tag, cursor.mailbox(), cursor, literal), replaces=replaces)


def append_next(tag: str, mailbox: str, cursor: Cursor, literal: Literal | None) -> c.Append:
    """` (flags) "date-time" ` and what announces the message: a literal, UTF8 (literal, or CATENATE (.

    \\Recent among the flags is passed over. After CATENATE the cursor stands before the first part.
    """
    cursor.expect(" ")
    flags: frozenset[str] = frozenset()
    date = None
    if cursor.peek("("):
        flags = cursor.flag_list() - {r"\Recent"}
        cursor.expect(" ")
    if cursor.peek('"'):
        date = cursor.date_time()
        cursor.expect(" ")
    if cursor.match(_CATENATE):
        return c.Append(tag, mailbox, 0, flags, date, synchronizing=False, catenated=True)
    if literal is None:
        raise BadSyntax("expected a message literal")
    utf8 = cursor.match(_UTF8) is not None
    cursor.end()
    if utf8 and not literal.binary:  # RFC 6855 section 4: a literal8
        raise BadSyntax("UTF8 needs a literal8")
    return c.Append(
        tag, mailbox, literal.size, flags, date, literal.synchronizing, binary=literal.binary, utf8=utf8
    )


def catenate_part(tag: str, cursor: Cursor, literal: Literal | None) -> Command:
    """The next part of CATENATE (RFC 4469 section 5).

    A text is announced by `literal`, which stands where the text of the line ends.
    """
    if cursor.match(_URL):
        url = cursor.astring().decode("latin-1")
        if len(url) > LONGEST_URL:
            raise BadSyntax("URL too long")
        return x.CatenateUrl(tag, url)
    if literal is not None and cursor.match(_TEXT):
        return x.CatenateText(tag, literal.size, literal.synchronizing)
    if literal is not None and cursor.match(_UTF8):  # RFC 6855 section 4
        if not literal.binary:
            raise BadSyntax("UTF8 needs a literal8")
        return x.CatenateText(tag, literal.size, literal.synchronizing, utf8=True)
    raise BadSyntax("expected URL or TEXT")


def awaits_url(text: str) -> bool:
    """Whether a part of CATENATE is a URL in a literal that is still to come."""
    return text.upper() == "URL "


def catenates(cursor: Cursor) -> bool:
    """Whether the rest of the text has a CATENATE."""
    return _CATENATE.search(cursor.text, cursor.at) is not None


def awaits_mailbox(text: str) -> bool:
    """Whether what APPEND or REPLACE announces after this text is a literal with the mailbox's name."""
    return _BEFORE_MAILBOX.fullmatch(text) is not None


def store(tag: str, cursor: Cursor, *, uid: bool = False) -> c.Command:
    """STORE (RFC 3501 section 6.4.6, RFC 7162 section 3.1.3)."""
    cursor.expect(" ")
    numbers = cursor.sequence_set()
    cursor.expect(" ")
    unchanged_since = _unchanged_since(cursor)
    found = cursor.match(_STORE)
    if found is None:
        raise BadSyntax("expected FLAGS, +FLAGS or -FLAGS")
    flags = cursor.flag_list() if cursor.peek("(") else frozenset(_bare_flags(cursor))
    if r"\Recent" in flags:  # RFC 3501 section 2.3.2: no client can alter it
        raise BadSyntax("\\Recent cannot be stored")
    return c.Store(tag, uid, numbers, _MODES[found[1]], flags, found[2] is not None, unchanged_since)


def _unchanged_since(cursor: Cursor) -> int | None:
    if not cursor.skip("("):
        return None
    if cursor.keyword("UNCHANGEDSINCE") != "UNCHANGEDSINCE":
        raise BadSyntax("unknown modifier")
    cursor.expect(" ")
    value = cursor.number(LARGEST)
    cursor.expect(") ")
    return value


def _bare_flags(cursor: Cursor) -> list[str]:
    flags = [cursor.flag()]
    while cursor.skip(" ") and cursor.at < len(cursor.text):
        flags.append(cursor.flag())
    return flags


def uid_store(tag: str, cursor: Cursor) -> c.Command:
    """UID STORE (RFC 3501 section 6.4.8)."""
    return store(tag, cursor, uid=True)


def to_mailbox(
    command: Callable[[str, bool, SequenceSet, str], c.Command], *, uid: bool
) -> Callable[[str, Cursor], c.Command]:
    """The reader of COPY, MOVE and their UID forms (RFC 3501 section 6.4.7, RFC 6851 section 3)."""

    def read(tag: str, cursor: Cursor) -> c.Command:
        cursor.expect(" ")
        numbers = cursor.sequence_set()
        cursor.expect(" ")
        return command(tag, uid, numbers, cursor.mailbox())

    return read


def expunge(tag: str, cursor: Cursor) -> c.Command:
    """EXPUNGE."""
    return c.Expunge(tag)


def uid_expunge(tag: str, cursor: Cursor) -> c.Command:
    """UID EXPUNGE (RFC 4315 section 2.1)."""
    cursor.expect(" ")
    return c.Expunge(tag, cursor.sequence_set())
