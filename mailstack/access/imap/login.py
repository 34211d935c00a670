"""Who are you: CAPABILITY, ID, ENABLE, STARTTLS, LOGIN, AUTHENTICATE (RFC 3501 sections 6.1 and 6.2)."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.logger import Logger

import mailstack
from mailstack.access.imap.context import Context, completed, refuse
from mailstack.wire import sasl
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
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

BEFORE_LOGIN = ("IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE")
AFTER_LOGIN = (
    "IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE", "NAMESPACE", "IDLE", "UIDPLUS", "MOVE", "CHILDREN",
    "UNSELECT", "CONDSTORE", "QRESYNC", "SEARCHRES", "WITHIN", "PARTIAL", "ESORT", "SORT", "SORT=DISPLAY",
    "THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES", "THREAD=REFS", "COMPRESS=DEFLATE", "UNAUTHENTICATE",
    "SPECIAL-USE", "CREATE-SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS",
    "STATUS=SIZE", "ESEARCH", "MULTIAPPEND", "QUOTA", "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE",
)  # fmt: skip


@dataclass(slots=True)
class Door:
    """What is going on before login: an exchange, and the failures so far."""

    failures: int = 0
    exchange: sasl.Mechanism | None = None


def capabilities(context: Context) -> tuple[str, ...]:
    """What we offer now (RFC 3501 section 6.1.1)."""
    if context.user is not None:
        return (*AFTER_LOGIN, f"APPENDLIMIT={context.services.config.max_message_octets}")
    offers_tls = context.services.offers_tls and not context.peer.secure
    starttls = ("STARTTLS",) if offers_tls else ()
    if _is_private(context):
        return (*BEFORE_LOGIN, *starttls, *(f"AUTH={name}" for name in sasl.MECHANISMS))
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
    known = tuple(dict.fromkeys(name for name in command.capabilities if name in ("CONDSTORE", "QRESYNC")))
    if "QRESYNC" in known:
        context.enable_qresync()
    elif known:
        context.enable_condstore()
    return Enabled(known), completed(command, "ENABLE")


async def unauthenticate(context: Context, command: x.Unauthenticate) -> AnyResponse:
    """UNAUTHENTICATE (RFC 8437): another user may log in; TLS and compression stay."""
    context.forget()
    return completed(command, "UNAUTHENTICATE")


async def compress(context: Context, command: x.Compress) -> AnyResponse:
    """COMPRESS=DEFLATE (RFC 4978): the session does it, from the end of this reply on."""
    return Tagged(command.tag, "OK", "DEFLATE active")


async def start_tls(context: Context, command: c.StartTls) -> Response:
    """STARTTLS (RFC 3501 section 6.2.1)."""
    if context.peer.secure:
        return Tagged(command.tag, "BAD", "TLS is on already")
    if not context.services.offers_tls:
        return Tagged(command.tag, "BAD", "TLS is not offered")
    return Tagged(command.tag, "OK", "Begin TLS")


async def login(context: Context, door: Door, command: c.Login) -> AnyResponse:
    """LOGIN (RFC 3501 section 6.2.3)."""
    if not _is_private(context):
        return refuse(command, "No login in clear: use TLS first", "PRIVACYREQUIRED")
    if not command.user or not command.password or "\0" in command.user + command.password:
        return await _failed(context, door, command)
    return await _check(context, door, command, command.user, command.password)


async def authenticate(context: Context, door: Door, command: c.Authenticate) -> AnyResponse:
    """AUTHENTICATE, with or without an initial response (RFC 3501 section 6.2.2, RFC 4959)."""
    if not _is_private(context):
        return refuse(command, "No login in clear: use TLS first", "PRIVACYREQUIRED")
    door.exchange = sasl.start(command.mechanism)
    if door.exchange is None:
        return refuse(command, "No such mechanism", "CANNOT")
    return await _step(context, door, command, command.initial)


async def respond(context: Context, door: Door, command: c.AuthResponse) -> AnyResponse:
    """The client's next words in the exchange; None cancels it (RFC 3501 section 6.2.2)."""
    if command.data is None or door.exchange is None:
        door.exchange = None
        return Tagged(command.tag, "BAD", "AUTHENTICATE cancelled")
    return await _step(context, door, command, command.data)


async def _step(context: Context, door: Door, command: c.Command, data: bytes | None) -> AnyResponse:
    exchange = door.exchange
    if exchange is None:
        raise RuntimeError("no exchange is going on")
    try:
        step = exchange.step(data)
    except sasl.BadExchange as error:
        door.exchange = None
        door.failures += 1
        return _last_chance(context, door, Tagged(command.tag, "BAD", str(error)))
    if isinstance(step, sasl.Challenge):
        return Challenge(step.data)
    door.exchange = None
    return await _check(context, door, command, step.login, step.password)


async def _check(context: Context, door: Door, command: c.Command, name: str, password: str) -> AnyResponse:
    user = await context.services.directory.authenticate(name, password)
    if user is None:
        _log.info("login of {login!r} failed", login=name[:100], peer=context.peer.address)
        return await _failed(context, door, command)
    context.user = user
    _log.info("{login} logged in", login=str(user.address), peer=context.peer.address, tls=context.peer.tls)
    words = "CAPABILITY " + " ".join(capabilities(context))  # saves the client a round trip
    return Tagged(command.tag, "OK", "Logged in", words)


async def _failed(context: Context, door: Door, command: c.Command) -> AnyResponse:
    door.failures += 1
    await context.services.pause(context.services.config.auth_failure_seconds)
    wrong = refuse(command, "Wrong user name or password", "AUTHENTICATIONFAILED")
    return _last_chance(context, door, wrong)


def _last_chance(context: Context, door: Door, reply: Tagged) -> AnyResponse:
    if door.failures < context.services.config.max_auth_failures:
        return reply
    return reply, Bye("Too many failed logins")


def _is_private(context: Context) -> bool:
    peer = context.peer
    return peer.secure or peer.within(context.services.plaintext_networks)
