"""Whatever happens to the files and the rows: `check` says so, `rebuild` mends it, no message is lost.

Random damage, by seed; more with ``MAILSTACK_MODEL_EXAMPLES=500 MAILSTACK_MODEL_SEED=1000 pytest
tests/store/test_damage.py``. What must hold afterwards is in `Before.holds`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import delete, select

from mailstack.mail.message import Message
from mailstack.store import undelete
from mailstack.store.check import check_user
from mailstack.store.claims import AHEAD, Claims, Known
from mailstack.store.mailboxes import home_of
from mailstack.store.maildir import list_files, list_kept
from mailstack.store.rebuild import rebuild_user
from mailstack.store.statefile import FILE, SUBSCRIPTIONS, MailboxState
from mailstack.store.tables import UID_MASK, mailboxes, messages
from mailstack.store.values import New
from tests.databases import made
from tests.store.harness import Harness, now

EXAMPLES = int(os.environ.get("MAILSTACK_MODEL_EXAMPLES", "5"))
FIRST = int(os.environ.get("MAILSTACK_MODEL_SEED", "1"))
NAMES = ("INBOX", "Work", "Work/Äpfel", "Trash")
KEYWORDS = ("$Label1", "Project", "later")
SUBSCRIBED = "Work/Äpfel"


@dataclass
class Box:
    """A mailbox before the damage."""

    directory: Path
    uidvalidity: int
    highest: int  # the last UID that was given
    bodies: dict[int, bytes]  # also of messages that are gone
    flags: dict[int, set[str]]
    there: set[int]
    vague: set[int] = field(default_factory=set)  # UIDs whose file was touched
    state: bool = True  # its file is as it was


class Damage:
    """A user's mail, and what may befall it."""

    def __init__(self, harness: Harness, r: Random) -> None:
        self.harness, self.r = harness, r
        self.foreign: Counter[bytes] = Counter()
        self.subscriptions = True
        self.boxes = {name: self._fill(number, name) for number, name in enumerate(NAMES)}

    def _fill(self, number: int, name: str) -> Box:
        harness, r = self.harness, self.r
        if name not in ("INBOX", "Trash"):
            now(harness.store.create(1, name))
            now(harness.store.subscribe(1, name))
        bodies: dict[int, bytes] = {}
        for at in range(r.randint(1, 6)):
            data = (
                b"Subject: %d\r\n\r\n%b %d\r\n" % (at, name.encode(), at)
                + r.randbytes(r.choice((0, 9, 90))).hex().encode()
            )
            flags = frozenset(r.sample((r"\Seen", r"\Flagged", *KEYWORDS), r.randint(0, 2)))
            [uid] = now(harness.store.append(1, name, [New(Message.of(data), flags)])).uids
            bodies[uid] = data
        live = now(harness.store.open(1, name))
        live.view()  # somebody has seen what is there: from new/ to cur/
        gone = [uid for uid in bodies if r.random() < 0.3]
        now(live.expunge(gone))
        validity, directory = live.uidvalidity, live.directory
        live.close()
        harness.upkeep()
        there = set(bodies) - set(gone)
        return Box(directory, validity, max(bodies), bodies, harness.flags(name), there)

    # What may happen

    def any_file(self) -> tuple[Box, int, Path] | None:
        box = self.r.choice(list(self.boxes.values()))
        paths = [box.directory / path for path in sorted(list_files(box.directory).values())]
        own = [path for path in paths if ",U=" in path.name]
        if not own:
            return None
        path = self.r.choice(own)
        uid = int(path.name.split(",U=")[1].split(":")[0].split(",")[0])
        if uid not in box.there or path.read_bytes() != box.bodies[uid]:
            return None  # it was put here from elsewhere
        box.vague.add(uid)
        return box, uid, path

    def lost_file(self) -> None:
        if found := self.any_file():
            box, uid, path = found
            path.unlink()
            if not any(
                other.stat().st_ino for other in path.parent.glob(f"{path.name.partition(':2,')[0]}*")
            ):
                box.there.discard(uid)

    def other_flags(self) -> None:
        if found := self.any_file():
            _, _, path = found
            base = path.name.partition(":2,")[0]
            path.rename(path.parent / f"{base}:2,{self.r.choice(('', 'S', 'FT', 'abz', 'x?', 'D:2,S'))}")

    def back_to_new(self) -> None:
        if found := self.any_file():
            box, _, path = found
            path.rename(box.directory / "new" / path.name.partition(":2,")[0])

    def renamed(self) -> None:
        """By somebody who knows nothing of our names."""
        if found := self.any_file():
            _, _, path = found
            path.rename(path.parent / f"{self.r.getrandbits(30)}.by.hand:2,S")

    def copied(self) -> None:
        """A second file of the same name, or a link of another."""
        if found := self.any_file():
            box, uid, path = found
            base = path.name.partition(":2,")[0]
            if self.r.random() < 0.5:
                target = path.parent / f"{base}:2,FRS"
            else:
                target = path.parent / f"{self.r.getrandbits(30)}.copy,U={uid}:2,"
                self.foreign[box.bodies[uid]] += 1
            if not target.exists():
                os.link(path, target)

    def moved(self) -> None:
        """By hand into another mailbox."""
        if found := self.any_file():
            box, uid, path = found
            other = self.r.choice(list(self.boxes.values()))
            if other is not box and not (other.directory / "cur" / path.name).exists():
                path.rename(other.directory / "cur" / path.name)
                other.vague.add(uid)  # two claim it there
                box.there.discard(uid)
                self.foreign[box.bodies[uid]] += 1

    def foreign_file(self) -> None:
        box = self.r.choice(list(self.boxes.values()))
        names: tuple[str | bytes, ...] = (
            "1.foreign", "2.foreign,S=3,U=9:2,S", "3.x,U=4294967295:2,", "4.x,U=0", "5.x,S=99999999999999999999", b"6.\xff\xfe",
            "7." + "x" * 200, "8 with\nnewline:2,FS", ",U=1:2,", ":2,S",
        )  # fmt: skip
        data = b"Subject: foreign %d\r\n\r\n" % self.r.getrandbits(20)
        path = os.path.join(
            os.fsencode(box.directory / self.r.choice(("new", "cur"))), os.fsencode(self.r.choice(names))
        )
        if not os.path.exists(path):
            Path(os.fsdecode(path)).write_bytes(data)
            self.foreign[data] += 1

    def strange_entries(self) -> None:
        """What is no message: a folder, a link that leads nowhere, a pipe, a hidden file."""
        box = self.r.choice(list(self.boxes.values()))
        name = f"{self.r.getrandbits(20)}.odd"
        match self.r.randint(0, 3):
            case 0:
                (box.directory / "cur" / name).mkdir()
            case 1:
                (box.directory / "cur" / name).symlink_to("nowhere")
            case 2:
                os.mkfifo(box.directory / "new" / name)
            case 3:
                (box.directory / "cur" / f".{name}").write_bytes(b"x")

    def state_file(self) -> None:
        box = self.r.choice(list(self.boxes.values()))
        path = box.directory / FILE
        if not path.exists():
            return
        box.state = False
        data = path.read_bytes()
        match self.r.randint(0, 5):
            case 0:
                path.unlink()
            case 1 | 2:
                path.write_bytes(data[: self.r.randrange(len(data))])
            case 3:
                path.write_bytes(self.r.randbytes(200))
            case 4:
                path.write_bytes(b"")
            case 5:  # an old one, from a backup
                path.write_bytes(data.replace(b"\nreserved ", b"\nreserved 1\nold "))

    def subscriptions_lost(self) -> None:
        (self.boxes["INBOX"].directory / SUBSCRIPTIONS).unlink(missing_ok=True)
        self.subscriptions = False

    def foreign_folder(self) -> None:
        """Of another program; with a name that is none of ours."""
        top = self.boxes["INBOX"].directory
        folder = top / self.r.choice(
            (".Other", ".Work.&AOQ-", ".a..b", ".bad&name", "." + "y" * 120, ".INBOX")
        )
        for part in ("cur", "new", "tmp"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        data = b"Subject: in a folder %d\r\n\r\n" % self.r.getrandbits(20)
        (folder / "cur" / f"{self.r.getrandbits(20)}.f:2,S").write_bytes(data)
        self.foreign[data] += 1

    def rows_lost(self) -> None:
        def run(db):  # type: ignore[no-untyped-def]
            ids = list(db.execute(select(messages.c.id)).scalars())
            db.execute(delete(messages).where(messages.c.id.in_(self.r.sample(ids, len(ids) // 2))))

        self.harness.database.write(run)
        for box in self.boxes.values():  # a server that comes first takes them for new mail
            box.vague |= box.there

    def database_lost(self) -> None:
        self.harness.database.write(lambda db: db.execute(delete(mailboxes)))

    def tmp_lost(self) -> None:
        shutil.rmtree(self.r.choice(list(self.boxes.values())).directory / "tmp", ignore_errors=True)

    # Afterwards

    def holds(self) -> None:
        """What is there is all that was; a UID of a UIDVALIDITY never names another message."""
        after: Counter[bytes] = Counter()
        for info in now(self.harness.store.mailboxes(1)):
            if info.selectable:
                after.update(self.harness.contents(info.name).values())
        before = Counter(box.bodies[uid] for box in self.boxes.values() for uid in box.there)
        missing = (before + self.foreign) - after
        assert not missing, f"lost: {missing}"
        names = {info.name: info for info in now(self.harness.store.mailboxes(1))}
        for name, box in self.boxes.items():
            info = names.get(name)
            assert info is not None or not box.state, f"{name} is gone"
            if info is not None and info.uidvalidity == box.uidvalidity:
                self._same_epoch(name, box)
            assert not box.state or (info is not None and info.uidvalidity == box.uidvalidity)
        if self.subscriptions and all(box.state for box in self.boxes.values()):
            assert SUBSCRIBED in now(self.harness.store.subscriptions(1))

    def _same_epoch(self, name: str, box: Box) -> None:
        contents, flags = self.harness.contents(name), self.harness.flags(name)
        for uid, data in contents.items():
            if uid in box.bodies and (box.state or uid in box.there):
                assert data == box.bodies[uid], f"{name}: UID {uid} is another message now"
        if box.state:
            for uid in box.there - box.vague:
                assert contents.get(uid) == box.bodies[uid], f"{name}: UID {uid} is gone"
                assert flags[uid] - {r"\Recent"} == box.flags[uid], f"{name}: UID {uid} has other flags"
        uid = self.harness.append([99], name)[0]
        assert uid > max(box.highest if box.state else 0, *contents, 0)


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Harness]]:
    """The files are the same whatever the database is; none need outlive the machine."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    stack = contextlib.ExitStack()

    def make(seed: int) -> Harness:
        folder = tmp_path / str(seed)
        folder.mkdir()
        harness = Harness(stack.enter_context(made("sqlite")).database, folder)
        harness.restart(keep_expunged=7, index=False)
        now(harness.store.provision(1))
        return harness

    with stack:
        yield make


KINDS = (
    "lost_file", "other_flags", "back_to_new", "renamed", "copied", "moved", "foreign_file", "strange_entries",
    "state_file", "state_file", "subscriptions_lost", "foreign_folder", "rows_lost", "database_lost", "tmp_lost",
)  # fmt: skip


def run(seed: int, harness: Harness) -> None:
    r = Random(seed)
    damage = Damage(harness, r)
    kinds = [r.choice(KINDS) for _ in range(r.randint(1, 6))]
    try:
        kept = sum(len(list_kept(box.directory)) for box in damage.boxes.values())
        for kind in kinds:
            getattr(damage, kind)()
        harness.database.read(check_user, harness.root, 1, lambda more: None)
        harness.restart(keep_expunged=7, index=False)
        if r.random() < 0.5:  # a server comes first
            for info in now(harness.store.mailboxes(1)):
                if info.selectable:
                    harness.contents(info.name)
        rebuild(harness)
        problems = harness.database.read(check_user, harness.root, 1, lambda more: None)
        known = (".odd", ".copy,")  # what is no message stays and is told; of two files of one name, one does
        left = [
            each for each in problems if each.kind != "unknown-file" or not any(map(each.detail.count, known))
        ]
        assert not left, left
        damage.holds()
        put_back(harness, damage, kept)
    except Exception as error:
        error.add_note(f"run({seed}): {kinds}")
        raise


def put_back(harness: Harness, damage: Damage, kept: int) -> None:
    """What was expunged before can still be had, where the mailbox is still known."""
    back = 0
    for name, box in damage.boxes.items():
        if not box.state:
            continue
        before = Counter(harness.contents(name).values())
        pairs, _, _ = harness.database.write(undelete.put_back, harness.root, 1, name, 0, 1)
        harness.restart(keep_expunged=7, index=False)
        after = Counter(harness.contents(name).values())
        assert after - before == Counter(box.bodies[old] for old, _ in pairs if old in box.bodies)
        back += len(pairs)
    assert back >= kept or not all(box.state for box in damage.boxes.values())


def test_whatever_happens(sqlite: Callable[[int], Harness]) -> None:
    for seed in range(FIRST, FIRST + EXAMPLES):
        run(seed, sqlite(seed))


def test_a_file_moved_here_by_hand_gets_another_uid(sqlite: Callable[[int], Harness]) -> None:
    """It took the UID of an expunged message: clients would have shown that one for it."""
    harness = sqlite(0)
    for name in ("INBOX", "Trash"):
        harness.append([1], name)
    live = now(harness.store.open(1, "INBOX"))
    now(live.expunge([1]))
    live.close()
    harness.upkeep()
    [path] = (harness.path("Trash") / path for path in harness.files("Trash"))
    path.rename(harness.path() / "cur" / path.name)
    rebuild(harness)
    [uid] = harness.contents()
    assert uid > 1
    assert harness.contents("Trash") == {}


def test_of_two_files_that_claim_one_uid_neither_keeps_it() -> None:
    """Nothing tells which of them clients have seen under it, unless the index that was knew one."""
    files = ["1.a,U=5", "2.b,U=5", "3.c,U=6"]
    claims = Claims(7, Known(), frozenset(), {})
    claims.look(files)
    assert [claims.uid(base) for base in files] == [None, None, 6]
    claims = Claims(7, Known(7, {"2.b,U=5": 5}), frozenset(), {})
    claims.look(files)
    assert [claims.uid(base) for base in files] == [None, 5, 6]


def test_uids_are_never_used_up_by_a_name() -> None:
    """Where a mailbox has given out nearly all of them, a name says none that would leave no room."""
    claims = Claims(UID_MASK - AHEAD, Known(), frozenset(), {})
    assert claims.uid(f"1.x,U={UID_MASK - AHEAD - 1}") == UID_MASK - AHEAD - 1
    assert claims.uid(f"1.x,U={UID_MASK - AHEAD}") is None


def test_a_state_file_cut_within_a_number_is_none(tmp_path: Path) -> None:
    MailboxState("INBOX", 1_790_000_000, 3000).write(tmp_path)
    data = (tmp_path / FILE).read_bytes()
    assert data.endswith(b"reserved 3000\n")
    (tmp_path / FILE).write_bytes(data[:-3])
    assert MailboxState.read(tmp_path) is None


@pytest.mark.parametrize(
    ("wrong", "right"),
    [((0, 5), (1, 5)), ((1 << 32, 5), ((1 << 32) - 1, 5)), ((7, 0), (7, 1)), ((7, 1 << 32), (7, 5))],
)
def test_a_state_file_with_numbers_that_cannot_be_is_none(
    tmp_path: Path, wrong: tuple[int, int], right: tuple[int, int]
) -> None:
    """RFC 9051 section 9: UIDVALIDITY and UIDNEXT are nz-numbers of 32 bits."""
    MailboxState("INBOX", *wrong).write(tmp_path)
    assert MailboxState.read(tmp_path) is None
    MailboxState("INBOX", *right).write(tmp_path)
    assert MailboxState.read(tmp_path) == MailboxState("INBOX", *right, "", {})


def test_a_uidvalidity_that_is_made_up_was_never_given(sqlite: Callable[[int], Harness]) -> None:
    """Neither to this mailbox nor to another: those given are ahead of the clock, if several are made at once."""
    harness = sqlite(0)
    names = ("A", "B", "C")
    for name in names:
        now(harness.store.create(1, name))

    def given() -> dict[str, int]:
        return {info.name: info.uidvalidity for info in now(harness.store.mailboxes(1))}

    before = given()
    for name in names[::2]:
        live = now(harness.store.open(1, name))
        (live.directory / FILE).unlink()
        live.close()
    rebuild(harness)
    after = given()
    assert after["B"] == before["B"]
    assert max(before.values()) < after["A"] < after["C"]
    now(harness.store.create(1, "D"))
    assert given()["D"] > after["C"]


def test_a_mailbox_without_tmp_opens(sqlite: Callable[[int], Harness]) -> None:
    harness = sqlite(0)
    shutil.rmtree(harness.path() / "tmp")
    harness.restart()
    assert harness.contents() == {}


def rebuild(harness: Harness) -> None:
    home = harness.database.read(home_of, 1)
    harness.database.write(lambda db: rebuild_user(harness.root, db, 1, home or ""))
    harness.restart(keep_expunged=7, index=False)
