"""Who may come in: counts connections, so that one stranger, or one network of them, cannot take all places.

Theory of operation. There is one `Places` for all listeners. It counts what is open, and what came in this
minute, for each origin: an IPv4 address or an IPv6 /64, and the network around it, an IPv4 /24 or an IPv6
/48. The last tenth of all places is for origins that hold few, so that whoever fills the house by many
addresses still leaves room for others. Networks that the operator names are not limited but for that.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mailstack.net.peer import Network, ip_address, origin, within
from mailstack.work import Clock

MINUTE = 60.0
FEW = 10  # connections that an origin may always have, while there is any place
MOST_COUNTED = 100_000  # origins whose new connections are counted in a minute


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """How many connections there may be; 0 new ones a minute means any number."""

    connections: int  # open at once in all
    per_address: int  # open at once from one IPv4 address or IPv6 /64
    per_network: int = 1_000_000_000  # open at once from one IPv4 /24 or IPv6 /48
    new_per_address: int = 0  # a minute
    new_per_network: int = 0  # a minute
    unlimited: Sequence[Network] = ()  # who is only counted in all


class Places:
    """Lets connections in and out."""

    def __init__(self, limits: PlaceLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._open = 0
        self._by_origin: Counter[str] = Counter()
        self._new: Counter[str] = Counter()  # this minute's
        self._turned_away: set[str] = set()  # origins that the log has named this minute
        self._minute = 0.0

    @property
    def open(self) -> int:
        """How many are in."""
        return self._open

    def enter(self, host: str) -> str | None:
        """Take a place for the client at `host`; what stands against it, in words, where there is none."""
        limits = self._limits
        address, network = origin(host), network_of(host)
        self._turn_minute()
        if self._open >= limits.connections:
            return "too many connections"
        if self._by_origin[address] >= FEW and self._open >= limits.connections - limits.connections // 10:
            return "too many connections, and it has several"
        if not within(host, limits.unlimited):
            reason = self._against(address, network)
            if reason:
                return reason
            if len(self._new) < MOST_COUNTED:
                self._new.update((address, network))
        self._open += 1
        self._by_origin.update((address, network))
        return None

    def leave(self, host: str) -> None:
        """Give the place back."""
        self._open -= 1
        for name in (origin(host), network_of(host)):
            self._by_origin[name] -= 1
            if not self._by_origin[name]:
                del self._by_origin[name]

    def first_refusal(self, host: str) -> bool:
        """Whether `host` is turned away for the first time this minute: once is enough in the log."""
        name = origin(host)
        if name in self._turned_away or len(self._turned_away) >= MOST_COUNTED:
            return False
        self._turned_away.add(name)
        return True

    def _against(self, address: str, network: str) -> str | None:
        limits = self._limits
        if self._by_origin[address] >= limits.per_address:
            return "too many connections from this address"
        if self._by_origin[network] >= limits.per_network:
            return f"too many connections from {network}"
        if limits.new_per_address and self._new[address] >= limits.new_per_address:
            return "too many new connections from this address"
        if limits.new_per_network and self._new[network] >= limits.new_per_network:
            return f"too many new connections from {network}"
        return None

    def _turn_minute(self) -> None:
        now = self._clock.seconds()
        if now - self._minute >= MINUTE:
            self._minute = now
            self._new.clear()
            self._turned_away.clear()


@lru_cache(maxsize=1024)
def network_of(host: str) -> str:
    """The network that `host` is counted with: an IPv4 /24, or the /48 that one IPv6 site is given."""
    address = ip_address(host)
    if address is None:
        return f"{host}/network"
    if isinstance(address, ipaddress.IPv4Address):
        return str(ipaddress.IPv4Network((int(address) >> 8 << 8, 24)))
    return str(ipaddress.IPv6Network((int(address) >> 80 << 80, 48)))
