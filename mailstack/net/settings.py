"""Settings of the network: where services listen, their certificate, who may log in unencrypted, the log."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

Network = IPv4Network | IPv6Network
Port = int | Literal[False]

Service = Literal["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"]

SERVICES: tuple[Service, ...] = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")
IMPLICIT_TLS = frozenset({"submissions", "imaps", "pop3s"})  # RFC 8314 section 3
LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One service's place: made by `ListenersConfig.services`."""

    service: str  # a name of SERVICES
    port: int  # 0: any free port, named in the log
    addresses: tuple[str, ...]  # to bind; "" is every address, IPv4 and IPv6
    tls: bool  # from the first byte (RFC 8314); otherwise by STARTTLS or STLS


@dataclass(frozen=True, slots=True)
class ListenersConfig:
    """[listeners] of the configuration file: a port for each service, or false for none."""

    addresses: tuple[str, ...] = ("",)  # to bind; "" is every address, IPv4 and IPv6
    smtp: Port = 25  # mail from other MTAs
    submission: Port = 587  # mail from our users, STARTTLS
    submissions: Port = 465  # mail from our users, TLS
    imap: Port = 143
    imaps: Port = 993
    pop3: Port = 110
    pop3s: Port = 995
    backlog: int = 511  # connections that wait to be accepted, for each listener
    connections: int = 20_000  # open at once in all services together
    connections_per_address: int = 200  # open at once from one client address (IPv6: one /64)
    connections_per_network: int = 1000  # open at once from one IPv4 /24 or IPv6 /48
    new_connections_per_address: int = 600  # a minute, from one client address; 0: any number
    new_connections_per_network: int = 3000  # a minute, from one IPv4 /24 or IPv6 /48; 0: any number
    unlimited_networks: tuple[Network, ...] = LOOPBACK  # only the limit of all connections counts for them
    proxy_networks: tuple[Network, ...] = ()  # who must begin with a PROXY header, version 1 or 2
    proxy_services: tuple[Service, ...] = SERVICES  # where they must
    proxy_seconds: float = 10.0  # to wait for the header

    def __post_init__(self) -> None:
        for service in SERVICES:
            port = getattr(self, service)
            if port is not False and not 0 <= port <= 65535:
                raise ValueError(f"{service} is not a port: 0 to 65535, or false for none")
        for name in ("backlog", "connections", "connections_per_address", "connections_per_network"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("new_connections_per_address", "new_connections_per_network"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be below 0")
        if self.proxy_seconds <= 0:
            raise ValueError("proxy_seconds must be above 0")

    def services(self) -> tuple[ListenerConfig, ...]:
        """The services that are on, in the order of SERVICES."""
        return tuple(
            ListenerConfig(service, port, self.addresses, service in IMPLICIT_TLS)
            for service in SERVICES
            if (port := getattr(self, service)) is not False
        )


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """[tls] of the configuration file. Without a certificate no service offers TLS, and nobody can log in."""

    certificate: Path | None = None  # PEM: ours first, then its intermediates
    key: Path | None = None  # PEM
    minimum: Literal["1.2", "1.3"] = "1.2"  # RFC 8996 ended 1.0 and 1.1

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together: give both, or neither")


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """[auth] of the configuration file."""

    plaintext_networks: tuple[Network, ...] = ()  # whose clients may log in without TLS


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log] of the configuration file."""

    level: Literal["debug", "info", "warn", "error", "critical"] = "info"
    format: Literal["text", "json"] = "text"
    file: Path | None = None  # None: standard error
    conversation: bool = False  # every protocol line too, passwords and content masked
