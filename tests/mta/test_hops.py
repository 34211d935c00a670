"""What is remembered of next hops."""

from __future__ import annotations

from random import Random

from mailstack.mail.reply import Reply
from mailstack.mta import hops as module
from mailstack.mta.hops import Hops
from mailstack.mta.result import Result, not_tried

DEAD = Result(Reply(451, "4.4.1", "cannot connect"), "mx.b.test[192.0.2.1]:25")


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(first: int = 2, most: int = 8) -> tuple[Hops, Time]:
    time = Time()
    return Hops(time, Random(1), first, most, 60.0), time


def test_the_window_rises_while_it_works_and_is_halved_when_it_fails() -> None:
    hops, _ = make()
    assert hops.window("b.test") == 2
    for _ in range(100):
        hops.went_well("b.test")
    assert hops.window("b.test") == 8
    assert not hops.went_wrong("b.test", DEAD)
    assert hops.window("b.test") == 4
    assert hops.down("b.test") is None


def test_a_windowful_that_went_well_makes_it_one_wider() -> None:
    hops, _ = make()
    for _ in range(3):
        hops.went_well("b.test")
    assert hops.window("b.test") == 3


def test_one_that_never_worked_is_down_at_once() -> None:
    hops, time = make()
    assert hops.went_wrong("b.test", DEAD)
    assert hops.down("b.test") == DEAD
    assert 1050 < hops.until("b.test") < 1070
    assert str(not_tried(DEAD)) == (
        "mx.b.test[192.0.2.1]:25: 451 4.4.1 Not tried now; the last failure: cannot connect"
    )
    time.now = 1070.0
    assert hops.down("b.test") is None
    assert hops.window("b.test") == 1


def test_one_that_worked_must_fail_three_times() -> None:
    hops, _ = make()
    hops.went_well("b.test")
    assert [hops.went_wrong("b.test", DEAD) for _ in range(3)] == [False, False, True]


def test_a_success_between_counts_anew() -> None:
    hops, _ = make()
    hops.went_well("b.test")
    hops.went_wrong("b.test", DEAD)
    hops.went_wrong("b.test", DEAD)
    hops.went_well("b.test")
    assert not hops.went_wrong("b.test", DEAD)


def test_the_pause_doubles_up_to_an_hour() -> None:
    hops, time = make()
    pauses = []
    for _ in range(10):
        assert hops.went_wrong("b.test", DEAD)
        pauses.append(hops.until("b.test") - time.now)
        time.now += 4000
    assert pauses[0] < 66
    assert 108 <= pauses[1] <= 132
    assert 3240 <= pauses[9] <= 3960


def test_those_under_way_when_it_went_down_do_not_count() -> None:
    hops, _ = make()
    hops.went_wrong("b.test", DEAD)
    until = hops.until("b.test")
    assert not hops.went_wrong("b.test", DEAD)
    assert hops.until("b.test") == until


def test_the_operator_may_have_it_tried_now() -> None:
    hops, _ = make()
    hops.went_wrong("b.test", DEAD)
    hops.forgive("b.test")
    hops.forgive("unknown.test")
    assert hops.down("b.test") is None


def test_the_memory_is_bounded() -> None:
    hops, _ = make()
    for number in range(module.MOST_HOPS + 10):
        hops.went_well(f"d{number}.test")
    assert len(hops._hops) == module.MOST_HOPS
