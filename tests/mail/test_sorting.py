"""SORT's keys and order (RFC 5256 section 2.2, RFC 5957)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.sorting import RUN, Key, display_key, mailbox_key, sort, text_key
from mailstack.store.heading import heading_of

Values = dict[int, dict[str, int | str]]  # by number and criterion
MESSAGES: Values = {
    5: {"ARRIVAL": 10, "DATE": 20, "SIZE": 7, "SUBJECT": "B", "FROM": "BOB"},
    3: {"ARRIVAL": 20, "DATE": 20, "SIZE": 5, "SUBJECT": "A", "FROM": "ALICE"},
    2: {"ARRIVAL": 30, "DATE": 10, "SIZE": 5, "SUBJECT": "B", "FROM": "BOB"},
}


def in_order(messages: Values, criteria: list[tuple[str, bool]]) -> list[int]:
    def key(name: str) -> Key:
        return lambda number: messages[number][name]

    return sort(list(messages), [(key(name), reverse) for name, reverse in criteria])


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
        ([], [2, 3, 5]),
    ],
)
def test_order(criteria: list[tuple[str, bool]], order: list[int]) -> None:
    assert in_order(MESSAGES, criteria) == order


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("count", [RUN - 1, RUN, 3 * RUN + 1, 4 * RUN])
def test_more_than_is_sorted_at_once(count: int, reverse: bool) -> None:
    numbers = list(range(count))
    order = sort(numbers[::-1], [(lambda number: number * 7919 % 1000, reverse)])
    assert order == sorted(numbers, key=lambda number: number * 7919 % 1000, reverse=reverse)


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
        (b"=?utf-8?q?Re:_=C3=A9?=", "E\u0301"),
        (b"", ""),
        (b"[x] Hi\r\n there", "HI THERE"),
        (b"=?utf-8?q?a=FF?=", "\U0010ffffa\ufffd"),  # after all that can be read (RFC 5255 section 4.6)
    ],
)
def test_subjects(value: bytes, key: str) -> None:
    assert text_key(heading_of(b"Subject: " + value + b"\r\n").base[1:]) == key


messages = st.dictionaries(
    st.integers(1, 50),
    st.fixed_dictionaries(
        {"DATE": st.integers(0, 3), "SIZE": st.integers(0, 3), "SUBJECT": st.sampled_from("AB")}
    ),
    max_size=20,
)
criteria = st.lists(st.tuples(st.sampled_from(["DATE", "SIZE", "SUBJECT"]), st.booleans()), max_size=4)


@settings(max_examples=150, deadline=None)
@given(messages, criteria)
def test_every_pair_is_in_order(found: Values, by: list[tuple[str, bool]]) -> None:
    order = in_order(found, by)
    assert sorted(order) == sorted(found)
    for first, second in itertools.pairwise(order):
        for name, reverse in by:
            one, other = found[first][name], found[second][name]
            if one != other:
                assert (one > other) == reverse  # type: ignore[operator]
                break
        else:
            assert first < second
