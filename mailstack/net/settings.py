"""Settings of the network: where services listen, their certificate, who may log in unencrypted, the log."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

Network = IPv4Network | IPv6Network
Port = int | Literal[False]

SERVICES = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")
BY_REQUEST = ("lmtp",)  # off unless the operator names a port
IMPLICIT_TLS = frozenset({"submissions", "imaps", "pop3s"})  # RFC 8314 section 3


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One service's place: made by `ListenersConfig.services`."""

    service: str  # a name of SERVICES or BY_REQUEST
    port: int  # 0: any free port, named in the log
    addresses: tuple[str, ...]  # to bind; "" is every address, IPv4 and IPv6
    tls: bool  # from the first byte (RFC 8314); otherwise by STARTTLS or STLS
    socket: Path | None = None  # in the file system, in place of address and port


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
    lmtp: Port = False  # mail for our users from a program on this host, such as another MTA (RFC 2033)
    lmtp_socket: Path | None = None  # the same by a socket in the file system
    lmtp_socket_mode: int = 0o660  # who may connect to it, as chmod has it
    backlog: int = 511  # connections that wait to be accepted, for each listener
    connections: int = 20_000  # open at once in all services together
    connections_per_address: int = 200  # open at once from one client address (IPv6: one /64)

    def __post_init__(self) -> None:
        for service in SERVICES + BY_REQUEST:
            port = getattr(self, service)
            if port is not False and not 0 <= port <= 65535:
                raise ValueError(f"{service} is not a port: 0 to 65535, or false for none")
        for name in ("backlog", "connections", "connections_per_address"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    def services(self) -> tuple[ListenerConfig, ...]:
        """The services that are on, in the order of SERVICES and BY_REQUEST."""
        ports = tuple(
            ListenerConfig(service, port, self.addresses, service in IMPLICIT_TLS)
            for service in SERVICES + BY_REQUEST
            if (port := getattr(self, service)) is not False
        )
        if self.lmtp_socket is None:
            return ports
        return (*ports, ListenerConfig("lmtp", 0, ("",), False, self.lmtp_socket))


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
