"""The directory as the rest of the stack asks it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from mailstack.db import Database
from mailstack.directory.directory import Directory, NotLocal, User
from mailstack.directory.passwords import Passwords
from mailstack.directory.settings import DirectoryConfig
from mailstack.directory.tables import users
from mailstack.directory.verbs import (
    add_alias,
    add_domain,
    add_user,
    remove_alias,
    set_enabled,
    set_password,
)
from mailstack.mail.address import Address
from mailstack.work import Overloaded
from tests.directory.inline import InlineWork, now

CONFIG = DirectoryConfig(argon2_memory_kib=8, argon2_time_cost=1, waiting_logins=2)
PASSWORDS = Passwords(CONFIG)
WEAK = Passwords(DirectoryConfig(argon2_memory_kib=16, argon2_time_cost=1))
ALICE = Address.parse("alice@example.org")


class World:
    """A directory with alice (password "wonderland") and bob, its work and its clock."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.work = InlineWork(database)
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.directory = Directory(self.work, CONFIG, self.clock)  # type: ignore[arg-type]
        database.write(add_domain, "example.org")
        database.write(add_user, "alice@example.org", PASSWORDS.hash("wonderland"), 1000, 10)
        database.write(add_user, "bob@example.org", PASSWORDS.hash("builder"))
        self.log: list[str] = []

    def login(self, login: str, password: str) -> User | None:
        return now(self.directory.authenticate(login, password, "192.0.2.1"))

    def start(self, login: str, password: str) -> tuple[Deferred[Any], list[Any]]:
        found: list[Any] = []
        started = Deferred.fromCoroutine(self.directory.authenticate(login, password))
        started.addBoth(found.append)
        return started, found

    def row(self, address: str) -> Any:
        return self.database.read(
            lambda db: db.execute(select(users).where(users.c.address == address)).one()
        )


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
def refusals(world: World) -> Any:
    seen: list[dict[str, Any]] = []

    def observe(event: Any) -> None:
        if event.get("log_namespace", "").startswith("mailstack.directory"):
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    yield seen
    globalLogPublisher.removeObserver(observe)


class TestLogin:
    def test_the_right_password(self, world: World) -> None:
        assert world.login("alice@example.org", "wonderland") == User(1, ALICE, 1000, 10)

    @pytest.mark.parametrize("login", ["ALICE@Example.ORG", '"alice"@example.org'])
    def test_the_login_spelled_otherwise(self, world: World, login: str) -> None:
        assert world.login(login, "wonderland") is not None

    @pytest.mark.parametrize(
        ("login", "password"),
        [
            ("alice@example.org", "Wonderland"),
            ("alice@example.org", "wonderland "),
            ("alice@example.org", "builder"),
            ("alice+x@example.org", "wonderland"),
            ("nobody@example.org", "wonderland"),
            ("alice@example.com", "wonderland"),
            ("alice", "wonderland"),
            ("", "wonderland"),
            ("@", "wonderland"),
            ("a" * 100_000, "wonderland"),
            ("\0\r\n\ud800@x", "wonderland"),
            ("\ud800@example.org", "wonderland"),
            ("alice@example.org\0", "wonderland"),
        ],
    )
    def test_anything_else_is_refused_at_the_price_of_one_hash(
        self, world: World, login: str, password: str
    ) -> None:
        assert world.login(login, password) is None
        assert len(world.work.hashes) == 1
        assert world.work.reads == 1

    @pytest.mark.parametrize("password", ["", "x" * 1025, "a\0b", "\ud800"])
    def test_what_cannot_be_a_password_is_refused_alike_for_everybody(
        self, world: World, password: str
    ) -> None:
        assert world.login("alice@example.org", password) is None
        assert world.login("nobody@example.org", password) is None
        assert world.work.hashes == []
        assert world.work.reads == 0

    def test_a_disabled_user_is_refused_as_an_unknown_one(self, world: World) -> None:
        assert world.login("alice@example.org", "wonderland") is not None
        world.database.write(set_enabled, "alice@example.org", False)
        assert world.login("alice@example.org", "wonderland") is None
        assert world.login("nobody@example.org", "wonderland") is None
        disabled, unknown = world.work.hashes[-2:]
        assert disabled == unknown

    def test_each_refusal_is_logged_with_reason_login_and_peer(
        self, world: World, refusals: list[Any]
    ) -> None:
        world.database.write(set_enabled, "bob@example.org", False)
        world.login("nobody@example.org", "wonderland")
        world.login("alice@example.org", "wrong")
        world.login("bob@example.org", "builder")
        world.login("x\n" * 5000, "secret")
        assert [event["reason"] for event in refusals] == [
            "unknown user",
            "wrong password",
            "disabled",
            "unknown user",
        ]
        assert all(event["peer"] == "192.0.2.1" for event in refusals)
        lines = [event["log_format"].format(**event) for event in refusals]
        assert lines[1] == "login refused: wrong password; login='alice@example.org' peer=192.0.2.1"
        assert all(len(line) < 400 and "\n" not in line for line in lines)
        assert not any("secret" in str(event) for event in refusals)


class TestSuccessCache:
    def test_the_same_login_again_costs_no_hash(self, world: World) -> None:
        for _ in range(3):
            assert world.login("alice@example.org", "wonderland") is not None
        assert len(world.work.hashes) == 1
        assert world.work.reads == 4  # the stored hash each time; which keys there are, at the proof

    def test_it_ends(self, world: World) -> None:
        world.login("alice@example.org", "wonderland")
        world.clock.advance(301)
        world.login("alice@example.org", "wonderland")
        assert len(world.work.hashes) == 2

    def test_failures_are_not_remembered(self, world: World) -> None:
        world.login("alice@example.org", "wrong")
        world.login("alice@example.org", "wrong")
        assert len(world.work.hashes) == 2

    def test_a_new_password_counts_at_once(self, world: World) -> None:
        world.login("alice@example.org", "wonderland")
        world.database.write(set_password, "alice@example.org", PASSWORDS.hash("looking-glass"))
        assert world.login("alice@example.org", "wonderland") is None
        assert world.login("alice@example.org", "looking-glass") is not None

    def test_one_users_proof_is_nobody_elses(self, world: World) -> None:
        stored = world.row("alice@example.org").password_hash
        world.database.write(set_password, "bob@example.org", stored)
        world.login("alice@example.org", "wonderland")
        world.login("bob@example.org", "wonderland")
        assert len(world.work.hashes) == 2


class TestConcurrency:
    def test_identical_logins_share_one_hash(self, world: World) -> None:
        world.work.hold = True
        logins = [world.start("alice@example.org", "wonderland") for _ in range(5)]
        assert [found for _, found in logins] == [[]] * 5
        world.work.go()
        assert [found[0].address for _, found in logins] == [ALICE] * 5
        assert len(world.work.hashes) == 1

    def test_one_who_leaves_takes_nobody_along(self, world: World) -> None:
        world.work.hold = True
        logins = [world.start("alice@example.org", "wonderland") for _ in range(3)]
        logins[0][0].cancel()
        logins[1][0].cancel()
        world.work.go()
        assert logins[2][1][0].address == ALICE

    def test_an_error_reaches_everybody_and_is_forgotten(self, world: World) -> None:
        world.work.hold = True
        logins = [world.start("alice@example.org", "wonderland") for _ in range(2)]
        world.work.go(RuntimeError("broken"))
        assert [found[0].type for _, found in logins] == [RuntimeError, RuntimeError]
        world.work.hold = False
        assert world.login("alice@example.org", "wonderland") is not None

    def test_too_many_at_once_are_told_to_come_again(self, world: World) -> None:
        world.work.hold = True
        waiting = [world.start("alice@example.org", password) for password in ("one", "two")]
        with pytest.raises(Overloaded):
            world.login("alice@example.org", "three")
        world.work.go()
        assert [found for _, found in waiting] == [[None], [None]]
        world.work.hold = False
        assert world.login("alice@example.org", "wonderland") is not None


class TestNoting:
    def test_the_last_login_is_written_once_an_hour(self, world: World) -> None:
        world.login("alice@example.org", "wonderland")
        world.login("alice@example.org", "wonderland")
        assert world.row("alice@example.org").last_login == 1_000_000
        assert world.work.writes == 1
        world.clock.advance(3600)
        world.login("alice@example.org", "wonderland")
        assert world.row("alice@example.org").last_login == 1_003_600
        assert world.row("bob@example.org").last_login is None

    def test_a_weaker_hash_is_replaced_and_the_next_login_needs_no_hash(self, world: World) -> None:
        world.database.write(set_password, "alice@example.org", WEAK.hash("wonderland"))
        assert world.login("alice@example.org", "wonderland") is not None
        assert world.row("alice@example.org").password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")
        assert world.login("alice@example.org", "wonderland") is not None
        assert len(world.work.hashes) == 1

    def test_a_weaker_hash_is_replaced_whenever_the_last_login_was(self, world: World) -> None:
        assert world.login("alice@example.org", "wonderland") is not None
        world.database.write(set_password, "alice@example.org", WEAK.hash("wonderland"))
        assert world.login("alice@example.org", "wonderland") is not None
        assert world.row("alice@example.org").password_hash.startswith("$argon2id$v=19$m=8,t=1,p=1$")

    def test_a_password_changed_meanwhile_is_not_overwritten(self, world: World) -> None:
        world.database.write(set_password, "alice@example.org", WEAK.hash("wonderland"))
        world.work.hold = True
        _, found = world.start("alice@example.org", "wonderland")
        world.database.write(set_password, "alice@example.org", "changed")
        world.work.go()
        assert found[0].address == ALICE
        assert world.row("alice@example.org").password_hash == "changed"

    def test_a_database_that_cannot_write_does_not_refuse_the_login(
        self, world: World, refusals: list[Any]
    ) -> None:
        async def locked(*_args: Any) -> None:
            raise OSError("database is locked")

        world.work.transaction = locked  # type: ignore[assignment, method-assign]
        assert world.login("alice@example.org", "wonderland") is not None
        assert ["not noted" in event["log_format"] for event in refusals] == [True]


class TestLookups:
    def test_is_local(self, world: World) -> None:
        for domain, answer in [
            ("example.org", True),
            ("EXAMPLE.org", True),
            ("example.com", False),
            ("[127.0.0.1]", False),
            ("", False),
            ("x" * 10_000, False),
            ("\u00fc" * 200, False),
        ]:
            assert now(world.directory.is_local(domain)) is answer, domain

    def test_what_was_found_is_remembered_for_two_seconds(self, world: World) -> None:
        for _ in range(3):
            now(world.directory.resolve(ALICE))
            now(world.directory.is_local("example.org"))
        assert world.work.reads == 2
        world.clock.advance(2.1)
        now(world.directory.resolve(ALICE))
        assert world.work.reads == 3

    def test_what_was_not_found_is_not_remembered(self, world: World) -> None:
        carol = Address.parse("carol@example.org")
        assert now(world.directory.resolve(carol)) is None
        world.database.write(add_user, "carol@example.org", "x")
        assert now(world.directory.resolve(carol)) is not None

    def test_that_a_domain_is_elsewhere_is_remembered_for_two_seconds(self, world: World) -> None:
        for _ in range(3):
            assert not now(world.directory.is_local("new.example"))
        assert world.work.reads == 1
        world.database.write(add_domain, "new.example")
        world.clock.advance(2.1)
        assert now(world.directory.is_local("new.example"))

    def test_details_of_another_case_are_not_mixed_up(self, world: World) -> None:
        details = []
        for text in ("alice+One@example.org", "alice+one@example.org"):
            found = now(world.directory.resolve(Address.parse(text)))
            assert found is not None
            details.append(found.locals[0].detail)
        assert details == ["One", "one"]

    def test_an_endless_alias_stands_for_nobody_and_is_logged(
        self, world: World, refusals: list[Any]
    ) -> None:
        for number in range(12):
            world.database.write(add_alias, f"a{number}@example.org", [f"a{number + 1}@example.org"])
        assert now(world.directory.resolve(Address.parse("a0@example.org"))) is None
        assert [event["address"] for event in refusals] == ["a0@example.org"]

    def test_not_local(self, world: World) -> None:
        with pytest.raises(NotLocal):
            now(world.directory.resolve(Address.parse("alice@example.net")))

    def test_user(self, world: World) -> None:
        found = now(world.directory.user(Address.parse("Alice@EXAMPLE.org")))
        assert found == User(1, ALICE, 1000, 10)
        assert now(world.directory.user(Address.parse("alice+x@example.org"))) is None

    def test_answers_are_bounded(self, world: World) -> None:
        for number in range(9000):
            world.directory._domains.put(f"d{number}", True)
        assert len(world.directory._domains) == 8192
        assert world.directory._domains.get("d0") is None
        assert world.directory._domains.get("d8999") is True


class TestMaySendAs:
    def test_whose_name_one_may_use(self, world: World) -> None:
        world.database.write(add_alias, "info@example.org", ["alice@example.org", "far@example.net"])
        world.database.write(add_alias, "sales@example.org", ["info@example.org"])
        alice = world.login("alice@example.org", "wonderland")
        bob = world.login("bob@example.org", "builder")
        assert alice is not None
        assert bob is not None
        for text, hers, his in [
            ("alice@example.org", True, False),
            ("ALICE@example.org", True, False),
            ("alice+tag@example.org", True, False),
            ("info@example.org", True, False),
            ("info+x@example.org", True, False),
            ("sales@example.org", True, False),
            ("bob@example.org", False, True),
            ("far@example.net", False, False),
            ("nobody@example.org", False, False),
            ("alice@example.com", False, False),
        ]:
            address = Address.parse(text)
            assert now(world.directory.may_send_as(alice, address)) is hers, text
            assert now(world.directory.may_send_as(bob, address)) is his, text

    def test_an_alias_taken_away_counts_soon(self, world: World) -> None:
        world.database.write(add_alias, "info@example.org", ["bob@example.org"])
        bob = world.login("bob@example.org", "builder")
        assert bob is not None
        info = Address.parse("info@example.org")
        assert now(world.directory.may_send_as(bob, info))
        world.database.write(remove_alias, "info@example.org")
        world.clock.advance(2.1)
        assert not now(world.directory.may_send_as(bob, info))
