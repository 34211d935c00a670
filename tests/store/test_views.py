"""Several sessions on one mailbox: sequence numbers, \\Recent, news that come, are lost, or are others'."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import tempfile
from array import array
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import delete

from mailstack.db import Database, DatabaseConfig
from mailstack.store import surveying
from mailstack.store.mailbox import Mailbox
from mailstack.store.message_store import MessageStore
from mailstack.store.news import Change, News, Row
from mailstack.store.settings import StoreConfig
from mailstack.store.tables import message_facts, message_id
from mailstack.store.values import FactColumns, NoSuchMailbox, Update
from mailstack.store.view import Timeline, View
from tests.store.harness import Harness, now, text


def opened(harness: Harness, name: str = "INBOX") -> Mailbox:
    return now(harness.store.open(1, name))


class TestViews:
    def test_numbers_stay_until_the_client_is_told(self, harness: Harness) -> None:
        harness.append(range(5))
        box = opened(harness)
        one, two = box.view(), box.view()
        now(box.expunge([2, 4]))
        assert (len(one), list(one.uids), one.sequence(5), one.uid(5)) == (5, [1, 2, 3, 4, 5], 5, 5)
        assert one.catch_up(expunges=False) == Update()
        assert one.catch_up(expunges=True) == Update(expunged=[4, 2], recent=3, vanished=[2, 4])
        assert (len(one), list(one.uids), one.sequence(5), one.sequence(4)) == (3, [1, 3, 5], 3, None)
        assert len(two) == 5
        harness.append([7])
        now(box.expunge([1]))
        assert two.catch_up(expunges=True) == Update(
            expunged=[4, 2, 1], exists=3, recent=1, vanished=[1, 2, 4]
        )
        assert list(two.uids) == [3, 5, 6]
        with pytest.raises(IndexError):
            two.uid(4)
        with pytest.raises(IndexError):
            two.uid(0)

    def test_numbers_of_many(self, harness: Harness) -> None:
        harness.append(range(6))
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([3]))
        view = box.view()
        uids = [1, 2, 4, 5, 6]
        for chosen in itertools.chain.from_iterable(
            itertools.combinations(uids, count) for count in range(len(uids) + 1)
        ):
            assert list(view.numbers(chosen)) == [view.sequence(uid) for uid in chosen]

    def test_what_came_after_an_expunge_waits_with_it(self, harness: Harness) -> None:
        harness.append(range(2))
        box = opened(harness)
        view = box.view()
        harness.append([5])
        assert view.catch_up(expunges=False).exists == 3
        now(box.expunge([1]))
        harness.append([6])
        assert view.catch_up(expunges=False).exists is None
        update = view.catch_up(expunges=True)
        assert (update.expunged, update.exists) == ([1], 3)

    def test_came_and_went_between_two_looks(self, harness: Harness) -> None:
        harness.append(range(2))
        box = opened(harness)
        view, other = box.view(), box.view()
        harness.append([5])
        now(box.expunge([3]))
        assert view.catch_up(expunges=True) == Update()
        harness.append([6])
        other.catch_up(expunges=True)
        now(box.expunge([4]))
        assert view.catch_up(expunges=True) == Update()
        assert list(view.uids) == [1, 2]

    def test_flags_that_others_changed(self, harness: Harness) -> None:
        harness.append(range(3))
        box = opened(harness)
        mine, others = box.view(), box.view()
        changed = now(box.store_flags([1, 3], "add", frozenset({"A"}))).changed
        mine.silence(changed)
        assert mine.catch_up(expunges=False).changed == []
        assert others.catch_up(expunges=False).changed == [1, 3]
        assert others.catch_up(expunges=False) == Update()
        mine.silence([1])
        now(box.store_flags([1], "add", frozenset({"B"})))
        assert mine.catch_up(expunges=False).changed == [1]
        now(box.store_flags([2], "add", frozenset({"B"})))
        now(box.expunge([2]))
        assert mine.catch_up(expunges=True) == Update(expunged=[2], recent=2, vanished=[2])

    def test_changes_longer_ago_than_the_log(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mailstack.store.change_log._LENGTH", 2)
        monkeypatch.setattr("mailstack.store.change_log._UIDS", 3)
        harness.append(range(5))
        box = opened(harness)
        view = box.view()
        for uid in (4, 2, 5):
            now(box.store_flags([uid], "add", frozenset({"A"})))
        assert view.catch_up(expunges=False).changed == [2, 4, 5]
        now(box.store_flags([1, 2, 3, 4, 5], "add", frozenset({"B"})))
        assert view.catch_up(expunges=False).changed == [1, 2, 3, 4, 5]

    def test_changes_too_many_to_look_for_at_once(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailstack.store.change_log._UIDS", 3)
        monkeypatch.setattr("mailstack.store.view.MANY", 4)
        harness.append(range(5))
        box = opened(harness)
        mine, others = box.view(), box.view()
        now(box.store_flags([1, 2, 4, 5], "add", frozenset({"A"})))
        mine.silence([2])
        harness.append([5])
        now(box.expunge([4]))
        for view, expected in ((mine, [1, 5]), (others, [1, 2, 5])):
            update = view.catch_up(expunges=True)
            assert (update.expunged, update.exists, update.changed) == ([4], 5, [])
            assert update.later is not None
            assert update.later.among(box.rows(range(1, 7))) == expected
            assert view.catch_up(expunges=True) == Update()
        now(box.store_flags([3], "add", frozenset({"A"})))  # few: they are known
        assert mine.catch_up(expunges=True) == Update(changed=[3])

    def test_what_a_client_knows(self, harness: Harness) -> None:
        harness.append(range(2))
        box = opened(harness)
        view = box.view()
        now(box.store_flags([1, 2], "add", frozenset({"A"})))
        view.silence([2])
        assert [view.knows(row) for row in box.rows([1, 2])] == [False, True]
        view.catch_up(expunges=True)
        assert all(map(view.knows, box.rows([1, 2])))

    def test_recent_is_for_the_first_that_is_told(self, harness: Harness) -> None:
        harness.append(range(2))
        box = opened(harness)
        looking = box.view(read_only=True)
        assert list(looking.recent) == [1, 2]
        first, second = box.view(), box.view()
        assert (list(first.recent), list(second.recent)) == ([1, 2], [])
        harness.append([5, 6])
        assert second.catch_up(expunges=True) == Update(exists=4, recent=2)
        assert first.catch_up(expunges=True) == Update(exists=4, recent=2)
        assert looking.catch_up(expunges=True).exists == 4
        assert (list(first.recent), list(second.recent)) == ([1, 2], [3, 4])
        assert 3 in second.recent
        assert 3 not in first.recent
        now(box.expunge([3]))
        second.catch_up(expunges=True)
        assert (list(second.recent), len(second.recent)) == ([4], 1)
        harness.upkeep()
        harness.restart()
        assert list(opened(harness).view().recent) == []

    def test_watchers(self, harness: Harness) -> None:
        harness.append([1])
        box = opened(harness)
        told: list[str] = []

        def fail() -> None:
            told.append("bad")
            raise ValueError("a session's mistake")

        stop_bad = box.watch(fail)
        stop = box.watch(lambda: told.append("good"))
        harness.append([2])
        stop_bad()
        now(box.store_flags([1], "add", frozenset({"A"})))
        stop()
        now(box.expunge([1]))
        assert told == ["bad", "good", "good"]

    def test_of_many_watchers_some_are_called_later(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailstack.store.watchers.AT_ONCE", 2)
        harness.append([1])
        box = opened(harness)
        told: list[int] = []
        stops = [box.watch(lambda number=number: told.append(number)) for number in range(5)]  # type: ignore[misc]
        harness.append([2])
        assert told == [0, 1]
        harness.append([3])  # those who wait are called once for both, and first
        stops[3]()
        assert told == [0, 1]
        for _ in range(3):
            harness.clock.advance(0)
        assert told == [0, 1, 2, 4, 0, 1]
        harness.append([4])
        assert told[6:] == [0, 1]

    def test_arrays_are_few_however_many_expunges(self) -> None:
        timeline = Timeline(array("I", range(1, 1001)))

        class Source:
            def __init__(self) -> None:
                self.timeline = timeline
                self.highest_modseq = 1

            def rows(self, uids: object) -> list[Row]:
                return []

            def changed_since(self, modseq: int) -> list[int]:
                return []

            def claim_recent(self, read_only: bool) -> tuple[int, int]:
                return (1, 1)

        view = View(Source(), read_only=False)
        for uid in range(1, 900):
            timeline.remove([uid])
        epochs, epoch = 1, view._epoch
        while epoch.following is not None:
            epochs, epoch = epochs + 1, epoch.following
        assert epochs == 2
        assert view.catch_up(expunges=True).expunged == list(range(899, 0, -1))
        assert list(view.uids) == list(range(900, 1001))


class TestLiveMailbox:
    def test_one_object_for_all(self, harness: Harness) -> None:
        harness.append([1])
        one, two = opened(harness), opened(harness)
        assert one is two
        one.close()
        assert opened(harness) is two
        two.close()
        two.close()
        harness.store.startService()
        harness.clock.advance(3)
        assert opened(harness) is two
        two.close()
        for _ in range(15):
            harness.clock.advance(3)
        assert opened(harness) is not two
        harness.store.stopService()

    def test_closed_ones_are_bounded(self, harness: Harness) -> None:
        config = StoreConfig(path=harness.root, keep_mailboxes=2)
        harness.store = MessageStore(config, harness.work, harness.clock)  # type: ignore[arg-type]
        boxes = {name: opened(harness, name) for name in ("INBOX", "Sent", "Junk")}
        for box in boxes.values():
            box.close()
        assert opened(harness, "Junk") is boxes["Junk"]
        assert opened(harness, "INBOX") is not boxes["INBOX"]

    def test_lost_news_are_made_up_for(self, harness: Harness) -> None:
        harness.append(range(3))
        box = opened(harness)
        view = box.view()
        publish, harness.store.news.publish = harness.store.news.publish, lambda change: None  # type: ignore[method-assign]
        harness.append([7])
        harness.deliver(8)
        harness.store.news.publish = publish  # type: ignore[method-assign]
        assert box.messages == 3
        harness.append([9])  # does not continue what the mailbox knows
        assert box.messages == 6
        assert view.catch_up(expunges=True).exists == 6

    def test_another_process_on_the_same_database(self, harness: Harness) -> None:
        harness.append(range(4))
        other = MessageStore(StoreConfig(path=harness.root), harness.work, harness.clock)  # type: ignore[arg-type]
        here, there = opened(harness), now(other.open(1, "INBOX"))
        view = here.view()
        now(there.store_flags([1], "add", frozenset({"Theirs"})))
        now(there.expunge([2]))
        now(other.append(1, "INBOX", []))
        told: list[int] = []
        here.watch(lambda: told.append(here.messages))
        harness.store.startService()
        harness.clock.advance(3)
        assert told
        update = view.catch_up(expunges=True)
        assert (update.expunged, update.changed) == ([2], [1])
        entry = here.entry(1)
        assert entry is not None
        assert entry.flags == {"Theirs"}
        now(here.store_flags([3], "add", frozenset({"Ours"})))
        assert now(there.store_flags([1, 3], "add", frozenset({"Ours"}))).changed == [1]
        assert {r.flags for uid in (1, 3) if (r := there.entry(uid))} == {
            frozenset({"Theirs", "Ours"}),
            frozenset({"Ours"}),
        }
        now(other.delete(1, "Sent"))
        with pytest.raises(NoSuchMailbox):
            opened(harness, "Sent")
        harness.store.stopService()

    def test_deleted_by_another_process_while_open(self, harness: Harness) -> None:
        box = opened(harness, "Sent")
        other = MessageStore(StoreConfig(path=harness.root), harness.work, harness.clock)  # type: ignore[arg-type]
        now(other.delete(1, "Sent"))
        harness.store.startService()
        harness.clock.advance(3)
        assert box.deleted
        harness.store.stopService()

    def test_a_warm_open_takes_three_trips(self, harness: Harness) -> None:
        harness.append(range(3))
        opened(harness)
        before = harness.work.trips
        opened(harness)
        assert harness.work.trips - before <= 2

    def test_a_look_at_many_quiet_mailboxes_takes_two_trips(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(surveying, "_SETTLED", -(10**18))  # every change was long ago
        for name in ("INBOX", "Sent", "Junk", "Trash"):
            opened(harness, name)
        harness.store.startService()
        harness.clock.advance(3)
        before = harness.work.trips
        harness.clock.advance(3)
        assert harness.work.trips == before + 2
        harness.store.stopService()

    def test_facts_in_the_order_asked(self, harness: Harness) -> None:
        harness.append(range(4))
        box = opened(harness)
        facts = now(box.facts([3, 1, 99], frozenset({"envelope"})))
        assert [
            f and f.envelope.count(b'"number %d"' % n) for n, f in zip((2, 0, 9), facts, strict=True)
        ] == [1, 1, None]
        assert facts[0] is not None
        assert facts[0].body == b""
        assert now(box.facts([], frozenset({"envelope"}))) == []

    def test_facts_column_by_column(self, harness: Harness) -> None:
        harness.append(range(4))
        box = opened(harness)
        found = now(box.fact_columns([3, 1, 99], frozenset({"envelope", "header_size"})))
        assert found.uids == [3, 1]
        assert [b'"number 2"' in envelope for envelope in found.columns["envelope"]] == [True, False]
        assert len(found.columns["header_size"]) == 2
        assert now(box.fact_columns([], frozenset({"body"}))) == FactColumns([], {"body": ()})

    def test_a_message_without_facts_has_empty_ones(self, harness: Harness) -> None:
        harness.append(range(3))
        box = opened(harness)
        lost = delete(message_facts).where(message_facts.c.message_id == message_id(box.id, 2))
        harness.database.write(lambda db: db.execute(lost))
        found = now(box.fact_columns([1, 2, 3], frozenset({"envelope", "header_size"})))
        assert found.uids == [1, 2, 3]
        assert [bool(envelope) for envelope in found.columns["envelope"]] == [True, False, True]
        assert found.columns["header_size"][1] == 0


class TestNews:
    def test_each_hears_its_own(self) -> None:
        news, told = News(), []
        stop = news.subscribe(1, told.append)
        news.subscribe(2, told.append)
        one, two = Change(1, 0, 1), Change(2, 0, 1)
        news.publish(one)
        stop()
        stop()
        news.publish(one)
        news.publish(two)
        assert told == [one, two]


@functools.cache
def shared_harness() -> Harness:
    """One store for all runs of the state machine: making one takes longer than a run."""
    memory = "/dev/shm"  # a disk makes it five times as long
    folder = Path(tempfile.mkdtemp(prefix="mailstack-", dir=memory if os.access(memory, os.W_OK) else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Harness(Database(DatabaseConfig(f"sqlite:///{folder / 'm.db'}")), folder)


class Sessions(RuleBasedStateMachine):
    """Two views of one mailbox against a plain model of what each client believes."""

    numbers = itertools.count(1)

    @initialize()
    def start(self) -> None:
        self.harness = shared_harness()
        self.name = f"mailbox {next(self.numbers)}"
        now(self.harness.store.create(1, self.name))
        self.box = opened(self.harness, self.name)
        self.views = [self.box.view(), self.box.view()]
        self.clients: list[list[int]] = [[], []]  # what each client numbers
        self.flags: dict[int, set[str]] = {}  # of every message that is there
        self.told: list[dict[int, set[str]]] = [{}, {}]  # flags as each client last heard

    def teardown(self) -> None:
        if hasattr(self, "name"):
            self.harness.check()
            now(self.harness.store.delete(1, self.name))

    @rule(count=st.integers(1, 3), flags=st.sets(st.sampled_from([r"\Seen", "A", "B"])))
    def arrive(self, count: int, flags: set[str]) -> None:
        for uid in self.harness.append(range(count), self.name, flags):
            self.flags[uid] = set(flags)

    @rule()
    def deliver(self) -> None:
        self.flags[self.harness.deliver(mailbox=self.name).uid] = set()

    @rule(uids=st.sets(st.integers(1, 12), max_size=4))
    def expunge(self, uids: set[int]) -> None:
        gone = now(self.box.expunge(list(uids)))
        assert gone == sorted(uids & {*self.flags})
        for uid in gone:
            del self.flags[uid]

    @rule(uids=st.sets(st.integers(1, 12), max_size=3), move=st.booleans())
    def copy(self, uids: set[int], move: bool) -> None:
        there = sorted(uids & {*self.flags})
        copied = now((self.box.move if move else self.box.copy)(list(uids), self.name))
        assert [old for old, _ in copied.pairs] == there
        for old, new in copied.pairs:
            self.flags[new] = set(self.flags[old])
            if move:
                del self.flags[old]

    @rule(
        who=st.integers(0, 1),
        uids=st.sets(st.integers(1, 12), max_size=4),
        mode=st.sampled_from(["add", "remove", "replace"]),
        flags=st.sets(st.sampled_from([r"\Seen", r"\Deleted", "A"])),
    )
    def store(self, who: int, uids: set[int], mode: str, flags: set[str]) -> None:
        changed = now(self.box.store_flags(list(uids), mode, frozenset(flags))).changed
        expected = []
        for uid in sorted(uids & {*self.flags}):
            before = self.flags[uid]
            after = before | flags if mode == "add" else before - flags if mode == "remove" else set(flags)
            if after != before:
                expected.append(uid)
            self.flags[uid] = after
        assert changed == expected
        self.views[who].silence(changed)
        for uid in changed:
            if uid in self.clients[who]:
                self.told[who][uid] = set(self.flags[uid])

    @rule(who=st.integers(0, 1), expunges=st.booleans())
    def catch_up(self, who: int, expunges: bool) -> None:
        client, view = self.clients[who], self.views[who]
        update = view.catch_up(expunges)
        assert expunges or not update.expunged
        for number in update.expunged:
            self.told[who].pop(client.pop(number - 1))
        if update.exists is not None:
            for number in range(len(client) + 1, update.exists + 1):
                client.append(view.uid(number))
                entry = self.box.entry(client[-1])
                self.told[who][client[-1]] = set(entry.flags) if entry else set()
        for uid in update.changed:
            entry = self.box.entry(uid)
            assert entry is not None
            self.told[who][uid] = set(entry.flags)
        if expunges:
            assert client == sorted(self.flags)
            assert self.told[who] == self.flags
        assert client == list(view.uids)

    @rule()
    def upkeep(self) -> None:
        self.harness.upkeep()

    @rule()
    def look_at_the_directory(self) -> None:
        self.harness.settle_clock()
        opened(self.harness, self.name).close()

    @precondition(lambda self: self.flags)
    @rule()
    def another_program_sets_flagged(self) -> None:
        self.harness.upkeep()
        self.harness.settle_clock()
        uid = sorted(self.flags)[0]
        path = self.harness.path(self.name)
        name = next(name for name in self.harness.files(self.name) if f",U={uid}:" in f"{name}:")
        base, _, letters = name.partition("/")[2].partition(":2,")
        letters = "".join(sorted({*letters} | {"F"}))
        os.rename(path / name, path / "cur" / f"{base}:2,{letters}")
        self.flags[uid].add(r"\Flagged")
        opened(self.harness, self.name).close()

    @invariant()
    def the_mailbox_is_right(self) -> None:
        if not hasattr(self, "box"):
            return
        entries = {uid: self.box.entry(uid) for uid in self.box.timeline.current.uids}
        assert {uid: set(entry.flags) for uid, entry in entries.items() if entry} == self.flags
        info = now(self.harness.store.status(1, self.name))
        assert (info.messages, info.highest_modseq) == (len(self.flags), self.box.highest_modseq)
        assert info.unseen == sum(1 for flags in self.flags.values() if r"\Seen" not in flags)


TestSessions = Sessions.TestCase
TestSessions.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_text_differs() -> None:
    assert text(1) != text(2)
