"""LIST patterns (RFC 3501 section 6.3.8)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.access.imap.patterns import Pattern

TABLE = [
    ("*", "INBOX", True),
    ("*", "a/b/c", True),
    ("%", "a", True),
    ("%", "a/b", False),
    ("%/%", "a/b", True),
    ("%/%", "a", False),
    ("a/%", "a/b", True),
    ("a/%", "a/b/c", False),
    ("a/*", "a/b/c", True),
    ("a/*", "a", False),
    ("a*", "a", True),
    ("a%b", "axyb", True),
    ("a%b", "ax/b", False),
    ("a*b*c", "aXbYc", True),
    ("a*b*c", "aXcYb", False),
    ("*%", "a/b", True),
    ("%*", "a/b", True),
    ("", "", True),
    ("", "a", False),
    ("a", "", False),
    ("inbox", "INBOX", True),
    ("in%", "INBOX", True),
    ("iNbOx/%", "INBOX/x", True),
    ("INBOX", "inboxes", False),
    ("inboxes", "INBOXES", False),
    ("i%", "important", True),
    ("i%", "Important", False),
    ("a.b", "axb", False),
    ("[a]", "a", False),
    ("Entw\u00fcrfe", "Entw\u00fcrfe", True),
    ("Entw%rfe", "Entw\u00fcrfe", True),
]


@pytest.mark.parametrize(("pattern", "name", "matches"), TABLE)
def test_table(pattern: str, name: str, matches: bool) -> None:
    assert Pattern(pattern).matches(name) is matches


def test_a_hostile_pattern_costs_no_more_than_the_name_is_long() -> None:
    """With backtracking this would not end."""
    assert not Pattern("*a" * 400 + "b").matches("a" * 1000)
    assert not Pattern("%*" * 400 + "b").matches("a" * 1000)


letters = st.text(alphabet="ab/%*", max_size=8)


@settings(max_examples=200, deadline=None)
@given(pattern=letters, name=st.text(alphabet="ab/", max_size=8))
def test_it_agrees_with_a_regular_expression(pattern: str, name: str) -> None:
    expression = re.escape(pattern).replace(r"\*", ".*").replace("%", "[^/]*")
    assert Pattern(pattern).matches(name) is (re.fullmatch(expression, name) is not None)
