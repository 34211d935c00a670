"""Addresses: what RFC 5321 calls a Mailbox, local-part and domain."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

MAX_LOCAL_PART = 64  # octets, RFC 5321 section 4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 section 4.5.3.1.2
MAX_PATH = 254  # octets without the angle brackets, RFC 5321 section 4.5.3.1.3 (erratum 1690)

# RFC 5321 section 4.1.2, with RFC 6531 section 3.3: UTF8-non-ascii joins atext and qtext.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED_STRING = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*)"')
_LABEL = r"[A-Za-z0-9\u0080-\U0010ffff](?:[A-Za-z0-9\-\u0080-\U0010ffff]{0,61}[A-Za-z0-9\u0080-\U0010ffff])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class BadAddress(ValueError):
    """The text is not an address by RFC 5321 section 4.1.2; the message says in what."""


@dataclass(frozen=True, slots=True)
class Address:
    """A local-part, unquoted, and a domain in lower case (a name, or an address literal in brackets)."""

    local_part: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``local-part@domain`` strictly; raise BadAddress (RFC 5321 section 4.1.2, RFC 6531)."""
        local_part, rest = _local_part(text)
        if not rest.startswith("@"):
            raise BadAddress("no @ after the local-part")
        address = cls(local_part, parse_domain(rest[1:]))
        if _octets(text) > MAX_PATH:
            raise BadAddress(f"longer than {MAX_PATH} octets")
        return address

    @property
    def key(self) -> str:
        """The form that look-ups compare: all in lower case, unquoted (our local-parts ignore case)."""
        return f"{self.local_part.lower()}@{self.domain}"

    @property
    def is_ascii(self) -> bool:
        """Whether it can travel without SMTPUTF8 (RFC 6531 section 3.2)."""
        return self.local_part.isascii() and self.domain.isascii()

    def __str__(self) -> str:
        """The address as it is written in a command, its local-part quoted where it must be."""
        return f"{_written(self.local_part)}@{self.domain}"


def parse_domain(text: str) -> str:
    """A domain name or an address literal, in lower case; raise BadAddress (RFC 5321 section 4.1.3)."""
    if _octets(text) > MAX_DOMAIN:
        raise BadAddress(f"domain longer than {MAX_DOMAIN} octets")
    if text.startswith("["):
        return _literal(text)
    if not _DOMAIN.fullmatch(text):
        raise BadAddress("malformed domain")
    return text.lower()


@lru_cache(maxsize=1024)  # one message writes its addresses a dozen times
def _written(local_part: str) -> str:
    if _DOT_STRING.fullmatch(local_part):
        return local_part
    quoted = re.sub(r'([\\"])', r"\\\1", local_part)
    return f'"{quoted}"'


def _local_part(text: str) -> tuple[str, str]:
    match = _QUOTED_STRING.match(text)
    if match:
        local_part = re.sub(r"\\(.)", r"\1", match[1])
    else:
        match = _DOT_STRING.match(text)
        if not match:
            raise BadAddress("malformed local-part")
        local_part = match[0]
    if _octets(local_part) > MAX_LOCAL_PART:
        raise BadAddress(f"local-part longer than {MAX_LOCAL_PART} octets")
    return local_part, text[match.end() :]


def _octets(text: str) -> int:
    """How many it takes; raise BadAddress for half of a surrogate pair, as JSON may have it."""
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise BadAddress("half of a character") from error


def _literal(text: str) -> str:
    if not text.endswith("]"):
        raise BadAddress("unterminated address literal")
    inside = text[1:-1]
    try:
        if inside[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inside[5:])}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError as error:
        raise BadAddress("malformed address literal") from error
