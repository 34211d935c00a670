"""The six steps, walked by the command that shows them: `mailstack journey --once`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mailstack.admin.journey import command, steps
from mailstack.admin.journey.command import settings_table
from mailstack.admin.journey.names import zone
from mailstack.admin.journey.screen import Screen
from mailstack.admin.journey.stacks import Ports, Stack
from mailstack.admin.journey.steps import STEPS, Journey, NotSeen, literal
from tests.running import PATIENCE

JOURNEY = [sys.executable, "-c", "from mailstack.admin.cli import main; main()", "journey"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one journey prints."""
    folder = tmp_path_factory.mktemp("journey")
    environment = {**os.environ, "TMPDIR": str(folder), "NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [*JOURNEY, "--once"], capture_output=True, text=True, timeout=2 * PATIENCE, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert list(folder.iterdir()) == [], "the journey leaves something behind"
    return done.stdout


def part(story: str, number: int) -> str:
    """The text of one step."""
    return re.split(r"^Step \d  ", story, flags=re.MULTILINE)[number]


def test_all_six_steps_are_seen_to_work_in_order(story: str) -> None:
    assert re.findall(r"^Step (\d)  ", story, re.MULTILINE) == ["1", "2", "3", "4", "5", "6"]
    assert story.count("  ok - ") == len(STEPS) + 1
    assert "FAILED" not in story
    assert "\x1b" not in story


def test_the_conversation_of_the_submission(story: str) -> None:
    said = part(story, 1)
    order = ["S: 220 ", "C: STARTTLS", "*: TLSv1.3", "C: AUTH PLAIN ***", "S: 235 ", "C: MAIL FROM:<alice@one.test>",
             "C: RCPT TO:<bob@two.test>", "C: DATA", "S: 354 ", "C: .", "S: 250 ", "C: QUIT", "S: 221 "]  # fmt: skip
    place = 0
    for words in order:
        place = said.index(words, place)


def test_the_transfer_is_told_with_the_answers_of_the_name_server(story: str) -> None:
    said = part(story, 3)
    assert "two.test. 60 IN MX 10 mail.two.test." in said
    assert "mail.two.test. 60 IN A 127.0.0.1" in said
    for words in (
        "C: EHLO mail.one.test",
        "C: STARTTLS",
        "C: MAIL FROM:<alice@one.test>",
        "RCPT TO:<bob@two.test>",
    ):
        assert words in said


def test_the_delivery_names_the_file_and_its_trace(story: str) -> None:
    said = part(story, 4)
    assert re.search(r"  data/\S+/(new|cur)/\S+", said)
    assert "Return-Path: <alice@one.test>" in said
    assert said.count("Received: from ") == 2


def test_no_password_is_shown(story: str) -> None:
    assert "PASS ***" in story
    assert len(re.findall(r"LOGIN bob@two\.test \*\*\*", story)) == 2


def test_bob_reads_what_alice_wrote(story: str) -> None:
    said = part(story, 6)
    assert "Subject: Grüße through all six steps (" in said
    assert "viele Grüße!" in said
    assert "FLAGS (" in said
    assert "\\Seen" in said


def test_it_serves_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*JOURNEY], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C ends them" in line:
                process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, "".join(lines)
    told = "".join(lines)
    for words in (
        "IMAP",
        "POP3",
        "SMTP",
        "SSL/TLS",
        "STARTTLS",
        "localhost",
        "alice@one.test",
        "bob@two.test",
    ):
        assert words in told
    assert list(tmp_path.iterdir()) == []


def test_a_journey_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "one.test").mkdir()
    (tmp_path / "one.test" / "precious").write_text("mine")
    done = subprocess.run(
        [*JOURNEY, "--once", "--keep", str(tmp_path)], capture_output=True, text=True, timeout=2 * PATIENCE
    )
    assert done.returncode == 1
    assert "is not empty" in done.stdout
    assert (tmp_path / "one.test" / "precious").read_text() == "mine"


def test_a_step_that_is_not_seen_ends_the_journey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    walked: list[str] = []

    def fine(journey: Journey) -> str:
        walked.append("fine")
        return "it works"

    def broken(journey: Journey) -> str:
        raise NotSeen("nothing came")

    monkeypatch.setattr(steps, "STEPS", (("one", fine), ("two", broken), ("three", fine)))
    ports = Ports()
    ports.release()
    stacks = [Stack(tmp_path / name, name, "u", ports) for name in ("one.test", "two.test")]
    (tmp_path / "two.test.log").write_text("why it did not come\n")
    names: Any = None
    assert steps.walk(Journey(Screen(), names, *stacks)) is False
    told = capsys.readouterr().out
    assert walked == ["fine"]
    assert "ok - it works" in told
    assert "FAILED - step 2: nothing came" in told
    assert "why it did not come" in told


def test_the_status_is_that_of_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_set_up", lambda screen, folder, cleanup: None)
    for seen, status in ((True, 0), (False, 1)):
        monkeypatch.setattr(command, "walk", lambda journey, seen=seen: seen)
        assert command.travel(Screen(), once=True, keep=tmp_path) == status


def test_two_journeys_get_different_ports() -> None:
    first, second = Ports(), Ports()
    try:
        assert first.base != second.base
        assert not set(first.numbers().values()) & set(second.numbers().values())
    finally:
        first.release()
        second.release()


def test_the_conversation_is_found_in_a_log(tmp_path: Path) -> None:
    ports = Ports()
    ports.release()
    stack = Stack(tmp_path / "two.test", "two.test", "bob", ports)
    begin = "2026-11-22T10:00:00.000Z info  conversation:"
    (tmp_path / "two.test.log").write_text(
        f"{begin} smtp 127.0.0.1:1 -- connected to port 25\n{begin} smtp 127.0.0.1:2 C: EHLO other\n"
        f"{begin} smtp 127.0.0.1:1 C: EHLO one\n{begin} imap 127.0.0.1:1 C: EHLO imap\n"
        f"{begin} smtp 127.0.0.1:1 S: 250 two\n"
    )
    assert stack.conversation("smtp", "EHLO one") == [
        ("*", "connected to port 25"), ("C", "EHLO one"), ("S", "250 two"),
    ]  # fmt: skip
    assert stack.conversation("smtp", "EHLO three") == []


def test_a_literal() -> None:
    assert literal(b"* 1 FETCH (BODY[] {5}\r\nab\r\nc UID 3)") == b"ab\r\nc"
    with pytest.raises(NotSeen):
        literal(b"* 1 FETCH (BODY[] NIL)")


def test_the_zone_has_what_a_domain_needs() -> None:
    records = zone(["one.test"])
    assert records == {
        "one.test": ["MX 10 mail.one.test.", 'TXT "v=spf1 mx -all"'],
        "mail.one.test": ["A 127.0.0.1"],
    }


def test_the_table_has_the_ports_of_the_account(tmp_path: Path) -> None:
    ports = Ports()
    ports.release()
    account = Stack(tmp_path / "one.test", "one.test", "alice", ports).account
    _, rows = settings_table(account)
    assert [row[2] for row in rows[1:]] == [
        str(ports.base + port) for port in (993, 995, 465, 587)
    ]  # fmt: skip
    assert {row[5] for row in rows[1:]} == {account.password}
