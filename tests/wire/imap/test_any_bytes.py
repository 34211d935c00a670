"""No octets make a session raise, and how they are cut into packets changes nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.imap import commands as c
from mailstack.wire.imap.framer import Limits
from mailstack.wire.imap.states import State
from tests.wire.imap.transcript import Script, opened

SMALL = Limits(
    line=200, literal=40, literals=3, message=60, command=300, before_login=150, bad_commands=4, skipped=500
)
FRAGMENTS = [
    b"a ", b"b1 ", b"\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b"(", b")", b'"', b"\\", b"{3}\r\n", b"{3+}\r\n", b"{0+}\r\n", b"~{5+}\r\n",
    b"{50+}\r\n", b"{99}\r\n", b"abc", b"abcde", b"NOOP\r\n", b"LOGIN x y\r\n", b"SELECT INBOX\r\n", b"LOGOUT\r\n", b"IDLE\r\n", b"DONE\r\n",
    b"AUTHENTICATE PLAIN\r\n", b"bW9yZQ==\r\n", b"*\r\n", b"STARTTLS\r\n", b"APPEND INBOX ", b"APPEND ", b"(\\Seen) ", b"UID FETCH 1:* ",
    b"BODY.PEEK[HEADER.FIELDS ", b"SEARCH ", b"OR ", b"NOT ", b"TEXT ", b"STORE 1 +FLAGS ", b"LIST ", b"CLOSE\r\n", b"x" * 70, b"\xff\xfe",
    b"&AOk-", b"CHARSET UTF-8 ", b"GET / HTTP/1.1\r\n", b"\x16\x03",
    b"APPEND INBOX CATENATE (", b"URL ", b"URL u", b"TEXT {3+}\r\n", b"URL {2}\r\n", b"UTF8 (", b"REPLACE 1 ", b"~{3}\r\n", b"SETMETADATA x (/shared/y ",
    b"ENABLE UTF8=ACCEPT\r\n", b"UNAUTHENTICATE\r\n", b"NOTIFY SET (", b"SORT (DATE) UTF-8 ", b"RETURN (PARTIAL 1:2) ", b"$",
]  # fmt: skip
octets = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=30).map(b"".join)
states = st.sampled_from([State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED])


def played(data: bytes, state: State, cuts: list[int]) -> tuple[list[c.Event], bytes, bool]:
    script = Script(opened(state, SMALL))
    script.events.clear()
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    said = b"".join(script.feed(data[start:end]) for start, end in itertools.pairwise(edges))
    return script.events, said, script.session.closed


@settings(max_examples=300, deadline=None)
@given(octets, states, st.lists(st.integers(0, 1000), max_size=6))
def test_any_split_gives_the_same(data: bytes, state: State, cuts: list[int]) -> None:
    if b"STARTTLS" in data:  # what came before the reply is dropped, so there the cut matters, by design
        data = data.replace(b"STARTTLS", b"NOSUCH")
    whole = played(data, state, [])
    assert played(data, state, cuts) == whole
    assert played(data, state, list(range(len(data)))) == whole


@settings(max_examples=200, deadline=None)
@given(octets, states)
def test_never_raises_and_always_answers_in_whole_lines(data: bytes, state: State) -> None:
    _, said, _ = played(data, state, [len(data) // 2])
    assert not said or said.endswith(b"\r\n")
    assert b"SERVERBUG" not in said


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), states)
def test_any_line_is_at_most_one_event_and_the_next_command_works(line: bytes, state: State) -> None:
    line = line.replace(b"\r", b"").replace(b"\n", b"").replace(b"{", b"")
    script = Script(opened(state))
    script.events.clear()
    script.feed(b"t " + line + b"\r\nz NOOP\r\n")
    if not isinstance(script.events[0], c.Idle | c.Authenticate | c.Logout):
        assert len(script.events) == 2
        assert script.events[1] == c.Noop("z")


@pytest.mark.parametrize("size", [100, 1000])
def test_memory_does_not_grow_with_what_is_thrown_away(size: int) -> None:
    script = Script(opened(State.SELECTED, Limits(line=1000)))
    for _ in range(size):
        script.feed(b"x" * 1000)
    assert len(script.session._framer._buffer) <= 1001
