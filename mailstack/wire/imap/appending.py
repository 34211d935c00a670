"""APPEND and REPLACE from their first message on: literals in a stream, MULTIAPPEND, CATENATE.

The server's session (`server`) has read the command's first line and gives it here; then it asks for events
until
there are no more octets, as `Server.next_event` does. Errors are BadSyntax; `line` is then the line that
was at fault, with the literal that it announces.

RFC 3501 section 6.3.11, RFC 3502, RFC 4469, RFC 6855 section 4, RFC 8508.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.framer import Broken, Framer, Limits, Line
from mailstack.wire.imap.grammar import messages
from mailstack.wire.imap.grammar.cursor import LITERAL, BadSyntax, Cursor

_NOTHING = Line(b"")


class _Step(Enum):
    """What comes next."""

    ANSWER = auto()  # ours, to what was announced
    MESSAGE = auto()  # octets of a literal that is a message, or a part of one
    LINE = auto()  # the text after a literal
    PARTS = auto()  # parts of CATENATE in the text that is here
    URL = auto()  # a literal that is a URL


class Appending:
    """One command. `ended`: all of it has been read."""

    __slots__ = (
        "_append", "_count", "_left", "_limits", "_literals", "_octets", "_parts", "_step", "_tag", "_text",
        "_unclosed", "_utf8", "ended", "line",
    )  # fmt: skip

    def __init__(self, tag: str, limits: Limits, *, utf8: bool) -> None:
        self.line = _NOTHING
        self.ended = False
        self._tag = tag
        self._limits = limits
        self._utf8 = utf8
        self._append: c.Append | None = None  # the message in hand
        self._step = _Step.ANSWER
        self._left = 0  # octets of the literal to come
        self._octets = 0  # of the message in hand
        self._count = 0  # messages, and parts of them
        self._parts = 0  # of the CATENATE in hand
        self._text = ""  # of the CATENATE in hand, not read yet
        self._unclosed = False  # a part UTF8 (...) of it waits for its parenthesis
        self._literals: list[bytes] = []  # in that text

    def begin(self, cursor: Cursor, line: Line, command: str) -> c.Append:
        """The first message; the cursor stands after the command's name."""
        self.line = line
        return self._begun(messages.append_head(self._tag, cursor, line.literal, command), cursor)

    def go_on(self) -> bool:
        """We have said `Continuation()`: whether the client waits for its octets."""
        if self._append is not None and self._append.catenated and not self._parts:
            self._parts = 1
            self._step = _Step.PARTS
            return False
        url = self.line.literal is not None and self._text.endswith(LITERAL)
        self._step = _Step.URL if url else _Step.MESSAGE
        return self.line.literal is not None and self.line.literal.synchronizing

    def to_skip(self) -> int | None:
        """Octets of a literal that come although we have refused; None if the command ends here."""
        if self.ended:
            return None
        if self._step in (_Step.MESSAGE, _Step.LINE, _Step.URL):
            return self._left
        literal = self.line.literal
        return None if literal is None or literal.synchronizing else literal.size

    def next_event(self, framer: Framer) -> c.Event | None:
        """The next event; None until more octets are here. Raises BadSyntax."""
        while not self.ended:
            step = self._step
            event = _STEPS[step](self, framer)
            if event is not None or step is self._step:
                return event
        return None

    # Steps

    def _wait(self, framer: Framer) -> c.Event | None:
        return None

    def _message(self, framer: Framer) -> c.Event | None:
        if not self._left:
            self._step = _Step.LINE
            return None
        data = framer.some(min(self._left, self._limits.chunk))
        if not data:
            return None
        self._left -= len(data)
        return c.AppendChunk(self._tag, data)

    def _line(self, framer: Framer) -> c.Event | None:
        line = framer.line(self._limits.line)
        if line is None:
            return None
        if isinstance(line, Broken):
            return c.Malformed(self._tag, line.reason)
        self.line = line
        text = line.text.decode("latin-1")
        assert self._append is not None
        if self._append.catenated:
            self._text += text
            if len(self._text) > self._limits.line:
                raise BadSyntax("line too long")
            self._step = _Step.PARTS
            return None
        cursor = self._cursor(text)
        if self._append.utf8:
            cursor.expect(")")
        return self._after_message(cursor)

    def _parts_of_text(self, framer: Framer) -> c.Event | None:
        """One part of CATENATE, or its end."""
        text, literal = self._text, self.line.literal
        cursor = self._cursor(text)
        if self._unclosed:
            cursor.expect(")")
            self._unclosed = False
        if self._parts > 1:
            if cursor.skip(")"):
                self._literals = []
                self._text = ""
                return self._after_message(cursor)
            cursor.expect(" ")
        if literal is not None and messages.awaits_url(text[cursor.at :]):
            return self._url_announced()
        part = messages.catenate_part(self._tag, cursor, literal)
        self._parts += 1
        self._counted()
        self._text = text[cursor.at :]
        self._literals = cursor.left()
        if isinstance(part, x.CatenateText):
            cursor.end()
            self._sized(part.size)
            self._left, self._step = part.size, _Step.ANSWER
            self._unclosed = part.utf8
        return part

    def _url_announced(self) -> c.Event | None:
        literal = self.line.literal
        assert literal is not None
        if literal.size > messages.LONGEST_URL or literal.binary:
            raise BadSyntax("URL too long", "TOOBIG")
        self._text += LITERAL
        self._left = literal.size
        if not literal.synchronizing:
            self._step = _Step.URL
            return None
        self._step = _Step.ANSWER
        return c.LiteralAnnounced(self._tag, literal.size)

    def _url(self, framer: Framer) -> c.Event | None:
        data = framer.take(self._left)
        if data is not None:
            self._literals.append(data)
            self._left, self._step = 0, _Step.LINE
        return None

    # Between messages

    def _after_message(self, cursor: Cursor) -> c.Event:
        """The end of the command, or the announcement of its next message (RFC 3502)."""
        assert self._append is not None
        literal = self.line.literal
        if literal is None and not cursor.text[cursor.at :].strip(" "):
            self.ended = True
            return c.AppendEnd(self._tag)
        if literal is None and not messages.catenates(cursor):
            raise BadSyntax("unexpected words at the end")
        if self._append.replaces is not None:  # RFC 8508 section 3: one message
            raise BadSyntax("REPLACE takes one message")
        following = messages.append_next(self._tag, self._append.mailbox, cursor, literal)
        return self._begun(replace(following, following=True), cursor)

    def _begun(self, append: c.Append, cursor: Cursor) -> c.Append:
        self._append, self._step = append, _Step.ANSWER
        self._octets = self._parts = 0
        self._counted()
        self._sized(append.size)
        self._left = append.size
        if append.catenated:
            self._text, self._literals = cursor.text[cursor.at :], cursor.left()
        return append

    def _cursor(self, text: str) -> Cursor:
        return Cursor(text, self._literals, utf8=self._utf8)

    def _counted(self) -> None:
        self._count += 1
        if self._count > self._limits.literals:
            raise BadSyntax("too many messages", "LIMIT", "NO")

    def _sized(self, octets: int) -> None:
        self._octets += octets
        if self._octets > self._limits.message:
            raise BadSyntax("message too large", "TOOBIG", "NO")


_STEPS: dict[_Step, Callable[[Appending, Framer], c.Event | None]] = {
    _Step.ANSWER: Appending._wait,
    _Step.MESSAGE: Appending._message,
    _Step.LINE: Appending._line,
    _Step.PARTS: Appending._parts_of_text,
    _Step.URL: Appending._url,
}
