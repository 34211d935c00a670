"""SASL, the server's side (RFC 4422): one set of mechanisms for SMTP, IMAP and POP3.

A mechanism is stepped with what the client sent, already decoded, until it has credentials, or says whether
the client has proved itself; on its way it may want keys, or a token checked. It knows neither users nor
transports: who may log in, and whether the connection is safe enough for a password, others say.
"""

from __future__ import annotations

from collections.abc import Callable

from mailstack.wire.sasl import bearer, cram_md5, scram
from mailstack.wire.sasl.bearer import OAuthBearer, XOAuth2
from mailstack.wire.sasl.cram_md5 import CramMd5
from mailstack.wire.sasl.passwords import Login, Plain
from mailstack.wire.sasl.scram import Scram
from mailstack.wire.sasl.steps import (
    MAX_FIELD,
    MAX_RESPONSE,
    BadExchange,
    Challenge,
    Credentials,
    Denied,
    Keys,
    Mechanism,
    Proven,
    Step,
    Terms,
    Token,
    Wanted,
    decode,
    decode_initial,
    encode,
)

PLUS = "-PLUS"  # what ends the name of a mechanism with channel binding

#: Every mechanism by name, the strongest first: how an exchange begins.
MECHANISMS: dict[str, Callable[[Terms], Mechanism]] = {
    "SCRAM-SHA-256-PLUS": lambda terms: Scram("SCRAM-SHA-256", True, terms),
    "SCRAM-SHA-256": lambda terms: Scram("SCRAM-SHA-256", False, terms),
    "SCRAM-SHA-1-PLUS": lambda terms: Scram("SCRAM-SHA-1", True, terms),
    "SCRAM-SHA-1": lambda terms: Scram("SCRAM-SHA-1", False, terms),
    "OAUTHBEARER": lambda _: OAuthBearer(),
    "XOAUTH2": lambda _: XOAuth2(),
    "CRAM-MD5": CramMd5,
    "PLAIN": lambda _: Plain(),
    "LOGIN": lambda _: Login(),
}

#: Those that need keys stored beside the password hash, by the name the keys are kept under.
KEYED = (*scram.NAMES, cram_md5.NAME)
#: Those that need an OpenID provider.
BEARER = bearer.NAMES

_NO_TERMS = Terms()


def start(name: str, terms: Terms = _NO_TERMS) -> Mechanism | None:
    """A fresh exchange of the mechanism called `name` in any case, or None if we have none such."""
    mechanism = MECHANISMS.get(name.upper())
    return mechanism(terms) if mechanism else None


__all__ = [
    "BEARER",
    "KEYED",
    "MAX_FIELD",
    "MAX_RESPONSE",
    "MECHANISMS",
    "PLUS",
    "BadExchange",
    "Challenge",
    "Credentials",
    "Denied",
    "Keys",
    "Login",
    "Mechanism",
    "Plain",
    "Proven",
    "Step",
    "Terms",
    "Token",
    "Wanted",
    "decode",
    "decode_initial",
    "encode",
    "start",
]
