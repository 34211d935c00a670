"""What final delivery adds to a message and looks for in it: Return-Path and Delivered-To."""

from __future__ import annotations

import re

from mailstack.mail.address import Address
from mailstack.mail.message import Message

MAX_HEADER = 256 * 1024  # octets looked at; a header section that is longer hides its end from us
_PIECE = 16 * 1024  # octets looked at together: to copy a whole body for its header section is dear
_DELIVERED_TO = re.compile(rb"^delivered-to:[ \t]*([^\r\n]{1,320})", re.IGNORECASE | re.MULTILINE)


def fields(reverse_path: Address | None, user: Address) -> bytes:
    """The two fields, newest in front (RFC 5321 section 4.4; Delivered-To: RFC 9228)."""
    return f"Return-Path: <{reverse_path or ''}>\r\nDelivered-To: {user}\r\n".encode()


def header(message: Message) -> bytes:
    """The header section, or its first MAX_HEADER octets. Blocks where a part is in a file."""
    read = b""
    for chunk in message.chunks():
        for start in range(0, len(chunk), _PIECE):
            seen = max(0, len(read) - 3)
            read += chunk[start : start + _PIECE]
            end = read.find(b"\r\n\r\n", seen)
            if end >= 0 or len(read) >= MAX_HEADER:
                return read[: min(end, MAX_HEADER) if end >= 0 else MAX_HEADER]
    return read


def delivered_to(header: bytes) -> frozenset[str]:
    """Keys of the addresses that it has been delivered to already."""
    if b"elivered-" not in header and b"ELIVERED-" not in header.upper():
        return frozenset()
    found = _DELIVERED_TO.findall(header)
    return frozenset(text.strip().strip(b"<>").decode("utf-8", "replace").lower() for text in found)
