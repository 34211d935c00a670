"""Addresses by RFC 5321 section 4.1.2: what is one, what is not, and how it is written back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.address import Address, BadAddress, parse_domain

GOOD = [
    ("alice@example.test", "alice", "example.test", "alice@example.test"),
    ("Alice.B@EXAMPLE.Test", "Alice.B", "example.test", "Alice.B@example.test"),
    ("a+tag@b.c", "a+tag", "b.c", "a+tag@b.c"),
    ("bounce=x%y!z#@b", "bounce=x%y!z#", "b", "bounce=x%y!z#@b"),
    ('"alice"@b.c', "alice", "b.c", "alice@b.c"),
    ('"two words"@b.c', "two words", "b.c", '"two words"@b.c'),
    (r'"a\"b\\c"@b.c', r'a"b\c', "b.c", r'"a\"b\\c"@b.c'),
    ('"@"@b.c', "@", "b.c", '"@"@b.c'),
    ('""@b.c', "", "b.c", '""@b.c'),
    ("a@[192.0.2.1]", "a", "[192.0.2.1]", "a@[192.0.2.1]"),
    ("a@[IPv6:2001:DB8::1]", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
    ("jürgen@bücher.example", "jürgen", "bücher.example", "jürgen@bücher.example"),
    ("a" * 64 + "@b.c", "a" * 64, "b.c", "a" * 64 + "@b.c"),
]

BAD = [
    "",
    "@",
    "alice",
    "alice@",
    "@example.test",
    "a b@c.d",
    ".a@b.c",
    "a.@b.c",
    "a..b@c.d",
    "a@b..c",
    "a@-b.c",
    "a@b-.c",
    "a@.b",
    "a@b.",
    "a@b c",
    "a@b\r\n",
    "a\n@b.c",
    "a\x00@b.c",
    '"a@b.c',
    '"a"b@c.d',
    '"a\r\n"@b.c',
    "\ud800@b.c",
    '"\udfff"@b.c',
    "a@b\ud800.c",
    "a@[192.0.2]",
    "a@[192.0.2.1",
    "a@[IPv6:zz]",
    "a@[tag:stuff]",
    "a@b@c.d",
    "<a@b.c>",
    "a" * 65 + "@b.c",
    "a@" + "b" * 64 + ".c",
    "a@" + "b." * 150 + "c",
    "x" * 60 + "@" + "y." * 110 + "z",
]


@pytest.mark.parametrize(("text", "local_part", "domain", "written"), GOOD)
def test_good(text: str, local_part: str, domain: str, written: str) -> None:
    address = Address.parse(text)
    assert (address.local_part, address.domain, str(address)) == (local_part, domain, written)


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(BadAddress):
        Address.parse(text)


def test_keys_ignore_case_and_quoting() -> None:
    assert Address.parse('"ALICE"@Example.TEST').key == Address.parse("alice@example.test").key
    assert not Address.parse("jürgen@b.c").is_ascii
    assert parse_domain("MX.Example.TEST") == "mx.example.test"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_an_address_or_a_clear_no(text: str) -> None:
    try:
        address = Address.parse(text)
    except BadAddress:
        return
    assert Address.parse(str(address)) == address


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_every_printable_local_part_can_be_written(local_part: str) -> None:
    address = Address(local_part, "b.c")
    assert Address.parse(str(address)) == address
