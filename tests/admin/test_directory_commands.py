"""domain, user, alias: what the operator types, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mailstack.admin import output
from mailstack.directory.key_hashes import KeyHash
from mailstack.directory.keys import Keeping
from mailstack.directory.lookups import Credentials, credentials
from mailstack.directory.passwords import Passwords
from mailstack.directory.settings import DirectoryConfig
from tests.admin.conftest import Installation

PASSWORDS = Passwords(DirectoryConfig())


def stored(installation: Installation, address: str) -> Credentials:
    found: Credentials | None = installation.read(credentials, address)
    assert found is not None
    return found


def is_password(installation: Installation, password: str) -> bool:
    return PASSWORDS.verify(password, stored(installation, "alice@example.org").password_hash).right


class TestDomain:
    def test_add_list_remove(self, installation: Installation) -> None:
        assert installation.ok("domain", "add", "B\u00fccher.Example") == "xn--bcher-kva.example added\n"
        assert [row["name"] for row in installation.json("domain", "list")] == [
            "example.org",
            "xn--bcher-kva.example",
        ]
        assert installation.ok("domain", "list").splitlines()[0].startswith("example.org\t0\t0\t2")
        installation.ok("domain", "remove", "b\u00fccher.example", "--yes")
        assert len(installation.json("domain", "list")) == 1

    @pytest.mark.parametrize("name", ["example.org", "EXAMPLE.ORG."])
    def test_again(self, installation: Installation, name: str) -> None:
        assert installation.refused("domain", "add", name) == "example.org is there already"

    @pytest.mark.parametrize(
        "name", ["", "a b", "[127.0.0.1]", "a..b", "-x.example", "x" * 300, "\u00fc" * 64 + ".example"]
    )
    def test_no_domain(self, installation: Installation, name: str) -> None:
        assert "is not a domain" in installation.refused("domain", "add", "--", name)

    def test_remove_only_an_empty_one(self, alice: Installation) -> None:
        assert "still has 1 users" in alice.refused("domain", "remove", "example.org", "--yes")
        assert "not a domain of ours" in alice.refused("domain", "remove", "example.com", "--yes")


class TestUserAdd:
    def test_with_a_password_from_standard_input(self, alice: Installation) -> None:
        assert is_password(alice, "wonderland")
        [row] = alice.json("user", "list")
        assert row["address"] == "alice@example.org"
        assert row["enabled"] is True
        assert "password" not in str(row)

    def test_mailboxes_are_there_at_once(self, alice: Installation) -> None:
        names = [row["name"] for row in alice.json("mailbox", "list", "alice@example.org")]
        assert names == ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]
        assert list((alice.folder / "data").rglob("cur"))

    @pytest.mark.parametrize("given", ["wonderland", "wonderland\r\n", "wonderland\nmore\n"])
    def test_only_the_first_line_is_the_password(self, installation: Installation, given: str) -> None:
        installation.ok("user", "add", "alice@example.org", "--password-stdin", input=given)
        assert is_password(installation, "wonderland")

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("", "empty"),
            ("\n", "empty"),
            (b"\xff\n", "not UTF-8"),
            ("x" * 2000, "longer than 1024"),
            ("short\n", "has 5 characters; directory.shortest_password asks for 8"),
        ],
    )
    def test_no_password(self, installation: Installation, given: Any, words: str) -> None:
        assert words in installation.refused(
            "user", "add", "alice@example.org", "--password-stdin", input=given
        )
        assert installation.json("user", "list") == []

    def test_with_a_hash_from_another_server(self, installation: Installation) -> None:
        digest = "{SSHA}" + "nVjnTh+xDgFS5xjHJ9NqzjRuJQVwZXBwZXIxMg=="
        installation.ok("user", "add", "alice@example.org", "--password-hash", digest)
        assert stored(installation, "alice@example.org").password_hash == digest
        assert installation.json("user", "list")[0]["keys"] == []  # until a login shows the password
        assert "known are {ARGON2ID}" in installation.refused(
            "user", "add", "bob@example.org", "--password-hash", "{ROT13}x"
        )

    def test_with_keys_from_another_server(self, installation: Installation) -> None:
        """They are not only what the password is checked against: SCRAM works from the first day."""
        [made] = Keeping(("SCRAM-SHA-256",), 4096).make("secret-1")
        text = KeyHash(made.mechanism, made.keys).text
        installation.ok("user", "add", "alice@example.org", "--password-hash", text)
        assert is_password(installation, "secret-1")
        assert installation.json("user", "list")[0]["keys"] == ["SCRAM-SHA-256"]
        installation.ok("user", "password", "alice@example.org", "--password-hash", "{PLAIN}another-1")
        assert installation.json("user", "list")[0]["keys"] == []

    def test_with_a_generated_password(self, installation: Installation) -> None:
        row = installation.json("user", "add", "alice@example.org", "--generate")
        assert len(row["password"]) == 24
        assert is_password(installation, row["password"])
        assert installation.json("user", "list")[0]["keys"] == ["SCRAM-SHA-1", "SCRAM-SHA-256"]
        said = installation.ok("user", "password", "alice@example.org", "--generate")
        assert is_password(installation, said.split()[-1])

    def test_asked_for_on_a_terminal(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(output, "at_keyboard", lambda: True)
        installation.ok("user", "add", "alice@example.org", input="secret-1\nsecret-1\n")
        assert is_password(installation, "secret-1")

    def test_no_terminal_and_no_option(self, installation: Installation) -> None:
        assert "--password-stdin" in installation.refused("user", "add", "alice@example.org", status=2)

    def test_two_options(self, installation: Installation) -> None:
        words = installation.refused(
            "user", "add", "a@example.org", "--generate", "--password-hash", "x", status=2
        )
        assert words.startswith("give one of")

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            ("ALICE@example.org", "alice@example.org is there already"),
            ("bob@example.com", "not a domain of ours; add it with: mailstack domain add example.com"),
            ("bob", "'bob' is not an address"),
            ("@example.org", "is not an address"),
            ("x" * 65 + "@example.org", "is not an address"),
        ],
    )
    def test_refused(self, alice: Installation, address: str, words: str) -> None:
        assert words in alice.refused("user", "add", address, "--generate")
        assert len(alice.json("user", "list")) == 1

    def test_where_an_alias_is(self, alice: Installation) -> None:
        alice.ok("alias", "add", "info@example.org", "alice@example.org")
        assert "is an alias" in alice.refused("user", "add", "info@example.org", "--generate")

    def test_nothing_is_left_where_the_mailboxes_cannot_be_made(self, installation: Installation) -> None:
        (installation.folder / "data" / "mail").write_text("a file where the folder should be")
        words = installation.refused("user", "add", "alice@example.org", "--generate")
        assert "mail" in words
        assert installation.json("user", "list") == []


class TestUser:
    def test_password(self, alice: Installation) -> None:
        alice.ok("user", "password", "alice@example.org", "--password-stdin", input="looking-glass\n")
        assert is_password(alice, "looking-glass")
        assert not is_password(alice, "wonderland")
        assert (
            alice.refused("user", "password", "bob@example.org", "--generate")
            == "bob@example.org: no such user"
        )

    def test_quota(self, alice: Installation) -> None:
        assert alice.ok("user", "quota", "alice@example.org") == "alice@example.org\t-\t-\n"
        assert alice.ok("user", "quota", "alice@example.org", "5G") == "alice@example.org\t5G\t-\n"
        assert (
            alice.ok("user", "quota", "alice@example.org", "--messages", "10")
            == "alice@example.org\t5G\t10\n"
        )
        user = stored(alice, "alice@example.org").user
        assert (user.quota_octets, user.quota_messages) == (5 << 30, 10)
        assert (
            alice.ok("user", "list") == "alice@example.org\tyes\t5G\t0\t0\t10\t-\tSCRAM-SHA-1 SCRAM-SHA-256\n"
        )
        assert alice.json("user", "quota", "alice@example.org", "none", "--messages", "none") == {
            "address": "alice@example.org",
            "quota_octets": None,
            "quota_messages": None,
        }
        assert stored(alice, "alice@example.org").user.quota_octets is None
        assert alice.run("user", "quota", "alice@example.org", "much").exit_code == 2
        assert "not a number" in alice.refused(
            "user", "quota", "alice@example.org", "--messages", "x", status=2
        )
        assert alice.refused("user", "quota", "bob@example.org", "5G") == "bob@example.org: no such user"

    def test_the_largest_message(self, alice: Installation) -> None:
        assert alice.ok("user", "size", "alice@example.org") == "alice@example.org\t-\n"
        assert alice.ok("user", "size", "alice@example.org", "200M") == "alice@example.org\t200M\n"
        assert alice.json("user", "size", "alice@example.org", "none") == {
            "address": "alice@example.org",
            "max_message_octets": None,
        }

    def test_quota_at_the_start(self, installation: Installation) -> None:
        installation.ok(
            "user", "add", "a@example.org", "--generate", "--quota", "1M", "--quota-messages", "7"
        )
        user = stored(installation, "a@example.org").user
        assert (user.quota_octets, user.quota_messages) == (1 << 20, 7)

    def test_disable_and_enable(self, alice: Installation) -> None:
        alice.ok("user", "disable", "alice@example.org")
        assert not stored(alice, "alice@example.org").enabled
        assert alice.json("user", "enable", "ALICE@example.org")["enabled"] is True
        assert stored(alice, "alice@example.org").enabled
        assert "no such user" in alice.refused("user", "disable", "bob@example.org")

    def test_remove(self, alice: Installation) -> None:
        alice.ok("alias", "add", "info@example.org", "alice@example.org")
        assert "--yes" in alice.refused("user", "remove", "alice@example.org")
        said = alice.ok("user", "remove", "alice@example.org", "--yes")
        assert said == "alice@example.org removed; aliases that still name it: info@example.org\n"
        assert alice.json("user", "list") == []
        assert "no such user" in alice.refused("user", "remove", "alice@example.org", "--yes")
        assert "no such user" in alice.refused("mailbox", "list", "alice@example.org")

    def test_one_who_comes_again_starts_anew(self, alice: Installation) -> None:
        before = stored(alice, "alice@example.org").user.id
        alice.ok("mailbox", "add", "alice@example.org", "Mine")
        alice.ok("user", "remove", "alice@example.org", "--yes")
        alice.ok("user", "add", "alice@example.org", "--generate")
        assert stored(alice, "alice@example.org").user.id > before
        assert "Mine" not in alice.ok("mailbox", "list", "alice@example.org")

    def test_remove_asks_on_a_terminal(self, alice: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(output, "at_keyboard", lambda: True)
        result = alice.run("user", "remove", "alice@example.org", input="n\n")
        assert result.exit_code == 1
        assert "all its mail, for good? [y/N]" in result.stdout
        assert len(alice.json("user", "list")) == 1
        assert alice.run("user", "remove", "alice@example.org", input="y\n").exit_code == 0
        assert alice.json("user", "list") == []

    def test_list_of_one_domain(self, alice: Installation) -> None:
        alice.ok("domain", "add", "b.example")
        alice.ok("user", "add", "bob@b.example", "--generate")
        assert [row["address"] for row in alice.json("user", "list", "--domain", "b.example")] == [
            "bob@b.example"
        ]
        assert len(alice.json("user", "list")) == 2
        assert "not a domain of ours" in alice.refused("user", "list", "--domain", "c.example")

    def test_on_a_terminal_it_is_a_table(self, alice: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(output, "on_terminal", lambda: True)
        head, row = alice.ok("user", "list").splitlines()
        assert head.split()[:4] == ["address", "enabled", "quota", "used"]
        assert row.split()[:2] == ["alice@example.org", "yes"]


class TestAlias:
    def test_add_list_remove(self, alice: Installation) -> None:
        alice.ok("alias", "add", "Info@Example.org", "alice@example.org", "Far@example.net")
        alice.ok("alias", "add", "@example.org", "alice@example.org")
        assert alice.ok("alias", "list").splitlines() == [
            "@example.org\talice@example.org",
            "info@example.org\talice@example.org",
            "info@example.org\tFar@example.net",
        ]
        assert len(alice.json("alias", "list", "info@example.org")) == 2
        assert len(alice.json("alias", "list", "--domain", "example.org")) == 3
        assert (
            alice.ok("alias", "remove", "info@example.org", "Far@example.net", "--yes")
            == "info@example.org: 1 removed\n"
        )
        assert alice.json("alias", "remove", "@example.org", "--yes")["removed"] == 1
        assert len(json.loads(alice.ok("alias", "list", "--json"))) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("alice@example.org", "bob@example.net"), "is a user"),
            (("x@example.com", "alice@example.org"), "not a domain of ours"),
            (("@example.com", "alice@example.org"), "not a domain of ours"),
            (("@", "alice@example.org"), "is not a domain"),
            (("x", "alice@example.org"), "is not an address"),
            (("info@example.org", "nonsense"), "is not an address"),
            (("info@example.org", "INFO@example.org"), "cannot stand for itself"),
            (("old@example.org", "alice@example.org"), "stands for alice@example.org already"),
        ],
    )
    def test_refused(self, alice: Installation, arguments: tuple[str, ...], words: str) -> None:
        alice.ok("alias", "add", "old@example.org", "alice@example.org")
        assert words in alice.refused("alias", "add", *arguments)
        assert len(alice.json("alias", "list")) == 1

    def test_one_bad_target_adds_none(self, alice: Installation) -> None:
        alice.refused("alias", "add", "info@example.org", "alice@example.org", "nonsense")
        assert alice.json("alias", "list") == []

    def test_remove_what_is_not_there(self, alice: Installation) -> None:
        assert "no such alias" in alice.refused("alias", "remove", "info@example.org", "--yes")
        assert "--yes" in alice.refused("alias", "remove", "info@example.org")
