"""THREAD's algorithms (RFC 5256 section 3)."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.subjects import Subject
from mailstack.mail.threads import (
    Forest,
    Messages,
    message_ids,
    ordered_subject,
    references,
    refs,
    subject_of,
)
from mailstack.wire.imap.extension_responses import ThreadResponse


class Threaded(NamedTuple):
    """One message."""

    number: int
    sent: int
    subject: Subject
    id: str
    references: list[str]
    arrival: int


def columns(messages: list[Threaded]) -> Messages:
    return Messages(
        [each.number for each in messages],
        [each.sent for each in messages],
        [("r" if each.subject.reply else "-") + each.subject.base for each in messages],
        [each.id for each in messages],
        [each.references for each in messages],
        [each.arrival for each in messages],
    )


def text(forest: Forest) -> str:
    return ThreadResponse(forest).encode().decode()[len("* THREAD") :].strip()


def m(number: int, subject: str = "", id: str = "", refers: str = "", sent: int | None = None) -> Threaded:
    return Threaded(
        number,
        number if sent is None else sent,
        subject_of(subject),
        id or f"id{number}",
        refers.split(),
        number,
    )


class TestOrderedSubject:
    def test_flat_below_the_first(self) -> None:
        messages = [m(1, "a"), m(2, "b"), m(3, "Re: a"), m(4, "fwd: A"), m(5, "b", sent=0), m(6, "c")]
        assert text(ordered_subject(columns(messages))) == "(5 2)(1 (3)(4))(6)"

    def test_no_subject_is_one_subject(self) -> None:
        assert text(ordered_subject(columns([m(1), m(2, "Re:")]))) == "(1 2)"

    def test_nothing(self) -> None:
        assert text(ordered_subject(columns([]))) == ""


REFERENCES: list[tuple[list[Threaded], str]] = [
    ([], ""),
    ([m(1)], "(1)"),
    ([m(1), m(2, refers="id1"), m(3, refers="id1 id2")], "(1 2 3)"),
    ([m(1), m(2, refers="id1"), m(3, refers="id1")], "(1 (2)(3))"),
    # in any order of arrival, sorted by the sent date
    ([m(1, refers="id3", sent=30), m(2, refers="id3", sent=20), m(3, sent=10)], "(3 (2)(1))"),
    # a missing message: dropped above one, kept as a dummy above several
    ([m(1, refers="gone")], "(1)"),
    ([m(1, refers="gone"), m(2, refers="gone")], "((1)(2))"),
    ([m(1), m(2, refers="id1 gone"), m(3, refers="id1 gone")], "(1 (2)(3))"),
    ([m(1, refers="g1 g2 g3"), m(2, refers="g1")], "((1)(2))"),
    # loops
    ([m(1, refers="id1")], "(1)"),
    ([m(1, refers="id2"), m(2, refers="id1")], "(2 1)"),
    ([m(1, refers="id2 id3"), m(2, refers="id3 id1"), m(3, refers="id1 id2")], "(2 3 1)"),
    # the message's own references win over what others said of it
    ([m(1), m(2), m(3, refers="id1 id4"), m(4, refers="id2")], "(1)(2 4 3)"),
    # a Message-ID twice: the second one is of its own
    ([m(1, id="x"), m(2, id="x", refers=""), m(3, refers="x")], "(1 3)(2)"),
    # step 5: subjects
    ([m(1, "a"), m(2, "Re: a"), m(3, "Re: a")], "(1 (2)(3))"),
    ([m(1, "Re: a"), m(2, "a")], "(2 1)"),
    ([m(1, "a"), m(2, "a")], "((1)(2))"),
    ([m(1, "a"), m(2, "a"), m(3, "a")], "((1)(2)(3))"),
    ([m(1, "Re: a"), m(2, "Re: a")], "((1)(2))"),
    ([m(1, "Re: a"), m(2, "Re: a"), m(3, "a")], "(3 (1)(2))"),
    ([m(1, ""), m(2, "")], "(1)(2)"),
    ([m(1, "Re:"), m(2, "")], "(1)(2)"),
    ([m(1, "a", refers="g"), m(2, "b", refers="g"), m(3, "A")], "((1)(2)(3))"),
    ([m(1, "a", refers="g"), m(2, "b", refers="g"), m(3, "a", refers="h"), m(4, "b", refers="h")], "((1)(2)(3)(4))"),
    ([m(1, "a"), m(2, "b", refers="id1"), m(3, "Re: b")], "(1 2)(3)"),
]  # fmt: skip


class TestReferences:
    @pytest.mark.parametrize(("messages", "threads"), REFERENCES)
    def test_cases(self, messages: list[Threaded], threads: str) -> None:
        assert text(references(columns(messages))) == threads

    def test_by_references_alone_and_newest_last(self) -> None:
        messages = [m(1, "a"), m(2, "a"), m(3, "x", refers="id1")]
        assert text(refs(columns(messages))) == "(2)(1 3)"

    def test_many_references(self) -> None:
        names = " ".join(f"gone{number}" for number in range(5000))
        assert text(references(columns([m(1, refers=names), m(2, refers="gone0 gone4999")]))) == "((1)(2))"


@pytest.mark.parametrize("order", ["forth", "back", "any"])
def test_a_chain_of_fifty_thousand(order: str) -> None:
    chain = [m(number, "x", refers=f"id{number - 1}" if number > 1 else "") for number in range(1, 50_001)]
    if order != "forth":
        chain.reverse()
    if order == "any":
        random.Random(1).shuffle(chain)
    forest = references(columns(chain))
    assert len(forest.roots) == 1
    assert text(forest) == "(" + " ".join(str(number) for number in range(1, 50_001)) + ")"


def test_a_forest_made_to_be_dear_ends() -> None:
    chain = [m(number, refers=f"id{number - 1}" if number > 1 else "") for number in range(1, 10_001)]
    dear = [m(20_000 + 2 * number, refers="id10000") for number in range(5_000)]
    below = [m(20_001 + 2 * number, refers=f"id{20_000 + 2 * number}") for number in range(5_000)]
    forest = references(columns(below + chain + dear))
    assert sorted(numbers(forest)) == sorted(message.number for message in below + chain + dear)


def numbers(forest: Forest) -> list[int]:
    return [int(number) for number in re.findall("[0-9]+", text(forest))]


ids = st.sampled_from([f"id{number}" for number in range(1, 9)] + ["gone1", "gone2"])
hostile = st.lists(
    st.tuples(
        st.lists(ids, max_size=4),
        st.sampled_from(["", "a", "Re: a", "b", "[fwd: b]"]),
        st.integers(0, 3),
        ids,
    ),
    max_size=8,
).map(
    lambda rows: [
        Threaded(at, sent, subject_of(subject), id, names, at)
        for at, (names, subject, sent, id) in enumerate(rows, 1)
    ]
)


@settings(max_examples=300, deadline=None)
@given(hostile)
def test_every_message_is_there_once_whatever_they_refer_to(messages: list[Threaded]) -> None:
    for algorithm in (ordered_subject, references, refs):
        assert sorted(numbers(algorithm(columns(messages)))) == list(range(1, len(messages) + 1))


@settings(max_examples=100, deadline=None)
@given(hostile)
def test_the_answer_is_in_the_grammar(messages: list[Threaded]) -> None:
    threads = text(references(columns(messages)))
    previous = None
    while previous != threads:  # thread-list, from the innermost out (RFC 5256 section 5)
        previous = threads
        threads = re.sub(r"\((?:[0-9]+(?: [0-9]+)*(?: T{2,})?|T{2,})\)", "T", threads)
    assert re.fullmatch("T*", threads)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("<a@b> <c@d>", ["a@b", "c@d"]),
        ("", []),
        ("a@b", []),
        ("<a@b><c@d>\t(x) <e", ["a@b", "c@d"]),
        ("<a @ b>", ["a@b"]),
        ("<" * 9000, []),
    ],
)
def test_message_ids(value: str, found: list[str]) -> None:
    assert message_ids(value) == found
