"""Trace fields: where a message came from and when it passed here (RFC 5321 section 4.4)."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Protocol

from mailstack.mail.envelope import Envelope
from mailstack.net.peer import Peer
from mailstack.work import Clock

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # in ASCII order
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")  # how a header field begins, RFC 5322 sections 2.2 and 4.5
_TLS_OPTIONAL = re.compile(
    rb"(?im)^tls-required[ \t]*:[ \t\r\n]*no[ \t]*(?:\r\n(?![ \t])|\Z)"
)  # RFC 8689 section 3
_RECEIVED = re.compile(rb"(?im)^received[ \t]*:")


class RandomSource(Protocol):
    """What is needed of `random.SystemRandom`."""

    def getrandbits(self, k: int, /) -> int: ...


class Names:
    """Makes names for transactions: unique, of letters and digits, and in order of time when sorted."""

    def __init__(self, clock: Clock, random: RandomSource) -> None:
        self._clock = clock
        self._random = random

    def new(self) -> str:
        """Seven digits of milliseconds, eight of chance, to the base of 62."""
        return _base62(int(self._clock.seconds() * 1000), 7) + _base62(self._random.getrandbits(47), 8)


def date_time(seconds: float) -> str:
    """A date-time of RFC 5322 section 3.3, in UTC."""
    return _date_time(int(seconds))


def utc(seconds: float) -> str:
    """A date-time of RFC 3339, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@lru_cache(maxsize=8)
def _date_time(seconds: int) -> str:
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    clock = f"{hour:02}:{minute:02}:{second:02}"
    return f"{_DAYS[weekday]}, {day} {_MONTHS[month - 1]} {year} {clock} +0000"


def client(peer: Peer, helo: str) -> str:
    """Whom a message came from: the name it gave and the address it had."""
    return f"{helo} ([{_literal(peer.address)}])"


def received(envelope: Envelope, peer: Peer, helo: str, protocol: str, hostname: str, now: float) -> bytes:
    """The Received field for a message that came by `protocol`: SMTP, ESMTP or LMTP."""
    lines = [f"Received: from {client(peer, helo)}"]
    tls = peer.tls
    if tls:
        lines.append(f"\t(using {tls})")
    kind = transmission(protocol, peer.secure, envelope.authenticated is not None, envelope.smtputf8)
    lines.append(f"\tby {hostname} with {kind} id {envelope.id}")
    if len(envelope.recipients) == 1:  # naming one of several would tell the others of a blind copy
        lines.append(f"\tfor <{envelope.recipients[0].address}>")
    if envelope.priority:
        lines.append(f"\tPRIORITY {envelope.priority}")  # RFC 6710 section 7
    return ("\r\n".join(lines) + f"; {date_time(now)}\r\n").encode("utf-8", "replace")


def transmission(protocol: str, secure: bool, authenticated: bool, smtputf8: bool) -> str:
    """The "with" protocol type for SMTP, ESMTP or LMTP (RFC 3848, RFC 6531 section 4.3)."""
    if protocol == "SMTP":
        return protocol
    kind = f"UTF8{protocol.removeprefix('E')}" if smtputf8 else protocol
    return kind + ("S" if secure else "") + ("A" if authenticated else "")


def hops(header: bytes) -> int:
    """How many Received fields a header section has (RFC 5321 section 6.3)."""
    return len(_RECEIVED.findall(header))


def tls_optional(header: bytes) -> bool:
    """Whether the author says that TLS is not required (RFC 8689 section 3)."""
    return _TLS_OPTIONAL.search(header) is not None


def bare_line_end(header: bytes) -> bool:
    """Whether a CR or LF stands alone in a header section, or a null octet is in it."""
    lines = header.count(b"\r\n")
    return header.count(b"\r") != lines or header.count(b"\n") != lines or b"\0" in header


def begins_with_field(header: bytes) -> bool:
    """Whether `header` is one, and not the first lines of a message that has none."""
    return _FIELD.match(header) is not None


def _literal(address: str) -> str:
    return f"IPv6:{address}" if ":" in address else address


def _base62(number: int, width: int) -> str:
    digits = ""
    for _ in range(0, width, 2):
        number, pair = divmod(number, 62 * 62)
        digits = _PAIRS[pair] + digits
    return digits[-width:]
