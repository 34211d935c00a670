"""The keys that sign: what a running server knows of them, and the operator's list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from mailstack.db import Database, metadata
from mailstack.directory.verbs import Refusal
from mailstack.mail.dkim import PrivateKey
from mailstack.signing import verbs
from mailstack.signing.keyring import FRESH, Keyring
from mailstack.signing.verbs import GRACE
from tests.databases import made
from tests.directory.inline import now

KEY = PrivateKey.make("ed25519")
START = 1_000_000.0


class Work:
    """Reads at once, counts, and fails when told to."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.reads = 0
        self.broken = False

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        self.reads += 1
        if self.broken:
            raise OSError("the database is away")
        return self.database.read(function, *args)


@pytest.fixture
def work() -> Any:
    with made("sqlite") as one:
        metadata.create_all(one.database.engine)
        one.database.write(verbs.add, "a.test", [KEY], "sel", START, START + 100)
        yield Work(one.database)


def selectors(keyring: Keyring, domain: str = "a.test") -> list[str]:
    return [signer.selector for signer in now(keyring.signers(domain))]


def test_a_key_signs_while_it_is_its_time(work: Work) -> None:
    clock = Clock()
    keyring = Keyring(work, clock)
    seen = []
    for at in (START + 99, START + 130, START + 160):
        clock.advance(at - clock.seconds())
        seen.append(selectors(keyring))
        work.database.write(verbs.rotate, "a.test", [KEY], "sel", at, 10.0) if seen[-1] else None
    assert seen == [[], ["sele"], ["sel-2e"]]
    assert selectors(keyring, "mail.A.test.") == ["sel-2e"]
    assert selectors(keyring, "b.test") == selectors(keyring, "test") == []


def test_while_the_table_cannot_be_read_those_known_sign(work: Work) -> None:
    clock = Clock()
    clock.advance(START + 100)
    keyring = Keyring(work, clock)
    assert selectors(keyring) == ["sele"]
    clock.advance(FRESH)
    work.broken = True
    assert [selectors(keyring) for _ in range(3)] == [["sele"]] * 3
    assert work.reads == 2  # a second's peace for a database that is away
    work.broken = False
    work.database.write(verbs.remove, "a.test", None)
    clock.advance(1)
    assert selectors(keyring) == []


def test_states(work: Work) -> None:
    at = START + 100
    work.database.write(verbs.rotate, "a.test", [KEY], "sel", START, 200.0)
    [first, second] = work.database.read(verbs.list_keys, "A.test")
    assert [first.state(at - 1), first.state(at), second.state(at)] == ["waiting", "signing", "waiting"]
    at = START + 200
    assert [first.state(at), second.state(at)] == ["retired", "signing"]
    assert [first.state(at + GRACE - 1), first.state(at + GRACE)] == ["retired", "over"]


def test_selectors_end_somewhere(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "_stems", lambda stem: [stem, f"{stem}-2"])
    [made] = work.database.write(verbs.add, "a.test", [KEY], "sel", START, START)
    assert made.selector == "sel-2e"
    with pytest.raises(Refusal, match="name another"):
        work.database.write(verbs.add, "a.test", [KEY], "sel", START, START)
    assert len(work.database.read(verbs.list_keys)) == 2
