"""Reading SPF records (RFC 7208 sections 4.5, 4.6, 5, 6 and 7.1)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mailstack.mail.spf.macros import BadMacro, validate

MOST_OCTETS = 8192  # of one record; section 3.4 wants some 450
RESULTS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_VERSION = re.compile(rb"(?i)v=spf1(?: |\Z)")
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)", re.DOTALL)
_MECHANISM = re.compile(r"([+\-~?]?)([A-Za-z][A-Za-z0-9._-]*)((?:[:/].*)?)", re.DOTALL)
_TARGET = re.compile(r"(?::(?P<spec>.+?))?(?:/(?P<four>\d+))?(?://(?P<six>\d+))?", re.DOTALL | re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")


class BadRecord(ValueError):
    """A record that breaks the grammar: permerror (section 2.6.7)."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One mechanism: what it gives where it matches, and by what it does."""

    result: str  # pass, fail, softfail, neutral
    kind: str  # all, include, a, mx, ptr, ip4, ip6, exists
    spec: str = ""  # the domain-spec, macros not expanded; "" is the current domain
    four: int = 32  # bits of an IPv4 address that must match
    six: int = 128
    network: Network | None = None  # of ip4 and ip6


@dataclass(frozen=True, slots=True)
class Record:
    """What a domain says about who may send for it."""

    mechanisms: tuple[Mechanism, ...]
    redirect: str | None = None  # a domain-spec


def select(texts: Iterable[bytes]) -> bytes | None:
    """The SPF record among TXT records; None if there is none; raise BadRecord for several (section 4.5)."""
    found = [text for text in texts if _VERSION.match(text)]
    if len(found) > 1:
        raise BadRecord("several records")
    return found[0] if found else None


def parse(text: bytes) -> Record:
    """Read the whole record; raise BadRecord for an error anywhere in it (section 4.6)."""
    if len(text) > MOST_OCTETS:
        raise BadRecord("the record is too long")
    try:
        terms = text.decode("ascii")[6:].split(" ")
    except UnicodeDecodeError as error:
        raise BadRecord("not in ASCII") from error
    mechanisms, modifiers = [], {}
    for term in filter(None, terms):
        modifier = _MODIFIER.fullmatch(term)
        if modifier is None:
            mechanisms.append(_mechanism(term))
            continue
        name = modifier[1].lower()
        if name not in ("redirect", "exp"):
            _valid(modifier[2], "", any_end=True)  # section 6: an unknown one is ignored, if well-formed
            continue
        if name in modifiers:
            raise BadRecord(f"{name}= twice")
        modifiers[name] = _valid(modifier[2], term)
    return Record(tuple(mechanisms), modifiers.get("redirect"))


def _mechanism(term: str) -> Mechanism:
    match = _MECHANISM.fullmatch(term)
    if match is None:
        raise BadRecord(f"no mechanism: {term[:40]}")
    result, kind, rest = RESULTS[match[1] or "+"], match[2].lower(), match[3]
    if kind in ("ip4", "ip6"):
        return Mechanism(result, kind, network=_network(kind, rest, term))
    found = _TARGET.fullmatch(rest)
    if kind not in _SHAPES or found is None:
        raise BadRecord(f"no mechanism: {term[:40]}")
    needs_spec, takes_spec, takes_bits = _SHAPES[kind]
    spec = found["spec"] or ""
    if (needs_spec and not spec) or (spec and not takes_spec):
        raise BadRecord(f"wrong: {term[:40]}")
    if not takes_bits and (found["four"] or found["six"]):
        raise BadRecord(f"wrong: {term[:40]}")
    if spec:
        _valid(spec, term)
    return Mechanism(result, kind, spec, _bits(found["four"], 32, term), _bits(found["six"], 128, term))


_SHAPES = {  # kind: whether it needs a domain-spec, may have one, may have a prefix length
    "all": (False, False, False),
    "include": (True, True, False),
    "a": (False, True, True),
    "mx": (False, True, True),
    "ptr": (False, True, False),
    "exists": (True, True, False),
}


def _network(kind: str, rest: str, term: str) -> Network:
    address, slash, bits = rest[1:].partition("/")
    most = 32 if kind == "ip4" else 128
    length = _bits(bits if slash else None, most, term)
    try:
        if not rest.startswith(":") or "%" in address:
            raise ValueError(rest)
        if kind == "ip4":
            return ipaddress.IPv4Network((int(ipaddress.IPv4Address(address)), length), strict=False)
        return ipaddress.IPv6Network((int(ipaddress.IPv6Address(address)), length), strict=False)
    except ValueError as error:
        raise BadRecord(f"no network: {term[:60]}") from error


def _bits(text: str | None, most: int, term: str) -> int:
    if text is None:
        return most
    if not _NUMBER.fullmatch(text) or int(text) > most:
        raise BadRecord(f"wrong prefix length: {term[:60]}")
    return int(text)


def _valid(spec: str, term: str, any_end: bool = False) -> str:
    try:
        validate(spec, any_end)
    except BadMacro as error:
        raise BadRecord(f"{error}: {term[:60]}" if term else str(error)) from error
    return spec
