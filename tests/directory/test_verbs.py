"""What the operator's lists show, and of whom."""

from __future__ import annotations

import pytest

from mailstack.db import Database
from mailstack.directory.verbs import (
    AliasInfo,
    Refusal,
    add_alias,
    add_domain,
    add_user,
    list_aliases,
    list_domains,
    list_users,
)


@pytest.fixture
def filled(database: Database) -> Database:
    """Two domains whose users and aliases were not added in the order of their names."""
    for domain in ("example.org", "b.example"):
        database.write(add_domain, domain)
    for address in ("carol@example.org", "bob@b.example", "alice@example.org"):
        database.write(add_user, address, "x")
    database.write(add_alias, "news@example.org", ["carol@example.org", "alice@example.org"])
    database.write(add_alias, "@b.example", ["bob@b.example"])
    return database


def test_domains_with_what_is_in_them(filled: Database) -> None:
    found = [(info.name, info.users, info.aliases) for info in filled.read(list_domains)]
    assert found == [("b.example", 1, 1), ("example.org", 2, 2)]


def test_users_by_address(filled: Database) -> None:
    everybody = [info.address for info in filled.read(list_users)]
    assert everybody == ["alice@example.org", "bob@b.example", "carol@example.org"]
    some = [info.address for info in filled.read(list_users, "Example.org")]
    assert some == ["alice@example.org", "carol@example.org"]


def test_aliases_by_address_and_as_they_were_added(filled: Database) -> None:
    here = AliasInfo("@b.example", "bob@b.example")
    there = [
        AliasInfo("news@example.org", "carol@example.org"),
        AliasInfo("news@example.org", "alice@example.org"),
    ]
    assert filled.read(list_aliases) == [here, *there]
    assert filled.read(list_aliases, None, "B.example") == [here]
    assert filled.read(list_aliases, "News@example.org") == there


@pytest.mark.parametrize("listed", [list_users, lambda db, domain: list_aliases(db, None, domain)])
def test_of_no_domain_of_ours(filled: Database, listed: object) -> None:
    with pytest.raises(Refusal, match="not a domain of ours"):
        filled.read(listed, "other.example")  # type: ignore[arg-type]
