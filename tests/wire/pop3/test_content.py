"""Dot-stuffing and TOP, whatever the cuts."""

from __future__ import annotations

import poplib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.pop3 import Stuffer, TopLines


def stuffed(*chunks: bytes) -> bytes:
    stuffer = Stuffer()
    return b"".join([*map(stuffer.feed, chunks), stuffer.finish()])


def unstuffed(data: bytes) -> bytes:
    """As a client reads it."""
    lines = data.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2]
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines[:-2])


class TestStuffer:
    @pytest.mark.parametrize(
        ("chunks", "sent"),
        [
            ([], b".\r\n"),
            ([b""], b".\r\n"),
            ([b"a\r\n"], b"a\r\n.\r\n"),
            ([b"a"], b"a\r\n.\r\n"),
            ([b"a\n.b\n"], b"a\r\n..b\r\n.\r\n"),
            ([b"."], b"..\r\n.\r\n"),
            ([b".\r\n.\r\n"], b"..\r\n..\r\n.\r\n"),
            ([b"a\r\n", b".b\r\n"], b"a\r\n..b\r\n.\r\n"),
            ([b"a\r", b"\n.b"], b"a\r\n..b\r\n.\r\n"),
            ([b"a\r", b"\n", b"."], b"a\r\n..\r\n.\r\n"),
            ([b"a\n", b"", b"\n"], b"a\r\n\r\n.\r\n"),
            ([b"a\r\nb\nc\r\n"], b"a\r\nb\r\nc\r\n.\r\n"),
            ([b"a\r"], b"a\r\r\n.\r\n"),
            ([b"a.\r\n..\r\n"], b"a.\r\n...\r\n.\r\n"),
        ],
    )
    def test_bytes(self, chunks: list[bytes], sent: bytes) -> None:
        assert stuffed(*chunks) == sent

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from([b".", b"\r\n", b"\n", b"\r", b"a", b"..", b"\r\n.", b"\r\n.\r\n", b"\0\xff"]),
            max_size=20,
        ),
        st.data(),
    )
    def test_any_split_comes_back(self, pieces: list[bytes], data: st.DataObject) -> None:
        whole = b"".join(pieces)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
        chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        lines = whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        expected = lines if lines.endswith(b"\r\n") or not lines else lines + b"\r\n"
        assert stuffed(*chunks) == stuffed(whole)
        assert unstuffed(stuffed(*chunks)) == expected


class TestTop:
    @pytest.mark.parametrize(
        ("message", "lines", "top"),
        [
            (b"A: b\r\n\r\none\r\ntwo\r\n", 0, b"A: b\r\n\r\n"),
            (b"A: b\r\n\r\none\r\ntwo\r\n", 1, b"A: b\r\n\r\none\r\n"),
            (b"A: b\r\n\r\none\r\ntwo\r\n", 2, b"A: b\r\n\r\none\r\ntwo\r\n"),
            (b"A: b\r\n\r\none\r\ntwo", 9999999999, b"A: b\r\n\r\none\r\ntwo"),
            (b"A: b\n\none\ntwo\n", 1, b"A: b\n\none\n"),
            (b"A: b\r\n", 5, b"A: b\r\n"),
            (b"\r\none\r\ntwo\r\n", 1, b"\r\none\r\n"),
            (b"\none\n", 0, b"\n"),
            (b"A: b\r\n\r\n\r\n\r\n", 1, b"A: b\r\n\r\n\r\n"),
            (b"", 1, b""),
        ],
    )
    def test_any_split(self, message: bytes, lines: int, top: bytes) -> None:
        for cut in range(len(message) + 1):
            cutter = TopLines(lines)
            assert cutter.feed(message[:cut]) + cutter.feed(message[cut:]) == top
        cutter = TopLines(lines)
        assert b"".join(cutter.feed(message[at : at + 1]) for at in range(len(message))) == top

    def test_done_as_soon_as_it_is(self) -> None:
        cutter = TopLines(1)
        cutter.feed(b"A: b\r\n\r\n")
        assert not cutter.done
        cutter.feed(b"one\r\n")
        assert cutter.done


def test_the_standard_library_reads_it() -> None:
    class Client(poplib.POP3):
        def __init__(self, data: bytes) -> None:
            self.file = __import__("io").BytesIO(data)
            self._debugging = 0

    message = b".a\r\n..b\r\n\r\n.\r\nc\r\n"
    _, lines, octets = Client(b"+OK\r\n" + stuffed(message))._getlongresp()
    assert b"".join(line + b"\r\n" for line in lines) == message
    assert octets == len(message)
