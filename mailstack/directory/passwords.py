"""Password hashes: made, checked, imported. Everything blocks, for tens of milliseconds: call it in
`Work.hash`.

Theory of operation. New hashes are argon2id. Hashes that another system made are taken as they are, with the
`{SCHEME}` prefixes of Dovecot and LDAP, and replaced by argon2id at the first login that proves the password.
An unknown user costs one check of a hash that nothing matches; and so does a wrong password beside the check
of a hash that is not ours yet, which alone might be over sooner. A password is compared as RFC 8265 section
4.2 (OpaqueString) prepares it, so that a phone and a desktop that compose an umlaut differently both get in.
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
from passlib.utils.handlers import PrefixWrapper

from mailstack.directory.key_hashes import MOST_ITERATIONS, SCHEMES, KeyHash, find_keys, read_keys
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
# passlib knows these without a prefix only, and 64 hex digits might be anything.
_BARE = (
    PrefixWrapper("prefixed_sha512", "hex_sha512", prefix="{SHA512}"),
    PrefixWrapper("prefixed_sha256", "hex_sha256", prefix="{SHA256}"),
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
_SALTED = ("SSHA512", "SSHA256", "SSHA", "SMD5")  # digest and salt in base64
_UNSALTED = {"SHA512": 64, "SHA256": 32, "SHA": 20, "MD5": 16}  # octets of a digest, in base64 or in hex
_SAME = {"SHA1": "SHA", "LDAP-MD5": "MD5", "PLAIN-MD5": "MD5"}  # other names for those
_PBKDF2_NAMES = ("PBKDF2-SHA512", "PBKDF2-SHA256", "PBKDF2")  # passlib's own, but see `_pbkdf2`
_PLAIN = ("PLAIN", "CLEARTEXT", "CLEAR")

_PREFIX = re.compile(r"\s*\{([\w-]+)(?:\.(B64|BASE64|HEX))?\}", re.IGNORECASE | re.ASCII)
KNOWN_SCHEMES = (*_CRYPT, *_SALTED, *_UNSALTED, *_SAME, *_PBKDF2_NAMES, *SCHEMES, *_PLAIN)

# What a login may cost at most: an imported hash with more would be a brake that anybody can pull.
_MOST_ROUNDS = {"bcrypt": 14, "sha512_crypt": 1_000_000, "sha256_crypt": 1_000_000, "sha1_crypt": 1_000_000}
_MOST_PBKDF2_ROUNDS = 2_000_000
_MOST_ARGON2 = {"m": 1 << 20, "t": 16, "p": 16}  # KiB, passes, lanes
_COSTLY = "the password hash costs too much to check at every login; set a new password"


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
            schemes=[*_MODULAR, *_LDAP, *_BARE, *_PBKDF2],
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
        except BadPassword:
            return Verdict(False)
        right, current = self._compare(password, stored)
        if current:
            return Verdict(right)
        if right:
            return Verdict(True, str(self._context.hash(password)))
        self._context.verify(password, self.dummy)  # no user answers sooner than one that does not exist
        return Verdict(False)

    def _compare(self, password: str, stored: str) -> tuple[bool, bool]:
        """Whether the password is right, and whether the hash is one as we make them now."""
        try:
            keys = find_keys(stored)
            if keys is not None:
                return keys.proves(password), False
            right = bool(self._context.verify(password, stored))
            return right, not self._context.needs_update(stored)
        except (ValueError, TypeError):  # passlib's are ValueErrors: a hash damaged, a password refused
            return False, False

    def read_hash(self, text: str) -> str:
        """The form to store of a hash from elsewhere, with or without a `{SCHEME}` prefix; raise BadHash."""
        if len(text) > MAX_HASH:
            raise BadHash("the password hash is too long")
        match = _PREFIX.match(text)
        scheme = match[1].upper() if match else ""
        if match and scheme in _PLAIN and not match[2]:
            return self._of_plain(text[match.end() :])
        if not text.isascii():
            raise BadHash("the password hash is not ASCII")
        if not match:
            # Without the $ any word of 13 letters would pass for an ancient DES hash.
            text = text.strip()
            return self._checked(text if text.startswith("$") else "", _MODULAR, _known())
        scheme, rest = _SAME.get(scheme, scheme), text[match.end() :].strip()
        if match[2]:
            rest = _decoded(rest, match[2].upper(), scheme)
        return self._of_plain(rest) if scheme in _PLAIN else self._read(scheme, rest)

    def _of_plain(self, password: str) -> str:
        try:
            return self.hash(password)
        except BadPassword as error:
            raise BadHash(str(error)) from error

    def _read(self, scheme: str, rest: str) -> str:
        remedy = f"what follows is not a {{{scheme}}} hash"
        if scheme == "MD5" and rest.startswith(
            "$1$"
        ):  # Dovecot's {MD5} is crypt(3)'s, LDAP's is a bare digest
            scheme = "MD5-CRYPT"
        if scheme in _CRYPT:
            return self._checked(rest, _CRYPT[scheme], remedy)
        if scheme in SCHEMES:
            return _affordable_keys(scheme, rest, remedy).text
        if scheme in _UNSALTED:
            return self._checked(
                _unsalted(scheme, rest, remedy), (*_LDAP, *(one.name for one in _BARE)), remedy
            )
        if scheme in _SALTED:
            return self._checked(f"{{{scheme}}}{rest}", _LDAP, remedy)
        if scheme in _PBKDF2_NAMES:
            return self._checked(f"{{{scheme}}}{_pbkdf2(scheme, rest)}", _PBKDF2, remedy)
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
    """The hash without Dovecot's `.b64` or `.hex`: digests as they are without it, the others text."""
    decode: Callable[[str], bytes] = bytes.fromhex if encoding == "HEX" else _from_base64
    try:
        data = decode(text)
        if SCHEMES.get(scheme) == "CRAM-MD5":
            return data.hex()
        digest = scheme in _SALTED or scheme in _UNSALTED
        return base64.b64encode(data).decode() if digest else data.decode("utf-8")
    except ValueError as error:  # binascii.Error and UnicodeDecodeError are two
        raise BadHash(f"the password hash is not {encoding.lower()}") from error


def _unsalted(scheme: str, rest: str, remedy: str) -> str:
    """A bare digest as passlib takes it; as in Dovecot, its length says whether it is base64 or hex."""
    size = _UNSALTED[scheme]
    try:
        digest = bytes.fromhex(rest) if len(rest) == 2 * size else _from_base64(rest)
    except ValueError as error:
        raise BadHash(f"not a password hash; {remedy}") from error
    in_hex = size >= 32  # see `_BARE`
    return f"{{{scheme}}}{digest.hex() if in_hex else base64.b64encode(digest).decode()}"


def _pbkdf2(scheme: str, rest: str) -> str:
    """Dovecot's `$1$salt$rounds$digest`, of SHA-1 and in hex, as passlib has it; what is passlib's stays."""
    match = re.fullmatch(r"\$1\$([^$]+)\$(\d{1,10})\$([0-9a-fA-F]{40})", rest)
    if not match or scheme != "PBKDF2":
        return rest
    return f"{match[2]}${_adapted(match[1].encode())}${_adapted(bytes.fromhex(match[3]))}"


def _adapted(data: bytes) -> str:
    """Base64 as passlib writes it in PBKDF2."""
    return _unpadded(data).replace("+", ".")


def _affordable_keys(scheme: str, rest: str, remedy: str) -> KeyHash:
    try:
        found = read_keys(scheme, rest)
    except ValueError as error:
        raise BadHash(f"not a password hash; {remedy}") from error
    if found.keys.iterations > MOST_ITERATIONS:
        raise BadHash(_COSTLY)
    return found


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
            raise BadHash(_COSTLY)
        return
    numbers = re.search(r"\$2[abxy]\$(\d+)|rounds=(\d+)|^\$sha1\$(\d+)|^\{PBKDF2[\w-]*\}(\d+)", text)
    if numbers:
        rounds = next(int(number) for number in numbers.groups() if number)
        if rounds > _MOST_ROUNDS.get(name, _MOST_PBKDF2_ROUNDS):
            raise BadHash(_COSTLY)
