"""What an IMAP URL names: in this user's own mailboxes (RFC 5092), or by authorization (RFC 4467)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mailstack.access.imap import sections
from mailstack.access.imap.context import Context
from mailstack.access.imap.sections import Span
from mailstack.mail.mime import Part, unpack
from mailstack.store.mailbox import Mailbox
from mailstack.store.values import Entry, Facts
from mailstack.wire.imap import url as wire
from mailstack.wire.imap.grammar.cursor import BadSyntax
from mailstack.wire.imap.grammar.fetch import read_section

NO_KEY = bytes(32)  # where there is none the work is the same
CHUNK = 256 * 1024  # octets read at a time
MAX_HEADER = 1024 * 1024  # octets of a header section that fields are looked for in


class NotThere(Exception):
    """The URL is none, or names nothing that this user may read."""


class Named:
    """The octets that a URL names."""

    __slots__ = ("_cut", "_mailbox", "_span", "_uid", "size")

    def __init__(self, mailbox: Mailbox, uid: int, span: Span, cut: bytes | None) -> None:
        self._mailbox = mailbox
        self._uid = uid
        self._span = span
        self._cut = cut  # what is no run of the message's octets
        self.size = span.length if cut is None else len(cut)

    async def read(self, start: int, length: int) -> bytes:
        """At most `length` octets from `start`. Raise Expunged, OSError."""
        if self._cut is not None:
            return self._cut[start : start + length]
        length = min(length, self.size - start)
        data = await self._mailbox.body(self._uid, self._span.start + start, length)
        if not data:
            raise OSError("a message file has become shorter")
        return data


@asynccontextmanager
async def opened(context: Context, text: str, *, authorized: bool = False) -> AsyncIterator[Named]:
    """What the URL names, while the context lasts; `authorized`: only by the URL's own authorization.

    Raise NotThere, StoreError, OSError.
    """
    try:
        url = wire.parse(text)
        section = read_section(url.section)
    except (wire.BadUrl, BadSyntax) as error:
        raise NotThere from error
    if url.access is not None:
        user_id = await _authorized(context, url)
    elif authorized or not ours(context, url):
        raise NotThere
    else:
        user_id = context.user_id
    mailbox = await context.store.open(user_id, url.mailbox)
    try:
        entry = mailbox.entry(url.uid)
        if entry is None or url.uidvalidity not in (None, mailbox.uidvalidity):
            raise NotThere
        found = (await mailbox.facts([url.uid], frozenset({"structure", "header_size"})))[0]
        if found is None:
            raise NotThere
        span = sections.span_of(section, _root(entry, found))
        if span is None:
            raise NotThere
        cut = None
        if sections.is_fields(section):
            header = await mailbox.body(url.uid, span.start, min(span.length, MAX_HEADER))
            cut = sections.fields_value(section, header)
            span = Span(0, len(cut))
        span = _part(span, url.partial)
        yield Named(mailbox, url.uid, span, cut if cut is None else cut[span.start : span.end])
    finally:
        mailbox.close()


async def _authorized(context: Context, url: wire.Url) -> int:
    """The user who has signed the URL, if this session may use it (RFC 4467 section 2). Raise NotThere."""
    now = context.services.clock.seconds()
    if url.host is None or not _here(context, url) or url.user is None or not _may_use(context, url):
        raise NotThere
    if url.expire is not None and url.expire <= now:
        raise NotThere
    user_id = await context.store.user_of(url.user)
    key = None if user_id is None else await context.store.url_key(user_id, url.mailbox)
    if not wire.is_authorized(url, key or NO_KEY) or key is None or user_id is None:
        raise NotThere
    return user_id


def _may_use(context: Context, url: wire.Url) -> bool:
    """Whether this session is one of those that the URL is for (RFC 4467 section 2.3)."""
    kind, _, who = (url.access or "").partition("+")
    match kind.lower():
        case "anonymous" | "authuser":  # there is no session of nobody here
            return True
        case "user":
            return who.lower() == _name(context)
        case "submit":
            return _name(context) in context.services.config.submit_users
    return False


def ours(context: Context, url: wire.Url) -> bool:
    """Whether it is a URL of this server and of this user."""
    user = _name(context)
    return url.host is None or (_here(context, url) and (url.user or user).lower() == user)


def _here(context: Context, url: wire.Url) -> bool:
    services = context.services
    return url.host in (services.hostname.lower(), *services.config.url_hosts)


def _name(context: Context) -> str:
    return str(context.user.address).lower() if context.user else ""


def _root(entry: Entry, facts: Facts) -> Part:
    if facts.structure:
        return unpack(facts.structure)
    return Part(header=0, body=facts.header_size, end=entry.size, lines=0)


def _part(span: Span, partial: tuple[int, int | None] | None) -> Span:
    if partial is None:
        return span
    offset, length = partial
    start = min(span.start + offset, span.end)
    return Span(start, span.end if length is None else min(start + length, span.end))
