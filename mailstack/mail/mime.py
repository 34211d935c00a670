"""MIME structure of a message by octet offsets.

Theory of operation. The message is never split into lines. `scan` keeps a stack of the entities that are open
and, for those that are multipart, the place of the next delimiter line that could end a part, found with
`bytes.find`. RFC 2046 section 5.1.1 says how delimiters match: the line begins with ``--boundary``, whatever
follows. Of several open multiparts whose boundary a line begins with, the longest boundary wins, and of equal
ones the innermost: so nested multiparts with one boundary, and boundaries that begin with one another, come
out right. A level's search stops where an outer level's delimiter lies, since that closes it anyway: each
level reads each octet once at most, and the depth is bounded, so the time is linear.

Everything is bounded: depth, number of parts, octets of header that are read, and in sum the octets that go
into the result. What lies beyond a bound is an opaque leaf.
"""

from __future__ import annotations

import mmap

from mailstack.mail.fields import ENVELOPE_FIELDS, select_fields
from mailstack.mail.mime_content import DEFAULT, DIGEST, Content, read_content
from mailstack.mail.mime_part import Part, find, pack, unpack
from mailstack.mail.mime_text import decode_body, parameter, search_text

__all__ = ["Part", "decode_body", "find", "pack", "parameter", "scan", "search_text", "unpack"]

MAX_DEPTH = 64  # entities within one another
MAX_PARTS = 10_000
MAX_HEADER = 256 * 1024  # octets of one header section that are read for fields
MAX_DETAIL = 1024 * 1024  # octets of Content-* and envelope fields that are kept, all parts together
MAX_BOUNDARY = 998  # RFC 2046 says 70; a line has no more

_OPAQUE = Content("application", "octet-stream")

Data = bytes | mmap.mmap


def scan(data: Data) -> Part:
    """The structure of a whole message; any octets get an answer, in linear time; never raises."""
    return _Scan(data).run()


class _Node:
    """An entity whose end is not yet known."""

    __slots__ = ("body", "children", "content", "fields", "header")

    def __init__(self, header: int, body: int, content: Content, fields: bytes) -> None:
        self.header = header
        self.body = body
        self.content = content
        self.fields = fields
        self.children: list[Part] = []


class _Level:
    """An open multipart: its delimiter, and the next delimiter of it or of an outer one."""

    __slots__ = ("delimiter", "limit", "node", "winner")

    def __init__(self, node: int, delimiter: bytes) -> None:
        self.node = node  # its index among the open nodes
        self.delimiter = delimiter
        self.limit = 0  # where the LF before the next delimiter lies; the size of the data: there is none
        self.winner = 0  # index of the level whose delimiter that is


class _Scan:
    def __init__(self, data: Data) -> None:
        self._data = data
        self._size = len(data)
        self._nodes: list[_Node] = []
        self._levels: list[_Level] = []
        self._parts = 0
        self._detail = MAX_DETAIL

    def run(self) -> Part:
        self._open(0, DEFAULT)
        while self._levels and self._levels[-1].limit < self._size:
            self._delimiter(self._levels[-1])
        while len(self._nodes) > 1:
            self._close(self._size)
        return self._part(self._nodes.pop(), self._size)

    def _delimiter(self, top: _Level) -> None:
        """Close what the next delimiter line ends, and open the part after it."""
        at = top.limit
        del self._levels[top.winner + 1 :]
        level = self._levels[top.winner]
        end = self._line_end(at)
        while len(self._nodes) > level.node + 1:
            self._close(end)
        tail = at + len(level.delimiter)
        newline = self._data.find(b"\n", tail)
        last = newline < 0 or self._data[tail : tail + 2] == b"--"
        if last:
            self._levels.pop()
        self._renew(at, self._size if newline < 0 else newline)
        if self._parts >= MAX_PARTS:
            self._levels.clear()
        elif not last:
            digest = self._nodes[-1].content.subtype == "digest"
            self._open(newline + 1, DIGEST if digest else DEFAULT)

    def _renew(self, passed: int, start: int) -> None:
        """Search again at the levels whose next delimiter was at `passed`."""
        stale = len(self._levels)
        while stale and self._levels[stale - 1].limit <= passed:
            stale -= 1
        for number in range(stale, len(self._levels)):
            self._search(number, start)

    def _search(self, number: int, start: int) -> None:
        level = self._levels[number]
        outer = self._levels[number - 1] if number else None
        limit = outer.limit if outer else self._size
        at = self._data.find(level.delimiter, start, min(self._size, limit + len(level.delimiter)))
        if outer and (
            at < 0 or (at == limit and len(self._levels[outer.winner].delimiter) > len(level.delimiter))
        ):
            level.limit, level.winner = limit, outer.winner
        else:
            level.limit, level.winner = (at if at >= 0 else self._size), number

    def _open(self, start: int, default: Content) -> None:
        """Read the header section at `start`, and those of the messages embedded one in another there."""
        embedded = False
        while True:
            body = self._header_end(start)
            header = self._data[start : min(body, start + MAX_HEADER)]
            node = _Node(start, body, self._content(header, default), b"")
            if embedded:
                node.fields = self._kept(select_fields(header, ENVELOPE_FIELDS, most=MAX_HEADER // 4))
            self._nodes.append(node)
            self._parts += 1
            if node.content.type == "multipart":
                self._open_level(node, header)
            if node.content.type != "message" or node.content.subtype != "rfc822":
                return
            start, default, embedded = body, DEFAULT, True

    def _content(self, header: bytes, default: Content) -> Content:
        content = read_content(header, default, self._detail)
        if content is None:
            return _OPAQUE
        self._detail -= content.cost
        compound = content.type == "multipart" or (content.type == "message" and content.subtype == "rfc822")
        if compound and (len(self._nodes) >= MAX_DEPTH - 1 or self._parts >= MAX_PARTS - 1):
            return _OPAQUE
        return content

    def _kept(self, fields: bytes) -> bytes:
        if len(fields) > self._detail:
            return b""
        self._detail -= len(fields)
        return fields

    def _open_level(self, node: _Node, header: bytes) -> None:
        boundary = next((value for name, value in node.content.parameters if name == "boundary"), "").rstrip()
        if boundary and len(boundary) <= MAX_BOUNDARY:
            octets = boundary.encode("utf-8")
            if octets not in header:  # it was not UTF-8
                octets = boundary.encode("latin-1", "replace")
            self._levels.append(_Level(len(self._nodes) - 1, b"\n--" + octets))
            self._search(len(self._levels) - 1, max(node.body - 1, 0))

    def _header_end(self, start: int) -> int:
        """Where the body begins: after the blank line, or, if a delimiter or the end comes first, there."""
        data = self._data
        limit = self._levels[-1].limit if self._levels else self._size
        if limit < start:
            return start  # two delimiter lines, one after the other
        stop = min(limit + 1, self._size)  # the LF before the delimiter may be that of the blank line
        if data[start : min(start + 1, stop)] == b"\n":
            return start + 1
        if data[start : min(start + 2, stop)] == b"\r\n":
            return start + 2
        crlf = data.find(b"\n\r\n", start, stop)
        lf = data.find(b"\n\n", start, stop if crlf < 0 else crlf)
        if lf >= 0:
            return lf + 2
        return crlf + 3 if crlf >= 0 else max(start, self._line_end(limit))

    def _line_end(self, newline: int) -> int:
        """The CRLF or LF before a delimiter belongs to it (RFC 2046 section 5.1.1)."""
        if newline < self._size and newline and self._data[newline - 1 : newline] == b"\r":
            return newline - 1
        return newline

    def _close(self, end: int) -> None:
        node = self._nodes.pop()
        self._nodes[-1].children.append(self._part(node, end))

    def _part(self, node: _Node, end: int) -> Part:
        end = max(end, node.body, node.children[-1].end if node.children else 0)
        content = node.content
        if content.type == "multipart" and not node.children:
            # RFC 3501 has no way to say "multipart of nothing".
            node.children.append(Part(end, end, end, 0))
        return Part(
            node.header,
            node.body,
            end,
            0 if content.type == "multipart" else _lines(self._data, node.body, end),
            content.type,
            content.subtype,
            content.parameters,
            content.id,
            content.description,
            content.encoding,
            content.md5,
            content.disposition,
            content.language,
            content.location,
            node.fields,
            tuple(node.children),
        )


_STEP = 1024 * 1024


def _lines(data: Data, start: int, end: int) -> int:
    if isinstance(data, bytes):
        return data.count(b"\n", start, end)
    return sum(data[at : min(at + _STEP, end)].count(b"\n") for at in range(start, end, _STEP))
