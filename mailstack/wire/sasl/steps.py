"""What every mechanism shares: the steps of an exchange, base64, and what a name or password may be."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_FIELD = 1024  # octets of a login, an authorization identity or a password
MAX_RESPONSE = 9216  # octets of one response: 12288 of base64 (RFC 4954 section 4); tokens are long

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")


class BadExchange(ValueError):
    """The client's response is not in the mechanism's form; the message says in what."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's next words in the exchange, to be sent in base64."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who says they are whom, with a password to be checked. `authzid` is empty: nobody acts for another."""

    login: str
    password: str = field(repr=False)  # so that no log or traceback shows it
    authzid: str = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """What is stored of a password for one mechanism: of SCRAM (RFC 5802 section 3), all four.

    CRAM-MD5 has only `stored_key`: the states of HMAC-MD5 that the password leads to.
    """

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The exchange goes on with `resume(keys)`: those of `login` for `mechanism` (without ``-PLUS``).

    For a login that has none there must be keys all the same, always the same ones.
    """

    login: str
    mechanism: str
    resume: Callable[[Keys], Step] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Token:
    """An OAuth bearer token to be checked; `login` may be empty. If it is not good: `refuse(reasons)`."""

    login: str
    token: str = field(repr=False)
    refuse: Callable[[Mapping[str, str]], Step] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Proven:
    """The client is who the last `Wanted` named."""


@dataclass(frozen=True, slots=True)
class Denied:
    """It is not; `reason` is for the log, the client hears the same for all."""

    reason: str


Step = Challenge | Credentials | Wanted | Token | Proven | Denied


class Mechanism(Protocol):
    """One exchange with one client."""

    def step(self, response: bytes | None) -> Step:
        """What follows the client's response (None: it sent no initial one); raise BadExchange."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What an exchange is held under: all that a mechanism must know and cannot make itself."""

    nonce: str = ""  # printable, without a comma, never used before
    hostname: str = "localhost"
    bindings: Mapping[str, bytes] = field(default_factory=dict)  # channel bindings (RFC 5929) by type
    binding_offered: bool = False  # whether the -PLUS form of this mechanism was offered


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


def text(data: bytes) -> str:
    """A user name or password; raise BadExchange."""
    if len(data) > MAX_FIELD:
        raise BadExchange("user name or password too long")
    if b"\0" in data:
        raise BadExchange("NUL in user name or password")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadExchange("user name or password is not UTF-8") from error


def acts_as_itself(authzid: str, login: str) -> None:
    """Raise BadExchange where a client would act for another user."""
    if authzid and authzid != login:
        raise BadExchange("cannot act for another user")
