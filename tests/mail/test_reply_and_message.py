"""Replies as lines, messages as parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailstack.mail.message import CHUNK, Message, Stored
from mailstack.mail.reply import LOCAL_ERROR, Refused, Reply


def test_every_line_of_a_reply_carries_the_codes() -> None:
    assert Reply(250, "2.1.0", "Ok").encode() == b"250 2.1.0 Ok\r\n"
    assert Reply(550, "5.7.1", "No\nrelaying").encode() == b"550-5.7.1 No\r\n550 5.7.1 relaying\r\n"
    assert Reply(354, "", "Go").encode() == b"354 Go\r\n"
    assert str(Reply(550, "5.7.1", "No\nrelaying")) == "550 5.7.1 No / relaying"


def test_no_line_of_a_reply_is_too_long() -> None:
    long = "ü" * 300
    for reply in (Reply(550, "5.7.1", long), Reply(550, "5.7.1", f"{long}\n{long}")):
        lines = reply.encode().split(b"\r\n")
        assert lines.pop() == b""
        for line in lines:
            assert 509 <= len(line) <= 510
            assert line.decode().strip("ü")[:3] == "550"


def test_kinds_of_reply() -> None:
    assert Reply(250, "2.0.0", "").accepted
    assert LOCAL_ERROR.transient
    assert not LOCAL_ERROR.permanent
    assert Refused(Reply(554, "5.0.0", "x")).reply.permanent


def test_parts_in_order(tmp_path: Path) -> None:
    body = bytes(range(256)) * 3000
    path = tmp_path / "body"
    path.write_bytes(b"skipped" + body + b"ignored")
    message = (
        Message((Stored(path, 7, len(body)),)).prefixed(b"Received: x\r\n").prefixed(b"Return-Path: <>\r\n")
    )
    assert message.size == len(message.read())
    assert message.read() == b"Return-Path: <>\r\nReceived: x\r\n" + body
    assert max(len(chunk) for chunk in message.chunks()) <= CHUNK


def test_a_file_that_is_too_short_is_no_message(tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"abc")
    with pytest.raises(EOFError, match="2 octets short"):
        Message((Stored(path, 0, 5),)).read()
