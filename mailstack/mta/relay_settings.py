"""[relay] and [lmtp] of the configuration file: those who bring mail for our users without a login."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

MOST_PAUSE = 120.0  # seconds; RFC 5321 section 4.5.3.2.1 lets a client give up after 300
_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


@dataclass(frozen=True, slots=True)
class IncomingConfig:
    """What [relay] and [lmtp] of the configuration file have in common: what a server may ask of us."""

    max_message_octets: int = 50 * 1024 * 1024  # of one message, as announced by SIZE (RFC 1870)
    max_recipients: int = 1000  # of one message; RFC 5321 section 4.5.3.1.8 asks for 100
    max_received: int = 50  # Received fields; more is a mail loop (RFC 5321 section 6.3)
    max_errors: int = 20  # commands that make no sense, then 421
    idle_seconds: float = 300.0  # of silence (RFC 5321 section 4.5.3.2.7)

    def __post_init__(self) -> None:
        for name in ("max_message_octets", "max_recipients", "max_received"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.idle_seconds <= 0:
            raise ValueError("idle_seconds must be above 0")


@dataclass(frozen=True, slots=True)
class RelayConfig(IncomingConfig):
    """[relay] of the configuration file: what another MTA may ask of us on port 25."""

    min_deliver_by_seconds: int = 0  # the shortest time that DELIVERBY may ask for (RFC 2852); 0: any
    max_refused_recipients: int = 20  # in one connection, then 421: it harvests addresses
    greet_pause: float = 0.0  # seconds before we greet; who talks earlier is no MTA (RFC 5321 section 4.3.1)
    early_talkers: Literal["refuse", "log"] = "refuse"  # with greet_pause: 554, or only a line in the log

    def __post_init__(self) -> None:
        IncomingConfig.__post_init__(self)
        if self.max_refused_recipients < 1:
            raise ValueError("max_refused_recipients must be at least 1")
        if self.min_deliver_by_seconds < 0:
            raise ValueError("min_deliver_by_seconds must be 0 or more")
        if not 0 <= self.greet_pause <= MOST_PAUSE:
            raise ValueError(f"greet_pause must be 0 to {MOST_PAUSE:g} seconds")


@dataclass(frozen=True, slots=True)
class LmtpConfig(IncomingConfig):
    """[lmtp] of the configuration file: what a program that delivers to our users may ask of us."""

    networks: tuple[IPv4Network | IPv6Network, ...] = _LOOPBACK  # whose programs may come in by TCP

    @property
    def min_deliver_by_seconds(self) -> int:
        """None: DELIVERBY is not offered."""
        return 0
