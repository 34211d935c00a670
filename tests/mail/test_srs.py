"""SRS: there and back, and nothing that is not ours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail import srs
from mailstack.mail.address import Address

SECRET = b"s" * 32
DAY = 20_000


def wrapped(text: str, domain: str = "fwd.test", secret: bytes = SECRET, day: int = DAY) -> Address:
    return srs.wrap(Address.parse(text), domain, secret, day)


class TestThereAndBack:
    def test_word_for_word(self) -> None:
        one = wrapped("alice@a.test")
        assert str(one) == "SRS0=g26bnt=ra=a.test=alice@fwd.test"
        assert str(srs.unwrap(one.local_part, SECRET, DAY)) == "alice@a.test"

    @pytest.mark.parametrize("text", ["a=b@a.test", "a+b-c=d@a.test", "SRS.x@a.test", "A.lice@a.test"])
    def test_odd_local_parts(self, text: str) -> None:
        assert str(srs.unwrap(wrapped(text).local_part, SECRET, DAY)) == text

    def test_the_second_forwarder_points_at_the_first(self) -> None:
        first = wrapped("alice@a.test")
        second = srs.wrap(first, "second.test", b"t" * 32, DAY)
        assert second.local_part.startswith("SRS1=")
        assert second.local_part.endswith(f"=fwd.test={first.local_part[4:]}")
        assert srs.unwrap(second.local_part, b"t" * 32, DAY) == first

    def test_the_third_points_at_the_first_too(self) -> None:
        first = wrapped("al@a.test")
        second = srs.wrap(first, "second.test", b"t" * 32, DAY)
        third = srs.wrap(second, "third.test", b"u" * 32, DAY)
        assert srs.unwrap(third.local_part, b"u" * 32, DAY) == first

    def test_some_mtas_change_the_case(self) -> None:
        found = srs.unwrap(wrapped("alice@a.test").local_part.upper(), SECRET, DAY)
        assert found.key == "alice@a.test"

    @given(st.from_regex(r"\A[a-z0-9=+_-]{1,20}\Z"), st.integers(0, 40_000))
    @settings(max_examples=100, deadline=None)
    def test_any(self, local: str, day: int) -> None:
        one = wrapped(f"{local}@a.test", day=day)
        assert str(srs.unwrap(one.local_part, SECRET, day + srs.DAYS)) in (
            f"{local}@a.test",
            f"SRS0{one.local_part.partition('a.test=')[2]}@a.test",
        )


class TestRefused:
    def refused(self, local: str, day: int = DAY) -> str:
        with pytest.raises(srs.BadReturnPath) as caught:
            srs.unwrap(local, SECRET, day)
        return str(caught.value)

    def test_too_long(self) -> None:
        with pytest.raises(srs.TooLong):
            wrapped("a" * 40 + "@a-long-domain.example.test")

    def test_what_srs_cannot_carry(self) -> None:
        with pytest.raises(srs.TooLong):
            wrapped('"a b"@a.test')

    def test_one_kind_is_not_the_other(self) -> None:
        first = wrapped("alice@a.test")
        self.refused(first.local_part.replace("SRS0", "SRS1"))
        second = wrapped(str(first), "second.test")
        self.refused(second.local_part.replace("SRS1", "SRS0"))

    def test_forged(self) -> None:
        forged = wrapped("alice@a.test", secret=b"x" * 32)
        assert self.refused(forged.local_part) == "not a return path of ours"
        other = wrapped("alice@a.test").local_part.replace("alice", "bob")
        assert self.refused(other) == "not a return path of ours"

    def test_expired(self) -> None:
        local = wrapped("alice@a.test").local_part
        assert self.refused(local, DAY + srs.DAYS + 1) == "return path has expired"
        assert self.refused(local, DAY - 1) == "return path has expired"

    @pytest.mark.parametrize("local", ["SRS0=", "SRS0==", "SRS1=a", "SRS0+a=b", "srs", "SRS2=a=b=c"])
    def test_nonsense(self, local: str) -> None:
        assert self.refused(local).startswith("not a return path")

    @given(st.text(max_size=40))
    @settings(max_examples=150, deadline=None)
    def test_garbage(self, text: str) -> None:
        self.refused("SRS0=" + text)
