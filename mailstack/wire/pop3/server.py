"""The POP3 server's session: bytes to events, replies to bytes (RFC 1939, 2449, 2595, 5034, 6856).

Theory of operation. Lines are framed first, by CRLF alone, and parsed second, so a malformed one costs its
own line. `TRANSITIONS` says which commands each state allows, and which state follows a positive answer; what
is not in the table is answered by the session's own `Malformed`. Commands may be pipelined: they wait as
bytes until the one before is answered. STLS forgets all that was received before TLS.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from enum import Enum, auto

from mailstack.wire.pop3.content import Stuffer
from mailstack.wire.pop3.events import (
    Auth,
    AuthLine,
    Capa,
    Dele,
    Event,
    Lang,
    List,
    Malformed,
    Noop,
    Pass,
    Quit,
    Retr,
    Rset,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
    Utf8,
)
from mailstack.wire.pop3.replies import Begin, Bye, Challenge, Content, End, Err, Lines, Ok, Reply, Whole

MAX_LINE = 255  # octets of a command with CRLF (RFC 2449 section 4)
MAX_AUTH_LINE = 12 * 1024  # octets of a line with base64 (RFC 4954 section 4 says as much for SMTP)
MAX_DIGITS = 10


class State(Enum):
    """Where the conversation is (RFC 1939 section 3)."""

    AUTHORIZATION = auto()
    PASSWORD = auto()  # USER was accepted
    EXCHANGE = auto()  # inside AUTH
    TRANSACTION = auto()
    CLOSED = auto()


_LOGIN: dict[type, State] = {
    User: State.PASSWORD,
    Auth: State.TRANSACTION,
    Stls: State.AUTHORIZATION,
    Capa: State.AUTHORIZATION,
    Utf8: State.AUTHORIZATION,
    Lang: State.AUTHORIZATION,
    Quit: State.CLOSED,
}

TRANSITIONS: dict[State, dict[type, State]] = {
    State.AUTHORIZATION: _LOGIN,
    State.PASSWORD: {
        **_LOGIN,
        **dict.fromkeys((Capa, Utf8, Lang), State.PASSWORD),
        Pass: State.TRANSACTION,
    },
    State.EXCHANGE: {AuthLine: State.TRANSACTION},
    State.TRANSACTION: {
        **dict.fromkeys((Stat, List, Uidl, Retr, Top, Dele, Noop, Rset, Capa, Lang), State.TRANSACTION),
        Quit: State.CLOSED,
    },
    State.CLOSED: {},
}

# The state after a negative answer, where it is not the same as before.
REFUSALS: dict[type, State] = {
    User: State.AUTHORIZATION,
    Pass: State.AUTHORIZATION,
    Auth: State.AUTHORIZATION,
    AuthLine: State.AUTHORIZATION,
    Quit: State.CLOSED,
}


class _Refusal(Exception):
    """The line is no command; the text says why."""


class Server:
    """One conversation, seen from the server."""

    __slots__ = (
        "_buffer",
        "_overflow",
        "_pending",
        "_searched",
        "_stuffer",
        "closed",
        "state",
        "upgrading",
    )

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.state = State.AUTHORIZATION
        self.upgrading = False  # STLS was answered with +OK: TLS is to start now
        self.closed = False  # the last reply was sent
        self._buffer = bytearray()
        self._searched = 0  # octets of it that hold no CRLF
        self._overflow = False  # the rest of a line that is too long is being dropped
        self._pending: Event | None = None  # what the next reply answers
        self._stuffer: Stuffer | None = None  # inside a multi-line response

    # The three verbs, and the two that TLS and errors need.

    def receive_data(self, data: bytes) -> None:
        """Keep bytes from the client."""
        if not self.closed and not self.upgrading:
            self._buffer += data

    def next_event(self) -> Event | None:
        """The next command, or None until more bytes arrive. Answer each with `send` before the next."""
        if self.closed or self.upgrading:
            return None
        line = self._next_line()
        if line is None:
            return None
        event = line if isinstance(line, Malformed) else self._read(line)
        self._pending = event
        return event

    def send(self, reply: Reply) -> bytes:
        """Bytes for the client; the state moves here."""
        if self._stuffer is not None:
            return self._send_content(self._stuffer, reply)
        match reply:
            case Ok():
                self._settle(accepted=True)
                return _line("+OK", reply.text)
            case Err():
                self._settle(accepted=False)
                return _line("-ERR", reply.text, reply.code)
            case Lines():
                self._settle(accepted=True)
                return b"%s%s.\r\n" % (_line("+OK", reply.text), reply.lines)
            case Whole():
                self._settle(accepted=True)
                stuffer = Stuffer()
                return b"".join((_line("+OK", reply.text), stuffer.feed(reply.data), stuffer.finish()))
            case Begin():
                self._stuffer = Stuffer()
                return _line("+OK", reply.text)
            case Challenge():
                self.state = State.EXCHANGE
                return b"+ %s\r\n" % binascii.b2a_base64(reply.data, newline=False)
            case Bye():
                self._close()
                return _line("-ERR", reply.text, reply.code)
        raise ValueError(f"{type(reply).__name__} outside of a multi-line response")

    def secured(self) -> None:
        """TLS is on: forget all that was said and received before (RFC 2595 section 4)."""
        self._begin()

    def failure(self, event: Event) -> Reply:
        """The words for a bug of ours: the client may try again (RFC 3206 section 4)."""
        return Err("Internal error; try again later", "SYS/TEMP")

    # Replies.

    def _send_content(self, stuffer: Stuffer, reply: Reply) -> bytes:
        match reply:
            case Content():
                return stuffer.feed(reply.data)
            case End():
                self._stuffer = None
                self._settle(accepted=True)
                return stuffer.finish()
        # The message cannot be finished, and an -ERR here would become part of it: closing without
        # the terminator is the one way to say so.
        self._close()
        return b""

    def _settle(self, accepted: bool) -> None:
        event, self._pending = self._pending, None
        if event is None:
            return  # the greeting
        kind = type(event)
        if isinstance(event, Auth) and event.mechanism is None:
            return  # only asked which mechanisms there are
        if isinstance(event, Malformed):
            if self.state is State.EXCHANGE:
                self.state = State.AUTHORIZATION
            return
        if accepted:
            self.state = TRANSITIONS[self.state][kind]
            self.upgrading = kind is Stls
        else:
            self.state = REFUSALS.get(kind, self.state)
        if self.state is State.CLOSED:
            self._close()

    def _close(self) -> None:
        self.state = State.CLOSED
        self.closed = True
        self._buffer.clear()

    # Lines.

    def _limit(self) -> int:
        begins_auth = self._buffer[:5].upper() == b"AUTH "
        return MAX_AUTH_LINE if begins_auth or self.state is State.EXCHANGE else MAX_LINE

    def _next_line(self) -> bytes | Malformed | None:
        """A line without its CRLF, or None until there is one."""
        buffer = self._buffer
        end = buffer.find(b"\r\n", self._searched)
        limit = self._limit()
        if end < 0:
            self._searched = max(0, len(buffer) - 1)
            if self._overflow or len(buffer) > limit:
                self._overflow = True
                del buffer[: self._searched]  # a CR may wait for its LF
                self._searched = 0
            return None
        too_long = self._overflow or end + 2 > limit
        line = b"" if too_long else bytes(buffer[:end])
        del buffer[: end + 2]
        self._searched = 0
        self._overflow = False
        return Malformed(Err("Line too long")) if too_long else line

    def _read(self, line: bytes) -> Event:
        try:
            event = _auth_line(line) if self.state is State.EXCHANGE else _command(line)
        except _Refusal as refusal:
            return Malformed(Err(str(refusal)))
        if type(event) not in TRANSITIONS[self.state]:
            return Malformed(Err(_not_now(event, self.state)))
        return event


def _line(status: str, text: str, code: str = "") -> bytes:
    words = [status, *([f"[{code}]"] if code else []), *([text] if text else [])]
    return " ".join(words).replace("\r", " ").replace("\n", " ").encode("utf-8", "replace") + b"\r\n"


def _not_now(event: Event, state: State) -> str:
    if isinstance(event, Pass):
        return "USER comes before PASS"
    return "Already logged in" if state is State.TRANSACTION else "Log in first"


def _auth_line(line: bytes) -> AuthLine:
    return AuthLine(None if line == b"*" else line)


def _command(line: bytes) -> Event:
    keyword, _, argument = line.partition(b" ")
    if b"\0" in line or b"\n" in line or b"\r" in line:
        raise _Refusal("NUL, CR or LF in a command")
    parser = _PARSERS.get(keyword.upper())
    if parser is None:
        raise _Refusal("Unknown command")
    return parser(argument)


def _text(argument: bytes) -> str:
    """Names and passwords are UTF-8, and nothing else (RFC 6856 section 2.2)."""
    try:
        return argument.decode("utf-8")
    except UnicodeDecodeError:
        raise _Refusal("Names and passwords are in UTF-8") from None


def _user(argument: bytes) -> User:
    name = _text(argument).strip()
    if not name:
        raise _Refusal("USER takes a name")
    return User(name)


def _pass(argument: bytes) -> Pass:
    if not argument:
        raise _Refusal("PASS takes a password")
    return Pass(_text(argument))


def _auth(argument: bytes) -> Auth:
    words = argument.split()
    if len(words) > 2 or not argument.isascii():
        raise _Refusal("AUTH takes a mechanism and at most one response")
    mechanism = words[0].decode("ascii").upper() if words else None
    return Auth(mechanism, words[1] if len(words) == 2 else None)


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > MAX_DIGITS:
        raise _Refusal("Not a number")
    return int(word)


def _numbers(argument: bytes, least: int, most: int) -> list[int]:
    words = argument.split()
    if not least <= len(words) <= most:
        raise _Refusal("Wrong number of arguments")
    return [_number(word) for word in words]


def _list(argument: bytes) -> List:
    numbers = _numbers(argument, 0, 1)
    return List(numbers[0] if numbers else None)


def _uidl(argument: bytes) -> Uidl:
    numbers = _numbers(argument, 0, 1)
    return Uidl(numbers[0] if numbers else None)


def _retr(argument: bytes) -> Retr:
    return Retr(*_numbers(argument, 1, 1))


def _dele(argument: bytes) -> Dele:
    return Dele(*_numbers(argument, 1, 1))


def _top(argument: bytes) -> Top:
    return Top(*_numbers(argument, 2, 2))


def _lang(argument: bytes) -> Lang:
    """A basic language range (RFC 4647 section 2.1)."""
    words = argument.split()
    if not words:
        return Lang(None)
    if len(words) > 1 or not _RANGE.fullmatch(words[0]):
        raise _Refusal("LANG takes one language")
    return Lang(words[0].decode("ascii").lower())


_RANGE = re.compile(rb"\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,10}")


def _alone(event: Event) -> Callable[[bytes], Event]:
    def parse(argument: bytes) -> Event:
        _numbers(argument, 0, 0)
        return event

    return parse


_PARSERS: dict[bytes, Callable[[bytes], Event]] = {
    b"USER": _user,
    b"PASS": _pass,
    b"AUTH": _auth,
    b"CAPA": _alone(Capa()),
    b"STLS": _alone(Stls()),
    b"UTF8": _alone(Utf8()),
    b"LANG": _lang,
    b"STAT": _alone(Stat()),
    b"LIST": _list,
    b"UIDL": _uidl,
    b"RETR": _retr,
    b"TOP": _top,
    b"DELE": _dele,
    b"NOOP": _alone(Noop()),
    b"RSET": _alone(Rset()),
    b"QUIT": _alone(Quit()),
}
