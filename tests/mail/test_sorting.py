"""SORT's keys and order (RFC 5256 section 2.2, RFC 5957)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.sorting import Sortable, display_key, mailbox_key, sort, subject_key

MESSAGES = [
    Sortable(
        2,
        arrival=30,
        sent=10,
        size=5,
        subject="B",
        from_="BOB",
        to="X",
        cc="",
        display_from="BOB B",
        relevancy=9,
    ),
    Sortable(
        3,
        arrival=20,
        sent=20,
        size=5,
        subject="A",
        from_="ALICE",
        to="Y",
        cc="Q",
        display_from="ALICE",
        relevancy=50,
    ),
    Sortable(
        5,
        arrival=10,
        sent=20,
        size=7,
        subject="B",
        from_="BOB",
        to="X",
        cc="",
        display_from="AL",
        relevancy=9,
    ),
]


@pytest.mark.parametrize(
    ("criteria", "order"),
    [
        ([("ARRIVAL", False)], [5, 3, 2]),
        ([("ARRIVAL", True)], [2, 3, 5]),
        ([("DATE", False)], [2, 3, 5]),
        ([("DATE", True)], [3, 5, 2]),  # equal ones stay in the order of their numbers
        ([("SIZE", True)], [5, 2, 3]),
        ([("SUBJECT", False), ("DATE", True)], [3, 5, 2]),
        ([("FROM", True), ("ARRIVAL", False)], [5, 2, 3]),
        ([("CC", False)], [2, 5, 3]),
        ([("TO", True), ("SIZE", True)], [3, 5, 2]),
        ([("DISPLAYFROM", False)], [5, 3, 2]),
        ([("RELEVANCY", False)], [3, 2, 5]),
        ([("RELEVANCY", True)], [2, 5, 3]),
        ([], [2, 3, 5]),
    ],
)
def test_order(criteria: list[tuple[str, bool]], order: list[int]) -> None:
    assert sort(MESSAGES[::-1], criteria) == order


def test_an_unknown_criterion() -> None:
    with pytest.raises(KeyError):
        sort(MESSAGES, [("FOO", False)])


@pytest.mark.parametrize(
    ("value", "mailbox", "display"),
    [
        ("", "", ""),
        ("bob@b.test", "BOB", "BOB@B.TEST"),
        ("Bob Brown <bob@b.test>, x@y", "BOB", "BOB BROWN"),
        ("=?utf-8?q?J=C3=B6rg?= <j@b.test>", "J", "JO\u0308RG"),
        ("Friends: a@b.test, c@d.test;", "FRIENDS", "FRIENDS"),
        ("undisclosed-recipients:;", "UNDISCLOSED-RECIPIENTS", "UNDISCLOSED-RECIPIENTS"),
        ("bob", "BOB", "BOB"),
        ("<bob@b.test>", "BOB", "BOB@B.TEST"),
    ],
)
def test_addresses(value: str, mailbox: str, display: str) -> None:
    assert mailbox_key(value) == mailbox
    assert display_key(value) == display


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b" Re: hello", "HELLO"),
        ("=?utf-8?q?Re:_=C3=A9?=", "E\u0301"),
        (b"", ""),
        (b"[x] Hi\r\n there", "HI THERE"),
        ("=?utf-8?q?a=FF?=", "\U0010ffffa\ufffd"),  # after all that can be read (RFC 5255 section 4.6)
    ],
)
def test_subjects(value: bytes | str, key: str) -> None:
    assert subject_key(value) == key


messages = st.lists(
    st.builds(Sortable, st.integers(1, 50), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.sampled_from("AB")),
    unique_by=lambda message: message.number, max_size=20,
)  # fmt: skip
criteria = st.lists(
    st.tuples(st.sampled_from(["ARRIVAL", "DATE", "SIZE", "SUBJECT"]), st.booleans()), max_size=4
)
_FIELDS = {"ARRIVAL": 1, "DATE": 2, "SIZE": 3, "SUBJECT": 4}


@settings(max_examples=150, deadline=None)
@given(messages, criteria)
def test_every_pair_is_in_order(found: list[Sortable], by: list[tuple[str, bool]]) -> None:
    known = {message.number: message for message in found}
    order = [known[number] for number in sort(found, by)]
    assert len(order) == len(found)
    for first, second in itertools.pairwise(order):
        for name, reverse in by:
            one, other = first[_FIELDS[name]], second[_FIELDS[name]]
            if one != other:
                assert (one > other) == reverse  # type: ignore[operator]
                break
        else:
            assert first.number < second.number
