"""Signing (RFC 6376 sections 3.7 and 5): a DKIM-Signature field for each key.

Fields that a reader relies on are oversigned: h= names them once more than they are there, so that none can
be added behind our back. ``l=`` is never written: it would let anybody append.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mailstack.mail.dkim import tags
from mailstack.mail.dkim.canonical import BodyHash, relaxed_field
from mailstack.mail.dkim.keys import PrivateKey
from mailstack.mail.fields import split_fields

MOST_HEADER = 1024 * 1024  # octets of a header section that is signed

OVERSIGNED = (
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
)
IF_THERE = (
    "Sender",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
)


class HeaderTooBig(ValueError):
    """No header section ends in MOST_HEADER octets."""


@dataclass(frozen=True, slots=True)
class Signer:
    """One key of one domain."""

    domain: str  # d=, in A-labels
    selector: str
    key: PrivateKey


def sign(chunks: Iterable[bytes], signers: Sequence[Signer], now: int) -> bytes:
    """The DKIM-Signature fields to put in front of the message in `chunks`; raise HeaderTooBig.

    The order is that of `signers`, the last of them topmost.
    """
    header, body_hash = read(chunks)
    fields = split_fields(header)
    chosen = _chosen(fields)
    signed = b"".join(map(relaxed_field, select(fields, [name.lower().encode() for name in chosen])))
    result = b""
    for signer in signers:
        tag = (
            f"v=1; a={signer.key.algorithm}-sha256; c=relaxed/relaxed; d={signer.domain};\r\n"
            f"\ts={signer.selector}; t={now};\r\n"
            f"\th={_folded_names(chosen)};\r\n"
            f"\tbh={base64.b64encode(body_hash).decode()};\r\n\tb="
        )
        result = finished(f"DKIM-Signature: {tag}", signed, signer.key) + result
    return result


def finished(start: str, signed: bytes, key: PrivateKey) -> bytes:
    """The field that begins with `start`, up to "b=", with its signature over `signed` and itself."""
    own = relaxed_field(start.encode())[:-2]  # RFC 6376 section 3.7: without its CRLF
    digest = hashlib.sha256(signed + own).digest()
    return f"{start}{tags.folded(key.sign(digest))}\r\n".encode()


def read(chunks: Iterable[bytes]) -> tuple[bytes, bytes]:
    """The header section and the relaxed body's hash; raise HeaderTooBig."""
    hashed = BodyHash(relaxed=True)
    header, rest = split(iter(chunks))
    for chunk in rest:
        hashed.update(chunk)
    return header, hashed.digest()


def split(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The header section with the line end of its last field, and the body; raise HeaderTooBig."""
    data = b""
    for chunk in chunks:
        data += chunk
        if data.startswith(b"\r\n"):
            return b"", _chain(data[2:], chunks)
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            return data[: end + 2], _chain(data[end + 4 :], chunks)
        if len(data) > MOST_HEADER:
            raise HeaderTooBig(f"no header section ends in {MOST_HEADER} octets")
    return data, iter(())


def select(fields: Sequence[tuple[bytes, bytes]], names: Iterable[bytes]) -> list[bytes]:
    """The fields that h= names, each next one from the bottom up (RFC 6376 section 5.4.2)."""
    left: dict[bytes, list[bytes]] = {}
    for name, raw in fields:
        left.setdefault(name, []).append(raw)
    return [found.pop() for name in names if (found := left.get(name))]


def _chosen(fields: Sequence[tuple[bytes, bytes]]) -> list[str]:
    counts = Counter(name for name, _ in fields)
    names = []
    for name in OVERSIGNED:
        names += [name] * (counts[name.lower().encode()] + 1)
    for name in IF_THERE:
        names += [name] * counts[name.lower().encode()]
    return names


def _folded_names(names: Sequence[str]) -> str:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > 68:
            lines.append("")
        lines[-1] += f"{name}:"
    return "\r\n\t ".join(lines)[:-1]


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest
