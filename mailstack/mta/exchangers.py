"""Which hosts take a domain's mail, in which order: routes, MX, addresses (RFC 5321 section 5, RFC 7505)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from random import Random

from dns.rdatatype import RdataType

from mailstack.mail.address import Address
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.settings import MtaConfig, Route, parse_route
from mailstack.net.reach import Reach
from mailstack.net.resolver import DnsError, NoSuchDomain, NullMx, Resolver, TemporaryDnsError

MOST_SILENT = 5  # exchangers whose addresses cannot be had now; each such look-up takes its whole time
MOST_ADDRESSES = 10  # tried for one transfer; RFC 5321 section 5.1 lets a client set a limit


@dataclass(frozen=True, slots=True)
class Target:
    """One address of one exchanger."""

    name: str  # the exchanger's, for SNI, logs and bounces
    address: str
    port: int
    route: Route | None = None  # the operator's, that led here
    secure: bool = False  # DNSSEC vouches for its name (RFC 7672 section 2.2)

    @property
    def lmtp(self) -> bool:
        """Whether it speaks LMTP (RFC 2033)."""
        return self.route is not None and self.route.lmtp

    def __str__(self) -> str:
        if self.address.startswith("/"):
            return f"unix:{self.address}"
        where = self.name if self.name.startswith("[") else f"{self.name}[{self.address}]"
        return f"{where}:{self.port}"


class Exchangers:
    """Finds where to connect for a hop, which is a domain, an address literal or a route."""

    def __init__(self, resolver: Resolver, config: MtaConfig, hostname: str, random: Random) -> None:
        self._config = config
        self._by_sender = {key.lower(): route for key, route in config.sender_routes.items()}
        self._hostname = hostname.lower()
        self._resolver = resolver
        self._random = random
        self._reach = Reach(config.private_networks)
        self._own = frozenset(str(ipaddress.ip_address(text)) for text in config.own_addresses)

    def hop(self, domain: str, sender: Address | None = None) -> str:
        """What a recipient's entries are grouped by: a route, or its domain.

        The recipient's domain decides before the sender's address, that before the sender's domain, and that
        before the route of all.
        """
        routes, by_sender = self._config.routes, self._by_sender
        if domain in routes:
            return routes[domain]
        if sender is not None and by_sender:
            chosen = by_sender.get(str(sender).lower()) or by_sender.get(sender.domain)
            if chosen:
                return chosen
        return routes.get("*") or domain

    def is_certain(self, hop: str) -> bool:
        """Whether the name of the host was not learned from DNS: the operator or the address says it."""
        return "://" in hop or hop.startswith("[")

    async def find(self, hop: str) -> list[Target]:
        """Targets in the order to try, at most MOST_ADDRESSES; raise Refused: 4xx try again, 5xx bounce."""
        if "://" in hop:
            route = parse_route(hop)
            if route.path:
                return [Target("localhost", route.path, 0, route)]
            return await self._addresses([(0, route.host)], route.port, hop, route, True)
        if hop.startswith("["):
            return [self._literal(hop)]
        try:
            pairs = await self._resolver.mx(hop) or [(0, hop)]  # RFC 5321 section 5.1: the implicit MX
            secure = await self._resolver.is_secure(hop, RdataType.MX)
        except NullMx as error:
            raise _refused(556, "5.1.10", error) from error  # RFC 7505 section 4.2
        except NoSuchDomain as error:
            raise _refused(550, "5.1.2", error) from error
        except TemporaryDnsError as error:
            raise _refused(451, "4.4.3", error) from error
        return await self._addresses(self._before_us(pairs), self._config.port, hop, None, secure)

    def _before_us(self, pairs: list[tuple[int, str]]) -> list[tuple[int, str]]:
        """Those preferred to ourselves (RFC 5321 section 5.1); equal preferences in random order."""
        ours = min((preference for preference, name in pairs if name == self._hostname), default=None)
        kept = [pair for pair in pairs if ours is None or pair[0] < ours]
        if not kept:
            raise _loop()
        ordered: list[tuple[int, str]] = []
        for _, equals in groupby(kept, itemgetter(0)):
            group = list(equals)
            self._random.shuffle(group)
            ordered += group
        return ordered

    async def _addresses(
        self, pairs: list[tuple[int, str]], port: int, hop: str, route: Route | None, secure: bool
    ) -> list[Target]:
        """The exchangers' addresses, up to where one is ours."""
        found: list[tuple[int, Target]] = []
        errors: list[DnsError] = []
        private: list[str] = []
        for preference, name in pairs:
            try:
                addresses = await self._resolver.addresses(name)
            except DnsError as error:
                errors.append(error)
                if sum(isinstance(one, TemporaryDnsError) for one in errors) >= MOST_SILENT:
                    break
                continue
            if route is None and not self._own.isdisjoint(addresses):
                found = [one for one in found if one[0] < preference]
                if not found:
                    raise _loop()
                break
            reached = [one for one in addresses if route is not None or self._reach.covers(one)]
            if not reached:
                private += addresses
            found += [
                (preference, Target(name, address, port, route, secure)) for address in self._sorted(reached)
            ]
            if len(found) >= MOST_ADDRESSES:
                break
        if not found:
            raise _nowhere(hop, errors, private)
        return [target for _, target in found[:MOST_ADDRESSES]]

    def _literal(self, hop: str) -> Target:
        """The target of ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]`` (RFC 5321 section 4.1.3)."""
        address = hop.strip("[]").removeprefix("IPv6:")
        if address in self._own:
            raise _loop()
        if not self._reach.covers(address):
            raise _out_of_reach(hop, address)
        return Target(hop, address, self._config.port)

    def _sorted(self, addresses: list[str]) -> list[str]:
        return sorted(addresses, key=lambda address: (":" in address) != self._config.prefer_ipv6)


def _nowhere(hop: str, errors: list[DnsError], private: list[str]) -> Refused:
    for error in errors:
        if isinstance(error, TemporaryDnsError):
            return _refused(451, "4.4.3", error)
    if private:
        return _out_of_reach(hop, private[0])
    if errors and len(errors) == 1 and str(errors[0]).startswith(f"{hop} "):
        return _refused(550, "5.1.2", errors[0])
    return Refused(Reply(550, "5.4.4", f"{hop} has no host that takes mail"))


def _out_of_reach(hop: str, address: str) -> Refused:
    words = f"{hop} leads to a private address only ({address}), where no mail from here goes"
    return Refused(Reply(550, "5.4.4", words))


def _loop() -> Refused:
    return Refused(
        Reply(554, "5.4.6", "The mail exchanger for this domain is this host, which does not serve it")
    )


def _refused(code: int, enhanced: str, error: DnsError) -> Refused:
    return Refused(Reply(code, enhanced, str(error)))
