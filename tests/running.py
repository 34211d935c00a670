"""A whole stack as its operator starts it: `mailstack init`, `user add`, `serve`.

The server is a process of its own. The other commands run in ours, by the same `mailstack` command line: that they
also work as processes is seen in tests/admin, and starting one for each would take half of the suite's time.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mailstack.admin.cli import cli

SERVICES = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")
CHEAP = (
    "directory.argon2_memory_kib=8",
    "directory.argon2_time_cost=1",
)  # a hundred users, a thousand logins
PATIENCE = 120  # seconds that any one step may take on a busy machine: on a tenth of a processor some take 60

_LOWEST, _PORTS = 11_000, 9_000  # a journey has those from 20,000 on
_numbers = itertools.count(os.getpid() * 1009)  # processes begin apart from each other

COMMAND = [sys.executable, "-c", "from mailstack.admin.cli import main; main()"]


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now.

    They are below those that the system gives to clients, and no two calls of a process get the same: between this
    and the server's start nobody else should come upon them.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = _LOWEST + next(_numbers) % _PORTS
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


class RunningStack:
    """One domain's mail stack in `directory`, with users whose passwords are ``NAME-secret``."""

    def __init__(
        self,
        directory: Path,
        domain: str = "example.test",
        users: Sequence[str] = ("alice", "bob"),
        settings: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.domain = domain
        self.hostname = f"mail.{domain}"
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        self.settings = [
            'listeners.addresses=["127.0.0.1"]',
            *(f"listeners.{name}={port}" for name, port in self.ports.items()),
            *CHEAP,
            *settings,
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self._wrapper: list[str] = []
        self.log_file = directory.with_suffix(".log")
        self.command("init", str(directory), "--domain", domain, "--hostname", self.hostname)
        for user in users:
            self.add_user(user)

    @property
    def ca(self) -> Path:
        """The authority that signed the server's certificate."""
        return self.directory / "ca.pem"

    def command(self, *words: str, stdin: str = "") -> str:
        """Run one of the operator's commands; return what it printed."""
        done = CliRunner().invoke(cli, words, input=stdin, prog_name="mailstack")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, f"mailstack {' '.join(words)}: {done.output}"
        return done.stdout

    def configured(self, *words: str, stdin: str = "") -> str:
        """Run one that reads our configuration file."""
        return self.command(*self._options(), *words, stdin=stdin)

    def json(self, *words: str) -> Any:
        """Run one with --json."""
        return json.loads(self.configured(*words, "--json"))

    def address(self, user: str) -> str:
        """The user's address."""
        return f"{user}@{self.domain}"

    def add_user(self, user: str) -> None:
        """Add a user with our usual password."""
        self.configured("user", "add", self.address(user), "--password-stdin", stdin=f"{user}-secret\n")

    def beside(self) -> RunningStack:
        """Another server for the same folder and database, on other ports; not started."""
        other = copy.copy(self)
        other.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        other.settings = [*self.settings, *(f"listeners.{name}={port}" for name, port in other.ports.items())]
        other.log_file = self.log_file.with_suffix(".beside.log")
        other.process = None
        return other

    def wrap(self, words: list[str]) -> None:
        """Have the server started by another program, which gets the server's command as its last arguments."""
        self._wrapper = words

    def start(self) -> RunningStack:
        """Start the server and wait until every port greets."""
        log = self.log_file.open("ab")
        self.process = subprocess.Popen(
            [*self._wrapper, *COMMAND, *self._options(), "serve"], stdout=log, stderr=log
        )
        log.close()
        give_up = time.monotonic() + PATIENCE
        for port in self.ports.values():
            while not answers(port):
                assert self.process.poll() is None, f"the server ended: {self.log()}"
                assert time.monotonic() < give_up, f"the server does not listen: {self.log()}"
                time.sleep(0.05)
        return self

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """A clean end."""
        self._end(signal.SIGTERM)

    def log(self) -> str:
        """What the server has logged."""
        return self.log_file.read_text(errors="replace")

    def pid(self) -> int:
        """The server's process."""
        assert self.process is not None
        return self.process.pid

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
            self.process = None

    def _options(self) -> list[str]:
        options = ["--config", str(self.directory / "mailstack.toml")]
        for setting in self.settings:
            options += ["--set", setting]
        return options


@contextlib.contextmanager
def running(directory: Path, **options: Any) -> Iterator[RunningStack]:
    """A started stack that is stopped at the end."""
    stack = RunningStack(directory, **options).start()
    try:
        yield stack
    finally:
        stack.stop()


def answers(port: int) -> bool:
    """Whether somebody takes connections at this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def eventually(check: Any, seconds: float = PATIENCE) -> Any:
    """What `check()` returns once it is true; fails after `seconds`."""
    give_up = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < give_up, f"still not so after {seconds} s"
        time.sleep(0.05)
