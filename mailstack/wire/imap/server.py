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
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import responses as r
from mailstack.wire.imap.appending import Appending
from mailstack.wire.imap.compression import Deflate, Tap
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
    APPENDING = auto()  # of APPEND's messages
    RESPONSE = auto()  # the client's part of a SASL exchange
    IDLING = auto()  # DONE
    WAITING = auto()  # that depends on our answer, which is still due
    ENDED = auto()  # of no interest any more


_DECISIVE = frozenset({command for command, _ in AFTER}) | {
    c.StartTls, c.Idle, c.Append, c.LiteralAnnounced, c.Enable, x.CatenateText, x.Compress
}  # fmt: skip
_UTF8 = frozenset({"UTF8=ACCEPT", "IMAP4REV2"})  # ENABLE of these makes mailbox names UTF-8


@dataclass(slots=True)
class _Gathered:
    """A command whose literals are still arriving."""

    head: table.Head
    text: str
    size: int  # octets so far
    literals: list[bytes] = field(default_factory=list)
    left: int = 0  # octets of the literal that is arriving
    binary: bool = False  # it is a literal8


class Server:
    """One session: `receive_data`, `next_event` until None, `send` each response. See `commands`.

    A tagged OK to COMPRESS turns compression on, and `Enabled` with UTF8=ACCEPT or IMAP4rev2 UTF-8: from
    then on `receive_data` takes, and `send` gives, what stands on the wire; the `tap` hears what it means.
    """

    __slots__ = (
        "_append", "_bad", "_codec", "_current", "_framer", "_gathered", "_held", "_inflated", "_limits",
        "_mode", "busy", "closed", "labels", "state", "tap", "upgrading", "utf8",
    )  # fmt: skip

    def __init__(self, limits: Limits = _DEFAULT, *, preauthenticated: bool = False) -> None:
        self._limits = limits
        self.tap: Tap | None = None
        self._reset(State.AUTHENTICATED if preauthenticated else State.NOT_AUTHENTICATED)

    def _reset(self, state: State) -> None:
        self.state = state
        self.closed = False
        self.upgrading = False
        self.busy = False  # there is more to read, once others had their turn
        self._inflated = False  # a piece of what is compressed, in this turn
        self._framer = Framer()
        self._mode = _Mode.COMMAND
        self._bad = 0  # bad commands since the last good one
        self._current: c.Event | None = None  # the event in hand
        self._gathered: _Gathered | None = None
        self._append: Appending | None = None
        self._held: Line | None = None  # a command that came where DONE was due
        self._codec: Deflate | None = None  # once COMPRESS is on
        self.utf8 = False  # mailbox names are in UTF-8
        self.labels = True  # SEARCH may name a charset

    @property
    def compressed(self) -> bool:
        """Whether COMPRESS is on."""
        return self._codec is not None

    def receive_data(self, data: bytes) -> None:
        """Keep octets from the peer; after the end they are dropped."""
        if self.closed or self._mode is _Mode.ENDED:
            return
        self._inflated = False
        if self._codec is None:
            self._framer.feed(data)
        else:
            self._codec.feed(data)

    def next_event(self) -> c.Event | None:
        """The next thing the client says; None until more octets arrive or the last event is answered.

        Also None, and `busy`, where a piece of what is compressed was read and more waits: to be asked again
        once others had their turn, as a few octets may be very many commands, or empty lines.
        """
        self.busy = False
        while not self.closed and not self.upgrading:
            event = self._next_plain()
            if event is not None or self._mode in (_Mode.WAITING, _Mode.ENDED):
                return event
            if self._inflated and self._codec is not None and self._codec.waiting:
                self._inflated, self.busy = False, True
                return None
            self._inflated = self._inflate()
            if not self._inflated:
                return self._garbled()
        return None

    def _next_plain(self) -> c.Event | None:
        """The next event of the octets that the framer has."""
        while True:
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

    def _inflate(self) -> bool:
        """Whether there were more compressed octets to read."""
        if self._codec is None:
            return False
        data = self._codec.inflate()
        if self.tap is not None and data:
            self.tap.received(data)
        self._framer.feed(data)
        return bool(data)

    def _garbled(self) -> c.Event | None:
        """The end, where what should be compressed is not."""
        if self._codec is None or not self._codec.broken or self._mode is _Mode.ENDED:
            return None
        return self._emit(c.Malformed(None, "bad compressed data", fatal=True))

    def send(self, response: r.AnyResponse) -> bytes:
        """The octets of a response. A Tagged ends the command in hand, as states.AFTER says."""
        codec = self._codec  # the OK to COMPRESS itself is plain
        data = self._said(response)
        if codec is None:
            return data
        if self.tap is not None and data:
            self.tap.sent(data)
        return codec.deflate(data)

    def _said(self, response: r.AnyResponse) -> bytes:
        if isinstance(response, bytes):
            return response
        if isinstance(response, tuple):
            return b"".join([self._said(part) for part in response])
        if isinstance(response, r.Tagged):
            self._settle(response)
        elif isinstance(response, r.Bye):
            self.closed = True
        elif isinstance(response, r.Enabled):
            self.utf8 = self.utf8 or any(name.upper() in _UTF8 for name in response.names)
            self.labels = self.labels and "UTF8=ACCEPT" not in response.names
        elif isinstance(response, r.Challenge) and isinstance(self._current, c.Authenticate | c.AuthResponse):
            self._mode = _Mode.RESPONSE
        elif isinstance(response, r.Continuation) and not self._go_on():
            return b""
        return r.encode(response, utf8=self.utf8)

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
            if reply.status == "OK":
                self._turn(current)
        self.state = reply.becomes or self.state
        self.closed = self.closed or self.state is State.LOGOUT

    def _turn(self, current: c.Event) -> None:
        """What a tagged OK does to the session besides its state."""
        match current:
            case c.StartTls():
                self.upgrading = True
                self._framer.clear()  # RFC 3501 section 6.2.1: plaintext sent ahead is not trusted
            case x.Compress():
                self._codec = Deflate()
                self._codec.feed(self._framer.some(1 << 30))
            case x.Unauthenticate():
                self.utf8, self.labels = False, True

    def _finish(self, current: c.Event) -> None:
        """The command is over, maybe with octets of it still to come."""
        if isinstance(current, c.Malformed) or self._mode is _Mode.ENDED:
            return
        append, self._append = self._append, None
        self._gathered = None
        self._mode = _Mode.COMMAND
        to_skip = None if append is None else append.to_skip()
        if to_skip is not None:
            self._framer.skip_literal(to_skip)

    def _go_on(self) -> bool:
        """The client may go on; False where it needs no word from us."""
        current = self._current
        if self._append is not None:
            self._mode = _Mode.APPENDING
            return self._append.go_on()
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
        line: Line | Broken | None = _EMPTY
        while line == _EMPTY:  # some clients send one too many
            if self.state is State.NOT_AUTHENTICATED and self._framer.startswith(_TLS_RECORD):
                return c.Malformed(None, "TLS on a plain port", fatal=True)
            line = self._first_line()
        if line is None:
            return None
        if isinstance(line, Broken):
            return c.Malformed(table.tag_of(line.start.decode("latin-1"), whole=False), line.reason)
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
            replaces = head.name.endswith("REPLACE") and self.state is not State.SELECTED
            if head.command not in ALLOWED[self.state] or replaces:
                raise BadSyntax(f"not allowed in the {self.state.value} state")
            if line.literal is None and head.command is not c.Append:
                return self._whole(head, text, [])
        except BadSyntax as error:
            return self._refused(line, c.Malformed(tag, error.text, error.code, error.status))
        self._gathered = _Gathered(head, text, len(text))
        return (
            self._announced(line) if line.literal is not None else self._append_begins(line, self._gathered)
        )

    def _whole(self, head: table.Head, text: str, literals: list[bytes]) -> c.Event:
        command = table.read(head, text, literals, utf8=self.utf8, labels=self.labels)
        if isinstance(command, x.Compress) and self._codec is not None:  # RFC 4978 section 3
            raise BadSyntax("already compressed", "COMPRESSIONACTIVE", "NO")
        return command

    def _announced(self, line: Line) -> c.Event | None:
        """A literal follows: an argument, or APPEND's message."""
        gathered, literal = self._gathered, line.literal
        assert gathered is not None
        assert literal is not None
        head, limits = gathered.head, self._limits
        if head.command is c.Append and not messages.awaits_mailbox(gathered.text[head.at :]):
            return self._append_begins(line, gathered)
        size = gathered.size + literal.size
        if literal.size > self._room(limits.literal) or size > self._room(limits.command):
            return self._refused(line, c.Malformed(head.tag, "literal too large", code="TOOBIG"))
        if len(gathered.literals) >= limits.literals:
            return self._refused(line, c.Malformed(head.tag, "too many literals"))
        if literal.binary and head.command is not x.SetMetadata:
            return self._refused(line, c.Malformed(head.tag, "literal8 is not allowed here"))
        gathered.left, gathered.size, gathered.binary = literal.size, size, literal.binary
        self._mode = _Mode.LITERAL
        return c.LiteralAnnounced(head.tag, literal.size) if literal.synchronizing else None

    def _read_literal(self) -> c.Event | None:
        """An argument's literal."""
        gathered = self._gathered
        assert gathered is not None
        data = self._framer.take(gathered.left)
        if data is not None:
            gathered.literals.append(data)
            gathered.text += "~" + LITERAL if gathered.binary else LITERAL
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
            return c.Malformed(head.tag, line.reason)
        gathered.text += line.text.decode("latin-1")
        gathered.size += len(line.text)
        if line.literal is not None:
            return self._announced(line)
        if head.command is c.Append:
            return self._append_begins(line, gathered)
        self._gathered, self._mode = None, _Mode.COMMAND
        try:
            return self._whole(head, gathered.text, gathered.literals)
        except BadSyntax as error:
            return c.Malformed(head.tag, error.text, error.code, error.status)

    def _append_begins(self, line: Line, gathered: _Gathered) -> c.Event:
        """APPEND's or REPLACE's first message is announced."""
        head = gathered.head
        cursor = Cursor(gathered.text, gathered.literals, head.at, utf8=self.utf8)
        self._gathered = None
        self._append = append = Appending(head.tag, self._limits, utf8=self.utf8)
        try:
            return append.begin(cursor, line, head.name)
        except BadSyntax as error:
            return self._refused(line, c.Malformed(head.tag, error.text, error.code, error.status))

    def _read_append(self) -> c.Event | None:
        """What follows in an APPEND."""
        append = self._append
        assert append is not None
        try:
            event = append.next_event(self._framer)
        except BadSyntax as error:
            return self._refused(append.line, c.Malformed(self._tag(), error.text, error.code, error.status))
        if append.ended:
            self._append, self._mode = None, _Mode.COMMAND
        return event

    def _read_response(self) -> c.Event | None:
        """The client's next word in a SASL exchange (RFC 3501 section 6.2.2)."""
        tag = self._tag()
        line = self._framer.line(self._limits.before_login)
        if line is None:
            return None
        if isinstance(line, Broken):
            return c.Malformed(tag, line.reason)
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
            return c.Malformed(tag, line.reason)
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

    def _refused(self, line: Line, event: c.Malformed) -> c.Malformed:
        """Refuse the command that this line belongs to; a literal that comes anyway is skipped."""
        if line.literal is not None and not line.literal.synchronizing:
            self._framer.skip_literal(line.literal.size)
        return event


_READERS: dict[_Mode, Callable[[Server], c.Event | None]] = {
    _Mode.COMMAND: Server._read_command,
    _Mode.LITERAL: Server._read_literal,
    _Mode.TEXT: Server._read_text,
    _Mode.APPENDING: Server._read_append,
    _Mode.RESPONSE: Server._read_response,
    _Mode.IDLING: Server._read_done,
    _Mode.WAITING: Server._read_nothing,
    _Mode.ENDED: Server._read_nothing,
}
