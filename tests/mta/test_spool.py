"""The queue's folders are durable before a file in them is: 250 rests on it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mailstack.mail.message import Message
from mailstack.mta import spool
from mailstack.mta.spool import Spool


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are fsynced."""
    found: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(spool, "_fsync", found.append)
    return found


def write(to: Spool, queue_id: str, now: float = 0.0) -> None:
    to.write(to.name(queue_id, now), Message.of(b"Subject: x\r\n\r\n"))


def test_each_folder_is_made_durable_once(tmp_path: Path, synced: list[Path]) -> None:
    root = tmp_path / "spool" / "queue"
    one = Spool(root)
    write(one, "a")
    assert synced == [tmp_path, tmp_path / "spool", root, root]  # for spool, queue, tmp and 00
    write(one, "b")
    assert len(synced) == 4
    write(one, "c", now=spool.SLOT)
    assert synced[4:] == [root]


def test_what_a_process_that_crashed_has_made_is_not_believed(tmp_path: Path, synced: list[Path]) -> None:
    root = tmp_path / "spool" / "queue"
    (root / "00").mkdir(parents=True)
    write(Spool(root), "a")
    assert set(synced) == {tmp_path, tmp_path / "spool", root}


def test_who_finds_a_folder_waits_until_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Spool(tmp_path / "spool" / "queue")
    begun, go_on = threading.Event(), threading.Event()
    order: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def fsync(folder: Path) -> None:
        begun.set()
        go_on.wait(60)
        order.append("folder")

    def second() -> None:
        write(one, "b")
        order.append("second")

    monkeypatch.setattr(spool, "_fsync", fsync)
    threads = [threading.Thread(target=write, args=(one, "a")), threading.Thread(target=second)]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert order == ["folder"] * 4 + ["second"]


def test_a_folder_that_cannot_be_made_durable_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[Path]
) -> None:
    one = Spool(tmp_path / "spool" / "queue")

    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error", str(folder))

    with monkeypatch.context() as context:
        context.setattr(spool, "_fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            write(one, "a")
    write(one, "a")
    assert len(synced) == 4
