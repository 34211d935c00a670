"""i;unicode-casemap (RFC 5051)."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail import collation
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


_MIXED = st.text(st.sampled_from("aZ é\u0301Éßǆ日がﾊ\u0345ſ\ud800İẞﬁ"), max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.one_of(_MIXED, st.text(max_size=80)))
def test_each_character_by_itself(text: str) -> None:
    def mapped(character: str) -> str:
        title = character.title()
        return unicodedata.normalize("NFKD", title if len(title) == 1 else character)

    assert casemap(text) == "".join(map(mapped, text))


@settings(max_examples=100, deadline=None)
@given(_MIXED)
def test_long_text_is_mapped_in_pieces(text: str) -> None:
    """While one call of the interpreter's maps a text, no other thread runs: 10 MB took a second."""
    whole = casemap(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collation, "_PIECE", 3)
        assert casemap(text) == whole


def test_many_kinds_of_characters() -> None:
    every = "".join(map(chr, range(0x3FF))) * 2
    assert casemap(every) == "".join(map(casemap, every))


def test_order() -> None:
    assert sorted(["b", "Ä", "a", "C", "z"], key=casemap) == ["a", "Ä", "b", "C", "z"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_part_stays_a_part(left: str, right: str) -> None:
    assert casemap(left) in casemap(right + left)
