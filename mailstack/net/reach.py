"""Where we go when a stranger says where: not into the networks around us, unless the operator allows it.

Theory of operation. Whoever writes an address or a DNS record can name any address: `user@[10.0.0.5]`, an MX
record that points to 127.0.0.1. To connect there would let outsiders, and our users, knock at doors that only
this host and its neighbors are meant to see. So addresses that are not of the public Internet count as none.
Where the operator himself says where mail goes (a route), nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

from mailstack.net.peer import Network, ip_address

# IANA's registries of special addresses (RFC 6890), as far as somebody may be there: the ranges for
# documentation are not among them.
PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared, behind the provider's address translation
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; clouds tell their secrets there
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "::/127",  # this host
        "fc00::/7",
        "fe80::/9",  # link-local and, of old, site-local
        "ff00::/8",  # multicast
    )
)
_TRANSLATED = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/96"), ip_network("::/96"))


class Reach:
    """Which addresses may be gone to. `allowed` are private networks; raise ValueError for what is none."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed: Sequence[Network] = tuple(ip_network(text) for text in allowed)

    def covers(self, address: str) -> bool:
        """Whether a stranger may send us to this IP address. Raise ValueError where it is none."""
        found = ip_address(address)
        if found is None:
            raise ValueError(f"{address!r} is no IP address")
        meant = _meant(found)
        return not _within(meant, PRIVATE) or _within(meant, self._allowed)


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, where it stands for one."""
    if isinstance(address, IPv4Address):
        return address
    for found in (address.ipv4_mapped, address.sixtofour):  # RFC 4291 section 2.5.5.2, RFC 3056
        if found is not None:
            return found
    if _within(address, _TRANSLATED) and int(address) > 1:  # RFC 6052, RFC 8215, RFC 4291 section 2.5.5.1
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _within(address: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
