"""The server's side of one IMAP session (RFC 3501): octets to events, responses to octets.

How it works. `Framer` cuts lines and literals. The first line of a command is judged at once (tag, name,
state), so that what will be refused is refused before its literals are sent; then text and literals are
gathered until the command is whole, and `grammar` reads it. What the next octets mean is the `_Mode`, each
with one short reading method in `_READERS`. After an event whose answer decides what the next octets mean
(`_DECISIVE`) nothing is read until that answer has been sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import responses as r
from mailstack.wire.imap.framer import Broken, Framer, Limits, Line
from mailstack.wire.imap.grammar import messages, sessions, table
from mailstack.wire.imap.grammar.cursor import LITERAL, BadSyntax, Cursor
from mailstack.wire.imap.states import AFTER, ALLOWED, State

_DEFAULT = Limits()
_HTTP = re.compile(r"[A-Z]+ \S+ HTTP/", re.IGNORECASE)
_TLS_RECORD = b"\x16\x03"  # a client that begins TLS on a plain port
_EMPTY = Line(b"")
_OPEN_TAG = 300  # characters in which to look for a tag


class _Mode(Enum):
    """What the next octets are."""

    COMMAND = auto()  # a command's first line
    LITERAL = auto()  # an argument
    TEXT = auto()  # the text after an argument's literal
    MESSAGE = auto()  # APPEND's message
    AFTER_MESSAGE = auto()  # the text after APPEND's message
    RESPONSE = auto()  # the client's part of a SASL exchange
    IDLING = auto()  # DONE
    WAITING = auto()  # that depends on our answer, which is still due
    ENDED = auto()  # of no interest any more


_DECISIVE = frozenset({command for command, _ in AFTER}) | {c.StartTls, c.Idle, c.Append, c.LiteralAnnounced}


@dataclass(slots=True)
class _Gathered:
    """A command whose literals are still arriving."""

    head: table.Head
    text: str
    size: int  # octets so far
    literals: list[bytes] = field(default_factory=list)
    left: int = 0  # octets of the literal that is arriving


class Server:
    """One session: `receive_data`, `next_event` until None, `send` each response. See `commands`."""

    __slots__ = (
        "_append", "_bad", "_current", "_framer", "_gathered", "_held", "_limits", "_mode",
        "closed", "state", "upgrading",
    )  # fmt: skip

    def __init__(self, limits: Limits = _DEFAULT, *, preauthenticated: bool = False) -> None:
        self._limits = limits
        self._reset(State.AUTHENTICATED if preauthenticated else State.NOT_AUTHENTICATED)

    def _reset(self, state: State) -> None:
        self.state = state
        self.closed = False
        self.upgrading = False
        self._framer = Framer()
        self._mode = _Mode.COMMAND
        self._bad = 0  # bad commands since the last good one
        self._current: c.Event | None = None  # the event in hand
        self._gathered: _Gathered | None = None
        self._append: tuple[c.Append, int, int] | None = None  # with octets to come, and how many messages
        self._held: Line | None = None  # a command that came where DONE was due

    def receive_data(self, data: bytes) -> None:
        """Keep octets from the peer; after the end they are dropped."""
        if not self.closed and self._mode is not _Mode.ENDED:
            self._framer.feed(data)

    def next_event(self) -> c.Event | None:
        """The next thing the client says; None until more octets arrive or the last event is answered."""
        while not self.closed and not self.upgrading:
            if self._framer.skipping:
                done = self._framer.skip(self._limits.skipped)
                if self._framer.skipped > self._limits.skipped:
                    return self._endless()
                if not done:
                    return None
            mode = self._mode
            event = _READERS[mode](self)
            if event is not None:
                return self._emit(event)
            if mode is self._mode and not self._framer.skipping:
                return None
        return None

    def send(self, response: r.AnyResponse) -> bytes:
        """The octets of a response. A Tagged ends the command in hand, as states.AFTER says."""
        if isinstance(response, bytes):
            return response
        if isinstance(response, tuple):
            return b"".join([self.send(part) for part in response])
        if isinstance(response, r.Tagged):
            self._settle(response)
        elif isinstance(response, r.Bye):
            self.closed = True
        elif isinstance(response, r.Challenge) and isinstance(self._current, c.Authenticate | c.AuthResponse):
            self._mode = _Mode.RESPONSE
        elif isinstance(response, r.Continuation) and not self._go_on():
            return b""
        return response.encode()

    def secured(self) -> None:
        """TLS is on: begin anew (RFC 3501 section 6.2.1)."""
        self._reset(State.NOT_AUTHENTICATED)

    def failure(self, event: c.Event) -> r.Response:
        """The answer to any event that met a bug of ours: NO [SERVERBUG] (RFC 5530 section 3)."""
        if isinstance(event, c.Malformed):
            return r.refusal(event)
        return r.Tagged(event.tag, "NO", "internal error, try again later", code="SERVERBUG")

    # Answers

    def _settle(self, reply: r.Tagged) -> None:
        current, self._current = self._current, None
        if current is not None and current.tag == reply.tag:
            self._finish(current)
            self.state = AFTER.get((type(current), reply.status), self.state)
            if isinstance(current, c.StartTls) and reply.status == "OK":
                self.upgrading = True
                self._framer.clear()  # RFC 3501 section 6.2.1: plaintext sent ahead is not trusted
        self.state = reply.becomes or self.state
        self.closed = self.closed or self.state is State.LOGOUT

    def _finish(self, current: c.Event) -> None:
        """The command is over, maybe with octets of it still to come."""
        if isinstance(current, c.Malformed) or self._mode is _Mode.ENDED:
            return
        append, self._append = self._append, None
        accepted = self._mode in (_Mode.MESSAGE, _Mode.AFTER_MESSAGE)
        self._gathered = None
        self._mode = _Mode.COMMAND
        if append is not None and (accepted or not append[0].synchronizing):
            self._framer.skip_literal(append[1])

    def _go_on(self) -> bool:
        """The client may go on; False where it needs no word from us."""
        current = self._current
        if isinstance(current, c.Append):
            self._mode = _Mode.MESSAGE
            return current.synchronizing
        if isinstance(current, c.LiteralAnnounced):
            self._mode = _Mode.LITERAL
        elif isinstance(current, c.Idle):
            self._mode = _Mode.IDLING
        return True

    # Events

    def _emit(self, event: c.Event) -> c.Event:
        if isinstance(event, c.Malformed):
            event = self._count_bad(event)
            self._append = self._gathered = None
            self._mode = _Mode.ENDED if event.fatal else _Mode.COMMAND
        elif type(event) in _DECISIVE:
            self._mode = _Mode.WAITING
        if not isinstance(event, c.Malformed | c.LiteralAnnounced):
            self._bad = 0
        self._current = event
        return event

    def _count_bad(self, event: c.Malformed) -> c.Malformed:
        self._bad += event.status == "BAD"
        if self._bad < self._limits.bad_commands:
            return event
        return c.Malformed(event.tag, "too many bad commands", fatal=True)

    def _endless(self) -> c.Event:
        self._framer.clear()
        return self._emit(c.Malformed(None, "too much to skip", code="TOOBIG", fatal=True))

    # Reading, one method for each mode

    def _read_command(self) -> c.Event | None:
        """The first line of a command."""
        if self.state is State.NOT_AUTHENTICATED and self._framer.startswith(_TLS_RECORD):
            return c.Malformed(None, "TLS on a plain port", fatal=True)
        line = self._first_line()
        while line == _EMPTY:  # some clients send one too many
            line = self._first_line()
        if line is None:
            return None
        if isinstance(line, Broken):
            return self._broken(line, table.tag_of(line.start.decode("latin-1"), whole=False))
        return self._judge(line)

    def _first_line(self) -> Line | Broken | None:
        held, self._held = self._held, None
        return held or self._framer.line(self._room(self._limits.line))

    def _room(self, limit: int) -> int:
        """The limit, which is lower while nobody has logged in."""
        return min(limit, self._limits.before_login) if self.state is State.NOT_AUTHENTICATED else limit

    def _judge(self, line: Line) -> c.Event | None:
        text = line.text.decode("latin-1")
        tag = table.tag_of(text[:_OPEN_TAG])
        if self.state is State.NOT_AUTHENTICATED and _HTTP.match(text):
            return c.Malformed(tag, "this is IMAP, not HTTP", fatal=True)
        if tag is None:
            return self._refused(line, c.Malformed(None, "expected a tag"))
        try:
            head = table.head(tag, text)
            if head.command not in ALLOWED[self.state]:
                raise BadSyntax(f"not allowed in the {self.state.value} state")
            if line.literal is None:
                return table.read(head, text, [])
        except BadSyntax as error:
            return self._refused(line, c.Malformed(tag, error.text, error.code, error.status))
        self._gathered = _Gathered(head, text, len(text))
        return self._announced(line)

    def _announced(self, line: Line) -> c.Event | None:
        """A literal follows: an argument, or APPEND's message."""
        gathered, literal = self._gathered, line.literal
        assert gathered is not None
        assert literal is not None
        head, limits = gathered.head, self._limits
        if head.command is c.Append and gathered.text[head.at :] != " ":
            return self._append_begins(line, gathered)
        size = gathered.size + literal.size
        if literal.size > self._room(limits.literal) or size > self._room(limits.command):
            return self._refused(line, c.Malformed(head.tag, "literal too large", code="TOOBIG"))
        if len(gathered.literals) >= limits.literals:
            return self._refused(line, c.Malformed(head.tag, "too many literals"))
        if literal.binary:
            return self._refused(line, c.Malformed(head.tag, "literal8 is not allowed here"))
        gathered.left, gathered.size = literal.size, size
        self._mode = _Mode.LITERAL
        return c.LiteralAnnounced(head.tag, literal.size) if literal.synchronizing else None

    def _read_literal(self) -> c.Event | None:
        """An argument's literal."""
        gathered = self._gathered
        assert gathered is not None
        data = self._framer.take(gathered.left)
        if data is not None:
            gathered.literals.append(data)
            gathered.text += LITERAL
            self._mode = _Mode.TEXT
        return None

    def _read_text(self) -> c.Event | None:
        """The text after an argument's literal."""
        gathered = self._gathered
        assert gathered is not None
        head = gathered.head
        line = self._framer.line(self._room(self._limits.line) - min(len(gathered.text), self._limits.line))
        if line is None:
            return None
        if isinstance(line, Broken):
            return self._broken(line, head.tag)
        gathered.text += line.text.decode("latin-1")
        gathered.size += len(line.text)
        if line.literal is not None:
            return self._announced(line)
        self._gathered, self._mode = None, _Mode.COMMAND
        try:
            return table.read(head, gathered.text, gathered.literals)
        except BadSyntax as error:
            return c.Malformed(head.tag, error.text, error.code, error.status)

    def _append_begins(self, line: Line, gathered: _Gathered) -> c.Event:
        """APPEND's first message is announced."""
        assert line.literal is not None
        tag = gathered.head.tag
        cursor = Cursor(gathered.text, gathered.literals, gathered.head.at)
        try:
            return self._appending(messages.append_head(tag, cursor, line.literal), count=1)
        except BadSyntax as error:
            return self._refused(line, c.Malformed(tag, error.text, error.code, error.status))

    def _appending(self, append: c.Append, count: int) -> c.Append:
        if append.size > self._limits.message:
            raise BadSyntax("message too large", "TOOBIG", "NO")
        if count > self._limits.literals:
            raise BadSyntax("too many messages", "LIMIT", "NO")
        self._append = (append, append.size, count)
        self._gathered = None
        return append

    def _read_message(self) -> c.Event | None:
        """Some of APPEND's message."""
        assert self._append is not None
        append, left, count = self._append
        if not left:
            self._mode = _Mode.AFTER_MESSAGE
            return None
        data = self._framer.some(min(left, self._limits.chunk))
        if not data:
            return None
        self._append = (append, left - len(data), count)
        return c.AppendChunk(append.tag, data)

    def _read_after_message(self) -> c.Event | None:
        """The end of APPEND, or the announcement of its next message (RFC 3502)."""
        assert self._append is not None
        append, _, count = self._append
        line = self._framer.line(self._limits.line)
        if line is None:
            return None
        if isinstance(line, Broken):
            return self._broken(line, append.tag)
        text = line.text.decode("latin-1")
        try:
            cursor = Cursor(text, [])
            if line.literal is None:
                cursor.end()
                self._append, self._mode = None, _Mode.COMMAND
                return c.AppendEnd(append.tag)
            following = messages.append_next(append.tag, append.mailbox, cursor, line.literal, following=True)
            return self._appending(following, count + 1)
        except BadSyntax as error:
            return self._refused(line, c.Malformed(append.tag, error.text, error.code, error.status))

    def _read_response(self) -> c.Event | None:
        """The client's next word in a SASL exchange (RFC 3501 section 6.2.2)."""
        tag = self._tag()
        line = self._framer.line(self._limits.before_login)
        if line is None:
            return None
        if isinstance(line, Broken):
            return self._broken(line, tag)
        if line.literal is not None:
            return self._refused(line, c.Malformed(tag, "expected base64"))
        text = line.text.decode("latin-1").rstrip(" ")
        try:
            return c.AuthResponse(tag, None if text == "*" else sessions.base64(text))
        except BadSyntax as error:
            return c.Malformed(tag, error.text)

    def _read_done(self) -> c.Event | None:
        """DONE. Anything else ends the IDLE with BAD, and is then read as a command."""
        tag = self._tag()
        line = self._framer.line(self._limits.line)
        if line is None:
            return None
        if isinstance(line, Broken):
            return self._broken(line, tag)
        if line.literal is None and line.text.rstrip(b" ").upper() == b"DONE":
            self._mode = _Mode.COMMAND
            return c.IdleDone(tag)
        self._held = line
        return c.Malformed(tag, "expected DONE")

    def _read_nothing(self) -> c.Event | None:
        """Our answer is due, or nothing is expected any more."""
        return None

    def _tag(self) -> str:
        return (self._current.tag if self._current is not None else None) or ""

    def _broken(self, line: Broken, tag: str | None) -> c.Malformed:
        return c.Malformed(tag, line.reason)

    def _refused(self, line: Line, event: c.Malformed) -> c.Malformed:
        """Refuse the command that this line belongs to; a literal that comes anyway is skipped."""
        if line.literal is not None and not line.literal.synchronizing:
            self._framer.skip_literal(line.literal.size)
        return event


_READERS: dict[_Mode, Callable[[Server], c.Event | None]] = {
    _Mode.COMMAND: Server._read_command,
    _Mode.LITERAL: Server._read_literal,
    _Mode.TEXT: Server._read_text,
    _Mode.MESSAGE: Server._read_message,
    _Mode.AFTER_MESSAGE: Server._read_after_message,
    _Mode.RESPONSE: Server._read_response,
    _Mode.IDLING: Server._read_done,
    _Mode.WAITING: Server._read_nothing,
    _Mode.ENDED: Server._read_nothing,
}
