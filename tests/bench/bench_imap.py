"""IMAP on a large mailbox, while another client says NOOP; and a mixed load as of many clients at once.

``python -m tests.bench.bench_imap [--messages 100000] [--clients 20] [--seconds 12]`` prints a line for each figure:
name, value, unit, tab-separated. Machines are noisy: compare CPU, and only within one run.

The mixed load is what imaptest does by default, as far as it matters to a server: each client has a mailbox selected
and says, at random, FETCH of some messages (envelopes, headers, bodies), STORE, SEARCH, APPEND, marking as deleted and
EXPUNGE, SELECT anew, NOOP, CHECK; the clients share `--users` accounts, so that they see one another's changes.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.bench_stack import LETTER, Imap
from tests.bench.measuring import cpu_seconds, heading, line, memory_kib, show
from tests.bench.onlooker import Onlooker
from tests.running import RunningStack, running

HEADERS = "From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To"
LARGE = "Archive"
SOME = 200  # messages that are copied until there are enough


def append(client: Imap, mailbox: str, count: int) -> None:
    for number in range(count):
        letter = LETTER % (number, number)
        client.socket.sendall(b"p APPEND %b {%d+}\r\n%b\r\n" % (mailbox.encode(), len(letter), letter))
        client.hear(b"p OK")


def fill(stack: RunningStack, messages: int) -> Imap:
    """A client that has selected a mailbox with so many messages."""
    client = Imap(stack)
    append(client, "INBOX", min(SOME, messages))
    client.ask("SELECT INBOX")
    while (held := _count(client)) < messages:
        client.ask(f"COPY 1:{min(SOME, messages - held)} {LARGE}")
        if held >= 10 * SOME:
            client.ask(f"SELECT {LARGE}")
            client.ask(f"COPY 1:{min(held, messages - held)} {LARGE}")
            client.ask("SELECT INBOX")
    client.ask(f"SELECT {LARGE}")
    return client


def _count(client: Imap) -> int:
    client.socket.sendall(f"s STATUS {LARGE} (MESSAGES)\r\n".encode())
    data = b""
    while b"s OK" not in data:
        data += client.socket.recv(4096)
    return int(data.partition(b"(MESSAGES ")[2].partition(b")")[0])


def large(stack: RunningStack, messages: int) -> None:
    """Each step on all messages, and what another client feels of it."""
    client = fill(stack, messages)
    stack.configured("store", "index", stack.address("alice"))  # else SEARCH BODY reads every message
    stack.stop()
    stack.start()
    client = Imap(stack)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("SELECT, first", lambda: client.ask(f"SELECT {LARGE}")),
        ("SELECT, again", lambda: Imap(stack).ask(f"SELECT {LARGE}")),
        ("FETCH FLAGS", lambda: client.ask("FETCH 1:* (FLAGS)")),
        ("ENVELOPE set", lambda: client.ask("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)")),
        ("BODYSTRUCTURE", lambda: client.ask("FETCH 1:* (BODYSTRUCTURE)")),
        ("Thunderbird's headers", lambda: client.ask(
            f"UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS ({HEADERS})])")),
        ("SEARCH SUBJECT", lambda: client.ask('SEARCH SUBJECT "number 77 "')),
        ("SEARCH BODY", lambda: client.ask('SEARCH BODY "number 77 "')),
        ("SEARCH SINCE", lambda: client.ask("SEARCH SINCE 1-Feb-2022 BEFORE 1-Mar-2022")),
        ("SORT date", lambda: client.ask("UID SORT (REVERSE DATE) UTF-8 ALL")),
        ("SORT date, again", lambda: client.ask("UID SORT (REVERSE DATE) UTF-8 ALL")),
        ("SORT subject", lambda: client.ask("UID SORT (SUBJECT) UTF-8 ALL")),
        ("THREAD", lambda: client.ask("UID THREAD REFERENCES UTF-8 ALL")),
        ("THREAD, again", lambda: client.ask("UID THREAD REFERENCES UTF-8 ALL")),
        ("STORE on all", lambda: client.ask(r"STORE 1:* +FLAGS.SILENT (\Flagged)")),
        ("COPY of 1,000", lambda: client.ask("COPY 1:1000 Drafts")),
        ("FETCH of 20,000 bodies, at most", lambda: client.ask(f"FETCH 1:{min(20_000, messages)} (BODY.PEEK[])")),
    ]  # fmt: skip
    heading(f"{messages} messages", "CPU", "wall", "NOOP p50", "p99", "longest", "above 50 ms")
    for name, step in steps:
        onlooker = Onlooker(stack)
        cpu, wall = cpu_seconds(stack.pid()), time.monotonic()
        step()
        wall, cpu = time.monotonic() - wall, cpu_seconds(stack.pid()) - cpu
        waits = onlooker.end()
        times = [f"{each:.1f} ms" for each in (waits.median, waits.p99, waits.longest)]
        line(name, f"{cpu:.3f} s", f"{wall:.3f} s", *times, f"{waits.long} of {waits.count}")
    show("memory of the server", memory_kib(stack.pid()) / 1024, "MiB")


class Busy(threading.Thread):
    """One client of the mixed load."""

    def __init__(self, stack: RunningStack, user: str, seed: int, until: float) -> None:
        super().__init__()
        self._stack, self._user, self._until = stack, user, until
        self._choose = random.Random(seed)
        self.commands = 0

    def run(self) -> None:
        self._client = client = Imap(self._stack, self._user)
        client.ask("SELECT Drafts")
        while time.monotonic() < self._until:
            self._choose.choice(_MIX)(self)
            self.commands += 1

    def fetch(self) -> None:
        what = self._choose.choice(
            ["ENVELOPE", "BODY.PEEK[HEADER]", "(UID FLAGS RFC822.SIZE)", "BODYSTRUCTURE"]
        )
        self._client.ask(f"UID FETCH {self._uids()} {what}")

    def body(self) -> None:
        self._client.ask(f"UID FETCH {self._uids()} BODY[]")

    def store(self) -> None:
        flag = self._choose.choice([r"\Seen", r"\Flagged", r"\Answered", "$Label1"])
        self._client.ask(f"UID STORE {self._uids()} {self._choose.choice('+-')}FLAGS ({flag})")

    def delete(self) -> None:
        self._client.ask(rf"UID STORE {self._uids()} +FLAGS.SILENT (\Deleted)")

    def search(self) -> None:
        self._client.ask(
            self._choose.choice(["SEARCH UNSEEN", "SEARCH FLAGGED", 'SEARCH SUBJECT "number 1"'])
        )

    def expunge(self) -> None:
        self._client.ask("EXPUNGE")

    def append(self) -> None:
        append(self._client, "Drafts", 1)

    def select(self) -> None:
        self._client.ask("SELECT Drafts")

    def noop(self) -> None:
        self._client.ask("NOOP")

    def _uids(self) -> str:
        first = self._choose.randrange(1, 500)
        return f"{first}:{first + self._choose.randrange(5)}"


_MIX: list[Callable[[Busy], None]] = [
    *[Busy.fetch] * 6, *[Busy.body] * 2, *[Busy.store] * 3, *[Busy.search] * 2, *[Busy.append] * 2,
    *[Busy.noop] * 2, Busy.delete, Busy.expunge, Busy.select,
]  # fmt: skip


def mixed(stack: RunningStack, clients: int, seconds: float) -> None:
    """Commands a second, and the CPU of one."""
    for user in ("alice", "bob"):
        append(Imap(stack, user), "Drafts", 100)
    cpu, began = cpu_seconds(stack.pid()), time.monotonic()
    threads = [Busy(stack, ("alice", "bob")[n % 2], n, began + seconds) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, cpu = time.monotonic() - began, cpu_seconds(stack.pid()) - cpu
    commands = sum(thread.commands for thread in threads)
    show(f"mixed load of {clients} clients: commands", commands / wall, "per s")
    show(f"mixed load of {clients} clients: CPU", cpu / max(1, commands) * 1000, "ms each")
    show(f"mixed load of {clients} clients: CPU in use", cpu / wall * 100, "% of a core")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument(
        "--messages", type=int, default=10_000, help="in the large mailbox; 0: leave that out"
    )
    options.add_argument("--clients", type=int, default=20, help="of the mixed load; 0: leave that out")
    options.add_argument("--seconds", type=float, default=12.0, help="of the mixed load")
    chosen = options.parse_args()
    settings = ["auth.plaintext_networks=['127.0.0.0/8']", "listeners.connections_per_address=10000"]
    with (
        tempfile.TemporaryDirectory() as directory,
        running(Path(directory) / "bench", settings=settings) as stack,
    ):
        if chosen.clients:
            mixed(stack, chosen.clients, chosen.seconds)
        if chosen.messages:
            large(stack, chosen.messages)


if __name__ == "__main__":
    main()
