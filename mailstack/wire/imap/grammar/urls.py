"""GENURLAUTH, URLFETCH and RESETKEY (RFC 4467)."""

from __future__ import annotations

from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.commands import Command
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor

MOST_URLS = 100  # of one command
LONGEST_URL = 4096


def _url(cursor: Cursor) -> str:
    url = cursor.astring()
    if len(url) > LONGEST_URL or not url.isascii():
        raise BadSyntax("bad URL")
    return url.decode("ascii")


def gen_url_auth(tag: str, cursor: Cursor) -> Command:
    """GENURLAUTH rump mechanism ..."""
    urls: list[tuple[str, str]] = []
    while cursor.skip(" ") and cursor.at < len(cursor.text) and len(urls) < MOST_URLS:
        url = _url(cursor)
        cursor.expect(" ")
        urls.append((url, cursor.keyword("a mechanism")))
    if not urls:
        raise BadSyntax("expected a URL")
    return x.GenUrlAuth(tag, tuple(urls))


def url_fetch(tag: str, cursor: Cursor) -> Command:
    """URLFETCH url ..."""
    urls: list[str] = []
    while cursor.skip(" ") and cursor.at < len(cursor.text) and len(urls) < MOST_URLS:
        urls.append(_url(cursor))
    if not urls:
        raise BadSyntax("expected a URL")
    return x.UrlFetch(tag, tuple(urls))


def reset_key(tag: str, cursor: Cursor) -> Command:
    """RESETKEY, RESETKEY mailbox, RESETKEY mailbox mechanism ..."""
    if not cursor.skip(" ") or cursor.at == len(cursor.text):
        return x.ResetKey(tag)
    mailbox = cursor.mailbox()
    mechanisms = []
    while cursor.skip(" ") and cursor.at < len(cursor.text):
        mechanisms.append(cursor.keyword("a mechanism"))
    return x.ResetKey(tag, mailbox, tuple(mechanisms))
