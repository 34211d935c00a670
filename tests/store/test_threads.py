"""The same store with its real threads, and two processes' worth of writers on one database."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial import unittest

import mailstack.directory.tables as directory
from mailstack.db import Database, DatabaseConfig, metadata
from mailstack.mail.message import Message
from mailstack.store.delivery import When, deliver_txn, write_parcels
from mailstack.store.message_store import MessageStore
from mailstack.store.settings import StoreConfig
from mailstack.store.tables import UID_MASK
from mailstack.store.values import Delivered, Parcel
from mailstack.work import Work
from tests.store.harness import Harness, now, text


def test_two_writers_never_give_one_uid_twice(harness: Harness) -> None:
    """Each with a connection of its own, both delivering the same messages: every one is there once."""
    now(harness.store.provision(1))
    home, when = harness.path(), When(int(time.time()), 0)
    uids: list[list[int]] = [[], []]
    errors: list[BaseException] = []

    def writer(which: int) -> None:
        numbers = range(30) if which else range(29, -1, -1)
        for number in numbers:
            parcel = Parcel(1, "INBOX", Message.of(text(number)), f"d{number}")
            try:
                written = write_parcels([home], [parcel], when)
                [outcome], _ = harness.database.write(deliver_txn, harness.root, written, [parcel], when)
                assert isinstance(outcome, Delivered)
                if not outcome.repeated:
                    uids[which].append(outcome.uid)
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=writer, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (
        error
    ) in errors:  # at once on PostgreSQL: the unique index lets one of the two in, the other is told to retry
        assert "uq_messages" in str(error) or "ix_messages" in str(error), error
    assert sorted(uids[0] + uids[1]) == sorted({*uids[0], *uids[1]})
    contents = harness.contents()
    assert sorted(contents.values()) == sorted(text(number) for number in range(30))
    harness.check()


class TestThreads(unittest.TestCase):
    """`MessageStore` over `Work` and the reactor."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.database = Database(DatabaseConfig(f"sqlite:///{self.folder / 'test.db'}"))
        metadata.create_all(self.database.engine)
        user = {"id": 1, "domain_id": 1, "address": "a@example.org", "password_hash": "", "enabled": True}
        with self.database.engine.begin() as db:
            db.execute(insert(directory.domains).values(id=1, name="example.org", created=0))
            db.execute(insert(directory.users).values(**user, created=0))
        self.work = Work(reactor, self.database)  # type: ignore[arg-type]
        self.addCleanup(lambda: Deferred.fromCoroutine(self.work.close()))
        self.store = MessageStore(StoreConfig(path=self.folder / "mail"), self.work, reactor)

    async def test_many_at_once(self) -> None:
        """Deliveries, flags and expunges that overlap: two open handles and the database agree at the end."""
        boxes = [await self.store.open(1, "INBOX") for _ in range(2)]
        self.assertIs(*boxes)
        box, view = boxes[0], boxes[0].view()
        arrived: list[int] = []
        box.watch(lambda: arrived.append(box.messages))

        async def one(number: int) -> int:
            [outcome] = await self.store.deliver([Parcel(1, "INBOX", Message.of(text(number)), f"d{number}")])
            assert isinstance(outcome, Delivered)
            self.assertIsNotNone(box.entry(outcome.uid), "the session hears before the sender")
            await box.store_flags([outcome.uid], "add", frozenset({r"\Seen", f"k{number % 7}"}))
            if number % 3 == 0:
                await box.expunge([outcome.uid])
            return number

        done = await gatherResults([Deferred.fromCoroutine(one(number)) for number in range(60)])
        self.assertEqual(done, list(range(60)))
        await self.store.upkeep.catch_up()
        other: Any = MessageStore(StoreConfig(path=self.folder / "mail"), self.work, reactor)
        fresh = await other.open(1, "INBOX")
        update = view.catch_up(expunges=True)
        self.assertEqual(update.exists, 40)
        self.assertEqual(list(view.uids), list(fresh.view().uids))
        for uid in view.uids:
            self.assertEqual(box.entry(uid), fresh.entry(uid))
            self.assertEqual(fresh.entry(uid).id & UID_MASK, uid)
        bodies = [await box.body(uid) for uid in view.uids]
        self.assertEqual(sorted(bodies), sorted(text(n) for n in range(60) if n % 3))
        self.assertTrue(arrived)

    async def test_opened_twice_while_loading(self) -> None:
        opens = [Deferred.fromCoroutine(self.store.open(1, "INBOX")) for _ in range(5)]
        boxes = await gatherResults(opens)
        self.assertEqual(len({id(box) for box in boxes}), 1)
        self.assertEqual(boxes[0].uses, 5)
