"""SASL, the server's side (RFC 4422): one set of mechanisms for SMTP, IMAP and POP3.

A mechanism is stepped with what the client sent, already decoded, until it has credentials. It knows neither
users nor transports: who may log in, and whether the connection is safe enough for a password, others say.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import Protocol

MAX_FIELD = 1024  # octets of a login, an authorization identity or a password
MAX_RESPONSE = 3 * MAX_FIELD + 2  # octets of one response: PLAIN's three fields and two NULs

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


class BadExchange(ValueError):
    """The client's response is not in the mechanism's form; the message says in what."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's next words in the exchange, to be sent in base64."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who says they are whom. `authzid` is empty: to act as somebody else is not offered."""

    login: str
    password: str = field(repr=False)  # so that no log or traceback shows it
    authzid: str = ""


Step = Challenge | Credentials


class Mechanism(Protocol):
    """One exchange with one client."""

    def step(self, response: bytes | None) -> Step:
        """What follows the client's response (None: it sent no initial one); raise BadExchange."""
        ...


def decode(text: bytes) -> bytes:
    """Strict base64 (RFC 4648 section 4) of at most MAX_RESPONSE octets; raise BadExchange."""
    if len(text) > 4 * (MAX_RESPONSE + 2) // 3 + 4:
        raise BadExchange("response too long")
    if len(text) % 4 or not _BASE64.fullmatch(text):
        raise BadExchange("not base64")
    data = binascii.a2b_base64(text)
    if len(data) > MAX_RESPONSE:
        raise BadExchange("response too long")
    return data


def decode_initial(text: bytes) -> bytes:
    """An initial response in a command, where ``=`` stands for an empty one (RFC 4954 section 4)."""
    return b"" if text == b"=" else decode(text)


def encode(data: bytes) -> str:
    """A challenge in base64, without line ends."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


class Plain:
    """PLAIN (RFC 4616): authzid NUL authcid NUL passwd, in one response."""

    def step(self, response: bytes | None) -> Step:
        """Ask with an empty challenge if there was no initial response, else the credentials."""
        if response is None:
            return Challenge(b"")
        fields = response.split(b"\0")
        if len(fields) != 3:
            raise BadExchange("PLAIN takes three fields with NUL between them")
        authzid, login, password = (_text(field) for field in fields)
        if authzid and authzid != login:
            raise BadExchange("cannot act for another user")
        return _credentials(login, password)


class Login:
    """LOGIN (draft-murchison-sasl-login): user name, then password, each when asked.

    Outlook looks for exactly these two prompts, and may send the user name as an initial response.
    """

    def __init__(self) -> None:
        self._asked = False
        self._login: str | None = None

    def step(self, response: bytes | None) -> Step:
        """Ask for the user name, then for the password, then the credentials."""
        if self._login is not None:
            return _credentials(self._login, _text(response or b""))
        if response is None or (not response and not self._asked):
            self._asked = True
            return Challenge(b"Username:")
        self._login = _text(response)
        return Challenge(b"Password:")


MECHANISMS: dict[str, type[Plain] | type[Login]] = {"PLAIN": Plain, "LOGIN": Login}


def start(name: str) -> Mechanism | None:
    """A fresh exchange of the mechanism called `name` in any case, or None if we have none such."""
    mechanism = MECHANISMS.get(name.upper())
    return mechanism() if mechanism else None


def _credentials(login: str, password: str) -> Credentials:
    if not login or not password:  # RFC 4616 section 2: both are 1*SAFE
        raise BadExchange("empty user name or password")
    return Credentials(login, password)


def _text(data: bytes) -> str:
    if len(data) > MAX_FIELD:
        raise BadExchange("user name or password too long")
    if b"\0" in data:
        raise BadExchange("NUL in user name or password")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadExchange("user name or password is not UTF-8") from error
