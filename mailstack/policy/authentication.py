"""Where mail really comes from: SPF, DKIM, ARC and DMARC, said in an Authentication-Results field.

Theory of operation. When a message has come whole, its SPF, its signatures and its author's DMARC policy are
looked up at once, each for a bounded time; hashing and signatures go to a thread. What was found goes in
front of the message (RFC 8601), and fields that claim to be ours, but came with the message, are taken out of
it. Nothing is refused unless the operator says `enforce`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults

from mailstack.directory.names import domain_key
from mailstack.mail import dmarc, spf
from mailstack.mail.address import BadAddress, parse_domain
from mailstack.mail.dmarc import Dmarc, Identities
from mailstack.mail.fields import Group, iterate_fields, parse_addresses
from mailstack.mail.lookups import LookupFailed
from mailstack.mail.reply import Refused, Reply
from mailstack.mail.results import FIELD, Result, field_body, without_claims, written
from mailstack.mail.spf import Client, Spf
from mailstack.net.checks import Changes, Connection, Incoming, Transaction, Verdict
from mailstack.net.lookups import DnsLookups
from mailstack.net.peer import Network, ip_address
from mailstack.policy.check import Check, Surroundings
from mailstack.signing.verification import Reading, Verified, read

T = TypeVar("T")

SECONDS = 20.0  # for SPF, and for DMARC, whatever they ask (RFC 7208 section 4.6.4)
MOST_AUTHORS = 4  # domains in From that are looked at
_MOST_FROM = 64 * 1024  # octets of a From field
_MANY = Dmarc("permerror", "", "reject", "not one From field with an address")
_SIGNED = (b"dkim-signature", b"arc-seal")


@dataclass(frozen=True, slots=True)
class AuthenticationConfig:
    """[policy.authentication] of the configuration file."""

    enforce: bool = False  # do what the author's domain asks for: reject is 550, quarantine is Junk
    trusted_networks: tuple[Network, ...] = (  # whose mail is not looked at: our own hosts
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )
    trusted_sealers: tuple[str, ...] = ()  # domains whose ARC seals excuse a failure of DMARC, with enforce


@dataclass(frozen=True, slots=True)
class _Found:
    """All verdicts on one message."""

    spf: tuple[tuple[str, Spf], ...]  # ("smtp.mailfrom", ...), ("smtp.helo", ...)
    verified: Verified
    dmarc: Dmarc
    excused: bool = False  # by those who passed it on, whom the operator trusts


class Authentication(Check):
    """Verifies who sends and who wrote, and says so."""

    Settings: ClassVar[type[Any] | None] = AuthenticationConfig
    services: ClassVar[tuple[str, ...]] = ("relay",)  # our users prove themselves by logging in

    def __init__(self, settings: AuthenticationConfig, surroundings: Surroundings) -> None:
        super().__init__(settings, surroundings)
        self._lookups = DnsLookups(surroundings.resolver)
        self._sealers = frozenset(domain_key(domain) for domain in settings.trusted_sealers)

    def concerns(self, connection: Connection) -> bool:
        """Not our own hosts; nor who has no IP address."""
        address = connection.peer.address
        return ip_address(address) is not None and not connection.peer.within(self.settings.trusted_networks)

    async def message(self, now: Transaction, incoming: Incoming) -> Verdict:
        """Verify, and say so in a field; with `enforce`, refuse."""
        found = await self._find(now, incoming)
        results = self._results(now, found)
        note = " ".join(written(results).split())
        wanted = self._wanted(found)
        if wanted is not None:
            raise Refused(wanted, note)
        junk = self.settings.enforce and self._disposition(found) == "quarantine"
        hostname = self.surroundings.hostname
        header = without_claims(incoming.header, hostname)
        changes = Changes(header=header) if header is not incoming.header else None
        return Verdict(((FIELD, field_body(hostname, results)),), junk=junk, changes=changes, note=note)

    async def _find(self, now: Transaction, incoming: Incoming) -> _Found:
        authors = author_domains(incoming.header)
        parts: list[Coroutine[Any, Any, Any]] = [
            self._spf(now),
            self._verified(incoming),
            *map(self._warm, authors or ()),
        ]
        found: list[Any] = await gatherResults([_begun(part) for part in parts], consumeErrors=True)
        senders, (verified, reading) = found[:2]
        verdict = await self._dmarc(authors, senders, verified)
        excused = verified.chain == "pass" and self._excuses(reading)
        return _Found(tuple(senders), verified, verdict, excused)

    # SPF.

    async def _spf(self, now: Transaction) -> list[tuple[str, Spf]]:
        """Of the reverse-path, and of the name that the client gives itself (RFC 7208 sections 2.3, 2.4)."""
        helo = domain_key((now.helo or "").rstrip("."))
        client = Client(now.address, helo)
        asked = [] if "." not in helo or helo.startswith("[") else [("smtp.helo", "postmaster", helo)]
        path = now.reverse_path
        if path is not None:
            asked.insert(0, ("smtp.mailfrom", path.local_part, domain_key(path.domain)))
        elif not asked:
            return [("smtp.helo", Spf("none", helo, "no domain name"))]
        checks = [self._one_spf(client, sender, domain) for _, sender, domain in asked]
        found = await gatherResults([Deferred.fromCoroutine(one) for one in checks])
        return [(what, one) for (what, _, _), one in zip(asked, found, strict=True)]

    async def _one_spf(self, client: Client, sender: str, domain: str) -> Spf:
        late = Spf("temperror", domain, "the DNS takes too long")
        return await self._bounded(lambda: spf.check(self._lookups, client, sender, domain), late)

    # DKIM and ARC.

    async def _verified(self, incoming: Incoming) -> tuple[Verified, Reading | None]:
        if not any(name in _SIGNED for name, _ in iterate_fields(incoming.header)):
            return Verified((), "none"), None
        seconds = self.surroundings.reactor.seconds()
        files = self.surroundings.work.files
        reading: Reading = await files(_read, incoming, seconds)
        records = await self._lookups.keys(reading.names)
        return await files(reading.conclude, records), reading

    def _excuses(self, reading: Reading | None) -> bool:
        """Whether all who sealed are trusted, and the first saw DMARC pass (RFC 8617 section 7.2.1)."""
        if reading is None or not self._sealers.issuperset(reading.chain.sealers):
            return False
        return reading.chain.first_says("dmarc", "pass")

    # DMARC.

    async def _warm(self, author: str) -> None:
        """Have the author's records in the cache by the time that they are needed."""
        try:
            await self._bounded(lambda: dmarc.walk(self._lookups, author), None)
        except LookupFailed:
            pass

    async def _dmarc(
        self, authors: list[str] | None, senders: list[tuple[str, Spf]], verified: Verified
    ) -> Dmarc:
        """The verdict; of several authors the worst (RFC 9989 section 5.3.1)."""
        if not authors:
            return _MANY
        sender = senders[0][1]
        unsure = sender.result == "temperror" or any(one.result == "temperror" for one in verified.signatures)
        passed = sender.domain if sender.result == "pass" else None
        identities = Identities(passed, verified.domains, unsure)
        found = [await self._one_dmarc(author, identities) for author in authors]
        return max(found, key=lambda one: (_BADNESS[one.result], dmarc.POLICIES.index(one.policy)))

    async def _one_dmarc(self, author: str, identities: Identities) -> Dmarc:
        late = Dmarc("temperror", author, reason="the DNS takes too long")
        return await self._bounded(lambda: dmarc.check(self._lookups, author, identities), late)

    async def _bounded(self, begin: Callable[[], Any], late: T) -> T:
        asked: Deferred[T] = Deferred.fromCoroutine(begin())
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            asked.cancel()

        call = self.surroundings.reactor.callLater(SECONDS, expire)
        try:
            return await asked
        except CancelledError:
            if expired:
                return late
            raise
        finally:
            if call.active():
                call.cancel()

    # What becomes of it.

    def _disposition(self, found: _Found) -> str:
        """What the author's domain wants done with the message."""
        failed = found.dmarc.result in ("fail", "permerror") and not found.excused
        return found.dmarc.policy if failed else "none"

    def _wanted(self, found: _Found) -> Reply | None:
        """The refusal, where there is to be one (RFC 7372 section 3.4)."""
        verdict = found.dmarc
        if not self.settings.enforce:
            return None
        if verdict is _MANY:
            return Reply(550, "5.7.1", "Not taken: a message must have one From field, with an address")
        if self._disposition(found) == "reject":
            return Reply(
                550, "5.7.26", f"Not taken: DMARC of {verdict.record} wants {verdict.domain} to be proved"
            )
        if verdict.result == "temperror" and verdict.policy != "none":
            return Reply(451, "4.7.26", f"Cannot look up now whether {verdict.domain} is proved; try later")
        return None

    def _results(self, now: Transaction, found: _Found) -> list[Result]:
        senders = []
        for what, one in found.spf:
            value = str(now.reverse_path) if what == "smtp.mailfrom" else one.domain
            reason = one.reason if one.result not in ("pass", "none") else ""
            senders.append(Result("spf", one.result, ((what, value),), reason))
        verdict = found.dmarc
        properties = [("header.from", verdict.domain)]
        if verdict.record:
            properties.append(("policy.dmarc", verdict.policy))
        said = Result("dmarc", verdict.result, tuple(properties), verdict.reason)
        *signatures, chain = found.verified.results()
        if found.excused and verdict.result == "fail":
            chain = Result("arc", chain.result, reason="its sealers are trusted here")
        return [*senders, *signatures, said, chain]


_BADNESS = {"none": 0, "pass": 1, "temperror": 2, "fail": 3, "permerror": 4}


def author_domains(header: bytes) -> list[str] | None:
    """The domains of the one From field, in A-labels; None where there is not one, or it is broken."""
    fields = [raw for name, raw in iterate_fields(header) if name == b"from"]
    if len(fields) != 1 or len(fields[0]) > _MOST_FROM:
        return None
    found = []
    for one in parse_addresses(fields[0].partition(b":")[2]):
        for mailbox in one.members if isinstance(one, Group) else (one,):
            found.append((mailbox.domain or "").rstrip("."))
    try:
        domains = list(dict.fromkeys(domain_key(parse_domain(domain)) for domain in found))
    except BadAddress:
        return None
    return domains if 0 < len(domains) <= MOST_AUTHORS else None


def _begun(part: Coroutine[Any, Any, T]) -> Deferred[T]:
    return Deferred.fromCoroutine(part)


def _read(incoming: Incoming, now: float) -> Reading:
    return read(incoming.header, incoming.content.chunks(), now)
