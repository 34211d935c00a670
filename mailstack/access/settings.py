"""[access] of the configuration file: what POP3 and IMAP clients may ask of us."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

AFTER_RETR = ("keep", "delete", "hide")


@dataclass(frozen=True, slots=True)
class ImapConfig:
    """[access.imap]: limits of an IMAP session."""

    max_message_octets: int = 50 * 1024 * 1024  # of one APPEND
    login_seconds: float = 180.0  # of silence before login: somebody may be at an OpenID provider's page
    idle_seconds: float = 1800.0  # of silence after login, and in IDLE (RFC 3501 section 5.4)
    max_auth_failures: int = 4  # then BYE
    auth_failure_seconds: float = 2.0  # each failed login waits this long for its NO
    spool: Path | None = None  # folder for messages that arrive; None: the system's temporary one
    max_search_octets: int = 64 * 1024 * 1024  # of one message that a TEXT or BODY search looks into
    url_hosts: tuple[str, ...] = ()  # names of this server in IMAP URLs, beside its own
    submit_users: tuple[str, ...] = ()  # as whom submission servers log in, to use URLs of submit+user
    refuse_8bit_headers: bool = False  # in APPEND, before ENABLE UTF8=ACCEPT (RFC 6855 section 4)

    max_notified: int = 1000  # mailboxes that one client may watch at a time (RFC 5465, NOTIFY)
    max_messages: int = 1_000_000  # that one command works on, the newest (RFC 9738); 0: as many as there are
    max_contexts: int = 10  # searches that are kept up to date for one client at a time (RFC 5267, UPDATE)

    def __post_init__(self) -> None:
        _check(self.login_seconds, self.idle_seconds, self.max_auth_failures, self.auth_failure_seconds)
        if self.max_notified < 1 or self.max_contexts < 1:
            raise ValueError("access.imap: max_notified and max_contexts must be at least 1; try 1000 and 10")
        if 0 < self.max_messages < 1000 or self.max_messages < 0:  # RFC 9738 section 3
            raise ValueError("access.imap: max_messages must be at least 1000, or 0 for no limit")
        if self.max_message_octets < 1024 or self.max_search_octets < 1024:
            raise ValueError("access.imap: max_message_octets and max_search_octets must be at least 1024")


@dataclass(frozen=True, slots=True)
class Pop3Config:
    """[access.pop3]: limits of a POP3 session."""

    login_seconds: float = 180.0  # of silence before login: somebody may be at an OpenID provider's page
    idle_seconds: float = 600.0  # of silence after login (RFC 1939 section 3: at least 10 min)
    max_auth_failures: int = 4  # then the connection is closed
    auth_failure_seconds: float = 2.0  # each failed login waits this long for its -ERR
    login_delay: int = 0  # seconds from one login of a user to the next (RFC 2449 section 6.5); 0: none
    after_retr: str = "keep"  # what becomes of fetched mail at QUIT: keep, delete, or hide it from POP3 alone
    expire_days: int = 0  # kept mail is removed so many days after POP3 first fetched it; 0: never
    refuse_8bit_headers: bool = False  # RETR and TOP of such a message, before UTF8 (RFC 6856 section 2.1)

    def __post_init__(self) -> None:
        _check(self.login_seconds, self.idle_seconds, self.max_auth_failures, self.auth_failure_seconds)
        if self.after_retr not in AFTER_RETR:
            raise ValueError(f"access.pop3: after_retr must be one of {', '.join(AFTER_RETR)}")
        if not 0 <= self.login_delay <= 86_400 or not 0 <= self.expire_days <= 36_500:
            raise ValueError("access.pop3: login_delay must be 0 to 86400 seconds, expire_days 0 to 36500")


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """[access]: both protocols."""

    imap: ImapConfig = field(default_factory=ImapConfig)
    pop3: Pop3Config = field(default_factory=Pop3Config)


def _check(login_seconds: float, idle_seconds: float, failures: int, wait: float) -> None:
    """Raise ValueError for what cannot work, of either protocol."""
    if login_seconds <= 0 or idle_seconds <= 0:
        raise ValueError("access: login_seconds and idle_seconds must be more than 0; try 180 and 1800")
    if failures < 1:
        raise ValueError("access: max_auth_failures must be at least 1; try 4")
    if not 0 <= wait <= 60:
        raise ValueError("access: auth_failure_seconds must be from 0 to 60; try 2")
