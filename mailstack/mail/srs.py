"""SRS: a reverse-path of our own for mail that we forward, and the way back to the one that it had.

Theory of operation. Who receives forwarded mail asks whether we may send for the reverse-path's domain (SPF,
RFC 7208): for somebody else's we may not. So the address is written into a local-part of ours,
``SRS0=hash=day=domain=local-part``; a bounce to it is decoded and goes on. The hash, which only we can make,
keeps others from sending through us to anybody; the day ends it. An address that was rewritten by another
forwarder is not wrapped again but pointed at: ``SRS1=hash=forwarder==rest``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from mailstack.mail.address import MAX_LOCAL_PART, MAX_PATH, Address, BadAddress

DAYS = 21  # that a return path holds: longer than mail waits in any queue
_HASH = 6  # characters of base32: 30 bits
_WRAPPED = re.compile(r"SRS([01])([=+-])(.*)", re.IGNORECASE | re.DOTALL)
_SECOND = "SRS1="  # is in the hash of those, or an SRS0 of ours could be read as one
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_PLAIN = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")


class BadReturnPath(ValueError):
    """It is none of ours, or not any more; the message says which."""


class TooLong(ValueError):
    """The address does not fit into a local-part (RFC 5321 section 4.5.3.1.1)."""


def is_wrapped(local_part: str) -> bool:
    """Whether a local-part looks like SRS, ours or not."""
    return _WRAPPED.fullmatch(local_part) is not None


def wrap(address: Address, domain: str, secret: bytes, day: int) -> Address:
    """`address` as one of our `domain`'s, made on `day` (of the epoch); raise TooLong."""
    found = _WRAPPED.fullmatch(address.local_part)
    if found and found[1] == "0":
        rest = f"{address.domain}={found[2]}{found[3]}"
        local = f"SRS1={_hash(secret, _SECOND + rest)}={rest}"
    elif found:
        _, _, rest = found[3].partition("=")
        local = f"SRS1={_hash(secret, _SECOND + rest)}={rest}"
    else:
        stamp = _DIGITS[day // 32 % 32] + _DIGITS[day % 32]
        rest = f"{stamp}={address.domain}={address.local_part}"
        local = f"SRS0={_hash(secret, rest)}={rest}"
    whole = Address(local, domain)
    if not _PLAIN.fullmatch(local) or len(local) > MAX_LOCAL_PART or len(str(whole)) > MAX_PATH:
        raise TooLong(f"{len(local)} characters")
    return whole


def unwrap(local_part: str, secret: bytes, day: int) -> Address:
    """The address that a local-part of ours stands for; raise BadReturnPath: forged, or expired."""
    found = _WRAPPED.fullmatch(local_part)
    parts = found[3].split("=", 1) if found else []
    if not found or len(parts) != 2 or found[2] != "=":
        raise BadReturnPath("not a return path")
    given, rest = parts
    signed = _SECOND + rest if found[1] == "1" else rest
    if not hmac.compare_digest(given.lower().encode(), _hash(secret, signed).encode()):
        raise BadReturnPath("not a return path of ours")
    try:
        if found[1] == "1":
            domain, _, wrapped = rest.partition("=")
            return Address.parse(str(Address(f"SRS0{wrapped}", domain)))
        stamp, domain, local = rest.split("=", 2)
        _check_age(stamp, day)
        return Address.parse(str(Address(local, domain)))
    except (BadAddress, ValueError) as error:
        if isinstance(error, BadReturnPath):
            raise
        raise BadReturnPath("not a return path") from error


def _check_age(stamp: str, day: int) -> None:
    if len(stamp) != 2 or any(digit not in _DIGITS for digit in stamp.lower()):
        raise BadReturnPath("not a return path")
    made = _DIGITS.index(stamp[0].lower()) * 32 + _DIGITS.index(stamp[1].lower())
    if (day - made) % 1024 > DAYS:
        raise BadReturnPath("return path has expired")


def _hash(secret: bytes, text: str) -> str:
    """Over the text in lower case: some MTAs change the case of a local-part."""
    digest = hmac.digest(secret, text.lower().encode(), hashlib.sha256)
    return base64.b32encode(digest)[:_HASH].decode().lower()
