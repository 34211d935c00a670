"""i;unicode-casemap (RFC 5051)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.collation import casemap


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hello", "HeLLo"),
        ("é", "É"),
        ("é", "E\u0301"),
        ("ångström", "Å" + "NGSTRO\u0308M"),
        ("ﾊ", "ハ"),
        ("ǆ", "ǅ"),
        ("Ωμέγα", "ωΜΈΓΑ"),
    ],
)
def test_equal(one: str, other: str) -> None:
    assert casemap(one) == casemap(other)


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("ß", "ss"), ("e", "é"), ("", " "), ("\ud800", "x")])
def test_different(one: str, other: str) -> None:
    assert casemap(one) != casemap(other)


def test_order() -> None:
    assert sorted(["b", "Ä", "a", "C", "z"], key=casemap) == ["a", "Ä", "b", "C", "z"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_part_stays_a_part(left: str, right: str) -> None:
    assert casemap(left) in casemap(right + left)
