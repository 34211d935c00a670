"""Settings of the queue and of transfers to other MTAs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class MtaConfig:
    """[mta] of the configuration file. Times are in seconds."""

    routes: dict[str, str] = field(
        default_factory=dict
    )  # domain or "*" to "smtp://host:port", "lmtp://host:port" or "lmtp://unix:/path", past MX
    port: int = 25  # of the exchangers that MX names
    starttls: bool = True  # where an exchanger offers it; its certificate is not looked at (RFC 7435)
    ca_file: Path | None = None  # PEM: who signs the certificates of next hops; none: the system's list
    requiretls_by_mx: bool = False  # REQUIRETLS mail also to hosts that only an unsigned MX record names
    prefer_ipv6: bool = False  # try an exchanger's IPv6 addresses before its IPv4 ones
    own_addresses: tuple[str, ...] = ()  # ours as the world sees them: an exchanger there is ourselves
    concurrency: int = 50  # transfers at once
    concurrency_per_hop: int = 5  # of these, to one domain or route
    retry: tuple[float, ...] = (
        5 * MINUTE,
        10 * MINUTE,
        20 * MINUTE,
        40 * MINUTE,
        HOUR,
        2 * HOUR,
        4 * HOUR,
        6 * HOUR,
    )  # pause after each attempt; the last holds for all that follow
    expire: float = 5 * DAY  # then it bounces (RFC 5321 section 4.5.4.1)
    warn_after: float = 4 * HOUR  # then its sender hears of the delay, once; 0: never
    returned: int = 100_000  # octets: a larger message is not returned in a bounce, only its header
    connect_timeout: float = 30.0  # for each address of an exchanger

    def __post_init__(self) -> None:
        for domain, route in self.routes.items():
            if not domain:
                raise ValueError('routes are for a domain or "*"')
            parse_route(route)
        if not 0 < self.port < 65536:
            raise ValueError("port must be 1 to 65535")
        if not self.retry or min(self.retry) < 1:
            raise ValueError("retry needs at least one pause, of a second or more")
        for name in ("concurrency", "concurrency_per_hop", "expire", "connect_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a route leads."""

    host: str
    port: int
    lmtp: bool = False  # LMTP is spoken there (RFC 2033)
    path: str = ""  # of a socket in the file system, in place of host and port


def parse_route(text: str) -> Route:
    """``smtp://host:port``, ``lmtp://host:port`` or ``lmtp://unix:/path``; raise ValueError."""
    mistake = f"{text!r} is no route: write smtp://host:port, lmtp://host:port or lmtp://unix:/path"
    if text.startswith("lmtp://unix:/"):
        return Route("", 0, True, text.removeprefix("lmtp://unix:"))
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise ValueError(mistake) from error
    extra = url.path not in ("", "/") or url.query or url.fragment or url.username is not None
    if not host or url.scheme not in ("smtp", "lmtp") or extra:
        raise ValueError(mistake)
    lmtp = url.scheme == "lmtp"
    return Route(host, (24 if lmtp else 25) if port is None else port, lmtp)
