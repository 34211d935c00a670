"""What happened since a modseq; what is forgotten; what is put back; ids and previews."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from mailstack.mail.message import Message
from mailstack.store import undelete
from mailstack.store.facts import compute_facts
from mailstack.store.identity import base_subject
from mailstack.store.maildir import KEPT, uid_of
from mailstack.store.message_store import MessageStore
from mailstack.store.preview import plain
from mailstack.store.rebuild import rebuild_user
from mailstack.store.settings import StoreConfig
from mailstack.store.tables import expunged, message_facts
from mailstack.store.values import New, Parcel, Since
from tests.store.harness import Crash, Harness, now, text

DAY = 86_400


def age(harness: Harness, seconds: int) -> None:
    harness.database.write(lambda db: db.execute(update(expunged).values(at=int(time.time()) - seconds)))


def with_settings(harness: Harness, **settings: object) -> None:
    config = StoreConfig(path=harness.root, **settings)  # type: ignore[arg-type]
    harness.store = MessageStore(config, harness.work, harness.clock)  # type: ignore[arg-type]


class TestSince:
    def test_changes_and_expunges(self, harness: Harness) -> None:
        harness.append(range(10))
        box = now(harness.store.open(1, "INBOX"))
        start = box.highest_modseq
        now(box.store_flags([2, 9], "add", frozenset({r"\Seen"})))
        now(box.expunge([3, 4, 5, 8]))
        harness.append([11])
        assert now(box.changes_since(start)) == Since([2, 9, 11], [(3, 5), (8, 8)], True)
        assert now(box.changes_since(box.highest_modseq)) == Since([], [], True)

    def test_the_same_after_a_restart(self, harness: Harness) -> None:
        harness.append(range(5))
        box = now(harness.store.open(1, "INBOX"))
        start = box.highest_modseq
        now(box.expunge([1]))
        modseq = box.highest_modseq
        harness.restart()
        box = now(harness.store.open(1, "INBOX"))
        assert box.highest_modseq == modseq
        assert now(box.changes_since(start)) == Since([], [(1, 1)], True)

    def test_what_is_old_is_forgotten(self, harness: Harness) -> None:
        harness.append(range(6))
        box = now(harness.store.open(1, "INBOX"))
        start = box.highest_modseq
        now(box.expunge([2, 3]))
        middle = box.highest_modseq
        harness.upkeep()
        age(harness, 31 * DAY)
        now(box.expunge([6]))
        harness.upkeep()
        assert now(harness.store.upkeep.prune()) == 2
        assert now(box.changes_since(start)) == Since([], [(2, 3), (6, 6)], False)
        assert now(box.changes_since(middle)) == Since([], [(6, 6)], True)
        assert now(harness.store.upkeep.prune()) == 0

    def test_a_file_still_to_be_unlinked_is_not_forgotten(self, harness: Harness) -> None:
        harness.append(range(2))
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1]))
        age(harness, 31 * DAY)
        assert now(harness.store.upkeep.prune()) == 0
        harness.upkeep()
        assert len(harness.files()) == 1

    def test_too_many_are_forgotten_but_not_their_deliveries(self, harness: Harness) -> None:
        for number in range(6):
            harness.deliver(number, delivery=f"n{number}")
        harness.append([7, 8])
        box = now(harness.store.open(1, "INBOX"))
        start = box.highest_modseq
        for uid in (7, 8, 1, 2, 3):
            now(box.expunge([uid]))
        with_settings(harness, remember_most=2)
        harness.upkeep()
        assert now(harness.store.upkeep.prune()) == 2
        live = now(harness.store.open(1, "INBOX"))
        assert now(live.changes_since(start)).whole is False
        assert now(live.changes_since(live.highest_modseq - 2)) == Since([], [(2, 3)], True)
        assert harness.deliver(1, delivery="n1").repeated

    def test_a_mailbox_that_slept_through_it(self, harness: Harness) -> None:
        """Its own process does not know what was expunged, and the index no longer does."""
        harness.append(range(6))
        box = now(harness.store.open(1, "INBOX"))
        view = box.view()
        asleep, harness.store = (
            harness.store,
            MessageStore(
                StoreConfig(path=harness.root),
                harness.work,  # type: ignore[arg-type]
                harness.clock,
            ),
        )
        other = now(harness.store.open(1, "INBOX"))
        now(other.expunge([2, 5]))
        harness.upkeep()
        age(harness, 31 * DAY)
        now(harness.store.upkeep.prune())
        harness.append([9])
        now(asleep._opened._look_at(box))
        assert view.catch_up(expunges=True).expunged == [5, 2]
        assert list(view.uids) == [1, 3, 4, 6, 7]


class TestPutBack:
    def put_back(self, harness: Harness, since: int = 0) -> list[tuple[int, int]]:
        def run(db: object) -> list[tuple[int, int]]:
            pairs, _, _ = undelete.put_back(db, harness.root, 1, "INBOX", since, int(time.time()))  # type: ignore[arg-type]
            return pairs

        return harness.database.write(run)

    def test_it_comes_back_as_it_was(self, harness: Harness) -> None:
        with_settings(harness, keep_expunged=7)
        harness.append([1, 2], flags=[r"\Seen", r"\Deleted", "$Label1"])
        harness.append([3])
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1, 2]))
        harness.upkeep()
        assert len(harness.files()) == 1
        assert len(os.listdir(harness.path() / KEPT)) == 2
        assert harness.contents() == {3: text(3)}
        harness.check()
        assert self.put_back(harness) == [(1, 4), (2, 5)]
        assert harness.contents() == {3: text(3), 4: text(1), 5: text(2)}
        assert harness.flags()[4] == {r"\Seen", "$Label1"}
        harness.check()
        assert self.put_back(harness) == []
        harness.upkeep()
        assert os.listdir(harness.path() / KEPT) == []
        assert harness.contents() == {3: text(3), 4: text(1), 5: text(2)}

    def test_before_upkeep_moved_the_file(self, harness: Harness) -> None:
        with_settings(harness, keep_expunged=7)
        harness.append([1])
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        assert self.put_back(harness) == [(1, 2)]
        harness.upkeep()
        assert harness.contents() == {2: text(1)}

    def test_one_whose_file_is_gone_stays_gone(self, harness: Harness) -> None:
        with_settings(harness, keep_expunged=7)
        harness.append([1, 2])
        now(now(harness.store.open(1, "INBOX")).expunge([1, 2]))
        harness.upkeep()
        [first, _] = sorted(os.listdir(harness.path() / KEPT), key=lambda name: uid_of(name) or 0)
        (harness.path() / KEPT / first).unlink()
        assert self.put_back(harness) == [(2, 3)]
        assert harness.contents() == {3: text(2)}
        assert self.put_back(harness) == []

    def test_a_transaction_that_fails_leaves_it_to_be_put_back(self, harness: Harness) -> None:
        with_settings(harness, keep_expunged=7)
        harness.append([1])
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        harness.upkeep()

        def crash(db: Connection) -> None:
            undelete.put_back(db, harness.root, 1, "INBOX", 0, int(time.time()))
            raise Crash

        with pytest.raises(Crash):
            harness.database.write(crash)
        assert len(os.listdir(harness.path() / KEPT)) == 1
        with_settings(harness, keep_expunged=7)  # a new start
        assert [old for old, _ in self.put_back(harness)] == [1]
        assert set(harness.contents().values()) == {text(1)}  # a crash costs a duplicate at worst

    def test_only_what_was_expunged_since(self, harness: Harness) -> None:
        with_settings(harness, keep_expunged=7)
        harness.append([1, 2])
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1]))
        age(harness, 3 * DAY)
        now(box.expunge([2]))
        assert self.put_back(harness, int(time.time()) - DAY) == [(2, 3)]

    def test_kept_long_enough(self, harness: Harness) -> None:
        with_settings(harness, keep_expunged=7)
        harness.append([1])
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        harness.upkeep()
        age(harness, 8 * DAY)
        harness.store.upkeep.behind()
        harness.upkeep()
        assert os.listdir(harness.path() / KEPT) == []
        assert self.put_back(harness) == []

    def test_not_kept_unless_asked(self, harness: Harness) -> None:
        harness.append([1])
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        harness.upkeep()
        assert not (harness.path() / KEPT).exists()
        assert self.put_back(harness) == []

    def test_also_after_the_database_is_lost(self, harness: Harness) -> None:
        with_settings(harness, keep_expunged=7)
        harness.append([1, 2])
        now(now(harness.store.open(1, "INBOX")).expunge([1]))
        harness.upkeep()
        home = harness.path().parent.relative_to(harness.root)
        harness.database.write(lambda db: rebuild_user(harness.root, db, 1, str(home)))
        with_settings(harness, keep_expunged=7)
        assert harness.contents() == {2: text(2)}
        [(old, new)] = self.put_back(harness)
        assert old == 1
        assert harness.contents() == {2: text(2), new: text(1)}

    def test_also_after_that_where_nothing_else_is_left(self, harness: Harness) -> None:
        with_settings(harness, keep_expunged=7)
        harness.append([1, 2])
        now(now(harness.store.open(1, "INBOX")).expunge([1, 2]))
        harness.upkeep()
        home = harness.path().parent.relative_to(harness.root)
        harness.database.write(lambda db: rebuild_user(harness.root, db, 1, str(home)))
        with_settings(harness, keep_expunged=7)
        assert [old for old, _ in self.put_back(harness)] == [1, 2]
        assert list(harness.contents().values()) == [text(1), text(2)]


class TestIds:
    COLUMNS = frozenset({"email_id", "thread_id", "preview", "saved"})

    def test_copies_keep_theirs(self, harness: Harness) -> None:
        harness.append([1, 2])
        box = now(harness.store.open(1, "INBOX"))
        [one, two] = now(box.facts([1, 2], self.COLUMNS))
        assert one
        assert two
        assert one.email_id != two.email_id
        assert one.email_id.startswith(b"M")
        assert one.saved > 1_700_000_000
        now(box.copy([1], "Archive"))
        now(box.move([1], "Trash"))
        for name in ("Archive", "Trash"):
            [same] = now(now(harness.store.open(1, name)).facts([1], self.COLUMNS))
            assert same
            assert (same.email_id, same.thread_id) == (one.email_id, one.thread_id)

    def test_old_rows_get_theirs_when_asked(self, harness: Harness) -> None:
        harness.append([1, 2])
        box = now(harness.store.open(1, "INBOX"))
        before = now(box.facts([1, 2], self.COLUMNS))
        nothing = {"email_id": None, "thread_id": None, "preview": None}
        harness.database.write(lambda db: db.execute(update(message_facts).values(nothing)))
        assert now(box.facts([1, 2], self.COLUMNS)) == before
        trips = harness.work.trips
        assert now(box.facts([1, 2], self.COLUMNS)) == before
        assert harness.work.trips == trips + 1

    def test_a_mailbox_keeps_its_id_over_a_rename_and_a_rebuild(self, harness: Harness) -> None:
        made = now(harness.store.create(1, "One"))
        other = now(harness.store.create(1, "Two"))
        assert made.object_id
        assert made.object_id != other.object_id
        now(harness.store.rename(1, "One", "Three"))
        assert now(harness.store.status(1, "Three")).object_id == made.object_id
        home = harness.path().parent.relative_to(harness.root)
        harness.database.write(lambda db: rebuild_user(harness.root, db, 1, str(home)))
        assert now(harness.store.status(1, "Three")).object_id == made.object_id
        box = now(harness.store.open(1, "Three"))
        assert box.object_id == made.object_id

    @pytest.mark.parametrize(
        ("one", "two", "same"),
        [
            (b"Message-ID: <a@x>", b"References: <a@x> <b@x>\r\nMessage-ID: <c@x>", True),
            (b"Message-ID: <a@x>", b"In-Reply-To: Your mail <a@x>\r\nMessage-ID: <c@x>", True),
            (b"References: <a@x>", b"References:\r\n <a@x>\r\n <d@x>", True),
            (b"Subject: Hello", b"Subject: Re: [list] Fwd: hello (fwd)", True),
            (b"Subject: Hello", b"Subject: World", False),
            (b"Message-ID: <a@x>\r\nSubject: Hello", b"Message-ID: <b@x>\r\nSubject: Hello", False),
            (b"X: 1", b"X: 2", False),
        ],
    )
    def test_threads(self, one: bytes, two: bytes, same: bool) -> None:
        threads = [compute_facts(header + b"\r\n\r\ntext\r\n").thread_id for header in (one, two)]
        assert (threads[0] == threads[1]) is same

    @pytest.mark.parametrize("subject", ["Re: " * 50_000, "[" * 100_000, "(fwd)" * 50_000, "Re[" * 50_000])
    def test_a_hostile_subject(self, subject: str) -> None:
        assert len(base_subject(subject)) <= 1_000


class TestPreview:
    def of(self, *lines: bytes) -> str:
        return compute_facts(b"\r\n".join(lines)).preview.decode()

    def test_plain_text(self) -> None:
        assert self.of(b"Subject: x", b"", b"Dear  all,", b"", b"\tplease read.") == "Dear all, please read."

    def test_at_most_200_characters(self) -> None:
        utf8 = b"Content-Type: text/plain; charset=utf-8"
        assert self.of(utf8, b"", "ä".encode() * 1000) == "ä" * 200

    @pytest.mark.parametrize("filling", ["\x00", " ", "\t\r\n", "\xa0", "\u200b"])
    @pytest.mark.parametrize("count", [0, 199, 399, 400, 3_999])
    def test_what_is_not_shown_is_no_reason_to_stop(self, filling: str, count: int) -> None:
        """Only the beginning of a text is looked at, but all of the 200 characters that it has are shown."""
        text = "one" + filling * count + " two " + "three " * 100
        head = b"Content-Type: text/plain; charset=utf-8"
        whole = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        assert self.of(head, b"", text.encode()) == whole[:200].rstrip()

    def test_encoded_text_in_a_multipart(self) -> None:
        assert (
            self.of(
                b"Content-Type: multipart/mixed; boundary=b",
                b"",
                b"--b",
                b"Content-Disposition: attachment",
                b"",
                b"not this",
                b"--b",
                b"Content-Type: text/plain; charset=utf-8",
                b"Content-Transfer-Encoding: quoted-printable",
                b"",
                b"Gr=C3=BC=C3=9Fe",
                b"--b--",
            )
            == "Grüße"
        )

    def test_html(self) -> None:
        page = (
            b"<html><HEAD><title>no</title></head><style>p {}</STYLE><!-- no --><p>A &amp; B<br>C</p></html>"
        )
        assert self.of(b"Content-Type: text/html", b"", page) == "A & B C"

    def test_no_text_at_all(self) -> None:
        assert self.of(b"Content-Type: image/png", b"", b"\x89PNG") == ""
        assert self.of() == ""

    def test_control_characters_are_blanks(self) -> None:
        assert self.of(b"", b"a\0b\x1b[31mc") == "a b [31mc"

    @pytest.mark.parametrize("piece", ["<", "<style", "<style>", "<!--", "<script></", "&", "<p>"])
    def test_hostile_html_ends_soon(self, piece: str) -> None:
        assert len(plain(piece * 50_000)) <= 50_000 * len(piece)

    def test_old_rows_stay_empty_when_the_file_is_lost(self, harness: Harness, tmp_path: Path) -> None:
        harness.append([1])
        box = now(harness.store.open(1, "INBOX"))
        harness.database.write(lambda db: db.execute(update(message_facts).values(email_id=None)))
        for file in harness.files():
            (harness.path() / file).unlink()
        [facts] = now(box.facts([1], frozenset({"preview"})))
        assert facts
        assert facts.email_id == b""


# What is delivered is given back as it was, octet by octet.
AS_IT_CAME = {
    "nothing at all": b"",
    "one octet": b"\n",
    "no header": b"just text\r\n",
    "no body": b"Subject: x\r\n\r\n",
    "no blank line": b"Subject: x\r\n",
    "no final line end": b"Subject: x\r\n\r\nend",
    "NULs": b"Subject: \0x\r\n\r\na\0b\0\0\r\n",
    "bare CR": b"Subject: x\r\rY: z\r\n\r\na\rb\r\r\nc\r",
    "bare LF": b"Subject: x\nY: z\n\nbody\nmore\n",
    "mixed line ends": b"Subject: x\r\nY: z\n\r\nbody\nmore\r\nlast\r",
    "8-bit in header and body": bytes(range(128, 256)) + b"\r\n\r\n" + bytes(range(256)) * 3,
    "dots": b".\r\n..\r\n\r\n.\r\n",
    "From at the start of a line": b"From x\r\n\r\nFrom y\r\n>From z\r\n",
    "white space at the ends": b" \t\r\n\r\n \t",
    "a long line": b"Subject: " + b"x" * 200_000 + b"\r\n\r\n" + b"y" * 200_000,
    "more than is read whole": b"Subject: x\r\n\r\n" + bytes(range(256)) * 5_000,
}


class TestAsItCame:
    @pytest.mark.parametrize("data", AS_IT_CAME.values(), ids=AS_IT_CAME)
    def test_by_delivery_append_copy_and_rebuild(self, harness: Harness, data: bytes) -> None:
        now(harness.store.deliver([Parcel(1, "INBOX", Message.of(data), "d")]))
        now(harness.store.append(1, "INBOX", [New(Message.of(data))]))
        box = now(harness.store.open(1, "INBOX"))
        now(box.copy([1], "Archive"))
        now(box.move([2], "Trash"))
        now(box.store_flags([1], "add", frozenset({r"\Seen"})))
        harness.upkeep()
        for _ in range(2):
            assert harness.contents() == {1: data}
            assert harness.contents("Archive") == {1: data}
            assert harness.contents("Trash") == {1: data}
            harness.check()
            home = str(harness.path().parent.relative_to(harness.root))
            harness.database.write(lambda db, home=home: rebuild_user(harness.root, db, 1, home))
            harness.restart()
            assert now(now(harness.store.open(1, "INBOX")).body(1, 1, 3)) == data[1:4]


class TestBodies:
    def test_many_at_once_in_any_order(self, harness: Harness) -> None:
        harness.append(range(5))
        box = now(harness.store.open(1, "INBOX"))
        trips = harness.work.trips
        wanted = [(4, 0, None), (1, 3, 7), (4, 0, 5), (2, 10_000, 5)]
        found = [text(3), text(0)[3:10], text(3)[:5], b""]
        assert now(box.bodies(wanted)) == found
        assert harness.work.trips == trips + 2
        assert now(box.bodies(wanted)) == found
        assert harness.work.trips == trips + 3
        assert now(box.bodies([])) == []

    def test_what_is_gone_and_what_was_renamed(self, harness: Harness) -> None:
        harness.append(range(4))
        box = now(harness.store.open(1, "INBOX"))
        now(box.bodies([(uid, 0, None) for uid in (1, 2, 3, 4)]))
        now(box.expunge([1]))
        now(box.store_flags([2], "add", frozenset({r"\Seen"})))
        harness.upkeep()  # renames the file of 2
        [third] = [name for name in harness.files() if ",U=3" in name]
        (harness.path() / third).rename(
            harness.path() / "cur" / f"{third.partition('/')[2].partition(':')[0]}:2,F"
        )
        [fourth] = [name for name in harness.files() if ",U=4" in name]
        (harness.path() / fourth).unlink()
        assert now(box.bodies([(uid, 0, None) for uid in (1, 2, 3, 4, 9)])) == [
            None,
            text(1),
            text(2),
            None,
            None,
        ]
