"""How much a user, or a trusted client, may submit in an hour: `counts`, asked and answered in SMTP's words.

Theory of operation. Limits are looked at early, at MAIL and RCPT, so that a client hears of them before it
sends; a message is counted once it is whole, in one transaction that checks again, because another connection
or another process may have been quicker. So the early look may be some seconds old: what this process counts
itself it sees at once. Whoever names unknown recipients is looking for known ones, or
sends to a list that was bought: after so many in an hour, nobody is told any more who exists.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from mailstack.db import touches
from mailstack.directory.cache import Remembered
from mailstack.mail.reply import Refused, Reply
from mailstack.msa import counts
from mailstack.msa.counts import Count, Hour, Who
from mailstack.msa.settings import MsaConfig, TrustedConfig
from mailstack.net.trace import date_time
from mailstack.work import Clock

T = TypeVar("T")

_FRESH = 5.0  # seconds that an early look may be old
_MOST_REMEMBERED = 8192  # users or clients


class Transactions(Protocol):
    """What is asked of `mailstack.work.Work`."""

    async def transaction(self, function: Callable[..., T], *args: object) -> T: ...

    async def read(self, function: Callable[..., T], *args: object) -> T: ...


class HourlyLimits:
    """The limits of all users, or of all trusted clients."""

    def __init__(self, config: MsaConfig | TrustedConfig, work: Transactions, clock: Clock) -> None:
        self._messages = config.messages_per_hour
        self._recipients = config.recipients_per_hour
        self._unknown = config.unknown_per_hour
        self._work = work
        self._clock = clock
        self._hours: Remembered[Who, Hour] = Remembered(clock, _FRESH, _MOST_REMEMBERED)

    async def hour(self, who: Who) -> Hour:
        """What one of them has submitted; empty where nothing is limited."""
        if not (self._messages or self._recipients or self._unknown):
            return Hour()
        known = self._hours.get(who)
        if known is None:
            known = await self._work.read(counts.read, who, self._clock.seconds())
            self._hours.put(who, known)
        return known

    def check_message(self, hour: Hour) -> None:
        """May one more message begin? Raise Refused: 450 4.7.1."""
        self._check(hour, counts.messages, self._messages, 1, "messages")

    def check_recipients(self, hour: Hour, number: int) -> None:
        """May this message have so many recipients? Raise Refused: 450 4.7.1."""
        self._check(hour, counts.recipients, self._recipients, number, "recipients")
        self._check(hour, counts.unknown, self._unknown, 1, "unknown recipients")

    async def count_unknown(self, who: Who) -> None:
        """A recipient was named that does not exist."""
        if self._unknown:
            now = self._clock.seconds()
            add = touches(f"counts of {who}")(partial(counts.add))
            await self._work.transaction(add, who, now, Count(unknown=1))
            self._hours.drop(who)

    async def count(self, who: Who, recipients: int) -> None:
        """A message for so many recipients is submitted. Raise Refused: 450 4.7.1."""
        if not (self._messages or self._recipients):
            return
        take = touches(f"counts of {who}")(partial(counts.take))
        hour = await self._work.transaction(
            take,
            who,
            self._clock.seconds(),
            Count(messages=1, recipients=recipients),
            self._messages,
            self._recipients,
        )
        self._hours.drop(who)
        if hour is not None:
            self._check(hour, counts.messages, self._messages, 1, "messages")
            self._check(hour, counts.recipients, self._recipients, recipients, "recipients")

    def _check(self, hour: Hour, of: Callable[[Count], int], most: int, more: int, what: str) -> None:
        if not most:
            return
        when = hour.room_at(of, most, more)
        if when is not None:
            when = max(when, self._clock.seconds())
            text = f"At most {most} {what} in an hour; come again after {date_time(when)}"
            raise Refused(Reply(450, "4.7.1", text))
