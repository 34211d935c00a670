"""TLS reports to other domains, each day, and those from them (RFC 8460).

Theory of operation. Each TLS session is counted in memory and the counts are added to the table once a
minute, so a crash loses a minute of statistics and no transfer waits for them. After midnight (UTC), one
domain after the other is reported on where it asks for that, by mail through our own queue or by HTTPS, and
its counts of that day are removed with the report's last way tried; what could not be handed over stays for
the next hour, for three days. The reports' ids are made from the day and the domain, so that a repeat after a
crash is recognised by its reader, and by our queue.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote

from sqlalchemy import Connection, delete, insert, select, update
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mailstack.mail.address import Address, BadAddress
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.mta import tls_report
from mailstack.mta.security import Outcome
from mailstack.mta.tables import tls_reports, tls_results
from mailstack.mta.tls_report import BadReport, Count, Received
from mailstack.net.https import Https, HttpsError
from mailstack.net.resolver import DnsError, NoSuchDomain, Resolver
from mailstack.work import Work

_log = Logger(namespace="mailstack.tls-reports")

FLUSH = 60.0  # seconds
HOUR = 3600.0
MOST_COUNTED = 20_000  # different outcomes in memory
KEPT_DAYS = 3  # that a report is tried to be handed over
MAX_MAIL = 20_000_000  # octets of a mail that is read as a report

Take = Callable[[Envelope, Message], Awaitable[dict[Address, Reply]]]

_r = tls_results.c


class TlsReports(Service):
    """Counts, and sends the reports by `take`, the queue, and by `https`."""

    def __init__(
        self,
        hostname: str,
        contact: str,
        resolver: Resolver,
        https: Https,
        work: Work,
        clock: Any,
    ) -> None:
        self._hostname = hostname
        self._contact = contact or f"postmaster@{hostname}"
        self._resolver = resolver
        self._https = https
        self._work = work
        self._clock = clock
        self._counted: Counter[tuple[str, Outcome]] = Counter()
        self.take: Take | None = None  # set by the assembly: the queue knows the transfer that counts here
        self._loops: list[LoopingCall] = []

    def count(self, outcome: Outcome) -> None:
        """One TLS session came out so."""
        key = (_day(self._clock.seconds()), outcome)
        if key in self._counted or len(self._counted) < MOST_COUNTED:
            self._counted[key] += 1

    def startService(self) -> None:
        """Begin to write down, and to report."""
        super().startService()
        for function, seconds in ((self.flush, FLUSH), (self.report, HOUR)):
            loop = LoopingCall(_guarded(function))
            loop.clock = self._clock
            loop.start(seconds, now=False)
            self._loops.append(loop)

    def stopService(self) -> Deferred[None]:
        """Write down what was counted."""
        super().stopService()
        for loop in self._loops:
            loop.stop()
        self._loops = []
        return _guarded(self.flush)()

    async def flush(self) -> None:
        """Add what was counted to the table."""
        counted, self._counted = self._counted, Counter()
        if counted:
            await self._work.transaction(add, dict(counted))

    async def report(self) -> None:
        """Send the reports on the days that are over."""
        await self.flush()
        today = self._clock.seconds()
        for day, domain in await self._work.read(unsent, _day(today)):
            try:
                done = await self._report(day, domain)
            except Exception:
                _log.failure("{domain}: no TLS report on {day} now", domain=domain, day=day)
                done = False
            if done or day < _day(today - KEPT_DAYS * 86400):
                await self._work.transaction(forget, day, domain)

    async def _report(self, day: str, domain: str) -> bool:
        """Whether nothing is left to do about that day."""
        try:
            places = tls_report.rua(await self._resolver.txt(f"_smtp._tls.{domain}"))
        except NoSuchDomain:
            places = ()
        except DnsError:
            return False
        if not places:
            return True
        counts = await self._work.read(counts_of, day, domain)
        report_id = f"{day}.{domain}@{self._hostname}"
        content = tls_report.compose(self._hostname, self._contact, report_id, day, domain, counts)
        handed = [await self._hand_over(place, day, domain, report_id, content) for place in places]
        return any(handed)  # RFC 8460 section 3: any one of the places will do

    async def _hand_over(self, place: str, day: str, domain: str, report_id: str, content: bytes) -> bool:
        if place.lower().startswith("https:"):
            return await self._post(place, content)
        try:
            to = Address.parse(unquote(place.partition(":")[2].partition("?")[0]))
        except (BadAddress, ValueError):
            _log.warn("{domain}: wants TLS reports at {place}", domain=domain, place=place)
            return True  # it will not get better
        return await self._mail(to, day, domain, report_id, content)

    async def _post(self, url: str, content: bytes) -> bool:
        try:
            answer = await self._https.post(url, tls_report.compress(content), tls_report.MEDIA)
        except HttpsError as error:
            _log.warn("TLS report: {url}: {why}", url=url, why=error)
            return False
        _log.info("TLS report: {url}: {status}", url=url, status=answer.status)
        return 200 <= answer.status < 300

    async def _mail(self, to: Address, day: str, domain: str, report_id: str, content: bytes) -> bool:
        if self.take is None:
            return False
        sent = datetime.datetime.fromtimestamp(self._clock.seconds(), datetime.UTC)
        sender = Address.parse(self._contact)
        data = tls_report.mail(
            self._hostname,
            self._contact,
            str(to),
            domain,
            day,
            report_id,
            format_datetime(sent),
            content,
        )
        queue_id = f"tlsrpt.{day}.{_safe(domain)}.{_safe(str(to))}"[:190]
        envelope = Envelope(queue_id, sender, (Recipient(to, frozenset({"NEVER"})),))
        replies = await self.take(envelope, Message.of(data))
        _log.info("TLS report: {to}: {reply}", to=to, reply=replies[to])
        return not replies[to].transient


class ReportReader:
    """Keeps the reports that come by mail to `addresses`."""

    def __init__(self, addresses: tuple[str, ...], work: Work, clock: Any) -> None:
        self._addresses = frozenset(one.lower() for one in addresses)
        self._work = work
        self._clock = clock

    def is_for_us(self, envelope: Envelope) -> bool:
        """Whether a recipient is one of the addresses for reports."""
        return any(str(one.address).lower() in self._addresses for one in envelope.recipients)

    async def read(self, envelope: Envelope, message: Message) -> None:
        """Keep the report in a message; it is delivered as any other, whatever comes of this."""
        try:
            if message.size > MAX_MAIL:
                raise BadReport("it is too large")
            data = await self._work.files(message.read)
            received = await self._work.compute(tls_report.read, data)
            await self._work.transaction(keep, received, self._clock.seconds())
        except BadReport as error:
            _log.info("{id}: no TLS report: {why}", id=envelope.id, why=error)
        except Exception:
            _log.failure("{id}: the TLS report was not kept", id=envelope.id)


def _guarded(function: Callable[[], Awaitable[None]]) -> Callable[[], Deferred[None]]:
    async def run() -> None:
        try:
            await function()
        except Exception:
            _log.failure("TLS reports: what was to be done is tried again later")

    return lambda: Deferred.fromCoroutine(run())


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def _safe(text: str) -> str:
    return "".join(one if one.isascii() and (one.isalnum() or one in ".-") else "_" for one in text)


# The tables. Blocking.


def add(db: Connection, counted: dict[tuple[str, Outcome], int]) -> None:
    """Add counts to those that are there."""
    for (day, outcome), sessions in counted.items():
        values = {
            "day": day,
            "domain": outcome.domain,
            "policy": outcome.policy,
            "strings": "\n".join(outcome.strings),
            "patterns": "\n".join(outcome.mx_patterns),
            "exchanger": outcome.exchanger,
            "address": outcome.address,
            "result": outcome.result,
            "reason": outcome.reason,
        }
        same = [tls_results.c[key] == value for key, value in values.items()]
        added = db.execute(update(tls_results).where(*same).values(sessions=_r.sessions + sessions))
        if not added.rowcount:
            db.execute(insert(tls_results).values(sessions=sessions, **values))


def unsent(db: Connection, today: str) -> list[tuple[str, str]]:
    """Days before `today` and domains that there are counts of."""
    found = db.execute(select(_r.day, _r.domain).where(_r.day < today).distinct().order_by(_r.day, _r.domain))
    return [(day, domain) for day, domain in found]


def counts_of(db: Connection, day: str, domain: str) -> list[Count]:
    """A domain's counts of a day."""
    where = (_r.day == day) & (_r.domain == domain)
    return [
        Count(
            row.policy,
            tuple(filter(None, row.strings.split("\n"))),
            tuple(filter(None, row.patterns.split("\n"))),
            row.exchanger,
            row.address,
            row.result,
            row.reason,
            row.sessions,
        )
        for row in db.execute(select(tls_results).where(where).order_by(_r.id))
    ]


def forget(db: Connection, day: str, domain: str) -> None:
    """Remove a domain's counts of a day."""
    db.execute(delete(tls_results).where(_r.day == day, _r.domain == domain))


def keep(db: Connection, received: Received, now: float) -> bool:
    """Keep a report; False where it is there already."""
    report_id = f"{received.organization} {received.id}"
    if db.execute(select(tls_reports.c.id).where(tls_reports.c.report_id == report_id)).first():
        return False
    db.execute(
        insert(tls_reports).values(
            received_at=now,
            organization=received.organization,
            report_id=report_id,
            begins=received.begins,
            ends=received.ends,
            domains=" ".join(received.domains),
            good=received.good,
            bad=received.bad,
            content=tls_report.compress(received.content),
        )
    )
    return True


def listed(db: Connection, limit: int) -> list[dict[str, Any]]:
    """The reports received, newest first."""
    c = tls_reports.c
    columns = (c.id, c.received_at, c.organization, c.begins, c.ends, c.domains, c.good, c.bad)
    return [dict(row._mapping) for row in db.execute(select(*columns).order_by(c.id.desc()).limit(limit))]


def shown(db: Connection, number: int) -> bytes | None:
    """The JSON of one report, compressed; None: there is none of this number."""
    content: bytes | None = db.scalar(select(tls_reports.c.content).where(tls_reports.c.id == number))
    return content
