"""Access control lists (RFC 4314 section 7)."""

from __future__ import annotations

from collections.abc import Callable

from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.commands import Command
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor

LONGEST_IDENTIFIER = 255
_MODES = {"+": "add", "-": "remove"}


def _identifier(cursor: Cursor) -> str:
    """An identifier; the RFC prepares it with SASLprep, which is the directory's part."""
    name = cursor.words()
    if not name or len(name) > LONGEST_IDENTIFIER or not name.isprintable():
        raise BadSyntax("bad identifier")
    return name


def set_acl(tag: str, cursor: Cursor) -> Command:
    """SETACL (RFC 4314 section 3.1)."""
    cursor.expect(" ")
    mailbox = cursor.mailbox()
    cursor.expect(" ")
    identifier = _identifier(cursor)
    cursor.expect(" ")
    rights = cursor.words()
    mode = _MODES.get(rights[:1], "replace")
    rights = rights[1:] if mode != "replace" else rights
    # RFC 4314 section 7: lower case letters and digits; upper case is refused.
    if not all(right in "abcdefghijklmnopqrstuvwxyz0123456789" for right in rights):
        raise BadSyntax("bad rights")
    return x.SetAcl(tag, mailbox, identifier, mode, "".join(dict.fromkeys(rights)))


def of_identifier(command: Callable[[str, str, str], Command]) -> Callable[[str, Cursor], Command]:
    """The reader of a command with a mailbox and an identifier."""

    def read(tag: str, cursor: Cursor) -> Command:
        cursor.expect(" ")
        mailbox = cursor.mailbox()
        cursor.expect(" ")
        return command(tag, mailbox, _identifier(cursor))

    return read
