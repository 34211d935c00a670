"""Commands about messages, other than FETCH and SEARCH: APPEND's head, STORE, COPY, MOVE, EXPUNGE."""

from __future__ import annotations

import re
from collections.abc import Callable

from mailstack.wire.imap import commands as c
from mailstack.wire.imap.framer import Literal
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor
from mailstack.wire.imap.grammar.mailboxes import LARGEST
from mailstack.wire.imap.sequence import SequenceSet

_STORE = re.compile(r"([+-]?)FLAGS(\.SILENT)? ", re.IGNORECASE)
_MODES = {"+": "add", "-": "remove", "": "replace"}


def append(tag: str, cursor: Cursor) -> c.Command:
    """APPEND that has come to an end without its message."""
    raise BadSyntax("expected a message literal")


def append_head(tag: str, cursor: Cursor, literal: Literal) -> c.Append:
    """APPEND up to its message literal; the cursor stands after the word APPEND (RFC 3501 section 6.3.11)."""
    cursor.expect(" ")
    mailbox = cursor.mailbox()
    return append_next(tag, mailbox, cursor, literal, following=False)


def append_next(tag: str, mailbox: str, cursor: Cursor, literal: Literal, *, following: bool) -> c.Append:
    """` (flags) "date-time" ` before a message literal; \\Recent among the flags is passed over."""
    cursor.expect(" ")
    flags: frozenset[str] = frozenset()
    date = None
    if cursor.peek("("):
        flags = cursor.flag_list() - {r"\Recent"}
        cursor.expect(" ")
    if cursor.peek('"'):
        date = cursor.date_time()
        cursor.expect(" ")
    cursor.end()
    return c.Append(tag, mailbox, literal.size, flags, date, literal.synchronizing, following)


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
