"""QUOTA on mailboxes of other users (RFC 9208 with RFC 4314): the owner's limits, and who may know of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]
SHARED = '"Other Users/alice@example.test/INBOX"'
ROOT = '"User quota/alice@example.test"'


@pytest.fixture
def alice(world: World) -> Client:
    world.limit("alice@example.test", 10_240, 5)
    world.limit("bob@example.test", 2_048, None)
    for at in range(3):
        world.append(f"Subject: {at}\r\n\r\nx\r\n".encode())
    return world.connect().select()


def bob(world: World, alice: Client, rights: str, name: str = "INBOX") -> Client:
    assert b"r OK" in alice.ask(f"r SETACL {name} bob@example.test {rights}")
    return world.connect().login("bob")


def test_the_root_is_the_owners(world: World, alice: Client, talk: Talk) -> None:
    talk(bob(world, alice, "lr"), f"""
        C: a GETQUOTAROOT {SHARED}
        S: * QUOTAROOT {SHARED} {ROOT}
        S: * QUOTA {ROOT} (STORAGE 1 10 MESSAGE 3 5)
        S: a OK GETQUOTAROOT completed
        C: b GETQUOTA {ROOT}
        S: * QUOTA {ROOT} (STORAGE 1 10 MESSAGE 3 5)
        S: b OK GETQUOTA completed
        C: c GETQUOTAROOT INBOX
        S: * QUOTAROOT INBOX "User quota"
        S: * QUOTA "User quota" (STORAGE 0 2)
        S: c OK GETQUOTAROOT completed
        C: d GETQUOTA ""
        S: * QUOTA "" (STORAGE 0 2)
        S: d OK GETQUOTA completed
    """)  # fmt: skip


def test_an_owner_has_one_root_by_any_name(alice: Client, talk: Talk) -> None:
    talk(alice, f"""
        C: a GETQUOTAROOT {SHARED}
        S: * QUOTAROOT {SHARED} "User quota"
        S: * QUOTA "User quota" (STORAGE 1 10 MESSAGE 3 5)
        S: a OK GETQUOTAROOT completed
        C: b GETQUOTA {ROOT}
        S: b NO [NONEXISTENT] ...
    """)  # fmt: skip


def test_an_owner_without_a_limit(world: World, alice: Client, talk: Talk) -> None:
    world.limit("alice@example.test", None, None)
    talk(bob(world, alice, "lr"), f"""
        C: a GETQUOTAROOT {SHARED}
        S: * QUOTAROOT {SHARED}
        S: a OK GETQUOTAROOT completed
        C: b GETQUOTA {ROOT}
        S: b NO [NONEXISTENT] ...
    """)  # fmt: skip


def test_it_takes_the_right_to_read(world: World, alice: Client, talk: Talk) -> None:
    """RFC 9208 section 6: the numbers tell of the messages."""
    talk(bob(world, alice, "lswi"), f"""
        C: a GETQUOTAROOT {SHARED}
        S: a NO [NOPERM] ...
        C: b GETQUOTA {ROOT}
        S: b NO [NONEXISTENT] ...
    """)  # fmt: skip


@pytest.mark.parametrize("name", ["Drafts", "Nothing", "INBOX/new"])
def test_what_is_hidden_and_what_is_not_there_are_alike(world: World, alice: Client, name: str) -> None:
    client = world.connect().login("bob")
    for each in (f"alice@example.test/{name}", f"nobody@example.test/{name}", "alice@example.test", ""):
        said = client.ask(f'a GETQUOTAROOT "Other Users/{each}"')
        assert said.startswith(b"a NO [NONEXISTENT]"), said
    for root in ("alice@example.test", "nobody@example.test", "", "&", "&&&-", "Other", "bob@example.test"):
        assert client.ask(f'b GETQUOTA "User quota/{root}"').startswith(b"b NO [NONEXISTENT]")
    assert client.ask(b"c GETQUOTA {13}").startswith(b"+")
    assert client.ask(b"User quota/\xff\xff").startswith(b"c NO [NONEXISTENT]")


def test_where_a_mailbox_could_be_made(world: World, alice: Client, talk: Talk) -> None:
    """RFC 9208 section 4.1.2: the root that would apply when it gets created."""
    talk(bob(world, alice, "lrk"), f"""
        C: a GETQUOTAROOT "Other Users/alice@example.test/INBOX/new"
        S: * QUOTAROOT "Other Users/alice@example.test/INBOX/new" {ROOT}
        S: * QUOTA {ROOT} (STORAGE 1 10 MESSAGE 3 5)
        S: a OK GETQUOTAROOT completed
    """)  # fmt: skip
    said = world.connect().login("bob").ask('a GETQUOTAROOT "Other Users/alice@example.test/Drafts/new"')
    assert said.startswith(b"a NO [NONEXISTENT]")


def test_a_right_taken_away(world: World, alice: Client) -> None:
    client = bob(world, alice, "lr")
    assert b"b OK" in client.ask(f"b GETQUOTA {ROOT}")
    alice.ask("a SETACL INBOX -bob@example.test r")
    assert client.ask(f"b GETQUOTA {ROOT}").startswith(b"b NO [NONEXISTENT]")
    assert client.ask(f"c GETQUOTAROOT {SHARED}").startswith(b"c NO [NOPERM]")


def test_the_owners_quota_counts_and_not_the_writers(world: World, alice: Client, talk: Talk) -> None:
    """Refused or taken before the octets come."""
    client = bob(world, alice, "lri")
    world.limit("bob@example.test", 0, 0)
    full = world.connect().login("bob")
    talk(full, f"""
        C: a APPEND INBOX {{3}}
        S: a NO [OVERQUOTA] Over quota
        C: b APPEND {SHARED} {{3+}}
        C: x
        S: b OK [APPENDUID ... 4] APPEND completed
    """.replace("C: x\n", "C: abc\n"))  # fmt: skip
    client.send(f"c APPEND {SHARED} {{20000}}\r\n".encode())
    assert client.heard() == b"c NO [OVERQUOTA] Over quota\r\n"
    assert b"d OK" in client.ask(f"d APPEND {SHARED} {{3+}}\r\nabc")
    client.send(f"e APPEND {SHARED} {{3}}\r\n".encode())
    assert client.heard() == b"e NO [OVERQUOTA] Over quota\r\n"


def test_who_may_only_put_mail_there(world: World, alice: Client, talk: Talk) -> None:
    """RFC 4314 section 4: APPEND and COPY need "i"; RFC 4315 section 3: no UIDs for who may not select."""
    client = bob(world, alice, "li")
    client.ask("i APPEND INBOX {3+}\r\nabc")
    client.ask("s SELECT INBOX")
    talk(client, f"""
        C: a APPEND {SHARED} {{3+}}
        C: abc
        S: a OK APPEND completed
        C: b COPY 1 {SHARED}
        S: b OK COPY completed
        C: c APPEND "Other Users/alice@example.test/Drafts" {{3}}
        S: c NO [TRYCREATE] ...
        C: d APPEND "Other Users/alice@example.test/INBOX/new" {{3}}
        S: d NO [TRYCREATE] ...
        C: e SELECT {SHARED}
        S: * OK [CLOSED] ...
        S: e NO [NOPERM] ...
    """)  # fmt: skip
    assert alice.ask("n NOOP").startswith(b"* 5 EXISTS")
