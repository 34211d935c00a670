"""Who is at the other end of a connection."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True)
class Peer:
    """The client's address, and whether the connection is encrypted now; both may change while it lives."""

    address: str  # an IP address; IPv4-mapped IPv6 is shown as IPv4
    port: int
    local_port: int
    secure: bool
    cipher: Callable[[], str | None] = field(default=lambda: None, repr=False)
    bound_to: Callable[[], Mapping[str, bytes]] = field(default=dict, repr=False)
    early: bool = False  # it talked before we greeted it (RFC 5321 section 4.3.1)

    @property
    def tls(self) -> str | None:
        """Protocol and cipher, such as ``TLSv1.3 TLS_AES_256_GCM_SHA384``; None in clear."""
        return self.cipher() if self.secure else None

    @property
    def bindings(self) -> Mapping[str, bytes]:
        """What sign-in can be bound to in this TLS connection, by type (RFC 5056); empty in clear."""
        return self.bound_to() if self.secure else {}

    def within(self, networks: Sequence[Network]) -> bool:
        """Whether the address lies in one of `networks`."""
        return within(self.address, networks)


@lru_cache(maxsize=1024)
def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `host` is, its zone left out (RFC 4007 section 11); None: it is none."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return ipaddress.IPv6Address(int(address))
    return address


def server_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a server is called by, bare or as in RFC 5321 section 4.1.3; None: a name."""
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1].removeprefix("IPv6:")
    return ip_address(name)


def within(host: str, networks: Sequence[Network]) -> bool:
    """Whether the IP address `host` lies in one of `networks`."""
    address = ip_address(host) if networks else None
    return address is not None and any(address in network for network in networks)


@lru_cache(maxsize=1024)
def plain_address(host: str) -> str:
    """`host` as people write it: an IPv4 client of a dual-stack socket is no ``::ffff:192.0.2.1``."""
    address = ip_address(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped) if mapped else host


@lru_cache(maxsize=1024)
def origin(host: str) -> str:
    """What connections are counted by: an IPv4 address, or the /64 that one IPv6 customer is given."""
    address = ip_address(host)
    if address is None:
        return host
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
