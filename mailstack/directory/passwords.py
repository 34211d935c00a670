"""Password hashes: made, checked, imported. Everything blocks, for tens of milliseconds: call it in
`Work.hash`.

Theory of operation. New hashes are argon2id. Hashes that another system made are taken as they are, with the
`{SCHEME}` prefixes of Dovecot and LDAP, and replaced by argon2id at the first login that proves the password.
An unknown user costs one check of a hash that nothing matches. A password is compared as RFC 8265 section 4.2
(OpaqueString) prepares it, so that a phone and a desktop that compose an umlaut differently both get in.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from passlib.context import CryptContext

from mailstack.directory.settings import DirectoryConfig

MAX_PASSWORD = 1024  # octets in UTF-8
MAX_HASH = 4096  # octets of an imported hash

_MODULAR = ("argon2", "bcrypt", "sha512_crypt", "sha256_crypt", "sha1_crypt", "md5_crypt", "des_crypt")
_LDAP = (
    "ldap_salted_sha512",
    "ldap_salted_sha256",
    "ldap_salted_sha1",
    "ldap_salted_md5",
    "ldap_sha1",
    "ldap_md5",
)
_PBKDF2 = ("ldap_pbkdf2_sha512", "ldap_pbkdf2_sha256", "ldap_pbkdf2_sha1")

# What may stand after each prefix, where it is what crypt(3) makes.
_CRYPT: dict[str, tuple[str, ...]] = {
    "ARGON2ID": ("argon2",),
    "ARGON2I": ("argon2",),
    "ARGON2": ("argon2",),
    "BLF-CRYPT": ("bcrypt",),
    "BCRYPT": ("bcrypt",),
    "SHA512-CRYPT": ("sha512_crypt",),
    "SHA256-CRYPT": ("sha256_crypt",),
    "MD5-CRYPT": ("md5_crypt",),
    "DES-CRYPT": ("des_crypt",),
    "CRYPT": _MODULAR,
}
_BASE64 = ("SSHA512", "SSHA256", "SSHA", "SMD5", "SHA", "MD5")  # digest and salt in base64
_SAME = {"SHA1": "SHA", "LDAP-MD5": "MD5"}  # other names for those
_OTHER = ("PBKDF2-SHA512", "PBKDF2-SHA256", "PBKDF2")  # passlib's own
_PLAIN = ("PLAIN", "CLEARTEXT", "CLEAR")

KNOWN_SCHEMES = (*_CRYPT, *_BASE64, *_SAME, *_OTHER, *_PLAIN)

# What a login may cost at most: an imported hash with more would be a brake that anybody can pull.
_MOST_ROUNDS = {"bcrypt": 14, "sha512_crypt": 1_000_000, "sha256_crypt": 1_000_000, "sha1_crypt": 1_000_000}
_MOST_PBKDF2_ROUNDS = 2_000_000
_MOST_ARGON2 = {"m": 1 << 20, "t": 16, "p": 16}  # KiB, passes, lanes


class BadPassword(ValueError):
    """The text cannot be a password; the message says why."""


class BadHash(ValueError):
    """The text is not a password hash that we know; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a check: whether it is the password, and the hash to store instead of the old one."""

    right: bool
    rehashed: str | None = None


def prepare(password: str) -> str:
    """The password as it is compared (RFC 8265 section 4.2); raise BadPassword."""
    if not password:
        raise BadPassword("the password is empty")
    if len(password) > MAX_PASSWORD:
        raise BadPassword(f"the password is longer than {MAX_PASSWORD} octets")
    if not password.isascii():
        spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in password)
        password = unicodedata.normalize("NFC", spaced)
    if any(c in password for c in "\0\r\n"):
        raise BadPassword("the password holds a NUL or a line end")
    try:
        if len(password.encode()) > MAX_PASSWORD:
            raise BadPassword(f"the password is longer than {MAX_PASSWORD} octets")
    except UnicodeEncodeError:
        raise BadPassword("the password is not Unicode text") from None
    return password


class Passwords:
    """Hashes with the parameters of one configuration. Threads may share it."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._context = CryptContext(
            schemes=[*_MODULAR, *_LDAP, *_PBKDF2],
            default="argon2",
            deprecated="auto",
            argon2__type="ID",
            argon2__memory_cost=config.argon2_memory_kib,
            argon2__time_cost=config.argon2_time_cost,
            argon2__parallelism=config.argon2_parallelism,
        )
        self._shortest = config.shortest_password
        #: A hash that no password matches, as costly to check as a real one: for users that do not exist.
        self.dummy = (
            f"$argon2id$v=19$m={config.argon2_memory_kib},t={config.argon2_time_cost},"
            f"p={config.argon2_parallelism}${_unpadded(os.urandom(16))}${_unpadded(os.urandom(32))}"
        )

    def refuse_short(self, password: str) -> None:
        """Raise BadPassword if `password` is shorter than the operator lets a new one be."""
        if password and len(password) < self._shortest:
            raise BadPassword(
                f"the password has {len(password)} characters; "
                f"directory.shortest_password asks for {self._shortest}"
            )

    def hash(self, password: str) -> str:
        """A new argon2id hash; raise BadPassword."""
        return str(self._context.hash(prepare(password)))

    def verify(self, password: str, stored: str) -> Verdict:
        """Check a password. One that its scheme cannot take (72 octets for bcrypt) is wrong, not an error."""
        try:
            password = prepare(password)
            right, rehashed = self._context.verify_and_update(password, stored)
        except (
            ValueError,
            TypeError,
        ):  # passlib's errors are ValueErrors: a hash damaged, a password refused
            return Verdict(False)
        return Verdict(bool(right), rehashed)

    def read_hash(self, text: str) -> str:
        """The form to store of a hash from elsewhere, with or without a `{SCHEME}` prefix; raise BadHash."""
        text = text.strip()
        if len(text) > MAX_HASH or not text.isascii():
            raise BadHash("the password hash is too long, or not ASCII")
        match = re.match(r"\{([\w-]+)(?:\.(B64|BASE64|HEX))?\}", text, re.IGNORECASE)
        if not match:
            # Without the $ any word of 13 letters would pass for an ancient DES hash.
            return self._checked(text if text.startswith("$") else "", _MODULAR, _known())
        scheme = _SAME.get(match[1].upper(), match[1].upper())
        rest = text[match.end() :]
        if match[2]:
            rest = _decoded(rest, match[2].upper(), scheme)
        return self._read(scheme, rest)

    def _read(self, scheme: str, rest: str) -> str:
        if scheme in _PLAIN:
            try:
                return self.hash(rest)
            except BadPassword as error:
                raise BadHash(str(error)) from error
        if scheme == "MD5" and rest.startswith(
            "$1$"
        ):  # Dovecot's {MD5} is crypt(3)'s, LDAP's is a bare digest
            scheme = "MD5-CRYPT"
        if scheme in _CRYPT:
            return self._checked(rest, _CRYPT[scheme], f"what follows is not a {{{scheme}}} hash")
        if scheme in _BASE64 or scheme in _OTHER:
            known = (*_LDAP, *_PBKDF2)
            return self._checked(f"{{{scheme}}}{rest}", known, f"what follows is not a {{{scheme}}} hash")
        raise BadHash(f"unknown password scheme {{{scheme[:40]}}}; {_known()}")

    def _checked(self, text: str, schemes: tuple[str, ...], remedy: str) -> str:
        name = self._context.identify(text)
        if name not in schemes:
            raise BadHash(f"not a password hash; {remedy}")
        _affordable(name, text)
        try:
            self._context.verify(
                "probe", text
            )  # reads all of it: a damaged hash is found now, not at a login
        except (ValueError, TypeError) as error:
            raise BadHash(f"the password hash is damaged; {remedy}") from error
        return text


def _known() -> str:
    return "known are " + ", ".join(f"{{{scheme}}}" for scheme in KNOWN_SCHEMES)


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decoded(text: str, encoding: str, scheme: str) -> str:
    """The hash without Dovecot's `.b64` or `.hex`: LDAP's digests are base64 anyway, the others text."""
    decode: Callable[[str], bytes] = bytes.fromhex if encoding == "HEX" else _from_base64
    try:
        data = decode(text)
        return base64.b64encode(data).decode() if scheme in _BASE64 else data.decode("utf-8")
    except ValueError as error:  # binascii.Error and UnicodeDecodeError are two
        raise BadHash(f"the password hash is not {encoding.lower()}") from error


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _affordable(name: str, text: str) -> None:
    """Raise BadHash for a hash whose check would take many seconds."""
    if name == "argon2":
        costs = {key: int(value) for key, value in re.findall(r"[$,]([mtp])=(\d{1,10})", text)}
        if any(costs.get(key, 0) > most for key, most in _MOST_ARGON2.items()):
            raise BadHash("the password hash costs too much to check at every login; set a new password")
        return
    numbers = re.search(r"\$2[abxy]\$(\d+)|rounds=(\d+)|^\$sha1\$(\d+)|^\{PBKDF2[\w-]*\}(\d+)", text)
    if numbers:
        rounds = next(int(number) for number in numbers.groups() if number)
        if rounds > _MOST_ROUNDS.get(name, _MOST_PBKDF2_ROUNDS):
            raise BadHash("the password hash costs too much to check at every login; set a new password")
