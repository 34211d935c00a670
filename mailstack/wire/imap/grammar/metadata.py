"""GETMETADATA and SETMETADATA (RFC 5464)."""

from __future__ import annotations

import re

from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.commands import Command
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor

MOST_ENTRIES = 100  # of one command
LONGEST_ENTRY = 255  # octets of an entry's name
_DEPTHS = {"0": 0, "1": 1, "INFINITY": None}
# Components of printable ASCII but no "*" nor "%" (RFC 5464 section 4.1).
_ENTRY = re.compile(r"/(?:private|shared)(?:/[!-$&-)+-.0-~]+(?: +[!-$&-)+-.0-~]+)*)*", re.IGNORECASE)
_OPTIONS = re.compile(r"\((?:MAXSIZE|DEPTH) ", re.IGNORECASE)


def entry(cursor: Cursor) -> str:
    """An entry's name, in lower case, as names are compared so (RFC 5464 section 3.1)."""
    name = cursor.words().lower()
    if len(name) > LONGEST_ENTRY or not _ENTRY.fullmatch(name):
        raise BadSyntax("bad entry name")
    return name


def get_metadata(tag: str, cursor: Cursor) -> Command:
    """GETMETADATA (RFC 5464 section 4.2); options stand before or after the mailbox, as clients differ."""
    cursor.expect(" ")
    max_size: int | None = None
    depth: int | None = 0

    def option() -> None:
        nonlocal max_size, depth
        name = cursor.keyword("an option")
        cursor.expect(" ")
        if name == "MAXSIZE":
            max_size = cursor.number()
        elif name == "DEPTH":
            depth = _depth(cursor)
        else:
            raise BadSyntax("unknown option")

    if cursor.peek("("):  # as the grammar has it
        cursor.listed(option, most=2)
        cursor.expect(" ")
    mailbox = cursor.mailbox()
    cursor.expect(" ")
    if _OPTIONS.match(cursor.text, cursor.at):  # as the examples have it
        cursor.listed(option, most=2)
        cursor.expect(" ")
    entries = cursor.listed(lambda: entry(cursor), most=MOST_ENTRIES) if cursor.peek("(") else [entry(cursor)]
    return x.GetMetadata(tag, mailbox, tuple(dict.fromkeys(entries)), max_size, depth)


def _depth(cursor: Cursor) -> int | None:
    word = cursor.keyword("0, 1 or infinity")
    if word not in _DEPTHS:
        raise BadSyntax("expected 0, 1 or infinity")
    return _DEPTHS[word]


def set_metadata(tag: str, cursor: Cursor) -> Command:
    """SETMETADATA (RFC 5464 section 4.3)."""
    cursor.expect(" ")
    mailbox = cursor.mailbox()
    cursor.expect(" ")

    def pair() -> tuple[str, bytes | None]:
        name = entry(cursor)
        cursor.expect(" ")
        return name, cursor.binary()

    values = cursor.listed(pair, most=MOST_ENTRIES)
    if len({name for name, _ in values}) < len(values):
        raise BadSyntax("an entry twice")
    return x.SetMetadata(tag, mailbox, tuple(values))
