"""Full-text indexes: which messages may hold a text. What both kinds of them have in common.

Theory of operation. An index holds the casemapped text that SEARCH compares, so that a message which it
leaves out cannot hold the needle; what it names is still compared. UIDs only go up: each mailbox has one
mark, and all messages up to it have been taken in; those above are candidates always, and so are those too
long to be taken in. Whatever is lost of an index can be made again from the messages.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mailstack.mail.collation import casemap
from mailstack.mail.fields import decode_words, split_fields
from mailstack.mail.mime import scan, search_text
from mailstack.store.maildir import find
from mailstack.store.message_files import read_file

MAX_OCTETS = 16 * 1024 * 1024  # of a message that is taken in
MAX_TEXT = 4 * 1024 * 1024  # characters of its text
MAX_HEADER = 256 * 1024  # octets of its header section
Needle = str | frozenset[str]  # a set of trigrams: messages that hold one of them at least


@dataclass(frozen=True, slots=True)
class Scope:
    """One mailbox in an index."""

    maildir: Path  # the user's
    mailbox_id: int
    uidvalidity: int


@dataclass(frozen=True, slots=True)
class Source:
    """A message to be taken in: where its file should lie."""

    uid: int
    mailbox: Path
    base: str  # of the file's name
    path: str  # from the mailbox's directory


@dataclass(frozen=True, slots=True)
class Hits:
    """What the index knows of a needle in one mailbox."""

    uids: set[int]  # messages that may hold it
    mark: int  # messages with higher UIDs have not been taken in


class TextIndex(Protocol):
    """One kind of index. Every method blocks, and raises OSError where it cannot work now."""

    def prepare(self) -> bool:
        """Make what it needs; whether it can be used at all."""

    def mark_of(self, scope: Scope) -> int:
        """Up to which UID the mailbox was taken in; 0: nothing."""

    def take_in(self, scope: Scope, mark: int, sources: Sequence[Source], seconds: float) -> int:
        """Take in messages, ascending, that follow `mark`, for about so long; the new mark."""

    def settle(self, scope: Scope) -> None:
        """All there was has been taken in: put it in order."""

    def search(self, scope: Scope, needle: Needle) -> Hits | None:
        """The messages that may hold `needle`, casemapped; None where the index cannot tell."""

    def taken(self, scope: Scope) -> int:
        """How many messages it holds beside those that are there: of its whole user, as far as it counts."""

    def octets(self, maildir: Path, mailbox_ids: Sequence[int]) -> int:
        """What the index of a user takes."""

    def discard(self, maildir: Path, mailbox_ids: Sequence[int]) -> None:
        """Remove the index of a user."""


def can_be_asked(needle: Needle) -> bool:
    """Whether an index can tell anything of a needle."""
    if not isinstance(needle, str):
        return bool(needle) and all(map(can_be_asked, needle))
    try:
        needle.encode()
    except UnicodeEncodeError:
        return False
    return len(needle) >= 3 and "\0" not in needle


def texts_of(sources: Sequence[Source], seconds: float) -> list[tuple[int, str | None]]:
    """UIDs and texts of the first messages, as many as that time allows, one at least; None: too long.

    Raise OSError.
    """
    started, rows = time.monotonic(), []
    for source in sources:
        rows.append((source.uid, _text_of(source)))
        if time.monotonic() - started > seconds:
            break
    return rows


def text_of(data: bytes) -> str | None:
    """All text that a search may compare, casemapped; None where it is too long."""
    part = scan(data)
    if part.body - part.header > MAX_HEADER:
        return None
    text = casemap(search_text(part, data))
    if len(text) > MAX_TEXT:
        return None
    found = [text]
    for _, raw in split_fields(data[part.header : part.body]):
        value = raw.partition(b":")[2]
        # As SEARCH reads one field by itself, where that differs.
        readings = {
            casemap(decode_words(value)),
            casemap(value.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1")),
        }
        found += [reading for reading in readings if reading not in text]
    joined = "\n".join(found).replace("\0", " ")  # where the tokenizer would end
    return joined.encode("utf-8", "replace").decode()


def _text_of(source: Source) -> str | None:
    """The text of a message; empty where its file is gone. Raise OSError."""
    for path in (source.path, None):
        try:
            found = path or find(source.mailbox, source.base)
            if found is None:
                return ""
            data = read_file(source.mailbox / found, 0, MAX_OCTETS + 1)
            return text_of(data) if len(data) <= MAX_OCTETS else None
        except FileNotFoundError:
            continue
    return None
