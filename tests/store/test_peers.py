"""Two processes on one store: what the one does reaches the other's sessions, without a poll."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from mailstack.db import Database, DatabaseConfig, Ear
from mailstack.store.mailboxes import create
from mailstack.store.message_store import MessageStore
from mailstack.store.news import Change, Listed, Noted
from mailstack.store.peers import RETRY, TOGETHER, parse
from mailstack.store.settings import StoreConfig
from tests.running import PATIENCE
from tests.store.harness import Harness, InlineWork, now


class Reactor(Clock):
    """A clock that knows what is to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


class Other:
    """Another process: its own connections, its own memory."""

    def __init__(self, harness: Harness, listen: Callable[[Database], Ear] = Database.listen) -> None:
        self.reactor = Reactor()
        url = harness.database.url.render_as_string(hide_password=False)
        self.database = Database(DatabaseConfig(url))
        self.work: Any = InlineWork(self.database)
        self.store = MessageStore(
            StoreConfig(path=harness.root, poll=86_400.0),
            self.work,
            self.reactor,
            listen=lambda: listen(self.database),
        )
        self.store.startService()

    def hear(self, check: Callable[[], Any]) -> None:
        """Until `check()`."""
        while not check():
            ready, _, _ = select.select(self.reactor.readers, [], [], PATIENCE)
            assert ready, "nothing is said"
            for reader in ready:
                reader.doRead()

    def close(self) -> None:
        self.store.stopService()
        self.database.dispose()


@pytest.fixture
def other(harness: Harness):  # type: ignore[no-untyped-def]
    now(harness.store.provision(1))
    other = Other(harness)
    yield other
    other.close()


def test_deliveries_flags_and_expunges(harness: Harness, other: Other) -> None:
    box = now(other.store.open(1, "INBOX"))
    view = box.view()
    woken: list[int] = []
    box.watch(lambda: woken.append(box.messages))
    harness.deliver(1)
    other.hear(lambda: woken)
    assert view.catch_up(expunges=True).exists == 1
    here = now(harness.store.open(1, "INBOX"))
    now(here.store_flags([1], "add", frozenset({r"\Seen"})))
    other.hear(lambda: len(woken) > 1)
    assert view.catch_up(expunges=True).changed == [1]
    now(here.expunge([1]))
    other.hear(lambda: len(woken) > 2)
    assert view.catch_up(expunges=True).expunged == [1]


def test_a_mailbox_that_nobody_has_open_is_news_too(harness: Harness, other: Other) -> None:
    id = now(other.store.status(1, "Junk")).id
    told: list[Change] = []
    other.store.news.subscribe(id, told.append)
    harness.deliver(1, mailbox="Junk")
    other.hear(lambda: told)
    assert told[-1].modseq == now(other.store.status(1, "Junk")).highest_modseq


def test_names_rights_and_annotations(harness: Harness, other: Other) -> None:
    listed: list[Listed] = []
    noted: list[Noted] = []
    gone: list[Change] = []
    other.store.news.subscribe(("list", 1), listed.append)
    other.store.news.subscribe(("list", 2), listed.append)
    made = now(harness.store.create(1, "made"))
    other.store.news.subscribe(made.id, gone.append)
    other.store.news.subscribe(("notes", made.id), noted.append)
    other.store.news.subscribe(("notes", None), noted.append)
    other.hear(lambda: listed)
    box = now(other.store.open(1, "made"))
    now(harness.store.rename(1, "made", "größer"))
    other.hear(lambda: box.name == "größer")
    now(harness.store.set_metadata(1, "größer", {"/shared/comment": b"x", "/private/a": b"y"}))
    now(harness.store.set_metadata(1, None, {"/private/b": b"z"}))
    other.hear(lambda: len(noted) == 3)
    assert set(noted) == {
        Noted(made.id, None, ("/shared/comment",)),
        Noted(made.id, 1, ("/private/a",)),
        Noted(None, 1, ("/private/b",)),
    }
    listed.clear()
    now(harness.store.change_acl(1, "größer", "bob@example.org", "replace", "lr"))
    other.hear(lambda: len(listed) == 2)
    assert {item.user_id for item in listed} == {1, 2}
    listed.clear()
    other.store.news.subscribe(("list", None), listed.append)
    now(harness.store.change_acl(1, "größer", "anyone", "replace", "l"))
    other.hear(lambda: Listed(None) in listed)  # everybody may see it now
    listed.clear()
    now(harness.store.delete(1, "größer"))
    other.hear(lambda: box.deleted)
    assert gone[-1].gone
    now(harness.store.subscribe(1, "x"))
    now(harness.store.unsubscribe(1, "x"))
    other.hear(lambda: len(listed) >= 2)


def test_a_command_of_the_operator_without_a_store(harness: Harness, other: Other) -> None:
    listed: list[Listed] = []
    other.store.news.subscribe(("list", 1), listed.append)
    harness.database.write(create, harness.root, 1, "by hand", (), 100)
    other.hear(lambda: listed)


def test_what_was_missed_is_looked_for(harness: Harness) -> None:
    """An ear that breaks: after a while there is another, and what happened meanwhile is found."""
    now(harness.store.provision(1))
    broken: list[bool] = []

    class Breaking:
        def __init__(self, ear: Ear) -> None:
            self.ear = ear
            self.fileno, self.close = ear.fileno, ear.close

        def hear(self) -> list[str]:
            if broken:
                broken.clear()
                raise OSError("gone")
            return self.ear.hear()

    def listen(database: Database) -> Any:
        if broken:
            raise OSError("not yet")
        return Breaking(database.listen())

    other = Other(harness, listen)
    box = now(other.store.open(1, "INBOX"))
    broken.append(True)
    harness.deliver(1)
    other.hear(lambda: not other.reactor.readers)
    harness.deliver(2)
    assert box.messages == 0
    broken.append(True)
    other.reactor.advance(RETRY)
    assert other.reactor.readers == []
    broken.clear()
    other.reactor.advance(RETRY)
    other.reactor.advance(TOGETHER)
    assert box.messages == 2
    other.close()
    assert other.reactor.readers == []
    assert [call for call in other.reactor.getDelayedCalls() if call.active()] == []


def test_nothing_is_done_while_nothing_happens(other: Other) -> None:
    for name in ("INBOX", "Sent", "Junk"):
        now(other.store.open(1, name))
    other.reactor.advance(10.0)  # the upkeep after a start
    other.work.trips = 0
    other.reactor.pump([1.0] * 600)
    assert select.select(other.reactor.readers, [], [], 0.0)[0] == []
    assert other.work.trips == 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "mailbox",
        "mailbox 1",
        "mailbox a b",
        "gone",
        "renamed 1",
        "list",
        "list x",
        "notes 1 2",
        "\0",
    ],
)
def test_nonsense(line: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse(line)


def test_nonsense_does_no_harm(harness: Harness, other: Other) -> None:
    listed: list[Listed] = []
    other.store.news.subscribe(("list", 1), listed.append)
    [reader] = other.reactor.readers
    assert reader._items(["mailbox a b", "list 1", "\udc80"]) == [Listed(1)]
