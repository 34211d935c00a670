"""Names in the one form in which they are compared; settings that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.directory.names import address_key, domain_key, our_domain, split_detail, stored_address
from mailstack.directory.settings import DirectoryConfig
from mailstack.mail.address import Address, BadAddress


@pytest.mark.parametrize(
    ("domain", "key"),
    [
        ("Example.ORG", "example.org"),
        ("B\u00fccher.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("fa\u00df.example", "xn--fa-hia.example"),  # IDNA 2008: sharp s is a letter of its own
        ("\u4f8b\u3048.\u30c6\u30b9\u30c8", "xn--r8jz45g.xn--zckzah"),
        ("\u2603.example", "\u2603.example"),  # not allowed by IDNA: stays, and is nobody's
        ("[127.0.0.1]", "[127.0.0.1]"),
        ("", ""),
    ],
)
def test_domain_key(domain: str, key: str) -> None:
    assert domain_key(domain) == key


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_domain_key_never_raises_and_is_stable(domain: str) -> None:
    key = domain_key(domain)
    assert domain_key(key) == key or not key.isascii()


def test_address_key_is_the_addresss_own_where_all_is_ascii() -> None:
    for text in ("Alice@Example.org", '"A b"@example.org', '"a@b"@example.org'):
        address = Address.parse(text)
        assert address_key(address) == address.key
        assert address_key(stored_address(address.key)) == address.key


def test_local_parts_ignore_case_and_composition() -> None:
    composed, decomposed = Address("\u00dcbel", "example.org"), Address("u\u0308BEL", "example.org")
    assert address_key(composed) == address_key(decomposed) == "\u00fcbel@example.org"


@pytest.mark.parametrize("text", ["[127.0.0.1]", "", ".", "\u2603.example", "a b", "a..b"])
def test_what_cannot_be_a_domain_of_ours(text: str) -> None:
    with pytest.raises(BadAddress):
        our_domain(text)


def test_split_detail() -> None:
    assert split_detail("a+b+c", "+") == ("a", "b+c")
    assert split_detail("+a", "+") == ("+a", None)
    assert split_detail("a-b+c", "+-") == ("a", "b+c")
    assert split_detail("a", "+") == ("a", None)
    assert split_detail("a+b", "") == ("a+b", None)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"argon2_memory_kib": 7}, "argon2_memory_kib"),
        ({"argon2_memory_kib": 8, "argon2_parallelism": 2}, "argon2_memory_kib"),
        ({"argon2_memory_kib": 1 << 23}, "argon2_memory_kib"),
        ({"argon2_time_cost": 0}, "argon2_time_cost"),
        ({"argon2_parallelism": 0}, "argon2_parallelism"),
        ({"cache_seconds": -1}, "cache_seconds"),
        ({"waiting_logins": 0}, "waiting_logins"),
        ({"recipient_delimiter": "a"}, "recipient_delimiter"),
        ({"recipient_delimiter": "@"}, "recipient_delimiter"),
        ({"postmaster": "nobody"}, "postmaster"),
    ],
)
def test_settings_that_cannot_be_name_their_key(changed: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        DirectoryConfig(**changed)


def test_the_defaults_are_good() -> None:
    assert DirectoryConfig() == DirectoryConfig(
        argon2_memory_kib=19456, argon2_time_cost=2, argon2_parallelism=1
    )
