"""The spool: memory, file, header section, removal."""

from __future__ import annotations

import stat
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from mailstack.net.spool import HEADER_OCTETS, MEMORY_OCTETS, MOST_STEPS, STEP, Content, HeaderTooLarge, Spool
from tests.net.fakes import Here

T = TypeVar("T")


def done(coroutine: object) -> None:
    """Run what has nothing to wait for; raise what it raised."""
    outcome: list[object] = []
    Deferred.fromCoroutine(coroutine).addBoth(outcome.append)  # type: ignore[arg-type]
    [result] = outcome
    if result is not None:
        result.raiseException()  # type: ignore[attr-defined]


def fill(content: Content, data: bytes, step: int) -> Content:
    for i in range(0, len(data), step):
        done(content.write(data[i : i + step]))
    done(content.finish())
    return content


def fill_with(content: Content, piece: bytes, times: int) -> Content:
    done(content.write(HEADER + b"\r\n" + piece[len(HEADER) + 2 :]))
    for _ in range(times - 1):
        done(content.write(piece + b""))
    done(content.finish())
    return content


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(Here(), tmp_path / "spool" / "incoming", memory=1000, fund=0)
    made.prepare()
    return made


HEADER = b"A: 1\r\nB: 2\r\n"
BODY = b"x" * 70 + b"\r\n\r\n" + b"y" * 3000


class TestContent:
    @pytest.mark.parametrize("step", [1, 7, 999, 10_000])
    def test_file_or_memory_are_the_same(self, spool: Spool, tmp_path: Path, step: int) -> None:
        for data in (HEADER + b"\r\n" + BODY, HEADER + b"\r\n", HEADER, b"\r\n" + BODY, b"", BODY):
            for memory in (0, 10, 10_000):
                content = Content(Here(), tmp_path, f"{len(data)}-{memory}-{step}", memory)
                fill(content, data, step)
                assert content.message().read() == data
                assert content.message(5).read() == data[5:]
                assert content.size == len(data)
                cut = data.find(b"\r\n\r\n")
                expected = b"" if data.startswith(b"\r\n") else data[: cut + 2] if cut >= 0 else data
                assert content.header() == expected
                content.discard()
        assert [path.name for path in tmp_path.iterdir()] == ["spool"]

    def test_its_file_is_ours_alone(self, spool: Spool, tmp_path: Path) -> None:
        fill(spool.content("one"), b"x" * 5000, 500)
        path = tmp_path / "spool" / "incoming" / "one"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_never_writes_into_a_file_that_is_there(self, spool: Spool, tmp_path: Path) -> None:
        path = tmp_path / "spool" / "incoming" / "one"
        path.write_bytes(b"somebody's")
        with pytest.raises(FileExistsError):
            done(spool.content("one").write(b"x" * 2000))
        assert path.read_bytes() == b"somebody's"

    def test_header_sections_end_in_time(self, spool: Spool) -> None:
        field = b"X: " + b"y" * 95 + b"\r\n"
        most = HEADER_OCTETS // len(field)
        fill(spool.content("just"), field * most + b"\r\n" + field * most, 5000)
        with pytest.raises(HeaderTooLarge):
            fill(spool.content("more"), field * (most + 200), 5000)

    def test_header_is_let_go_once_found(self, spool: Spool) -> None:
        content = fill(spool.content("one"), HEADER + b"\r\n" + b"z" * 500_000, 10_000)
        assert content._head == b""
        assert content.header() == HEADER

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=300), st.integers(1, 40), st.integers(0, 200))
    def test_any_bytes(self, data: bytes, step: int, memory: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            content = fill(Content(Here(), Path(folder), "x", memory), data, step)
            assert content.message().read() == data
            assert data.startswith(content.header())


class Slow:
    """Threads that note what is written, and how large it is."""

    def __init__(self) -> None:
        self.pieces: list[int] = []

    async def files(self, function: Callable[..., T], *args: Any) -> T:
        if len(args) == 3:
            self.pieces.append(len(args[2]))
        return function(*args)


class TestFund:
    """Memory beyond what each message has for itself."""

    def test_a_message_of_a_megabyte_needs_no_file_while_there_is_memory(self, tmp_path: Path) -> None:
        work, message = Slow(), HEADER + b"\r\n" + b"y" * (1 << 20)
        spool = Spool(work, tmp_path, fund=10 * STEP)
        whole = [fill(spool.content(str(number)), message, 65_536) for number in range(3)]
        assert [content.message().read() == message for content in whole] == [True] * 3
        assert sum(isinstance(content.message().parts[0], bytes) for content in whole) == 2
        assert work.pieces != []  # the third found the fund empty
        for content in whole:
            content.discard()
            content.discard()
        again = fill(spool.content("again"), message, 65_536)
        assert isinstance(again.message().parts[0], bytes)

    def test_a_large_one_keeps_one_step_and_writes_in_larger_pieces(self, tmp_path: Path) -> None:
        work, message = Slow(), HEADER + b"\r\n" + b"y" * (10 << 20)
        spool = Spool(work, tmp_path, fund=100 * STEP)
        content = fill(spool.content("one"), message, 65_536)
        assert content.message().read() == message
        assert max(work.pieces) <= MEMORY_OCTETS + MOST_STEPS * STEP + 65_536
        assert min(work.pieces[:-1]) > STEP
        assert spool._fund._steps == 99
        content.discard()
        assert spool._fund._steps == 100

    def test_memory_does_not_grow_with_the_message(self, tmp_path: Path) -> None:
        spool = Spool(Slow(), tmp_path)
        piece = b"y" * 65_536

        def most(octets: int) -> int:
            tracemalloc.start()
            try:
                content = fill_with(spool.content(str(octets)), piece, octets // len(piece))
                assert content.size == octets
                content.discard()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        small = most(4 << 20)
        assert most(64 << 20) < small + 65_536 < 6 << 20

    def test_a_header_section_in_memory_ends_in_time_too(self, tmp_path: Path) -> None:
        field = b"X: " + b"y" * 95 + b"\r\n"
        most = HEADER_OCTETS // len(field)
        spool = Spool(Here(), tmp_path)
        whole = fill(spool.content("just"), field * most + b"\r\n" + field * most, 5000)
        assert whole.header() == field * most
        with pytest.raises(HeaderTooLarge):
            fill(spool.content("more"), field * (most + 10) + b"\r\n" + field, 5000)


class TestSpool:
    def test_leftovers_are_removed(self, tmp_path: Path) -> None:
        folder = tmp_path / "incoming"
        spool = Spool(Here(), folder)
        spool.prepare()
        (folder / "left").write_bytes(b"half a mess")
        spool.prepare()
        assert list(folder.iterdir()) == []

    def test_discarding_twice(self, spool: Spool) -> None:
        content = fill(spool.content("one"), b"x" * 5000, 5000)
        content.discard()
        content.discard()
