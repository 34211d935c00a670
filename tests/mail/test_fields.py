"""Header fields: splitting, selection, addresses, dates, message ids."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.fields import (
    Group,
    Mailbox,
    decode_words,
    field_value,
    parse_addresses,
    parse_date,
    parse_message_id,
    select_fields,
    split_fields,
)

HEADER = b"From: a@b\r\nSubject: one\r\n two\r\nno colon\r\nsubject : three\n\tfour\nLast: x\r\n\r\nBody: not a field\r\n"


class TestSplit:
    def test_names_and_raw_fields(self) -> None:
        assert split_fields(HEADER) == [
            (b"from", b"From: a@b\r\n"),
            (b"subject", b"Subject: one\r\n two\r\n"),
            (b"", b"no colon\r\n"),
            (b"subject", b"subject : three\n\tfour\n"),
            (b"last", b"Last: x\r\n"),
        ]

    @pytest.mark.parametrize("header", [b"", b"\r\n", b"\n", b"\nA: b\n"])
    def test_none(self, header: bytes) -> None:
        assert split_fields(header) == []

    def test_select(self) -> None:
        assert select_fields(HEADER, frozenset((b"SUBJECT", b"x"))) == (
            b"Subject: one\r\n two\r\nsubject : three\n\tfour\n\r\n"
        )

    def test_select_not(self) -> None:
        assert select_fields(HEADER, [b"subject", b"from"], not_=True) == b"no colon\r\nLast: x\r\n\r\n"

    def test_select_ends_the_last_line(self) -> None:
        assert select_fields(b"A: b", [b"a"]) == b"A: b\r\n\r\n"

    def test_select_at_most(self) -> None:
        assert select_fields(b"A: 1\nA: 234567\nA: 8\n", [b"a"], most=10) == b"A: 1\nA: 8\n\r\n"

    def test_value(self) -> None:
        assert field_value(b"Subject:  one\r\n two\r\n") == "one two"
        assert field_value(b"Subject: \xc3\xbc\r\n") == "ü"
        assert field_value(b"Subject: \xfc\r\n") == "ü"
        assert decode_words(b"=?utf-8?q?a?=\r\n =?utf-8?q?b?= c") == "ab c"


A = Mailbox(None, "a", "b.test")


class TestAddresses:
    @pytest.mark.parametrize(
        ("value", "addresses"),
        [
            ("", []),
            (" , ,", []),
            ("a@b.test", [A]),
            ("<a@b.test>", [A]),
            ("a@b.test, a@b.test ,", [A, A]),
            ('"Smith, J." <a@b.test>', [Mailbox("Smith, J.", "a", "b.test")]),
            ("John Q. Public <a@b.test>", [Mailbox("John Q. Public", "a", "b.test")]),
            ('"A" B <a@b.test>', [Mailbox("A B", "a", "b.test")]),
            ("a@b.test (Al (x) B)", [Mailbox("Al (x) B", "a", "b.test")]),
            ("=?utf-8?q?A,_B?= <a@b.test>", [Mailbox("=?utf-8?q?A,_B?=", "a", "b.test")]),
            ("<@r1,@r2:a@b.test>", [A]),
            ("<@r1:a@b.test>, a@b.test", [A, A]),
            ("a @ b . test", [A]),
            ('"a b"@c', [Mailbox(None, "a b", "c")]),
            ("a@[192.0.2.1]", [Mailbox(None, "a", "[192.0.2.1]")]),
            ("root", [Mailbox(None, "root", "")]),
            ("<>", []),
            ("Bad <a@b.test", [Mailbox("Bad", "a", "b.test")]),
            ("X <a@b.test> junk (c), a@b.test", [Mailbox("X", "a", "b.test"), A]),
            ("none:;", [Group("none", ())]),
            (
                "a@b.test, G H: a@b.test, X <c@d>;, a@b.test",
                [A, Group("G H", (A, Mailbox("X", "c", "d"))), A],
            ),
            ("G: a@b.test", [Group("G", (A,))]),
            ("ü <ü@ö.test>", [Mailbox("ü", "ü", "ö.test")]),
            ("A\r\n <a@b.test>", [Mailbox("A", "a", "b.test")]),
            ('"\\"q\\" \\\\" <a@b.test>', [Mailbox('"q" \\', "a", "b.test")]),
        ],
    )
    def test_addresses(self, value: str, addresses: list[Mailbox | Group]) -> None:
        assert parse_addresses(value) == addresses
        assert parse_addresses(value.encode()) == addresses

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.sampled_from([*'ab@,;:<>()[]"\\ .\r\n', "=?utf-8?q?x?=", "ü", "\0"]), max_size=40).map(
            "".join
        )
    )
    def test_never_raises(self, value: str) -> None:
        for address in parse_addresses(value):
            assert isinstance(address, Mailbox | Group)


class TestDate:
    @pytest.mark.parametrize(
        "value",
        [
            "Fri, 21 Nov 1997 09:55:06 -0600",
            "21 Nov 1997 09:55 +0130",
            "Fri, 21 Nov 97 09:55:06 GMT",
            "Mon, 1 Jan 2024 00:00:00 +0000 (UTC)",
            "1 Jan 24 00:00:00 EST",
            "Thu, 29 Feb 2024 23:59:59 PDT",
            "Tue Feb 20 10:11:12 2024",
            "Sun, 06 Nov 1994 08:49:37 -0000",
        ],
    )
    def test_like_the_standard_library(self, value: str) -> None:
        theirs = email.utils.parsedate_tz(value)
        assert theirs is not None
        assert parse_date(value) == (email.utils.mktime_tz(theirs), (theirs[9] or 0) // 60)

    @pytest.mark.parametrize(
        ("value", "zone"),
        [
            ("1 Jan 2024 0:00:00 +1:30", 90),
            ("Mon,1 January 2024 00.00.00 -0130", -90),
            ("01-Jan-2024 00:00 XYZ", 0),
        ],
    )
    def test_sloppy(self, value: str, zone: int) -> None:
        assert parse_date(value) == (1704067200 - zone * 60, zone)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "yesterday",
            "31 Feb 2024 00:00:00",
            "1 Foo 2024 00:00:00",
            "1 Jan 2024 25:00:00",
            "1 Jan 0000 00:00",
            "1 Jan",
        ],
    )
    def test_none(self, value: str) -> None:
        assert parse_date(value) is None

    @settings(max_examples=150, deadline=None)
    @given(
        st.binary(max_size=60)
        | st.from_regex(r"[a-zA-Z]{0,3},? \d{1,2} Jan \d{2,4} \d\d:\d\d:\d\d [+-]?\d{0,6}").map(str.encode)
    )
    def test_never_raises(self, value: bytes) -> None:
        found = parse_date(value)
        assert found is None or abs(found[1]) < 24 * 60


@pytest.mark.parametrize(
    ("value", "id_"),
    [
        ("<a@b>", "<a@b>"),
        (" x <a@b> <c@d>", "<a@b>"),
        ("<a\r\n @b>", "<a@b>"),
        ("a@b", "a@b"),
        (" ", None),
        ("<a", "<a"),
    ],
)
def test_message_id(value: str, id_: str | None) -> None:
    assert parse_message_id(value) == id_


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"A: b", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"x", b"\0"]), max_size=30
    ).map(b"".join)
)
def test_split_keeps_every_octet(header: bytes) -> None:
    joined = b"".join(raw for _, raw in split_fields(header))
    assert header.startswith(joined)
    assert header[len(joined) :].startswith((b"\r\n", b"\n")) or joined == header
