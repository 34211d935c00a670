"""The milter protocol's packets: ours by their octets, the filter's in every shape."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire import milter
from mailstack.wire.milter import Actions, Answer, BadPacket, Options, Reader, ReplyCode, Stage, Steps


def packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


@pytest.mark.parametrize(
    ("said", "octets"),
    [
        (milter.options(), b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xf7\xff"),
        (milter.connect("[192.0.2.1]", "192.0.2.1", 1025), b"\0\0\0\x1aC[192.0.2.1]\x004\x04\x01192.0.2.1\0"),
        (milter.connect("x", "2001:db8::1", 25), b"\0\0\0\x12Cx\x006\0\x192001:db8::1\0"),
        (milter.helo("client"), b"\0\0\0\x08Hclient\0"),
        (milter.mail("", ["SIZE=5"]), b"\0\0\0\x0bM<>\0SIZE=5\0"),
        (milter.rcpt("b@x"), b"\0\0\0\x07R<b@x>\0"),
        (milter.data(), b"\0\0\0\x01T"),
        (milter.header(b"Subject", b" a\0b"), b"\0\0\0\x0dLSubject\0 ab\0"),
        (milter.end_of_header(), b"\0\0\0\x01N"),
        (milter.body(b"a\0b"), b"\0\0\0\x04Ba\0b"),
        (milter.end_of_message(), b"\0\0\0\x01E"),
        (milter.abort(), b"\0\0\0\x01A"),
        (milter.close(), b"\0\0\0\x01Q"),
        (milter.macros(Stage.MAIL, [("i", "Q1"), ("{x}", "")]), b"\0\0\0\x0cDMi\0Q1\0{x}\0\0"),
        (milter.macros(Stage.END_OF_MESSAGE, []), b"\0\0\0\x02DE"),
    ],
)
def test_what_we_say(said: bytes, octets: bytes) -> None:
    assert said == octets


GOOD = [
    (packet(b"c"), Answer.CONTINUE),
    (packet(b"a"), Answer.ACCEPT),
    (packet(b"r"), Answer.REJECT),
    (packet(b"t"), Answer.TEMPFAIL),
    (packet(b"d"), Answer.DISCARD),
    (packet(b"s"), Answer.SKIP),
    (packet(b"p"), Answer.PROGRESS),
    (packet(b"y", b"550 5.7.1 Go away\0"), ReplyCode(550, "5.7.1", "Go away")),
    (packet(b"y", b"451 later\0"), ReplyCode(451, "", "later")),
    (packet(b"y", b"550-5.7.1 one\r\n550 5.7.1 two\0"), ReplyCode(550, "5.7.1", "one\ntwo")),
    (packet(b"y", b"550 4.7.1 odd\x01\0"), ReplyCode(550, "", "4.7.1 odd?")),
    (packet(b"y", b"550\0"), ReplyCode(550, "", "")),
    (packet(b"h", b"X-A\0 one\n two\0"), milter.AddHeader(b"X-A", b" one\n two")),
    (packet(b"i", b"\0\0\0\x02X-A\0b\0"), milter.InsertHeader(2, b"X-A", b"b")),
    (packet(b"m", b"\0\0\0\x01X-A\0\0"), milter.ChangeHeader(1, b"X-A", b"")),
    (packet(b"b", b"\0body\0"), milter.ReplaceBody(b"\0body\0")),
    (packet(b"+", b"<a@x>\0"), milter.AddRecipient("<a@x>")),
    (packet(b"2", b"<a@x>\0NOTIFY=NEVER\0"), milter.AddRecipient("<a@x>", "NOTIFY=NEVER")),
    (packet(b"-", b"<a@x>\0"), milter.DeleteRecipient("<a@x>")),
    (packet(b"e", b"<>\0"), milter.ChangeSender("<>")),
    (packet(b"q", b"spam\0"), milter.Quarantine("spam")),
    (packet(b"O", struct.pack("!III", 6, 0x11, 0x40)), Options(6, Actions(0x11), Steps(0x40))),
    (
        packet(b"O", struct.pack("!III", 6, 0x111, 0) + b"\0\0\0\x02i {auth_type}\0\0\0\0\x05\0"),
        Options(
            6, Actions(0x111), Steps(0), {Stage.MAIL: {"i", "{auth_type}"}, Stage.END_OF_MESSAGE: frozenset()}
        ),
    ),
]


@pytest.mark.parametrize(("data", "event"), GOOD)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_a_filter_says(data: bytes, event: milter.Event, step: int) -> None:
    reader = Reader()
    events = []
    stream = data + data
    for start in range(0, len(stream), step):
        reader.receive_data(stream[start : start + step])
        while (found := reader.next_event()) is not None:
            events.append(found)
    assert events == [event, event]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0c",
        b"\xff\xff\xff\xffc",
        packet(b"?"),
        packet(b"y"),
        packet(b"y", b"550 without end"),
        packet(b"y", b"250 fine\0"),
        packet(b"y", b"5x0 fine\0"),
        packet(b"y", b"\r\n\0"),
        packet(b"h", b"X\0"),
        packet(b"h"),
        packet(b"i", b"\0\0"),
        packet(b"m", b"\0\0\0\x01"),
        packet(b"+"),
        packet(b"O", b"\0\0\0\x06"),
        packet(b"O", struct.pack("!III", 6, 0, 0) + b"\0\0\0\x63i\0"),
        packet(b"O", struct.pack("!III", 6, 0, 0) + b"\0\0\0\x02i"),
    ],
)
def test_nonsense(data: bytes) -> None:
    reader = Reader()
    reader.receive_data(data)
    with pytest.raises(BadPacket):
        reader.next_event()


@given(st.binary(max_size=60), st.sampled_from([bytes([octet]) for octet in b"Oyhimb+2-eqcarts"]))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes, command: bytes) -> None:
    try:
        assert milter.parse(command, data) is not None
    except BadPacket:
        pass
