"""Password hashes that are keys of SCRAM or CRAM-MD5, as Dovecot keeps them in the place of a hash.

They prove a password as a hash does: the keys that it leads to are the same or they are not. And since they
are the keys themselves, the user whom they come with can sign in by that mechanism from the first day.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass

from mailstack.wire.sasl import Keys, cram_md5, scram
from mailstack.wire.sasl.prep import saslprep

#: Prefixes, and the mechanism whose keys follow; HMAC-MD5 is Dovecot's older name.
SCHEMES = {**{name: name for name in scram.NAMES}, "CRAM-MD5": "CRAM-MD5", "HMAC-MD5": "CRAM-MD5"}

MOST_ITERATIONS = 1_000_000  # of SCRAM: a quarter of a second or more
_MOST_SALT = 255  # octets
_PREFIX = re.compile(r"\{([\w-]+)\}")


@dataclass(frozen=True, slots=True)
class KeyHash:
    """The keys of one mechanism in the place of a password hash."""

    mechanism: str
    keys: Keys

    @property
    def text(self) -> str:
        """As Dovecot writes it, and as it is stored."""
        keys = self.keys
        if self.mechanism == cram_md5.NAME:
            return f"{{CRAM-MD5}}{_other_way_round(keys.stored_key).hex()}"
        parts = (base64.b64encode(part).decode() for part in (keys.salt, keys.stored_key, keys.server_key))
        return f"{{{self.mechanism}}}{keys.iterations},{','.join(parts)}"

    def proves(self, password: str) -> bool:
        """Whether `password` leads to these keys. RFC 5802 makes them of its SASLprep, Dovecot does not."""
        forms = {password.encode(), saslprep(password).encode()}
        return any(hmac.compare_digest(self._derived(form), self.keys.stored_key) for form in forms)

    def _derived(self, secret: bytes) -> bytes:
        if self.mechanism == cram_md5.NAME:
            return cram_md5.keys_of(secret).stored_key
        return scram.keys_of(self.mechanism, secret, self.keys.salt, self.keys.iterations).stored_key


def read_keys(scheme: str, rest: str) -> KeyHash:
    """The keys in what follows `{scheme}`, one of SCHEMES; raise ValueError."""
    mechanism = SCHEMES[scheme]
    if mechanism == cram_md5.NAME:
        states = bytes.fromhex(rest)
        if len(states) != cram_md5.KEY_OCTETS or rest != rest.strip():
            raise ValueError("not 32 octets")
        return KeyHash(mechanism, Keys(b"", 0, _other_way_round(states), b""))
    iterations, *parts = rest.split(",")
    if len(parts) != 3 or not re.fullmatch(r"[1-9][0-9]{0,9}", iterations):
        raise ValueError("not iterations, salt, stored key and server key")
    salt, stored_key, server_key = (_from_base64(part) for part in parts)
    size = scram.key_octets(mechanism)
    if not 0 < len(salt) <= _MOST_SALT or (len(stored_key), len(server_key)) != (size, size):
        raise ValueError("a part has the wrong length")
    return KeyHash(mechanism, Keys(salt, int(iterations), stored_key, server_key))


def find_keys(stored: str) -> KeyHash | None:
    """The keys in a stored hash; None: it holds none. Raise ValueError for damaged ones."""
    prefix = _PREFIX.match(stored)
    if prefix is None or prefix[1] not in SCHEMES:
        return None
    return read_keys(prefix[1], stored[prefix.end() :])


def _other_way_round(states: bytes) -> bytes:
    """Dovecot writes the outer state of HMAC-MD5 first, we the inner one."""
    return states[16:] + states[:16]


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
