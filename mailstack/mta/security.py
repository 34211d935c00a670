"""How a transfer is protected: what TLS must prove there, and who says so.

Theory of operation. For each exchanger one of these holds, the first that applies: the operator's route asks
for a proven name; DNSSEC vouches for TLSA records of the exchanger (RFC 7672); the domain's MTA-STS policy
asks for verified TLS (RFC 8461); else TLS is used where it is offered, with whoever answers (RFC 7435). DANE
is never overruled by MTA-STS (RFC 8461 section 2). What was decided, and how it went, is kept with the
attempt and counted for the domain's TLS report (RFC 8460).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from dns.rdatatype import RdataType

from mailstack.mail.reply import Reply
from mailstack.mta import dane
from mailstack.mta.dane import Tlsa
from mailstack.mta.exchangers import Target
from mailstack.mta.result import NextExchangerError, Result
from mailstack.mta.settings import MtaConfig
from mailstack.mta.sts import StsPolicy
from mailstack.net.client_tls import Shown
from mailstack.net.resolver import DnsError, NoSuchDomain, TemporaryDnsError


class Level(Enum):
    """What is asked of TLS."""

    NONE = "none"  # in clear
    MAY = "may"  # where it works, with whoever answers
    ENCRYPT = "encrypt"  # in TLS only, with whoever answers
    VERIFY = "verify"  # in TLS only, with a server that proves who it is


@dataclass(frozen=True, slots=True)
class Security:
    """What one exchanger must show. Equal ones may share a connection."""

    level: Level
    by: str = ""  # "DANE", "MTA-STS", "route"
    names: tuple[str, ...] = ()  # the server may go by any of these
    tlsa: tuple[Tlsa, ...] = ()
    implicit: bool = False  # TLS from the first octet
    testing: bool = False  # MTA-STS: what would fail is only reported
    user: str | None = None  # to log in as
    server_name: str = ""  # for SNI, where it is not the exchanger's (RFC 7672 section 8.1)

    def problem(self, shown: Shown) -> str | None:
        """Why what the server showed is not enough; None: it is."""
        if self.level is not Level.VERIFY and not self.testing:
            return None
        if self.tlsa:
            return dane.problem(self.tlsa, shown, self.names)
        if shown.problem is not None:
            return shown.problem
        if not any(shown.is_for(name) for name in self.names):
            return f"the certificate is not for {' or '.join(self.names)}"
        return None

    def words(self, shown: Shown) -> str:
        """For the log: what vouched for a server that has shown enough."""
        if self.level is Level.VERIFY:
            how = dane.which(self.tlsa, shown) if self.tlsa else self.by
            return f"verified by {how}"
        return f"unverified, {self.by}" if self.by else "opportunistic"


CLEAR = Security(Level.NONE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How TLS went with one exchanger, for the report to the domain (RFC 8460 section 4.3)."""

    domain: str
    policy: str  # "tlsa", "sts" or "no-policy-found"
    strings: tuple[str, ...]  # the policy
    mx_patterns: tuple[str, ...]
    exchanger: str
    address: str
    result: str  # "" went well, else a result type of RFC 8460 section 4.3
    reason: str = ""


class Policies(Protocol):
    """What is asked of `sts_policies.StsPolicies`."""

    async def policy(self, domain: str) -> StsPolicy | None: ...


class Lookups(Protocol):
    """What is asked of the resolver."""

    async def is_secure(self, name: str, kind: RdataType) -> bool: ...

    async def expanded(self, name: str, kind: RdataType) -> tuple[str, bool]: ...

    async def records(self, name: str, kind: RdataType) -> list[Any]: ...


@dataclass(slots=True)
class Plan:
    """How one hop is protected, as far as all its exchangers share it."""

    hop: str
    sts: StsPolicy | None = None
    results: list[Outcome] = field(default_factory=list)

    def outcome(self, target: Target, security: Security, result: str, reason: str = "") -> Outcome:
        """For the report."""
        policy, strings = "no-policy-found", tuple[str, ...]()
        patterns = tuple[str, ...]()
        if security.by == "DANE":
            policy = "tlsa"
            strings = tuple(
                f"{one.usage} {one.selector} {one.matching} {one.data.hex()}"[:300] for one in security.tlsa
            )
        elif self.sts is not None:
            policy, patterns = "sts", self.sts.mx
            strings = ("version: STSv1", f"mode: {self.sts.mode}", *(f"mx: {one}" for one in patterns))
            strings += (f"max_age: {int(self.sts.max_age)}",)
        return Outcome(self.hop, policy, strings, patterns, target.name, target.address, result, reason[:300])


class Protection:
    """Decides. `sts` is None where MTA-STS is not used, `resolver` where there is no DNSSEC."""

    def __init__(
        self,
        config: MtaConfig,
        resolver: Lookups | None = None,
        sts: Policies | None = None,
        report: Callable[[Outcome], None] | None = None,
    ) -> None:
        self._config = config
        self._resolver = resolver
        self._sts = sts
        self._report = report

    async def plan(self, hop: str) -> Plan:
        """What holds for a hop."""
        if self._sts is None or not self._config.mta_sts or "://" in hop or hop.startswith("["):
            return Plan(hop)
        return Plan(hop, await self._sts.policy(hop))

    async def security(self, plan: Plan, target: Target) -> Security:
        """What holds for one of its exchangers; raise NextExchangerError: mail may not go there now."""
        if target.route is not None and target.route.verified:
            route = target.route
            return Security(
                Level.VERIFY, "route", (target.name,), implicit=route.scheme == "smtps", user=route.user
            )
        if not self._config.starttls:
            return CLEAR
        if self._config.dane and self._resolver is not None:
            by_dane = await self._dane(self._resolver, plan, target)
            if by_dane is not None:
                return by_dane
        return self._by_sts(plan, target)

    def _by_sts(self, plan: Plan, target: Target) -> Security:
        sts = plan.sts
        if sts is None or sts.mode == "none":
            return Security(Level.MAY)
        names = (target.name,)
        testing = sts.mode == "testing"
        if not sts.allows(target.name):
            security = Security(Level.MAY if testing else Level.VERIFY, "MTA-STS", names)
            reason = f"{target.name} is not among the mx of the domain's MTA-STS policy"
            self.went(plan, target, security, "validation-failure", reason)
            if not testing:
                raise NextExchangerError(Result(Reply(451, "4.7.5", reason), str(target)), True)
            return security
        if testing:
            return Security(Level.MAY, "MTA-STS in testing", names, testing=True)
        return Security(Level.VERIFY, "MTA-STS", names)

    async def _dane(self, resolver: Lookups, plan: Plan, target: Target) -> Security | None:
        """DANE's word; None where DNSSEC has nothing to say (RFC 7672 section 2.2)."""
        if target.name.startswith("[") or (target.name[:1].isdigit() and target.name == target.address):
            return None
        try:
            if not target.secure:
                return None
            base, records = await _tlsa(resolver, target)
            if not records:
                return None
        except TemporaryDnsError as error:  # RFC 7672 section 2.1.2: an attacker may be behind it
            self.went(plan, target, Security(Level.VERIFY, "DANE"), "dane-required", str(error))
            raise NextExchangerError(
                Result(Reply(451, "4.7.5", f"DANE: {error}"), str(target)), True
            ) from error
        except DnsError:
            return None
        usable = dane.usable(records)
        if not usable:  # RFC 7672 section 2.2: encrypted all the same, but nobody can be verified
            return Security(Level.ENCRYPT, "DANE, no usable TLSA record")
        names = (base,) if "://" in plan.hop else tuple(dict.fromkeys((base, plan.hop)))
        return Security(Level.VERIFY, "DANE", names, usable, server_name=base)

    def went(
        self, plan: Plan, target: Target, security: Security, result: str = "", reason: str = ""
    ) -> None:
        """Count how TLS went with an exchanger; `result` "" is well."""
        if self._report is not None and "://" not in plan.hop and not plan.hop.startswith("["):
            self._report(plan.outcome(target, security, result, reason))


async def _tlsa(resolver: Lookups, target: Target) -> tuple[str, tuple[Tlsa, ...]]:
    """The TLSA records that DNSSEC vouches for, and the name they are at; raise TemporaryDnsError.

    An exchanger that is an alias has them at the name it stands for, or at its own (RFC 7672 section 2.2.2).
    """
    kind = RdataType.AAAA if ":" in target.address else RdataType.A
    final, secure = await resolver.expanded(target.name, kind)
    if secure:
        bases = [final, target.name]
    elif final != target.name and await resolver.is_secure(target.name, RdataType.CNAME):
        bases = [target.name]  # signed, but stands for a name that is not
    else:
        bases = []
    for base in dict.fromkeys(bases):
        place = f"_{target.port}._tcp.{base}"
        try:
            records = dane.read(await resolver.records(place, RdataType.TLSA))
        except NoSuchDomain:
            continue
        if records and await resolver.is_secure(place, RdataType.TLSA):
            return base, records
    return target.name, ()
