"""The keys that sign now, by domain, as a running server knows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, select
from twisted.logger import Logger

from mailstack.mail.dkim import BadKey, PrivateKey, Signer
from mailstack.signing.tables import dkim_keys

T = TypeVar("T")

FRESH = 30.0  # seconds between looks at the table: so long may a rotation go unnoticed
_log = Logger(namespace="mailstack.dkim")
_k = dkim_keys.c


class Reads(Protocol):
    """What is needed of `mailstack.work.Work`."""

    async def read(self, function: Callable[..., T], *args: Any) -> T: ...


class Keyring:
    """Answers which keys sign for a domain. `clock` is the reactor."""

    def __init__(self, work: Reads, clock: Any) -> None:
        self._work = work
        self._clock = clock
        self._signers: dict[str, tuple[Signer, ...]] = {}
        self._until = -1.0  # of the clock: the table is looked at again

    async def signers(self, domain: str) -> tuple[Signer, ...]:
        """The keys of `domain`, or of the nearest domain above it that has any: RSA last, so topmost.

        A signature of the organization's own domain is in relaxed alignment (RFC 7489 section 3.1.1).
        """
        await self._refresh()
        labels = domain.lower().rstrip(".").split(".")
        for at in range(len(labels) - 1):
            found = self._signers.get(".".join(labels[at:]))
            if found:
                return found
        return ()

    async def _refresh(self) -> None:
        now = self._clock.seconds()
        if now < self._until:
            return
        self._until = now + FRESH  # whoever comes meanwhile has the old keys
        try:
            self._signers = await self._work.read(_load, now)
        except Exception:
            self._until = now + 1.0
            _log.failure("the keys cannot be read; signing goes on with those known")


def _load(db: Connection, now: float) -> dict[str, tuple[Signer, ...]]:
    signing = (_k.signs_from <= now) & (_k.signs_until.is_(None) | (_k.signs_until > now))
    found: dict[str, list[Signer]] = {}
    for row in db.execute(select(dkim_keys).where(signing).order_by(_k.algorithm, _k.id)):
        try:
            key = PrivateKey.load(row.private_key)
        except BadKey as error:
            _log.error("{domain}: key {selector}: {why}", domain=row.domain, selector=row.selector, why=error)
            continue
        found.setdefault(row.domain, []).append(Signer(row.domain, row.selector, key))
    return {domain: tuple(signers) for domain, signers in found.items()}
