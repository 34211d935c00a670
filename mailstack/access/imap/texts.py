"""Reading message text for FETCH: small texts together, big ones in chunks from an open file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeGuard

from mailstack.access.imap import sections
from mailstack.access.imap.sections import Decoded, Span
from mailstack.mail.mime import Part, unpack
from mailstack.store.mailbox import Mailbox
from mailstack.store.packing import Text
from mailstack.store.values import Expunged
from mailstack.wire.imap.commands import Binary, BinarySize, Section
from mailstack.work import Work

SMALL = 256 * 1024  # octets; what is longer is streamed
CHUNK = 256 * 1024  # octets read at a time
MAX_HEADER = 1024 * 1024  # octets of a header section that fields are looked for in


TextItem = Section | Binary | BinarySize
Outline = tuple[bytes, int]  # of a message: the packed structure, or none, and the size of its header section


class Cut(Exception):
    """The disk failed in the middle of a literal: the rest cannot be said, the connection must end."""


class Wanted:
    """What one message's text is asked for."""

    __slots__ = ("hull", "is_small", "spans", "uid")

    def __init__(
        self, uid: int, size: int, outline: Outline, texts: Sequence[tuple[bytes, TextItem]]
    ) -> None:
        self.uid = uid
        self.spans: list[tuple[bytes, Section | Decoded, Span | None]] = []
        if len(texts) == 1 and _is_whole(texts[0][1]):  # by far the most
            self.hull = Span(0, size)
            self.is_small = size <= SMALL
            self.spans.append((texts[0][0], texts[0][1], self.hull))
            return
        root = _root(size, outline) if any(map(_needs_root, texts)) else None
        for name, item in texts:
            if isinstance(item, Section):
                whole = Span(0, size) if root is None else sections.span_of(item, root)
                self.spans.append((name, item, _bounded(item, whole)))
            else:
                assert root is not None
                self.spans.append((name, *sections.decoded(item, root)))
        found = [span for _, _, span in self.spans if span is not None]
        self.hull = Span(min((s.start for s in found), default=0), max((s.end for s in found), default=0))
        # Whether all that is wanted can be read, and answered, at once.
        self.is_small = self.hull.length <= SMALL and sum(span.length for span in found) <= SMALL

    def items(self, octets: bytes) -> list[bytes]:
        """The items in IMAP's syntax, in pieces, from the octets of the hull."""
        start = self.hull.start
        pieces: list[bytes] = []
        for name, section, span in self.spans:
            pieces += (b" ", name, b" ") if pieces else (name, b" ")
            if span is None:
                pieces.append(sections.absent(section))
                continue
            text = octets[span.start - start : span.end - start]
            if sections.is_made(section):
                pieces.append(sections.value(section, text))
            else:
                pieces += (b"{%d}\r\n" % len(text), text)
        return pieces

    async def stream(self, file: OpenText) -> AsyncIterator[bytes]:
        """The same from an open file, in chunks."""
        separator = b""
        for name, section, span in self.spans:
            head = separator + name + b" "
            separator = b" "
            if span is None:
                yield head + sections.absent(section)
            elif sections.is_made(section):
                octets = await file.read(span.start, span.length)
                yield head + await file.work.compute(sections.value, section, octets)
            else:
                yield head + b"{%d}\r\n" % span.length
                for start in range(span.start, span.end, CHUNK):
                    yield await file.read(start, min(CHUNK, span.end - start))


def _is_whole(item: TextItem) -> TypeGuard[Section]:
    """BODY[] or BODY.PEEK[]."""
    return isinstance(item, Section) and not (item.part or item.text or item.partial)


def _needs_root(text: tuple[bytes, TextItem]) -> bool:
    _, item = text
    return not isinstance(item, Section) or bool(item.text or item.part)


def _bounded(section: Section, span: Span | None) -> Span | None:
    if span is None:
        return None
    if sections.is_fields(section):
        return Span(span.start, min(span.end, span.start + MAX_HEADER))
    return sections.cut(section, span)


def _root(size: int, outline: Outline) -> Part:
    structure, header_size = outline
    return unpack(structure) if structure else Part(header=0, body=header_size, end=size, lines=0)


async def read_small(mailbox: Mailbox, wanted: Sequence[Wanted]) -> Mapping[int, bytes | None]:
    """The hulls' octets by UID; None where the message is gone."""
    asked = [(each.uid, each.hull.start, each.hull.length) for each in wanted if each.hull.length]
    octets = await mailbox.bodies(asked) if asked else []
    found = {uid: data for (uid, _, _), data in zip(asked, octets, strict=True)}
    return {each.uid: found[each.uid] if each.hull.length else b"" for each in wanted}


class OpenText:
    """A message's file, held open: it may be renamed or removed meanwhile."""

    __slots__ = ("_base", "_text", "work")

    def __init__(self, work: Work, text: Text, base: int) -> None:
        self.work = work
        self._text = text
        self._base = base

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` octets from `offset` of the message; raise OSError if the disk fails."""
        data = await self.work.files(self._text.read, self._base + offset, length)
        if len(data) != length:
            raise OSError("a message file has become shorter")
        return data

    def close(self) -> None:
        """Let the file go."""
        self._text.close()


async def open_big(mailbox: Mailbox, work: Work, uid: int) -> OpenText | None:
    """The message's file; None if the message is gone. Its name may change while we look: look twice."""
    for _ in range(2):
        try:
            stored = await mailbox.stored(uid)
            return OpenText(work, await work.files(Text, stored.path), stored.offset)
        except Expunged:
            return None
        except FileNotFoundError:
            continue
    return None
