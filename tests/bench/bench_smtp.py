"""How fast mail comes in: by SMTP from outside, and by submission with TLS and a login.

Part of ``python3 dev.py bench``; by itself: ``python -m tests.bench.bench_smtp``. All mail is for our own users, so
a message is in its mailbox, durably, when it is counted. Lines as in `bench_stack`.
"""

from __future__ import annotations

import argparse
import smtplib
import socket
import ssl
import statistics
import tempfile
import time
from pathlib import Path

from tests.bench.measuring import at_once, heading, line, machine, measured, pace, peak_memory
from tests.running import RunningStack, running

SETTINGS = (
    "auth.plaintext_networks=['127.0.0.0/8']",
    "listeners.connections_per_address=10000",
    "listeners.new_connections_per_address=0",
    "relay.max_message_octets=104857600",
)
MIB = 1 << 20
LETTER = (
    b"From: Carol Example <carol@elsewhere.test>\r\nTo: alice@example.test\r\nSubject: number %d of many\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%d@elsewhere.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    + (b"It is a line of text, as long as most are.\r\n" * 85)
)
LINE = b"It is a line of text, as long as most are, and there are very many more of them.\r\n"


def deliver(stack: RunningStack, count: int, number: int, new_connection: bool = True) -> None:
    """Send `count` messages of 4 KiB from outside, `number` at a time."""

    def send(first: int) -> None:
        smtp = None
        for one in range(first, count, number):
            if smtp is None:
                smtp = smtplib.SMTP("127.0.0.1", stack.ports["smtp"], local_hostname="bench.test")
            smtp.sendmail("carol@elsewhere.test", [stack.address("alice")], LETTER % (one, one))
            if new_connection:
                smtp.quit()
                smtp = None

    at_once(number, send)


def submit(stack: RunningStack, count: int, number: int) -> list[float]:
    """Submit `count` messages of 4 KiB, each with a TLS connection and a login; how long each took, in ms."""
    context = ssl.create_default_context(cafile=str(stack.ca))
    context.check_hostname = False
    login, taken = stack.address("alice"), []

    def send(first: int) -> None:
        for one in range(first, count, number):
            start = time.monotonic()
            with smtplib.SMTP_SSL(
                "127.0.0.1", stack.ports["submissions"], local_hostname="bench.test", context=context
            ) as smtp:
                smtp.login(login, "alice-secret")
                letter = (LETTER % (one, one)).replace(b"carol@elsewhere.test", login.encode())
                smtp.sendmail(login, [stack.address("bob")], letter)
                taken.append((time.monotonic() - start) * 1000)

    at_once(number, send)
    return taken


def deliver_large(stack: RunningStack, number: int, octets: int) -> None:
    """Send `number` messages of so many octets, all at the same time, in pieces as the server takes them."""
    block = LINE * (65_536 // len(LINE))

    def send(one: int) -> None:
        with socket.create_connection(("127.0.0.1", stack.ports["smtp"])) as client:
            replies = client.makefile("rb")
            _heard(replies)
            to = stack.address(("alice", "bob")[one % 2])
            for line in ("EHLO bench.test", "MAIL FROM:<carol@elsewhere.test>", f"RCPT TO:<{to}>", "DATA"):
                client.sendall(f"{line}\r\n".encode())
                _heard(replies)
            client.sendall(b"Subject: a large one\r\n\r\n")
            for _ in range(octets // len(block)):
                client.sendall(block)
            client.sendall(b".\r\n")
            said = _heard(replies)
            assert said.startswith(b"250"), said

    at_once(number, send)


def _heard(replies: object) -> bytes:
    while True:
        line: bytes = replies.readline()  # type: ignore[attr-defined]
        if line[3:4] != b"-":
            return line


def smtp_lines(stack: RunningStack, count: int) -> None:
    """4 KiB, new connections and one; then 1 MiB."""
    deliver(stack, 50, 5)
    heading("Mail from outside, in the mailbox and on the disk", "", "per second", "in all")
    with measured(stack, "4 KiB, new connection each, 1 at once", count):
        deliver(stack, count, 1)
    with measured(stack, "4 KiB, new connection each, 10 at once", count, "1.5 ms, 600 /s"):
        deliver(stack, count, 10)
    with measured(stack, "4 KiB, all on one connection", count, "1 ms"):
        deliver(stack, count, 1, new_connection=False)
    with measured(stack, "1 MiB, new connection each, 4 at once", 48, "150 /s"):
        for _ in range(12):
            deliver_large(stack, 4, MIB)


def submission_lines(stack: RunningStack, count: int) -> None:
    """TLS, a login, and a message of 4 KiB, each time anew."""
    submit(stack, 20, 2)
    heading("Submission in TLS with AUTH, 4 KiB, new connection each", "", "per second", "in all")
    for number, target in ((1, "a median of 10 ms"), (10, "4 ms")):
        with measured(stack, f"{number} at once", count, target):
            taken = submit(stack, count, number)
        line("    what one waited for it, median", f"{statistics.median(taken):.1f} ms")


def memory_lines(stack: RunningStack, number: int, megabytes: int) -> None:
    """Many large messages at the same time."""
    name = f"{number} messages of {megabytes} MB at once"
    heading("Large messages, for each MB", "", "per second", "in all")
    with peak_memory(stack, name, "200 MiB"), measured(stack, name, number * megabytes):
        deliver_large(stack, number, megabytes * 1_000_000)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--messages", type=int, default=300, help="for each line")
    options.add_argument("--large", type=int, default=50, help="how many of 50 MB there are at once; 0: none")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        machine(Path(directory))
        with running(Path(directory) / "bench", settings=SETTINGS) as stack:
            smtp_lines(stack, chosen.messages)
            submission_lines(stack, chosen.messages)
            if chosen.large:
                memory_lines(stack, chosen.large, 50)
            pace()


if __name__ == "__main__":
    main()
