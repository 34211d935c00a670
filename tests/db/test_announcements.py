"""What one process commits and another hears: pipes beside SQLite, NOTIFY in PostgreSQL."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from mailstack.db import EVERYTHING, Database, DatabaseConfig, Ear, announce
from mailstack.db.announcements import MOST, PipeEar, chunks
from tests.databases import KINDS, database_url
from tests.running import PATIENCE


@pytest.fixture(params=KINDS)
def two(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Two processes' views of one database."""
    url = database_url(request.param, tmp_path)
    both = Database(DatabaseConfig(url)), Database(DatabaseConfig(url))
    yield both
    for database in both:
        database.dispose()


def heard(ear: Ear, lines: int) -> list[str]:
    """At least so many lines."""
    found: list[str] = []
    while len(found) < lines:
        ready, _, _ = select.select([ear], [], [], PATIENCE)
        assert ready, f"only {found}"
        found += ear.hear()
    return found


def say(db: Connection, *said: tuple[str, object]) -> None:
    for subject, value in said:
        announce(db, subject, value)


class TestBoth:
    def test_the_last_of_each_subject_after_the_commit(self, two: tuple[Database, Database]) -> None:
        here, there = two
        ear = there.listen()
        here.write(say, ("mailbox 1", 5), ("list 7", ""), ("mailbox 1", 6), ("renamed 3", "Entw%C3%BCrfe"))
        assert heard(ear, 3) == ["mailbox 1 6", "list 7", "renamed 3 Entw%C3%BCrfe"]
        assert ear.hear() == []
        ear.close()

    def test_not_what_was_taken_back(self, two: tuple[Database, Database]) -> None:
        here, there = two
        ear = there.listen()

        def broken(db: Connection) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            here.write_together([lambda db: say(db, ("list 1", "")), broken])
        here.write(say, ("list 2", ""))
        assert heard(ear, 1) == ["list 2"]
        ear.close()

    def test_not_ones_own(self, two: tuple[Database, Database]) -> None:
        here, there = two
        mine, theirs = here.listen(), there.listen()
        here.write(say, ("list 1", ""))
        there.write(say, ("list 2", ""))
        assert heard(mine, 1) == ["list 2"]
        assert heard(theirs, 1) == ["list 1"]
        mine.close()
        theirs.close()

    def test_thousands_at_once(self, two: tuple[Database, Database]) -> None:
        here, there = two
        ear = there.listen()
        here.write(say, *((f"mailbox {at}", at) for at in range(1500)))
        assert sorted(heard(ear, 1500)) == sorted(f"mailbox {at} {at}" for at in range(1500))
        ear.close()

    def test_outside_a_transaction_of_ours(self, two: tuple[Database, Database]) -> None:
        with two[0].engine.connect() as db:
            announce(db, "list 1")
            assert db.execute(text("SELECT 1")).scalar_one() == 1


class TestPipes:
    @pytest.fixture
    def here(self, tmp_path: Path) -> Database:
        return Database(DatabaseConfig(f"sqlite:///{tmp_path}/a.db"))

    def test_one_who_was_killed_is_forgotten(self, here: Database, tmp_path: Path) -> None:
        ear = Database(DatabaseConfig(f"sqlite:///{tmp_path}/a.db")).listen()
        os.mkfifo(tmp_path / "a.db.peers" / "1-dead")
        here.write(say, ("list 1", ""))
        assert ear.hear() == ["list 1"]
        assert not (tmp_path / "a.db.peers" / "1-dead").exists()
        ear.close()
        assert os.listdir(tmp_path / "a.db.peers") == []
        here.write(say, ("list 2", ""))

    def test_one_who_does_not_listen_looks_at_everything(self, here: Database, tmp_path: Path) -> None:
        ear = Database(DatabaseConfig(f"sqlite:///{tmp_path}/a.db")).listen()
        for at in range(60):
            here.write(say, *((f"mailbox {at * 1000 + more}", 123_456_789) for more in range(100)))
        lines = ear.hear()
        assert lines[-1] == EVERYTHING
        assert len(lines) < 60 * 100
        assert {line.split()[0] for line in lines} == {"mailbox", EVERYTHING}
        here.write(say, ("list 2", ""))
        assert ear.hear() == ["list 2"]
        ear.close()

    def test_a_pipe_that_cannot_be(self, here: Database, tmp_path: Path) -> None:
        (tmp_path / "a.db.peers").write_text("in the way")
        with pytest.raises(OSError, match=r"peers"):
            here.listen()
        here.write(say, ("list 2", ""))
        with pytest.raises(OSError, match="memory"):
            Database(DatabaseConfig("sqlite://")).listen()

    def test_a_folder_that_nobody_else_reads(self, here: Database, tmp_path: Path) -> None:
        ear = here.listen()
        assert isinstance(ear, PipeEar)
        folder = tmp_path / "a.db.peers"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [pipe.stat().st_mode & 0o777 for pipe in folder.iterdir()] == [0o600]
        ear.close()


def test_chunks() -> None:
    lines = ["x" * 1000, "y" * 3000, "z" * 5000, "w"]
    assert list(chunks(lines, MOST)) == [b"x" * 1000 + b"\n" + b"y" * 3000 + b"\n" + b"*\nw\n"]
    assert list(chunks([], MOST)) == []
    assert [len(chunk) for chunk in chunks(["a" * 99] * 100, 1000)] == [1000] * 10
