"""Charsets and transfer encodings of mail, decoded whatever they hold (RFC 2045, 2047).

Theory of operation. A charset name comes from the peer. It is looked up in a table made of Python's own
aliases and never given to `codecs.lookup`, which would import by name, remember every unknown name for good,
and offer codecs that are slow on purpose-made input (punycode) or not charsets at all (zlib).
"""

from __future__ import annotations

import binascii
import re
import string
from encodings.aliases import aliases

_NOT_CHARSETS = frozenset(
    {"base64_codec", "bz2_codec", "hex_codec", "idna", "mbcs", "oem", "punycode", "quopri_codec", "rot_13"}
    | {"raw_unicode_escape", "undefined", "unicode_escape", "uu_codec", "zlib_codec"}
)
_SUPERSETS = {  # what the label says, and what senders mean by it
    "ascii": "cp1252",
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
_NAMES = {name: name for name in aliases.values() if name not in _NOT_CHARSETS}
_NAMES |= {alias: name for alias, name in aliases.items() if name in _NAMES}
_NAMES |= {
    "iso8859_1": "latin_1",
    "x_sjis": "cp932",
    "windows_31j": "cp932",
    "koi8_r": "koi8_r",
    "koi8_u": "koi8_u",
}
_NAMES |= {
    "x_unknown": "ascii",
    "unknown_8bit": "ascii",
    "utf8mb4": "utf_8",
    "x_gbk": "gb18030",
    "x_big5": "big5hkscs",
}
_CODECS = {alias: _SUPERSETS.get(name, name) for alias, name in _NAMES.items()}
_SEPARATORS = re.compile(r"[^0-9A-Za-z]+")
_MAX_NAME = 40

_BASE64 = (string.ascii_letters + string.digits + "+/=").encode()
_NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _BASE64)


def codec(name: str) -> str | None:
    """The Python codec for a MIME charset name, or None for an unknown one."""
    if len(name) > _MAX_NAME:
        return None
    return _CODECS.get(_SEPARATORS.sub("_", name).strip("_").lower())


def decode(data: bytes, charset: str | None = None) -> str:
    """Text of `data`; what the charset cannot say becomes U+FFFD. Unknown: UTF-8 if valid, or Latin-1."""
    found = codec(charset) if charset else None
    if found is None or found == "cp1252":
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            pass
    if found is None:
        return data.decode("latin-1")
    try:
        return data.decode(found, "replace")
    except (UnicodeError, ValueError):  # a codec that ignores "replace"
        return data.decode("latin-1")


def raw_text(data: bytes) -> str:
    """Octets of a header as text: ASCII, or UTF-8 (RFC 6532), or else Latin-1, which takes anything."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode_base64(data: bytes) -> bytes:
    """Base64 with whatever does not belong there ignored, also "=" in the middle and a cut end."""
    runs = data.translate(None, _NOT_BASE64).split(b"=")
    return b"".join(_base64_run(run) for run in runs if run)


def _base64_run(run: bytes) -> bytes:
    if len(run) % 4 == 1:
        run = run[:-1]  # six bits are no octet
    return binascii.a2b_base64(run + b"=" * (-len(run) % 4))


def decode_transfer(data: bytes, encoding: str) -> bytes:
    """Undo a Content-Transfer-Encoding (RFC 2045 section 6); an unknown one leaves the octets as they are."""
    if encoding == "base64":
        return decode_base64(data)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(data)
    return data


# RFC 2047 section 2, with the language of RFC 2231 section 5; no white space inside, as section 2 says, save
# that many senders leave blanks in a Q word.
_ONE = r"=\?[^?\s]{1,80}\?[bBqQ]\?[^?\r\n]*\?="
_RUN = re.compile(rf"{_ONE}(?:[ \t\r\n]*{_ONE})*")
_WORD = re.compile(r"=\?([^?*\s]*)[^?\s]*\?([bBqQ])\?([^?\r\n]*)\?=")
_MAX_PIECE = 45  # octets that base64 makes 60 characters of: an encoded word has at most 75


def decode_encoded_words(text: str) -> str:
    """`text` with its encoded words decoded; white space between two of them goes (RFC 2047 section 6.2)."""
    if "=?" not in text:
        return text
    return _RUN.sub(lambda run: _decode_run(run[0]), text)


def _decode_run(run: str) -> str:
    """Adjacent encoded words: one charset's octets are joined first, for senders cut inside characters."""
    decoded: list[str] = []
    charset, octets = "", b""
    for match in _WORD.finditer(run):
        if match[1].lower() != charset:
            decoded.append(decode(octets, charset))
            charset, octets = match[1].lower(), b""
        octets += _word_octets(match[2], match[3])
    decoded.append(decode(octets, charset))
    return "".join(decoded)


def _word_octets(encoding: str, text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    if encoding in "bB":
        return decode_base64(data)
    return binascii.a2b_qp(data, header=True)


def encode_words(text: str) -> str:
    """`text` in ASCII: what is not becomes RFC 2047 words in UTF-8 that any client decodes."""
    if text.isascii():
        return text
    if "=?" in text:  # old words beside new ones would lose the blanks between them
        text = decode_encoded_words(text)
    words = text.split(" ")
    foreign = [number for number, word in enumerate(words) if not word.isascii()]
    if not foreign:
        return text
    first, last = foreign[0], foreign[-1] + 1
    middle = " ".join(words[first:last])
    return " ".join([*words[:first], *_encoded(middle), *words[last:]])


def _encoded(text: str) -> list[str]:
    pieces: list[str] = []
    data = text.encode("utf-8", "replace")
    start = 0
    while start < len(data):
        end = min(start + _MAX_PIECE, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # never inside a character (RFC 2047 section 5)
            end -= 1
        pieces.append(f"=?utf-8?b?{binascii.b2a_base64(data[start:end], newline=False).decode()}?=")
        start = end
    return pieces
