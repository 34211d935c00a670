"""What the store costs: `python -m tests.bench.bench_store [FOLDER]`. Not collected by pytest; prints a table."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

import mailstack.directory.tables as directory
from mailstack.db import Database, DatabaseConfig, metadata
from mailstack.mail.message import Message
from mailstack.store.facts import compute_facts
from mailstack.store.mailbox import Mailbox
from mailstack.store.message_store import MessageStore
from mailstack.store.settings import StoreConfig
from mailstack.store.values import New, Parcel
from mailstack.work import Work

BODY = (
    b"Received: from a.example (a.example [192.0.2.1]) by mx.example.org with ESMTPS id 1;\r\n"
    b" Mon, 01 Jun 2026 10:00:00 +0000\r\nFrom: Alice <alice@example.org>\r\nTo: Bob <bob@example.org>\r\n"
    b"Subject: a benchmark\r\nDate: Mon, 01 Jun 2026 10:00:00 +0000\r\nMessage-ID: <%d@example.org>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + b"some text of a line\r\n" * 175
)
BATCH = 10  # deliveries at a time
FACTS = frozenset({"envelope", "fields", "header_size"})


class Stopwatch:
    """Prints wall and CPU time of a step, of the whole process."""

    async def __call__(self, name: str, step: Callable[[], Awaitable[Any]], count: int = 1) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        value = await step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        each = f"{count / wall:9.0f}/s {cpu / count * 1000:8.3f} ms CPU each" if count > 1 else ""
        print(f"{name:44} {wall:8.4f} s wall {cpu:8.4f} s CPU {each}", flush=True)
        return value


async def deliver(store: MessageStore, count: int) -> None:
    """`count` deliveries, BATCH at a time, each a call of its own."""
    numbers = iter(range(count))

    async def one_after_the_other() -> None:
        for number in numbers:
            [outcome] = await store.deliver([Parcel(1, "INBOX", Message.of(BODY % number), f"id{number}")])
            if isinstance(outcome, Exception):
                raise outcome

    await gatherResults([Deferred.fromCoroutine(one_after_the_other()) for _ in range(BATCH)])


async def all_facts(box: Mailbox) -> None:
    """What a client's first look at every message costs."""
    uids = box.view(read_only=True).uids
    for start in range(0, len(uids), 500):
        await box.facts(uids[start : start + 500], FACTS)


async def bodies(box: Mailbox, count: int) -> None:
    """One body after the other."""
    for uid in box.view(read_only=True).uids[:count]:
        await box.body(uid)


async def entries(box: Mailbox) -> int:
    """FETCH 1:* (FLAGS), without the writing."""
    return sum(1 for uid in box.view(read_only=True).uids if box.entry(uid))


async def measure(store: MessageStore, again: Callable[[], MessageStore], count: int) -> None:
    """Every step."""
    watch = Stopwatch()

    async def facts_only() -> None:
        for number in range(1000):
            compute_facts(BODY % number)

    await store.provision(1)
    await deliver(store, 20)
    await watch("compute_facts", facts_only, 1000)
    await watch(f"deliver 4 KiB, {BATCH} at a time", lambda: deliver(store, 3000), 3000)
    new = [New(Message.of(BODY % number)) for number in range(1000)]
    for _ in range(max(0, count - 3000) // 1000):
        await store.append(1, "INBOX", new)
    await watch("append 1,000 in one call", lambda: store.append(1, "Sent", new), 1000)
    store = again()
    box = await watch(f"open {count}, first", lambda: store.open(1, "INBOX"))
    await watch("open, warm (directories unsettled)", lambda: store.open(1, "INBOX"))
    view = box.view()
    uids = view.uids
    await watch("entry() of every message", lambda: entries(box))
    await watch("facts of every message", lambda: all_facts(box))
    await watch("body of 1,000 messages", lambda: bodies(box, 1000), 1000)
    flags = frozenset({r"\Seen"})
    await watch(f"store_flags of {len(uids)}", lambda: box.store_flags(uids, "add", flags))
    await watch("store_flags of every second", lambda: box.store_flags(uids[::2], "remove", flags))
    await watch("catch_up of a view", lambda: later(lambda: view.catch_up(True)))
    await watch(
        "store_flags of one", lambda: repeat(200, lambda n: box.store_flags([uids[n]], "add", flags)), 200
    )
    await watch("copy 1,000", lambda: box.copy(uids[:1000], "Archive"))
    await watch("move 1,000", lambda: box.move(uids[1000:2000], "Archive"))
    await watch("expunge 1,000", lambda: box.expunge(uids[:1000]))
    await watch("write-behind of all that", store.upkeep.catch_up)
    await watch("open after it", lambda: store.open(1, "INBOX"))
    time.sleep(1.1)  # noqa: ASYNC251 - the file system's clock, not ours
    await watch("open, directories settled, first look", lambda: store.open(1, "INBOX"))
    await watch("open, warm", lambda: store.open(1, "INBOX"))
    await watch("10,000 idle views", lambda: later(lambda: [box.view(True) for _ in range(10_000)]))


async def later(function: Callable[[], Any]) -> Any:
    return function()


async def repeat(count: int, function: Callable[[int], Awaitable[Any]]) -> None:
    for number in range(count):
        await function(number)


def main() -> None:
    """Run it in FOLDER, or in a temporary one, on DATABASE_URL or SQLite."""
    count = int(os.environ.get("COUNT", "10000"))
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        url = os.environ.get("DATABASE_URL") or f"sqlite:///{folder}/bench.db"
        database = Database(DatabaseConfig(url))
        metadata.create_all(database.engine)
        user = {"id": 1, "domain_id": 1, "address": "bob@example.org", "password_hash": "", "enabled": True}
        with database.engine.begin() as db:
            db.execute(insert(directory.domains).values(id=1, name="example.org", created=0))
            db.execute(insert(directory.users).values(**user, created=0))
        work = Work(reactor, database)  # type: ignore[arg-type]
        config = StoreConfig(path=Path(folder) / "mail")

        def store() -> MessageStore:
            return MessageStore(config, work, reactor)

        run(measure(store(), store, count), work)


def run(steps: Coroutine[Any, Any, None], work: Work) -> None:
    """Run the steps in the reactor."""

    async def whole() -> None:
        try:
            await steps
        finally:
            await work.close()
            reactor.stop()  # type: ignore[attr-defined]

    def start() -> None:
        Deferred.fromCoroutine(whole()).addErrback(lambda failure: failure.printTraceback())

    reactor.callWhenRunning(start)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
