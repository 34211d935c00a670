"""Ids that clients can rely on (RFC 8474), made of what survives the loss of the database.

The same octets have the same EMAILID wherever they lie: a copy or a move keeps it, a rebuild finds it again.
Messages of a conversation share the THREADID of the message that began it. A mailbox keeps its MAILBOXID
for as long as its UIDVALIDITY, whatever it is called.
"""

from __future__ import annotations

import mmap
import re
from base64 import b32encode
from collections.abc import Sequence
from hashlib import blake2b

from mailstack.mail.fields import decode_words

_MESSAGE_ID = re.compile(rb"<([^<>\s]{1,998})>")
_PREFIX = re.compile(
    r"\s*(?:(?:re|fwd?|aw|wg|sv|vs)\s*(?:\[[^\]]{0,40}\])?\s*:|\[[^\[\]]{0,60}\])", re.IGNORECASE
)
_SUFFIX = re.compile(r"\s*\(fwd\)\s*$", re.IGNORECASE)
_MAX_SUBJECT = 1_000  # characters
_MAX_FIELD = 8 * 1024  # octets
_PIECE = 1024 * 1024  # octets of a large file that are hashed at a time
_OCTETS = 15  # of a hash


def email_id(data: bytes | mmap.mmap) -> bytes:
    """The EMAILID of a message."""
    if isinstance(data, bytes):
        return b"M" + _hashed(data)
    digest = blake2b(digest_size=_OCTETS)
    for start in range(0, len(data), _PIECE):
        digest.update(data[start : start + _PIECE])
    return b"M" + _written(digest.digest())


def mailbox_id(home: str, directory: str, uidvalidity: int) -> str:
    """The MAILBOXID of a mailbox: of its user's folder, its own for life, and its epoch."""
    return "F" + _hashed(f"{home}\0{directory}\0{uidvalidity}".encode()).decode()


def thread_id(header: Sequence[tuple[bytes, bytes]], fallback: bytes) -> bytes:
    """The THREADID of a message with these fields, split as `mail.fields.split_fields` does.

    Of its first ancestor's id, its own id, its base subject; or of `fallback`.

    A reply whose References are missing names only its parent: then it is a thread with that parent alone.
    """
    first = dict(reversed(header))  # of several with one name the first holds
    for name in (b"references", b"in-reply-to", b"message-id"):
        if name in first and (found := _MESSAGE_ID.search(first[name], 0, _MAX_FIELD)):
            return b"T" + _hashed(found[1])
    subject = base_subject(decode_words(first.get(b"subject", b"")[:_MAX_FIELD].partition(b":")[2]))
    return b"T" + _hashed(subject.encode("utf-8", "replace") if subject else fallback)


def base_subject(subject: str) -> str:
    """A subject without what replies and forwards put around it, casefolded (after RFC 5256 section 2.1)."""
    subject = " ".join(subject[:_MAX_SUBJECT].split())
    while True:
        shorter = _SUFFIX.sub("", subject)
        found = _PREFIX.match(shorter)
        if found is not None and found.end() < len(shorter):
            shorter = shorter[found.end() :]
        if shorter == subject:
            return subject.strip().casefold()
        subject = shorter


def _hashed(data: bytes) -> bytes:
    return _written(blake2b(data, digest_size=_OCTETS).digest())


def _written(digest: bytes) -> bytes:
    return b32encode(digest).lower()
