"""What happens between two steps of ours: another program, process or thread comes between, forced, not waited for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete

from mailstack.db import Database, DatabaseConfig
from mailstack.directory.tables import users
from mailstack.mail.message import Message
from mailstack.store import adoption, behind, mailboxes, maildir, reading, rebuild, surveying, undelete
from mailstack.store.rebuild import rebuild_user
from mailstack.store.rows import Box, box_by_id
from mailstack.store.surveying import DOUBT, Survey
from mailstack.store.values import Delivered, Expunged, NoSuchMailbox, Parcel
from tests.store.harness import Crash, Harness, now, text


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """A store on SQLite: what races here are files."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    database = Database(DatabaseConfig(f"sqlite:///{tmp_path / 'test.db'}"))
    yield Harness(database, tmp_path)
    database.dispose()


def rename(harness: Harness, uid: int, letters: str, mailbox: str = "INBOX") -> str:
    """Another program changes the flags in a file's name; its new path."""
    name = next(name for name in harness.files(mailbox) if f",U={uid}" in name)
    path = f"cur/{maildir.base_of(name)}:2,{letters}"
    os.rename(harness.path(mailbox) / name, harness.path(mailbox) / path)
    return path


def once(function: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, its first result passed through `then`."""
    done: list[bool] = []

    def run(*args: Any, **options: Any) -> Any:
        found = function(*args, **options)
        if done:
            return found
        done.append(True)
        return then(found)

    return run


class TestListing:
    """A file that is renamed while its directory is read may be seen under neither name."""

    @pytest.fixture
    def missed(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Harness:
        harness.append(range(3))
        assert len(harness.contents()) == 3
        rename(harness, 2, "F")

        def without(files: dict[str, str]) -> dict[str, str]:
            return {base: path for base, path in files.items() if ",U=2" not in base}

        monkeypatch.setattr(maildir, "list_files", once(maildir.list_files, without))
        return harness

    def test_it_keeps_its_uid(self, missed: Harness) -> None:
        assert sorted(missed.contents()) == [1, 2, 3]
        assert missed.flags()[2] == {r"\Flagged"}
        missed.check()

    def test_it_is_found(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        harness.append(range(1))
        harness.contents()
        path = rename(harness, 1, "F")
        monkeypatch.setattr(os, "listdir", once(os.listdir, lambda names: []))
        assert maildir.find(harness.path(), maildir.base_of(path)) == path


class TestExpunged:
    """An expunged message does not come back, and what somebody puts back is not taken away."""

    def renaming(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """Message 1 is expunged; its file is renamed twice, the second time when it has just been found."""
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1]))
        rename(harness, 1, "F")
        find = once(maildir.find, lambda found: (rename(harness, 1, "FS"), found)[1])
        monkeypatch.setattr(maildir, "find", find)
        monkeypatch.setattr("mailstack.store.behind.find", find, raising=False)

    def test_its_file_is_renamed_while_it_is_unlinked(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(2))
        self.renaming(harness, monkeypatch)
        harness.upkeep()
        harness.settle_clock()
        assert harness.contents() == {2: text(1)}
        assert len(harness.files()) == 1

    def test_its_file_is_renamed_while_it_is_put_aside(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.restart(keep_expunged=1)
        harness.append(range(2))
        self.renaming(harness, monkeypatch)
        harness.upkeep()
        harness.settle_clock()
        assert harness.contents() == {2: text(1)}
        assert len(maildir.list_kept(harness.path())) == 1
        assert harness.database.read(undelete.count_kept, 1, "INBOX", 0) == 1

    def test_another_process_was_quicker_to_put_it_aside(self, harness: Harness) -> None:
        [uid] = harness.append(range(1))
        [path] = harness.files()
        kept = maildir.keep(harness.path(), path)
        assert kept is not None
        assert maildir.keep(harness.path(), path) == kept
        assert maildir.keep(harness.path(), f"cur/1.x,U={uid}:2,") is None

    def test_it_came_and_went_between_a_look_and_what_follows_from_it(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(2))
        path = next(name for name in harness.files() if ",U=1" in name)
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1]))
        with monkeypatch.context() as patched:
            patched.setattr(surveying, "survey", lambda *args: Survey(DOUBT, (path,)))
            now(harness.store._opened.scan(box.id))
        assert harness.contents() == {2: text(1)}
        harness.upkeep()
        assert len(harness.files()) == 1

    def test_a_delivery_that_somebody_puts_back(self, harness: Harness) -> None:
        """From a backup, say: its delivery is known and expunged, but it is no repeat."""
        harness.deliver(1)
        assert harness.contents() == {1: text(1)}
        [name] = harness.files()
        data = (harness.path() / name).read_bytes()
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        harness.upkeep()
        (harness.path() / name).write_bytes(data)
        harness.settle_clock()
        assert harness.contents() == {2: text(1)}
        harness.check()

    def test_a_file_that_was_put_aside_and_somebody_puts_back(self, harness: Harness) -> None:
        harness.restart(keep_expunged=1)
        harness.append(range(1))
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1]))
        harness.upkeep()
        [name] = maildir.list_kept(harness.path())
        os.rename(
            harness.path() / maildir.KEPT / name, harness.path() / "cur" / f"{name.partition(':2,')[0]}:2,"
        )
        harness.restart(keep_expunged=0)
        harness.upkeep()
        assert harness.contents() == {2: text(0)}
        harness.check()


class TestDeleted:
    """A mailbox, or a user, that is removed while somebody looks."""

    def test_a_mailbox_that_is_deleted_while_its_directory_is_looked_at(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(1), "Archive")
        path = harness.path("Archive")

        def remove(box: Box) -> Box:
            now(harness.store.delete(1, "Archive"))
            harness.upkeep()
            return box

        monkeypatch.setattr(surveying, "box_by_id", once(box_by_id, remove))
        with pytest.raises(NoSuchMailbox):
            now(harness.store.open(1, "Archive"))
        assert not path.exists()

    def test_one_that_is_made_again_before_a_second_process_removes_it(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which had learned of it in time, and then was slow."""
        harness.append(range(1), "Archive")
        now(harness.store.delete(1, "Archive"))
        remove = behind.remove_directories

        def late(root: Path, paths: list[str]) -> list[str]:
            done = remove(root, paths)  # by the first process
            harness.database.write(behind.forget_discarded, done)
            now(harness.store.create(1, "Archive"))
            harness.append([7], "Archive")
            assert done
            return remove(root, paths)

        monkeypatch.setattr(behind, "remove_directories", late)
        harness.upkeep()
        assert harness.contents("Archive") == {1: text(7)}
        assert harness.path("Archive").name == ".Archive"

    def test_it_is_removed_after_a_crash_all_the_same(self, harness: Harness) -> None:
        harness.append(range(1), "Archive")
        maildir_of_alice = harness.path()
        before = {*os.listdir(maildir_of_alice)} - {".Archive"}
        now(harness.store.delete(1, "Archive"))

        def crash() -> None:
            raise Crash

        harness.work.before_commit = crash
        with pytest.raises(Crash):
            now(harness.work.transaction(behind.set_aside, harness.root))
        harness.database.dispose()
        harness.restart()
        assert {*os.listdir(maildir_of_alice)} - before == {"mailstack-removed-1.Archive"}
        harness.upkeep()
        assert {*os.listdir(maildir_of_alice)} == before
        assert harness.database.read(behind.discarded_paths) == []

    def test_many_of_one_name(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        """While nothing can be removed from the disk."""
        now(harness.store.provision(1))
        before = {*os.listdir(harness.path())} - {".Archive"}
        with monkeypatch.context() as patched:
            patched.setattr(behind, "remove_directories", lambda root, paths: [])
            for _ in range(3):
                now(harness.store.delete(1, "Archive"))
                harness.upkeep()
                now(harness.store.create(1, "Archive"))
        assert len(harness.database.read(behind.discarded_paths)) == 3
        harness.upkeep()
        assert {*os.listdir(harness.path())} - {".Archive"} == before
        assert harness.contents("Archive") == {}

    def test_its_directory_is_not_made_again(self, harness: Harness) -> None:
        harness.append(range(1), "Archive")
        path = harness.path("Archive")
        now(harness.store.delete(1, "Archive"))
        harness.upkeep()
        with pytest.raises(FileNotFoundError):
            maildir.remove_stale(path)
        assert not path.exists()

    def test_one_that_is_deleted_while_it_is_loaded_is_not_opened(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(1), "Archive")

        def remove(loaded: reading.Loaded) -> reading.Loaded:
            now(harness.store.delete(1, "Archive"))
            return loaded

        monkeypatch.setattr(reading, "load", once(reading.load, remove))
        with pytest.raises(NoSuchMailbox):
            now(harness.store.open(1, "Archive"))
        assert not harness.store._opened._open

    def test_one_that_is_made_anew_is_opened_as_it_is_now(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(2))

        def remake(found: Any) -> Any:
            harness.database.write(lambda db: rebuild_user(harness.root, db, 1, "example.org/alice"))
            return found

        monkeypatch.setattr(surveying, "survey", once(surveying.survey, remake))
        assert harness.contents() == {1: text(0), 2: text(1)}

    def test_a_message_whose_mailbox_goes_while_its_file_is_searched(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(1), "Archive")
        box = now(harness.store.open(1, "Archive"))
        rename(harness, 1, "F", "Archive")
        find = maildir.find

        def delete_and_find(mailbox: Path, base: str) -> str | None:
            now(harness.store.delete(1, "Archive"))
            harness.upkeep()
            return find(mailbox, base)

        monkeypatch.setattr(maildir, "find", delete_and_find)
        with pytest.raises(Expunged):
            now(box.body(1))

    def test_who_is_removed_keeps_nobody_from_their_mail(self, harness: Harness) -> None:
        for user in (1, 2):
            harness.deliver(0, user=user)

        def remove(db: Connection) -> None:
            mailboxes.discard_user(db, 2)
            db.execute(delete(users).where(users.c.id == 2))

        harness.database.write(remove)
        harness.upkeep()
        parcels = [Parcel(user, "INBOX", Message.of(text(1)), "d") for user in (1, 2)]
        one, other = now(harness.store.deliver(parcels))
        assert isinstance(one, Delivered)
        assert isinstance(other, NoSuchMailbox)
        assert now(harness.store.shared_mailboxes(2)) == []
        assert now(harness.store.rights_in(2, one.mailbox_id)) == ""


def test_a_file_that_is_renamed_again_when_it_was_found(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.append(range(1))
    box = now(harness.store.open(1, "INBOX"))
    rename(harness, 1, "F")
    again = once(maildir.find, lambda found: (rename(harness, 1, "FS"), found)[1])
    monkeypatch.setattr(maildir, "find", again)
    assert now(box.body(1)) == text(0)


def test_a_file_that_is_renamed_while_it_gets_its_line_ends(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be there twice, and come back once it is expunged."""
    now(harness.store.provision(1))
    dropped = harness.path() / "cur" / "1.a.b:2,"
    dropped.write_bytes(b"Subject: x\n\nbody\n")
    rename_file = os.rename

    def raced(source: Path, target: Path) -> None:
        if target == dropped and target.exists():
            rename_file(target, f"{target}S")
        rename_file(source, target)

    monkeypatch.setattr(os, "rename", raced)
    harness.contents()
    monkeypatch.undo()
    harness.settle_clock()
    assert list(harness.contents().values()) == [b"Subject: x\r\n\r\nbody\r\n"]
    assert len(os.listdir(harness.path() / "cur")) == 1
    harness.check()


def test_what_is_said_of_a_lost_file_tells_no_path(harness: Harness) -> None:
    harness.append(range(1))
    box = now(harness.store.open(1, "INBOX"))
    [name] = harness.files()
    os.unlink(harness.path() / name)
    with pytest.raises(Expunged) as refused:
        now(box.copy([1], "Trash"))
    assert "/" not in str(refused.value)


class TestRebuild:
    """An index made anew while the server and other programs go on."""

    def rebuild(self, harness: Harness) -> None:
        harness.database.write(lambda db: rebuild_user(harness.root, db, 1, "example.org/alice"))
        harness.restart()

    def test_a_mailbox_that_was_just_deleted_does_not_come_back(self, harness: Harness) -> None:
        harness.append(range(1), "Archive")
        path = harness.path("Archive")
        now(harness.store.delete(1, "Archive"))
        self.rebuild(harness)
        assert "Archive" not in [box.name for box in now(harness.store.mailboxes(1))]
        harness.upkeep()
        assert not path.exists()
        harness.check()

    def test_a_message_that_was_just_expunged_does_not_come_back(self, harness: Harness) -> None:
        harness.append(range(2))
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        self.rebuild(harness)
        assert harness.contents() == {2: text(1)}
        harness.upkeep()
        assert len(harness.files()) == 1
        harness.check()

    def test_a_file_that_is_renamed_before_it_is_read_keeps_its_uid(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(3))

        def examine(mailbox: Path, paths: list[str]) -> Any:
            monkeypatch.setattr(rebuild, "examine", adoption.examine)
            rename(harness, 2, "F")
            return adoption.examine(mailbox, paths)

        monkeypatch.setattr(rebuild, "examine", examine)
        self.rebuild(harness)
        assert harness.contents() == {1: text(0), 2: text(1), 3: text(2)}
        assert harness.flags()[2] == {r"\Flagged"}
        harness.check()

    def test_a_file_that_is_renamed_before_it_gets_its_uid(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(1))
        cur = harness.path() / "cur"
        (cur / "1.a.b:2,").write_bytes(text(8))

        def renamed(found: Any) -> Any:
            os.rename(cur / "1.a.b:2,", cur / "1.a.b:2,S")
            return found

        monkeypatch.setattr(rebuild, "examine", once(adoption.examine, renamed))
        self.rebuild(harness)
        assert sorted(harness.contents().values()) == [text(0), text(8)]
        harness.check()

    def test_what_was_kept_is_unlinked_meanwhile(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(range(1))
        monkeypatch.setattr(maildir, "list_kept", lambda mailbox: ["1.gone,S=3,U=7:2,"])
        self.rebuild(harness)
        assert harness.contents() == {1: text(0)}


def test_another_program_renames_all_of_a_file(harness: Harness) -> None:
    """As mbsync does, which numbers files with ,U= in its own way."""
    for number in (1, 2):
        harness.deliver(number)
    assert len(harness.contents()) == 2
    name = next(name for name in harness.files() if name.endswith(",U=2"))
    os.rename(harness.path() / name, harness.path() / name.replace(",U=2", ",U=7"))
    harness.settle_clock()
    assert sorted(harness.contents().values()) == [text(1), text(2)]
    harness.check()
