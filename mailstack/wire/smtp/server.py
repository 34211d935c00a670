"""The SMTP server's session: bytes to events, replies to bytes (RFC 5321 and its extensions).

Theory of operation. Commands are framed first, by CRLF alone, and parsed second, so a malformed one costs its
own line. `TRANSITIONS` is the state machine: it says which events each state allows, and which state follows
a positive reply to them; a command that is not in its state's row is out of sequence. What was offered to the
client is read from the role's own reply to EHLO: only that is accepted.

Content is handed on in chunks as large as they come. A chunk takes no reply: when one is answered all the
same (the disk is full, the message too big), the answer is kept, the rest of the content is swallowed, and
the answer goes out where the client expects it. Once STARTTLS is answered nothing more is read, and `secured`
forgets all that was received before TLS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from mailstack.mail.reply import LOCAL_ERROR, Refused, Replies, Reply
from mailstack.wire.smtp import commands, replies
from mailstack.wire.smtp.commands import LMTP_VERBS, VERBS, Extensions
from mailstack.wire.smtp.data import ChunkContent, DotContent
from mailstack.wire.smtp.events import (
    Auth,
    AuthLine,
    Bdat,
    Chunk,
    Data,
    EndOfChunk,
    EndOfData,
    Event,
    Expn,
    Helo,
    Help,
    Mail,
    Malformed,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    Vrfy,
)


class State(Enum):
    """Where the conversation is."""

    START = auto()  # the client has not named itself
    UNWANTED = auto()  # the greeting was a refusal: QUIT must follow (RFC 5321 section 3.1)
    READY = auto()  # between transactions
    AUTH = auto()  # in a SASL exchange
    MAIL = auto()  # a transaction without a recipient
    RCPT = auto()  # a transaction with at least one
    DATA = auto()  # content up to CRLF.CRLF
    BDAT = auto()  # the octets of a chunk
    CHUNKS = auto()  # between two chunks
    SPOILED = auto()  # a chunk was refused: RSET must follow (RFC 3030 section 2)
    CLOSED = auto()


def _row(state: State, allowed: dict[type, State]) -> dict[type, State]:
    """A state's row: what may be said at any time between commands, and what only there."""
    anytime = dict.fromkeys((Reset, Noop, Help, Vrfy, Expn), state)
    return {**anytime, Helo: State.READY, Quit: State.CLOSED, **allowed}


TRANSITIONS: dict[State, dict[type, State]] = {
    State.START: _row(State.START, {}),
    State.READY: _row(State.READY, {Mail: State.MAIL, Auth: State.READY, StartTls: State.START}),
    State.AUTH: {AuthLine: State.READY},
    State.MAIL: _row(State.MAIL, {Rcpt: State.RCPT, Reset: State.READY}),
    State.RCPT: _row(State.RCPT, {Rcpt: State.RCPT, Data: State.DATA, Bdat: State.BDAT, Reset: State.READY}),
    State.DATA: {Chunk: State.DATA, EndOfData: State.READY},
    State.BDAT: {Chunk: State.BDAT, EndOfChunk: State.CHUNKS, EndOfData: State.READY},
    State.CHUNKS: _row(State.CHUNKS, {Bdat: State.BDAT, Reset: State.READY}),
    State.SPOILED: _row(State.SPOILED, {Reset: State.READY}),
    State.UNWANTED: {Quit: State.CLOSED},
    State.CLOSED: {},
}

# The state after a negative reply, where it is not the same as before.
REFUSALS: dict[type, State] = {
    AuthLine: State.READY,
    EndOfData: State.READY,
    EndOfChunk: State.SPOILED,
    Quit: State.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Octets of a line without its CRLF. RFC 5321 section 4.5.3.1.4 asks for 510 at least."""

    command: int = 1000
    envelope: int = 2000  # MAIL and RCPT with the parameters of all extensions
    auth: int = 12288  # RFC 4954 section 4


_LIMITS = Limits()


class Server:
    """One conversation, seen from the server."""

    __slots__ = (
        "_accepted",
        "_authenticated",
        "_binary",
        "_buffer",
        "_chunk",
        "_chunks",
        "_content",
        "_extensions",
        "_left",
        "_limits",
        "_lmtp",
        "_mends",
        "_overflow",
        "_pending",
        "_refused",
        "_searched",
        "_smtputf8",
        "_start",
        "_verbs",
        "closed",
        "state",
        "upgrading",
    )

    def __init__(self, limits: Limits = _LIMITS, lmtp: bool = False, mends: bool = False) -> None:
        self._limits = limits
        self._lmtp = lmtp
        self._mends = mends  # a bare LF in what follows DATA becomes CRLF, instead of a refusal
        self._verbs = LMTP_VERBS if lmtp else VERBS
        self._begin()

    def _begin(self) -> None:
        self.state = State.START
        self.upgrading = False  # STARTTLS was answered with 220: TLS is to start now
        self.closed = False  # the last reply was sent
        self._buffer = b""
        self._start = 0  # where in the buffer what was not yet used begins
        self._searched = 0  # up to where no CRLF begins
        self._overflow = False  # the rest of a line that is too long is being dropped
        self._pending: Event | None = None  # the event that the next reply answers
        self._extensions: Extensions = frozenset()
        self._authenticated = False
        self._smtputf8 = False  # of this transaction
        self._binary = False  # BODY=BINARYMIME was said in it
        self._accepted = 0  # RCPT commands of this transaction that were accepted
        self._refused: Reply | None = None  # the reply that waits for the end of the content
        self._content: DotContent | None = None  # None in state DATA: the end was seen
        self._chunks: ChunkContent | None = None
        self._chunk: Bdat | None = None  # the chunk that is being received, also where it is only swallowed
        self._left = 0  # its octets still to come

    # The three verbs, and the two that TLS and errors need.

    def receive_data(self, data: bytes) -> None:
        """Keep bytes from the client."""
        if self.closed:
            return
        if self._start:
            self._searched -= self._start
            self._buffer = self._buffer[self._start :] + data
            self._start = 0
        else:
            self._buffer += data

    def next_event(self) -> Event | None:
        """What the client says next, to be answered before more is asked; None until more bytes arrive."""
        self._pending = None
        if self.closed or self.upgrading:
            return None
        if self._chunk is not None:
            event = self._next_octets()
        elif self.state is State.DATA:
            event = self._next_content()
        else:
            event = self._next_command()
        self._pending = event
        return event

    def send(self, answer: Reply | Replies) -> bytes:
        """The bytes of `answer` to the last event, or of the greeting if there was none yet.

        In LMTP the end of the content takes `Replies`, or one that holds for every recipient (RFC 2033).
        """
        event, self._pending = self._pending, None
        reply = answer if isinstance(answer, Reply) else answer.each[0]
        if reply.code == 421:  # RFC 5321 section 3.8: we close, whatever was said
            self._close()
            return reply.encode()
        if event is None:
            if reply.code >= 400:
                self.state = State.UNWANTED
            return reply.encode()
        if isinstance(event, (Chunk, Bdat)):
            self._refused = self._refused or reply
            return b""
        times = self._accepted if self._lmtp and self._ends_message(event) else 1
        self._move(event, reply)
        if isinstance(answer, Replies):
            return b"".join(one.encode(self._smtputf8) for one in answer.each)
        return reply.encode(self._smtputf8) * times  # RFC 6531: UTF-8 only for who has asked for it

    def secured(self) -> None:
        """TLS is on: forget all that was said and received before (RFC 3207 section 4.2)."""
        self._begin()

    def failure(self, event: object) -> Reply:
        """What to answer to `event` when we failed: try again later."""
        return replies.AUTH_FAILURE if isinstance(event, (Auth, AuthLine)) else LOCAL_ERROR

    def _ends_message(self, event: Event) -> bool:
        """Whether the client waits for a reply for each recipient now."""
        return isinstance(event, EndOfData) or (isinstance(event, Malformed) and event.spoiled)

    # Replies move the state.

    def _move(self, event: Event, reply: Reply) -> None:
        kind = type(event)
        if kind is Malformed:
            self._after_malformed()
        elif reply.code == 334:
            self.state = State.AUTH
        elif reply.code >= 400:
            self._enter(REFUSALS.get(kind, self.state))
        else:
            self._enter(TRANSITIONS[self.state][kind])
            if isinstance(event, Helo):
                self._extensions = _offered(reply.text) if event.extended else frozenset()
            elif isinstance(event, Mail):
                self._smtputf8 = event.smtputf8
                self._binary = event.body == "BINARYMIME"
                self._accepted = 0
            elif kind is Rcpt:
                self._accepted += 1
            elif kind is Auth or kind is AuthLine:
                self._authenticated = True
            elif kind is Data:
                self._content = DotContent(self._mends)
            elif kind is StartTls:
                self.upgrading = True

    def _after_malformed(self) -> None:
        if self.state is State.AUTH:
            self.state = State.READY
        elif self.state is State.CLOSED:
            self._close()

    def _enter(self, state: State) -> None:
        self.state = state
        if state is State.READY or state is State.SPOILED:
            self._refused = self._content = self._chunks = None
        elif state is State.CLOSED:
            self._close()

    def _close(self) -> None:
        self.state = State.CLOSED
        self.closed = True
        self._buffer = b""
        self._start = self._searched = 0

    # Commands.

    def _next_command(self) -> Event | None:
        line = self._next_line()
        if line is None:
            return None
        if isinstance(line, Malformed):
            return line
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            return Malformed(replies.BAD_OCTETS)
        if "\r" in text or "\n" in text or "\0" in text:
            return Malformed(replies.BAD_OCTETS)
        try:
            if self.state is State.AUTH:
                return AuthLine(None if text == "*" else commands.auth_response(line))
            return self._command(text)
        except Refused as refused:
            return Malformed(refused.reply)

    def _command(self, text: str) -> Event | None:
        name, _, rest = text.partition(" ")
        # Only ASCII: "ſ".upper() is "S", too.
        verb = self._verbs.get(name.upper()) if len(name) <= 8 and name.isascii() else None
        if verb is None:
            raise Refused(replies.UNKNOWN)
        if verb.event is Bdat:
            return self._bdat(rest)
        if verb.event not in TRANSITIONS[self.state]:
            no_recipients = verb.event is Data and self.state is State.MAIL
            raise Refused(self._no_recipients() if no_recipients else replies.OUT_OF_SEQUENCE)
        if verb.extension and verb.extension not in self._extensions:
            raise Refused(replies.NOT_OFFERED)
        if verb.event is Auth and self._authenticated:  # RFC 4954 section 4
            raise Refused(replies.ALREADY_AUTHENTICATED)
        event = verb.parse(rest, self._extensions)
        if self._binary and isinstance(event, Data):
            raise Refused(replies.BINARY_NEEDS_BDAT)
        if isinstance(event, Rcpt) and not self._smtputf8 and not event.recipient.address.is_ascii:
            raise Refused(replies.NEEDS_SMTPUTF8)
        return event

    def _next_line(self) -> bytes | Malformed | None:
        """The next line without its CRLF; Malformed if it was too long."""
        buffer, start = self._buffer, self._start
        end = buffer.find(b"\r\n", max(start, self._searched))
        if end < 0:
            if start == len(buffer):
                return None
            self._searched = max(start, len(buffer) - 1)
            if self._overflow or len(buffer) - start > self._limit(start) + 1:
                self._overflow = True
                self._buffer = buffer[-1:] if buffer.endswith(b"\r") else b""
                self._start = self._searched = 0
            return None
        length = end - start
        overflow = self._overflow or (length > self._limits.command and length > self._limit(start))
        self._overflow = False
        self._start = self._searched = end + 2
        return Malformed(replies.TOO_LONG) if overflow else buffer[start:end]

    def _limit(self, start: int) -> int:
        verb = self._buffer[start : start + 5].upper()
        if self.state is State.AUTH or verb == b"AUTH ":
            return self._limits.auth
        return self._limits.envelope if verb in (b"MAIL ", b"RCPT ") else self._limits.command

    # Content after DATA.

    def _next_content(self) -> Event | None:
        content = self._content
        if content is None:
            return EndOfData(self._refused)
        if self._start == len(self._buffer):
            return None
        text, rest = content.feed(self._take())
        if not self._refused and (content.bare or content.null):
            self._refused = replies.BARE_LINE_END if content.bare else replies.NULL_OCTET
        if rest is not None:
            self._buffer = rest
            self._content = None  # the next event is the end
        if text and not self._refused:
            return Chunk(text)
        return EndOfData(self._refused) if rest is not None else None

    # Chunks.

    def _bdat(self, rest: str) -> Event | None:
        try:
            event = commands.bdat(rest, self._extensions)
        except Refused:
            # Without a size nobody knows where commands begin again.
            self.state = State.CLOSED
            raise
        self._chunk, self._left = event, event.size
        if Bdat not in TRANSITIONS[self.state] or "CHUNKING" not in self._extensions:
            self._refused = self._out_of_sequence()
            return self._next_octets()
        self.state = State.BDAT
        if not self._binary:
            self._chunks = self._chunks or ChunkContent()
        return event

    def _out_of_sequence(self) -> Reply:
        if "CHUNKING" not in self._extensions:
            return replies.NOT_OFFERED
        return self._no_recipients() if self.state is State.MAIL else replies.OUT_OF_SEQUENCE

    def _no_recipients(self) -> Reply:
        return replies.NO_RECIPIENTS_LMTP if self._lmtp else replies.NO_RECIPIENTS

    def _next_octets(self) -> Event | None:
        """What comes of a chunk: its octets, then its end."""
        chunk = self._chunk
        assert chunk is not None
        while self._left:
            data = self._take(self._left)
            if not data:
                return None
            self._left -= len(data)
            if self._chunks and self.state is State.BDAT:
                self._chunks.feed(data)
                if not self._refused and (self._chunks.bare or self._chunks.null):
                    self._refused = replies.BARE_LINE_END if self._chunks.bare else replies.NULL_OCTET
            if not self._refused:
                return Chunk(data)
        self._chunk = None
        return self._end_of_chunk(chunk)

    def _end_of_chunk(self, chunk: Bdat) -> Event:
        refused = self._refused
        if self.state is not State.BDAT:  # the chunk was out of sequence
            self._refused = None
            ends = self.state is State.SPOILED and chunk.last
            if ends:
                self.state = State.READY  # the transaction that it spoils further is over
            assert refused is not None
            return Malformed(refused, spoiled=ends)
        if not chunk.last:
            return EndOfChunk(chunk.size, refused)
        if self._chunks:
            self._chunks.end()
            if self._chunks.bare and not refused:
                refused = replies.BARE_LINE_END
        return EndOfData(refused)

    def _take(self, most: int | None = None) -> bytes:
        """Bytes from the buffer, all there are or `most`."""
        start = self._start
        if most is None or len(self._buffer) - start <= most:
            data = self._buffer[start:] if start else self._buffer
            self._buffer = b""
            self._start = 0
        else:
            data = self._buffer[start : start + most]
            self._start = start + most
        self._searched = self._start
        return data


@lru_cache(maxsize=64)
def _offered(text: str) -> Extensions:
    """The keywords of a reply to EHLO (RFC 5321 section 4.1.1.1); its first line is the greeting."""
    return frozenset(line.partition(" ")[0].upper() for line in text.split("\n")[1:])
