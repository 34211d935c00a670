"""The measure of SEARCH FUZZY."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.collation import casemap
from mailstack.mail.likeness import MOST_TEXT, Needle


def score(needle: str, text: str) -> int:
    return Needle(needle).score(casemap(text))


@pytest.mark.parametrize(
    ("needle", "text"),
    [
        ("Helo", "say hello to them"),
        ("Helo", "help!"),
        ("Muller", "Frau Müller"),
        ("recieve", "did you receive it"),
        ("quarterly report", "report of the quarter"),
        ("привет мир", "приветы"),
    ],
)
def test_nearly(needle: str, text: str) -> None:
    assert 0 < score(needle, text) < 100
    assert Needle(needle).runs is None or any(run in casemap(text) for run in Needle(needle).runs or ())


@pytest.mark.parametrize(
    ("needle", "text"),
    [("Helo", "hi"), ("cat", "dog"), ("helo", "zzz"), ("ab", "ac"), ("!?", "what"), ("swim", ""), ("IMAP break", "POP3")],
)  # fmt: skip
def test_not_at_all(needle: str, text: str) -> None:
    assert score(needle, text) == 0


@pytest.mark.parametrize(
    ("needle", "text"), [("cat", "concatenate"), ("", "x"), ("?", "a?"), ("É", "é"), ("a b", "A B")]
)
def test_what_is_there_scores_full(needle: str, text: str) -> None:
    assert score(needle, text) == 100


def test_the_liker_the_higher() -> None:
    assert score("receive", "recieve") < score("receive mail", "recieve mail") < 100
    assert score("hello", "hallo") < score("hello", "helloo")


def test_words_beyond_the_bound_are_not_compared() -> None:
    assert score("helo", " " * MOST_TEXT + "help") == 0
    assert score("helo", "x" * 1_000_000) == 0


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30), st.text(max_size=60))
def test_a_match_holds_one_of_the_runs(needle: str, text: str) -> None:
    """So the index, which knows runs, leaves nothing out."""
    found = Needle(needle)
    value = found.score(casemap(text))
    assert 0 <= value <= 100
    if value and value < 100 and found.runs is not None:
        assert any(run in casemap(text) for run in found.runs)
    if value == 100 and found.runs:
        assert any(run in casemap(text) for run in found.runs)
