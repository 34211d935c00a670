"""The command lines of SMTP: each verb's arguments become an event, or are refused.

A parser takes the text after the verb and the extensions that were offered to this client; it raises
`Refused` with the reply of RFC 5321 section 4.3.2: 501 for bad syntax, 555 for a parameter we did not offer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from mailstack.mail.address import Address, BadAddress, parse_domain
from mailstack.mail.envelope import Recipient
from mailstack.mail.reply import Refused, Reply
from mailstack.wire import sasl
from mailstack.wire.smtp import replies
from mailstack.wire.smtp.events import (
    Auth,
    Bdat,
    By,
    Data,
    Event,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    Vrfy,
)

Extensions = frozenset[str]  # EHLO keywords in upper case
Parser = Callable[[str, Extensions], Event]

MAX_PARAMETERS = 20  # of one MAIL or RCPT
MAX_ORCPT = 500  # octets, RFC 3461 section 4.2
MAX_ENVID = 100  # octets, RFC 3461 section 4.4
_SHORT = 128  # characters of a path and its parameters that are remembered: the same people write again

# RFC 5321 section 4.1.3, and what clients really say: underscores, bare IP addresses, names without a dot.
# Nothing that has a meaning in a Received field: the name is repeated there.
_HELO_NAME = re.compile(r'[^\x00-\x20\x7f-\U0010ffff<>()@,;\\"]{1,255}')

# A path with its source route apart (RFC 5321 section 4.1.2 and appendix C).
_ROUTE = r"(?:@(?:\[[^\]]*\]|[^\s:,\[\]\"@<>]+),)*@(?:\[[^\]]*\]|[^\s:,\[\]\"@<>]+):"
_PATH = re.compile(rf' *<({_ROUTE})?((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?: +|$)')

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^=\x00-\x20\x7f]+))?")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 section 4
_PRINTABLE = re.compile(r"[\x20-\x7e\u00a1-\U0010ffff]*")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")  # RFC 4422 section 3.1
_BY = re.compile(r"([+-]?[0-9]{1,9});([RN])(T?)", re.IGNORECASE)  # RFC 2852 section 4
_DATE_TIME = re.compile(  # RFC 3339 section 5.6
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
_BDAT = re.compile(r"([0-9]{1,18})(?: +(LAST))? *", re.IGNORECASE)  # RFC 3030 section 2


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: what event it makes, how it is parsed, and the extension that it belongs to."""

    event: type
    parse: Parser
    extension: str | None = None


def helo(text: str, _: Extensions) -> Helo:
    """``HELO domain``."""
    return Helo(_helo_name(text), extended=False)


def ehlo(text: str, _: Extensions) -> Helo:
    """``EHLO domain`` or ``EHLO [address]``."""
    return Helo(_helo_name(text), extended=True)


def mail(text: str, extensions: Extensions) -> Mail:
    """``MAIL FROM:<path> parameters``."""
    path, parameters = _known_path(text, "FROM:") if len(text) <= _SHORT else _path(text, "FROM:")
    given: dict[str, Any] = {}
    for name, value in parameters.items():
        extension, field, read = _MAIL_PARAMETERS.get(name, _UNKNOWN)
        if extension not in extensions:
            raise Refused(replies.unsupported(name))
        given[field] = read(value)
    event = Mail(path, **given)
    if event.body == "BINARYMIME" and "BINARYMIME" not in extensions:
        raise Refused(replies.syntax("BODY takes 7BIT or 8BITMIME"))
    if event.hold_for is not None and event.hold_until is not None:  # RFC 4865 section 4
        raise Refused(replies.syntax("HOLDFOR and HOLDUNTIL exclude one another"))
    if path is not None and not path.is_ascii and not event.smtputf8:
        raise Refused(replies.NEEDS_SMTPUTF8)
    return event


def rcpt(text: str, extensions: Extensions) -> Rcpt:
    """``RCPT TO:<path> parameters``. Whether the path may be other than ASCII, the session knows."""
    path, parameters = _known_path(text, "TO:") if len(text) <= _SHORT else _path(text, "TO:")
    if path is None:
        raise Refused(replies.syntax("A recipient is missing"))
    if not parameters:
        return Rcpt(Recipient(path))
    notify: frozenset[str] = frozenset()
    orcpt: str | None = None
    for name, value in parameters.items():
        if name not in ("NOTIFY", "ORCPT") or "DSN" not in extensions:
            raise Refused(replies.unsupported(name))
        if name == "NOTIFY":
            notify = _notify(value)
        else:
            orcpt = _orcpt(value)
    return Rcpt(Recipient(path, notify, orcpt))


def bdat(text: str, _: Extensions) -> Bdat:
    """``BDAT size`` or ``BDAT size LAST``."""
    match = _BDAT.fullmatch(text)
    if not match:
        raise Refused(replies.syntax("Syntax: BDAT size [LAST]"))
    return Bdat(int(match[1]), bool(match[2]))


def auth(text: str, _: Extensions) -> Auth:
    """``AUTH mechanism`` or ``AUTH mechanism initial-response``."""
    name, space, response = text.strip(" ").partition(" ")
    if not _MECHANISM.fullmatch(name):
        raise Refused(replies.syntax("Syntax: AUTH mechanism [initial-response]"))
    return Auth(name.upper(), auth_response(response.lstrip(" ").encode(), True) if space else None)


def auth_response(text: bytes, initial: bool = False) -> bytes:
    """The octets of a response in base64; raise Refused with 501 (RFC 4954 section 4)."""
    try:
        return sasl.decode_initial(text) if initial else sasl.decode(text)
    except sasl.BadExchange as error:
        raise Refused(Reply(501, "5.5.2", f"Cannot decode the response: {error}")) from error


def _helo_name(text: str) -> str:
    name = text.strip(" ")
    if not _HELO_NAME.fullmatch(name):
        raise Refused(replies.syntax("A domain name or an address literal is needed"))
    return name


def _path(text: str, label: str) -> tuple[Address | None, Mapping[str, str | None]]:
    """The path after FROM: or TO:, None if null, and the parameters behind it."""
    match = _PATH.match(text, len(label)) if text[: len(label)].upper() == label else None
    if not match:
        raise Refused(replies.syntax(f"Syntax: {label}<address>"))
    route, path = match.groups()
    parameters = _parameters(text[match.end() :]) if match.end() < len(text) else {}
    try:
        for host in (route or "")[:-1].split(",") if route else ():
            parse_domain(host[1:])  # RFC 5321 appendix C: a source route is read, and ignored
        if not path and not route:
            return None, parameters
        if path.lower() == "postmaster" and label == "TO:":  # RFC 5321 section 4.5.1
            return Address(path, ""), parameters
        return Address.parse(path), parameters
    except BadAddress as error:
        where = "5.1.7" if label == "FROM:" else "5.1.3"
        raise Refused(Reply(501, where, f"Bad address: {error}")) from error


_known_path = lru_cache(maxsize=4_000)(_path)


def _parameters(text: str) -> dict[str, str | None]:
    given: dict[str, str | None] = {}
    words = text.split(" ", MAX_PARAMETERS + 1)
    for word in words:
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if not match or len(words) > MAX_PARAMETERS:
            raise Refused(replies.syntax("Bad parameters"))
        name = match[1].upper()
        if name in given:
            raise Refused(replies.syntax(f"Parameter given twice: {name[:40]}"))
        given[name] = match[2]
    return given


def _size(value: str | None) -> int:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 20:
        raise Refused(replies.syntax("SIZE takes a number of at most 20 digits"))
    return int(value)


def _body(value: str | None) -> str:
    body = (value or "").upper()
    if body not in ("7BIT", "8BITMIME", "BINARYMIME"):
        raise Refused(replies.syntax("BODY takes 7BIT, 8BITMIME or BINARYMIME"))
    return body


def _given(value: str | None) -> bool:
    """SMTPUTF8 and REQUIRETLS: there, or not."""
    if value is not None:
        raise Refused(replies.syntax("This parameter takes no value"))
    return True


def _priority(value: str | None) -> int:
    if not value or not re.fullmatch(r"0|-?[1-9]", value):
        raise Refused(Reply(501, "5.5.2", "MT-PRIORITY takes a number from -9 to 9"))  # RFC 6710 section 4.1
    return int(value)


def _hold_for(value: str | None) -> int:
    if not value or not re.fullmatch(r"[1-9][0-9]{0,8}", value):  # RFC 4865 section 4
        raise Refused(replies.syntax("HOLDFOR takes a number of seconds, of at most 9 digits"))
    return int(value)


def _hold_until(value: str | None) -> float:
    try:
        if not value or not _DATE_TIME.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.upper().replace("Z", "+00:00")).astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise Refused(replies.syntax("HOLDUNTIL takes a time such as 2030-01-31T12:00:00Z")) from error


def _by(value: str | None) -> By:
    match = _BY.fullmatch(value or "")
    if not match:
        raise Refused(replies.syntax("BY takes seconds;R or seconds;N"))
    by = By(int(match[1]), match[2].upper() == "R", bool(match[3]))
    if by.returned and by.seconds <= 0:  # RFC 2852 section 4.1.2
        raise Refused(replies.syntax("BY with mode R takes a time above 0"))
    return by


def _ret(value: str | None) -> str:
    ret = (value or "").upper()
    if ret not in ("FULL", "HDRS"):
        raise Refused(replies.syntax("RET takes FULL or HDRS"))
    return ret


def _envid(value: str | None) -> str:
    envid = _xtext(value)
    if not envid or len(value or "") > MAX_ENVID or not envid.isascii():
        raise Refused(replies.syntax("Bad ENVID"))
    return envid


def _mail_auth(value: str | None) -> str:
    return "" if value == "<>" else _xtext(value)


def _notify(value: str | None) -> frozenset[str]:
    words = (value or "").upper().split(",")
    notify = frozenset(words)
    known = notify <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"}
    if not known or len(words) > len(notify) or ("NEVER" in notify and len(notify) > 1):
        raise Refused(replies.syntax("NOTIFY takes NEVER, or some of SUCCESS, FAILURE, DELAY"))
    return notify


def _orcpt(value: str | None) -> str:
    kind, semicolon, address = (value or "").partition(";")
    if not semicolon or not _ADDRESS_TYPE.fullmatch(kind) or len(value or "") > MAX_ORCPT:
        raise Refused(replies.syntax("Bad ORCPT"))
    if kind.lower() == "utf-8":
        # RFC 6533 section 3: of its three forms the one for SMTPUTF8 is kept as it was given.
        if not _PRINTABLE.fullmatch(address) or not address:
            raise Refused(replies.syntax("Bad ORCPT"))
        return f"{kind};{address}"
    return f"{kind};{_xtext(address)}"


def _xtext(value: str | None) -> str:
    """RFC 3461 section 4, decoded. It will stand in a header field: control characters are refused."""
    if not value or not _XTEXT.fullmatch(value):
        raise Refused(replies.syntax("Bad xtext"))
    if "+" not in value:
        return value
    octets = re.sub(rb"\+([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), value.encode())
    text = octets.decode("utf-8", "replace")
    if not _PRINTABLE.fullmatch(text):
        raise Refused(replies.syntax("Bad xtext"))
    return text


_MAIL_PARAMETERS: dict[str, tuple[str, str, Callable[[str | None], object]]] = {
    "SIZE": ("SIZE", "size", _size),
    "BODY": ("8BITMIME", "body", _body),
    "SMTPUTF8": ("SMTPUTF8", "smtputf8", _given),
    "RET": ("DSN", "ret", _ret),
    "ENVID": ("DSN", "envid", _envid),
    "AUTH": ("AUTH", "auth", _mail_auth),
    "REQUIRETLS": ("REQUIRETLS", "requiretls", _given),
    "MT-PRIORITY": ("MT-PRIORITY", "priority", _priority),
    "HOLDFOR": ("FUTURERELEASE", "hold_for", _hold_for),
    "HOLDUNTIL": ("FUTURERELEASE", "hold_until", _hold_until),
    "BY": ("DELIVERBY", "by", _by),
}
_UNKNOWN: tuple[str, str, Callable[[str | None], object]] = ("", "", _size)


def _no_argument(event: type[Event]) -> Parser:
    made = event()  # type: ignore[call-arg]

    def parse(text: str, _: Extensions) -> Event:
        if text.strip(" "):
            raise Refused(replies.syntax("This command takes no argument"))
        return made

    return parse


VERBS: dict[str, Verb] = {
    "HELO": Verb(Helo, helo),
    "EHLO": Verb(Helo, ehlo),
    "MAIL": Verb(Mail, mail),
    "RCPT": Verb(Rcpt, rcpt),
    "DATA": Verb(Data, _no_argument(Data)),
    "BDAT": Verb(Bdat, bdat, "CHUNKING"),
    "AUTH": Verb(Auth, auth),
    "STARTTLS": Verb(StartTls, _no_argument(StartTls), "STARTTLS"),
    "RSET": Verb(Reset, _no_argument(Reset)),
    "NOOP": Verb(Noop, lambda text, _: Noop()),  # RFC 5321 section 4.1.1.9: an argument is ignored
    "HELP": Verb(Help, lambda text, _: Help(text)),
    "VRFY": Verb(Vrfy, lambda text, _: Vrfy(text)),
    "EXPN": Verb(Expn, lambda text, _: Expn(text)),
    "QUIT": Verb(Quit, _no_argument(Quit)),
}

# RFC 2033 section 4.1: LHLO in place of HELO and EHLO, which LMTP must not know.
LMTP_VERBS: dict[str, Verb] = {
    "LHLO": VERBS["EHLO"],
    **{name: verb for name, verb in VERBS.items() if name not in ("HELO", "EHLO")},
}
