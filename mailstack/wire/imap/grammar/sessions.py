"""Commands about the session: LOGIN, AUTHENTICATE, ID, ENABLE and those without arguments."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import mutf7
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor

_MOST_LANGUAGES = 50
_LANGUAGE_RANGE = re.compile(r"\*|[a-z]{1,8}(?:-[a-z0-9]{1,8}){0,10}")  # RFC 4647 section 2.1, RFC 2277
_MOST_ID_FIELDS = 30  # RFC 2971 section 3.3
_LONGEST_MECHANISM = 20  # RFC 4422 section 3.1


def bare(command: type[c.Command]) -> Callable[[str, Cursor], c.Command]:
    """The reader of a command that has no argument."""

    def read(tag: str, cursor: Cursor) -> c.Command:
        return command(tag)

    return read


def login(tag: str, cursor: Cursor) -> c.Command:
    """LOGIN (RFC 3501 section 6.2.3)."""
    cursor.expect(" ")
    user = cursor.words()
    cursor.expect(" ")
    return c.Login(tag, user, cursor.words())


def authenticate(tag: str, cursor: Cursor) -> c.Command:
    """AUTHENTICATE, with the initial response of RFC 4959."""
    cursor.expect(" ")
    mechanism = cursor.keyword("a SASL mechanism")
    if len(mechanism) > _LONGEST_MECHANISM:
        raise BadSyntax("no such SASL mechanism")
    if not cursor.skip(" "):
        return c.Authenticate(tag, mechanism)
    initial = cursor.text[cursor.at :].strip(" ")
    cursor.at = len(cursor.text)
    if not initial:
        return c.Authenticate(tag, mechanism)
    return c.Authenticate(tag, mechanism, b"" if initial == "=" else base64(initial))


def base64(text: str) -> bytes:
    """Base64 decoded, strictly."""
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except ValueError:
        raise BadSyntax("bad base64") from None


def id_(tag: str, cursor: Cursor) -> c.Command:
    """ID (RFC 2971 section 3.1)."""
    cursor.expect(" ")
    if cursor.text[cursor.at : cursor.at + 3].upper() == "NIL":
        cursor.at += 3
        return c.Id(tag)

    def pair() -> tuple[str, str | None]:
        name = mutf7.raw(cursor.string()).lower()
        cursor.expect(" ")
        value = cursor.nstring()
        return name, None if value is None else mutf7.raw(value)

    return c.Id(tag, tuple(cursor.listed(pair, empty=True, most=_MOST_ID_FIELDS)))


def enable(tag: str, cursor: Cursor) -> c.Command:
    """ENABLE (RFC 5161 section 3.1)."""
    cursor.expect(" ")
    names = [cursor.keyword("a capability")]
    while cursor.skip(" ") and cursor.at < len(cursor.text):
        names.append(cursor.keyword("a capability"))
    return c.Enable(tag, tuple(names))


def compress(tag: str, cursor: Cursor) -> c.Command:
    """COMPRESS (RFC 4978 section 3)."""
    cursor.expect(" ")
    mechanism = cursor.keyword("a mechanism")
    if mechanism != "DEFLATE":
        raise BadSyntax("unknown compression mechanism")
    return x.Compress(tag, mechanism)


def language(tag: str, cursor: Cursor) -> c.Command:
    """LANGUAGE (RFC 5255 section 3.2); the ranges in lower case."""
    ranges: list[str] = []
    while cursor.skip(" ") and cursor.at < len(cursor.text):
        if len(ranges) >= _MOST_LANGUAGES:
            raise BadSyntax("too many languages")
        value = cursor.words().lower()
        if not _LANGUAGE_RANGE.fullmatch(value):
            raise BadSyntax("bad language range")
        ranges.append(value)
    return x.Language(tag, tuple(ranges))
