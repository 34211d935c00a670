"""The model of a disk that loses power: what of some calls is left, and what may be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.crash.disk import Cut, Disk, File
from tests.crash.promises import ABSENT, Clock, due
from tests.crash.shop import Shop
from tests.crash.traced import Call, octets, read_trace, sent

TRIES = 60
_NONE: frozenset[str] = frozenset()


def hexed(text: str | bytes) -> str:
    """As strace -xx writes it."""
    return "".join(f"\\x{octet:02x}" for octet in (text.encode() if isinstance(text, str) else text))


class Writer:
    """Lines of a trace, played at once."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        (self.root / "old").write_bytes(b"before")
        (self.root / "a").mkdir()
        (self.root / "b").mkdir()
        self.disk = Disk(self.root)
        self._open = 2

    def call(self, name: str, text: str, result: int = 0, thread: int = 1, half: str = "") -> None:
        self.disk.apply(Call(name, thread, text, result, half != "end", half != "begin"))

    def named(self, path: str) -> str:
        return f'"{hexed(str(self.root / path))}"'

    def open(self, path: str, flags: str) -> int:
        self._open += 1
        self.call("openat", f"AT_FDCWD<{hexed('/')}>, {self.named(path)}, {flags}", self._open)
        return self._open

    def fd(self, number: int, path: str) -> str:
        return f"{number}<{hexed(str(self.root / path))}>"

    def write(self, number: int, path: str, data: bytes, offset: int | None = None) -> None:
        if offset is None:
            self.call("write", f'{self.fd(number, path)}, "{hexed(data)}", {len(data)}', len(data))
        else:
            text = f'{self.fd(number, path)}, "{hexed(data)}", {len(data)}, {offset}'
            self.call("pwrite64", text, len(data))

    def create(self, path: str, data: bytes, sync: bool) -> None:
        number = self.open(path, "O_WRONLY|O_CREAT|O_EXCL, 0600")
        self.write(number, path, data)
        if sync:
            self.call("fsync", self.fd(number, path))

    def rename(self, old: str, new: str) -> None:
        self.call("rename", f"{self.named(old)}, {self.named(new)}")

    def sync(self, directory: str) -> None:
        self.call("fsync", self.fd(self.open(directory, "O_RDONLY|O_DIRECTORY"), directory))

    def left(self, cut: Cut = Cut.NOTHING, seed: int = 0) -> dict[str, bytes]:
        """The files of a state."""
        state = self.disk.state(cut, Random(seed))
        return {path: file.content for path, file in state.items() if file is not None}

    def possible(self, cut: Cut = Cut.RANDOM) -> Iterator[dict[str, bytes]]:
        return (self.left(cut, seed) for seed in range(TRIES))


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def test_octets_are_durable_from_an_fsync_on_and_a_name_from_that_of_its_directory(writer: Writer) -> None:
    writer.create("a/x", b"octets", sync=True)
    assert writer.left() == {"old": b"before"}
    assert writer.left(Cut.ALL) == {"old": b"before", "a/x": b"octets"}
    writer.sync("a")
    assert writer.left() == {"old": b"before", "a/x": b"octets"}


def test_a_name_without_octets(writer: Writer) -> None:
    writer.create("a/x", b"octets", sync=False)
    writer.sync("a")
    assert writer.left()["a/x"] == b""
    assert {state["a/x"] for state in writer.possible()} == {b"", b"octets", bytes(6)}


def test_octets_come_by_the_block_and_in_any_order(writer: Writer) -> None:
    number = writer.open("old", "O_RDWR")
    writer.write(number, "old", b"1" * 8192, 0)
    writer.call("fdatasync", writer.fd(number, "old"))
    writer.write(number, "old", b"2" * 8192, 0)
    found = {state["old"] for state in writer.possible()}
    assert b"1" * 4096 + b"2" * 4096 in found
    assert b"2" * 4096 + b"1" * 4096 in found
    assert all(len(content) == 8192 and set(content) <= set(b"12") for content in found)


def test_what_is_written_while_an_fsync_is_under_way_is_not_durable(writer: Writer) -> None:
    number = writer.open("old", "O_RDWR")
    writer.write(number, "old", b"first ", 0)
    writer.call("fsync", writer.fd(number, "old"), thread=2, half="begin")
    writer.write(number, "old", b"second", 0)
    writer.call("fsync", writer.fd(number, "old"), thread=2, half="end")
    assert writer.left()["old"] == b"first "


def test_a_rename_is_whole_or_not_at_all(writer: Writer) -> None:
    writer.create("a/x", b"octets", sync=True)
    writer.sync("a")
    writer.rename("a/x", "b/y")
    states = [{path for path in state if path != "old"} for state in writer.possible()]
    assert {"a/x"} in states
    assert {"b/y"} in states
    assert all(len(state) == 1 for state in states)
    writer.sync("b")
    assert set(writer.left()) == {"old", "b/y"}


def test_a_rename_over_a_file_leaves_the_old_or_the_new(writer: Writer) -> None:
    writer.create("new", b"after", sync=True)
    writer.rename("new", "old")
    assert {state["old"] for state in writer.possible()} == {b"before", b"after"}
    writer.sync("")
    assert writer.left() == {"old": b"after"}


def test_a_name_that_was_taken_away_comes_back(writer: Writer) -> None:
    writer.call("unlink", writer.named("old"))
    assert writer.left() == {"old": b"before"}
    assert writer.left(Cut.ALL) == {}
    writer.sync("")
    assert writer.left() == {}


def test_what_was_done_later_is_not_undone_by_what_was_done_before(writer: Writer) -> None:
    writer.create("a/x", b"octets", sync=True)  # its name in a/ is not durable
    writer.rename("a/x", "b/x")
    writer.sync("b")
    assert all("a/x" not in state and "b/x" in state for state in writer.possible())


def test_a_journal_keeps_the_order_of_names(writer: Writer) -> None:
    writer.create("a/1", b"", sync=False)
    writer.create("b/2", b"", sync=False)
    found = {frozenset(state) - {"old"} for state in writer.possible(Cut.JOURNAL)}
    assert found == {frozenset(), frozenset({"a/1"}), frozenset({"a/1", "b/2"})}
    assert frozenset({"b/2"}) in {frozenset(state) - {"old"} for state in writer.possible()}


def test_a_directory_is_lost_with_all_that_is_in_it(writer: Writer) -> None:
    writer.call("mkdir", writer.named("c") + ", 0700")
    writer.create("c/x", b"octets", sync=True)
    writer.sync("c")
    assert writer.left() == {"old": b"before"}
    writer.sync("")
    assert writer.left()["c/x"] == b"octets"


def test_a_second_name_and_a_file_without_one(writer: Writer) -> None:
    writer.call("link", f"{writer.named('old')}, {writer.named('a/same')}")
    number = writer.open("a", "O_RDWR|O_EXCL|O_TMPFILE, 0600")
    writer.write(number, "a/#1", b"nowhere")
    assert writer.left(Cut.ALL) == {"old": b"before", "a/same": b"before"}


def test_a_call_that_is_not_known_is_no_silent_success(writer: Writer) -> None:
    with pytest.raises(AssertionError, match="fallocate"):
        writer.call("fallocate", f"{writer.fd(3, 'old')}, 0, 0, 10")


def test_states_share_their_files_and_spoil_none(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    file = File(b"octets", (1, 1), 5.0)
    root = shop.make({"a": None, "a/x": file, "a/some.db": file})
    (root / "a/some.db").write_bytes(b"changed")
    (root / "a/x").unlink()
    root = shop.make({"x": file, "some.db": file})
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {"x": b"octets", "some.db": b"octets"}
    assert (root / "x").stat().st_mtime == 5.0


def test_a_trace_is_read_as_strace_writes_it(tmp_path: Path) -> None:
    path, peer = hexed("/data/x"), "TCP:[127.0.0.1:25->127.0.0.1:40000]"
    (tmp_path / "trace").write_text(
        f'7 openat(AT_FDCWD<{hexed("/")}>, "{path}", O_RDWR|O_CREAT, 0600) = 9<{path}>\n'
        f'7 write(9<{path}>, "{hexed("ab")}", 2 <unfinished ...>\n'
        f'8 sendto(4<{peer}>, "{hexed("250 ok")}", 6, 0, NULL, 0) = 6\n'
        "7 <... write resumed>) = 2\n"
        f'7 rename("{path}", "{hexed("/data/y")}") = -1 ENOENT (No such file or directory)\n'
        f'7 write(5<{hexed("/elsewhere")}>, "{hexed("no")}", 2) = 2\n'
        f"7 fsync(9<{path}>) = 0\n"
        f'8 write(4<{peer}>, "{hexed("221")}", 3) = 3\n'
        f"7 fsync(9<{path}> <unfinished ...>\n"
        "7 <... fsync resumed>) = ?\n"
    )
    calls = read_trace(tmp_path / "trace", Path("/data"))
    assert [(call.name, call.result, call.begins, call.ends) for call in calls] == [
        ("openat", 9, True, True),
        ("write", -1, True, False),
        ("sendto", 6, True, True),
        ("write", 2, False, True),
        ("fsync", 0, True, True),
        ("write", 3, True, True),
        ("fsync", -1, True, False),
    ]
    assert calls[3].strings() == [b"ab"]
    assert calls[0].strings() == [b"/data/x"]
    assert calls[3].descriptor()[0] == 9
    assert octets(calls[3].descriptor()[1]) == b"/data/x"
    assert sent(calls) == {(25, 40000): [(2, 6), (5, 9)]}


def test_a_promise_counts_from_its_last_octet_on() -> None:
    clock = Clock({(25, 40000): [(2, 6), (5, 9)]})
    assert [clock.place(((25, 40000), octets)) for octets in (0, 1, 6, 7, 9)] == [-1, 2, 2, 5, 5]


def test_what_is_under_way_may_be_done_or_not() -> None:
    steps = [(0, 10, {"INBOX": _NONE}), (12, 20, {"Trash": _NONE}), (30, 40, ABSENT)]
    assert due(steps, 5).allows(ABSENT)
    assert due(steps, 5).allows({"INBOX": _NONE})
    assert not due(steps, 10).allows(ABSENT)
    assert due(steps, 15).allows({"INBOX": _NONE, "Trash": _NONE})  # copied, and not yet removed
    assert due(steps, 15).names == frozenset()
    assert not due(steps, 25).allows({"INBOX": _NONE})
    assert not due(steps, 25).allows({"Trash": frozenset({"\\Seen"})})
    assert due(steps, 45).allows(ABSENT)
    assert not due(steps, 45).allows({"Trash": _NONE})
