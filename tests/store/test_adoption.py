"""What other programs do to the files is taken over; crashes between the steps lose and double nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailstack.mail.message import Message
from mailstack.store import adoption, surveying
from mailstack.store import rows as rows_module
from mailstack.store.rebuild import rebuild_user
from mailstack.store.statefile import MailboxState
from mailstack.store.surveying import DOUBT, Survey
from mailstack.store.tables import mailboxes, subscriptions, usage
from mailstack.store.values import Delivered, MailboxInfo, New, Parcel
from tests.store.harness import Crash, Harness, now, text


def info(harness: Harness, name: str = "INBOX") -> MailboxInfo:
    return now(harness.store.status(1, name))


class TestForeignFiles:
    def test_a_file_dropped_into_new_appears(self, harness: Harness) -> None:
        harness.deliver(1)
        drop = harness.path() / "new" / "1700000000.M1P2.other"
        drop.write_bytes(text(2))
        os.utime(drop, (1_234_567, 1_234_567))
        assert harness.contents() == {1: text(1), 2: text(2)}
        box = now(harness.store.open(1, "INBOX"))
        entry = box.entry(2)
        assert entry is not None
        assert entry.internal_date == 1_234_567
        [facts] = now(box.facts([2], frozenset({"envelope", "header_size"})))
        assert facts is not None
        assert b"number 2" in facts.envelope
        assert [name for name in harness.files() if name.endswith(",U=2")]
        harness.check()

    def test_an_open_mailbox_hears_of_it(self, harness: Harness) -> None:
        harness.deliver(1)
        box = now(harness.store.open(1, "INBOX"))
        view = box.view()
        told: list[int] = []
        box.watch(lambda: told.append(box.messages))
        (harness.path() / "cur" / "1.x.y:2,FT").write_bytes(text(2))
        harness.store.startService()
        harness.clock.advance(3.0)
        assert told == [2]
        update = view.catch_up(expunges=True)
        assert (update.exists, update.recent) == (2, 2)
        assert harness.flags()[2] == {r"\Flagged", r"\Deleted"}
        harness.store.stopService()
        assert not harness.clock.getDelayedCalls()

    def test_bare_line_feeds_become_crlf(self, harness: Harness) -> None:
        now(harness.store.provision(1))
        new = harness.path() / "new"
        (new / "1.a.host").write_bytes(b"Subject: x\n\nline\r\nlast\n\n")
        (new / "2.b.host,S=5,W=6").write_bytes(b"a: b\n")
        (new / "3.c.host").write_bytes(b"s: \n\n" + b"y" * (256 * 1024 - 6) + b"\r\nz\n")
        assert harness.contents() == {
            1: b"Subject: x\r\n\r\nline\r\nlast\r\n\r\n",
            2: b"a: b\r\n",
            3: b"s: \r\n\r\n" + b"y" * (256 * 1024 - 6) + b"\r\nz\r\n",
        }
        assert os.listdir(harness.path() / "tmp") == []
        harness.check()

    def test_uids_are_reserved_many_at_a_time(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adoption, "ROUND", 5)
        monkeypatch.setattr(rows_module, "RESERVE", 7)
        now(harness.store.provision(1))
        written: list[int] = []
        write = MailboxState.write

        def counted(state: MailboxState, mailbox: Path) -> None:
            written.append(state.reserved)
            write(state, mailbox)

        monkeypatch.setattr(MailboxState, "write", counted)
        for number in range(30):
            (harness.path() / "new" / f"{1_700_000_000 + number}.M1P{number}.other").write_bytes(text(number))
        assert len(harness.contents()) == 30
        assert written == sorted(set(written))
        assert len(written) <= 1 + 30 // 7
        harness.check()

    def test_a_message_of_ours_keeps_its_bare_line_feeds(self, harness: Harness) -> None:
        data = b"a: b\r\n\r\nbare\nfeed"
        now(harness.store.append(1, "INBOX", [New(Message.of(data))]))
        harness.database.write(lambda db: db.execute(rows_module.messages.delete()))
        harness.restart()
        assert harness.contents() == {1: data} or harness.contents() == {2: data}

    def test_flags_in_a_name_are_taken_over(self, harness: Harness) -> None:
        harness.append(range(2))
        box = now(harness.store.open(1, "INBOX"))
        now(box.store_flags([1], "add", frozenset({r"\Flagged", "Ours"})))
        harness.upkeep()
        now(box.store_flags([1], "add", frozenset({r"\Draft"})))  # not yet in the name
        self.rename(harness, ",U=1", "PSa")
        self.rename(harness, ",U=2", "RXb")
        harness.settle_clock()
        assert harness.flags() == {1: {r"\Seen", r"\Draft", "Ours"}, 2: {r"\Answered"}}
        harness.upkeep()
        assert sorted(harness.letters()) == ["DPSa", "RX"]
        assert info(harness).unseen == 1
        harness.settle_clock()
        before = info(harness).highest_modseq
        harness.flags()
        assert info(harness).highest_modseq == before
        harness.check()

    def test_a_move_to_cur_alone_is_no_change(self, harness: Harness) -> None:
        """Else every client that knows CONDSTORE would be told of a MODSEQ that is none."""
        harness.deliver(0)
        view = now(harness.store.open(1, "INBOX")).view()
        before = info(harness).highest_modseq
        [name] = harness.files()
        assert name.startswith("new/")
        os.rename(harness.path() / name, harness.path() / "cur" / (Path(name).name + ":2,"))
        harness.settle_clock()
        assert harness.flags() == {1: set()}
        assert view.catch_up(expunges=True).changed == []
        assert info(harness).highest_modseq == before

    def test_a_file_in_cur_without_flags_part(self, harness: Harness) -> None:
        harness.append(range(1))
        [name] = harness.files()
        os.rename(harness.path() / name, harness.path() / "cur" / Path(name).name)
        (harness.path() / "cur" / "9.z.z").write_bytes(text(9))
        for _ in range(2):
            harness.settle_clock()
            assert harness.contents() == {1: text(0), 2: text(9)}
        assert all(name.endswith(":2,") for name in harness.files())
        harness.check()

    def test_a_vanished_file_is_expunged_and_may_come_back(self, harness: Harness) -> None:
        harness.append(range(3))
        box = now(harness.store.open(1, "INBOX"))
        view = box.view()
        name = next(name for name in harness.files() if name.endswith("U=2"))
        os.rename(harness.path() / name, harness.root / "away")
        harness.settle_clock()
        assert harness.contents() == {1: text(0), 3: text(2)}
        assert view.catch_up(expunges=True).expunged == [2]
        os.rename(harness.root / "away", harness.path() / name)
        harness.settle_clock()
        assert harness.contents() == {1: text(0), 3: text(2), 4: text(1)}
        harness.upkeep()
        assert len(harness.files()) == 3
        harness.check()

    def test_a_delivered_message_moved_away_and_back_by_another_program(self, harness: Harness) -> None:
        harness.deliver(1)
        harness.contents()
        [name] = harness.files()
        os.rename(harness.path() / name, harness.path("Archive") / name)
        harness.settle_clock()
        assert harness.contents() == {}
        assert harness.contents("Archive") == {1: text(1)}
        [name] = harness.files("Archive")
        os.rename(harness.path("Archive") / name, harness.path() / name)
        harness.settle_clock()
        assert harness.contents("Archive") == {}
        assert list(harness.contents().values()) == [text(1)]
        harness.check()

    def test_a_lost_directory_is_an_error_and_expunges_nothing(self, harness: Harness) -> None:
        harness.append(range(2))
        path = harness.path()
        os.rename(path / "new", path / "elsewhere")
        harness.settle_clock()
        with pytest.raises(OSError, match="new"):
            now(harness.store.open(1, "INBOX"))
        os.rename(path / "elsewhere", path / "new")
        assert len(harness.contents()) == 2

    def test_what_is_no_message_is_left_alone(self, harness: Harness) -> None:
        now(harness.store.provision(1))
        new = harness.path() / "new"
        (new / "folder").mkdir()
        (new / ".hidden").write_bytes(text(1))
        os.symlink("/etc/passwd", new / "link")
        (new / "good").write_bytes(text(2))
        assert harness.contents() == {1: text(2)}
        assert {"folder", ".hidden", "link"} <= {*os.listdir(new)}

    def test_hostile_names(self, harness: Harness) -> None:
        now(harness.store.provision(1))
        new = harness.path() / "new"
        for name in (
            "a,U=99999999999",
            "b,U=0,S=x",
            "c,U=5,U=6:2,S",
            ":2,S",
            "x" * 240,
            "d,U=4294967295",
            "1.Daaaaaaaaaaaaaaaaaaaaaaaa.h,U=1",
            os.fsdecode(b"\xff\xfe"),
        ):
            (new / name).write_bytes(text(1))
        assert len(harness.contents()) >= 7
        assert max(harness.contents()) < 100
        harness.check()

    def test_many_are_adopted_in_parts_and_in_order(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(adoption, "ROUND", 60)
        now(harness.store.provision(1))
        for number in range(250):
            (harness.path() / "new" / f"{number:04}.m.host").write_bytes(text(number))
        assert harness.contents() == {number + 1: text(number) for number in range(250)}
        harness.check()

    def test_a_transaction_under_way_is_no_finding(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.append(text(1))
        mailbox_id = now(harness.store.status(1, "INBOX")).id
        looks = [
            Survey(DOUBT, ("cur/a", "cur/b"), frozenset({"x", "y"})),
            Survey(DOUBT, ("cur/b", "cur/c"), frozenset({"y", "z"})),
            Survey(DOUBT, ("cur/a",)),
            Survey(DOUBT, (), frozenset({"x"})),
        ]
        settled: list[Survey] = []

        async def settle(mailbox: int, found: Survey) -> None:
            settled.append(found)

        monkeypatch.setattr(surveying, "survey", lambda *args: looks.pop(0))
        monkeypatch.setattr(harness.store._opened, "_settle", settle)
        now(harness.store._opened.scan(mailbox_id))
        assert settled == [Survey(DOUBT, ("cur/b",), frozenset({"y"}))]
        now(harness.store._opened.scan(mailbox_id))
        assert len(settled) == 1
        assert looks == []

    @staticmethod
    def rename(harness: Harness, uid: str, letters: str) -> None:
        name = next(name for name in harness.files() if uid in name)
        base = Path(name).name.partition(":2,")[0]
        os.rename(harness.path() / name, harness.path() / "cur" / f"{base}:2,{letters}")


class TestCrash:
    def crash_before_commit(self, harness: Harness, delivery: str = "q") -> None:
        def crash() -> None:
            raise Crash

        harness.work.before_commit = crash
        with pytest.raises(Crash):
            now(harness.store.deliver([Parcel(1, "INBOX", Message.of(text(1)), delivery)]))
        harness.database.dispose()
        harness.restart()

    def test_after_write(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        now(harness.store.provision(1))

        def crash(*_: object) -> None:
            raise Crash

        monkeypatch.setattr("mailstack.store.rows._place_files", crash)
        with pytest.raises(Crash):
            now(harness.store.deliver([Parcel(1, "INBOX", Message.of(text(1)), "q")]))
        monkeypatch.undo()
        harness.restart()
        assert harness.contents() == {}
        assert not harness.deliver(1, delivery="q").repeated
        assert harness.contents() == {1: text(1)}

    def test_after_rename_it_is_adopted_and_a_repeat_recognised(self, harness: Harness) -> None:
        harness.deliver(0)
        self.crash_before_commit(harness)
        assert harness.contents() == {1: text(0), 2: text(1)}
        again = harness.deliver(1, delivery="q")
        assert (again.uid, again.repeated) == (2, True)
        assert len(harness.files()) == 2
        harness.check()

    def test_after_rename_the_repeat_comes_first(self, harness: Harness) -> None:
        harness.deliver(0)
        harness.contents()
        self.crash_before_commit(harness)
        harness.deliver(5)
        again = harness.deliver(1, delivery="q")
        assert again.uid == 3
        assert not again.repeated
        assert harness.contents() == {1: text(0), 2: text(5), 3: text(1)}
        assert len(harness.files()) == 3
        harness.check()

    def test_the_repeat_was_expunged_before_anybody_looked(self, harness: Harness) -> None:
        harness.deliver(0)
        box = now(harness.store.open(1, "INBOX"))
        self.crash_before_commit(harness)
        harness.deliver(5)
        uid = harness.deliver(1, delivery="q").uid
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([uid]))
        harness.settle_clock()
        assert harness.contents() == {1: text(0), 2: text(5)}

    def test_an_error_takes_the_file_back(self, harness: Harness) -> None:
        harness.deliver(0)

        def fail() -> None:
            raise OSError(28, "No space left on device")

        harness.work.before_commit = fail
        [outcome] = now(harness.store.deliver([Parcel(1, "INBOX", Message.of(text(1)), "q")]))
        assert isinstance(outcome, OSError)
        harness.work.before_commit = None
        assert len(harness.files()) == 1
        assert os.listdir(harness.path() / "tmp") == []
        assert harness.deliver(1, delivery="q").uid == 2
        harness.check()

    def test_expunged_files_are_not_revived(self, harness: Harness) -> None:
        harness.append(range(2))
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1]))
        harness.restart()  # before the file was unlinked
        assert harness.contents() == {2: text(1)}
        assert len(harness.files()) == 2
        harness.upkeep()
        assert len(harness.files()) == 1
        harness.settle_clock()
        assert harness.contents() == {2: text(1)}

    def test_an_expunged_file_that_was_renamed_is_removed_all_the_same(self, harness: Harness) -> None:
        harness.append(range(2))
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1]))
        TestForeignFiles.rename(harness, ",U=1", "S")
        harness.upkeep()
        harness.settle_clock()
        assert harness.contents() == {2: text(1)}
        assert len(harness.files()) == 1

    def test_renames_behind_the_index_are_resumed(self, harness: Harness) -> None:
        harness.append(range(3))
        box = now(harness.store.open(1, "INBOX"))
        now(box.store_flags([1, 2], "add", frozenset({r"\Seen"})))

        def crash() -> None:
            raise Crash

        harness.work.before_commit = crash
        with pytest.raises(Crash):
            harness.upkeep()  # files renamed, rows not
        harness.database.dispose()
        harness.restart()
        assert harness.flags() == {1: {r"\Seen"}, 2: {r"\Seen"}, 3: set()}
        harness.upkeep()
        assert sorted(harness.letters()) == ["", "S", "S"]
        assert harness.contents() == {n + 1: text(n) for n in range(3)}
        harness.check()

    def test_a_copy_that_crashed(self, harness: Harness) -> None:
        harness.append(range(3))
        box = now(harness.store.open(1, "INBOX"))

        def crash() -> None:
            raise Crash

        harness.work.before_commit = crash
        with pytest.raises(Crash):
            now(box.move([1, 2], "Trash"))
        harness.database.dispose()
        harness.restart()
        assert harness.contents() == {n + 1: text(n) for n in range(3)}
        harness.check()


class TestRebuild:
    def snapshot(self, harness: Harness) -> dict[str, object]:
        found: dict[str, object] = {}
        for box in now(harness.store.mailboxes(1)):
            if box.selectable:
                contents, flags = harness.contents(box.name), harness.flags(box.name)
                found[box.name] = (box.uidvalidity, box.special_use, contents, flags, box.octets, box.unseen)
        found[""] = now(harness.store.subscriptions(1)), now(harness.store.usage(1))
        return found

    def lose(self, harness: Harness) -> None:
        def forget(db: rows_module.Connection) -> None:
            for table in (subscriptions, mailboxes, usage):
                db.execute(table.delete())

        harness.database.write(forget)
        harness.restart()

    def fill(self, harness: Harness) -> dict[str, int]:
        harness.append(range(5), flags=["Work", r"\Flagged"])
        harness.deliver(9, delivery="q9")
        now(harness.store.create(1, "Über/Ärger & Co.", [r"\Important"]))
        harness.append([7, 8], "Über/Ärger & Co.", flags=["$Forwarded", r"\Seen"])
        now(harness.store.rename(1, "Archive", "Old/Archive"))
        harness.append([3], "Old/Archive")
        now(harness.store.delete(1, "Old"))
        now(harness.store.subscribe(1, "Über/Ärger & Co."))
        now(harness.store.unsubscribe(1, "Junk"))
        box = now(harness.store.open(1, "INBOX"))
        box.view()
        now(box.expunge([2, 6]))
        now(box.store_flags([4], "add", frozenset({r"\Answered", "Later"})))
        harness.upkeep()
        return {info.name: info.uidnext for info in now(harness.store.mailboxes(1))}

    def test_everything_is_there_again(self, harness: Harness) -> None:
        uidnext = self.fill(harness)
        before = self.snapshot(harness)
        self.lose(harness)
        now(harness.store.provision(1))
        assert self.snapshot(harness) == before
        for box in now(harness.store.mailboxes(1)):
            assert box.uidnext >= uidnext[box.name]
        assert harness.append([1])[0] > 6  # a UID of an expunged message is not given again
        harness.check()

    def test_by_command_and_again(self, harness: Harness) -> None:
        self.fill(harness)
        before = self.snapshot(harness)
        for _ in range(2):
            harness.database.write(lambda db: rebuild_user(harness.root, db, 1, "example.org/alice"))
            harness.restart()
            assert self.snapshot(harness) == before
        harness.check()

    def test_a_repeat_is_recognised_after_it(self, harness: Harness) -> None:
        harness.deliver(1, delivery="q")
        self.lose(harness)
        assert harness.deliver(1, delivery="q").repeated
        assert harness.contents() == {1: text(1)}

    def test_without_the_text_files_the_mail_is_there(self, harness: Harness) -> None:
        self.fill(harness)
        for path in harness.root.rglob("mailstack-mailbox"):
            path.unlink()
        self.lose(harness)
        assert len(harness.contents()) == 4
        assert len(harness.contents("Über/Ärger & Co.")) == 2
        assert len(harness.contents("Archive")) == 1
        harness.check()

    def test_damaged_text_files(self, harness: Harness) -> None:
        self.fill(harness)
        for number, path in enumerate(sorted(harness.root.rglob("mailstack-mailbox"))):
            path.write_bytes([b"\xff\xfe\x00", b"name ../x\nuidvalidity -1\nreserved x\n", b""][number % 3])
        self.lose(harness)
        assert len(harness.contents()) == 4
        harness.check()

    def test_two_folders_of_one_name(self, harness: Harness) -> None:
        now(harness.store.create(1, "a"))
        harness.append([1], "a")
        now(harness.store.create(1, "b"))
        harness.append([2], "b")
        state = MailboxState.read(harness.path("a"))
        assert state is not None
        state.write(harness.path("b"))
        self.lose(harness)
        assert harness.contents("a") == {1: text(1)}
        assert harness.contents("a~2") == {1: text(2)}

    def test_outcome_types(self, harness: Harness) -> None:
        """The first delivery to a user whose index is lost finds everything."""
        self.fill(harness)
        self.lose(harness)
        [outcome] = now(harness.store.deliver([Parcel(1, "INBOX", Message.of(text(44)), "n")]))
        assert isinstance(outcome, Delivered)
        assert outcome.uid > 6
