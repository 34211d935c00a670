"""Headings: what is kept of a header section for orders, threads and searches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.access.imap.keys import _contains
from mailstack.mail.collation import casemap
from mailstack.store.facts import compute_facts
from mailstack.store.heading import DIGEST, MOST_REFERENCES, MOST_TEXT, Heading, digest, heading_of

NO_ID = bytes(DIGEST)


@pytest.mark.parametrize(
    ("fields", "heading"),
    [
        (b"", Heading(None, "-", NO_ID, "")),
        (
            b"Date: Thu, 1 Jan 1970 00:00:09 +0000\r\nSubject: Re: [x] Hi\r\n",
            Heading(9, "rHI", NO_ID, " RE: [X] HI"),
        ),
        (b"date: never\r\nDate: Thu, 1 Jan 1970 00:00:09 +0000\r\n", Heading(None, "-", NO_ID, "")),
        (
            b"Message-ID: <a@b> <c>\r\nIn-Reply-To: <d> <e>\r\n",
            Heading(None, "-", digest("a@b") + digest("d"), ""),
        ),
        (b"References: <d>\r\n <e>\r\nIn-Reply-To: <f>\r\n",
         Heading(None, "-", NO_ID + digest("d") + digest("e"), "")),
        (b"To: a,\r\n b\r\nCC: =?utf-8?q?x=C3=A4?=\r\nX: y\r\n", None),
        (b"Subject: =?utf-8?q?a=FF?=\r\n", None),
    ],
)  # fmt: skip
def test_of_fields(fields: bytes, heading: Heading | None) -> None:
    found = heading_of(fields)
    if heading is not None:
        assert found == heading
        assert found.kept() == found
    elif b"To" in fields:
        assert found.text is not None
        assert set(found.text.split("\n")) == {" A, B", " XA\u0308", " =?UTF-8?Q?X=C3=A4?="}
    else:
        assert found.base == "-a\ufffd"  # compared by octets, as RFC 5255 section 4.6 has it


def test_what_is_too_long_is_not_kept() -> None:
    names = b" ".join(b"<%d>" % number for number in range(MOST_REFERENCES))
    assert heading_of(b"References: " + names + b"\r\n").kept().refs
    assert heading_of(b"References: <x> " + names + b"\r\n").kept() == Heading(text="")
    assert heading_of(b"Subject: " + b"x" * MOST_TEXT + b"\r\n").kept().text is None
    assert heading_of(b"Subject: " + b"x" * 2 * MOST_TEXT + b"\r\n").kept() == Heading()
    assert heading_of(b"Subject: a\0b\r\n").kept() == Heading()  # PostgreSQL has no NUL


def test_it_comes_with_the_facts() -> None:
    facts = compute_facts(b"Subject: Hi\r\nMessage-ID: <a>\r\n\r\nx")
    assert (facts.sent, facts.base, facts.refs, facts.heading) == (None, "-HI", digest("a"), " HI")
    assert compute_facts(b"Subject: " + b"x" * 9000 + b"\r\n\r\n").refs == b""  # there are no fields


values = st.lists(
    st.sampled_from(
        [
            b"a",
            b"B",
            b" ",
            b"\r\n ",
            b"=?utf-8?q?",
            b"=C3=A4",
            b"?=",
            b"\xc3\xa4",
            b"\xff",
            b"\xdf",
            b"=?x?b?",
        ]
    ),
    max_size=8,
).map(b"".join)
needles = st.text(st.sampled_from("abä ßÿ=?q"), max_size=3).map(casemap)


@settings(max_examples=400, deadline=None)
@given(values, values, needles)
def test_no_search_misses_a_message(first: bytes, second: bytes, needle: str) -> None:
    text = heading_of(b"Subject:" + first + b"\r\nFrom:" + second + b"\r\n").text
    plain = needle.encode() if needle.isascii() else None
    for value in (first, second):
        if _contains(value + b"\r\n", needle, plain):
            assert text is not None
            assert needle in text
