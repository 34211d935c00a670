"""MTA-STS in words (RFC 8461): the TXT record, the policy file, and which exchangers it allows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_POLICY = 64 * 1024  # octets of a policy file (RFC 8461 section 3.3 lets a sender set a limit)
MAX_AGE = 31_557_600.0  # seconds, a year (RFC 8461 section 3.2)
MAX_PATTERNS = 100
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_PATTERN = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class BadPolicy(Exception):
    """What was found is no policy; the text says why."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A domain's policy."""

    mode: str  # "enforce", "testing" or "none"
    mx: tuple[str, ...]  # lower case, "*.example.org" too
    max_age: float  # seconds

    def allows(self, exchanger: str) -> bool:
        """Whether mail may go to this exchanger (RFC 8461 section 4.1): a star is one label, the leftmost."""
        name = exchanger.rstrip(".").lower()
        _, _, rest = name.partition(".")
        return any(
            rest == pattern[2:] if pattern.startswith("*.") else name == pattern for pattern in self.mx
        )


def record_id(records: Iterable[bytes]) -> str | None:
    """The policy's id from a domain's TXT records; None: it has no policy (RFC 8461 section 3.1)."""
    ours = [text for text in records if re.match(rb"v=STSv1[ \t]*(;|$)", text)]
    if len(ours) != 1:
        return None
    for field in ours[0].decode("ascii", "replace").split(";")[1:]:
        key, _, value = field.partition("=")
        if key.strip() == "id" and _ID.fullmatch(value.strip()):
            return value.strip()
    return None


def read_policy(data: bytes) -> StsPolicy:
    """The policy in a file (RFC 8461 section 3.2); raise BadPolicy. Unknown keys are passed over."""
    values: dict[str, str] = {}
    patterns: list[str] = []
    for line in data.decode("utf-8", "replace").splitlines():
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon or not key:
            continue
        if key == "mx":
            patterns.append(_pattern(value))
        else:
            values.setdefault(key, value)  # section 3.2: of a repeated key, only the first counts
    if values.get("version") != "STSv1":
        raise BadPolicy("the policy file does not say version: STSv1")
    mode = values.get("mode", "")
    if mode not in ("enforce", "testing", "none"):
        raise BadPolicy("the policy file has no mode that we know")
    age = values.get("max_age", "")
    if not (age.isascii() and age.isdecimal() and len(age) <= 10):
        raise BadPolicy("the policy file has no max_age")
    if not patterns and mode != "none":
        raise BadPolicy("the policy file names no mx")
    if len(patterns) > MAX_PATTERNS:
        raise BadPolicy("the policy file names too many mx")
    return StsPolicy(mode, tuple(patterns), min(float(age), MAX_AGE))


def _pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text) or len(text) > 255:
        raise BadPolicy("the policy file has an mx that is no name")
    return text.rstrip(".").lower()
