"""Authentication-Results fields: written, and those that claim to be ours found (RFC 8601)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mailstack.mail.fields import iterate_fields

FIELD = "Authentication-Results"

_NAME = FIELD.lower().encode()
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~\u0080-\U0010ffff]+")  # RFC 2045, and RFC 8616 section 5
_LOCAL = r"[A-Za-z0-9!#$%&'*+\-/=?.^_`{|}~\u0080-\U0010ffff]*"
_VALUE = re.compile(rf"(?:{_LOCAL}@)?[A-Za-z0-9\-._\u0080-\U0010ffff]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SERVER = re.compile(r"[^\s;\"()]+")
_WIDTH = 100  # characters of a line, where it can be broken
_MOST_VALUE, _MOST_REASON = 320, 500
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Result:
    """One method's: ``dkim=pass reason="..." header.d=example.org``."""

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()  # ("header.d", "example.org")
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.method}={self.result}"
        reason = [f"reason={_quoted(self.reason)}"] if self.reason else []
        for more in [*reason, *(f"{name}={_value(value)}" for name, value in self.properties if value)]:
            text += ("\r\n\t " if len(text.rpartition("\n")[2]) + len(more) > _WIDTH else " ") + more
        return text


def written(results: Iterable[Result]) -> str:
    """The results without the name of who found them, one a line; "none" where there are none."""
    return ";\r\n\t".join(map(str, results)) or "none"


def field_body(authserv: str, results: Iterable[Result]) -> str:
    """The body of the field that says them in the name of `authserv`."""
    return f"{authserv};\r\n\t{written(results)}"


def found_by(header: bytes, authserv: str) -> str | None:
    """What the fields of `authserv` in a header section say, without its name; None: there are none.

    Only for a header section whose foreign claims to that name are out (`without_claims`).
    """
    found = []
    for name, raw in iterate_fields(header):
        if name == _NAME:
            body = raw.partition(b":")[2].decode("utf-8", "replace")
            server, end = _server(body)
            if server == authserv.lower():
                found.append(body[end:].partition(";")[2].strip())
    return ";\r\n\t".join(filter(None, found)) or None


def without_claims(header: bytes, authserv: str) -> bytes:
    """The header section without the fields that say they are of `authserv` (RFC 8601 section 5).

    A field that does not say whose it is goes too. The same object where there is nothing to take out.
    """
    if _NAME not in header.lower():
        return header
    kept = [raw for name, raw in iterate_fields(header) if name != _NAME or not _claims(raw, authserv)]
    result = b"".join(kept)
    return header if len(result) == len(header) else result


def _claims(raw: bytes, authserv: str) -> bool:
    server, _ = _server(raw.partition(b":")[2].decode("utf-8", "replace"))
    return server in ("", authserv.lower())


def _server(body: str) -> tuple[str, int]:
    """The authserv-id in lower case, "" where it cannot be read, and where it ends (RFC 8601 section 2.2)."""
    at = _skip_comments(body, 0)
    quoted = _QUOTED.match(body, at)
    if quoted:
        return re.sub(r"\\(.)", r"\1", quoted[1]).lower().rstrip("."), quoted.end()
    plain = _SERVER.match(body, at)
    return (plain[0].lower().rstrip("."), plain.end()) if plain else ("", at)


def _skip_comments(text: str, at: int) -> int:
    """Where what follows white space and comments begins (RFC 5322 section 3.2.2)."""
    depth = 0
    while at < len(text):
        mark = text[at]
        if mark == "(":
            depth += 1
        elif depth and mark == ")":
            depth -= 1
        elif depth and mark == "\\":
            at += 1
        elif not depth and not mark.isspace():
            return at
        at += 1
    return at


def _value(text: str) -> str:
    text = text[:_MOST_VALUE]
    return text if _TOKEN.fullmatch(text) or _VALUE.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    text = _UNSAFE.sub(" ", text)[:_MOST_REASON]
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
