"""The PROXY protocol's headers: whole, cut anywhere, with more behind, and wrong in every way."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.proxy import BadProxyHeader, ProxyHeader, read

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, content: bytes, version: int = 2) -> bytes:
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", len(content)) + content


def addresses(source: str, target: str, port: int = 40000) -> bytes:
    return ip_address(source).packed + ip_address(target).packed + struct.pack("!HH", port, 25)


TLV = b"\x01\x00\x03abc" + b"\x20\x00\x05\x01\0\0\0\0"
GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 25\r\n", ("192.0.2.1", 40000)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n", ("2001:db8::1", 1)),
    (
        b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
        ("ffff" + ":ffff" * 7, 65535),
    ),
    (b"PROXY UNKNOWN\r\n", (None, 0)),
    (b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", (None, 0)),
    (b"PROXY UNKNOWN \xff\0 whatever\r\n", (None, 0)),
    (v2(1, 0x11, addresses("192.0.2.1", "198.51.100.1")), ("192.0.2.1", 40000)),
    (v2(1, 0x11, addresses("192.0.2.1", "198.51.100.1") + TLV), ("192.0.2.1", 40000)),
    (v2(1, 0x21, addresses("2001:db8::1", "2001:db8::2")), ("2001:db8::1", 40000)),
    (v2(1, 0x21, addresses("::ffff:192.0.2.1", "::1") + TLV * 9), ("::ffff:192.0.2.1", 40000)),
    (v2(1, 0x31, bytes(216)), (None, 0)),
    (v2(1, 0x00, b""), (None, 0)),
    (v2(0, 0x00, b""), (None, 0)),
    (v2(0, 0x11, addresses("192.0.2.1", "198.51.100.1")), (None, 0)),
    (v2(1, 0x00, bytes(4096)), (None, 0)),
]


@pytest.mark.parametrize(("data", "expected"), GOOD)
def test_good_whole_and_cut_anywhere(data: bytes, expected: tuple[str | None, int]) -> None:
    for more in (b"", b"EHLO x\r\n", data):
        header = read(data + more)
        assert header is not None
        assert header.size == len(data)
        if expected[0] is None:
            assert header.address is None
        else:
            assert (ip_address(header.address or ""), header.port) == (ip_address(expected[0]), expected[1])
    for end in range(len(data)):
        assert read(data[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO client.example\r\n",
        b"P\r\n",
        b"proxy TCP4 192.0.2.1 198.51.100.1 40000 25\r\n",
        b"PROXYTCP4",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 192.0.2.1 198.51.100.1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 25 26\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 40000 25\r\n",
        b"PROXY TCP4 192.0.02.1 198.51.100.1 40000 25\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 40000 25\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.1 40000 25\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 40000 25\r\n",
        b"PROXY TCP4 192.0.2.1/24 198.51.100.1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 25\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 01 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.1 ٤ 25\r\n".encode(),
        b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 25\n" + b"x" * 100,
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",  # 108 octets
        b"PROXY " + b"x" * 101,
        SIGNATURE[:-1] + b"\r",
        v2(1, 0x11, addresses("192.0.2.1", "198.51.100.1"), version=1),
        v2(1, 0x11, addresses("192.0.2.1", "198.51.100.1"), version=3),
        v2(2, 0x11, addresses("192.0.2.1", "198.51.100.1")),
        v2(1, 0x12, addresses("192.0.2.1", "198.51.100.1")),
        v2(1, 0x41, bytes(300)),
        v2(1, 0x11, bytes(11)),
        v2(1, 0x21, bytes(35)),
        v2(1, 0x31, bytes(215)),
        v2(0, 0x00, bytes(4097)),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_bad_is_never_waited_for(data: bytes) -> None:
    with pytest.raises(BadProxyHeader):
        read(data)


def test_the_longest_line_is_read_and_no_longer_one() -> None:
    line = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
    assert len(line) == 107
    assert read(line) == ProxyHeader(107)
    assert read(line[:106]) is None


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"])
)
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes, prefix: bytes) -> None:
    try:
        header = read(prefix + data)
    except BadProxyHeader:
        return
    assert header is None or 15 <= header.size <= len(prefix + data)
