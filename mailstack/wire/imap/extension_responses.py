"""The responses of extensions, beside those of `responses`; `Server.send` takes them all alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from mailstack.mail.threads import Forest
from mailstack.wire.imap.quoting import astring, literal, nstring, parenthesized, quote
from mailstack.wire.imap.responses import Naming, Response, SearchResponse
from mailstack.wire.imap.sequence import SequenceSet


@dataclass(frozen=True, slots=True)
class SortResponse(SearchResponse):
    """`* SORT 5 3 4`, in the order found (RFC 5256 section 4)."""

    word: ClassVar[str] = "SORT"


@dataclass(frozen=True, slots=True)
class ThreadResponse(Response):
    """`* THREAD (2)(3 6 (4 23)(44 7 96))` (RFC 5256 section 4)."""

    forest: Forest

    def encode(self) -> bytes:
        return b"* THREAD" + (b" " if self.forest.roots else b"") + _threads(self.forest) + b"\r\n"


def _threads(forest: Forest) -> bytes:
    """The threads, by a stack of nodes and of words that are ready."""
    words: list[str] = []
    stack: list[int | str] = []
    for root in forest.roots:
        if not forest.children[root] and forest.numbers[root] is not None:  # most of them are
            words.append(f"({forest.numbers[root]})")
            continue
        words.append("(")
        stack.append(root)
        space = False
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                words.append(node)
                space = False
                continue
            number, children = forest.numbers[node], forest.children[node]
            if number is not None:
                words.append(f" {number}" if space else str(number))
                space = True
            if len(children) == 1 and number is not None:
                stack.append(children[0])
            elif children:
                if space:
                    words.append(" ")
                for child in reversed(children):
                    stack += (")", child, "(")
                space = False
        words.append(")")
    return "".join(words).encode("ascii")


@dataclass(frozen=True, slots=True)
class ESearchUpdate(Naming):
    """`* ESEARCH (TAG "B01") UID ADDTO (0 32768:32769)` (RFC 5267 section 4.3).

    Each change is the position in the result, 0 for a search (which has no order), and what comes or goes
    there. What goes is told first. `source`: mailbox and UIDVALIDITY, of ESEARCH (RFC 7377).
    """

    tag: str
    uid: bool
    added: tuple[tuple[int, SequenceSet], ...] = ()
    removed: tuple[tuple[int, SequenceSet], ...] = ()
    source: tuple[str, int] | None = None

    def line(self, write: Callable[[str], bytes]) -> bytes:
        correlator = f'* ESEARCH (TAG "{self.tag}"'.encode("ascii")
        if self.source is not None:
            correlator += b" MAILBOX %b UIDVALIDITY %d" % (write(self.source[0]), self.source[1])
        words = ["UID"] if self.uid else []
        for name, changes in (("REMOVEFROM", self.removed), ("ADDTO", self.added)):
            if changes:
                words.append(f"{name} ({' '.join(f'{at} {numbers}' for at, numbers in changes)})")
        return correlator + b") " + " ".join(words).encode("ascii") + b"\r\n"


# URLs (RFC 4467 section 8)


@dataclass(frozen=True, slots=True)
class GenUrlAuthResponse(Response):
    """`* GENURLAUTH "imap://..." ...`."""

    urls: tuple[str, ...]

    def encode(self) -> bytes:
        return b" ".join((b"* GENURLAUTH", *map(quote, self.urls))) + b"\r\n"


# The session


@dataclass(frozen=True, slots=True)
class LanguageResponse(Response):
    """`* LANGUAGE (EN)` (RFC 5255 section 3.3): the language chosen, or all there are."""

    tags: tuple[str, ...]

    def encode(self) -> bytes:
        return b"* LANGUAGE " + parenthesized(map(quote, self.tags)) + b"\r\n"


# Rights (RFC 4314 section 3)


@dataclass(frozen=True, slots=True)
class Acl(Naming):
    """`* ACL INBOX Fred rwipslxetad`: identifiers and their rights."""

    name: str
    entries: tuple[tuple[str, str], ...]

    def line(self, write: Callable[[str], bytes]) -> bytes:
        words = [astring(word) for pair in self.entries for word in pair]
        return b" ".join((b"* ACL", write(self.name), *words)) + b"\r\n"


@dataclass(frozen=True, slots=True)
class ListRightsResponse(Naming):
    """`* LISTRIGHTS ~/Mail/saved smith la r swicdkxte`: rights always given, then those given together."""

    name: str
    identifier: str
    required: str
    optional: tuple[str, ...]

    def line(self, write: Callable[[str], bytes]) -> bytes:
        words = map(astring, (self.identifier, self.required, *self.optional))
        return b" ".join((b"* LISTRIGHTS", write(self.name), *words)) + b"\r\n"


@dataclass(frozen=True, slots=True)
class MyRightsResponse(Naming):
    """`* MYRIGHTS INBOX rwiptsldaex`."""

    name: str
    rights: str

    def line(self, write: Callable[[str], bytes]) -> bytes:
        return b"* MYRIGHTS %b %b\r\n" % (write(self.name), astring(self.rights))


# Metadata (RFC 5464 section 4.4)


@dataclass(frozen=True, slots=True)
class Metadata(Naming):
    """`* METADATA INBOX (/shared/comment "x")`: entries with their values; the name "" is the server."""

    name: str
    values: tuple[tuple[str, bytes | None], ...]

    def line(self, write: Callable[[str], bytes]) -> bytes:
        words = [word for entry, value in self.values for word in (astring(entry), _value(value))]
        return b"* METADATA %b %b\r\n" % (write(self.name), parenthesized(words))


def _value(value: bytes | None) -> bytes:
    if value is not None and b"\0" in value:
        return b"~" + literal(value)  # RFC 5464 section 5: a literal8
    return nstring(value)


@dataclass(frozen=True, slots=True)
class MetadataChanged(Naming):
    """`* METADATA INBOX /shared/comment`: entries that somebody has changed (RFC 5464 section 4.4.2)."""

    name: str
    entries: tuple[str, ...]

    def line(self, write: Callable[[str], bytes]) -> bytes:
        return b" ".join((b"* METADATA", write(self.name), *map(astring, self.entries))) + b"\r\n"
