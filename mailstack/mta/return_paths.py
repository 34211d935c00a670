"""Return paths of forwarded mail: made when it goes, recognised when a bounce comes (`mailstack.mail.srs`).

Theory of operation. `ReturnPaths` stands between the directory and those who ask it whether a recipient is
here: an address that we made is, and stands for the sender behind it. An address too long for a local-part is
kept in a table, under a random name.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from sqlalchemy import Connection, delete, insert, select

from mailstack.directory.lookups import make_secret
from mailstack.directory.model import Resolution
from mailstack.mail import srs
from mailstack.mail.address import Address
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.entries import stored_address
from mailstack.mta.tables import return_paths
from mailstack.work import Work

DAY = 86400
KEPT = 2 * srs.DAYS * DAY  # seconds that a long address stays in the table
_TOKEN = "srs2="
_p = return_paths.c


class Residents(Protocol):
    """What is asked of the directory."""

    async def is_local(self, domain: str) -> bool: ...

    async def resolve(self, address: Address) -> Resolution | None: ...


class ReturnPaths:
    """The directory's answers, with our return paths among them. `clock` is the reactor."""

    def __init__(self, directory: Residents, work: Work, clock: Any) -> None:
        self._directory = directory
        self._work = work
        self._clock = clock
        self._secret: bytes | None = None

    async def is_local(self, domain: str) -> bool:
        """Whether we serve `domain`."""
        return await self._directory.is_local(domain)

    @staticmethod
    def is_return_path(address: Address) -> bool:
        """Whether an address of ours looks like one of these: mail for it goes elsewhere."""
        local = address.local_part
        return local[:5].lower() == _TOKEN or srs.is_wrapped(local)

    async def resolve(self, address: Address) -> Resolution | None:
        """Whom `address` stands for; raise Refused for a return path that is forged or has expired."""
        local = address.local_part
        if local[:5].lower() == _TOKEN:
            found = await self._work.read(_find, local[5:].lower(), self._clock.seconds())
            if found is None:
                raise _refused("this return path is not known, or has expired")
            return Resolution((), (found,))
        if not srs.is_wrapped(local):
            return await self._directory.resolve(address)
        try:
            behind = srs.unwrap(local, await self._key(), self._day())
        except srs.BadReturnPath as error:
            raise _refused(str(error)) from error
        return Resolution((), (behind,))

    async def rewrite(self, reverse_path: Address | None, domain: str) -> Address | None:
        """What mail from `reverse_path` goes on under, forwarded by an address of our `domain`."""
        if reverse_path is None or await self._directory.is_local(reverse_path.domain):
            return reverse_path
        try:
            return srs.wrap(reverse_path, domain, await self._key(), self._day())
        except srs.TooLong:
            now = self._clock.seconds()
            token = await self._work.transaction(_keep, str(reverse_path), os.urandom(10).hex(), now)
            return Address(_TOKEN + token, domain)

    async def _key(self) -> bytes:
        if self._secret is None:
            self._secret = await self._work.transaction(make_secret, "srs", os.urandom(32))
        return self._secret

    def _day(self) -> int:
        return int(self._clock.seconds()) // DAY


def _keep(db: Connection, address: str, token: str, now: float) -> str:
    """The token of an address: the one of today, or `token`."""
    fresh = (_p.address == address) & (_p.created > now - DAY)
    known: str | None = db.scalar(select(_p.token).where(fresh).limit(1))
    if known is not None:
        return known
    db.execute(delete(return_paths).where(_p.created < now - KEPT))
    db.execute(insert(return_paths).values(token=token, address=address, created=now))
    return token


def _find(db: Connection, token: str, now: float) -> Address | None:
    holds = (_p.token == token) & (_p.created > now - KEPT)
    found: str | None = db.scalar(select(_p.address).where(holds))
    return None if found is None else stored_address(found)


def _refused(why: str) -> Refused:
    return Refused(Reply(550, "5.7.1", why[0].upper() + why[1:]))
