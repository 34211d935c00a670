"""Mail in, read, flagged, expunged, copied, moved: the store's contract, on both databases."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from mailstack.db import engine as engine_module
from mailstack.mail.message import Message, Stored
from mailstack.store import maildir as maildir_module
from mailstack.store.facts import compute_facts
from mailstack.store.values import (
    Delivered,
    Expunged,
    Facts,
    New,
    NoSuchMailbox,
    OverQuota,
    Parcel,
    TooMany,
    Usage,
)
from tests.store.harness import Harness, now, text


class TestDelivery:
    def test_it_lies_in_new_and_can_be_read(self, harness: Harness) -> None:
        outcome = harness.deliver(7)
        assert outcome.uid == 1
        assert not outcome.repeated
        [file] = harness.files()
        assert file.startswith("new/")
        assert f",S={len(text(7))},U=1" in file
        assert (harness.path() / file).read_bytes() == text(7)
        assert harness.contents() == {1: text(7)}
        assert os.listdir(harness.path() / "tmp") == []
        harness.check()

    def test_the_same_delivery_again_is_done_once(self, harness: Harness) -> None:
        first = harness.deliver(1, delivery="queue-1 alice")
        again = harness.deliver(1, delivery="queue-1 alice")
        assert again == Delivered(first.mailbox_id, first.uidvalidity, first.uid, repeated=True)
        other = harness.deliver(1, delivery="queue-2 alice")
        assert (other.uid, other.repeated) == (2, False)
        assert len(harness.files()) == 2
        assert os.listdir(harness.path() / "tmp") == []
        harness.check()

    def test_twice_in_one_call_is_done_once(self, harness: Harness) -> None:
        parcels = [Parcel(1, "INBOX", Message.of(text()), "same")] * 2
        first, second = now(harness.store.deliver(parcels))
        assert isinstance(first, Delivered)
        assert isinstance(second, Delivered)
        assert (first.repeated, second.repeated) == (False, True)
        assert first.uid == second.uid

    def test_a_repeat_is_recognised_after_an_expunge(self, harness: Harness) -> None:
        uid = harness.deliver(1, delivery="x").uid
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([uid]))
        assert harness.deliver(1, delivery="x").repeated
        assert harness.contents() == {}

    def test_one_message_for_many_users(self, harness: Harness) -> None:
        parcels = [Parcel(user, "INBOX", Message.of(text(1)), "m1") for user in (1, 2, 3)]
        one, two, three = now(harness.store.deliver(parcels))
        assert isinstance(one, Delivered)
        assert isinstance(two, Delivered)
        assert isinstance(three, NoSuchMailbox)
        assert harness.contents(user=2) == {1: text(1)}

    def test_each_parcel_has_its_own_outcome(self, harness: Harness) -> None:
        message = Message.of(text(1))
        parcels = [
            Parcel(1, "INBOX", message, "a"),
            Parcel(1, "Nowhere", message, "a"),
            Parcel(2, "INBOX", message, "a", quota=(10, None)),
            Parcel(1, "Junk", message, "a", frozenset({r"\Seen", "$Junk"})),
        ]
        one, two, three, four = now(harness.store.deliver(parcels))
        assert isinstance(one, Delivered)
        assert isinstance(two, NoSuchMailbox)
        assert isinstance(three, OverQuota)
        assert isinstance(four, Delivered)
        assert harness.flags("Junk") == {1: {r"\Seen", "$Junk"}}
        assert harness.letters("Junk") == ["Sa"]
        for mailbox in ("INBOX", "Junk"):
            assert os.listdir(harness.path(mailbox) / "tmp") == []
        assert os.listdir(harness.path("INBOX", 2) / "tmp") == []
        harness.check()

    def test_the_message_limit(self, harness: Harness) -> None:
        harness.deliver(1, quota=(None, 2))
        harness.deliver(2, quota=(None, 2))
        [refused] = now(harness.store.deliver([Parcel(1, "INBOX", Message.of(text()), "c", quota=(None, 2))]))
        assert isinstance(refused, OverQuota)
        assert now(harness.store.usage(1)) == Usage(2 * len(text(1)), 2)

    def test_a_long_message_comes_from_a_file(self, harness: Harness, tmp_path: Path) -> None:
        data = text(1, 3 * 1024 * 1024)
        spool = tmp_path / "spool"
        spool.write_bytes(b"junk" + data)
        message = Message((Stored(spool, 4, len(data)),)).prefixed(b"Received: x\r\n")
        [outcome] = now(harness.store.deliver([Parcel(1, "INBOX", message, "long")]))
        assert isinstance(outcome, Delivered)
        assert harness.contents() == {1: b"Received: x\r\n" + data}
        box = now(harness.store.open(1, "INBOX"))
        [facts] = now(box.facts([1], frozenset({"header_size", "envelope"})))
        assert facts == Facts(
            envelope=compute_facts(b"Received: x\r\n" + data).envelope,
            header_size=13 + data.index(b"\r\n\r\n") + 4,
        )
        assert now(box.body(1, 5, 10)) == (b"Received: x\r\n" + data)[5:15]

    def test_a_spool_file_that_is_too_short_is_an_error(self, harness: Harness, tmp_path: Path) -> None:
        (tmp_path / "spool").write_bytes(b"abc")
        message = Message((Stored(tmp_path / "spool", 0, 10),))
        [outcome] = now(harness.store.deliver([Parcel(1, "INBOX", message, "short")]))
        assert isinstance(outcome, OSError)
        assert harness.contents() == {}

    def test_a_full_disk_refuses_all_of_one_call(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness.deliver(0)
        written = maildir_module._write_all
        left = [2]

        def full(descriptor: int, data: bytes) -> None:
            left[0] -= 1
            if left[0] == 0:
                written(descriptor, data[:10])
                raise OSError(errno.ENOSPC, "No space left on device")
            written(descriptor, data)

        monkeypatch.setattr(maildir_module, "_write_all", full)
        parcels = [Parcel(1, "INBOX", Message.of(text(n)), f"p{n}") for n in range(3)]
        outcomes = now(harness.store.deliver(parcels))
        assert [type(outcome) for outcome in outcomes] == [OSError] * 3
        assert os.listdir(harness.path() / "tmp") == []
        monkeypatch.undo()
        assert harness.contents() == {1: text(0)}
        assert [o.uid for o in now(harness.store.deliver(parcels)) if isinstance(o, Delivered)] == [2, 3, 4]
        harness.check()

    def test_bytes_then_directory_then_row(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        now(harness.store.provision(1))
        harness.deliver(0)  # reserves UIDs
        steps: list[str] = []
        rename, say = os.rename, engine_module._say

        def fsync(descriptor: int) -> None:
            steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "bytes")

        def renamed(source: Path, target: str) -> None:
            steps.append(f"rename to {Path(target).parent.name}")
            rename(source, target)

        def said(driver: Any, statement: str) -> None:
            say(driver, statement)
            if statement == "COMMIT":
                steps.append("commit")

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", renamed)
        event.listen(harness.database.engine, "commit", lambda db: steps.append("commit"))  # PostgreSQL
        monkeypatch.setattr(engine_module, "_say", said)  # SQLite's writer
        harness.deliver(1)
        assert steps[steps.index("bytes") :] == ["bytes", "rename to new", "directory", "commit"]

    def test_uids_are_reserved_ahead(self, harness: Harness) -> None:
        harness.append(range(3))
        state = (harness.path() / "mailstack-mailbox").read_text()
        reserved = int(state.partition("reserved ")[2].split()[0])
        assert reserved > 1000


class TestAppend:
    def test_flags_dates_and_zone_are_kept(self, harness: Harness) -> None:
        new = New(
            Message.of(text(1)), frozenset({r"\Draft", r"\SEEN", "Work", r"\Recent"}), 1_500_000_000, -90
        )
        appended = now(harness.store.append(1, "Drafts", [new]))
        assert appended.uids == (1,)
        box = now(harness.store.open(1, "Drafts"))
        entry = box.entry(1)
        assert entry is not None
        assert entry.flags == {r"\Draft", r"\Seen", "Work"}
        assert (entry.internal_date, entry.zone, entry.size) == (1_500_000_000, -90, len(text(1)))
        assert box.keywords == ("Work",)
        [file] = harness.files("Drafts")
        assert file.endswith(":2,DSa")
        assert (harness.path("Drafts") / file).stat().st_mtime == 1_500_000_000

    def test_all_or_none(self, harness: Harness) -> None:
        new = [New(Message.of(text(n))) for n in range(3)]
        with pytest.raises(OverQuota):
            now(harness.store.append(1, "INBOX", new, (None, 2)))
        with pytest.raises(NoSuchMailbox):
            now(harness.store.append(1, "Nowhere", new))
        assert harness.contents() == {}
        assert now(harness.store.append(1, "inbox", new, (None, 3))).uids == (1, 2, 3)
        assert os.listdir(harness.path() / "tmp") == []
        harness.check()

    def test_nothing_to_append(self, harness: Harness) -> None:
        assert now(harness.store.append(1, "INBOX", [])).uids == ()

    def test_an_empty_message(self, harness: Harness) -> None:
        now(harness.store.append(1, "INBOX", [New(Message.of(b""))]))
        assert harness.contents() == {1: b""}
        box = now(harness.store.open(1, "INBOX"))
        assert now(box.body(1, 5, 5)) == b""


class TestFlags:
    def test_add_remove_replace(self, harness: Harness) -> None:
        harness.append(range(3))
        box = now(harness.store.open(1, "INBOX"))
        assert now(box.store_flags([1, 2], "add", frozenset({r"\Seen", "A"}))).changed == [1, 2]
        assert now(box.store_flags([1, 2, 3, 9], "add", frozenset({r"\Seen"}))).changed == [3]
        assert now(box.store_flags([2], "remove", frozenset({r"\seen", "none"}))).changed == [2]
        assert now(box.store_flags([3], "replace", frozenset({"a", r"\Flagged"}))).changed == [3]
        assert harness.flags() == {1: {r"\Seen", "A"}, 2: {"A"}, 3: {"A", r"\Flagged"}}
        assert now(harness.store.status(1, "INBOX")).unseen == 2
        harness.check()

    def test_unchanged_since(self, harness: Harness) -> None:
        harness.append(range(3))
        box = now(harness.store.open(1, "INBOX"))
        before = box.highest_modseq
        now(box.store_flags([2], "add", frozenset({"A"})))
        stored = now(box.store_flags([1, 2, 3], "add", frozenset({"B"}), before))
        assert (stored.changed, stored.failed) == ([1, 3], [2])
        assert harness.flags() == {1: {"B"}, 2: {"A"}, 3: {"B"}}
        entry = box.entry(1)
        assert entry is not None
        assert entry.modseq == box.highest_modseq > before

    def test_many_at_once_with_gaps(self, harness: Harness) -> None:
        harness.append(range(40))
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge(list(range(1, 41, 3))))
        odd = [uid for uid in range(1, 41) if uid % 2]
        changed = now(box.store_flags(odd, "add", frozenset({r"\Seen"}))).changed
        assert changed == [uid for uid in odd if uid % 3 != 1]
        every = now(box.store_flags(list(range(1, 41)), "add", frozenset({r"\Seen"}))).changed
        assert every == [uid for uid in range(1, 41) if uid % 2 == 0 and uid % 3 != 1]
        assert now(harness.store.status(1, "INBOX")).unseen == 0
        harness.check()

    def test_keywords_end_somewhere(self, harness: Harness) -> None:
        harness.deliver()
        box = now(harness.store.open(1, "INBOX"))
        now(box.store_flags([1], "add", frozenset(f"k{n}" for n in range(55))))
        with pytest.raises(TooMany):
            now(box.store_flags([1], "add", frozenset({"one-more"})))
        assert len(harness.flags()[1]) == 55
        now(box.store_flags([1], "replace", frozenset({"k3", "not an atom", "x" * 200, r"\Other"})))
        assert harness.flags() == {1: {"k3"}}

    def test_file_names_follow(self, harness: Harness) -> None:
        harness.append(range(3))
        box = now(harness.store.open(1, "INBOX"))
        now(box.store_flags([1, 3], "add", frozenset({r"\Seen", r"\Flagged", "First"})))
        assert harness.letters() == ["", "", ""]
        harness.upkeep()
        assert sorted(harness.letters()) == ["", "FSa", "FSa"]
        assert sorted(file[:4] for file in harness.files()) == ["cur/", "cur/", "new/"]
        assert harness.contents() == {n + 1: text(n) for n in range(3)}
        now(box.store_flags([1], "replace", frozenset()))
        harness.upkeep()
        assert sorted(harness.letters()) == ["", "", "FSa"]
        harness.check()

    def test_messages_that_a_session_saw_leave_new(self, harness: Harness) -> None:
        harness.append(range(2))
        box = now(harness.store.open(1, "INBOX"))
        box.view(read_only=True)
        harness.upkeep()
        assert {file[:4] for file in harness.files()} == {"new/"}
        box.view()
        harness.upkeep()
        assert {file[:4] for file in harness.files()} == {"cur/"}
        assert now(harness.store.status(1, "INBOX")).recent == 0


class TestExpunge:
    def test_rows_at_once_files_later(self, harness: Harness) -> None:
        harness.append(range(4))
        box = now(harness.store.open(1, "INBOX"))
        assert now(box.expunge([2, 4, 9])) == [2, 4]
        assert now(box.expunge([2])) == []
        assert harness.contents() == {1: text(0), 3: text(2)}
        with pytest.raises(Expunged):
            now(box.body(2))
        with pytest.raises(Expunged):
            now(box.stored(4))
        assert now(box.facts([1, 2], frozenset({"header_size"})))[1] is None
        assert len(harness.files()) == 4
        harness.upkeep()
        assert len(harness.files()) == 2
        harness.check()

    def test_a_uid_is_never_given_again(self, harness: Harness) -> None:
        harness.append(range(2))
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([2]))
        harness.restart()
        assert harness.append([5]) == (3,)


class TestCopyAndMove:
    def test_copy(self, harness: Harness) -> None:
        harness.append(range(3), flags=[r"\Seen", "B", "A"])
        harness.append([9], "Archive", flags=["Z"])
        box = now(harness.store.open(1, "INBOX"))
        now(box.store_flags([3], "add", frozenset({r"\Deleted"})))
        copied = now(box.copy([3, 1, 77], "Archive"))
        assert copied.pairs == [(1, 2), (3, 3)]
        assert harness.contents("Archive") == {1: text(9), 2: text(0), 3: text(2)}
        assert harness.flags("Archive") == {
            1: {"Z"},
            2: {r"\Seen", "A", "B"},
            3: {r"\Seen", "A", "B", r"\Deleted"},
        }
        archive = now(harness.store.open(1, "Archive"))
        columns = frozenset({"envelope", "body", "body_structure", "fields", "structure", "header_size"})
        assert now(archive.facts([2, 3], columns)) == now(box.facts([1, 3], columns))
        entry, original = archive.entry(2), box.entry(1)
        assert entry is not None
        assert original is not None
        assert entry.internal_date == original.internal_date
        assert len(harness.contents()) == 3
        harness.check()

    def test_who_has_the_target_open_learns_its_new_keywords(self, harness: Harness) -> None:
        harness.append([1], flags=["A"])
        harness.append([2], flags=["A", "B"])
        harness.append([3])
        archive = now(harness.store.open(1, "Archive"))
        now(now(harness.store.open(1, "INBOX")).copy([1, 2, 3], "Archive"))
        assert set(archive.keywords) == {"A", "B"}
        entries = [archive.entry(uid) for uid in (1, 2, 3)]
        assert [set(entry.flags) for entry in entries if entry] == [{"A"}, {"A", "B"}, set()]
        new = [New(Message.of(text(n)), frozenset(flags)) for n, flags in enumerate(({"C"}, {"A"}, ()))]
        now(harness.store.append(1, "Archive", new))
        assert set(archive.keywords) == {"A", "B", "C"}

    @pytest.mark.parametrize("reason", [errno.EMLINK, errno.EXDEV, errno.EIO])
    def test_where_no_link_can_be_made(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch, reason: int
    ) -> None:
        """The octets are copied; an error of the disk is one."""

        def link(source: str, target: str) -> None:
            raise OSError(reason, "no")

        harness.append([1])
        box = now(harness.store.open(1, "INBOX"))
        monkeypatch.setattr(os, "link", link)
        if reason == errno.EIO:
            with pytest.raises(OSError, match="no"):
                now(box.copy([1], "Archive"))
            assert harness.contents("Archive") == {}
        else:
            assert now(box.copy([1], "Archive")).pairs == [(1, 1)]
            assert harness.contents("Archive") == harness.contents() == {1: text(1)}
        assert os.listdir(harness.path("Archive") / "tmp") == []
        harness.check()

    def test_move(self, harness: Harness) -> None:
        harness.append(range(3))
        box = now(harness.store.open(1, "INBOX"))
        moved = now(box.move([1, 3], "Trash"))
        assert moved.pairs == [(1, 1), (3, 2)]
        assert harness.contents() == {2: text(1)}
        assert harness.contents("Trash") == {1: text(0), 2: text(2)}
        harness.upkeep()
        assert harness.contents("Trash") == {1: text(0), 2: text(2)}
        assert len(harness.files()) == 1
        harness.check()

    def test_into_itself(self, harness: Harness) -> None:
        harness.append(range(2))
        box = now(harness.store.open(1, "INBOX"))
        assert now(box.copy([1], "inbox")).pairs == [(1, 3)]
        assert now(box.move([1, 2], "INBOX")).pairs == [(1, 4), (2, 5)]
        assert harness.contents() == {3: text(0), 4: text(0), 5: text(1)}
        harness.check()

    def test_refusals_change_nothing(self, harness: Harness) -> None:
        harness.append(range(2))
        box = now(harness.store.open(1, "INBOX"))
        with pytest.raises(NoSuchMailbox):
            now(box.copy([1], "Nowhere"))
        with pytest.raises(OverQuota):
            now(box.copy([1, 2], "Trash", (None, 3)))
        for name in harness.files():
            os.unlink(harness.path() / name)
        with pytest.raises(Expunged):
            now(box.copy([1, 2], "Trash"))
        assert harness.contents("Trash") == {}
        assert now(box.copy([7], "Trash")).pairs == []

    def test_a_file_that_another_program_renamed_is_found(self, harness: Harness) -> None:
        harness.append(range(1))
        box = now(harness.store.open(1, "INBOX"))
        [name] = harness.files()
        os.rename(harness.path() / name, harness.path() / "cur" / f"{Path(name).name}:2,FS")
        assert now(box.body(1)) == text(0)
        assert now(box.stored(1)).path.name.endswith("FS")
        assert now(box.copy([1], "Trash")).pairs == [(1, 1)]
        assert harness.contents("Trash") == {1: text(0)}
