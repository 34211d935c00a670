"""What `structure` has written, for clients that have not enabled UTF-8 (RFC 6855 section 8).

8-bit text becomes RFC 2047 words, which every client reads. A domain goes in its ASCII form (IDNA). An
address whose local part is not ASCII cannot be written down: an invalid one takes its place, whose name says
what it was, so that nobody is answered by mistake (RFC 6858 section 2.1).
"""

from __future__ import annotations

import re
from functools import lru_cache

from mailstack.mail.charset import encode_words

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
# An address, or any other string: what is matched is whole, so that nothing begins inside a string.
_WORD = re.compile(rb"\((NIL|%b) NIL (%b) (%b)\)|%b" % (_STRING, _STRING, _STRING, _STRING))
_PAIR = re.compile(r'\\(["\\])')
_NO_ADDRESS = b'"invalid" "internationalized-address.invalid"'


def seven_bit(value: bytes) -> bytes:
    """ENVELOPE, BODY or BODYSTRUCTURE in 7 bits; what is so already stays as it is. Never raises."""
    return value if value.isascii() else _WORD.sub(_plain, value)


def _plain(found: re.Match[bytes]) -> bytes:
    written = found[0]
    if written.isascii():
        return written
    return _quoted(_text(written)) if found[1] is None else _address(found[1], found[2], found[3])


def _address(name: bytes, local_part: bytes, domain: bytes) -> bytes:
    host = _ascii_domain(_text(domain))
    if local_part.isascii() and host is not None:
        said = name if name.isascii() else _quoted(_text(name))
        return b"(%b NIL %b %b)" % (said, local_part, _quoted(host))
    address = f"<{_text(local_part)}@{_text(domain)}>"
    said = _quoted(address if name == b"NIL" else f"{_text(name)} {address}")
    return b"(%b NIL %b)" % (said, _NO_ADDRESS)


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str | None:
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return None


def _text(quoted: bytes) -> str:
    return _PAIR.sub(r"\1", quoted[1:-1].decode("utf-8", "replace"))


_LINE_ENDS = dict.fromkeys(b"\0\r\n", " ")  # RFC 2047 words that were there before may hold them


def _quoted(text: str) -> bytes:
    words = encode_words(text).translate(_LINE_ENDS).replace("\\", "\\\\").replace('"', '\\"')
    return b'"%b"' % words.encode("ascii", "replace")
