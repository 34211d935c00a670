"""The routers through which this machine reaches the world: what comes from there may be anybody's."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

_FILES = Path("/proc/net")
_HAS_GATEWAY = 0x2  # RTF_GATEWAY of the kernel


def default_gateways(folder: Path = _FILES) -> frozenset[str]:
    """Their addresses now; none where the system does not tell. Blocks for a moment."""
    return frozenset(_ipv4(_lines(folder / "route")) | _ipv6(_lines(folder / "ipv6_route")))


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text("ascii", "replace").splitlines()]
    except OSError:
        return []


def _ipv4(rows: list[list[str]]) -> set[str]:
    """Interface, destination, gateway, flags: the addresses in the machine's own order of octets."""
    found = set()
    for row in rows:
        if len(row) > 3 and row[1] == "00000000" and int(row[3], 16) & _HAS_GATEWAY:
            found.add(str(ipaddress.IPv4Address(socket.ntohl(int(row[2], 16)))))
    return found


def _ipv6(rows: list[list[str]]) -> set[str]:
    """Destination, its prefix, source, its prefix, next hop."""
    found = set()
    for row in rows:
        if len(row) > 4 and row[1] == "00" and int(row[0], 16) == 0 and int(row[4], 16) != 0:
            found.add(str(ipaddress.IPv6Address(int(row[4], 16))))
    return found
