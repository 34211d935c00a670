"""Base subjects (RFC 5256 section 2.1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.subjects import LONGEST, base_subject

CASES: list[tuple[str, str, bool]] = [
    ("", "", False),
    ("hello", "hello", False),
    ("Re: hello", "hello", True),
    ("re:hello", "hello", True),
    ("RE : hello", "hello", True),
    ("Re: Re: FWD: fw: hello", "hello", True),
    ("Re[2]: hello", "hello", True),
    ("Re [list] : hello", "hello", True),
    ("[list] hello", "hello", False),
    ("[list] Re: hello", "hello", True),
    ("[a] [b] Re: [c] hello", "hello", True),
    ("[only]", "[only]", False),
    ("[a] [only]", "[only]", False),
    ("Re: [only]", "[only]", True),
    ("hello (fwd)", "hello", True),
    ("hello (FWD) (fwd)  ", "hello", True),
    ("(fwd)", "", True),
    ("[Fwd: hello]", "hello", True),
    ("[fwd: [list] Re: hello (fwd)]", "hello", True),
    ("Re: [Fwd: [fwd: hello]]", "hello", True),
    ("[Fwd: hello", "[Fwd: hello", False),
    ("Re:", "", True),
    ("  spaces \t and\r\n folds  ", "spaces and folds", False),
    ("Reply", "Reply", False),
    ("Fw hello", "Fw hello", False),
    ("Regarding: x", "Regarding: x", False),
    ("[a[b]] x", "[a[b]] x", False),
    ("[] x", "x", False),
    ("AW: hello", "AW: hello", False),
    ("hello [x]", "hello [x]", False),
]


@pytest.mark.parametrize(("subject", "base", "reply"), CASES)
def test_cases(subject: str, base: str, reply: bool) -> None:
    assert base_subject(subject) == (base, reply)


words = st.lists(
    st.sampled_from(["Re: ", "re :", "fwd:", "[", "]", "[list]", "(fwd)", " ", "\t", "[fwd:", "hello", "x"])
)


@settings(max_examples=200, deadline=None)
@given(words.map("".join))
def test_the_base_of_a_reply_is_the_base(subject: str) -> None:
    base, _ = base_subject(subject)
    again, _ = base_subject("Re: " + subject)
    assert again == base or not base
    assert base == base.strip(" \t")


@pytest.mark.parametrize(
    "piece", ["[a]", "[a] ", "Re:", "(fwd)", "[fwd:", "[", "]", "Re[a]", "[a]re", " ", "[fwd: a]"]
)
def test_hostile_subjects_are_cheap(piece: str) -> None:
    base, _ = base_subject(piece * 100_000)
    assert len(base) <= LONGEST
