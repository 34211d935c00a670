"""What has to be durable before the next step is taken: a power cut in between must not undo the first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from mailstack.db import Database, DatabaseConfig
from mailstack.store import behind, maildir
from mailstack.store.tables import expunged
from tests.store.harness import Harness, now


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """A store on SQLite: what counts here are files."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    database = Database(DatabaseConfig(f"sqlite:///{tmp_path / 'test.db'}"))
    yield Harness(database, tmp_path)
    database.dispose()


def buried(harness: Harness) -> list[str | None]:
    """What the index knows of the files of expunged messages."""
    query = select(expunged.c.name).order_by(expunged.c.id)
    return list(harness.database.read(lambda db: db.execute(query).scalars().all()))


def failing(wanted: Callable[[Path], bool]) -> Callable[[Path], None]:
    def fsync(directory: Path) -> None:
        if wanted(directory):
            raise OSError(5, "Input/output error", str(directory))

    return fsync


class TestExpunged:
    """A file that comes back after its name was forgotten would be a new message."""

    @pytest.mark.parametrize("place", ["new", "cur"])
    def test_the_name_is_forgotten_once_the_file_is_gone_for_good(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        harness.append([0], flags=["\\Seen"] if place == "cur" else [])
        [path] = harness.files()
        assert path.startswith(place)
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        with monkeypatch.context() as context:
            context.setattr(behind, "fsync_directory", failing(lambda directory: directory.name == place))
            harness.upkeep()
        assert harness.files() == []
        assert buried(harness) == [path]
        harness.upkeep()  # it is nowhere; that this is durable is seen to all the same
        assert buried(harness) == [None]

    def test_it_is_nowhere_since_a_crash(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        harness.append([0])
        [path] = harness.files()
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        (harness.path() / path).unlink()
        synced: list[str] = []
        monkeypatch.setattr(behind, "fsync_directory", lambda directory: synced.append(directory.name))
        harness.upkeep()
        assert synced == ["cur", "new"]
        assert buried(harness) == [None]

    def test_many_of_one_mailbox_cost_one_fsync(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(20))
        now(now(harness.store.open(1, "INBOX")).expunge(range(1, 21)))
        synced: list[str] = []
        monkeypatch.setattr(behind, "fsync_directory", lambda directory: synced.append(directory.name))
        harness.upkeep()
        assert synced == ["new"]

    def test_the_whole_mailbox_is_gone(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        harness.append([0])
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        graves = harness.database.read(behind.graves, harness.root, 10)
        harness.path().rename(harness.root / "elsewhere")
        assert behind.unlink(graves) == [grave[0] for grave in graves]
        assert behind.keep(graves) == [(grave[0], None) for grave in graves]


class TestKept:
    @pytest.mark.parametrize("place", [maildir.KEPT, "Maildir"])
    def test_it_counts_as_kept_once_it_is_there_for_good(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        harness.restart(keep_expunged=1)
        harness.append([0])
        [path] = harness.files()
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        with monkeypatch.context() as context:
            context.setattr(behind, "fsync_directory", failing(lambda directory: directory.name == place))
            harness.upkeep()
        assert buried(harness) == [path]
        harness.upkeep()
        assert buried(harness) == [f"{maildir.KEPT}/{path.partition('/')[2]}"]
        assert len(maildir.list_kept(harness.path())) == 1


def test_the_folder_of_the_store_may_lie_where_we_cannot_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = tmp_path / "theirs" / "mail" / "example.org" / "alice" / "Maildir"
    synced: list[Path] = []

    def fsync(directory: Path) -> None:
        synced.append(directory)
        if directory.name == "theirs":
            raise PermissionError(13, "Permission denied", str(directory))

    monkeypatch.setattr(maildir, "fsync_directory", fsync)
    maildir.make_mailbox(mailbox)
    assert synced == [mailbox, *list(mailbox.parents)[:4]]
