"""The log as lines: what is written, and that no peer can forge any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from mailstack.net.log import LogLines, observer
from mailstack.net.peer import Peer
from mailstack.net.settings import LogConfig


class Lines:
    """A logger whose lines are kept."""

    def __init__(self, level: str = "info", as_json: bool = False, namespace: str = "mailstack.msa") -> None:
        self.written: list[str] = []
        self.log = Logger(namespace=namespace, observer=LogLines(self.written.append, level, as_json))

    def after_the_time(self) -> list[str]:
        return [line.partition("Z ")[2] for line in self.written]


def test_a_line_has_time_level_place_message_and_the_fields_that_it_does_not_show() -> None:
    lines = Lines()
    peer = Peer("192.0.2.1", 1, 2, False)
    lines.log.info("took {id} from {peer.address}", id="a1", peer=peer, size=5, subject="two words", empty="")
    [line] = lines.written
    stamp, _, rest = line.partition(" ")
    assert len(stamp) == len("2026-11-22T10:00:00.000Z")
    assert rest.startswith("info  msa: took a1 from 192.0.2.1 ")
    assert rest.endswith(' size=5 subject="two words" empty=""\n')
    assert "peer=" not in rest


def test_levels() -> None:
    lines = Lines("warn")
    for level in ("debug", "info", "warn", "error", "critical"):
        getattr(lines.log, level)("x")
    assert lines.after_the_time() == ["warn  msa: x\n", "error msa: x\n", "critical msa: x\n"]


def test_what_twisted_tells_of_itself_is_for_debugging() -> None:
    quiet, all_of_it = Lines(namespace="twisted.x"), Lines("debug", namespace="twisted.x")
    for lines in (quiet, all_of_it):
        lines.log.info("Starting factory")
        lines.log.warn("trouble")
    assert quiet.after_the_time() == ["warn  twisted.x: trouble\n"]
    assert len(all_of_it.written) == 2


def test_no_peer_can_forge_a_line_or_reach_the_terminal() -> None:
    lines = Lines()
    hostile = "a\r\n2026-11-22T10:00:00.000Z info  msa: forged\x1b[2J\x9b\u2028\udcff"
    lines.log.info("said {what}", what=hostile, other=hostile)
    [line] = lines.written
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert not set("\r\x1b\x9b\u2028\udcff") & set(line)
    assert "\\r\\n2026" in line


def test_braces_of_a_peer_are_not_a_format() -> None:
    lines = Lines()
    lines.log.info("said {what}", what="{log_failure} {0} {")
    assert lines.after_the_time() == ["info  msa: said {log_failure} {0} {\n"]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failure_comes_with_its_traceback(as_json: bool) -> None:
    lines = Lines(as_json=as_json)
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        lines.log.failure("it broke", peer="192.0.2.1")
    [line] = lines.written
    if as_json:
        entry = json.loads(line)
        assert "ValueError: bad\nvalue" in entry["traceback"]
        assert (entry["message"], entry["peer"]) == ("it broke", "192.0.2.1")
    else:
        first, *rest = line.splitlines()
        assert first.endswith("critical msa: it broke peer=192.0.2.1")
        assert all(one.startswith("    ") for one in rest)
        assert any("ValueError: bad" in one for one in rest)


def test_json_lines() -> None:
    lines = Lines(as_json=True)
    lines.log.info("took {id}", id="a\nb", size=5, path=Path("/x"), message="no")
    [line] = lines.written
    assert line.count("\n") == 1
    entry: dict[str, Any] = json.loads(line)
    assert len(entry.pop("time")) == len("2026-11-22T10:00:00.000Z")
    assert entry == {
        "level": "info", "from": "msa", "message": "took a\nb", "id": "a\nb", "size": 5, "path": "/x",
    }  # fmt: skip


def test_a_full_disk_stops_nothing() -> None:
    def full(line: str) -> None:
        raise OSError(28, "No space left on device")

    Logger(namespace="mailstack", observer=LogLines(full)).info("x")


def test_a_file_is_made_and_opened_again_when_it_was_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailstack.net.log._LOOK_SECONDS", 0.0)
    path = tmp_path / "log" / "mail.log"
    log = Logger(namespace="mailstack.msa", observer=observer(LogConfig(file=path)))
    log.info("one")
    path.rename(path.with_suffix(".1"))
    log.info("two")
    path.unlink()
    log.info("three")
    assert path.with_suffix(".1").read_text().endswith(" msa: one\n")
    assert path.read_text().endswith(" msa: three\n")
    assert path.read_text().count("\n") == 1
    assert path.stat().st_mode & 0o007 == 0


def test_without_a_file_it_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Logger(namespace="mailstack.msa", observer=observer(LogConfig())).info("x")
    captured = capsys.readouterr()
    assert captured.err.endswith(" msa: x\n")
    assert captured.out == ""


def test_a_second_signal_while_we_stop_is_no_error() -> None:
    lines = Lines(namespace="twisted.internet.base")
    for error in (ReactorNotRunning("Can't stop reactor that isn't running."), ValueError("trouble")):
        try:
            raise error
        except Exception:
            lines.log.failure("while handling thread call")
    told, trouble = lines.after_the_time()
    assert told == "info  mailstack: told again to stop, which is under way\n"
    assert trouble.startswith("critical twisted.internet.base: ")
    assert "ValueError: trouble" in trouble
