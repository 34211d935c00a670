"""What SORT, THREAD and SEARCH need of a header section, made when a message comes: its heading.

Theory of operation. Facts lie in wide rows: to read a hundred thousand of them for one number each would
mean to read 200 MB. So the few values that orders, threads and searches by subject and address need are made
once, and SQLite holds them together in a narrow index of their own (`tables.message_facts`). What is longer
than the bounds is not kept; whoever needs it reads the fields. In rows from before there were headings `refs`
is NULL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from mailstack.mail.collation import casemap
from mailstack.mail.fields import decode_words, field_value, parse_date, split_fields
from mailstack.mail.subjects import Subject
from mailstack.mail.threads import message_ids, subject_of

DIGEST = 16  # octets that stand for a Message-ID
MOST_REFERENCES = 40  # that are kept
MOST_TEXT = 1_000  # characters of `text`, and of `base`
NAMES = frozenset({"subject", "from", "to", "cc"})  # the fields that `text` holds
_NAMES = frozenset(name.encode() for name in NAMES)
_SHORT = 256  # octets of an address field whose readings are remembered: the same people write again


class Heading(NamedTuple):
    """Of one message."""

    sent: int | None = None  # the Date field in UTC, seconds of the epoch
    base: str = ""  # "r" for a reply or else "-", then the base subject, casemapped (RFC 5256 section 2.1)
    refs: bytes = b""  # digests: of the Message-ID, zeros if there is none; then of the References
    text: str | None = None  # casemapped: all readings of the fields of `NAMES`; None: too long

    @property
    def subject(self) -> Subject:
        """The base subject."""
        return Subject(self.base[1:], self.base[:1] == "r")

    def kept(self) -> Heading:
        """As it is kept: empty where it is too long."""
        fits = len(self.refs) <= (1 + MOST_REFERENCES) * DIGEST and _keepable(self.base)
        return self if fits else Heading(text=self.text)


def heading_of(fields: bytes) -> Heading:
    """The heading of raw header fields; `kept` bounds it."""
    return heading_of_fields(split_fields(fields))


def heading_of_fields(fields: Sequence[tuple[bytes, bytes]]) -> Heading:
    """The same of fields that are split already (`mail.fields.split_fields`)."""
    first = dict(reversed(fields))  # of several with one name the first holds
    texts: list[str] = []
    for name, raw in fields:
        if name in _NAMES:
            texts += _recurring(raw) if len(raw) <= _SHORT and name != b"subject" else _readings(raw)
    date = parse_date(field_value(first.get(b"date", b"")))
    subject = subject_of(decode_words(field_value(first.get(b"subject", b""))).strip())
    text = "\n".join(texts)
    return Heading(
        None if date is None else date[0],
        ("r" if subject.reply else "-") + subject.base,
        _references(first),
        text if _keepable(text) else None,
    )


def _readings(raw: bytes) -> frozenset[str]:
    """What SEARCH may read in a field (`access.imap.keys`)."""
    value = raw.partition(b":")[2]
    if b"=?" not in value and value.isascii():
        return frozenset((casemap(value.replace(b"\r", b"").replace(b"\n", b"").decode("ascii")),))
    plain = value.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1")
    return frozenset((casemap(decode_words(value)), casemap(plain)))


_recurring = lru_cache(maxsize=4_000)(_readings)


def _references(first: Mapping[bytes, bytes]) -> bytes:
    refers = _ids(first.get(b"references"))
    if not refers:  # RFC 5256 section 3, REFERENCES step 1: only the first of In-Reply-To
        refers = _ids(first.get(b"in-reply-to"))[:1]
    own = _ids(first.get(b"message-id"))[:1]
    return b"".join(([digest(own[0])] if own else [bytes(DIGEST)]) + [digest(name) for name in refers])


def _ids(raw: bytes | None) -> list[str]:
    return [] if raw is None else message_ids(field_value(raw))


def digest(name: str) -> bytes:
    """What stands for a Message-ID."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()


def _keepable(text: str) -> bool:
    """Whether every database can hold it."""
    if len(text) > MOST_TEXT or "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
