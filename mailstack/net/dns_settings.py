"""Settings of the resolver, apart from it: reading the configuration should not load dnspython."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """[dns] of the configuration file."""

    nameservers: tuple[str, ...] = ()  # "ip", "ip:port" or "[ip6]:port"; empty: the system's resolv.conf
    validating: tuple[
        str, ...
    ] = ()  # those of them whose DNSSEC verdict is believed (DANE); on loopback only
    timeout: float = 3.0  # seconds for one name server
    lifetime: float = 10.0  # seconds for one look-up, whatever it takes

    def __post_init__(self) -> None:
        known = {split_address(text) for text in self.nameservers}
        for text in self.validating:
            address, port = split_address(text)
            if not ip_address(address).is_loopback:
                raise ValueError(
                    f"validating: {text!r} is not on loopback; on the way here an answer can be forged"
                )
            if known and (address, port) not in known:
                raise ValueError(f"validating: {text!r} is not one of nameservers")
        if self.timeout <= 0 or self.lifetime <= 0:
            raise ValueError("timeout and lifetime are seconds, more than 0")


def split_address(text: str) -> tuple[str, int]:
    """Address and port of a name server, 53 where none is written; raise ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest else "53" if bracket else ""
    elif text.count(":") == 1:
        host, port = text.split(":")
    try:
        address = str(ip_address(host))
        if port.isascii() and port.isdecimal() and 0 < int(port) < 65536:
            return address, int(port)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no address of a name server: write ip or ip:port")
