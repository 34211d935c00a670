"""What each of our users sends: counted, spread over time, and held when it looks like somebody else's doing.

Theory of operation. An account whose password was stolen sends to many strangers, and many of them do not
exist. Both are counted by login, over the last hour. Too many of either, and the login is held: what it
submits is still taken, but its entries wait in state held until the operator has looked, and postmaster is
told. What is held stands in the database; the counts are this process's own. A client of a trusted network
has no login: its address in brackets stands for one.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.sql.elements import ColumnElement
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mta.settings import HOUR, MtaConfig
from mailstack.mta.tables import HELD, WAITING, held_senders, queue_entries, queue_messages
from mailstack.mta.verbs import Order, tell
from mailstack.trail.notes import HELD as HELD_EVENT
from mailstack.trail.notes import NO_NOTES, RELEASED, Notes
from mailstack.work import Work

_log = Logger(namespace="mailstack.queue")

FRESH = 1.0  # seconds between looks at who is held
_STEP = 300.0  # seconds that are counted together
_MOST = 10_000  # logins whose counts are kept
_h = held_senders.c

Send = Callable[[Envelope, Message], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class HeldSender:
    """A login whose mail waits for the operator. `since` is in seconds of the epoch."""

    login: str
    reason: str
    since: float


def hold_sender(db: Connection, login: str, reason: str, now: float, order: Order | None = None) -> int:
    """Hold what `login` has waiting and what it will submit; return how many entries wait."""
    key = login.lower()
    db.execute(delete(held_senders).where(_h.login == key))
    db.execute(insert(held_senders).values(login=key, reason=reason, since=now))
    theirs = _theirs(key) & (queue_entries.c.state == WAITING) & queue_entries.c.lease_owner.is_(None)
    tell(db, _found(db, theirs), HELD_EVENT, order)
    changed = update(queue_entries).where(theirs).values(state=HELD, last_reply=f"held: {reason}")
    return db.execute(changed).rowcount


def release_sender(db: Connection, login: str, now: float, order: Order | None = None) -> int | None:
    """Let `login` send again, and what it has in wait go; None: it is not held."""
    key = login.lower()
    if not db.execute(delete(held_senders).where(_h.login == key)).rowcount:
        return None
    theirs = _theirs(key) & (queue_entries.c.state == HELD)
    tell(db, _found(db, theirs), RELEASED, order)
    freed = update(queue_entries).where(theirs).values(state=WAITING, next_attempt=now, last_reply=None)
    return db.execute(freed).rowcount


def list_held(db: Connection) -> list[HeldSender]:
    """Who is held."""
    return [HeldSender(row.login, row.reason, row.since) for row in db.execute(select(held_senders))]


def _found(db: Connection, which: ColumnElement[bool]) -> list[Row[Any]]:
    return list(db.execute(select(queue_entries.c.message_id, queue_entries.c.recipient).where(which)))


def _theirs(login: str) -> ColumnElement[bool]:
    of = select(queue_messages.c.id).where(queue_messages.c.authenticated == login)
    return queue_entries.c.message_id.in_(of)


@dataclass(slots=True)
class _Count:
    """One login's last hour: step to recipients and refusals."""

    steps: dict[int, list[int]] = field(default_factory=dict)
    next_slot: float = 0.0

    def add(self, now: float, which: int, number: int) -> int:
        """Count; return the sum of the last hour."""
        step = int(now // _STEP)
        for old in [one for one in self.steps if one <= step - HOUR / _STEP]:
            del self.steps[old]
        self.steps.setdefault(step, [0, 0])[which] += number
        return sum(counts[which] for counts in self.steps.values())


class Senders:
    """Counts and holds. `send` takes the message to postmaster, whose address `postmaster` finds."""

    def __init__(
        self,
        config: MtaConfig,
        work: Work,
        clock: Any,
        *,
        hostname: str,
        postmaster: Callable[[], Awaitable[Address]],
        send: Send,
        trail: Notes = NO_NOTES,
    ) -> None:
        self._config = config
        self._work = work
        self._clock = clock
        self._hostname = hostname
        self._postmaster = postmaster
        self._send = send
        self._trail = trail
        self._counts: dict[str, _Count] = {}
        self._held: dict[str, str] = {}
        self._until = -1.0

    async def why_held(self, login: str | None) -> str | None:
        """Why what `login` submits must wait; None: it need not."""
        if login is None:
            return None
        now = self._clock.seconds()
        if now >= self._until:
            self._until = now + FRESH
            self._held = {one.login: one.reason for one in await self._work.read(list_held)}
        return self._held.get(login.lower())

    async def submitted(self, login: str | None, recipients: int) -> float:
        """Count recipients elsewhere, hold the login if they are too many; return seconds to wait first."""
        if login is None or not recipients:
            return 0.0
        count, now = self._count(login), self._clock.seconds()
        limit = self._config.spray_recipients
        total = count.add(now, 0, recipients)
        if 0 < limit < total:
            await self._hold(login, f"{total} recipients in an hour, more than {limit}")
        return self._slot(count, recipients, now)

    async def refused(self, login: str | None, recipients: int) -> None:
        """Count recipients that remote servers refused for good."""
        limit = self._config.spray_refusals
        if login is None or not recipients or not limit:
            return
        total = self._count(login).add(self._clock.seconds(), 1, recipients)
        if total > limit:
            await self._hold(login, f"{total} recipients refused in an hour, more than {limit}")

    def _slot(self, count: _Count, recipients: int, now: float) -> float:
        """Who has used up the minute's share goes on at that pace, later."""
        share = self._config.sender_recipients_per_minute
        if not share:
            return 0.0
        begin = max(count.next_slot, now - 60.0)  # a minute's share may go at once
        count.next_slot = begin + recipients * 60.0 / share
        return max(0.0, count.next_slot - now)

    def _count(self, login: str) -> _Count:
        key = login.lower()
        count = self._counts.pop(key, None) or _Count()
        self._counts[key] = count  # the newest last
        if len(self._counts) > _MOST:
            del self._counts[next(iter(self._counts))]
        return count

    async def _hold(self, login: str, reason: str) -> None:
        key = login.lower()
        if key in self._held:
            return
        self._held[key] = reason
        now = self._clock.seconds()
        order = Order(f"us: {reason}", now)
        entries = await self._work.transaction(hold_sender, key, reason, now, order)
        _log.warn("{login} is held: {reason}; {n} entries wait", login=key, reason=reason, n=entries)
        # Beside whatever found it: the report is a message like any other.
        Deferred.fromCoroutine(self._report(key, reason, now))

    async def _report(self, login: str, reason: str, now: float) -> None:
        id_ = f"held-{int(now)}-{abs(hash(login)) % 10**8}"
        try:
            to = await self._postmaster()
            self._trail.note(id_, HELD_EVENT, login, reason=reason)
            data = _words(self._hostname, to, login, reason, id_, now)
            await self._send(Envelope(id_, None, (Recipient(to, frozenset({"NEVER"})),)), Message.of(data))
        except Exception:
            _log.failure("postmaster was not told that {login} is held", login=login)


def _advice(login: str) -> tuple[str, ...]:
    named = shlex.quote(login)
    what = "That is what an account looks like whose password was stolen."
    mend = f"    mailstack user password {named}"
    if login.startswith("["):  # a client of msa.trusted.networks
        what = "That is what a machine looks like which somebody else has taken over."
        mend = "    (mend what has that address)"
    return (
        what,
        "",
        "What waits:",
        f"    mailstack queue list --login {named}",
        "If somebody else sent it, close the door, away with it, and then they may send again:",
        mend,
        f"    mailstack queue drop --login {named}",
        f"    mailstack sender release {named}",
        "If all is well, what waits goes out with:",
        f"    mailstack sender release {named}",
    )


def _words(hostname: str, to: Address, login: str, reason: str, id_: str, now: float) -> bytes:
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{to}>",
        f"Subject: Held: mail of {login}",
        f"Date: {formatdate(now)}",
        f"Message-ID: <{id_}@{hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        f"This is the mail server {hostname}.",
        "",
        f"Mail that {login} submits is held from now on: {reason}.",
        *_advice(login),
        "",
    ]
    return "\r\n".join(lines).encode()
