"""The Content-* fields of one MIME header section (RFC 2045, 2183, 2231, 3066)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from mailstack.mail.charset import decode, decode_encoded_words, raw_text

Parameters = tuple[tuple[str, str], ...]

MAX_VALUE = 8 * 1024  # octets of one Content-* field that are looked at
_MAX_NAME = 64  # octets up to the colon

_WANTED = frozenset(
    (b"type", b"id", b"description", b"transfer-encoding", b"md5", b"disposition", b"language", b"location")
)
_RECURRING = frozenset((b"type", b"transfer-encoding", b"disposition", b"language"))
_SHORT = 128  # octets of such fields, if there are no others, whose meaning is remembered
_TYPE = re.compile(r"([^\s/;]+)[ \t]*/[ \t]*([^\s/;]+)")
# A value without quotes should be a token; all up to the ";" is taken, as senders leave blanks in names.
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]+|\\.)*)(?:"|\\?\Z)|([^;]*))', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SECTION = re.compile(r"([^*]+)\*(?:(0|[1-9][0-9]{0,3})(\*?))?")
_NEXT_FIELD = re.compile(rb"\n(?![ \t])")


@dataclass(frozen=True, slots=True)
class Content:
    """What one header section says about its body."""

    type: str = "text"
    subtype: str = "plain"
    parameters: Parameters = ()
    encoding: str = "7bit"
    disposition: tuple[str, Parameters] | None = None
    language: tuple[str, ...] = ()
    id: str | None = None  # this and the three below: unfolded and stripped, or None
    description: str | None = None
    md5: str | None = None
    location: str | None = None
    cost: int = 0  # octets read to make this


DEFAULT = Content()
DIGEST = Content("message", "rfc822")  # RFC 2046 section 5.1.5: the default in multipart/digest


def read_content(header: bytes, default: Content = DEFAULT, room: int = MAX_VALUE * 8) -> Content | None:
    """The first of each Content-* field; what is missing or malformed is `default` (RFC 2045 section 5.2).

    None: the fields have more than `room` octets.
    """
    found = _content_fields(header)
    if not found:
        return default
    cost = sum(map(len, found.values()))
    if cost > room:
        return None
    if found.keys() <= _RECURRING and cost <= _SHORT:
        return _recurring(default.type, default.subtype, cost, *found.items())
    return _content(default.type, default.subtype, cost, *found.items())


def _content(type: str, subtype: str, cost: int, *fields: tuple[bytes, str]) -> Content:
    found = dict(fields)
    parameters: Parameters = ()
    if kind := found.get(b"type"):
        match = _TYPE.match(kind if "(" not in kind else without_comments(kind).strip())
        if match is not None:
            type, subtype, parameters = match[1].lower(), match[2].lower(), read_parameters(kind)
    return Content(
        type,
        subtype,
        parameters,
        read_token(found.get(b"transfer-encoding"), "7bit"),
        read_disposition(found.get(b"disposition")),
        read_languages(found.get(b"language")),
        found.get(b"id"),
        found.get(b"description"),
        found.get(b"md5"),
        found.get(b"location"),
        cost,
    )


_recurring = lru_cache(maxsize=1_000)(_content)


def _content_fields(header: bytes) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    folded = header.lower()
    at = 0 if folded.startswith(b"content-") else folded.find(b"\ncontent-") + 1
    more = at > 0 or folded.startswith(b"content-")
    while more:
        colon = folded.find(b":", at, at + _MAX_NAME)
        name = folded[at + 8 : colon].rstrip() if colon > 0 else b""
        if name in _WANTED and name not in found:
            found[name] = _value(header, colon + 1)
        at = folded.find(b"\ncontent-", at) + 1
        more = at > 0
    return found


def _value(header: bytes, start: int) -> str:
    end = _NEXT_FIELD.search(header, start, start + MAX_VALUE)
    value = header[start : end.start() if end else start + MAX_VALUE].strip()
    if b"\n" in value:
        value = value.replace(b"\r", b"").replace(b"\n", b"")
    return raw_text(value)


def read_parameters(value: str) -> Parameters:
    """The ``; name=value`` pairs of a field, comments dropped, continuations joined (RFC 2231 section 6)."""
    if ";" not in value:
        return ()
    if "(" in value:
        value = without_comments(value)
    pairs: list[tuple[str, str]] = []
    for match in _PARAMETER.finditer(value):
        name, quoted, plain = match.groups()
        text = plain.strip() if quoted is None else quoted
        pairs.append((name.lower(), _QUOTED_PAIR.sub(r"\1", text) if quoted and "\\" in quoted else text))
    if any("*" in name for name, _ in pairs):
        return _joined(pairs)
    return tuple(pairs)


def _joined(pairs: list[tuple[str, str]]) -> Parameters:
    """Sections name*0, name*1 … as one: "name", or "name*" if any section is extended."""
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    result: list[tuple[str, str]] = []
    for name, value in pairs:
        match = _SECTION.fullmatch(name)
        if match is None or match[2] is None:
            result.append((name, value))
        else:
            sections.setdefault(match[1], {}).setdefault(int(match[2]), (value, bool(match[3])))
    for name, numbered in sections.items():
        result.append(_join(name, [numbered[number] for number in sorted(numbered)]))
    return tuple(result)


def _join(name: str, values: list[tuple[str, bool]]) -> tuple[str, str]:
    if not any(extended for _, extended in values):
        return name, "".join(value for value, _ in values)
    # RFC 2231 section 4.1: a plain section among extended ones holds no percent-encoding: protect its "%".
    parts = [value if extended else value.replace("%", "%25") for value, extended in values]
    if not values[0][1]:
        parts.insert(0, "''")
    return f"{name}*", "".join(parts)


def decode_parameter(parameters: Parameters, name: str) -> str | None:
    """One parameter with RFC 2231 (``name*``) or, against the RFC but common, RFC 2047 undone."""
    for key, value in parameters:
        if key == f"{name}*":
            charset, _, rest = value.partition("'")
            return decode(unquote_to_bytes(rest.partition("'")[2]), charset or "utf-8")
    for key, value in parameters:
        if key == name:
            return decode_encoded_words(value)
    return None


def read_disposition(value: str | None) -> tuple[str, Parameters] | None:
    """The Content-Disposition field: its type in lower case and parameters (RFC 2183)."""
    if not value:
        return None
    if "(" in value:
        value = without_comments(value)
    kind = value.partition(";")[0].strip().lower()
    return (kind, read_parameters(value)) if kind else None


def read_token(value: str | None, default: str) -> str:
    """A one-word field, such as Content-Transfer-Encoding, in lower case."""
    if not value:
        return default
    if "(" in value:
        value = without_comments(value)
    word = value.strip().rstrip(";").split(None, 1)
    return word[0].lower() if word else default


def read_languages(value: str | None) -> tuple[str, ...]:
    """The tags of a Content-Language field (RFC 3282)."""
    if not value:
        return ()
    if "(" in value:
        value = without_comments(value)
    return tuple(tag for tag in (piece.strip() for piece in value.split(",")) if tag)


_OUTSIDE = re.compile(r'[^"(]+|"(?:[^"\\]+|\\.)*(?:"|\\?\Z)|\(', re.DOTALL)
_INSIDE = re.compile(r"[^()\\]+|\\.|[()\\]", re.DOTALL)


def without_comments(value: str) -> str:
    """The value with (nested) comments made blanks; quoted strings stay (RFC 5322 section 3.2.2)."""
    kept: list[str] = []
    depth = at = 0
    while match := (_INSIDE if depth else _OUTSIDE).match(value, at):
        at = match.end()
        if match[0] == "(":
            depth += 1
        elif depth:
            depth -= match[0] == ")"
        else:
            kept.append(match[0])
            continue
        kept.append(" ")
    return "".join(kept)
