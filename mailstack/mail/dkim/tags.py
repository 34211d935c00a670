"""Tag lists: ``v=1; a=rsa-sha256; ...`` (RFC 6376 section 3.2)."""

from __future__ import annotations

import base64
import binascii
import re

MOST_OCTETS = 16 * 1024  # of one list
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SPACE = re.compile(r"[ \t\r\n]+")
_SIGNATURE = re.compile(rb"(^|;)([ \t\r\n]*b[ \t\r\n]*=)[^;]*")


class BadTags(ValueError):
    """It is no tag list, or lacks what it needs; the message says what."""


def parse(value: bytes) -> dict[str, str]:
    """The tags by name, their values without the white space around; raise BadTags."""
    if len(value) > MOST_OCTETS:
        raise BadTags("too long")
    tags: dict[str, str] = {}
    for part in value.decode("utf-8", "replace").split(";"):
        if not part.strip():
            continue
        name, equals, content = part.partition("=")
        name = name.strip()
        if not equals or not _NAME.fullmatch(name):
            raise BadTags("not a tag list")
        if name in tags:
            raise BadTags(f"{name}= twice")
        tags[name] = content.strip()
    return tags


def required(tags: dict[str, str], *names: str) -> list[str]:
    """The values of these tags; raise BadTags where one is missing or empty."""
    missing = [name for name in names if not tags.get(name)]
    if missing:
        raise BadTags(f"no {missing[0]}=")
    return [tags[name] for name in names]


def number(tags: dict[str, str], name: str) -> int | None:
    """A tag of at most 76 digits as a number, None if it is not there; raise BadTags."""
    text = tags.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 76:
        raise BadTags(f"{name}= is no number")
    return int(text)


def octets(text: str) -> bytes:
    """What base64 with white space in it stands for; raise BadTags."""
    try:
        return base64.b64decode(_SPACE.sub("", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadTags("broken base64") from error


def names(text: str) -> list[bytes]:
    """The names of h=, in lower case."""
    return [one.strip().lower().encode() for one in text.split(":") if one.strip()]


def without_signature(raw: bytes) -> bytes:
    """The field with the value of b= taken out (RFC 6376 section 3.7)."""
    name, colon, value = raw.partition(b":")
    return name + colon + _SIGNATURE.sub(rb"\1\2", value, count=1)


def folded(data: bytes, width: int = 72) -> str:
    """Base64 over several lines of a field."""
    text = base64.b64encode(data).decode()
    return "\r\n\t ".join(text[at : at + width] for at in range(0, len(text), width))
