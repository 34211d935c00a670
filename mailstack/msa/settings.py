"""[msa] of the configuration file: the limits of submission, and who submits without a login."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network

from mailstack.mail.address import Address, BadAddress, parse_domain

_PRIVATE = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",  # RFC 1918
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",  # RFC 3927
        "::1/128",
        "fc00::/7",  # RFC 4193
        "fe80::/10",
    )
)
_WIDEST = {4: 24, 6: 48}  # prefixes of networks that are not private
_MAPPED = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class TrustedConfig:
    """[msa.trusted] of the configuration file: who submits without a login, known by their address."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()  # of printers, scanners and scripts of your own
    senders: tuple[str, ...] = ()  # as whom they send elsewhere: addresses, or "@domain"; empty: all of ours
    on_smtp: bool = False  # on port 25 too, for what knows no other port
    messages_per_hour: int = 0  # of one IPv4 address or IPv6 /64, then 450 4.7.1; 0: no limit
    recipients_per_hour: int = 0  # of one in all messages; 0: no limit
    unknown_per_hour: int = 100  # recipients named by one that do not exist; 0: no limit

    def __post_init__(self) -> None:
        for network in self.networks:
            _check_width(network)
        for sender in self.senders:
            try:
                parse_domain(sender[1:]) if sender.startswith("@") else Address.parse(sender)
            except BadAddress as error:
                raise ValueError(f'senders: {sender} is neither an address nor "@domain": {error}') from error
        for name in ("messages_per_hour", "recipients_per_hour", "unknown_per_hour"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")


def _check_width(network: IPv4Network | IPv6Network) -> None:
    """A mail server that believes half of the world is an open relay: raise ValueError."""
    if network.version == 6 and network.overlaps(_MAPPED):
        if not network.subnet_of(_MAPPED):
            raise ValueError(f"networks: {network} has every IPv4 address in it; name your own")
        shown = f"{IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))}"
        raise ValueError(f"networks: write {network} as IPv4: {shown}")
    private = any(network.version == one.version and network.subnet_of(one) for one in _PRIVATE)  # type: ignore[arg-type]
    widest = _WIDEST[network.version]
    if not private and network.prefixlen < widest:
        raise ValueError(
            f"networks: {network} is not yours alone, and strangers would send through this server; "
            f"name private networks, such as 192.168.0.0/16, or public ones of at most /{widest}"
        )


@dataclass(frozen=True, slots=True)
class MsaConfig:
    """What a user's client may ask of us on the submission ports."""

    max_message_octets: int = 50 * 1024 * 1024  # of one message, as announced by SIZE (RFC 1870)
    max_recipients: int = 1000  # of one message
    max_received: int = 50  # Received fields; more is a mail loop
    max_errors: int = 20  # commands that make no sense, then 421
    max_auth_failures: int = 5  # in one connection, then 421
    auth_failure_seconds: float = 1.5  # a failed login waits so long, the next half as long again
    idle_seconds: float = 300.0  # of silence (RFC 5321 section 4.5.3.2.7)
    messages_per_hour: int = 0  # of one user, then 450 4.7.1; 0: no limit
    recipients_per_hour: int = 0  # of one user in all messages; 0: no limit
    unknown_per_hour: int = 100  # recipients named by one user that do not exist; 0: no limit
    max_hold_seconds: int = 30 * 86400  # that a message may wait for its release (RFC 4865); 0: not offered
    min_deliver_by_seconds: int = 0  # the shortest time that DELIVERBY may ask for (RFC 2852); 0: any
    save_sent: bool = False  # a copy in the sender's Sent mailbox; their program's own takes its place
    trusted: TrustedConfig = field(default_factory=TrustedConfig)

    def __post_init__(self) -> None:
        for name in ("max_message_octets", "max_recipients", "max_received", "max_auth_failures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("messages_per_hour", "recipients_per_hour", "unknown_per_hour", "max_hold_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")
        if self.min_deliver_by_seconds < 0:
            raise ValueError("min_deliver_by_seconds must be 0 or more")
        if self.idle_seconds <= 0 or self.auth_failure_seconds < 0:
            raise ValueError("idle_seconds must be above 0, auth_failure_seconds not below")
