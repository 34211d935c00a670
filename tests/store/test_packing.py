"""Compressed files: every reader gets the message, whatever it is kept as."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from mailstack.mail.message import Message
from mailstack.store import packing
from mailstack.store.check import check_user
from mailstack.store.message_files import read_file
from mailstack.store.rebuild import rebuild_user
from mailstack.store.values import New
from tests.databases import made
from tests.store.harness import Harness, now, text
from tests.store.test_dovecot import Dovecot, append, folder, mail, take_over

assert folder  # the fixture

HEAD = b"Subject: packed\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\n\r\n"
PACKED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
MESSAGES = {
    "text": HEAD + b"a line of text\r\n" * 600 + b"--b--\r\n",
    "one octet": b"x",
    "short": text(7),
    "noise": HEAD + random.Random(1).randbytes(9_000),
    "big": HEAD + b"".join(b"line %d of a long message\r\n" % n for n in range(60_000)),
    "big noise": HEAD + random.Random(2).randbytes(1_100_000),
    "NUL, CR, LF, 8 bits": b"a: b\n\rc\r\n\r\n" + bytes(range(256)) * 40 + b"\n\n\r",
    "itself gzip": gzip.compress(text(1) * 100),
    "itself zstd": zstandard.ZstdCompressor().compress(text(1) * 100),
    "long and itself gzip": gzip.compress(random.Random(3).randbytes(5_000)) + b"\0" * 100_000,
}


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """The files are the same whatever the database is."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with made("sqlite") as one:
        yield Harness(one.database, tmp_path)


@pytest.fixture(params=["zlib", "zstd"])
def compressing(harness: Harness, request: pytest.FixtureRequest) -> Harness:
    harness.restart(compression=request.param)
    now(harness.store.provision(1))
    return harness


def add(harness: Harness, data: bytes, mailbox: str = "INBOX") -> int:
    return now(harness.store.append(1, mailbox, [New(Message.of(data))])).uids[0]


def problems(harness: Harness) -> list[object]:
    return list(harness.database.read(lambda db: check_user(db, harness.root, 1, lambda more: None)))


def test_everything_is_as_it_was(compressing: Harness) -> None:
    """Written, read, copied, checked, indexed anew; plain files of before beside compressed ones."""
    harness = compressing
    harness.restart()
    before = harness.deliver(3).uid
    harness.restart(compression="zlib")
    wanted = {before: text(3)} | {add(harness, data): data for data in MESSAGES.values()}
    assert harness.contents() == wanted
    sizes = {uid: len(data) for uid, data in wanted.items()}
    box = now(harness.store.open(1, "INBOX"))
    assert {uid: box.entry(uid).size for uid in wanted} == sizes  # type: ignore[union-attr]
    assert now(harness.store.usage(1)).octets == sum(sizes.values())
    now(box.copy(list(wanted), "Archive"))
    assert list(harness.contents("Archive").values()) == list(wanted.values())
    assert problems(harness) == []
    structures = now(box.facts(list(wanted), frozenset({"body_structure", "envelope", "header_size"})))
    harness.database.write(lambda db: rebuild_user(harness.root, db, 1, "example.org/alice"))
    harness.restart()
    assert harness.contents() == wanted
    assert problems(harness) == []
    box = now(harness.store.open(1, "INBOX"))
    assert (
        now(box.facts(list(wanted), frozenset({"body_structure", "envelope", "header_size"}))) == structures
    )
    harness.check()


def test_what_is_kept_is_smaller(compressing: Harness) -> None:
    for name, data in MESSAGES.items():
        add(compressing, data)
        [path] = [compressing.path() / each for each in compressing.files()]
        least = 4 if name in ("text", "big", "NUL, CR, LF, 8 bits", "long and itself gzip") else 1
        assert path.stat().st_size * least <= len(data), name
        assert path.stat().st_mtime > 1_000_000_000
        box = now(compressing.store.open(1, "INBOX"))
        now(box.expunge(box.view().uids))
        compressing.upkeep()
    assert os.listdir(compressing.path() / "tmp") == []


@pytest.mark.parametrize("name", list(PACKED))
def test_octets_from_anywhere(tmp_path: Path, name: str) -> None:
    data, choose = MESSAGES["big"], random.Random(4)
    path = tmp_path / f"1.R1.host,S={len(data)},U=1:2,S"
    path.write_bytes(PACKED[name](data))
    assert read_file(path) == data
    with packing.Text(path) as opened:
        for _ in range(20):
            offset, length = choose.randrange(len(data) + 10), choose.choice([0, 1, 5_000, 700_000])
            assert opened.read(offset, length) == data[offset : offset + length]
            assert read_file(path, offset, length) == data[offset : offset + length]
    assert packing.size_of_text(path) == len(data)


def test_members_one_after_the_other(tmp_path: Path) -> None:
    for pack in PACKED.values():
        path = tmp_path / "1.R1.host"
        path.write_bytes(pack(b"one " * 1000) + pack(b"") + pack(b"two"))
        assert read_file(path) == b"one " * 1000 + b"two"


def test_a_member_that_ends_where_a_read_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pack in PACKED.items():
        first, path = pack(b"one"), tmp_path / "1.R1.host"
        monkeypatch.setattr(packing, "CHUNK", len(first))
        path.write_bytes(first + pack(b"two"))
        assert read_file(path) == b"onetwo", name


def test_frames_of_zstandard_that_are_to_be_skipped(tmp_path: Path) -> None:
    """RFC 8878 section 3.1.2: some programs put an index there."""
    pack, path = PACKED["zstd"], tmp_path / "1.R1.host"
    skipped = b"\x5e\x2a\x4d\x18\x05\0\0\0index"
    path.write_bytes(pack(b"one ") + skipped + pack(b"two") + skipped)
    assert read_file(path) == b"one two"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(packing.Damaged):
        read_file(path)


# Dovecot's


@pytest.mark.parametrize("save", ["gz", "bz2", "zstd"])
def test_dovecot_wrote_them(harness: Harness, folder: Path, save: str) -> None:
    theirs = Dovecot(folder, packs=save)
    long = mail(2) + b"and a line\r\n" * 3_000
    theirs.run(append(b"INBOX", mail(1)), append(b"INBOX", long), append(b"INBOX", MESSAGES["big"]))
    theirs.run(b"SELECT INBOX", rb"UID STORE 2 +FLAGS (\Seen)")
    kinds = set()
    for path in theirs.maildir.glob("*/*,S=*"):
        with path.open("rb") as file:
            kinds.add(packing.kind_of(file, path.name))
    assert kinds - {None}
    take_over(harness, theirs.maildir)
    assert harness.contents() == {1: mail(1), 2: long, 3: MESSAGES["big"]}
    assert harness.flags()[2] == {r"\Seen"}
    assert max((harness.path() / path).stat().st_size for path in harness.files()) < 500_000
    assert problems(harness) == []
    harness.check()


def test_dovecot_reads_ours(compressing: Harness, folder: Path) -> None:
    texts = [mail(1) * 50, MESSAGES["big"]]
    for each in texts:
        add(compressing, each)
    theirs = Dovecot(folder, packs="")
    for directory in ("cur", "new", "tmp"):
        (theirs.maildir / directory).mkdir(parents=True)
        for path in (compressing.path() / directory).iterdir():
            (theirs.maildir / directory / path.name).write_bytes(path.read_bytes())
    if os.geteuid() == 0:
        for path in (theirs.maildir, *theirs.maildir.rglob("*")):
            os.chown(path, *theirs.ids)
    said = theirs.run(b"SELECT INBOX", b"FETCH 1:2 (RFC822.SIZE BODY[])")
    for each in texts:
        assert b"RFC822.SIZE %d " % len(each) in said
        assert b"BODY[] {%d}\r\n%b" % (len(each), each) in said, said[:3000]


# Hostile files, which another program dropped


def drop(harness: Harness, data: bytes, name: str = "1600000000.M1P1.host") -> None:
    now(harness.store.provision(1))
    (harness.path() / "new" / name).write_bytes(data)
    harness.settle_clock()


def bomb(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(b"\0" * (8 * 1024 * 1024))


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(packing, "MOST_UNPACKED", 2 * 1024 * 1024)
    return 2 * 1024 * 1024


@pytest.mark.parametrize("name", list(PACKED))
def test_a_bomb_is_a_message_as_it_is(harness: Harness, little: int, name: str) -> None:
    data = bomb(PACKED[name])
    drop(harness, data)
    tracemalloc.start()
    found = harness.contents()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 1024 * 1024
    assert [each.replace(b"\r\n", b"\n") for each in found.values()] == [data.replace(b"\r\n", b"\n")]
    assert problems(harness) == []


@pytest.mark.parametrize("name", list(PACKED))
@pytest.mark.parametrize("damage", ["cut", "changed", "more"])
def test_damaged(harness: Harness, name: str, damage: str) -> None:
    data = PACKED[name](random.Random(5).randbytes(40_000))
    half = len(data) // 2
    data = {"cut": data[:half], "changed": data[:half] + b"!!!!" + data[half + 4 :], "more": data + b"more"}[
        damage
    ]
    drop(harness, data)
    [found] = harness.contents().values()
    assert found in (
        data,
        random.Random(5).randbytes(40_000),
    )  # where there is no check sum, or nothing but it
    assert harness.deliver(1).uid == 2


def test_one_that_says_another_size(harness: Harness) -> None:
    """The name lies: the size is what there is."""
    whole = b"Subject: x\r\n\r\n" + b"y" * 5_000
    drop(harness, gzip.compress(whole), "1600000000.M1P1.host,S=77777,W=99999")
    assert harness.contents() == {1: whole}
    assert now(harness.store.usage(1)).octets == len(whole)
    assert problems(harness) == []


def test_damaged_afterwards(compressing: Harness) -> None:
    """A file of ours that was changed on the disk is found by the check; reading it is an error, not a lie."""
    add(compressing, MESSAGES["text"])
    compressing.deliver(1)
    [path] = compressing.path().glob("*/*,U=1*")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(packing.Damaged):
        compressing.contents()
    assert now(now(compressing.store.open(1, "INBOX")).bodies([(1, 0, None), (2, 0, None)])) == [
        None,
        text(1),
    ]
    assert [each.kind for each in problems(compressing)] == ["size"]  # type: ignore[attr-defined]


def test_dictionaries_are_bounded(tmp_path: Path) -> None:
    """A file of some octets must not have us take gigabytes for its dictionary."""
    path = tmp_path / "x"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    path.write_bytes(lzma.compress(b"x" * 100, filters=filters))
    with pytest.raises(packing.Damaged):
        read_file(path)
    parameters = zstandard.ZstdCompressionParameters(window_log=27, strategy=1, compression_level=1)
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path.write_bytes(encoder.compress(b"x" * 100) + encoder.flush())
    with pytest.raises(packing.Damaged):
        read_file(path)


class TestSaidSize:
    """A file is read by the size in its name where that is true, and all of it where it is not."""

    @pytest.mark.parametrize("octets", [b"", b"four", b"fiver", b"longer than that"])
    @pytest.mark.parametrize("length", [None, 5, 100])
    def test_a_plain_file_of_any_size(self, tmp_path: Path, octets: bytes, length: int | None) -> None:
        path = tmp_path / "1.R2.host,S=5,U=1:2,S"
        path.write_bytes(octets)
        assert read_file(path, 0, length) == octets[:length]
        assert read_file(path, 2, length) == octets[2:][:length]

    def test_a_packed_one(self, tmp_path: Path) -> None:
        data = b"the same again " * 100
        path = tmp_path / f"1.R2.host,S={len(data)},U=1:2,S"
        path.write_bytes(packing.pack(data, "zlib") or b"")
        assert read_file(path) == data
        assert read_file(path, 0, len(data)) == data
        assert read_file(path, 4, 11) == data[4:15]
