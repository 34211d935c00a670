"""DMARC: what a domain wants done with mail that it cannot answer for (RFC 9989, which replaces RFC 7489).

Theory of operation. The organization that a domain belongs to is found by walking up the DNS (RFC 9989
section 4.10), not by a list of public suffixes that is out of date on the day it is shipped: at most eight
questions, which the resolver's cache answers for most mail. Records written for RFC 7489 mean the same here,
save for pct=, which is gone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailstack.mail.dkim import tags
from mailstack.mail.lookups import LookupFailed, Lookups

MOST_LABELS = 8  # asked about: a longer name is first asked about whole, then from the seventh label on
POLICIES = ("none", "quarantine", "reject")
_MAILTO = re.compile(r"(?i)(?:^|,)[ \t]*(?:mailto:[^,@\s]+@[^,\s]|https?://)")


@dataclass(frozen=True, slots=True)
class Record:
    """A DMARC policy record (RFC 9989 section 4.7), and the domain it is for."""

    domain: str
    policy: str = "none"
    subdomains: str = "none"
    nonexistent: str = "none"
    strict_dkim: bool = False
    strict_spf: bool = False
    suffix: str = "u"  # psd=: y, n, u
    testing: bool = False  # t=y: one step milder
    usable: bool = True  # False: it says nothing about mail, but the domain has it

    @classmethod
    def parse(cls, domain: str, text: bytes) -> Record | None:
        """Read a TXT record; None where it is none of DMARC."""
        if not text[:8].upper().startswith(b"V") or len(text) > tags.MOST_OCTETS:
            return None
        found = _tags(text)
        if next(iter(found), "") != "v" or found["v"] != "DMARC1":
            return None
        given = [found.get(name, "").lower() for name in ("p", "sp", "np")]
        if any(one not in ("", *POLICIES) for one in given):
            if not _MAILTO.search(found.get("rua", "")):
                return cls(domain, suffix=found.get("psd", "u").lower(), usable=False)
            given = []  # RFC 9989 section 4.10.1: as if it said p=none
        policy, subdomains, nonexistent = [*given, "", "", ""][:3]
        return cls(
            domain,
            policy or "none",
            subdomains or policy or "none",
            nonexistent or subdomains or policy or "none",
            found.get("adkim", "r").lower() == "s",
            found.get("aspf", "r").lower() == "s",
            found.get("psd", "u").lower(),
            found.get("t", "n").lower() == "y",
        )


@dataclass(frozen=True, slots=True)
class Dmarc:
    """The verdict on one author domain."""

    result: str  # none, pass, fail, temperror, permerror
    domain: str  # of the author
    policy: str = "none"  # what the domain wants done: none, quarantine, reject
    reason: str = ""
    record: str = ""  # the domain whose record it was


@dataclass(frozen=True, slots=True)
class Identities:
    """The domains that a message proves to come from, in A-labels."""

    spf: str | None = None  # of the reverse-path, or of HELO where that is null, where SPF says pass
    dkim: Sequence[str] = ()  # d= of each signature that verifies
    unsure: bool = False  # one of the checks had no answer from the DNS


async def check(lookups: Lookups, author: str, identities: Identities) -> Dmarc:
    """The verdict for mail from the domain `author` (in A-labels)."""
    try:
        walked = await walk(lookups, author)
        found = _applicable(author, walked)
        if found is None or not found.usable:
            return Dmarc("none", author)
        if await _aligned(lookups, author, _organization(author, walked), found, identities):
            return Dmarc("pass", author, await _wanted(lookups, author, found), "", found.domain)
        wanted = await _wanted(lookups, author, found)
    except LookupFailed as error:
        return Dmarc("temperror", author, reason=str(error))
    if identities.unsure:
        return Dmarc("temperror", author, wanted, "SPF or DKIM had no answer", found.domain)
    return Dmarc("fail", author, wanted, "", found.domain)


async def walk(lookups: Lookups, domain: str) -> list[Record]:
    """The records found from `domain` upwards (RFC 9989 section 4.10); raise LookupFailed."""
    labels = domain.split(".")
    found = []
    for at in [0, *range(max(1, len(labels) - MOST_LABELS + 1), len(labels))]:
        name = ".".join(labels[at:])
        texts = await lookups.txt(f"_dmarc.{name}")
        records = [record for text in texts if (record := Record.parse(name, text))]
        if len(records) == 1:
            found += records
            if records[0].suffix in ("y", "n"):
                break
    return found


def _organization(domain: str, walked: Sequence[Record]) -> str:
    """The Organizational Domain (RFC 9989 section 4.10.2)."""
    for record in walked:
        if record.suffix == "n":
            return record.domain
        if record.suffix == "y" and record.domain != domain:
            return _below(record.domain, domain)
    return walked[-1].domain if walked else domain


def _below(parent: str, domain: str) -> str:
    """The domain one label below `parent` on the way down to `domain`."""
    label = domain.removesuffix(f".{parent}").rpartition(".")[2]
    return f"{label}.{parent}"


def _applicable(author: str, walked: Sequence[Record]) -> Record | None:
    """The author's own record, else its organization's, else the public suffix's (section 4.10.1)."""
    by_domain = {record.domain: record for record in walked}
    organization = by_domain.get(author) or by_domain.get(_organization(author, walked))
    return organization or next((record for record in walked if record.suffix == "y"), None)


async def _wanted(lookups: Lookups, author: str, record: Record) -> str:
    """What is to be done with a message that fails."""
    policy = record.policy
    if record.domain != author:
        policy = record.subdomains
        if record.nonexistent != policy and not await lookups.exists(author):
            policy = record.nonexistent
    if record.testing and policy != "none":  # RFC 9989 section 4.7, t=
        policy = POLICIES[POLICIES.index(policy) - 1]
    return policy


async def _aligned(
    lookups: Lookups, author: str, organization: str, record: Record, identities: Identities
) -> bool:
    if identities.spf and await _same(lookups, author, organization, identities.spf, record.strict_spf):
        return True
    for domain in dict.fromkeys(identities.dkim):
        if await _same(lookups, author, organization, domain, record.strict_dkim):
            return True
    return False


async def _same(lookups: Lookups, author: str, organization: str, domain: str, strict: bool) -> bool:
    """Whether `domain` is in alignment (RFC 9989 section 4.4)."""
    if domain == author:
        return True
    if strict or not f".{domain}".endswith(f".{organization}"):
        return False
    return _organization(domain, await walk(lookups, domain)) == organization


def _tags(text: bytes) -> dict[str, str]:
    """The tags; one that is broken is left out (RFC 9989 section 4.8), and of two the first holds."""
    found: dict[str, str] = {}
    for part in text.decode("ascii", "replace").split(";"):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            found.setdefault(name.strip().lower(), value.strip())
    return found
