"""MTA-STS policies of other domains: discovered by TXT, fetched by HTTPS, kept in the database (RFC 8461).

Theory of operation. A policy that was fetched holds for its max_age, whatever the DNS says afterwards: an
attacker who hides the TXT record or the policy host gains nothing. The TXT record's id only tells when to
fetch anew; where that fails, the old policy goes on holding, and the next try is RETRY seconds away. Several
messages to a domain wait for one fetch. What was found is kept in memory for FRESH seconds beside the
resolver's own cache, so that a message costs no look-up in the database.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailstack.mta import sts
from mailstack.mta.sts import BadPolicy, StsPolicy
from mailstack.mta.tables import sts_policies
from mailstack.net.https import Https, HttpsError
from mailstack.net.resolver import DnsError, Resolver
from mailstack.work import Work

_log = Logger(namespace="mailstack.transfer")

FRESH = 60.0  # seconds
RETRY = 300.0  # seconds after a fetch that failed (RFC 8461 section 3.3 asks for patience)
REFRESH = 86400.0  # seconds after which a policy that holds is fetched again (RFC 8461 section 10.2)
MOST_KNOWN = 10_000  # domains in memory

_p = sts_policies.c


@dataclass(frozen=True, slots=True)
class Fetched:
    """A policy as it lies in the database."""

    id: str
    policy: StsPolicy
    at: float  # seconds of the epoch

    def holds(self, now: float) -> bool:
        """Whether its max_age is not over."""
        return now < self.at + self.policy.max_age

    def is_old(self, now: float) -> bool:
        """Whether it should be fetched again, lest an attacker need only wait until it is over."""
        return now >= self.at + min(REFRESH, self.policy.max_age / 2)


class StsPolicies:
    """Knows which policy a domain has. `clock` counts seconds of the epoch."""

    def __init__(self, resolver: Resolver, https: Https, work: Work, clock: Any) -> None:
        self._resolver = resolver
        self._https = https
        self._work = work
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, StsPolicy | None]] = OrderedDict()
        self._failed: OrderedDict[str, float] = OrderedDict()  # not fetched before
        self._asking: dict[str, list[Deferred[StsPolicy | None]]] = {}

    async def policy(self, domain: str) -> StsPolicy | None:
        """The policy that holds for a domain now; None: it has none that we could ever fetch."""
        known = self._known.get(domain)
        if known is not None and known[0] > self._clock.seconds():
            return known[1]
        if domain in self._asking:
            answer: Deferred[StsPolicy | None] = Deferred()
            self._asking[domain].append(answer)
            return await answer
        self._asking[domain] = []
        try:
            policy = await self._look(domain)
        except BaseException:  # that nobody could look is no policy of none
            self._tell(domain, Failure())
            raise
        self._remember(self._known, domain, (self._clock.seconds() + FRESH, policy))
        self._tell(domain, policy)
        return policy

    def _tell(self, domain: str, found: StsPolicy | Failure | None) -> None:
        """Answer those who wait for the same."""
        for answer in self._asking.pop(domain):
            if not answer.called:
                answer.callback(found)

    async def _look(self, domain: str) -> StsPolicy | None:
        kept, now = await self._work.read(load, domain), self._clock.seconds()
        if kept is not None and not kept.holds(now):
            kept = None
        try:
            policy_id = sts.record_id(await self._resolver.txt(f"_mta-sts.{domain}"))
        except DnsError:
            policy_id = None
        if policy_id is not None and (kept is None or kept.id != policy_id or kept.is_old(now)):
            kept = await self._fetch(domain, policy_id) or kept
        return kept.policy if kept is not None else None

    async def _fetch(self, domain: str, policy_id: str) -> Fetched | None:
        if self._failed.get(domain, 0.0) > self._clock.seconds():
            return None
        url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
        try:
            answer = await self._https.get(url, sts.MAX_POLICY)
            if answer.status != 200:  # RFC 8461 section 3.3: a redirect is none either
                raise BadPolicy(f"HTTP status {answer.status}")
            if answer.kind != "text/plain":
                raise BadPolicy(f"the policy is {answer.kind or 'of no type'}, not text/plain")
            fetched = Fetched(policy_id, sts.read_policy(answer.body), self._clock.seconds())
        except (HttpsError, BadPolicy) as error:
            _log.warn("MTA-STS: {url}: {why}", url=url, why=error)
            self._remember(self._failed, domain, self._clock.seconds() + RETRY)
            return None
        await self._work.transaction(save, domain, fetched)
        _log.info("MTA-STS: {domain}: {mode}", domain=domain, mode=fetched.policy.mode)
        return fetched

    def _remember(self, memory: OrderedDict[str, Any], domain: str, value: Any) -> None:
        memory[domain] = value
        memory.move_to_end(domain)
        if len(memory) > MOST_KNOWN:
            memory.popitem(last=False)


def load(db: Connection, domain: str) -> Fetched | None:
    """A domain's policy, as it was fetched last."""
    row = db.execute(select(sts_policies).where(_p.domain == domain)).first()
    if row is None:
        return None
    return Fetched(row.policy_id, StsPolicy(row.mode, tuple(row.mx.split()), row.max_age), row.fetched_at)


def save(db: Connection, domain: str, fetched: Fetched) -> None:
    """Keep a policy; those that are over go."""
    over = (_p.fetched_at + _p.max_age) < fetched.at
    db.execute(delete(sts_policies).where((_p.domain == domain) | over))
    db.execute(
        insert(sts_policies).values(
            domain=domain,
            policy_id=fetched.id,
            mode=fetched.policy.mode,
            mx=" ".join(fetched.policy.mx),
            max_age=fetched.policy.max_age,
            fetched_at=fetched.at,
        )
    )
