"""The keys that SCRAM and CRAM-MD5 need beside the password hash. Making them blocks, for some 10 ms.

They cannot be had from an argon2 hash, so they are made whenever the password itself is at hand: at a new
user or password, and at a login with the password where they are missing or not as the settings want them. A
hash from elsewhere that consists of them brings them along (`key_hashes`). A login that has none (unknown,
disabled, imported with another hash) is shown keys that no password leads to: always the same for the same
name, because its salt is made of the name and a secret of the installation.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from mailstack.directory.key_hashes import find_keys
from mailstack.directory.passwords import prepare
from mailstack.wire.sasl import KEYED, Keys, cram_md5, scram

_SALT_OCTETS = 16


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """A user's keys for one mechanism."""

    mechanism: str  # of `mailstack.wire.sasl.KEYED`
    keys: Keys


@dataclass(frozen=True, slots=True)
class Keeping:
    """Which keys are kept of each user, and how costly they are."""

    mechanisms: tuple[str, ...] = ()  # of `mailstack.wire.sasl.KEYED`
    iterations: int = 10_000  # of PBKDF2 in SCRAM

    @property
    def kinds(self) -> frozenset[tuple[str, int]]:
        """What a user has whose keys are as they should be: mechanisms with their iterations."""
        return frozenset((name, self.iterations if name in scram.NAMES else 0) for name in self.mechanisms)

    def make(self, password: str) -> tuple[StoredKeys, ...]:
        """The keys of `password`, with new salts; raise BadPassword."""
        password = prepare(password)
        return tuple(StoredKeys(name, self._derive(name, password)) for name in self.mechanisms)

    def brought(self, stored: str) -> tuple[StoredKeys, ...]:
        """The keys that the imported hash `stored` consists of, if it does and they are kept."""
        found = find_keys(stored)
        if found is None or found.mechanism not in self.mechanisms:
            return ()
        return (StoredKeys(found.mechanism, found.keys),)

    def _derive(self, name: str, password: str) -> Keys:
        if name == cram_md5.NAME:
            return cram_md5.derive(password)
        return scram.derive(name, password, os.urandom(_SALT_OCTETS), self.iterations)

    def pretend(self, secret: bytes, login: str, mechanism: str) -> Keys:
        """Keys for a login that has none: as they would look, and leading nowhere."""
        assert mechanism in KEYED
        made = hmac.digest(secret, f"{mechanism}\0{login}".encode("utf-8", "surrogatepass"), "sha512")
        if mechanism == cram_md5.NAME:
            return Keys(b"", 0, made[: cram_md5.KEY_OCTETS], b"")
        size, rest = scram.key_octets(mechanism), made[_SALT_OCTETS:]
        return Keys(made[:_SALT_OCTETS], self.iterations, rest[:size], rest[-size:][::-1])
