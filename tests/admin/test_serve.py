"""`mailstack serve`: the same as twistd, with one clear line where it cannot start, and a clean end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from mailstack.admin.init import initialize
from mailstack.admin.serve import arguments, explain
from mailstack.net.listener import PortUnavailable
from tests.running import PATIENCE

OFF = [f"listeners.{name}=false" for name in ("submission", "submissions", "imap", "imaps", "pop3", "pop3s")]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of a new installation."""
    folder = tmp_path_factory.mktemp("serve") / "mail"
    return initialize(folder, "example.test", "mail.example.test", 20000).file


def command(file: Path, *settings: str) -> list[str]:
    sets = [part for setting in settings for part in ("--set", setting)]
    program = "from mailstack.admin.cli import main; main()"
    return [sys.executable, "-c", program, "--config", str(file), *sets, "serve"]


def failing(file: Path, *settings: str) -> tuple[int, str]:
    """Exit status and standard error of a start that cannot succeed."""
    done = subprocess.run(command(file, *settings), capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_it_is_what_twistd_would_do() -> None:
    assert arguments(Path("/etc/m.toml"), ["log.level=debug", "a.b=1"]) == [
        "--nodaemon", "--no_save", "--pidfile=", "--umask=077", "mailstack", "--config", "/etc/m.toml",
        "--set", "log.level=debug", "--set", "a.b=1",
    ]  # fmt: skip


def test_it_serves_and_stops_cleanly(file: Path) -> None:
    with subprocess.Popen(
        command(file, *OFF, "listeners.smtp=0"), stderr=subprocess.PIPE, text=True, cwd=file.parent
    ) as process:
        assert process.stderr is not None
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        lines = []
        for line in process.stderr:
            lines.append(line)
            if " port " in line:
                port = int(line.split()[-1])
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                    assert client.makefile("rb").readline().startswith(b"220 mail.example.test ")
                process.send_signal(signal.SIGTERM)
        watchdog.cancel()
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)
    text = "".join(lines)
    assert lines[-1].rstrip().endswith("mailstack has stopped"), text
    assert "Traceback" not in text
    assert not list(file.parent.glob("twistd*"))


def test_a_port_that_is_taken(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, errors = failing(file, *OFF, f"listeners.smtp={port}")
    assert status == 1
    last = errors.splitlines()[-1]
    assert last.startswith(f"mailstack: smtp: cannot listen on 127.0.0.1 port {port}: ")
    assert "Traceback" not in errors


def test_every_mistake_in_the_settings_and_status_two(file: Path) -> None:
    status, errors = failing(file, "listeners.smtp='x'", "hostnam='y'")
    assert status == 2
    assert errors.splitlines() == [
        f'mailstack: {file}: hostnam - unknown key (got "y"); did you mean hostname?',
        f'mailstack: {file}: listeners.smtp - should be a valid integer, or should be False (got "x"); '
        "write a whole number, without quotes",
    ]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("tls.certificate='/nonexistent/cert.pem'", "/nonexistent/cert.pem: No such file or directory"),
        ("tls.certificate='ca.pem'", "cannot be used together"),
        ("oauth={audience=['x'], keys_file='/nonexistent/keys'}", "/nonexistent/keys"),
        ("oauth={audience=['x'], keys_file='ca.pem'}", "oauth: not JSON"),
        ("database.url='sqlite:////nonexistent/mail.db'", "unable to open database file"),
        ("database.url='sqlite:///empty.db'", "mailstack db upgrade"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(file: Path, setting: str, words: str) -> None:
    status, errors = failing(file, setting)
    assert status == 1
    assert words in errors
    assert errors.startswith("mailstack: ")
    assert "Traceback" not in errors


def test_explanations() -> None:
    assert explain(PortUnavailable("imap: no")) == "imap: no"
    assert explain(OSError(28, os.strerror(28), "/x")) == "/x: No space left on device"
    assert (
        explain(OperationalError("SELECT", {}, Exception("locked\nmore")))
        == "[database] cannot be used: locked"
    )
    assert explain(ZeroDivisionError("a bug")) is None
