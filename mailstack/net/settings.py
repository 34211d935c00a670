"""Settings of the network: where services listen, their certificate, how users sign in, the log."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from mailstack.directory.keys import Keeping
from mailstack.wire import sasl

Network = IPv4Network | IPv6Network
Port = int | Literal[False]
Algorithm = Literal["RS256", "ES256", "EdDSA"]

# CRAM-MD5 is the weakest. Where SCRAM-SHA-256-PLUS is offered, mutt (with GNU SASL, as in Debian) chooses it,
# cannot bind, and gives up. But msmtp since 1.8.26 and mpop since 1.4.20 can bind, take any -PLUS first, and
# fail by every SCRAM without it. This list suits both.
_MECHANISMS = tuple(name for name in sasl.MECHANISMS if name not in ("CRAM-MD5", "SCRAM-SHA-256-PLUS"))

Service = Literal["smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s"]

SERVICES: tuple[Service, ...] = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")
BY_REQUEST = ("lmtp",)  # off unless the operator names a port
IMPLICIT_TLS = frozenset({"submissions", "imaps", "pop3s"})  # RFC 8314 section 3
_WIDEST_PROXIES = {4: 8, 6: 16}  # prefixes
LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


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
    lmtp_socket_mode: int = 0o660  # who may connect to it, in octal as chmod has it
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
        for service in SERVICES + BY_REQUEST:
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
        if not self.addresses:
            raise ValueError('addresses names none; [""] is every address')
        if not 0 <= self.lmtp_socket_mode <= 0o777:
            raise ValueError(f"lmtp_socket_mode is octal: write 0o660, not {self.lmtp_socket_mode}")
        for network in self.proxy_networks:
            if network.prefixlen < _WIDEST_PROXIES[network.version]:
                raise ValueError(
                    f"proxy_networks: whoever is in {network} could say who they are; name the proxies"
                )

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
    mechanisms: tuple[str, ...] = _MECHANISMS  # offered, in this order; see operator-sign-in.md
    scram_iterations: int = 10_000  # what a guess at a stolen key costs, and a sign-in the client
    guesses_per_address: int = 20  # failed logins from one IPv4 address or IPv6 /64, then 454; 0: any number
    guesses_per_network: int = 100  # from one IPv4 /24 or IPv6 /48; 0: any number
    guesses_per_account: int = 50  # at one account, from where it was not entered before; 0: any number
    guess_seconds: float = 900.0  # a failure counts, a refusal lasts so long (an address's: doubling)
    unlimited_networks: tuple[Network, ...] = LOOPBACK  # whose addresses are not counted: a webmail's

    def __post_init__(self) -> None:
        if self.guess_seconds <= 0:
            raise ValueError("auth.guess_seconds must be above 0")
        unknown = [name for name in self.mechanisms if name not in sasl.MECHANISMS]
        if unknown:
            known = ", ".join(sasl.MECHANISMS)
            raise ValueError(f"auth.mechanisms: {unknown[0]} is none of ours; there are {known}")
        if not self.mechanisms or len(set(self.mechanisms)) < len(self.mechanisms):
            raise ValueError("auth.mechanisms must name at least one mechanism, and each once")
        if not 4096 <= self.scram_iterations <= 1_000_000:  # RFC 7677 section 4
            raise ValueError("auth.scram_iterations must be from 4096 to 1000000; try 10000")

    @property
    def keeping(self) -> Keeping:
        """The keys that the mechanisms need beside the password hash."""
        names = {name.removesuffix(sasl.PLUS) for name in self.mechanisms}
        return Keeping(tuple(name for name in sasl.KEYED if name in names), self.scram_iterations)


@dataclass(frozen=True, slots=True)
class OAuthConfig:
    """[oauth] of the configuration file: the OpenID provider whose tokens XOAUTH2 and OAUTHBEARER take.

    Without `issuer`, `keys_url` and `keys_file` the two are not offered.
    """

    issuer: str = ""  # https URL; tokens must name it, and it tells where its keys are
    keys_url: str = ""  # https URL of its keys (JWKS), where the issuer does not tell
    keys_file: Path | None = None  # its keys (JWKS) in a file, instead
    audience: tuple[str, ...] = ()  # whom a token must be for: one of these; required
    claim: str = "email"  # of a token, that holds the user's address
    scope: str = ""  # that clients are told to ask for
    algorithms: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")  # of signatures
    leeway: float = 60.0  # seconds that clocks may differ
    ca: Path | None = None  # PEM: authorities of the provider's certificate; none: the system's
    timeout: float = 10.0  # for one request to the provider
    keys_seconds: float = 3600.0  # after which the keys are fetched again
    unknown_key_seconds: float = 60.0  # between two fetches because of a key that we do not know

    def __post_init__(self) -> None:
        for name in ("issuer", "keys_url"):
            value = getattr(self, name)
            if value and not value.startswith("https://"):
                raise ValueError(f"oauth.{name} must begin with https://")
        if self.is_on and not self.audience:
            raise ValueError("oauth.audience must say whom tokens are for, such as this server's client id")
        if not self.algorithms or not self.claim:
            raise ValueError("oauth.algorithms and oauth.claim must not be empty")
        if not 0 <= self.leeway <= 600:
            raise ValueError("oauth.leeway must be from 0 to 600; try 60")
        if min(self.timeout, self.keys_seconds, self.unknown_key_seconds) <= 0:
            raise ValueError("oauth.timeout, keys_seconds and unknown_key_seconds must be above 0")

    @property
    def is_on(self) -> bool:
        """Whether there is a provider."""
        return bool(self.issuer or self.keys_url or self.keys_file)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log] of the configuration file."""

    level: Literal["debug", "info", "warn", "error", "critical"] = "info"
    format: Literal["text", "json"] = "text"
    file: Path | None = None  # None: standard error
    conversation: bool = False  # every protocol line too: passwords masked, content shortened
