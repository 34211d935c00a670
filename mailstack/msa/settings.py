"""[msa] of the configuration file: the limits of submission."""

from __future__ import annotations

from dataclasses import dataclass


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
