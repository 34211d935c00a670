"""Processes that share a folder tell themselves apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mailstack.net.seat import Seat


def test_each_has_its_own_and_the_next_takes_what_is_free(tmp_path: Path) -> None:
    first, second, third = (Seat(tmp_path / "spool") for _ in range(3))
    assert [one.named("mx.a.test") for one in (first, second, third)] == [
        "mx.a.test",
        "mx.a.test-1",
        "mx.a.test-2",
    ]
    second.stopService()
    second.stopService()
    assert Seat(tmp_path / "spool").number == 1


def test_one_that_was_killed_leaves_it(tmp_path: Path) -> None:
    words = (
        f"from pathlib import Path; from mailstack.net.seat import Seat; s = Seat(Path({str(tmp_path)!r}))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", f"{words}; print(s.number, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"0\n"
    assert Seat(tmp_path).number == 1
    child.kill()
    child.communicate()
    assert Seat(tmp_path).number == 0


def test_a_folder_that_cannot_be_used_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert Seat(tmp_path / "file" / "spool").number == 0
