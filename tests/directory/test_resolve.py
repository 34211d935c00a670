"""Whom an address stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, delete, insert

from mailstack.db import Database
from mailstack.directory import lookups
from mailstack.directory.lookups import MAX_DEPTH, MAX_TARGETS, TooManyTargets
from mailstack.directory.model import NotLocal
from mailstack.directory.settings import DirectoryConfig
from mailstack.directory.tables import aliases, domains, users
from mailstack.directory.verbs import Refusal, add_alias, add_domain, add_user, set_enabled
from mailstack.mail.address import Address

PLUS = DirectoryConfig()


@pytest.fixture
def ask(database: Database) -> Callable[..., Any]:
    """Resolve in a world of two domains and three users; answer in words: user[/detail] or >forward."""
    database.write(add_domain, "example.org")
    database.write(add_domain, "b\u00fccher.example")
    for address in ("alice@example.org", "bob@example.org", "carol@xn--bcher-kva.example"):
        database.write(add_user, address, "x")

    def ask(text: str, config: DirectoryConfig = PLUS, **added: Any) -> list[str] | None:
        found = database.read(lookups.resolve, Address.parse(text), config)
        if found is None:
            return None
        local = [
            str(one.user.address) + (f"/{one.detail}" if one.detail is not None else "")
            for one in found.locals
        ]
        return sorted(local) + sorted(f">{address}" for address in found.forwards)

    ask.alias = lambda address, *targets: database.write(add_alias, address, targets)  # type: ignore[attr-defined]
    ask.database = database  # type: ignore[attr-defined]
    return ask


class TestPrecedence:
    def test_a_user(self, ask: Any) -> None:
        assert ask("alice@example.org") == ["alice@example.org"]

    @pytest.mark.parametrize("text", ["ALICE@EXAMPLE.ORG", '"alice"@example.org', '"al\\ice"@Example.org'])
    def test_a_user_spelled_otherwise(self, ask: Any, text: str) -> None:
        assert ask(text) == ["alice@example.org"]

    @pytest.mark.parametrize(
        "domain",
        ["b\u00fccher.example", "BU\u0308CHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE"],
    )
    def test_u_labels_and_a_labels_are_the_same_domain(self, ask: Any, domain: str) -> None:
        assert ask(f"carol@{domain}") == ["carol@xn--bcher-kva.example"]

    def test_nobody(self, ask: Any) -> None:
        assert ask("nobody@example.org") is None
        assert ask("alice@b\u00fccher.example") is None

    @pytest.mark.parametrize(
        "text", ["alice@example.com", "alice@sub.example.org", "alice@[127.0.0.1]", "alice@org"]
    )
    def test_a_domain_that_is_not_ours(self, ask: Any, text: str) -> None:
        with pytest.raises(NotLocal):
            ask(text)

    def test_user_before_alias_before_base_before_catch_all(self, ask: Any) -> None:
        ask.alias("@example.org", "alice@example.org")
        ask.alias("info@example.org", "bob@example.org")
        assert ask("bob@example.org") == ["bob@example.org"]
        assert ask("bob+x@example.org") == ["bob@example.org/x"]
        assert ask("info@example.org") == ["bob@example.org"]
        assert ask("info+x@example.org") == ["bob@example.org/x"]
        assert ask("other@example.org") == ["alice@example.org"]
        assert ask("other+x@example.org") == ["alice@example.org"]

    def test_an_alias_with_detail_of_its_own_wins_over_the_user_of_its_base(self, ask: Any) -> None:
        ask.alias("bob+lists@example.org", "alice@example.org")
        assert ask("bob+lists@example.org") == ["alice@example.org/lists"]
        assert ask("bob+other@example.org") == ["bob@example.org/other"]

    def test_a_user_with_the_delimiter_in_the_name(self, ask: Any) -> None:
        ask.database.write(add_user, "bob+work@example.org", "x")
        assert ask("bob+work@example.org") == ["bob+work@example.org"]
        assert ask("bob+play@example.org") == ["bob@example.org/play"]

    def test_the_catch_all_of_another_domain_does_not_count(self, ask: Any) -> None:
        ask.alias("@example.org", "alice@example.org")
        assert ask("nobody@b\u00fccher.example") is None

    def test_a_disabled_user_still_gets_mail(self, ask: Any) -> None:
        ask.database.write(set_enabled, "alice@example.org", False)
        assert ask("alice@example.org") == ["alice@example.org"]


class TestDetail:
    def test_it_keeps_its_case_and_stands_in_the_recipient(self, ask: Any) -> None:
        found = ask.database.read(lookups.resolve, Address.parse("Alice+News.Letter@Example.org"), PLUS)
        [local] = found.locals
        assert (local.detail, str(local.recipient)) == ("News.Letter", "Alice+News.Letter@example.org")

    @pytest.mark.parametrize(
        ("text", "delimiter", "answer"),
        [
            ("alice+@example.org", "+", ["alice@example.org/"]),
            ("alice+a+b@example.org", "+", ["alice@example.org/a+b"]),
            ("+alice@example.org", "+", None),
            ("alice-x@example.org", "+", None),
            ("alice-x@example.org", "+-", ["alice@example.org/x"]),
            ("alice-x+y@example.org", "+-", ["alice@example.org/x+y"]),
            ("alice+x@example.org", "", None),
        ],
    )
    def test_where_it_begins(self, ask: Any, text: str, delimiter: str, answer: list[str] | None) -> None:
        assert ask(text, DirectoryConfig(recipient_delimiter=delimiter)) == answer

    def test_it_goes_along_with_an_alias(self, ask: Any) -> None:
        ask.alias("info@example.org", "alice@example.org", "bob+fixed@example.org", "far@example.net")
        assert ask("info+x@example.org") == [
            "alice@example.org/x",
            "bob@example.org/fixed",
            ">far@example.net",
        ]
        found = ask.database.read(lookups.resolve, Address.parse("info+x@example.org"), PLUS)
        assert [str(local.recipient) for local in found.locals] == [
            "alice+x@example.org",
            "bob+fixed@example.org",
        ]


class TestAliases:
    def test_chains_and_duplicates(self, ask: Any) -> None:
        ask.alias("a@example.org", "b@example.org", "alice@example.org", "Far@example.net")
        ask.alias("b@example.org", "alice@example.org", "bob@example.org", "far@example.net")
        assert ask("a@example.org") == [
            "alice@example.org",
            "bob@example.org",
            ">Far@example.net",
        ]  # the first spelling

    def test_loops_end(self, ask: Any) -> None:
        ask.alias("a@example.org", "b@example.org")
        ask.alias("b@example.org", "a@example.org")
        assert ask("a@example.org") is None
        ask.alias("b@example.org", "alice@example.org")
        assert ask("a@example.org") == ["alice@example.org"]

    def test_a_catch_all_that_leads_to_nobody(self, ask: Any) -> None:
        ask.alias("@example.org", "gone@example.org")
        assert ask("x@example.org") is None

    def test_targets_that_are_gone_do_not_harm_the_others(self, ask: Any) -> None:
        ask.alias("a@example.org", "gone@example.org", "alice@example.org")
        assert ask("a@example.org") == ["alice@example.org"]

    def test_a_target_damaged_in_the_table_does_not_harm_the_others(self, ask: Any) -> None:
        ask.alias("a@example.org", "alice@example.org")
        row = {"domain_id": 1, "address": "a@example.org", "target": "not an address"}
        ask.database.write(lambda db: db.execute(insert(aliases).values(row)) and None)
        assert ask("a@example.org") == ["alice@example.org"]

    def test_depth_is_bounded(self, ask: Any) -> None:
        for number in range(MAX_DEPTH):
            ask.alias(f"a{number}@example.org", f"a{number + 1}@example.org")
        ask.alias(f"a{MAX_DEPTH}@example.org", "alice@example.org")
        assert ask("a1@example.org") == ["alice@example.org"]  # MAX_DEPTH aliases
        with pytest.raises(TooManyTargets):
            ask("a0@example.org")

    def test_number_is_bounded(self, ask: Any) -> None:
        ask.alias("all@example.org", *(f"u{number}@example.net" for number in range(MAX_TARGETS)))
        assert len(ask("all@example.org")) == MAX_TARGETS
        ask.alias("more@example.org", "all@example.org")
        with pytest.raises(TooManyTargets):
            ask("more@example.org")
        with pytest.raises(Refusal, match="more than 100"):
            ask.alias("all@example.org", "one-more@example.net")


class TestPostmaster:
    def test_the_first_user_of_the_domain(self, ask: Any) -> None:
        assert ask("postmaster@example.org") == ["alice@example.org"]
        assert ask("PostMaster@b\u00fccher.example") == ["carol@xn--bcher-kva.example"]
        assert ask("postmaster+x@example.org") == ["alice@example.org"]

    def test_one_who_may_log_in_is_preferred(self, ask: Any) -> None:
        ask.database.write(set_enabled, "alice@example.org", False)
        assert ask("postmaster@example.org") == ["bob@example.org"]
        ask.database.write(set_enabled, "bob@example.org", False)
        assert ask("postmaster@example.org") == ["alice@example.org"]

    def test_an_alias_a_user_or_a_catch_all_comes_first(self, ask: Any) -> None:
        ask.alias("@example.org", "carol@xn--bcher-kva.example")
        assert ask("postmaster@example.org") == ["carol@xn--bcher-kva.example"]
        ask.alias("postmaster@example.org", "bob@example.org")
        assert ask("postmaster@example.org") == ["bob@example.org"]

    def test_whom_the_configuration_names(self, ask: Any) -> None:
        for named, answer in [
            ("carol@b\u00fccher.example", ["carol@xn--bcher-kva.example"]),
            ("admin@example.net", [">admin@example.net"]),
            ("gone@example.org", ["alice@example.org"]),
            ("postmaster@example.org", ["alice@example.org"]),
        ]:
            assert ask("postmaster@example.org", DirectoryConfig(postmaster=named)) == answer

    def test_a_domain_without_users(self, ask: Any) -> None:
        ask.database.write(add_domain, "empty.example")
        assert ask("postmaster@empty.example") == ["alice@example.org"]
        ask.database.write(lambda db: db.execute(delete(users)) and None)
        assert ask("postmaster@empty.example") is None


NAMES = st.sampled_from(["a", "b", "c", "a+x", "postmaster", "", "d"])
DOMAINS = st.sampled_from(["one.example", "two.example", "away.example"])
ADDRESSES = st.builds("{}@{}".format, NAMES, DOMAINS)


@given(
    st.lists(st.tuples(ADDRESSES, ADDRESSES), max_size=12),
    st.sets(ADDRESSES, max_size=3),
    ADDRESSES,
    st.sampled_from([None, "a@one.example", "z@away.example"]),
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_web_of_aliases_ends(
    web: list[tuple[str, str]], people: set[str], asked: str, postmaster: str | None
) -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as db:
        for table in (domains, users, aliases):
            table.create(db)
        for number, name in enumerate(("one.example", "two.example")):
            db.execute(insert(domains).values(id=number, name=name, created=0))
        for number, address in enumerate(people):
            values = {
                "domain_id": number % 2,
                "address": address,
                "password_hash": "",
                "enabled": True,
                "created": 0,
            }
            db.execute(insert(users).values(values))
        for address, target in set(web):
            db.execute(insert(aliases).values(domain_id=0, address=address, target=target))
        try:
            found = lookups.resolve(db, Address(*asked.split("@")), DirectoryConfig(postmaster=postmaster))
        except NotLocal:
            assert asked.endswith("@away.example")
        else:
            assert found is None or found.locals or found.forwards
            if found is not None:
                assert len({local.user.id for local in found.locals}) == len(found.locals)
                assert all(address.domain == "away.example" for address in found.forwards)
    engine.dispose()
