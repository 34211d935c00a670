"""Who are you: CAPABILITY, ID, ENABLE, STARTTLS, LOGIN, AUTHENTICATE (RFC 3501 sections 6.1 and 6.2)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

import mailstack
from mailstack.access.imap.context import Context, completed, refuse
from mailstack.net.sign_in import Outcome, Refusal, Welcome, Why
from mailstack.wire import sasl
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.extension_responses import LanguageResponse
from mailstack.wire.imap.responses import (
    AnyResponse,
    Bye,
    Capabilities,
    Challenge,
    Enabled,
    Identity,
    Response,
    Tagged,
)

_log = Logger(namespace="mailstack.access.imap")

BEFORE_LOGIN = ("IMAP4rev1", "IMAP4rev2", "LITERAL+", "SASL-IR", "ID", "ENABLE")
AFTER_LOGIN = (
    "IMAP4rev1", "IMAP4rev2", "UTF8=ACCEPT", "LITERAL+", "SASL-IR", "ID", "ENABLE", "NAMESPACE", "IDLE",
    "UIDPLUS", "MOVE", "CHILDREN",
    "UNSELECT", "CONDSTORE", "QRESYNC", "SEARCHRES", "WITHIN", "PARTIAL", "ESORT", "SORT", "SORT=DISPLAY",
    "THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES", "THREAD=REFS", "COMPRESS=DEFLATE", "UNAUTHENTICATE",
    "SPECIAL-USE", "CREATE-SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS",
    "REPLACE", "CATENATE", "URLAUTH", "URL-PARTIAL", "BINARY", "SAVEDATE", "OBJECTID", "PREVIEW",
    "METADATA", "METADATA-SERVER",
    "LIST-METADATA", "ACL", "RIGHTS=kxte", "LIST-MYRIGHTS", "FILTERS", "LANGUAGE", "I18NLEVEL=1",
    "SEARCH=FUZZY", "MULTISEARCH", "INPROGRESS", "NOTIFY", "CONTEXT=SEARCH", "CONTEXT=SORT", "UIDONLY",
    "STATUS=SIZE", "ESEARCH", "MULTIAPPEND", "QUOTA", "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE",
)  # fmt: skip


def capabilities(context: Context) -> tuple[str, ...]:
    """What we offer now (RFC 3501 section 6.1.1)."""
    if context.user is not None:
        config = context.services.config
        most = (f"MESSAGELIMIT={config.max_messages}",) if config.max_messages else ()
        return (*AFTER_LOGIN, *most, f"APPENDLIMIT={config.max_message_octets}")
    offers_tls = context.services.offers_tls and not context.peer.secure
    starttls = ("STARTTLS",) if offers_tls else ()
    if context.door.is_private:
        return (*BEFORE_LOGIN, *starttls, *(f"AUTH={name}" for name in context.door.mechanisms))
    return (*BEFORE_LOGIN, *starttls, "LOGINDISABLED")


async def capability(context: Context, command: c.Capability) -> AnyResponse:
    """CAPABILITY."""
    return Capabilities(capabilities(context)), completed(command, "CAPABILITY")


async def identify(context: Context, command: c.Id) -> AnyResponse:
    """ID (RFC 2971): we say what we are, and note what the client says it is."""
    said = {name[:30]: (value or "")[:100] for name, value in command.parameters[:30]}
    _log.info("IMAP client {client}", client=said, peer=context.peer.address)
    ours = (("name", "mailstack"), ("version", mailstack.__version__))
    return Identity(ours), completed(command, "ID")


async def enable(context: Context, command: c.Enable) -> AnyResponse:
    """ENABLE (RFC 5161)."""
    known = [name for name in dict.fromkeys(command.capabilities) if name in _ENABLED]
    for name in known:
        _ENABLED[name](context)
    return Enabled(tuple(_SPELLED.get(name, name) for name in known)), completed(command, "ENABLE")


_ENABLED: dict[str, Callable[[Context], None]] = {
    "CONDSTORE": Context.enable_condstore,
    "QRESYNC": Context.enable_qresync,
    "UIDONLY": Context.enable_uid_only,
    "UTF8=ACCEPT": Context.enable_utf8,  # RFC 6855
    "IMAP4REV2": Context.enable_revised,  # RFC 9051
}
_SPELLED = {"IMAP4REV2": "IMAP4rev2"}


async def unauthenticate(context: Context, command: x.Unauthenticate) -> AnyResponse:
    """UNAUTHENTICATE (RFC 8437): another user may log in; TLS and compression stay."""
    context.forget()
    return completed(command, "UNAUTHENTICATE")


async def compress(context: Context, command: x.Compress) -> AnyResponse:
    """COMPRESS=DEFLATE (RFC 4978): the session does it, from the end of this reply on."""
    return Tagged(command.tag, "OK", "DEFLATE active")


async def language(context: Context, command: x.Language) -> AnyResponse:
    """LANGUAGE (RFC 5255 section 3.2): we speak English, which is also the default."""
    if not command.ranges:
        return LanguageResponse(("i-default", "EN")), completed(command, "LANGUAGE")
    for wanted in command.ranges:
        if wanted in ("default", "i-default"):
            return LanguageResponse(("i-default",)), completed(command, "LANGUAGE")
        if wanted in ("*", "en") or wanted.startswith("en-"):
            return LanguageResponse(("EN",)), completed(command, "LANGUAGE")
    return refuse(command, "We speak English only")


async def start_tls(context: Context, command: c.StartTls) -> Response:
    """STARTTLS (RFC 3501 section 6.2.1)."""
    if context.peer.secure:
        return Tagged(command.tag, "BAD", "TLS is on already")
    if not context.services.offers_tls:
        return Tagged(command.tag, "BAD", "TLS is not offered")
    return Tagged(command.tag, "OK", "Begin TLS")


async def login(context: Context, command: c.Login) -> AnyResponse:
    """LOGIN (RFC 3501 section 6.2.3)."""
    return _said(context, command, await context.door.password(command.user, command.password))


async def authenticate(context: Context, command: c.Authenticate) -> AnyResponse:
    """AUTHENTICATE, with or without an initial response (RFC 3501 section 6.2.2, RFC 4959)."""
    return _said(context, command, await context.door.begin(command.mechanism, command.initial))


async def respond(context: Context, command: c.AuthResponse) -> AnyResponse:
    """The client's next words in the exchange; None cancels it (RFC 3501 section 6.2.2)."""
    return _said(context, command, await context.door.respond(command.data))


def after_refused_token(context: Context, tag: str) -> AnyResponse:
    """NO to words that cannot be read, where a client was told why its token is not good.

    Thunderbird says its whole AUTHENTICATE again there.
    """
    return _said(context, c.AuthResponse(tag, None), context.door.malformed("no base64"))


def _said(context: Context, command: c.Command, outcome: Outcome) -> AnyResponse:
    match outcome:
        case sasl.Challenge(data):
            return Challenge(data)
        case Welcome(user):
            context.user = user
            words = "CAPABILITY " + " ".join(capabilities(context))  # saves the client a round trip
            return Tagged(command.tag, "OK", "Logged in", words)
        case Refusal(Why.CANCELLED):
            return Tagged(command.tag, "BAD", "AUTHENTICATE cancelled")
        case Refusal(Why.MALFORMED, text):
            reply = Tagged(command.tag, "BAD", text)
        case Refusal(why):
            reply = refuse(command, *_REFUSALS[why])
    return (reply, Bye("Too many failed logins")) if context.door.is_worn else reply


_REFUSALS = {
    Why.IN_CLEAR: ("No login in clear: use TLS first", "PRIVACYREQUIRED"),
    Why.UNKNOWN_MECHANISM: ("No such mechanism", "CANNOT"),
    Why.WRONG: ("Wrong user name or password", "AUTHENTICATIONFAILED"),
    Why.UNAVAILABLE: ("Cannot check it now; try again later", "UNAVAILABLE"),
    Why.TOO_MANY: ("Too many failed logins; try again later", "UNAVAILABLE"),
}
