"""Evaluating SPF: check_host() of RFC 7208 section 4.

Theory of operation. One `_Evaluation` counts for the whole of a check what section 4.6.4 bounds: the terms
that ask the DNS, and the look-ups that find nothing. What ends a check early is raised, and becomes its
result. Explanations (exp=) are read for their grammar and not fetched: we quote nobody's text.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from mailstack.mail.lookups import LookupFailed, Lookups
from mailstack.mail.spf import record
from mailstack.mail.spf.macros import dotted, expand, needs

MOST_TERMS = 10  # that ask the DNS
MOST_VOID = 2  # look-ups that find nothing
MOST_NAMES = 10  # exchangers of one "mx", names of one "ptr"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Spf:
    """The result, in the words of RFC 7208 section 2.6, for one identity."""

    result: str  # none, neutral, pass, fail, softfail, temperror, permerror
    domain: str  # that was asked about
    reason: str = ""  # the mechanism that matched, or what is wrong


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends: an IP address and the name it gives itself."""

    address: str
    helo: str

    @property
    def ip(self) -> _Address:
        """The address; IPv4 where it is IPv4 in IPv6 (section 5)."""
        ip = ipaddress.ip_address(self.address.partition("%")[0])
        return getattr(ip, "ipv4_mapped", None) or ip


class _Ended(Exception):
    """The check is over: a result and its reason."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


async def check(lookups: Lookups, client: Client, sender: str, domain: str) -> Spf:
    """Whether `client` may use `domain` (in A-labels) for a sender of that local-part (section 2.4)."""
    evaluation = _Evaluation(lookups, client, sender or "postmaster", domain)
    try:
        result, reason = await evaluation.check_host(domain)
    except _Ended as ended:
        result, reason = ended.result, str(ended)
    return Spf(result, domain, reason)


class _Evaluation:
    """One check."""

    def __init__(self, lookups: Lookups, client: Client, local_part: str, domain: str) -> None:
        self._lookups = lookups
        self._ip = client.ip
        self._terms = 0
        self._void = 0
        self._values = {
            "s": f"{local_part}@{domain}",
            "l": local_part,
            "o": domain,
            "i": dotted(self._ip),
            "v": "in-addr" if self._ip.version == 4 else "ip6",
            "h": client.helo,
        }

    async def check_host(self, domain: str) -> tuple[str, str]:
        """The result for one domain and why; raise _Ended."""
        if not _is_name(domain) or "." not in domain:
            return "none", "no domain name"  # section 4.3
        found = await self._record(domain)
        if found is None:
            return "none", f"{domain} has no record"
        for mechanism in found.mechanisms:
            if await self._matches(mechanism, domain):
                return mechanism.result, _shown(mechanism)
        if found.redirect is None:
            return "neutral", "nothing matches"  # section 4.7
        self._count_term()
        result, reason = await self.check_host(await self._expanded(found.redirect, domain))
        if result == "none":
            raise _Ended("permerror", f"redirect: {reason}")  # section 6.1
        return result, reason

    async def _record(self, domain: str) -> record.Record | None:
        try:
            text = record.select(await self._lookups.txt(domain))
            return None if text is None else record.parse(text)
        except LookupFailed as error:
            raise _Ended("temperror", str(error)) from error
        except record.BadRecord as error:
            raise _Ended("permerror", f"{domain}: {error}") from error

    async def _matches(self, mechanism: record.Mechanism, domain: str) -> bool:
        match mechanism.kind:
            case "all":
                return True
            case "ip4" | "ip6":
                network = mechanism.network
                return network is not None and self._ip.version == network.version and self._ip in network
        self._count_term()
        target = await self._expanded(mechanism.spec, domain) if mechanism.spec else domain
        if mechanism.kind == "include":
            return await self._includes(target)
        if not _is_name(target):
            return False
        try:
            return await self._asks(mechanism, target)
        except LookupFailed as error:
            raise _Ended("temperror", str(error)) from error

    async def _includes(self, target: str) -> bool:
        result, reason = await self.check_host(target)
        if result == "none":
            raise _Ended("permerror", f"include: {reason}")  # section 5.2
        return result == "pass"

    async def _asks(self, mechanism: record.Mechanism, target: str) -> bool:
        match mechanism.kind:
            case "a":
                return self._within(await self._addresses(target), mechanism)
            case "exists":
                return bool(self._counted(await self._lookups.addresses(target, False)))
            case "ptr":
                return await self._is_named(target)
        exchangers = self._counted(await self._lookups.exchangers(target))
        if len(exchangers) > MOST_NAMES:
            raise _Ended("permerror", f"{target} has too many MX records")  # section 4.6.4
        for host in exchangers:
            if _is_name(host) and self._within(await self._addresses(host), mechanism):
                return True
        return False

    async def _addresses(self, name: str) -> Sequence[str]:
        return self._counted(await self._lookups.addresses(name, self._ip.version == 6))

    def _within(self, addresses: Sequence[str], mechanism: record.Mechanism) -> bool:
        bits = mechanism.four if self._ip.version == 4 else mechanism.six
        shift = self._ip.max_prefixlen - bits
        own = int(self._ip) >> shift
        return any(int(ipaddress.ip_address(one)) >> shift == own for one in addresses)

    async def _is_named(self, target: str) -> bool:
        target = target.lower()
        names = await self._own_names()
        return any(name == target or name.endswith(f".{target}") for name in names)

    async def _own_names(self) -> list[str]:
        """Names of the client that lead back to it (section 5.5); what fails counts as none."""
        try:
            names = self._counted(await self._lookups.names(str(self._ip)))
        except LookupFailed:
            return []
        found = []
        for name in names[:MOST_NAMES]:
            try:
                addresses = await self._addresses(name)
            except LookupFailed:
                continue
            if any(ipaddress.ip_address(one) == self._ip for one in addresses):
                found.append(name.lower().rstrip("."))
        return found

    async def _expanded(self, spec: str, domain: str) -> str:
        values = {**self._values, "d": domain}
        if needs(spec, "p"):
            values["p"] = await self._best_name(domain)
        return expand(spec, values)

    async def _best_name(self, domain: str) -> str:
        """What %{p} is (section 7.3)."""
        names = await self._own_names()
        for name in names:
            if name == domain.lower():
                return name
        within = [name for name in names if name.endswith(f".{domain.lower()}")]
        return next(iter(within or names), "unknown")

    def _count_term(self) -> None:
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise _Ended("permerror", "too many DNS look-ups")

    def _counted(self, found: Sequence[str]) -> Sequence[str]:
        self._void += not found
        if self._void > MOST_VOID:
            raise _Ended("permerror", "too many DNS look-ups that find nothing")
        return found


def _is_name(text: str) -> bool:
    """Whether the DNS can be asked about it."""
    labels = text.removesuffix(".").split(".")
    return text.isascii() and len(text) <= 254 and all(0 < len(label) <= 63 for label in labels)


def _shown(mechanism: record.Mechanism) -> str:
    what = mechanism.network if mechanism.network is not None else mechanism.spec
    return f"{mechanism.kind}:{what}" if what else mechanism.kind
