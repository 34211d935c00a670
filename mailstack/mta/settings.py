"""Settings of the queue and of transfers to other MTAs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class MtaConfig:
    """[mta] of the configuration file. Times are in seconds."""

    routes: dict[str, str] = field(default_factory=dict)  # domain or "*" to a route, past MX
    sender_routes: dict[str, str] = field(default_factory=dict)  # sender's address or domain to a route
    credentials: dict[str, str] = field(default_factory=dict)  # "user@host" of a route to its password
    port: int = 25  # of the exchangers that MX names
    starttls: bool = True  # where an exchanger offers it; its certificate is not looked at (RFC 7435)
    dane: bool = True  # where DNSSEC vouches for TLSA records (RFC 7672); needs [dns] validating
    mta_sts: bool = True  # domains that ask for it get verified TLS only (RFC 8461)
    tls_reports: bool = True  # tell domains that ask for it how TLS went, each day (RFC 8460)
    tls_reports_from: str = ""  # contact and sender of these reports; empty: postmaster@ the host name
    tls_reports_to: tuple[str, ...] = ()  # addresses here whose mail is read as reports about us
    ca_file: Path | None = None  # PEM, authorities for verified TLS; none: the system's
    requiretls_by_mx: bool = False  # REQUIRETLS mail also to hosts that only an unsigned MX record names
    node: str = ""  # our name among the machines that share a queue; empty: the host name
    prefer_ipv6: bool = False  # try an exchanger's IPv6 addresses before its IPv4 ones
    own_addresses: tuple[str, ...] = ()  # ours as the world sees them: an exchanger there is ourselves
    private_networks: tuple[str, ...] = ()  # where MX and address literals may lead, of what is not public
    concurrency: int = 100  # transfers at once; those that hang leave their place to others
    concurrency_per_hop: int = 20  # of these, to one domain or route, once it has shown that it keeps up
    first_concurrency: int = 2  # to one that nothing is known about yet
    hop_pause: float = MINUTE  # that an unreachable one is left alone; doubles each time, up to an hour
    keep_connections: float = 5.0  # that a connection waits for the next message; 0: none is kept
    messages_per_connection: int = 100
    kept_connections: int = 100  # at most, to all hops together
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
    suppress: float = (
        30 * DAY
    )  # so long is an address refused at submission that does not exist; 0: not at all
    messages_per_minute: dict[str, int] = field(default_factory=dict)  # to a domain, a route, or "*" each
    sender_recipients_per_minute: int = 0  # elsewhere, of one login; more go later; 0: no limit
    spray_recipients: int = 0  # elsewhere in an hour: a login with more is held; 0: no limit
    spray_refusals: int = 100  # recipients refused in an hour: a login with more is held; 0: no limit

    def __post_init__(self) -> None:
        for key, route in (*self.routes.items(), *self.sender_routes.items()):
            if not key:
                raise ValueError('routes are for a domain or "*", sender_routes for an address or a domain')
            parse_route(route)
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", self.node):
            raise ValueError("node must be a short name of letters, digits, dots and hyphens")
        for text in self.private_networks:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(
                    f'private_networks must be networks, such as "10.0.0.0/8": {error}'
                ) from error
        if not 0 < self.port < 65536:
            raise ValueError("port must be 1 to 65535")
        if not self.retry or min(self.retry) < 1:
            raise ValueError("retry needs at least one pause, of a second or more")
        if any(number < 1 for number in self.messages_per_minute.values()):
            raise ValueError("messages_per_minute must be at least 1")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")


_POSITIVE = (
    "concurrency",
    "concurrency_per_hop",
    "first_concurrency",
    "hop_pause",
    "messages_per_connection",
    "expire",
    "connect_timeout",
)
_PORTS = {"smtp": 25, "smtps": 465, "submission": 587, "lmtp": 24}


@dataclass(frozen=True, slots=True)
class Route:
    """Where mail goes past MX: a host, and how to speak to it."""

    host: str
    port: int
    # or "smtps", TLS from the first octet; "submission", verified STARTTLS; "lmtp" (RFC 2033)
    scheme: str = "smtp"
    user: str | None = None  # to log in as
    password_file: str | None = None
    path: str = ""  # of a socket in the file system, in place of host and port

    @property
    def lmtp(self) -> bool:
        """Whether LMTP is spoken there."""
        return self.scheme == "lmtp"

    @property
    def verified(self) -> bool:
        """Whether the host must prove its name: a password is for nobody else (RFC 8314 section 3)."""
        return self.scheme in ("smtps", "submission") or self.user is not None


@lru_cache(maxsize=256)
def parse_route(text: str) -> Route:
    """The route in a text; raise ValueError.

    ``smtp://host:port``, ``submission://user@host?password_file=/path``, ``lmtp://unix:/path`` and the like.
    """
    mistake = (
        f"{_without_password(text)!r} is no route: write smtp://host:port, smtps://host, "
        "submission://user@host:587?password_file=/path, lmtp://host:port or lmtp://unix:/path"
    )
    if text.startswith("lmtp://unix:/"):
        return Route("", 0, "lmtp", path=text.removeprefix("lmtp://unix:"))
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
        options = parse_qs(url.query, strict_parsing=bool(url.query))
    except ValueError as error:
        raise ValueError(mistake) from error
    if url.password is not None:
        raise ValueError(f"{mistake}; a password belongs into a file or into credentials")
    if not host or url.scheme not in _PORTS or url.path not in ("", "/") or url.fragment:
        raise ValueError(mistake)
    if set(options) - {"password_file"} or (options and not url.username):
        raise ValueError(mistake)
    if url.scheme == "lmtp" and url.username is not None:
        raise ValueError(mistake)
    user = unquote(url.username) if url.username else None
    port = _PORTS[url.scheme] if port is None else port
    return Route(host, port, url.scheme, user, options.get("password_file", [None])[0])


def _without_password(text: str) -> str:
    return re.sub(r"(://[^/@:\s]*):[^/\s]*@", r"\1:***@", text)
