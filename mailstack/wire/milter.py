"""The milter protocol, version 6, as the mail server speaks it: packets to and from a filter.

A packet is four octets of length, one of command, and data (libmilter, mfdef.h). `Reader` takes packets
apart; the functions make ours; `parse` turns what a filter answers into an `Answer` or a `Modification`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag

VERSION = 6
CHUNK = 65535  # octets of a body in one packet
MAX_PACKET = 1024 * 1024  # octets that a filter may send at once

_OPTIONS, _MACROS, _CONNECT, _HELO, _MAIL, _RCPT, _DATA = b"O", b"D", b"C", b"H", b"M", b"R", b"T"
_HEADER, _END_OF_HEADER, _BODY, _END_OF_BODY, _ABORT, _QUIT = b"L", b"N", b"B", b"E", b"A", b"Q"


class BadPacket(ValueError):
    """What the filter sent is not the protocol."""


class Actions(IntFlag):
    """What a filter may do to a message."""

    ADD_HEADERS = 0x01
    CHANGE_BODY = 0x02
    ADD_RECIPIENTS = 0x04
    DELETE_RECIPIENTS = 0x08
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x80
    SET_MACROS = 0x100


class Steps(IntFlag):
    """What is left out, or is not answered."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_END_OF_HEADERS = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400  # it may answer to the body that it has seen enough
    REFUSED_RECIPIENTS = 0x800
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_UNKNOWN = 0x20000
    SILENT_END_OF_HEADERS = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000  # values of header fields with the blank after the colon


ALL_ACTIONS = Actions(0x1FF)
OUR_STEPS = Steps(0x1FFFFF) & ~(Steps.REFUSED_RECIPIENTS)


class Stage(Enum):
    """Where macros belong; the values are those of SETSYMLIST."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_MESSAGE = 5
    END_OF_HEADER = 6


_STAGES = {
    Stage.CONNECT: _CONNECT,
    Stage.HELO: _HELO,
    Stage.MAIL: _MAIL,
    Stage.RCPT: _RCPT,
    Stage.DATA: _DATA,
    Stage.END_OF_MESSAGE: _END_OF_BODY,
    Stage.END_OF_HEADER: _END_OF_HEADER,
}


@dataclass(frozen=True, slots=True)
class Options:
    """What was agreed on: the filter's answer to our offer."""

    version: int
    actions: Actions
    steps: Steps
    macros: Mapping[Stage, frozenset[str]] = field(default_factory=dict)  # those that it wants, where it says


class Answer(Enum):
    """What a filter says to a step, but for a reply of its own words."""

    ACCEPT = b"a"
    CONTINUE = b"c"
    DISCARD = b"d"
    FAIL_CONNECTION = b"f"
    PROGRESS = b"p"
    REJECT = b"r"
    SKIP = b"s"
    TEMPFAIL = b"t"
    SHUT_DOWN = b"4"


@dataclass(frozen=True, slots=True)
class ReplyCode:
    """A refusal in the filter's words."""

    code: int
    enhanced: str
    text: str


@dataclass(frozen=True, slots=True)
class AddHeader:
    """A field behind the others."""

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class InsertHeader:
    """A field at `index`; 0 is before our own trace field, 1 the first of the others."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """The `index`th field of that name, from 1, gets the value; an empty one deletes it."""

    index: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """The next part of a new body."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """One more recipient: a path in angle brackets, perhaps without."""

    path: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class DeleteRecipient:
    """One recipient less."""

    path: str


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Another reverse-path."""

    path: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep it apart, and why."""

    reason: str


Modification = (
    AddHeader | InsertHeader | ChangeHeader | ReplaceBody | AddRecipient | DeleteRecipient | ChangeSender
    | Quarantine
)  # fmt: skip
Event = Answer | ReplyCode | Modification | Options


class Reader:
    """Bytes from a filter become events."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def unread(self) -> int:
        """Octets kept that no event was made of."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Keep bytes."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """The next packet; None until it is whole; raise BadPacket."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        length = int.from_bytes(buffer[:4], "big")
        if not 1 <= length <= MAX_PACKET:
            raise BadPacket(f"a packet of {length} octets")
        if len(buffer) < 4 + length:
            return None
        command, data = bytes(buffer[4:5]), bytes(buffer[5 : 4 + length])
        del buffer[: 4 + length]
        return parse(command, data)


def parse(command: bytes, data: bytes) -> Event:
    """What a packet of the filter means; raise BadPacket."""
    try:
        if command in _ANSWERS:
            return Answer(command)
        return _PARSERS[command](data)
    except KeyError:
        raise BadPacket(f"unknown command {command!r}") from None
    except (struct.error, ValueError, IndexError) as error:
        raise BadPacket(f"command {command!r}: {error}") from error


# What we say.


def packet(command: bytes, data: bytes = b"") -> bytes:
    """One packet."""
    return (len(data) + 1).to_bytes(4, "big") + command + data


def options(actions: Actions = ALL_ACTIONS, steps: Steps = OUR_STEPS) -> bytes:
    """Our offer."""
    return packet(_OPTIONS, struct.pack("!III", VERSION, actions, steps))


def macros(stage: Stage, values: Iterable[tuple[str, str]]) -> bytes:
    """Facts that go before a step."""
    pairs = [_string(text) for pair in values for text in pair]
    return packet(_MACROS, _STAGES[stage] + b"".join(pairs))


def connect(host: str, address: str, port: int) -> bytes:
    """A client has connected; `host` is its name, or its address in brackets."""
    family = b"6" if ":" in address else b"4"
    return packet(_CONNECT, _string(host) + family + struct.pack("!H", port) + _string(address))


def helo(domain: str) -> bytes:
    """It has named itself."""
    return packet(_HELO, _string(domain))


def mail(path: str, parameters: Iterable[str] = ()) -> bytes:
    """A transaction begins; `path` has no angle brackets."""
    return packet(_MAIL, b"".join(map(_string, (f"<{path}>", *parameters))))


def rcpt(path: str, parameters: Iterable[str] = ()) -> bytes:
    """One recipient."""
    return packet(_RCPT, b"".join(map(_string, (f"<{path}>", *parameters))))


def data() -> bytes:
    """The message follows."""
    return packet(_DATA)


def header(name: bytes, value: bytes) -> bytes:
    """One field; lines of the value end with LF."""
    return packet(_HEADER, _octets(name) + _octets(value))


def end_of_header() -> bytes:
    """The blank line."""
    return packet(_END_OF_HEADER)


def body(chunk: bytes) -> bytes:
    """Octets of the body, at most CHUNK."""
    return packet(_BODY, chunk)


def end_of_message() -> bytes:
    """All is said; now the filter may change the message."""
    return packet(_END_OF_BODY)


def abort() -> bytes:
    """Forget the transaction. It is not answered."""
    return packet(_ABORT)


def close() -> bytes:
    """The last packet. It is not answered."""
    return packet(_QUIT)


def _string(text: str) -> bytes:
    return _octets(text.encode("utf-8", "surrogateescape"))


def _octets(value: bytes) -> bytes:
    return value.replace(b"\0", b"") + b"\0"


# What filters say.


def _strings(data: bytes) -> list[bytes]:
    if not data.endswith(b"\0"):
        raise ValueError("a string without its end")
    return data[:-1].split(b"\0")


def _texts(data: bytes, least: int = 1) -> list[str]:
    texts = [one.decode("utf-8", "replace") for one in _strings(data)]
    if len(texts) < least:
        raise ValueError("too few strings")
    return texts


def _parse_options(data: bytes) -> Options:
    version, actions, steps = struct.unpack_from("!III", data)
    wanted: dict[Stage, frozenset[str]] = {}
    rest = data[12:]
    while len(rest) > 4:
        (stage,) = struct.unpack_from("!I", rest)
        names, end, rest = rest[4:].partition(b"\0")
        if not end:
            raise ValueError("a string without its end")
        wanted[Stage(stage)] = frozenset(_macro_names(names.decode("ascii", "replace")))
    return Options(version, Actions(actions & ALL_ACTIONS), Steps(steps & Steps(0x1FFFFF)), wanted)


def _macro_names(text: str) -> Iterable[str]:
    return text.replace(",", " ").split()


def _parse_reply(data: bytes) -> ReplyCode:
    [text] = _texts(data)[:1]
    lines = text.replace("\r\n", "\n").split("\n")
    words = [_words(line) for line in lines if line]
    code, enhanced, _ = words[0]
    return ReplyCode(code, enhanced, "\n".join(words_of for _, _, words_of in words))


def _words(line: str) -> tuple[int, str, str]:
    """A line of a reply, taken apart: "550 5.7.1 Go away" or "550-..."."""
    if not (line[:3].isascii() and line[:3].isdigit() and line[0] in "45" and line[3:4] in ("", " ", "-")):
        raise ValueError("not a reply of 4yz or 5yz")
    text = "".join(character if character.isprintable() else "?" for character in line[4:400])
    first, _, rest = text.partition(" ")
    parts = first.split(".")
    if len(parts) == 3 and all(part.isascii() and part.isdigit() for part in parts) and parts[0] == line[0]:
        return int(line[:3]), first, rest
    return int(line[:3]), "", text


def _parse_add_header(data: bytes) -> AddHeader:
    name, value = _strings(data)[:2]
    return AddHeader(name, value)


def _parse_insert_header(data: bytes) -> InsertHeader:
    (index,) = struct.unpack_from("!I", data)
    name, value = _strings(data[4:])[:2]
    return InsertHeader(index, name, value)


def _parse_change_header(data: bytes) -> ChangeHeader:
    (index,) = struct.unpack_from("!I", data)
    name, value = _strings(data[4:])[:2]
    return ChangeHeader(index, name, value)


def _parse_add_recipient(data: bytes) -> AddRecipient:
    return AddRecipient(*_texts(data)[:2])


def _parse_delete_recipient(data: bytes) -> DeleteRecipient:
    return DeleteRecipient(_texts(data)[0])


def _parse_change_sender(data: bytes) -> ChangeSender:
    return ChangeSender(*_texts(data)[:2])


def _parse_quarantine(data: bytes) -> Quarantine:
    return Quarantine(_texts(data)[0])


_ANSWERS = frozenset(answer.value for answer in Answer)
_PARSERS: dict[bytes, Callable[[bytes], Event]] = {
    b"O": _parse_options,
    b"y": _parse_reply,
    b"h": _parse_add_header,
    b"i": _parse_insert_header,
    b"m": _parse_change_header,
    b"b": ReplaceBody,
    b"+": _parse_add_recipient,
    b"2": _parse_add_recipient,
    b"-": _parse_delete_recipient,
    b"e": _parse_change_sender,
    b"q": _parse_quarantine,
}
