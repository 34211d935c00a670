"""How fast a backlog drains: many messages to many destinations, some of them dead. Needs Postfix's smtp-sink.

    python -m tests.bench.bench_queue --entries 20000 --hops 1000 --dead 30

Says for each run: seconds until the first attempt, then messages a second, CPU milliseconds a message, memory
before and at its peak. Dead destinations take a connection and say nothing. `--inject` measures the way of a fresh message instead: accepted, written, sent on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, func, select
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from mailstack.db import Database, DatabaseConfig, metadata
from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.mta import entries
from mailstack.mta.exchangers import Target
from mailstack.mta.hops import known_hops
from mailstack.mta.queue import Queue
from mailstack.mta.routes import Routes
from mailstack.mta.settings import MtaConfig
from mailstack.mta.tables import queue_entries
from mailstack.mta.transfer import Transfer
from mailstack.work import Work

TEXT = b"Subject: bench\r\n\r\n" + b"x" * 76 + b"\r\n"
TEXT += (b"y" * 76 + b"\r\n") * ((4096 - len(TEXT)) // 78)
SENDER = Address("alice", "a.test")


class Elsewhere:
    """Nobody lives here."""

    async def is_local(self, domain: str) -> bool:
        return False

    async def resolve(self, address: Address) -> None:
        return None


class Nobody:
    """The MDA of nobody."""

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        return {}


class Ports:
    """Exchangers: destinations named dead are at one port, all others at another."""

    def __init__(self, alive: int, dead: int) -> None:
        self._alive, self._dead = alive, dead
        self.first = 0.0  # when the first was looked for

    def hop(self, domain: str, sender: Address | None = None) -> str:
        return domain

    async def find(self, hop: str) -> list[Target]:
        self.first = self.first or time.monotonic()
        return [Target(f"mx.{hop}", "127.0.0.1", self._dead if hop.startswith("dead") else self._alive)]


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--hops", type=int, default=1000)
    parser.add_argument("--dead", type=int, default=30)
    parser.add_argument("--inject", action="store_true", help="accept the messages instead of a backlog")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    silent = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = _free_port()
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    sink = subprocess.Popen(["smtp-sink", *user, f"127.0.0.1:{port}", "2000"], stdout=subprocess.DEVNULL)
    try:
        running = Deferred.fromCoroutine(_run(options, folder, port, silent.getsockname()[1]))
        running.addErrback(lambda failure: failure.printTraceback())
        running.addBoth(lambda _: reactor.stop())
        reactor.run()
    finally:
        sink.kill()
        sink.wait()
        shutil.rmtree(folder)


async def _run(options: Any, folder: Path, alive: int, dead: int) -> None:
    database = Database(DatabaseConfig(f"sqlite:///{folder / 'bench.db'}"))
    metadata.create_all(database.engine)
    work = Work(reactor, database)
    config = MtaConfig()
    hops = known_hops(config, reactor, Random(1))
    ports = Ports(alive, dead)
    transfer = Transfer(config, "mail.a.test", ports, work, reactor, hops=hops)  # type: ignore[arg-type]
    routes = Routes(Elsewhere(), Nobody(), transfer)
    spool = folder / "spool"
    queue = Queue(
        config, work, routes, reactor, hostname="mail.a.test", spool=spool, random=Random(1), hops=hops
    )
    domains = [f"{'dead' if n < options.dead else 'live'}{n}.test" for n in range(options.hops)]
    if not options.inject:
        filling = multiprocessing.get_context("spawn").Process(  # its memory is not the queue's
            target=_fill, args=(str(database.url), domains, options.entries)
        )
        filling.start()
        while filling.is_alive():
            await deferLater(reactor, 0.1, lambda: None)
    living = options.entries * (options.hops - options.dead) // options.hops
    await deferLater(reactor, 0.5, lambda: None)
    before = _resident()
    began, cpu = time.monotonic(), time.process_time()
    queue.startService()
    if options.inject:
        await _inject(queue, domains, options.entries)
    while await work.read(_waiting_alive) > 0:
        await deferLater(reactor, 0.25, lambda: None)
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{living} to living destinations in {seconds:.1f} s: {living / seconds:.0f}/s, "
        f"{1000 * used / living:.2f} ms CPU each, {before:.0f} MiB before and {peak:.0f} MiB at the peak, "
        f"{ports.first - began:.2f} s until the first attempt, {sum(hops.down(domain) is not None for domain in domains)} hops down"
    )
    transfer.stopService()


async def _inject(queue: Queue, domains: list[str], number: int) -> None:
    async def some(start: int) -> None:
        for n in range(start, number, 20):
            to = Recipient(Address(f"u{n}", domains[n % len(domains)]))
            await queue.accept(Envelope(f"q{n}", SENDER, (to,)), Message.of(TEXT))

    await gatherResults([Deferred.fromCoroutine(some(start)) for start in range(20)])


def _resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _waiting_alive(db: Connection) -> int:
    where = queue_entries.c.hop.like("live%")
    number: int = db.scalar(select(func.count()).select_from(queue_entries).where(where)) or 0
    return number


def _fill(url: str, domains: list[str], number: int) -> None:
    database = Database(DatabaseConfig(url))
    lease = entries.Lease("bench", 0.0)
    now = time.time()
    for start in range(0, number, 5000):
        some = []
        for n in range(start, min(number, start + 5000)):
            to = Recipient(Address(f"u{n}", domains[n % len(domains)]))
            new = [entries.NewEntry(to, to.address.domain, now)]
            some.append(
                entries.NewMessage(
                    Envelope(f"q{n}", SENDER, (to,)), len(TEXT), now, now + 86400, new, lease, TEXT
                )
            )
        database.write(entries.insert_messages, some)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
