"""SCRAM-SHA-1 and SCRAM-SHA-256, with and without channel binding (RFC 5802, RFC 7677): the server's side.

Theory of operation. The server keeps keys from which the password cannot be read, and proves that it has
them: whoever stands between learns nothing, and with -PLUS cannot pass the exchange on through a TLS
connection of its own. The exchange is two round trips and, since SMTP, IMAP and POP3 have no room for data in
their words of success, a third in which the client acknowledges the server's proof. It is written here
rather than taken from a library because it is little (two HMACs and a hash), must not read a clock or a
source of chance, and must be alike for users that there are and that there are not.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from mailstack.wire.sasl.prep import saslprep
from mailstack.wire.sasl.steps import (
    BadExchange,
    Challenge,
    Denied,
    Keys,
    Proven,
    Step,
    Terms,
    Wanted,
    acts_as_itself,
    decode,
    encode,
    text,
)

MAX_MESSAGE = 4096  # octets of one message of the client
MAX_NONCE = 512

_HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
NAMES = tuple(_HASHES)

_GS2 = re.compile(rb"(?:(n|y)|p=([A-Za-z0-9.-]{1,64})),(?:a=([^,]*))?,", re.DOTALL)
# By this word PEAR's Net_SMTP, and Roundcube with it, ends the exchange instead of by the empty line of
# RFC 4954 section 4. It is base64, as it happens, and changes nothing: the client has proved itself before.
_NOOP = decode(b"NOOP")

_NONCE = re.compile(rb"[\x21-\x2b\x2d-\x7e]+")  # printable, no comma
_ATTRIBUTE = re.compile(rb"[A-Za-z]=[^\0,]+", re.DOTALL)


def derive(mechanism: str, password: str, salt: bytes, iterations: int) -> Keys:
    """The keys to store for `password` (RFC 5802 section 3). Slow: 10,000 `iterations` take 5 ms."""
    return keys_of(mechanism, saslprep(password).encode(), salt, iterations)


def keys_of(mechanism: str, secret: bytes, salt: bytes, iterations: int) -> Keys:
    """The keys that a password leads to which is prepared already, or never is: as slow."""
    digest = _HASHES[mechanism]
    salted = hashlib.pbkdf2_hmac(digest, secret, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", digest)
    server_key = hmac.digest(salted, b"Server Key", digest)
    return Keys(salt, iterations, hashlib.new(digest, client_key).digest(), server_key)


def key_octets(mechanism: str) -> int:
    """The size of a stored key."""
    return hashlib.new(_HASHES[mechanism]).digest_size


@dataclass(frozen=True, slots=True)
class _First:
    """What the client's first message says."""

    header: bytes  # gs2-header, to come again in "c="
    binding: str | None  # the type of channel binding it uses
    aware: bool  # it could use one, but believes that we cannot
    bare: bytes  # client-first-message-bare
    login: str
    nonce: bytes


class Scram:
    """One exchange. `name` is the mechanism's, without -PLUS; `plus` whether that was asked for."""

    def __init__(self, name: str, plus: bool, terms: Terms) -> None:
        self._name = name
        self._digest = _HASHES[name]
        self._plus = plus
        self._terms = terms
        self._first: _First | None = None
        self._challenge = b""  # server-first-message
        self._keys: Keys | None = None
        self._finished = False

    def step(self, response: bytes | None) -> Step:
        """The three steps; an empty challenge first where there was no initial response."""
        if self._finished:
            if response not in (b"", None, _NOOP):
                raise BadExchange("the last response must be empty")
            return Proven()
        if response is None or len(response) > MAX_MESSAGE:
            if response is None and self._first is None:
                return Challenge(b"")
            raise BadExchange("response too long")
        if self._first is None or self._keys is None:
            self._first = first = _parse_first(response)
            self._check_binding(first)
            return Wanted(first.login, self._name, self._server_first)
        return self._server_final(self._first, self._keys, response)

    def _check_binding(self, first: _First) -> None:
        """RFC 5802 section 6: what the client says of channel binding must fit what was offered."""
        if self._plus != (first.binding is not None):
            raise BadExchange("channel binding is for the -PLUS mechanism, and only for it")
        if first.aware and self._terms.binding_offered:
            raise BadExchange("channel binding was offered; somebody has hidden it from you")
        if first.binding is not None and first.binding not in self._terms.bindings:
            raise BadExchange("unsupported channel binding type")

    def _server_first(self, keys: Keys) -> Step:
        assert self._first is not None
        self._keys = keys
        nonce = self._first.nonce + self._terms.nonce.encode()
        self._challenge = b"r=%s,s=%s,i=%d" % (nonce, encode(keys.salt).encode(), keys.iterations)
        return Challenge(self._challenge)

    def _server_final(self, first: _First, keys: Keys, response: bytes) -> Step:
        without_proof, binding, nonce, proof = _parse_final(response)
        if nonce != first.nonce + self._terms.nonce.encode():
            raise BadExchange("not the nonce of this exchange")
        if len(proof) != len(keys.stored_key):
            raise BadExchange("the proof has the wrong length")
        expected = first.header + (self._terms.bindings[first.binding] if first.binding else b"")
        if not hmac.compare_digest(binding, expected):
            if not binding.startswith(first.header):
                raise BadExchange("not the header of this exchange")
            return Denied("channel bindings differ: somebody may stand between")
        message = b",".join((first.bare, self._challenge, without_proof))
        signature = hmac.digest(keys.stored_key, message, self._digest)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.new(self._digest, client_key).digest(), keys.stored_key):
            return Denied("wrong password")
        self._finished = True
        return Challenge(b"v=" + encode(hmac.digest(keys.server_key, message, self._digest)).encode())


def _parse_first(message: bytes) -> _First:
    """client-first-message (RFC 5802 section 7)."""
    header = _GS2.match(message)
    if header is None:
        raise BadExchange("the message begins with no GS2 header")
    bare = message[header.end() :]
    name, *rest = bare.split(b",")
    if name.startswith(b"m="):
        raise BadExchange("an extension that we must know and do not")
    if not name.startswith(b"n=") or not rest or not rest[0].startswith(b"r="):
        raise BadExchange("expected n= and r=, once each and in this order")
    nonce = rest[0][2:]
    if not _NONCE.fullmatch(nonce) or len(nonce) > MAX_NONCE:
        raise BadExchange("not a nonce")
    _extensions(rest[1:])
    login = _saslname(name[2:])
    if not login:
        raise BadExchange("empty user name")
    acts_as_itself(_saslname(header[3] or b""), login)
    binding = header[2].decode("ascii") if header[2] else None
    return _First(header[0], binding, header[1] == b"y", bare, login, nonce)


def _parse_final(message: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """client-final-message (RFC 5802 section 7): without its proof, channel binding, nonce, proof."""
    without_proof, comma, proof = message.rpartition(b",p=")
    parts = without_proof.split(b",")
    if not comma or len(parts) < 2 or not parts[0].startswith(b"c=") or not parts[1].startswith(b"r="):
        raise BadExchange("expected c=, r= and p=, once each and in this order")
    _extensions(parts[2:])
    return without_proof, _base64(parts[0][2:]), parts[1][2:], _base64(proof)


def _base64(data: bytes) -> bytes:
    """Base64 in its one spelling: bits to spare must be zero."""
    decoded = decode(data)
    if binascii.b2a_base64(decoded, newline=False) != data:
        raise BadExchange("not base64")
    return decoded


def _extensions(attributes: list[bytes]) -> None:
    """What we do not know and may ignore; nothing that we do know may come a second time."""
    for attribute in attributes:
        if not _ATTRIBUTE.fullmatch(attribute) or attribute[:1] in b"acimnprsv":
            raise BadExchange("an attribute is malformed, or comes twice")


def _saslname(data: bytes) -> str:
    """A name in which ``=2C`` is a comma and ``=3D`` an equals sign; no other ``=`` may be."""
    name = text(data)
    if "=" in name.replace("=2C", "").replace("=3D", ""):
        raise BadExchange("a bare = in a name")
    return name.replace("=2C", ",").replace("=3D", "=")
