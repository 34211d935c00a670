"""Keys of SCRAM and CRAM-MD5: made when the password is at hand, and what is shown of who has none."""

from __future__ import annotations

import pytest

from mailstack.db import Database
from mailstack.directory import lookups
from mailstack.directory.directory import Directory
from mailstack.directory.keys import Keeping
from mailstack.directory.verbs import (
    add_user,
    get_user,
    mechanisms_of_users,
    remove_user,
    set_enabled,
    set_password,
)
from mailstack.wire.sasl import KEYED, cram_md5, scram
from tests.directory.inline import now
from tests.directory.test_directory import CONFIG, PASSWORDS, World

ALL = Keeping(KEYED, 4096)
SCRAM_ONLY = Keeping(scram.NAMES, 4096)
ALICE, BOB, NOBODY = "alice@example.org", "bob@example.org", "nobody@example.org"


class Place(World):
    """As everywhere, and keys are kept: alice has hers, bob came with a foreign hash."""

    def __init__(self, database: Database, keeping: Keeping = ALL) -> None:
        super().__init__(database)
        self.directory = self.opened(keeping)
        database.write(set_password, ALICE, PASSWORDS.hash("wonderland"), ALL.make("wonderland"))

    def opened(self, keeping: Keeping) -> Directory:
        return Directory(self.work, CONFIG, self.clock, keeping)  # type: ignore[arg-type]

    def kinds(self, address: str) -> frozenset[tuple[str, int]]:
        return self.database.read(lookups.kinds_of_keys, self.row(address).id)


@pytest.fixture
def place(database: Database) -> Place:
    return Place(database)


class TestKept:
    @pytest.mark.parametrize("mechanism", KEYED)
    def test_they_are_of_the_password(self, place: Place, mechanism: str) -> None:
        claim = now(place.directory.claim("ALICE@Example.ORG", mechanism))
        assert claim.user is not None
        assert claim.obstacle == ""
        keys = claim.keys
        if mechanism == cram_md5.NAME:
            assert keys == cram_md5.derive("wonderland")
        else:
            assert keys == scram.derive(mechanism, "wonderland", keys.salt, 4096)
            assert len(keys.salt) == 16

    def test_every_salt_is_another(self) -> None:
        made = [one.keys.salt for one in (*SCRAM_ONLY.make("x"), *SCRAM_ONLY.make("x"))]
        assert len(set(made)) == 4

    def test_a_login_with_the_password_makes_them(self, place: Place) -> None:
        assert place.kinds(BOB) == frozenset()
        assert place.login(BOB, "wrong") is None
        assert place.kinds(BOB) == frozenset()
        assert place.login(BOB, "builder") is not None
        assert place.kinds(BOB) == ALL.kinds
        keys = now(place.directory.claim(BOB, "SCRAM-SHA-256")).keys
        assert keys == scram.derive("SCRAM-SHA-256", "builder", keys.salt, 4096)

    def test_a_new_hash_at_that_login_does_not_keep_them_out(self, place: Place) -> None:
        from tests.directory.test_directory import WEAK

        place.database.write(set_password, BOB, WEAK.hash("builder"))
        assert place.login(BOB, "builder") is not None
        assert place.row(BOB).password_hash.startswith("$argon2id$v=19$m=8,")
        assert place.kinds(BOB) == ALL.kinds

    def test_those_that_are_right_stay(self, place: Place) -> None:
        before = now(place.directory.claim(ALICE, "SCRAM-SHA-256")).keys
        assert place.login(ALICE, "wonderland") is not None
        assert now(place.directory.claim(ALICE, "SCRAM-SHA-256")).keys == before

    @pytest.mark.parametrize("keeping", [SCRAM_ONLY, Keeping(KEYED, 5000), Keeping()])
    def test_other_settings_make_them_anew(self, place: Place, keeping: Keeping) -> None:
        place.directory = place.opened(keeping)
        assert place.login(ALICE, "wonderland") is not None
        assert place.kinds(ALICE) == keeping.kinds

    def test_a_new_password_ends_the_old_ones(self, place: Place) -> None:
        place.database.write(set_password, ALICE, PASSWORDS.hash("looking-glass"))
        assert place.kinds(ALICE) == frozenset()
        assert now(place.directory.claim(ALICE, "SCRAM-SHA-256")).obstacle != ""

    def test_a_password_changed_meanwhile_is_not_undone(self, place: Place) -> None:
        row = place.row(ALICE)
        place.database.write(set_password, ALICE, PASSWORDS.hash("looking-glass"))
        place.database.write(lookups.complete_keys, row.id, [row.password_hash], ALL.make("wonderland"))
        assert place.kinds(ALICE) == frozenset()

    def test_they_go_with_their_user(self, place: Place) -> None:
        place.database.write(remove_user, ALICE)
        assert place.database.read(mechanisms_of_users) == {}

    def test_who_has_which(self, place: Place) -> None:
        place.database.write(add_user, "carol@example.org", "x", None, None, SCRAM_ONLY.make("x"))
        alice, carol = (place.database.read(get_user, name).id for name in (ALICE, "carol@example.org"))
        assert place.database.read(mechanisms_of_users) == {
            alice: ("CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"),
            carol: ("SCRAM-SHA-1", "SCRAM-SHA-256"),
        }


class TestPretended:
    @pytest.mark.parametrize("mechanism", KEYED)
    def test_they_look_like_real_ones(self, place: Place, mechanism: str) -> None:
        real = now(place.directory.claim(ALICE, mechanism)).keys
        for login in (NOBODY, BOB, "nonsense", "", "\ud800@x", "x" * 1000):
            claim = now(place.directory.claim(login, mechanism))
            assert claim.obstacle
            keys = claim.keys
            assert keys.iterations == real.iterations
            assert [len(one) for one in (keys.salt, keys.stored_key, keys.server_key)] == [
                len(one) for one in (real.salt, real.stored_key, real.server_key)
            ]
            assert keys == now(place.directory.claim(login, mechanism)).keys
            assert keys == now(place.opened(ALL).claim(login, mechanism)).keys  # in another process

    def test_they_differ_by_name_and_mechanism(self, place: Place) -> None:
        salts = {
            now(place.directory.claim(login, mechanism)).keys.salt
            for login in (NOBODY, "somebody@example.org", "x")
            for mechanism in scram.NAMES
        }
        assert len(salts) == 6

    def test_the_same_name_in_another_spelling(self, place: Place) -> None:
        one, other = (now(place.directory.claim(n, "SCRAM-SHA-1")).keys for n in (NOBODY, NOBODY.upper()))
        assert one == other

    def test_they_cost_the_same(self, place: Place) -> None:
        now(place.directory.claim(ALICE, "SCRAM-SHA-1"))
        for login in (ALICE, BOB, NOBODY):
            before = (place.work.reads, place.work.writes, len(place.work.hashes))
            now(place.directory.claim(login, "SCRAM-SHA-1"))
            after = (place.work.reads, place.work.writes, len(place.work.hashes))
            assert after == (before[0] + 1, before[1], before[2])

    def test_another_installation_has_others(self) -> None:
        one, other = (ALL.pretend(secret, NOBODY, "SCRAM-SHA-1") for secret in (b"1" * 32, b"2" * 32))
        assert one.salt != other.salt


class TestAdmitted:
    def test_a_login_is_noted(self, place: Place) -> None:
        claim = now(place.directory.claim(ALICE, "SCRAM-SHA-256"))
        user = now(place.directory.admit(claim, "192.0.2.1"))
        assert user is not None
        assert str(user.address) == ALICE
        assert place.row(ALICE).last_login == 1_000_000
        assert place.row(ALICE).password_hash.startswith("$argon2id")

    @pytest.mark.parametrize("login", [BOB, NOBODY])
    def test_nobody_without_keys(self, place: Place, login: str) -> None:
        claim = now(place.directory.claim(login, "SCRAM-SHA-256"))
        assert now(place.directory.admit(claim, "192.0.2.1")) is None

    def test_nobody_disabled(self, place: Place) -> None:
        real = now(place.directory.claim(ALICE, "SCRAM-SHA-256")).keys
        place.database.write(set_enabled, ALICE, False)
        claim = now(place.directory.claim(ALICE, "SCRAM-SHA-256"))
        assert claim.keys != real
        assert claim.obstacle == "disabled"
        assert now(place.directory.admit(claim, "192.0.2.1")) is None

    def test_vouched_for(self, place: Place) -> None:
        user = now(place.directory.vouched(BOB.upper(), "192.0.2.1"))
        assert user is not None
        assert str(user.address) == BOB
        assert place.row(BOB).last_login == 1_000_000
        assert now(place.directory.vouched(NOBODY, "192.0.2.1")) is None
        place.database.write(set_enabled, BOB, False)
        assert now(place.directory.vouched(BOB, "192.0.2.1")) is None
