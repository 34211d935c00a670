"""Guessing of passwords: what closes, for whom, and for how long; what stays open."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from mailstack.net import guesses as module
from mailstack.net.guesses import DAY, Guesses
from mailstack.net.log import LogLines
from mailstack.net.peer import Peer
from mailstack.net.settings import AuthConfig
from mailstack.net.sign_in import Patience, Refusal, SignIn, Welcome, Why
from mailstack.work import Overloaded
from tests.sign_in.people import LOGIN, PASSWORD, USER, People, Tokens
from tests.wire.sasl.scram_client import ScramClient

HOME, OFFICE, STRANGER = "192.0.2.1", "198.51.100.7", "203.0.113.9"
ALICE = "alice@example.org"


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1_000_000)
    return clock


def counting(clock: Clock, **options: Any) -> Guesses:
    limits = {"guesses_per_address": 5, "guesses_per_network": 12, "guesses_per_account": 8}
    return Guesses(AuthConfig(**{**limits, **options}), clock)


def fail(guesses: Guesses, host: str, times: int, login: str = ALICE) -> list[str]:
    """What was closed by failures with another password each."""
    return [what for _ in range(times) for what, _ in guesses.failed(host, login)]


class TestAddress:
    def test_it_is_refused_for_a_while(self, clock: Clock) -> None:
        guesses = counting(clock)
        assert fail(guesses, STRANGER, 4) == []
        assert guesses.against(STRANGER, ALICE) is None
        assert guesses.failed(STRANGER, ALICE) == [("this address", 900.0)]
        assert guesses.against(STRANGER, "bob@example.org") == "too many failures of this address"
        assert guesses.against(HOME, ALICE) is None
        clock.advance(899)
        assert guesses.against(STRANGER, ALICE)
        clock.advance(1)
        assert guesses.against(STRANGER, ALICE) is None

    def test_each_time_twice_as_long_up_to_a_day(self, clock: Clock) -> None:
        guesses = counting(clock, guesses_per_network=0, guesses_per_account=0)
        seconds = []
        for _ in range(9):
            [(_, closed)] = [one for _ in range(5) for one in guesses.failed(STRANGER, ALICE)]
            seconds.append(closed)
            clock.advance(closed)
        assert seconds == [900 * 2**n for n in range(7)] + [DAY, DAY]
        clock.advance(2 * DAY)
        assert [one for _ in range(5) for one in guesses.failed(STRANGER, ALICE)] == [("this address", 900.0)]

    def test_what_fails_while_it_is_refused_makes_it_no_longer(self, clock: Clock) -> None:
        guesses = counting(clock, guesses_per_network=0, guesses_per_account=0)
        assert fail(guesses, STRANGER, 5) == ["this address"]
        assert fail(guesses, STRANGER, 20) == []  # they had begun before
        clock.advance(900)
        assert guesses.against(STRANGER, ALICE) is None

    def test_one_ipv6_customer_is_one(self, clock: Clock) -> None:
        guesses = counting(clock)
        for number in range(5):
            guesses.failed(f"2001:db8:0:1::{number:x}", f"user{number}@example.org")
        assert guesses.against("2001:db8:0:1::ffff", ALICE)
        assert guesses.against("2001:db8:0:2::1", ALICE) is None

    def test_failures_are_forgotten(self, clock: Clock) -> None:
        guesses = counting(clock, guesses_per_account=0, guesses_per_network=0)
        for _ in range(100):
            assert guesses.failed(STRANGER, ALICE) == []
            clock.advance(180)
        assert guesses.level(STRANGER) <= 1

    def test_the_same_password_again_is_no_guess(self, clock: Clock) -> None:
        guesses = counting(clock)
        for _ in range(100):
            assert guesses.failed(OFFICE, ALICE, "old") == []
        assert guesses.level(OFFICE) == 1
        for n in range(4):
            guesses.failed(OFFICE, ALICE, f"guess {n}")
        assert guesses.against(OFFICE, ALICE)

    def test_networks_that_are_not_counted(self, clock: Clock) -> None:
        webmail = (ipaddress.ip_network("198.51.100.0/24"),)
        guesses = counting(clock, unlimited_networks=webmail)
        for number in range(100):
            guesses.failed(OFFICE, f"user{number}@example.org")
        assert guesses.against(OFFICE, ALICE) is None
        assert fail(guesses, OFFICE, 8) == ["this account"]


class TestNetwork:
    def test_many_addresses_of_one(self, clock: Clock) -> None:
        guesses = counting(clock)
        closed = [one for n in range(12) for one in guesses.failed(f"203.0.113.{n}", f"u{n}@example.org")]
        assert closed == [("this network", 900.0)]
        assert guesses.against("203.0.113.200", ALICE) == "too many failures of this network"
        assert guesses.against("203.0.114.1", ALICE) is None


class TestAccount:
    def test_from_many_networks(self, clock: Clock) -> None:
        guesses = counting(clock)
        closed = [one for n in range(8) for one in guesses.failed(f"203.0.{n}.9", "Alice@EXAMPLE.org")]
        assert closed == [("this account", 900.0)]
        assert guesses.against(HOME, ALICE) == "too many failures of this account"
        assert guesses.against(HOME, "bob@example.org") is None

    def test_its_owner_keeps_the_way_that_is_known(self, clock: Clock) -> None:
        guesses = counting(clock)
        guesses.passed(HOME, ALICE)
        for n in range(50):
            guesses.failed(f"203.0.{n}.9", ALICE)
        assert guesses.against(OFFICE, ALICE)
        assert guesses.against(HOME, ALICE) is None
        assert guesses.against(HOME, "ALICE@example.org") is None

    def test_others_at_the_owners_address_do_not_close_it(self, clock: Clock) -> None:
        guesses = counting(clock)
        guesses.passed(OFFICE, ALICE)
        fail(guesses, OFFICE, 30, "bob@example.org")
        assert guesses.against(OFFICE, "bob@example.org")
        assert guesses.against(OFFICE, ALICE) is None

    def test_a_known_way_is_counted_too(self, clock: Clock) -> None:
        guesses = counting(clock)
        guesses.passed(HOME, ALICE)
        assert "this address at this account" in fail(guesses, HOME, 5)
        assert guesses.against(HOME, ALICE) == "too many failures of this address at this account"
        clock.advance(900)
        assert guesses.against(HOME, ALICE) is None

    def test_a_way_is_forgotten(self, clock: Clock) -> None:
        guesses = counting(clock)
        guesses.passed(HOME, ALICE)
        clock.advance(module.KNOWN_SECONDS)
        for n in range(8):
            guesses.failed(f"203.0.{n}.9", ALICE)
        assert guesses.against(HOME, ALICE)

    def test_whether_it_exists_makes_no_difference(self, clock: Clock) -> None:
        guesses = counting(clock)
        for login in ("nobody@example.org", "not an address", "x" * 2000, "\ud800"):
            assert fail(guesses, STRANGER if login == "\ud800" else f"10.{len(login)}.0.1", 4, login) == []


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COUNTED", 50)
    monkeypatch.setattr(module, "MOST_KNOWN", 50)
    guesses = counting(clock)
    for n in range(300):
        guesses.failed(f"10.{n % 250}.{n % 7}.1", f"user{n}@example.org", f"password {n}")
        guesses.passed(f"10.0.{n % 250}.1", f"user{n}@example.org")
    assert len(guesses._counts) <= 50
    assert len(guesses._known) <= 50


def test_none_are_limited_where_the_operator_says_so(clock: Clock) -> None:
    guesses = counting(clock, guesses_per_address=0, guesses_per_network=0, guesses_per_account=0)
    assert fail(guesses, STRANGER, 1000) == []
    assert guesses.against(STRANGER, ALICE) is None


class Doors:
    """Doors of one service, and the time."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        limits = {"guesses_per_address": 5, "guesses_per_account": 8}
        self.clock = clock
        self.people = People()
        config = AuthConfig(mechanisms=("SCRAM-SHA-1", "PLAIN", "OAUTHBEARER"), **{**limits, **options})
        self.service = SignIn(
            self.people, clock, config, provider=Tokens(), nonce=lambda: "nonce", hostname="mx.example.org"
        )
        self.waited = 0.0

    def door(self, host: str) -> Any:
        return self.service.door(Peer(host, 4000, 993, True), "imap", Patience(5, 2.0))

    def of(self, doing: Any) -> Any:
        found: list[Any] = []
        Deferred.fromCoroutine(doing).addBoth(found.append)
        self.waited = 0.0
        while not found:
            self.clock.advance(0.5)
            self.waited += 0.5
        return found[0]

    def plain(self, host: str, password: str, login: str = LOGIN) -> Any:
        return self.of(self.door(host).begin("PLAIN", f"\0{login}\0{password}".encode()))

    def scram(self, host: str, password: str) -> Any:
        door, client = self.door(host), ScramClient("SCRAM-SHA-1", LOGIN, password)
        first = self.of(door.begin("SCRAM-SHA-1", client.first()))
        if isinstance(first, Refusal):
            return first
        outcome = self.of(door.respond(client.final(first.data)))
        return outcome if isinstance(outcome, Refusal) else self.of(door.respond(b""))


class TestDoors:
    def test_a_new_connection_is_no_new_beginning(self, clock: Clock) -> None:
        doors = Doors(clock)
        waits = []
        for n in range(5):
            assert doors.plain(STRANGER, f"guess {n}") == Refusal(Why.WRONG)
            waits.append(doors.waited)
        assert waits[:4] == sorted(set(waits[:4]))
        assert doors.plain(STRANGER, PASSWORD) == Refusal(Why.TOO_MANY)
        assert doors.scram(STRANGER, PASSWORD) == Refusal(Why.TOO_MANY)
        bearer = b"n,,\1auth=Bearer good\1\1"
        assert doors.of(doors.door(STRANGER).begin("OAUTHBEARER", bearer)) == Refusal(Why.TOO_MANY)
        assert doors.of(doors.door(STRANGER).password(LOGIN, PASSWORD)) == Refusal(Why.TOO_MANY)
        assert doors.plain(HOME, PASSWORD) == Welcome(USER)
        clock.advance(900)
        assert doors.plain(STRANGER, PASSWORD) == Welcome(USER)

    def test_scram_and_tokens_are_counted(self, clock: Clock) -> None:
        doors = Doors(clock)
        for _ in range(3):
            assert doors.scram(STRANGER, "wrong") == Refusal(Why.WRONG)
        for _ in range(2):
            doors.of(doors.door(STRANGER).begin("OAUTHBEARER", b"n,,\1auth=Bearer bad\1\1"))
        assert doors.plain(STRANGER, PASSWORD) == Refusal(Why.TOO_MANY)

    def test_guesses_at_the_same_time_learn_nothing(self, clock: Clock) -> None:
        """A hundred that wait for their password to be checked, the right one last."""
        doors = Doors(clock)
        waiting: list[Deferred[None]] = []
        authenticate = doors.people.authenticate

        async def slow(login: str, password: str, peer: str = "") -> Any:
            waiting.append(Deferred())
            await waiting[-1]
            return await authenticate(login, password, peer)

        doors.people.authenticate = slow  # type: ignore[method-assign]
        outcomes: list[Any] = []
        for password in [*(f"guess {n}" for n in range(100)), PASSWORD]:
            said = f"\0{LOGIN}\0{password}".encode()
            begun = doors.door(STRANGER).begin("PLAIN", said)
            Deferred.fromCoroutine(begun).addCallback(outcomes.append)
        for one in waiting:
            one.callback(None)
        for _ in range(200):
            clock.advance(0.5)
        assert len(outcomes) == 101
        assert outcomes.count(Refusal(Why.WRONG)) == 5
        assert outcomes.count(Refusal(Why.TOO_MANY)) == 96

    def test_the_owner_is_not_locked_out(self, clock: Clock) -> None:
        doors = Doors(clock)
        assert doors.plain(HOME, PASSWORD, LOGIN) == Welcome(USER)
        address = str(USER.address)
        for n in range(40):
            doors.plain(f"203.0.{n}.9", f"guess {n}", address)
        assert doors.plain(OFFICE, PASSWORD, address) == Refusal(Why.TOO_MANY)
        doors.people.authenticate = lambda *_: found()  # type: ignore[method-assign, assignment]

        async def found() -> Any:
            return USER

        assert doors.plain(HOME, PASSWORD, address) == Welcome(USER)

    def test_what_cannot_be_checked_is_no_guess(self, clock: Clock) -> None:
        doors = Doors(clock)
        doors.people.error = Overloaded("full")
        for n in range(20):
            assert doors.plain(STRANGER, f"guess {n}") == Refusal(Why.UNAVAILABLE)
        doors.people.error = None
        assert doors.plain(STRANGER, PASSWORD) == Welcome(USER)


class TestLog:
    @pytest.fixture
    def lines(self) -> Iterator[list[str]]:
        lines: list[str] = []
        observer = LogLines(lines.append)
        globalLogPublisher.addObserver(observer)
        yield lines
        globalLogPublisher.removeObserver(observer)

    def test_what_a_program_that_bans_reads(self, clock: Clock, lines: list[str]) -> None:
        doors = Doors(clock)
        doors.people.refused = lambda *said: Refuses.refused(None, *said)  # type: ignore[method-assign, arg-type]
        for n in range(7):
            doors.plain(STRANGER, f"guess {n}", "x' peer=192.0.2.77\npeer=192.0.2.78")
        text = Path(__file__).parents[2].joinpath("deploy", "fail2ban", "filter.conf").read_text()
        pattern = re.search(r"^failregex = (.*)$", text, re.MULTILINE)
        assert pattern
        found = re.compile(pattern[1].replace("<ADDR>", r"(?P<ip>[0-9a-f.:]+)").replace("^", "^[^ ]+", 1))
        banned = [match["ip"] for line in lines if (match := found.search(line.rstrip("\n")))]
        assert banned == [STRANGER] * 6  # five wrong ones, one line about those after them
        [closed] = [line for line in lines if "refused for 900 s" in line]
        assert "this address" in closed
        assert " warn " in closed


class Refuses:
    """The directory's own line."""

    from mailstack.directory.directory import Directory

    refused = Directory.refused
