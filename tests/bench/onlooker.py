"""Another client, in a process of its own, that says NOOP every 20 ms: what others feel of a long command.

``python -m tests.bench.onlooker PORT ADDRESS PASSWORD`` says "ready", goes on until its input ends, and prints its `Waits`.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.running import RunningStack

EVERY = 0.02  # seconds between an answer and the next question
LONG = 0.05  # seconds that nobody should wait longer than


@dataclass(frozen=True, slots=True)
class Waits:
    """How long the NOOPs took, in milliseconds."""

    count: int
    median: float
    p99: float
    longest: float
    long: int  # how many took longer than `LONG`

    @classmethod
    def of(cls, seconds: list[float]) -> Waits:
        """Of all of them."""
        ordered = [each * 1000 for each in sorted(seconds)] or [0.0]
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99, 1.0)]
        return cls(len(seconds), *at, sum(each > LONG for each in seconds))

    def __str__(self) -> str:
        return f"{self.count} {self.median:.1f} {self.p99:.1f} {self.longest:.1f} {self.long}"

    @classmethod
    def read(cls, text: str) -> Waits:
        """What `str` gave."""
        count, median, p99, longest, long = text.split()
        return cls(int(count), float(median), float(p99), float(longest), int(long))


class Onlooker:
    """The process, from here."""

    def __init__(self, stack: RunningStack, user: str = "bob") -> None:
        words = [str(stack.ports["imap"]), stack.address(user), f"{user}-secret"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> Waits:
        """Stop; what it saw."""
        said, _ = self._process.communicate()
        return Waits.read(said)


def _ask(client: socket.socket, command: str) -> None:
    client.sendall(f"n {command}\r\n".encode())
    data = b"\n"
    while b"\nn OK" not in data or not data.endswith(b"\n"):
        received = client.recv(65536)
        assert received, data
        data = (data + received)[-4000:]


def main() -> None:
    port, address, password = sys.argv[1:]
    client = socket.create_connection(("127.0.0.1", int(port)))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.recv(4096)
    _ask(client, f"LOGIN {address} {password}")
    _ask(client, "SELECT INBOX")
    print("ready", flush=True)
    waits: list[float] = []
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        began = time.monotonic()
        _ask(client, "NOOP")
        waits.append(time.monotonic() - began)
    print(Waits.of(waits))


if __name__ == "__main__":
    main()
