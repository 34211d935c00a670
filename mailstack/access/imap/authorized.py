"""URLs that carry their own authorization: GENURLAUTH, URLFETCH, RESETKEY (RFC 4467)."""

from __future__ import annotations

from mailstack.access.imap import urls
from mailstack.access.imap.context import Context, completed, refuse
from mailstack.access.imap.texts import Cut
from mailstack.store.values import StoreError
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import url as wire
from mailstack.wire.imap.codes import url_mechanisms
from mailstack.wire.imap.extension_responses import GenUrlAuthResponse
from mailstack.wire.imap.responses import AnyResponse, Tagged, quote
from mailstack.work import Overloaded


async def gen_url_auth(context: Context, command: x.GenUrlAuth) -> AnyResponse:
    """GENURLAUTH: all of the URLs are signed, or none."""
    signed = []
    for rump, mechanism in command.urls:
        try:
            url = wire.parse(rump)
        except wire.BadUrl as error:
            return Tagged(command.tag, "BAD", f"Not the URL of a message: {error}")
        if url.access is None or url.rump != rump:  # more than a rump: signed already, say
            return Tagged(command.tag, "BAD", "Expected a URL that ends with ;URLAUTH= and who may use it")
        if url.host is None or url.user is None or not urls.ours(context, url):
            return refuse(command, "The URL is not of your mailboxes here")
        if mechanism != wire.INTERNAL:
            return refuse(command, "The only mechanism is INTERNAL")
        key = await context.store.url_key(context.user_id, url.mailbox, make=True)
        assert key is not None  # it was made
        signed.append(wire.authorized(rump, key))
    return GenUrlAuthResponse(tuple(signed)), completed(command, "GENURLAUTH")


async def url_fetch(context: Context, command: x.UrlFetch) -> AnyResponse:
    """URLFETCH: what each URL names, NIL for all that may not be had, whatever the reason is."""
    for text in command.urls:
        try:
            async with urls.opened(context, text, authorized=True) as named:
                await _say(context, text, named)
        except (urls.NotThere, StoreError):
            await context.say(b"* URLFETCH %b NIL\r\n" % quote(text))
    return completed(command, "URLFETCH")


async def _say(context: Context, text: str, named: urls.Named) -> None:
    """The octets in pieces, as the client takes them."""
    data = await named.read(0, urls.CHUNK) if named.size else b""
    await context.say(b"* URLFETCH %b {%d}\r\n%b" % (quote(text), named.size, data))
    start = len(data)
    try:
        while start < named.size:
            data = await named.read(start, urls.CHUNK)
            start += len(data)
            await context.say(data)
    except (OSError, StoreError, Overloaded) as error:
        raise Cut from error
    await context.say(b"\r\n")


async def reset_key(context: Context, command: x.ResetKey) -> AnyResponse:
    """RESETKEY: URLs signed so far, of one mailbox or of all, are worth nothing any more."""
    if set(command.mechanisms) - {wire.INTERNAL}:
        return refuse(command, "The only mechanism is INTERNAL")
    await context.store.reset_url_keys(context.user_id, command.mailbox)
    return completed(command, "RESETKEY", url_mechanisms())
