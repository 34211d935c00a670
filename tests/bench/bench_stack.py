"""How fast a running stack is: CPU of the server for each operation, and wall time for orientation.

Run by ``python3 dev.py bench``; prints a line for each figure: name, value, unit, tab-separated. Machines are
noisy: compare CPU, and only within one run. ``--messages`` sets the size of the mailbox that IMAP is asked about.
"""

from __future__ import annotations

import argparse
import os
import smtplib
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.running import RunningStack, running

TICK = os.sysconf("SC_CLK_TCK")
LETTER = (
    b"From: Carol Example <carol@elsewhere.test>\r\nTo: alice@example.test\r\nSubject: number %d of many\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%d@elsewhere.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    + (b"It is a line of text, as long as most are.\r\n" * 85)
)


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has spent."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_kib(pid: int) -> int:
    """Proportional set size."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def show(name: str, value: float, unit: str) -> None:
    print(f"{name}\t{value:.3f}\t{unit}", flush=True)


@contextmanager
def measured(stack: RunningStack, name: str, operations: int = 1) -> Iterator[None]:
    """Show CPU and wall time of what happens inside, for each operation."""
    cpu, wall = cpu_seconds(stack.pid()), time.monotonic()
    yield
    wall, cpu = time.monotonic() - wall, cpu_seconds(stack.pid()) - cpu
    show(f"{name}: CPU", cpu / operations * 1000, "ms each" if operations > 1 else "ms")
    show(f"{name}: wall", wall, "s")
    if operations > 1:
        show(f"{name}: rate", operations / wall, "per s")


def deliver(stack: RunningStack, count: int, at_once: int, new_connection: bool = True) -> None:
    """Send `count` messages of 4 KiB from outside, `at_once` at a time."""

    def send(numbers: range) -> None:
        smtp = None
        for number in numbers:
            if smtp is None:
                smtp = smtplib.SMTP("127.0.0.1", stack.ports["smtp"], local_hostname="bench.test")
            smtp.sendmail("carol@elsewhere.test", [stack.address("alice")], LETTER % (number, number))
            if new_connection:
                smtp.quit()
                smtp = None

    threads = [threading.Thread(target=send, args=(range(i, count, at_once),)) for i in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Imap:
    """The least of a client: what it costs should be the server's."""

    def __init__(self, stack: RunningStack, user: str = "alice") -> None:
        self.socket = socket.create_connection(("127.0.0.1", stack.ports["imap"]))
        self._rest = b""
        self._until(b"* OK")
        self.ask(f"LOGIN {stack.address(user)} {user}-secret")

    def ask(self, command: str) -> int:
        """Send a command, read to its tagged answer; return the octets of the answer."""
        self.socket.sendall(f"a {command}\r\n".encode())
        size, tail = 0, self._rest
        while True:
            data = self.socket.recv(1 << 20)
            size += len(data)
            tail = (tail + data)[-4000:]  # the longest line is that of the capabilities
            if tail.endswith(b"\r\n") and tail[:-2].rpartition(b"\r\n")[2].startswith(
                (b"a OK", b"a NO", b"a BAD")
            ):
                assert b"a OK" in tail, tail
                return size

    def say(self, line: str) -> None:
        self.socket.sendall(f"{line}\r\n".encode())

    def _until(self, words: bytes) -> None:
        data = b""
        while words not in data or not data.endswith(b"\r\n"):
            data += self.socket.recv(65536)

    def hear(self, words: bytes) -> float:
        """Wait for `words`; return when they came (monotonic seconds)."""
        self._until(words)
        return time.monotonic()


def imap_steps(stack: RunningStack, messages: int) -> None:
    client = Imap(stack)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("SELECT, first", lambda: client.ask("SELECT INBOX")),
        ("SELECT, warm", lambda: client.ask("SELECT INBOX")),
        ("FETCH FLAGS", lambda: client.ask("FETCH 1:* (FLAGS)")),
        ("FETCH ENVELOPE set", lambda: client.ask("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)")),
        ("FETCH BODYSTRUCTURE", lambda: client.ask("FETCH 1:* (BODYSTRUCTURE)")),
        ("FETCH Thunderbird's headers", lambda: client.ask(
            "UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID "
            "Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To)])")),
        ("SEARCH SUBJECT", lambda: client.ask('SEARCH SUBJECT "number 77"')),
        ("STORE +FLAGS on all", lambda: client.ask(r"STORE 1:* +FLAGS.SILENT (\Flagged)")),
        ("COPY of 1,000", lambda: client.ask("COPY 1:1000 Archive")),
        ("FETCH of all bodies", lambda: client.ask("FETCH 1:* (BODY.PEEK[])")),
    ]  # fmt: skip
    for name, step in steps:
        with measured(stack, f"IMAP {messages} messages, {name}"):
            step()


def idle(stack: RunningStack, connections: int) -> None:
    before = memory_kib(stack.pid())
    clients = []
    with measured(stack, "IDLE set-up", connections):
        for _ in range(connections):
            client = Imap(stack, "bob")
            client.ask("SELECT INBOX")
            client.say("i IDLE")
            client.hear(b"+ ")
            clients.append(client)
    show("IDLE memory", (memory_kib(stack.pid()) - before) / connections, "KiB each")
    waits = []
    for number in range(20):
        with smtplib.SMTP("127.0.0.1", stack.ports["smtp"], local_hostname="bench.test") as smtp:
            smtp.sendmail("carol@elsewhere.test", [stack.address("bob")], LETTER % (number, number))
            sent = time.monotonic()
        waits.append(max(0.0, clients[0].hear(b"EXISTS") - sent) * 1000)
    show("IDLE push after the 250: median", statistics.median(waits), "ms")
    show("IDLE push after the 250: worst of 20", max(waits), "ms")


def disk(directory: Path) -> None:
    """What one fsync costs here: everything durable is measured against it."""
    path = directory / "fsync"
    with path.open("wb") as file:
        start = time.monotonic()
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    show("the machine: one fsync of 4 KiB", (time.monotonic() - start) / 200 * 1000, "ms")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--messages", type=int, default=2000, help="in the mailbox that IMAP is asked about")
    options.add_argument("--connections", type=int, default=200, help="IDLE connections")
    chosen = options.parse_args()
    settings = ["auth.plaintext_networks=['127.0.0.0/8']", "listeners.connections_per_address=10000"]
    with tempfile.TemporaryDirectory() as directory:
        disk(Path(directory))
        with running(Path(directory) / "bench", settings=settings) as stack:
            deliver(stack, 50, 5)
            for at_once in (1, 10):
                with measured(stack, f"SMTP 4 KiB, new connection, {at_once} at once", 300):
                    deliver(stack, 300, at_once)
            with measured(stack, "SMTP 4 KiB, one connection", 300):
                deliver(stack, 300, 1, new_connection=False)
            deliver(stack, max(0, chosen.messages - 950), 10)
            imap_steps(stack, chosen.messages)
            idle(stack, chosen.connections)


if __name__ == "__main__":
    main()
