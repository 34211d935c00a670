"""How fast a running stack is: CPU of the server for each operation, and wall time for orientation.

Run by ``python3 dev.py bench``; prints a line for each step: CPU, rate, wall time, and the target where there is one.
Machines are noisy: compare CPU, and only within one run. ``--messages`` sets the size of the mailbox that IMAP is asked about.
"""

from __future__ import annotations

import argparse
import smtplib
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.bench_smtp import LETTER, SETTINGS, deliver, memory_lines, smtp_lines, submission_lines
from tests.bench.measuring import heading, machine, measured, memory_kib, show
from tests.running import RunningStack, running


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
    client, copied = Imap(stack), min(messages, 1000)
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
        (f"COPY of {copied:,}", lambda: client.ask(f"COPY 1:{copied} Archive")),
        ("FETCH of all bodies", lambda: client.ask("FETCH 1:* (BODY.PEEK[])")),
    ]  # fmt: skip
    heading(f"IMAP, a mailbox of {messages} messages", "", "", "in all")
    for name, step in steps:
        with measured(stack, name):
            step()


def idle(stack: RunningStack, connections: int) -> None:
    heading("IMAP, connections in IDLE", "", "per second", "in all")
    Imap(stack, "bob")  # the memory that it takes to check a password is not what a connection holds
    before = memory_kib(stack.pid())
    clients = []
    with measured(stack, f"connect, log in, SELECT, IDLE: {connections} of them", connections):
        for _ in range(connections):
            client = Imap(stack, "bob")
            client.ask("SELECT INBOX")
            client.say("i IDLE")
            client.hear(b"+ ")
            clients.append(client)
    show("memory that each holds", (memory_kib(stack.pid()) - before) / connections, "KiB", "20 KiB")
    waits = []
    for number in range(20):
        with smtplib.SMTP("127.0.0.1", stack.ports["smtp"], local_hostname="bench.test") as smtp:
            smtp.sendmail("carol@elsewhere.test", [stack.address("bob")], LETTER % (number, number))
            sent = time.monotonic()
        waits.append(max(0.0, clients[0].hear(b"EXISTS") - sent) * 1000)
    show("push after the 250, median", statistics.median(waits), "ms", "5 ms")
    show("push after the 250, worst of 20", max(waits), "ms", "25 ms")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--messages", type=int, default=2000, help="in the mailbox that IMAP is asked about")
    options.add_argument("--connections", type=int, default=1000, help="IDLE connections")
    options.add_argument(
        "--large", type=int, default=50, help="how many messages of 50 MB come in at once; 0: none"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        machine(Path(directory))
        with running(Path(directory) / "bench", settings=SETTINGS) as stack:
            smtp_lines(stack, 300)
            submission_lines(stack, 300)
            deliver(stack, max(0, chosen.messages - 950), 10)
            imap_steps(stack, chosen.messages)
            idle(stack, chosen.connections)
            if chosen.large:
                memory_lines(stack, chosen.large, 50)


if __name__ == "__main__":
    main()
