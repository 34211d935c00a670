"""A power cut at any moment: what was answered is there once, and nothing that was expunged is.

A stack works under strace; of what it wrote a model (`disk`) makes what a disk may hold after a power cut at some
call, and a start of the product on that is compared with what was answered by then. MAILSTACK_CUTS in the
environment is the number of moments; each gives a state of every kind of `Cut`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.crash.disk import Cut, Disk
from tests.crash.power import Cutter, Recording, can_trace, record
from tests.crash.traced import NEEDED, Call, octets, read_trace, strace
from tests.running import COMMAND, PATIENCE

MOMENTS = int(os.environ.get("MAILSTACK_CUTS", "20"))
ROOM = 500_000_000  # octets
SEED = Random().getrandbits(32)  # said where something is wrong; what threads do is in no seed anyway

LONG: list[dict[str, Any]] = [
    {"keep_expunged": 7},
    {"compression": "zstd", "crashes": True},
    {"compression": "zlib", "keep_expunged": 1, "write_behind": 1.0, "crashes": True},
]


def _path(call: Call) -> str:
    return octets(call.descriptor()[1]).decode()


FAULTS: dict[str, Callable[[Call], bool]] = {
    "message": lambda call: "/tmp/" in _path(call),
    "directory": lambda call: _path(call).endswith(("/new", "/cur")),
    "index": lambda call: _path(call).endswith("-wal"),
}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder for thousands of states, in memory where that can be had."""
    fast = "/dev/shm"
    if not os.access(fast, os.W_OK) or shutil.disk_usage(fast).free < ROOM:
        fast = str(tmp_path)
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        yield Path(folder)


def test_what_was_answered_survives_a_power_cut(tmp_path: Path, memory: Path) -> None:
    """And that the test can fail: fsyncs of the same run that are left out are found. A run is dear."""
    _must_trace(tmp_path)
    recording = record(tmp_path, SEED)
    _cut(recording, memory / "whole")
    for what, left_out in FAULTS.items():
        cutter = Cutter(recording, memory / what, left_out)
        wrong = cutter.cut(cutter.moments(Random(SEED), 4), [Cut.NOTHING], Random(SEED)).wrong
        assert wrong, f"without an fsync of {what} all is well"


@pytest.mark.skipif("MAILSTACK_CUTS" not in os.environ, reason="the long run: set MAILSTACK_CUTS to 1000")
@pytest.mark.parametrize("settings", LONG, ids=str)
def test_however_mail_is_kept(settings: dict[str, Any], tmp_path: Path, memory: Path) -> None:
    _must_trace(tmp_path)
    _cut(record(tmp_path, SEED, 2, **settings), memory / "whole")


def test_what_init_has_made_survives_a_power_cut(tmp_path: Path) -> None:
    _must_trace(tmp_path)
    before, there, output = tmp_path / "before", tmp_path / "there", tmp_path / "trace"
    before.mkdir()
    there.mkdir()
    words = [
        "init",
        str(there / "new" / "example"),
        "--domain",
        "example.test",
        "--hostname",
        "mx.example.test",
    ]
    subprocess.run([*strace(output), *COMMAND, *words], check=True, capture_output=True, timeout=PATIENCE)
    disk = Disk(before)
    disk.root = there
    for call in read_trace(output, there):
        disk.apply(call)
    durable, done = (disk.state(cut, Random(0)) for cut in (Cut.NOTHING, Cut.ALL))
    assert {path for path, file in done.items() if file is None} >= {"new/example/data"}
    assert "new/example/mailstack.toml" in done
    assert "new/example/key.pem" in done
    assert done.keys() <= durable.keys()  # of what SQLite has removed some may come back
    for path, file in done.items():
        if file is not None:
            assert file.content == durable[path].content, path  # type: ignore[union-attr]
            assert file.content == (there / path).read_bytes(), path


def _must_trace(folder: Path) -> None:
    if not can_trace(folder):
        pytest.skip(NEEDED)


def _cut(recording: Recording, memory: Path) -> None:
    cutter = Cutter(recording, memory)
    random = Random(SEED)
    verdict = cutter.cut(cutter.moments(random, MOMENTS), list(Cut), random, rebuild_every=10)
    wrong = [f"{where}: {what}" for what, where in verdict.wrong.items()]
    assert not wrong, f"seed {SEED}, {verdict.states} states:\n" + "\n".join(wrong[:40])
    print(f"{verdict.states} states after power cuts, seed {SEED}: all as promised")
