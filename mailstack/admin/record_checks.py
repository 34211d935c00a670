"""What the DNS really says about our records, each judged by what it is for, not by its letters.

Theory of operation. A record may be right in other words than ours: another MX beside this host, an SPF
policy that lists the address, a DMARC policy that refuses. So each kind has a judge of its own, which answers
with a state and what was found: SPF is evaluated for this host's addresses, a DKIM key is compared as a key.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import dns.reversename
from dns.rdatatype import RdataType

from mailstack.admin.records import Record
from mailstack.mail import dmarc, spf
from mailstack.mail.dkim import tags
from mailstack.mail.lookups import LookupFailed
from mailstack.net.dns_settings import DnsConfig
from mailstack.net.lookups import DnsLookups
from mailstack.net.resolver import DnsError, NoSuchDomain, Questions

OK, MISSING, DIFFERS, UNKNOWN = "ok", "missing", "differs", "unknown"
MOST_SHOWN = 200  # characters of what was found


@dataclass(frozen=True, slots=True)
class Finding:
    """A record, and how it stands: ok, missing, differs, or unknown where the DNS gave no answer."""

    record: Record
    state: str
    found: str


def examine(config: DnsConfig, domain: str, hostname: str, records: Sequence[Record]) -> list[Finding]:
    """Look all `records` up, and the names of the host's addresses. Blocking, for as long as one look-up."""
    return asyncio.run(_Examination(config, domain, hostname).all(records))


class _Examination:
    """One domain's."""

    def __init__(self, config: DnsConfig, domain: str, hostname: str) -> None:
        self._questions = Questions(config)
        self._lookups = DnsLookups(self._questions)
        self._domain = domain
        self._hostname = hostname

    async def all(self, records: Sequence[Record]) -> list[Finding]:
        self._addresses = asyncio.ensure_future(self._look_up_host())
        found = await asyncio.gather(*(self._one(record) for record in records))
        return [*found, *await self._reverse()]

    async def _one(self, record: Record) -> Finding:
        try:
            state, found = await self._judge(record)(record)
        except (LookupFailed, DnsError) as error:
            state, found = UNKNOWN, str(error)
        return Finding(record, state, found[:MOST_SHOWN])

    def _judge(self, record: Record) -> Callable[[Record], Awaitable[tuple[str, str]]]:
        if record.type != "TXT":
            return {"A": self._address, "MX": self._exchangers, "SRV": self._service}[record.type]
        if record.name == self._domain:
            return self._senders
        if record.name.startswith("_dmarc."):
            return self._policy
        return self._key if "._domainkey." in record.name else self._reports

    async def _look_up_host(self) -> list[str]:
        both = [await self._lookups.addresses(self._hostname, six) for six in (False, True)]
        return [address for addresses in both for address in addresses]

    async def _address(self, record: Record) -> tuple[str, str]:
        found = await self._addresses
        if not found:
            return MISSING, ""
        inside = [one for one in found if not ipaddress.ip_address(one).is_global]
        if inside:
            return DIFFERS, f"{' '.join(inside)} cannot be reached from elsewhere"
        return OK, " ".join(found)

    async def _exchangers(self, record: Record) -> tuple[str, str]:
        found = [one.lower() for one in await self._lookups.exchangers(record.name)]
        state = OK if self._hostname in found else DIFFERS if found else MISSING
        return state, " ".join(one or "." for one in found)

    async def _senders(self, record: Record) -> tuple[str, str]:
        policies = await self._texts(record.name, r"(?i)v=spf1(?: |$)")
        if not policies:
            return MISSING, ""
        for address in await self._addresses:
            client = spf.Client(address, self._hostname)
            verdict = await spf.check(self._lookups, client, f"postmaster@{self._domain}", self._domain)
            if verdict.result != "pass":
                return DIFFERS, f"{verdict.result} for {address}: {' '.join(policies)}"
        return OK, " ".join(policies)

    async def _key(self, record: Record) -> tuple[str, str]:
        found = await self._texts(record.name, "")
        wanted = _public("".join(re.findall('"([^"]*)"', record.value)))
        state = OK if wanted in map(_public, found) else DIFFERS if found else MISSING
        return state, " ".join(found)

    async def _policy(self, record: Record) -> tuple[str, str]:
        walked = await dmarc.walk(self._lookups, self._domain)
        if not walked:
            return MISSING, ""
        first = walked[0]
        return (OK if first.usable else DIFFERS), f"p={first.policy} of {first.domain}"

    async def _reports(self, record: Record) -> tuple[str, str]:
        found = await self._texts(record.name, "v=TLSRPTv1")
        return (OK if found else MISSING), " ".join(found)

    async def _service(self, record: Record) -> tuple[str, str]:
        try:
            answers = await self._questions.records(record.name, RdataType.SRV)
        except NoSuchDomain:
            return MISSING, ""
        found = {
            f"{one.priority} {one.weight} {one.port} {one.target.to_text().lower()}": (
                one.port,
                one.target.to_text(omit_final_dot=True).lower(),
            )
            for one in answers
        }
        wanted = (int(record.value.split()[2]), self._hostname)
        return (OK if wanted in found.values() else DIFFERS if found else MISSING), ", ".join(found)

    async def _reverse(self) -> list[Finding]:
        """The PTR record of each address: many servers take no mail from one without."""
        try:
            addresses = await self._addresses
        except LookupFailed:
            return []
        return list(await asyncio.gather(*map(self._name_of, addresses)))

    async def _name_of(self, address: str) -> Finding:
        name = dns.reversename.from_address(address).to_text(omit_final_dot=True)
        why = f"the name of {address}: set by whoever gave you the address"
        record = Record(name, "PTR", f"{self._hostname}.", why, True)
        try:
            found = [one.lower() for one in await self._lookups.names(address)]
        except LookupFailed as error:
            return Finding(record, UNKNOWN, str(error)[:MOST_SHOWN])
        state = OK if self._hostname in found else DIFFERS if found else MISSING
        return Finding(record, state, " ".join(found)[:MOST_SHOWN])

    async def _texts(self, name: str, pattern: str) -> list[str]:
        """The TXT records that begin so, readable."""
        texts = [text.decode("ascii", "replace") for text in await self._lookups.txt(name)]
        return [text for text in texts if re.match(pattern, text)]


def _public(record: str) -> tuple[str, str] | None:
    """What makes the key of a DKIM record: its kind, and p= without white space."""
    try:
        found = tags.parse(record.encode())
    except tags.BadTags:
        return None
    return found.get("k", "rsa"), re.sub(r"\s", "", found.get("p", ""))
