"""Against guessing of passwords: counts failed logins by address, network and account, over all connections.

Theory of operation. There is one `Guesses` for all doors. A failed login is counted for where it came from
(an IPv4 address or IPv6 /64, and the IPv4 /24 or IPv6 /48 around it) and for the account that it named,
whether there is such an account or not. Whatever reaches its limit is refused unasked for a while: an
address for twice as long each time, a network and an account always equally long. What is counted is
forgotten little by little.

An account under attack must stay open to its owner. So an address from which it has been entered before is
counted with that account alone, by itself: neither what others do at that address, nor what others try at
the account from elsewhere, closes that way. Only failures of just this address at just this account do.

The same wrong password again, from the same address, is no new guess: a telephone that was forgotten in a
drawer, with an old password, closes nothing.

All is in memory and bounded; with several processes each counts for itself.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field

from mailstack.directory.names import address_key
from mailstack.mail.address import Address
from mailstack.net.peer import origin, within
from mailstack.net.places import network_of
from mailstack.net.settings import AuthConfig
from mailstack.work import Clock

DAY = 86400.0
KNOWN_SECONDS = 30 * DAY  # after its last login an address is as good as new
MOST_COUNTED = 200_000  # addresses, networks, accounts: the longest quiet makes room
MOST_KNOWN = 100_000  # ways into accounts
MOST_SEEN = 8  # wrong passwords that are known again, of one address
TOLD_EVERY = 60.0  # seconds between two lines of the log about one that is refused


@dataclass(slots=True)
class _Count:
    """The failures of one address, network, account, or way into an account."""

    level: float = 0.0  # failures, less what was forgotten
    at: float = 0.0  # when that was so
    closed_until: float = 0.0
    closings: int = 0  # one after another
    told: float = -TOLD_EVERY  # when the log last said that it is closed
    seen: list[str] = field(default_factory=list)  # digests of the last wrong passwords


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind is counted."""

    name: str  # in the log
    limit: int  # failures; 0: any number
    grows: bool = False  # each closing is twice as long as the one before


class Guesses:
    """What is known of failed logins."""

    def __init__(self, config: AuthConfig, clock: Clock) -> None:
        self._clock = clock
        self._unlimited = config.unlimited_networks
        self._seconds = config.guess_seconds
        self._address = _Kind("this address", config.guesses_per_address, grows=True)
        self._network = _Kind("this network", config.guesses_per_network)
        self._account = _Kind("this account", config.guesses_per_account)
        self._way = _Kind("this address at this account", config.guesses_per_address, grows=True)
        self._counts: dict[str, _Count] = {}
        self._known: dict[tuple[str, str], float] = {}  # (account, address): its last login
        self._key = os.urandom(32)

    def against(self, host: str, login: str) -> str | None:
        """Why a login is refused unasked, in words for the log; None: it may be tried."""
        if not self._counts:  # nobody has failed: the most usual case costs nothing
            return None
        now = self._clock.seconds()
        for kind, name in self._kinds(host, login):
            count = self._counts.get(name)
            if count is not None and count.closed_until > now:
                return f"too many failures of {kind.name}"
        return None

    def to_be_told(self, host: str, login: str) -> bool:
        """Whether the log should say that it is refused: once a minute is enough."""
        now = self._clock.seconds()
        for _kind, name in self._kinds(host, login):
            count = self._counts.get(name)
            if count is not None and count.closed_until > now:
                due = now - count.told >= TOLD_EVERY
                count.told = now if due else count.told
                return due
        return False

    def level(self, host: str) -> int:
        """How many failures of an address are not forgotten: what a refusal's wait grows with."""
        count = self._counts.get(f"address {origin(host)}")
        return 0 if count is None else math.ceil(self._level(count, self._address))

    def failed(self, host: str, login: str, password: str | None = None) -> list[tuple[str, float]]:
        """Count a failure; what is closed by it now, in words, and for how many seconds."""
        if password is not None and self._seen(host, login, password):
            return []
        found = []
        kinds = self._kinds(host, login)
        if kinds and kinds[0][0] is self._way:
            kinds += self._places(host)
        for kind, name in kinds:
            seconds = self._add(kind, name)
            if seconds:
                found.append((kind.name, seconds))
        return found

    def passed(self, host: str, account: str) -> None:
        """A login was right: from now on this address has its own way into this account."""
        way = (self._account_key(account), origin(host))
        self._known.pop(way, None)  # a dict keeps the place of a key that it has: the newest goes last
        while len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[way] = self._clock.seconds()
        self._counts.pop(_way_name(*way), None)

    def _kinds(self, host: str, login: str) -> list[tuple[_Kind, str]]:
        """What counts for a login as `login` from `host`."""
        account = self._account_key(login)
        way = (account, origin(host))
        if self._clock.seconds() - self._known.get(way, -KNOWN_SECONDS) < KNOWN_SECONDS:
            return [(self._way, _way_name(*way))]
        of_account = [(self._account, f"account {account}")] if login else []
        return [*self._places(host), *of_account]

    def _places(self, host: str) -> list[tuple[_Kind, str]]:
        if within(host, self._unlimited):
            return []
        return [(self._address, f"address {origin(host)}"), (self._network, f"network {network_of(host)}")]

    def _add(self, kind: _Kind, name: str) -> float:
        """One more failure; for how many seconds that closes it, 0 if it does not."""
        if not kind.limit:
            return 0.0
        now = self._clock.seconds()
        count = self._count(name)
        if count.closed_until > now:
            return 0.0
        if now - max(count.at, count.closed_until) > DAY:
            count.closings = 0
        count.level = self._level(count, kind) + 1
        count.at = now
        if count.level <= kind.limit - 1:  # what was forgotten since is a part of one
            return 0.0
        seconds = min(DAY, self._seconds * 2.0 ** min(count.closings, 20)) if kind.grows else self._seconds
        count.level, count.closed_until = 0.0, now + seconds
        count.closings += 1
        return seconds

    def _level(self, count: _Count, kind: _Kind) -> float:
        """What is left of the failures: as many as close it are forgotten in `guess_seconds`."""
        gone = (self._clock.seconds() - count.at) * kind.limit / self._seconds
        return max(0.0, count.level - gone)

    def _count(self, name: str) -> _Count:
        count = self._counts.pop(name, None) or _Count(at=self._clock.seconds())
        while len(self._counts) >= MOST_COUNTED:
            del self._counts[next(iter(self._counts))]
        self._counts[name] = count
        return count

    def _seen(self, host: str, login: str, password: str) -> bool:
        """Whether this very password was wrong from there before; it is remembered."""
        digest = self._digest(f"{len(login)} {login} {password}")
        seen = self._count(f"address {origin(host)}").seen
        if digest in seen:
            return True
        seen.append(digest)
        del seen[:-MOST_SEEN]
        return False

    def _account_key(self, login: str) -> str:
        """What an account is counted by: its address as the directory compares it, and short."""
        try:
            return self._digest(address_key(Address.parse(login)))
        except ValueError:  # BadAddress, or text that is not Unicode
            return self._digest(login.lower())

    def _digest(self, text: str) -> str:
        """What stands for a name or a password in memory: of no use in any other process."""
        octets = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(octets, key=self._key, digest_size=16).hexdigest()


def _way_name(account: str, address: str) -> str:
    return f"way {address} {account}"
