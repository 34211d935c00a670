"""Addresses that are known not to exist: remembered when they bounce, refused when our users write to them.

Theory of operation. A server that goes on sending to addresses that do not exist looks like a spammer to
those who host them. What a remote server said of a mailbox for good (RFC 3463: X.1.1 and the like) is kept
with the address, in the transaction that ends its entry. A submission asks a set in memory, which is read
again when the table has changed; only what is found there is looked up, so a cleared address is free at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, delete, func, insert, or_, select
from sqlalchemy.sql.elements import ColumnElement
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.reply import Reply
from mailstack.mta.tables import suppressed
from mailstack.mta.transfer import Result

_log = Logger(namespace="mailstack.queue")

T = TypeVar("T")

FRESH = 3.0  # seconds between looks whether the table has changed
MOST_REASON = 500  # characters
_HARD = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_UNKNOWN_USER = re.compile(
    r"user unknown|unknown user|no such (?:user|mailbox|recipient|address)|does not exist|mailbox not found",
    re.IGNORECASE,
)
_s = suppressed.c


@dataclass(frozen=True, slots=True)
class Suppressed:
    """One address that gets no mail from our users. Times are seconds of the epoch."""

    address: str
    reason: str
    since: float
    until: float | None


def is_hard(result: Result) -> bool:
    """Whether a refusal says that there is no such mailbox, rather than that it wants no such message."""
    reply = result.reply
    if not reply.permanent:
        return False
    if reply.enhanced in _HARD:
        return True
    bare = reply.enhanced in ("", "5.0.0") and reply.code in (550, 551, 553)
    return bare and _UNKNOWN_USER.search(reply.text) is not None


def suppress(db: Connection, address: str, reason: str, now: float, until: float | None) -> None:
    """Remember an address; again, with the newer reason."""
    key = address.lower()
    db.execute(delete(suppressed).where(_s.address == key))
    db.execute(insert(suppressed).values(address=key, reason=reason[:MOST_REASON], since=now, until=until))


def clear(db: Connection, address: str) -> bool:
    """Forget an address; False: it was not there."""
    return db.execute(delete(suppressed).where(_s.address == address.lower())).rowcount > 0


def find(db: Connection, address: str, now: float) -> Suppressed | None:
    """What is remembered of an address, unless its time is over."""
    row = db.execute(select(suppressed).where(_s.address == address.lower(), _lasting(now))).first()
    return None if row is None else Suppressed(row.address, row.reason, row.since, row.until)


def list_suppressed(db: Connection, now: float, limit: int = 1000) -> list[Suppressed]:
    """The addresses, newest first."""
    rows = db.execute(select(suppressed).where(_lasting(now)).order_by(_s.since.desc()).limit(limit))
    return [Suppressed(row.address, row.reason, row.since, row.until) for row in rows]


def prune(db: Connection, now: float) -> None:
    """Delete those whose time is over."""
    db.execute(delete(suppressed).where(_s.until <= now))


def _lasting(now: float) -> ColumnElement[bool]:
    return or_(_s.until.is_(None), _s.until > now)


class Reads(Protocol):
    """What is needed of `mailstack.work.Work`."""

    async def read(self, function: Callable[..., T], *args: Any) -> T: ...


class Suppressions:
    """Answers for a running server. `clock` is the reactor."""

    def __init__(self, work: Reads, clock: Any) -> None:
        self._work = work
        self._clock = clock
        self._known: frozenset[int] = frozenset()  # hashes of the addresses
        self._stamp: tuple[int, float | None] = (0, None)
        self._until = -1.0

    async def refusal(self, address: Address) -> Reply | None:
        """Why nothing is to be sent to `address`; None: it may be."""
        await self._refresh()
        if hash(str(address).lower()) not in self._known:
            return None
        found = await self._work.read(find, str(address), self._clock.seconds())
        if found is None:
            return None
        text = f"{address} does not take mail, as we were told before: {found.reason}"
        return Reply(550, "5.1.1", text[:MOST_REASON])

    async def _refresh(self) -> None:
        now = self._clock.seconds()
        if now < self._until:
            return
        self._until = now + FRESH
        try:
            stamp = await self._work.read(_stamp)
            if stamp != self._stamp:
                self._known = await self._work.read(_hashes)
                self._stamp = stamp
        except Exception:
            _log.failure("the suppressed addresses cannot be read")


def _stamp(db: Connection) -> tuple[int, float | None]:
    count, newest = db.execute(select(func.count(), func.max(_s.since))).one()
    return int(count), newest


def _hashes(db: Connection) -> frozenset[int]:
    return frozenset(map(hash, db.scalars(select(_s.address))))
