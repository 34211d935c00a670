"""A directory for sign-in as the RFCs' examples have it: one user, their keys, and nothing by chance."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from mailstack.directory.directory import Claim
from mailstack.directory.keys import Keeping
from mailstack.directory.model import User
from mailstack.mail.address import Address
from mailstack.net.sign_in import NotVouched, Unavailable, Vouched
from mailstack.wire.sasl import KEYED, Keys, cram_md5, scram

USER = User(1, Address("user", "example.org"), None, None)
LOGIN = "user"  # as in RFC 5802 section 5 and RFC 7677 section 3
PASSWORD = "pencil"
SALTS = {"SCRAM-SHA-1": "QSXCR+Q6sek8bf92", "SCRAM-SHA-256": "W22ZaJ0SNY7soEsUEjb6gQ=="}
PRETENDING = Keeping(KEYED, 4096)


@dataclass
class People:
    """The directory, and what it was told."""

    error: Exception | None = None
    refusals: list[tuple[str, str, str]] = field(default_factory=list)

    async def authenticate(self, login: str, password: str, peer: str = "") -> User | None:
        if self.error:
            raise self.error
        if (login, password) == (LOGIN, PASSWORD):
            return USER
        self.refused(login, peer, "wrong password")
        return None

    async def claim(self, login: str, mechanism: str) -> Claim:
        if self.error:
            raise self.error
        if login != LOGIN:
            return Claim(login, None, None, PRETENDING.pretend(b"secret", login, mechanism), "unknown user")
        return Claim(login, USER, None, keys(mechanism))

    async def admit(self, claim: Claim, peer: str) -> User | None:
        return claim.user

    async def vouched(self, address: str, peer: str) -> User | None:
        return USER if address == "user@example.org" else None

    def refused(self, login: str, peer: str, reason: str) -> None:
        self.refusals.append((login, peer, reason))


class Tokens:
    """A provider: "good" is our user's, "other" is somebody's who is not here."""

    async def vouch(self, login: str, token: str) -> Vouched | NotVouched:
        if token == "down":
            raise Unavailable("no keys")
        known = {"good": "user@example.org", "other": "nobody@example.org"}
        if token in known:
            return Vouched(known[token])
        return NotVouched("token refused", {"status": "invalid_token"})


def keys(mechanism: str) -> Keys:
    """The user's."""
    if mechanism == cram_md5.NAME:
        return cram_md5.derive(PASSWORD)
    return scram.derive(mechanism, PASSWORD, base64.b64decode(SALTS[mechanism]), 4096)


def b64(data: bytes | str) -> str:
    """As it goes over the wire."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def anything(*_: Any) -> Any:
    """Stands for what sign-in does not touch."""
    raise AssertionError("not to be used before a login")
