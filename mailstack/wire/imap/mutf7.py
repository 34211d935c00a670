"""Modified UTF-7 (RFC 3501 section 5.1.3): mailbox names on the wire. Nothing here raises.

Names that break the encoding's rules exist in the wild (raw UTF-8, a bare "&", base64 of ASCII). Such a name
is read as raw text, so that it still names one mailbox; it is written back in the right form.
"""

from __future__ import annotations

import binascii
import re

_SHIFTED = re.compile("&([A-Za-z0-9+,]*)-")
_DIRECT = re.compile("[^ -~&]+|&")


def decode(wire: bytes) -> str:
    """The name in Unicode. An ill-formed name is read as raw UTF-8, else as Latin-1."""
    try:
        text = wire.decode("ascii")
    except UnicodeDecodeError:
        return raw(wire)
    if "&" not in text:
        return text
    try:
        name = _SHIFTED.sub(_unshift, text)
    except ValueError:
        return text
    return name if encode(name) == wire else text


def raw(wire: bytes) -> str:
    """Octets of unknown charset as text: UTF-8, else Latin-1."""
    try:
        return wire.decode("utf-8")
    except UnicodeDecodeError:
        return wire.decode("latin-1")


def encode(name: str) -> bytes:
    """The name on the wire; ASCII. A lone surrogate becomes U+FFFD."""
    if name.isascii() and name.isprintable() and "&" not in name:
        return name.encode("ascii")
    return _DIRECT.sub(_shift, name).encode("ascii")


def _unshift(match: re.Match[str]) -> str:
    coded = match[1]
    if not coded:
        return "&"
    octets = binascii.a2b_base64(coded.replace(",", "/") + "=" * (-len(coded) % 4))
    return octets.decode("utf-16-be")


def _shift(match: re.Match[str]) -> str:
    text = match[0]
    if text == "&":
        return "&-"
    octets = _paired(text).encode("utf-16-be")
    return "&" + binascii.b2a_base64(octets, newline=False).decode().rstrip("=").replace("/", ",") + "-"


def _paired(text: str) -> str:
    return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace")
