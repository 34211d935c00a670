"""Encoded words and charsets."""

from __future__ import annotations

import re
from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.charset import codec, decode, decode_encoded_words, encode_words


class TestDecode:
    @pytest.mark.parametrize(
        ("written", "text"),
        [  # the first from RFC 2047 section 8
            ("=?ISO-8859-1?Q?a?=", "a"),
            ("=?ISO-8859-1?Q?a?= b", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a_b?=", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
            ("=?utf-8?b?w7w=?=", "ü"),
            ("=?utf-8?b?ww==?= =?utf-8?b?vA==?=", "ü"),
            ("=?utf-8*en?q?=C3=BC?=", "ü"),
            ("=?no-such?q?=FC?=", "ü"),
            ("=?utf-8?q?a b?=", "a b"),
            ("x=?utf-8?q?=C3=BC?=y", "xüy"),
            ("=?utf-8?x?y?=", "=?utf-8?x?y?="),
            ("=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
            ("=??q?a?=", "=??q?a?="),
            ("=?utf-8?b?*?=", ""),
            ("ü =?utf-8?q?=C3=BC?=", "ü ü"),
        ],
    )
    def test_words(self, written: str, text: str) -> None:
        assert decode_encoded_words(written) == text

    def test_unknown_charset_is_utf8_or_latin1(self) -> None:
        assert decode("ü".encode(), "x-nonsense") == "ü"
        assert decode(b"\xfc", "x-nonsense") == "ü"

    @pytest.mark.parametrize(
        "name", ["punycode", "idna", "zlib", "hex", "rot13", "unicode_escape", "aliases", "", "\0"]
    )
    def test_not_charsets(self, name: str) -> None:
        assert codec(name) is None

    @pytest.mark.parametrize(
        "name", ["UTF-8", "utf8", "ISO_8859-15", "windows-1252", "KOI8-R", "Big5", "ks_c_5601-1987"]
    )
    def test_charsets(self, name: str) -> None:
        assert codec(name) is not None

    def test_every_codec_decodes_anything(self) -> None:
        from mailstack.mail.charset import _CODECS

        for name in _CODECS:
            assert isinstance(decode(bytes(range(256)), name), str), name


class TestEncode:
    def test_ascii_stays(self) -> None:
        assert encode_words("plain =?x?= text") == "plain =?x?= text"

    def test_only_the_words_that_need_it(self) -> None:
        assert encode_words("Re: Grüße an alle") == "Re: =?utf-8?b?R3LDvMOfZQ==?= an alle"

    def test_old_words_are_kept_in_meaning(self) -> None:
        assert decode_encoded_words(encode_words("ü =?utf-8?q?=C3=A4?= x")) == "ü ä x"

    @settings(max_examples=100, deadline=None)
    @given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=200))
    def test_round_trip(self, text: str) -> None:
        encoded = encode_words(text)
        assert encoded.isascii()
        for word in re.findall(r"=\?utf-8\?b\?[^?]*\?=", encoded):
            assert len(word) <= 75  # RFC 2047 section 2
        if "=?" not in text:
            assert decode_encoded_words(encoded) == text
            if not text.isascii() and text == " ".join(text.split()):
                assert str(make_header(decode_header(encoded))) == text


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["=?", "utf-8", "?", "b", "q", "?=", " ", "=C3", "w7w=", "x"]), max_size=30).map(
        "".join
    )
)
def test_never_raises(text: str) -> None:
    assert encode_words(decode_encoded_words(text)).isascii()
    assert encode_words(text + "ü").isascii()
