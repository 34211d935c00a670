"""What the operator does with the queue, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from mailstack.db import Database
from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mta import claims, entries, verbs
from mailstack.mta.entries import Lease, NewEntry, NewMessage
from mailstack.mta.tables import queue_entries, queue_messages
from tests.databases import made_database

__all__ = ["made_database"]

NOW = 1000.0


@pytest.fixture
def database(made_database: Database) -> Database:
    put(made_database, "q1", "alice@a.test", "x@b.test", "y@c.test")
    put(made_database, "q2", None, "x@b.test")
    put(made_database, "q3", "Bob@a.test", "X@sub.b.test")
    return made_database


def put(database: Database, queue_id: str, sender: str | None, *recipients: str) -> None:
    to = tuple(Recipient(Address.parse(one)) for one in recipients)
    reverse_path = None if sender is None else Address.parse(sender)
    envelope = Envelope(queue_id, reverse_path, to, authenticated=sender)
    new = [NewEntry(one, one.address.domain, NOW + 500) for one in to]
    lease = Lease("me", NOW + 900)
    message = NewMessage(envelope, 10, NOW, NOW + 9000, new, lease, spool=f"00/{queue_id}")
    database.write(entries.insert_messages, [message])


def claimed(database: Database, owner: str, until: float, now: float, most: int) -> list[entries.Batch]:
    return database.write(claims.claim, Lease(owner, until), now, most, lambda hop: 5, "").batches


def ids(database: Database, limit: int = 1000, **options: str) -> list[str]:
    found = database.read(verbs.list_entries, verbs.Choice(**options), limit)  # type: ignore[arg-type]
    return [f"{one.message_id} {one.recipient}" for one in found]


def of(*ids: str, **options: str) -> verbs.Choice:
    return verbs.Choice(ids, **options)  # type: ignore[arg-type]


def states(database: Database) -> dict[str, str]:
    return {f"{one.message_id} {one.recipient}": one.state for one in database.read(verbs.list_entries)}


class TestList:
    def test_all_of_them_oldest_first(self, database: Database) -> None:
        assert ids(database) == ["q1 x@b.test", "q1 y@c.test", "q2 x@b.test", "q3 X@sub.b.test"]
        assert len(ids(database, limit=2)) == 2

    def test_filters(self, database: Database) -> None:
        assert ids(database, sender="ALICE@a.test") == ["q1 x@b.test", "q1 y@c.test"]
        assert ids(database, sender="") == ["q2 x@b.test"]
        assert ids(database, login="Alice@a.test") == ["q1 x@b.test", "q1 y@c.test"]
        assert ids(database, login="alice@a.test", recipient="x@b.test") == ["q1 x@b.test"]
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
        assert database.read(entries.spool_file, "q1") == "00/q1"
        assert database.read(entries.spool_file, "none") is None


class TestChanges:
    def test_retry(self, database: Database) -> None:
        assert database.write(verbs.retry, of("q1", "nothing"), NOW + 1).entries == 2
        times = {one.message_id: one.next_attempt for one in database.read(verbs.list_entries)}
        assert times == {"q1": NOW + 1, "q2": NOW + 500, "q3": NOW + 500}
        assert database.write(verbs.retry, verbs.EVERYTHING, NOW + 2).entries == 4

    def test_hold_and_release(self, database: Database) -> None:
        assert database.write(verbs.hold, of("q1")).entries == 2
        assert ids(database, state="held") == ["q1 x@b.test", "q1 y@c.test"]
        assert database.write(verbs.hold, of("q1")).entries == 0
        assert database.write(verbs.retry, of("q1"), NOW).entries == 0
        assert database.write(verbs.release, verbs.EVERYTHING, NOW + 3).entries == 2
        assert {one.next_attempt for one in database.read(verbs.show, "q1")} == {NOW + 3}

    def test_what_is_held_is_not_claimed(self, database: Database) -> None:
        database.write(verbs.hold, of("q1"))
        batches = claimed(database, "me", NOW + 2000, NOW + 600, 50)
        assert sorted(batch.envelope.id for batch in batches) == ["q2", "q3"]

    def test_one_entry_by_its_number(self, database: Database) -> None:
        [_, second] = database.read(verbs.show, "q1")
        assert database.write(verbs.hold, of(str(second.id))).entries == 1
        assert states(database)["q1 y@c.test"] == "held"
        assert states(database)["q1 x@b.test"] == "waiting"

    def test_drop(self, database: Database) -> None:
        assert database.write(verbs.drop, of("q1", recipient="y@C.test")) == verbs.Changed(1, 2)
        assert database.write(verbs.drop, of("q1")) == verbs.Changed(1, 1, ("00/q1",))
        assert ids(database) == ["q2 x@b.test", "q3 X@sub.b.test"]
        dropped = database.write(verbs.drop, verbs.EVERYTHING)
        assert (dropped.entries, dropped.last, sorted(dropped.spool)) == (2, 4, ["00/q2", "00/q3"])
        assert database.read(verbs.stats).messages == 0

    def test_dropped_while_it_was_attempted(self, database: Database) -> None:
        [batch] = claimed(database, "me", NOW + 2000, NOW + 600, 1)
        database.write(verbs.drop, of(batch.envelope.id))
        deferred = [entries.Deferred(batch.entries[0].id, NOW + 900, "451 later", False)]
        settled = entries.Settled(batch.envelope.id, batch.spool, NOW, [], deferred)
        assert database.write(entries.settle, [settled]) == []
        assert ids(database, recipient=str(batch.entries[0].recipient.address), sender="alice@a.test") == []

    def test_in_parts_each_entry_once_and_no_more_at_a_time(self, database: Database) -> None:
        parts = []
        after = 0
        while True:
            part = verbs.Part(after, 3)
            found = database.write(verbs.retry, verbs.EVERYTHING, NOW + 1, None, part)
            parts.append((found.entries, found.last))
            after = found.last
            if found.entries < 3:
                break
        assert parts == [(3, 3), (1, 4)]
        assert {one.next_attempt for one in database.read(verbs.list_entries)} == {NOW + 1}

    def test_more_than_one_statement_takes(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verbs, "_AT_ONCE", 1)
        assert database.write(verbs.hold, of("q1", "q2")).entries == 3
        assert ids(database, state="waiting") == ["q3 X@sub.b.test"]
        assert sorted(database.write(verbs.drop, verbs.EVERYTHING).spool) == ["00/q1", "00/q2", "00/q3"]


class TestStats:
    def test_numbers(self, database: Database) -> None:
        database.write(verbs.hold, of("q3"))
        claimed(database, "me", NOW + 2000, NOW + 600, 1)
        found = database.read(verbs.stats)
        assert (found.messages, found.entries, found.waiting, found.held, found.active) == (3, 4, 3, 1, 1)
        assert (found.octets, found.oldest, found.next_attempt) == (30, NOW, NOW + 500)
        assert found.hops == (("b.test", 2), ("c.test", 1), ("sub.b.test", 1))


class TestClaims:
    def test_two_claimers_never_share(self, database: Database) -> None:
        first = claimed(database, "one", NOW + 2000, NOW + 600, 2)
        second = claimed(database, "two", NOW + 2000, NOW + 600, 9)
        assert claimed(database, "six", NOW + 2000, NOW + 600, 9) == []
        taken = [entry.id for batch in first + second for entry in batch.entries]
        assert len(taken) == len(set(taken)) == 4

    def test_a_lease_ends_or_is_renewed(self, database: Database) -> None:
        first = claimed(database, "one", NOW + 700, NOW + 600, 9)
        database.write(entries.renew, Lease("one", NOW + 1700), [first[0].entries[0].id])
        database.write(entries.renew, Lease("two", NOW + 9700), [first[1].entries[0].id])
        later = claimed(database, "two", NOW + 2000, NOW + 701, 9)
        assert len(later) == 3
        [left] = database.write(entries.release_all, "one")
        assert (left.message_id, left.hop) == (first[0].envelope.id, first[0].hop)

    def test_when_the_next_is_due(self, database: Database) -> None:
        assert database.read(claims.next_due, NOW) == NOW + 500
        assert database.read(claims.next_due, NOW + 600) == NOW + 500
        claimed(database, "one", NOW + 700, NOW + 600, 9)
        assert database.read(claims.next_due, NOW + 600) == NOW + 700
        assert database.read(claims.next_due, NOW + 700) == NOW + 500

    def test_each_hop_in_turn(self, database: Database) -> None:
        for number in range(20):
            put(database, f"big{number}", None, "x@a-big.test")
        found = database.write(claims.claim, Lease("me", NOW + 2000), NOW + 600, 3, lambda hop: 5, "")
        assert [batch.hop for batch in found.batches] == ["a-big.test", "b.test", "c.test"]
        assert (found.last, found.left) == ("c.test", True)
        found = database.write(claims.claim, Lease("me", NOW + 2000), NOW + 600, 3, lambda hop: 5, "c.test")
        assert [batch.hop for batch in found.batches] == ["sub.b.test", "a-big.test", "b.test"]

    def test_no_hop_gets_more_than_its_room(self, database: Database) -> None:
        for number in range(20):
            put(database, f"big{number}", None, "x@a-big.test")
        room = {"a-big.test": 4, "b.test": 0}
        found = database.write(
            claims.claim, Lease("me", NOW + 2000), NOW + 600, 50, lambda hop: room.get(hop, 1), ""
        )
        batches = found.batches
        assert found.left
        assert sorted(batch.hop for batch in batches) == ["a-big.test"] * 4 + ["c.test", "sub.b.test"]
        assert sorted(batch.envelope.id for batch in batches)[:4] == ["big0", "big1", "big2", "big3"]

    def test_recipients_of_a_message_at_a_hop_go_together(self, database: Database) -> None:
        put(database, "list", None, *(f"u{n}@many.test" for n in range(130)))
        batches = [
            one for one in claimed(database, "me", NOW + 2000, NOW + 600, 50) if one.hop == "many.test"
        ]
        assert [len(one.entries) for one in batches] == [100]

    @pytest.mark.parametrize("waiting", [0, 40])
    def test_recipients_go_together_whatever_waits_between_them(
        self, database: Database, waiting: int
    ) -> None:
        """More than one look reads at once comes between the first recipient and the last."""
        put(database, "list", None, *(f"u{n}@many.test" for n in range(30)))
        for number in range(waiting):
            put(database, f"between{number}", None, "x@many.test")
        database.write(
            lambda db: db.execute(
                update(queue_entries)
                .where(queue_entries.c.recipient == "u29@many.test")
                .values(next_attempt=NOW + 550)
            )
        )
        found = database.write(claims.claim, Lease("me", NOW + 2000), NOW + 600, 2, lambda hop: 1, "e.test")
        first = found.batches[0]
        assert (first.hop, first.envelope.id, len(first.entries)) == ("many.test", "list", 30)
        assert found.left

    def test_a_claim_says_whether_it_left_anything(self, database: Database) -> None:
        def claim(most: int, room: int) -> bool:
            return database.write(
                claims.claim, Lease("me", NOW + 2000), NOW + 600, most, lambda hop: room, ""
            ).left

        assert claim(9, 0)
        assert claim(1, 5)
        assert not claim(9, 5)
        assert not claim(9, 0)

    def test_what_waits_for_a_hop_that_is_down_is_put_off(self, database: Database) -> None:
        put(database, "asked", None, "x@b.test")
        database.write(verbs.retry, of("asked"), NOW + 550)
        put(database, "late", None, "x@b.test")
        database.write(
            lambda db: db.execute(
                update(queue_messages).where(queue_messages.c.id == "late").values(received_at=NOW - 9999)
            )
        )
        put_off = (claims.put_off, "b.test", NOW + 600, NOW + 5000, "451 nobody there", 4000.0)
        assert database.write(*put_off) == 2
        assert database.write(*put_off) == 0
        due = claimed(database, "me", NOW + 2000, NOW + 600, 50)
        assert sorted((one.envelope.id, one.hop, one.asked) for one in due) == [
            ("asked", "b.test", True),
            ("late", "b.test", False),
            ("q1", "c.test", False),
            ("q3", "sub.b.test", False),
        ]
        waiting = [one for one in database.read(verbs.list_entries) if not one.active]
        assert {(one.next_attempt, one.last_reply) for one in waiting} == {(NOW + 5000, "451 nobody there")}
