"""Directories that agreed with the index are not read again until they change, not even by the next process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailstack.store import maildir, surveying
from mailstack.store.maildir import list_names
from mailstack.store.rebuild import rebuild_user
from mailstack.store.rows import box_by_name
from tests.store.harness import Harness, now, text


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories that were read, one after the other; every mailbox is large, every change long ago."""
    read: list[str] = []

    def names(mailbox: Path, directory: str) -> set[str]:
        read.append(directory)
        return list_names(mailbox, directory)

    monkeypatch.setattr(maildir, "list_names", names)
    monkeypatch.setattr(surveying, "NOTED", 1)
    monkeypatch.setattr(surveying, "_SETTLED", -(10**18))
    return read


def surveyed(harness: Harness) -> str | None:
    return harness.database.read(lambda db: box_by_name(db, 1, "INBOX", False).surveyed)


def change(directory: Path, action: Callable[[], Any]) -> None:
    """Change a directory, and let its time show it: within one tick of the clock it does not."""
    before = os.stat(directory).st_ctime_ns
    action()
    while os.stat(directory).st_ctime_ns == before:
        (directory / ".tick").touch()
        (directory / ".tick").unlink()


def drop(directory: Path, name: str = "1.foreign.host") -> None:
    change(directory, lambda: (directory / name).write_bytes(text(9)))


def rename(harness: Harness, uid: int, letters: str) -> None:
    cur = harness.path() / "cur"
    [name] = [path.name for path in cur.iterdir() if f",U={uid}:" in path.name]
    change(cur, lambda: os.rename(cur / name, cur / f"{name.partition(':2,')[0]}:2,{letters}"))


class TestUnchanged:
    def test_the_next_process_reads_no_directory(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        assert len(harness.contents()) == 3
        assert surveyed(harness)
        listed.clear()
        harness.restart()
        assert len(harness.contents()) == 3
        assert listed == []

    def test_what_is_delivered_makes_only_new_be_read(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        change(harness.path() / "new", lambda: harness.deliver(3))
        for restarts in (False, True):
            listed.clear()
            if restarts:
                change(harness.path() / "new", lambda: harness.deliver(4))
                harness.restart()
            assert len(harness.contents()) == 4 + restarts
            assert set(listed) == {"new"}

    def test_a_small_mailbox_is_not_noted(
        self, harness: Harness, listed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(surveying, "NOTED", 4)
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        assert surveyed(harness) is None
        harness.append(range(1), flags=[r"\Seen"])
        harness.contents()
        assert surveyed(harness)

    def test_it_cannot_be_noted(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(3), flags=[r"\Seen"])

        def fail() -> None:
            raise OSError(28, "No space left on device")

        harness.work.before_commit = fail
        assert len(harness.contents()) == 3
        harness.work.before_commit = None
        assert surveyed(harness) is None

    def test_what_waits_to_be_unlinked_changes_nothing(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([2]))
        for _ in range(2):
            harness.restart()
            assert list(harness.contents()) == [1, 3]


class TestChanged:
    """Right after our own look, by this process and by the next."""

    @pytest.mark.parametrize("restarts", [False, True])
    @pytest.mark.parametrize("directory", ["new", "cur"])
    def test_a_file_is_dropped(
        self, harness: Harness, listed: list[str], directory: str, restarts: bool
    ) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        drop(harness.path() / directory)
        if restarts:
            harness.restart()
        assert harness.contents() == {1: text(0), 2: text(1), 3: text(2), 4: text(9)}
        harness.check()

    @pytest.mark.parametrize("restarts", [False, True])
    def test_a_flag_is_renamed_and_a_file_removed(
        self, harness: Harness, listed: list[str], restarts: bool
    ) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        rename(harness, 2, "FS")
        cur = harness.path() / "cur"
        if restarts:
            harness.restart()
        assert harness.flags()[2] == {r"\Flagged", r"\Seen"}
        [name] = [path for path in cur.iterdir() if ",U=3:" in path.name]
        change(cur, name.unlink)
        if restarts:
            harness.restart()
        assert list(harness.contents()) == [1, 2]
        harness.check()

    def test_in_both_at_once(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        drop(harness.path() / "new")
        rename(harness, 1, "RS")
        harness.restart()
        assert harness.flags()[1] == {r"\Answered", r"\Seen"}
        assert len(harness.contents()) == 4

    def test_it_moves_from_new_to_cur(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(2), flags=[r"\Seen"])
        harness.deliver(2)
        now(harness.store.open(1, "INBOX"))
        path = harness.path()
        [name] = os.listdir(path / "new")
        change(path / "cur", lambda: os.rename(path / "new" / name, path / "cur" / f"{name}:2,S"))
        harness.restart()
        assert harness.flags()[3] == {r"\Seen"}

    def test_its_time_is_set_back(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        cur = harness.path() / "cur"
        before = os.stat(cur)
        drop(cur)
        os.utime(cur, ns=(before.st_atime_ns, before.st_mtime_ns))
        harness.restart()
        assert len(harness.contents()) == 4

    def test_it_is_another_directory(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        path = harness.path()
        os.rename(path / "cur", path / "before")
        (path / "cur").mkdir()
        for each in (path / "before").iterdir():
            if ",U=2:" not in each.name:
                os.rename(each, path / "cur" / each.name)
        harness.restart()
        assert list(harness.contents()) == [1, 3]

    def test_within_the_grain_of_its_time(
        self, harness: Harness, listed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A clock that stands still: nothing that was changed a moment ago is believed, or noted."""
        monkeypatch.setattr(surveying, "_SETTLED", 10**9)
        monkeypatch.setattr(surveying, "_mark", lambda status: str(status.st_ino))
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        (harness.path() / "cur" / "1.foreign.host").write_bytes(text(9))
        assert len(harness.contents()) == 4
        (harness.path() / "new" / "2.foreign.host").write_bytes(text(9))
        assert len(harness.contents()) == 5
        assert surveyed(harness) is None
        harness.restart()
        (harness.path() / "cur" / "3.foreign.host").write_bytes(text(9))
        assert len(harness.contents()) == 6

    def test_a_file_is_missed(self, harness: Harness, listed: list[str]) -> None:
        """Who does not find a file where it should be makes the next look a thorough one."""
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        listed.clear()
        box = now(harness.store.open(1, "INBOX"))
        harness.store._opened.doubted(box.id)
        harness.contents()
        assert set(listed) == {"new", "cur"}

    def test_the_index_is_made_anew(self, harness: Harness, listed: list[str]) -> None:
        harness.append(range(3), flags=[r"\Seen"])
        harness.contents()
        assert surveyed(harness)
        harness.database.write(lambda db: rebuild_user(harness.root, db, 1, "example.org/alice"))
        assert surveyed(harness) is None
        harness.restart()
        assert len(harness.contents()) == 3


class TestLeftInTmp:
    """The thorough look clears tmp/ of what a crash left there."""

    def test_what_nobody_writes_any_more_is_removed(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tmp = self.filled(harness)
        monkeypatch.setattr(maildir, "STALE", -60)
        assert len(harness.contents()) == 2
        assert [path.name for path in tmp.iterdir()] == ["folder"]

    def test_a_message_with_a_date_of_years_ago_is_not_old(self, harness: Harness) -> None:
        """Its file has its INTERNALDATE while it is in tmp/: what moves mail in must not lose it to a look around."""
        tmp = self.filled(harness)
        assert len(harness.contents()) == 2
        assert sorted(path.name for path in tmp.iterdir()) == ["folder", "message"]

    @staticmethod
    def filled(harness: Harness) -> Path:
        harness.append(range(2), flags=[r"\Seen"])
        tmp = harness.path() / "tmp"
        (tmp / "message").write_bytes(b"half a mess")
        (tmp / "folder").mkdir()
        for name in ("message", "folder"):
            os.utime(tmp / name, (0, 0))
        return tmp

    def test_a_message_that_goes_its_way_meanwhile_hinders_nobody(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(2), flags=[r"\Seen"])
        tmp = harness.path() / "tmp"
        (tmp / "1.on-its-way.host").write_bytes(text(9))

        @contextlib.contextmanager
        def listed_and_left(folder: Path) -> Iterator[list[os.DirEntry[str]]]:
            with scandir(folder) as entries:
                found = list(entries)
            for entry in found:
                os.rename(entry.path, harness.path() / "new" / entry.name)
            yield found

        scandir = os.scandir
        monkeypatch.setattr(maildir.os, "scandir", listed_and_left)  # type: ignore[attr-defined]
        assert len(harness.contents()) == 3
