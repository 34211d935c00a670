"""DNS look-ups without blocking: dnspython's resolver on our transports, with a cache and bounded
concurrency.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.inet
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.TLSA import TLSA
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, gatherResults

from mailstack.net.dns_backend import Abandoned, TwistedBackend
from mailstack.net.dns_settings import DnsConfig, split_address

# dnspython takes a TLSA record whose digest has the wrong length for no DNS at all, and the answer that it is
# in for none. Such a record only cannot be used (RFC 7671 section 10.1.1); those beside it can.
TLSA._cert_length_by_mtype = {}

__all__ = ["DnsConfig", "DnsError", "NoSuchDomain", "NullMx", "Questions", "Resolver", "TemporaryDnsError"]

CACHE_ENTRIES = 10_000
LEAST_TTL = 5.0  # seconds; a TTL of 0 would ask once for each recipient of a list
MOST_TTL = 3600.0
NEGATIVE_TTL = 30.0  # seconds that "there is none" holds; never for a failure
CONCURRENT = 100  # queries under way at most
MAX_RECORDS = 100  # of one answer that are looked at


class DnsError(Exception):
    """A look-up that gave no answer; the text says why and suits a bounce or a log."""


class NoSuchDomain(DnsError):
    """NXDOMAIN, or a text that cannot be a domain name: no use to ask again."""


class NullMx(DnsError):
    """The domain declares that it takes no mail (RFC 7505)."""


class TemporaryDnsError(DnsError):
    """SERVFAIL, a time-out, no name server: asking again later may work."""


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer, kept."""

    until: float
    records: list[Any] | None  # None: there is no such name
    secure: bool  # a name server that we believe has validated it
    name: str  # after all CNAMEs

    def existing(self) -> list[Any]:
        """The records; raise NoSuchDomain."""
        if self.records is None:
            raise NoSuchDomain(f"{self.name.rstrip('.').lower()} does not exist")
        return self.records


class Resolver:
    """Answers about MX, addresses and TXT. `reactor` is its network and its clock."""

    def __init__(self, reactor: Any, config: DnsConfig | None = None) -> None:
        config = config or DnsConfig()
        self._reactor = reactor
        self._backend = TwistedBackend(reactor)
        self._resolver = _dnspython(config)
        self._lifetime = config.lifetime
        self._slots = DeferredSemaphore(CONCURRENT)
        self._validating = frozenset(split_address(text) for text in config.validating)
        self._cache: OrderedDict[tuple[str, RdataType], _Found] = OrderedDict()

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """(preference, exchanger) pairs, lowest preference first; empty where there is no MX record.

        Raises NoSuchDomain, NullMx, TemporaryDnsError (RFC 5321 section 5.1, RFC 7505).
        """
        records = await self.records(domain, dns.rdatatype.MX)
        pairs = sorted((record.preference, _text(record.exchange)) for record in records)
        if pairs and all(exchanger == "" for _, exchanger in pairs):
            raise NullMx(f"{domain} accepts no mail")
        return [(preference, exchanger) for preference, exchanger in pairs if exchanger]

    async def addresses(self, host: str) -> list[str]:
        """IPv4 then IPv6 addresses of a host; empty where it exists without one.

        Raises NoSuchDomain, TemporaryDnsError. One family's failure is no failure where the other answered.
        """
        name = host.rstrip(".").lower()
        if dns.inet.is_address(name):
            return [name]
        if name == "localhost" or name.endswith(".localhost"):
            return ["127.0.0.1", "::1"]  # RFC 6761 section 6.3: never asked of the DNS
        looked_up = [
            Deferred.fromCoroutine(self._attempt(host, kind)) for kind in (RdataType.A, RdataType.AAAA)
        ]
        answers = await gatherResults(looked_up, consumeErrors=True)
        found = [str(record.address) for answer in answers if isinstance(answer, list) for record in answer]
        errors = [answer for answer in answers if isinstance(answer, DnsError)]
        if not found and errors:
            raise next((error for error in errors if isinstance(error, TemporaryDnsError)), errors[0])
        return found

    async def txt(self, name: str) -> list[bytes]:
        """The TXT records, each with its strings joined; empty where there are none.

        Raises NoSuchDomain, TemporaryDnsError.
        """
        records = await self.records(name, dns.rdatatype.TXT)
        return [b"".join(record.strings) for record in records]

    async def records(self, name: str, kind: RdataType) -> list[Any]:
        """The dnspython records of one type, CNAMEs followed; empty where the name has none of them.

        Raises NoSuchDomain, TemporaryDnsError.
        """
        return (await self._look_up(name, kind)).existing()

    async def is_secure(self, name: str, kind: RdataType) -> bool:
        """Whether DNSSEC has vouched for the answer, also that there is none (RFC 7672 section 2.1.1).

        Only name servers in `[dns] validating` are believed. Raises TemporaryDnsError.
        """
        return bool(self._validating) and (await self._look_up(name, kind)).secure

    async def expanded(self, name: str, kind: RdataType) -> tuple[str, bool]:
        """The name that CNAMEs lead to, and whether DNSSEC vouches for all of it (RFC 7672 section 2.2.2).

        Raises TemporaryDnsError.
        """
        found = await self._look_up(name, kind)
        return found.name, bool(self._validating) and found.secure

    async def _look_up(self, name: str, kind: RdataType) -> _Found:
        key = (name.rstrip(".").lower(), kind)
        cached = self._cache.get(key)
        if cached is not None and cached.until > self._reactor.seconds():
            return cached
        await self._slots.acquire()
        try:
            found = await _ask(self._resolver, *key, self._lifetime, self._backend, self._validating)
        finally:
            self._slots.release()
        return self._remember(key, found)

    async def _attempt(self, name: str, kind: RdataType) -> list[Any] | DnsError:
        try:
            return await self.records(name, kind)
        except DnsError as error:
            return error

    def _remember(self, key: tuple[str, RdataType], found: _Found) -> _Found:
        ttl = min(max(found.until, LEAST_TTL), MOST_TTL)
        found = replace(found, until=self._reactor.seconds() + ttl)
        self._cache[key] = found
        self._cache.move_to_end(key)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return found


class Questions:
    """Look-ups of a command, which has no reactor: in an asyncio loop, nothing remembered."""

    def __init__(self, config: DnsConfig) -> None:
        self._resolver = _dnspython(config)
        self._lifetime = config.lifetime

    async def records(self, name: str, kind: RdataType) -> list[Any]:
        """As `Resolver.records`."""
        return (await _ask(self._resolver, name, kind, self._lifetime, None)).existing()


async def _ask(
    resolver: dns.asyncresolver.Resolver,
    name: str,
    kind: RdataType,
    lifetime: float,
    backend: TwistedBackend | None,
    validating: Container[tuple[str, int]] = (),
) -> _Found:
    """Its `until` is how long it holds. Raises TemporaryDnsError."""
    absent = _Found(NEGATIVE_TTL, None, False, name)
    try:
        answer = await resolver.resolve(
            dns.name.from_text(name, idna_codec=dns.name.IDNA_2008_Practical),
            kind,
            raise_on_no_answer=False,
            lifetime=lifetime,
            search=False,
            backend=backend,
        )
    except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.IDNAException):
        return absent
    except dns.name.BadEscape:
        return absent
    except (dns.resolver.NXDOMAIN, dns.resolver.YXDOMAIN):
        return absent
    except Abandoned:
        raise CancelledError from None
    except (dns.exception.DNSException, OSError, EOFError) as error:
        raise TemporaryDnsError(f"{kind.name} look-up of {name}: {type(error).__name__}") from error
    if answer.response.flags & dns.flags.TC:  # over TCP too: what is missing may be all of it
        raise TemporaryDnsError(f"{kind.name} look-up of {name}: the answer is cut off")
    validated = bool(answer.response.flags & dns.flags.AD)
    secure = validated and (str(answer.nameserver), answer.port) in validating
    final = _text(answer.canonical_name)
    if answer.rrset is None:
        return _Found(NEGATIVE_TTL, [], secure, final)
    return _Found(float(answer.rrset.ttl), list(answer.rrset)[:MAX_RECORDS], secure, final)


def _dnspython(config: DnsConfig) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    if config.nameservers:
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver(*split_address(text)) for text in config.nameservers
        ]
    else:
        _system(resolver)
    resolver.timeout = config.timeout
    resolver.use_edns(0, 0, 1232)
    if config.validating:
        resolver.flags = dns.flags.RD | dns.flags.AD  # RFC 6840 section 5.7: tell us whether it is validated
    return resolver


def _system(resolver: dns.asyncresolver.Resolver) -> None:
    read: Callable[[str], None] = resolver.read_resolv_conf
    try:
        read("/etc/resolv.conf")
    except (OSError, dns.resolver.NoResolverConfiguration):
        resolver.nameservers = ["127.0.0.1"]  # what resolv.conf(5) says of a missing file


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if len(name) > 1 else ""
