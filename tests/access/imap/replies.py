"""What a server said, read strictly: RFC 3501 section 9 as far as our server uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_LITERAL = re.compile(rb"~?\{(\d+)\}\r\n")
_CODE = re.compile(rb"\[([^\]]*)\] ")
_ATOM = re.compile(rb"[^\s()\[\]\"{]+")
_STATUS = (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH")


@dataclass(frozen=True, slots=True)
class Said:
    """One response: untagged (`*`), a continuation (`+`) or tagged.

    `words` are atoms as str, strings as bytes and lists; a status response has its status, code and text.
    """

    tag: str
    words: list[Any]

    @property
    def status(self) -> str:
        """OK, NO, BAD or BYE; empty where it is something else."""
        return self.words[0] if self.words and self.words[0].encode() in _STATUS else ""

    @property
    def code(self) -> str:
        """The response code, without brackets."""
        code: str = self.words[1] if self.status else ""
        return code

    @property
    def kind(self) -> str:
        """``EXISTS``, ``FETCH``, ``SEARCH``: the word that says what it is."""
        return str(self.words[1 if self.words[0].isdigit() else 0])

    @property
    def renumbers(self) -> bool:
        """Whether sequence numbers are others after it."""
        return self.kind == "EXPUNGE" or (self.kind == "VANISHED" and self.words[1] != ["EARLIER"])


def read(data: bytes) -> list[Said]:
    """All responses in `data`, which must be whole. Raise AssertionError for anything else."""
    return list(_responses(data))


def numbers(text: str) -> list[int]:
    """The numbers of a sequence set without ``*``, in its order."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition(":")
        low, high = sorted((int(first), int(last or first)))
        assert high - low < 100_000, text
        found += range(low, high + 1)
    return found


def _responses(data: bytes) -> Iterator[Said]:
    at = 0
    while at < len(data):
        space = data.index(b" ", at)
        tag = data[at:space].decode("ascii")
        rest = space + 1
        status = data[rest : rest + 8].split(b" ")[0]
        if tag == "+" or status in _STATUS:
            end = data.index(b"\r\n", rest)
            yield Said(tag, _status(data[rest:end], tag == "+"))
            at = end + 2
            continue
        words, at = _words(data, rest, b"\r\n")
        assert tag == "*", f"{tag} {words}"
        yield Said(tag, words)


def _status(line: bytes, continuation: bool) -> list[Any]:
    if continuation:
        return [line.decode()]
    status, _, text = line.partition(b" ")
    match = _CODE.match(text)
    code = match[1].decode() if match else ""
    return [status.decode(), code, text[match.end() if match else 0 :].decode()]


def _words(data: bytes, at: int, end: bytes) -> tuple[list[Any], int]:
    words: list[Any] = []
    while True:
        if data.startswith(end, at):
            return words, at + len(end)
        if words:
            assert data[at : at + 1] == b" ", f"no space at {data[at - 20 : at + 20]!r}"
            at += 1
        word, at = _word(data, at)
        words.append(word)


def _word(data: bytes, at: int) -> tuple[Any, int]:
    first = data[at : at + 1]
    if first == b"(":
        return _words(data, at + 1, b")")
    if first == b'"':
        return _quoted(data, at + 1)
    literal = _LITERAL.match(data, at)
    if literal:
        end = literal.end() + int(literal[1])
        return data[literal.end() : end], end
    return _atom(data, at)


def _quoted(data: bytes, at: int) -> tuple[bytes, int]:
    text = bytearray()
    while data[at : at + 1] != b'"':
        at += data[at : at + 1] == b"\\"
        assert data[at : at + 1] not in (b"", b"\r", b"\n")
        text += data[at : at + 1]
        at += 1
    return bytes(text), at + 1


def _atom(data: bytes, at: int) -> tuple[str, int]:
    """An atom, a flag, or a section name such as ``BODY[HEADER.FIELDS (TO)]<0>``."""
    start, depth = at, 0
    while True:
        found = _ATOM.match(data, at)
        if found:
            at = found.end()
        here = data[at : at + 1]
        if here == b"[":
            depth += 1
        elif here == b"]":
            depth -= 1
        elif not depth or not here:
            break
        at += 1
    assert at > start, f"no word at {data[at : at + 30]!r}"
    return data[start:at].decode("utf-8"), at
