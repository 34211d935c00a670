"""The trail: written behind everything else, found by Message-ID, queue id and address, pruned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from mailstack.db import Database
from mailstack.mail.address import Address
from mailstack.trail import rows, trail
from mailstack.trail.notes import Note, message_id_of
from mailstack.trail.settings import TrailConfig
from mailstack.trail.trail import Trail

NOW = 1_000_000.0


class Writer:
    """`work.transaction`, at once or as told."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.broken = False
        self.calls = 0
        self.held: Deferred[None] | None = None

    async def transaction(self, function: Callable[..., Any], *args: Any) -> Any:
        self.calls += 1
        if self.held is not None:
            await self.held
        if self.broken:
            raise OSError("disk full")
        return self.database.write(function, *args)


class Scene:
    def __init__(self, database: Database, keep: float = 100.0) -> None:
        self.database = database
        self.writer = Writer(database)
        self.clock = Clock()
        self.clock.advance(NOW)
        self.trail = Trail(TrailConfig(keep), self.writer, self.clock)

    def find(self, what: str, since: float = 0.0) -> list[tuple[str, str, str | None]]:
        found = self.database.read(rows.find, what, since)
        return [(note.id, note.event, note.address) for note in found]


@pytest.fixture
def scene(made_database: Database) -> Scene:
    return Scene(made_database)


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: Any) -> None:
        lines.append(str(event.get("log_format")))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


class TestWriting:
    def test_a_note_costs_no_transaction_until_the_second_is_over(self, scene: Scene) -> None:
        for number in range(5):
            scene.trail.note(f"q{number}", "received")
        assert scene.writer.calls == 0
        scene.clock.advance(trail.DELAY)
        assert scene.writer.calls == 1
        assert [scene.find(f"q{number}") for number in range(5)] == [
            [(f"q{number}", "received", None)] for number in range(5)
        ]

    def test_what_comes_while_it_writes_is_written_next(self, scene: Scene) -> None:
        scene.writer.held = Deferred()
        scene.trail.note("q1", "received")
        scene.clock.advance(trail.DELAY)
        scene.trail.note("q1", "delivered")
        held, scene.writer.held = scene.writer.held, None
        held.callback(None)
        scene.clock.advance(trail.DELAY)
        assert [event for _, event, _ in scene.find("q1")] == ["received", "delivered"]

    def test_a_broken_database_fails_nobody_and_loses_nothing_at_first(
        self, scene: Scene, log: list[str]
    ) -> None:
        scene.writer.broken = True
        scene.trail.note("q1", "received")
        scene.clock.advance(trail.DELAY)
        assert log == ["{n} notes wait to be written: {why}"]
        scene.writer.broken = False
        scene.clock.advance(trail.DELAY)
        assert scene.find("q1") == [("q1", "received", None)]

    def test_memory_is_bounded(self, scene: Scene, log: list[str], monkeypatch: Any) -> None:
        monkeypatch.setattr(trail, "MOST_WAITING", 3)
        for number in range(5):
            scene.trail.note(f"q{number}", "received")
        scene.clock.advance(trail.DELAY)
        assert log == ["{n} notes are lost: too many waited"]
        assert (scene.find("q2"), scene.find("q3")) == ([("q2", "received", None)], [])

    def test_the_end_of_the_process_writes_what_waits(self, scene: Scene) -> None:
        scene.trail.startService()
        scene.trail.note("q1", "received")
        stopped = scene.trail.stopService()
        assert stopped.called
        assert scene.find("q1") == [("q1", "received", None)]
        assert scene.clock.getDelayedCalls() == []

    def test_switched_off_it_writes_nothing(self, made_database: Database) -> None:
        scene = Scene(made_database, keep=0)
        scene.trail.note("q1", "received")
        scene.database.write(lambda db: scene.trail.write(db, [Note(NOW, "q1", "queued")]))
        assert (scene.clock.getDelayedCalls(), scene.find("q1")) == ([], [])

    def test_no_text_of_an_enemy_is_refused_by_the_database(self, scene: Scene) -> None:
        hostile = "a\0b\udcff" + "x" * 5000
        note = Note(NOW, "q1", "received", hostile, hostile, {"reply": hostile, "list": [hostile] * 200})
        scene.database.write(rows.write, [note])
        [found] = scene.database.read(rows.find, "q1", 0.0)
        assert found.address is not None
        assert found.address.startswith("a\ufffdb?x")
        assert len(found.address) == 1000
        assert (len(found.detail["list"]), len(found.detail["reply"])) == (100, 1000)
        scene.database.write(rows.write, [Note(NOW, "q2", "received", "a\0b")])
        assert scene.database.read(rows.find, "q2", 0.0)[0].address == "a\ufffdb"


class TestFinding:
    def filled(self, scene: Scene) -> None:
        notes = [
            Note(NOW, "q1", "received", "alice@a.test", "<1@a.test>"),
            Note(NOW + 1, "q1", "queued", "bob@b.test"),
            Note(NOW + 2, "q1", "bounced", "bob@b.test"),
            Note(NOW + 3, "q1.fail7", "received", "", "<q1.fail7@a.test>"),
            Note(NOW + 4, "q2", "refused", "bob@b.test"),
            Note(NOW + 5, "q10", "received", "eve@a.test", "<2@a.test>"),
        ]
        scene.database.write(rows.write, notes)

    @pytest.mark.parametrize("what", ["q1", "<1@a.test>", "1@a.test", "ALICE@a.test", "<q1.fail7@a.test>"])
    def test_a_message_with_what_was_told_about_it(self, scene: Scene, what: str) -> None:
        self.filled(scene)
        events = [(id_, event) for id_, event, _ in scene.find(what)]
        assert events == [
            ("q1", "received"),
            ("q1", "queued"),
            ("q1", "bounced"),
            ("q1.fail7", "received"),
        ]

    def test_an_address_has_all_its_messages_the_refused_too(self, scene: Scene) -> None:
        self.filled(scene)
        assert [id_ for id_, _, _ in scene.find("bob@b.test")] == ["q1", "q1", "q1", "q1.fail7", "q2"]

    def test_since(self, scene: Scene) -> None:
        self.filled(scene)
        assert [id_ for id_, _, _ in scene.find("bob@b.test", NOW + 4)] == ["q2"]

    def test_nothing(self, scene: Scene) -> None:
        self.filled(scene)
        assert scene.find("nobody@b.test") == []


class TestPruning:
    def test_what_is_old_goes_in_slices(self, scene: Scene, monkeypatch: Any) -> None:
        monkeypatch.setattr(rows, "SLICE", 3)
        old = [Note(NOW - 101, f"q{number}", "received") for number in range(7)]
        scene.database.write(rows.write, [*old, Note(NOW - 99, "young", "received")])
        scene.trail.startService()
        assert scene.writer.calls == 3
        assert (scene.find("q6"), scene.find("young")) == ([], [("young", "received", None)])
        scene.clock.advance(trail.PRUNE_EVERY)
        assert scene.find("young") == []
        scene.trail.stopService()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"Subject: a\r\nMessage-ID: <1@a.test>\r\n", "<1@a.test>"),
        (b"MESSAGE-id:\r\n <1@a.test>\r\n", "<1@a.test>"),
        (b"X-Message-ID: <1@a.test>\r\n", None),
        (b"Message-ID: none\r\n", None),
    ],
)
def test_the_message_id_of_a_header(header: bytes, expected: str | None) -> None:
    assert message_id_of(header) == expected


def test_addresses_are_found_in_any_case(scene: Scene) -> None:
    scene.trail.note("q1", "received", Address.parse("Alice@A.test"))
    scene.clock.advance(trail.DELAY)
    assert scene.find("alice@a.TEST") == [("q1", "received", "alice@a.test")]
