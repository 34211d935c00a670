"""Reading several messages' files: what comes from the disk is asked for all at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from mailstack.store import message_files
from mailstack.store.message_files import Wanted, read_files


@pytest.fixture
def files(tmp_path: Path) -> list[Wanted]:
    """Ten messages, of which the sixth has lost its file."""
    paths = [tmp_path / f"1.R{n}.host,S=6,U={n}:2,S" for n in range(10)]
    for n, path in enumerate(paths):
        if n != 5:
            path.write_bytes(b"text %d" % n)
    return [(str(path), 0, None) for path in paths]


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """The files that the system was told of: name, offset, length."""
    told: list[tuple[str, int, int]] = []

    def tell(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_WILLNEED
        told.append((os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))[:4], offset, length))

    monkeypatch.setattr(os, "posix_fadvise", tell)
    return told


def slow_at(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes no time, but for the files from `place` on."""

    def times() -> Iterator[float]:
        for n in count():
            yield n
            yield n + (0.01 if n >= place else 0)

    monkeypatch.setattr(message_files, "perf_counter", times().__next__)


def test_what_lies_in_the_cache_is_just_read(
    files: list[Wanted], announced: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_at(100, monkeypatch)
    assert read_files(files) == [None if n == 5 else b"text %d" % n for n in range(10)]
    assert announced == []


def test_after_the_first_file_from_the_disk_the_rest_is_announced_once(
    files: list[Wanted], announced: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_at(2, monkeypatch)
    files[8] = (files[8][0], 2, 3)
    expected = [None if n == 5 else b"text %d" % n for n in range(10)]
    expected[8] = b"xt "
    before = len(os.listdir("/proc/self/fd"))
    assert read_files(files) == expected
    assert len(os.listdir("/proc/self/fd")) == before
    whole = message_files.IN_MEMORY
    assert announced == [
        ("1.R3", 0, whole),
        ("1.R4", 0, whole),
        ("1.R6", 0, whole),
        ("1.R7", 0, whole),
        ("1.R8", 2, 3),
        ("1.R9", 0, whole),
    ]


def test_a_system_that_cannot_be_told(files: list[Wanted], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    slow_at(0, monkeypatch)
    assert read_files(files) == [None if n == 5 else b"text %d" % n for n in range(10)]
