"""The PROXY protocol, versions 1 and 2, as the receiver reads it: who is really at the other end.

Theory of operation. `read` looks at all bytes received so far and keeps no state: None means that more are
needed, `BadProxyHeader` that no more would help. What it looks at is bounded, so calling it again with every
byte costs little. Section numbers are those of the specification (HAProxy, doc/proxy-protocol.txt).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

MAX_V1 = 107  # octets of a line with its CRLF (section 2.1)
MAX_V2 = 4096  # octets after the first 16: addresses, then TLVs

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16  # octets of version 2 before the addresses
_PORT = re.compile("0|[1-9][0-9]{0,4}")
_PROXIED: dict[int, tuple[type[IPv4Address] | type[IPv6Address], int]] = {
    0x11: (IPv4Address, 4),
    0x21: (IPv6Address, 16),
}  # family and transport: TCP over either
_KINDS: dict[str, type[IPv4Address] | type[IPv6Address]] = {"TCP4": IPv4Address, "TCP6": IPv6Address}
_UNIX = 0x31
_UNIX_OCTETS = 216
_UNSPECIFIED = 0x00


class BadProxyHeader(ValueError):
    """What came is no header of the PROXY protocol; the text says why, for the log."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header: `size` octets of it; `address` None where the connection itself is what counts.

    That is so for a proxy's own check of our health (LOCAL) and for a client that it cannot name (UNKNOWN, a
    Unix socket).
    """

    size: int
    address: str | None = None
    port: int = 0


def read(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None until more bytes arrive; raise BadProxyHeader."""
    if data.startswith(_V1[: len(data)]):
        return _version_1(data) if len(data) > len(_V1) else None
    if data.startswith(_V2[: len(data)]):
        return _version_2(data) if len(data) >= _FIXED else None
    raise BadProxyHeader("no PROXY header")


def _version_1(data: bytes) -> ProxyHeader | None:
    """A line of text (section 2.1)."""
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise BadProxyHeader(f"no line end in {MAX_V1} octets")
        return None
    words = data[len(_V1) : end].decode("ascii", "replace").split(" ")
    if words[0] == "UNKNOWN":  # "the receiver must ignore anything presented before the CRLF"
        return ProxyHeader(end + 2)
    kind = _KINDS.get(words[0])
    if kind is None or len(words) != 5:
        raise BadProxyHeader("neither TCP4, TCP6 nor UNKNOWN with their addresses and ports")
    source, _destination = (_address(kind, word) for word in words[1:3])
    port, _port = (_number(word) for word in words[3:5])
    return ProxyHeader(end + 2, source, port)


def _version_2(data: bytes) -> ProxyHeader | None:
    """Binary (section 2.2)."""
    version, command = data[12] >> 4, data[12] & 15
    length = int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1:
        raise BadProxyHeader(f"version {version} command {command}")
    if length > MAX_V2:
        raise BadProxyHeader(f"{length} octets long")
    size = _FIXED + length
    family = data[13]
    local = command == 0 or family == _UNSPECIFIED
    if not local:
        _require_room(family, length)
    if len(data) < size:
        return None
    if local or family == _UNIX:
        return ProxyHeader(size)
    kind, width = _PROXIED[family]
    source = kind(data[_FIXED : _FIXED + width])
    ports = _FIXED + 2 * width
    return ProxyHeader(size, str(source), int.from_bytes(data[ports : ports + 2], "big"))


def _require_room(family: int, length: int) -> None:
    """Raise BadProxyHeader for a family that no mail comes by, or with too little room for its addresses."""
    if family == _UNIX:
        needed = _UNIX_OCTETS
    elif family in _PROXIED:
        needed = 2 * _PROXIED[family][1] + 4
    else:
        raise BadProxyHeader(f"address family and transport 0x{family:02x}")
    if length < needed:
        raise BadProxyHeader(f"{length} octets hold no addresses of 0x{family:02x}")


def _address(kind: type[IPv4Address] | type[IPv6Address], word: str) -> str:
    try:
        address = kind(word)
    except (AddressValueError, ValueError):
        raise BadProxyHeader("not an address of its family") from None
    if "%" in word or "/" in word:
        raise BadProxyHeader("an address with a zone")
    return str(address)


def _number(word: str) -> int:
    if not _PORT.fullmatch(word) or int(word) > 65535:
        raise BadProxyHeader("not a port")
    return int(word)
