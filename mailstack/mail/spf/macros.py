"""SPF's macros: ``%{ir}.%{v}._spf.%{d2}`` (RFC 7208 section 7)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import quote

MAX_NAME = 253  # characters of an expanded domain name (section 7.3)
_ESCAPES = {"%%": "%", "%_": " ", "%-": "%20"}
_EXPAND = r"%\{[A-Za-z][0-9]{0,9}[rR]?[.\-+,/_=]*\}|%%|%_|%-"
_TOKEN = re.compile(rf"({_EXPAND})|([\x21-\x24\x26-\x7e]+)")
_PARTS = re.compile(r"%\{([A-Za-z])([0-9]*)([rR]?)([.\-+,/_=]*)\}")
_TOP = r"(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])"
_END = re.compile(rf"(?:.*\.{_TOP}\.?|.*(?:{_EXPAND}))", re.DOTALL)
_LETTERS = frozenset("slodiphv")  # c, r and t are for explanations only


class BadMacro(ValueError):
    """A macro-string that breaks the grammar."""


def validate(spec: str, any_end: bool = False) -> None:
    """Raise BadMacro unless it is a domain-spec (section 7.1), or with `any_end` a macro-string."""
    at = 0
    while at < len(spec):
        token = _TOKEN.match(spec, at)
        if token is None:
            raise BadMacro("wrong macro")
        parts = _PARTS.fullmatch(token[1] or "")
        if parts and (parts[1].lower() not in _LETTERS or (parts[2] and not int(parts[2]))):
            if not any_end or parts[1].lower() not in "crt":
                raise BadMacro("wrong macro")
        at = token.end()
    if not any_end and not _END.fullmatch(spec):
        raise BadMacro("no domain name")


def needs(spec: str, letter: str) -> bool:
    """Whether one of the macros in `spec` is of that letter."""
    return any(parts[1].lower() == letter for parts in _PARTS.finditer(spec))


def expand(spec: str, values: Mapping[str, str]) -> str:
    """The domain name that a valid `spec` stands for, without labels on the left that make it too long."""
    text = _TOKEN.sub(lambda token: _value(token[1], values) if token[1] else token[2], spec)
    text = text.removesuffix(".")
    while len(text) > MAX_NAME:
        _, dot, text = text.partition(".")
        if not dot:
            return ""
    return text


def _value(token: str, values: Mapping[str, str]) -> str:
    if token in _ESCAPES:
        return _ESCAPES[token]
    match = _PARTS.fullmatch(token)
    assert match is not None
    letter, digits, reverse, delimiters = match.groups()
    parts = re.split(f"[{re.escape(delimiters or '.')}]", values[letter.lower()])
    if reverse:
        parts.reverse()
    if digits:
        parts = parts[-int(digits) :]
    value = ".".join(parts)
    return quote(value, safe="-._~") if letter.isupper() else value


def dotted(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """What %{i} is: an IPv6 address in nibbles (section 7.3)."""
    if address.version == 4:
        return str(address)
    return ".".join(address.exploded.replace(":", "")).upper()
