"""What the operator does with the queue, on both databases."""

from __future__ import annotations

import pytest

from mailstack.db import Database, metadata
from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mta import entries, verbs
from mailstack.mta.entries import Lease, NewEntry
from mailstack.mta.tables import queue_entries, queue_messages
from tests.databases import empty_database

__all__ = ["empty_database"]

NOW = 1000.0


@pytest.fixture
def database(empty_database: Database) -> Database:
    metadata.create_all(empty_database.engine, [queue_messages, queue_entries])
    put(empty_database, "q1", "alice@a.test", "x@b.test", "y@c.test")
    put(empty_database, "q2", None, "x@b.test")
    put(empty_database, "q3", "Bob@a.test", "X@sub.b.test")
    return empty_database


def put(database: Database, queue_id: str, sender: str | None, *recipients: str) -> None:
    to = tuple(Recipient(Address.parse(one)) for one in recipients)
    envelope = Envelope(queue_id, None if sender is None else Address.parse(sender), to)
    new = [NewEntry(one, one.address.domain, NOW + 500) for one in to]
    lease = Lease("me", NOW + 900)
    database.write(entries.insert_message, envelope, f"00/{queue_id}", 10, NOW, NOW + 9000, new, lease)


def ids(database: Database, **options: object) -> list[str]:
    return [
        f"{one.message_id} {one.recipient}"
        for one in database.read(lambda db: verbs.list_entries(db, **options))
    ]


def states(database: Database) -> dict[str, str]:
    return {f"{one.message_id} {one.recipient}": one.state for one in database.read(verbs.list_entries)}


class TestList:
    def test_all_of_them_oldest_first(self, database: Database) -> None:
        assert ids(database) == ["q1 x@b.test", "q1 y@c.test", "q2 x@b.test", "q3 X@sub.b.test"]
        assert len(ids(database, limit=2)) == 2

    def test_filters(self, database: Database) -> None:
        assert ids(database, sender="ALICE@a.test") == ["q1 x@b.test", "q1 y@c.test"]
        assert ids(database, sender="") == ["q2 x@b.test"]
        assert ids(database, recipient="x@B.test") == ["q1 x@b.test", "q2 x@b.test"]
        assert ids(database, domain="sub.b.test") == ["q3 X@sub.b.test"]
        assert ids(database, domain="b.test") == ["q1 x@b.test", "q2 x@b.test"]
        assert ids(database, domain="%") == []
        assert ids(database, state="held") == []
        assert ids(database, domain="b.test", sender="alice@a.test") == ["q1 x@b.test"]

    def test_one_entry(self, database: Database) -> None:
        first, second = database.read(verbs.show, "q1")
        assert (first.sender, first.recipient, first.hop, first.size) == (
            "alice@a.test",
            "x@b.test",
            "b.test",
            10,
        )
        assert (first.received_at, first.next_attempt, first.expires) == (NOW, NOW + 500, NOW + 9000)
        assert (first.attempts, first.last_reply, first.active, first.state) == (0, None, False, "waiting")
        assert second.recipient == "y@c.test"
        assert database.read(verbs.show, "none") == []
        assert database.read(verbs.spool_file, "q1") == "00/q1"
        assert database.read(verbs.spool_file, "none") is None


class TestChanges:
    def test_retry(self, database: Database) -> None:
        assert database.write(verbs.retry, ["q1", "nothing"], NOW + 1) == 2
        times = {one.message_id: one.next_attempt for one in database.read(verbs.list_entries)}
        assert times == {"q1": NOW + 1, "q2": NOW + 500, "q3": NOW + 500}
        assert database.write(verbs.retry, ["all"], NOW + 2) == 4

    def test_hold_and_release(self, database: Database) -> None:
        assert database.write(verbs.hold, ["q1"]) == 2
        assert ids(database, state="held") == ["q1 x@b.test", "q1 y@c.test"]
        assert database.write(verbs.hold, ["q1"]) == 0
        assert database.write(verbs.retry, ["q1"], NOW) == 0
        assert database.write(verbs.release, ["all"], NOW + 3) == 2
        assert {one.next_attempt for one in database.read(verbs.show, "q1")} == {NOW + 3}

    def test_what_is_held_is_not_claimed(self, database: Database) -> None:
        database.write(verbs.hold, ["q1"])
        batches = database.write(entries.claim, Lease("me", NOW + 2000), NOW + 600, 50, 5, entries.Counter())
        assert sorted(batch.envelope.id for batch in batches) == ["q2", "q3"]

    def test_one_entry_by_its_number(self, database: Database) -> None:
        [_, second] = database.read(verbs.show, "q1")
        assert database.write(verbs.hold, [str(second.id)]) == 1
        assert states(database)["q1 y@c.test"] == "held"
        assert states(database)["q1 x@b.test"] == "waiting"

    def test_drop(self, database: Database) -> None:
        assert database.write(verbs.drop, ["q1"], "y@C.test") == verbs.Dropped(1, ())
        assert database.write(verbs.drop, ["q1"]) == verbs.Dropped(1, ("00/q1",))
        assert ids(database) == ["q2 x@b.test", "q3 X@sub.b.test"]
        assert database.write(verbs.drop, ["all"]) == verbs.Dropped(2, ("00/q2", "00/q3"))
        assert database.read(verbs.stats).messages == 0

    def test_dropped_while_it_was_attempted(self, database: Database) -> None:
        [batch] = database.write(entries.claim, Lease("me", NOW + 2000), NOW + 600, 1, 5, entries.Counter())
        database.write(verbs.drop, [batch.envelope.id])
        deferred = [entries.Deferred(batch.entries[0].id, NOW + 900, "451 later", False)]
        assert database.write(entries.settle, batch.envelope.id, [], deferred, NOW) is None
        assert ids(database, recipient=str(batch.entries[0].recipient.address), sender="alice@a.test") == []


class TestStats:
    def test_numbers(self, database: Database) -> None:
        database.write(verbs.hold, ["q3"])
        database.write(entries.claim, Lease("me", NOW + 2000), NOW + 600, 1, 5, entries.Counter())
        found = database.read(verbs.stats)
        assert (found.messages, found.entries, found.waiting, found.held, found.active) == (3, 4, 3, 1, 1)
        assert (found.octets, found.oldest, found.next_attempt) == (30, NOW, NOW + 500)
        assert found.hops == (("b.test", 2), ("c.test", 1), ("sub.b.test", 1))


class TestClaims:
    def test_two_claimers_never_share(self, database: Database) -> None:
        first = database.write(entries.claim, Lease("one", NOW + 2000), NOW + 600, 2, 5, entries.Counter())
        second = database.write(entries.claim, Lease("two", NOW + 2000), NOW + 600, 9, 5, entries.Counter())
        assert (
            database.write(entries.claim, Lease("six", NOW + 2000), NOW + 600, 9, 5, entries.Counter()) == []
        )
        claimed = [entry.id for batch in first + second for entry in batch.entries]
        assert len(claimed) == len(set(claimed)) == 4

    def test_a_lease_ends_or_is_renewed(self, database: Database) -> None:
        first = database.write(entries.claim, Lease("one", NOW + 700), NOW + 600, 9, 5, entries.Counter())
        database.write(entries.renew, Lease("one", NOW + 1700), [first[0].entries[0].id])
        database.write(entries.renew, Lease("two", NOW + 9700), [first[1].entries[0].id])
        later = database.write(entries.claim, Lease("two", NOW + 2000), NOW + 701, 9, 5, entries.Counter())
        assert len(later) == 3
        assert database.write(entries.release_all, "one") == 1

    def test_when_the_next_is_due(self, database: Database) -> None:
        assert database.read(entries.earliest, []) == NOW + 500
        assert database.read(entries.earliest, ["b.test", "c.test", "sub.b.test"]) is None
        database.write(entries.claim, Lease("one", NOW + 700), NOW + 600, 9, 5, entries.Counter())
        assert database.read(entries.earliest, []) == NOW + 700
