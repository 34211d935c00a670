"""MD5 from its middle (RFC 1321), which hashlib cannot: HMAC-MD5 from the two states that a key leads to.

CRAM-MD5 needs HMAC(password, challenge). Its first block on either side is the padded password, so the two
states after that block do for the password, and do for nothing else.
"""

from __future__ import annotations

import struct

_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_SHIFTS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
_BLOCK = 64


def _sines() -> tuple[int, ...]:
    """RFC 1321 section 3.4: 2**32 times |sin(i)| for i in radians, without its fraction."""
    import math

    return tuple(int(abs(math.sin(i)) * 2**32) for i in range(1, 65))


_SINES = _sines()


def key_states(key: bytes) -> bytes:
    """The inner and the outer state of HMAC-MD5 (RFC 2104) for `key`: 32 octets."""
    if len(key) > _BLOCK:
        key = _finish(_START, key, 0)
    padded = key.ljust(_BLOCK, b"\0")
    inner = _compress(_START, bytes(octet ^ 0x36 for octet in padded))
    outer = _compress(_START, bytes(octet ^ 0x5C for octet in padded))
    return struct.pack("<8I", *inner, *outer)


def hmac_from_states(states: bytes, message: bytes) -> bytes:
    """HMAC-MD5 of `message` under the key that `states` were made of."""
    words = struct.unpack("<8I", states)
    return _finish(words[4:], _finish(words[:4], message, _BLOCK), _BLOCK)


def _finish(state: tuple[int, ...], data: bytes, before: int) -> bytes:
    """The digest after `data`, which `before` octets went before."""
    bits = (before + len(data)) * 8
    data += b"\x80" + bytes((55 - before - len(data)) % _BLOCK) + struct.pack("<Q", bits & (2**64 - 1))
    for at in range(0, len(data), _BLOCK):
        state = _compress(state, data[at : at + _BLOCK])
    return struct.pack("<4I", *state)


def _compress(state: tuple[int, ...], block: bytes) -> tuple[int, ...]:
    """RFC 1321 section 3.4: one block."""
    words = struct.unpack("<16I", block)
    a, b, c, d = state
    for i in range(64):
        turn = i // 16
        if turn == 0:
            mixed, at = (b & c) | (~b & d), i
        elif turn == 1:
            mixed, at = (d & b) | (~d & c), 5 * i + 1
        elif turn == 2:
            mixed, at = b ^ c ^ d, 3 * i + 5
        else:
            mixed, at = c ^ (b | (~d & 0xFFFFFFFF)), 7 * i
        total = (a + mixed + _SINES[i] + words[at % 16]) & 0xFFFFFFFF
        shift = _SHIFTS[turn][i % 4]
        a, d, c, b = d, c, b, (b + (total << shift | total >> (32 - shift))) & 0xFFFFFFFF
    return tuple((old + new) & 0xFFFFFFFF for old, new in zip(state, (a, b, c, d), strict=True))
