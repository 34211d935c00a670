"""Two mail servers side by side, each made and run by the operator's own commands."""

from __future__ import annotations

import contextlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mailstack.admin.journey.client import Account
from mailstack.net.settings import SERVICES, ListenersConfig

PATIENCE = 60.0  # seconds for a command, or for the ports to answer
MAILSTACK = (sys.executable, "-c", "from mailstack.admin.cli import main; main()")
BASES = range(20000, 32000, 1000)  # what may be added to the ports: below where systems take theirs
GUARD = 999  # the port that a journey holds while it uses a base


class CannotStart(Exception):
    """A command failed, or a server did not come up; the text says which, and what it printed."""


class Ports:
    """A free range of ports, ours until `release`."""

    def __init__(self) -> None:
        for base in BASES:
            guard = socket.socket()
            try:
                guard.bind(("127.0.0.1", base + GUARD))
            except OSError:
                guard.close()
                continue
            if all(_is_free(port + base) for port in _defaults().values()):
                self._guard, self.base = guard, base
                return
            guard.close()
        raise CannotStart("no free ports on loopback between 20000 and 32000")

    def numbers(self) -> dict[str, int]:
        """The port of each service."""
        return {name: port + self.base for name, port in _defaults().items()}

    def release(self) -> None:
        """Let others have the range."""
        self._guard.close()


class Stack:
    """One domain's server with one user, in `directory`."""

    def __init__(self, directory: Path, domain: str, user: str, ports: Ports) -> None:
        self.directory = directory
        self.domain = domain
        self.hostname = f"mail.{domain}"
        self.ports = ports.numbers()
        self._base = ports.base
        self._log = directory.with_name(f"{domain}.log")
        self._process: subprocess.Popen[bytes] | None = None
        password = secrets.token_hex(4)
        self.account = Account(f"{user}@{domain}", password, self.hostname, directory / "ca.pem", self.ports)

    def make(self) -> None:
        """`mailstack init` and `mailstack user add`; raise CannotStart."""
        names = ("--domain", self.domain, "--hostname", self.hostname)
        self._run("init", str(self.directory), *names, "--add-to-ports", str(self._base))
        add = ("user", "add", self.account.address, "--password-stdin")
        self._run(*self._configured(), *add, stdin=f"{self.account.password}\n")

    def start(self, settings: Sequence[str]) -> None:
        """`mailstack serve` in the background; every line of its conversations goes to its log."""
        sets = [part for setting in (*settings, "log.conversation=true") for part in ("--set", setting)]
        command = [*MAILSTACK, *self._configured(), *sets, "serve"]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C is for the journey, which then stops the servers in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Return once every port answers; raise CannotStart."""
        give_up = time.monotonic() + PATIENCE
        for name, port in self.ports.items():
            while _is_free(port):
                if not self.is_running():
                    raise CannotStart(f"the server of {self.domain} ended at once")
                if time.monotonic() > give_up:
                    raise CannotStart(f"{name} of {self.domain} does not listen on port {port}")
                time.sleep(0.05)

    def is_running(self) -> bool:
        """Whether the server lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """A clean end; never raises."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> list[str]:
        """The lines of its log."""
        try:
            return self._log.read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []

    def conversation(self, service: str, containing: str) -> list[tuple[str, str]]:
        """(C or S, line) of the one logged conversation of `service` in which `containing` was said."""
        spoken: dict[str, list[tuple[str, str]]] = {}
        pattern = re.compile(rf" conversation: {re.escape(service)} (\S+) (C|S|--):? ?(.*)")
        for line in self.log():
            if found := pattern.search(line):
                spoken.setdefault(found[1], []).append((found[2].replace("--", "*"), found[3]))
        for lines in spoken.values():
            if any(containing in text for _, text in lines):
                return lines
        return []

    def message_file(self, containing: bytes) -> Path | None:
        """The file in a Maildir below the data folder whose bytes contain this."""
        for path in self.directory.joinpath("data").rglob("*"):
            if path.parent.name in ("new", "cur"):
                with contextlib.suppress(OSError):
                    if containing in path.read_bytes():
                        return path
        return None

    def _configured(self) -> tuple[str, ...]:
        return ("--config", str(self.directory / "mailstack.toml"))

    def _run(self, *words: str, stdin: str = "") -> None:
        done = subprocess.run(
            [*MAILSTACK, *words], input=stdin, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            raise CannotStart(f"mailstack {' '.join(words)}: {(done.stderr or done.stdout).strip()}")


def _defaults() -> dict[str, int]:
    listeners = ListenersConfig()
    return {name: int(getattr(listeners, name)) for name in SERVICES}


def _is_free(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return True
    return False
