"""Two servers that settle a queue's entries at once, on PostgreSQL: whoever is last removes the message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from mailstack.db import metadata, touches
from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mta import claims, entries, ledger, verbs
from mailstack.mta.entries import Lease, NewEntry, NewMessage, Settled
from mailstack.mta.ledger import Attempted, Queued
from mailstack.trail.notes import NO_NOTES
from tests.databases import database_url
from tests.db.test_touches import PATIENCE, Two

NOW = 1000.0


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    both = Two(database_url("postgresql", tmp_path))
    metadata.create_all(both.one.engine)
    yield both
    both.close()


def write(*jobs: Any) -> Callable[[Connection], Any]:
    """What the ledger has written."""
    return ledger.operation(NO_NOTES, jobs)


def message(id_: str, *recipients: str) -> Queued:
    to = tuple(Recipient(Address.parse(one)) for one in recipients)
    new = [NewEntry(one, one.address.domain, NOW) for one in to]
    envelope = Envelope(id_, Address("a", "a.test"), to)
    return Queued(NewMessage(envelope, 10, NOW, NOW + 9000, new, Lease("x", NOW), spool=f"00/{id_}"))


def test_the_last_two_entries_of_a_message_at_once(two: Two) -> None:
    two.one.write(write(message("m", "x@b.test", "y@c.test")))
    first, second = (one.id for one in two.one.read(verbs.list_entries))
    go_on, writing = two.begin(write(Attempted(Settled("m", "00/m", NOW, [first]))))
    other = two.second(write(Attempted(Settled("m", "00/m", NOW, [second]))))
    go_on()
    files = [file for one in (writing, other) for _, found in [one.result(PATIENCE)] for file in found]
    assert files == ["00/m"]
    assert two.one.read(verbs.stats).messages == 0


def test_others_are_settled_and_queued_meanwhile(two: Two) -> None:
    two.one.write(write(message("m", "x@b.test"), message("n", "y@c.test")))
    first, second = (one.id for one in two.one.read(verbs.list_entries))
    go_on, writing = two.begin(write(Attempted(Settled("m", "00/m", NOW, [first]))))
    two.hasty.write(write(Attempted(Settled("n", "00/n", NOW, [second])), message("o", "z@c.test")))
    go_on()
    writing.result(PATIENCE)
    assert [one.message_id for one in two.one.read(verbs.list_entries)] == ["o"]


def test_claims_stand_in_line_and_nothing_else_does(two: Two) -> None:
    two.one.write(write(*(message(f"m{n}", f"x@{n % 6}.test") for n in range(12))))
    old = Lease("dead", NOW + 1)
    two.one.write(claims.claim, old, NOW, 2, lambda hop: 1, "")  # their leases end now

    def claim(name: str) -> Callable[[Connection], Any]:
        run = partial(
            claims.claim, lease=Lease(name, NOW + 900), now=NOW + 5, most=6, room=lambda hop: 2, after=""
        )
        return touches(*claims.claim.touches)(run)  # type: ignore[attr-defined]

    earlier = two.one.write(claims.claim, Lease("two", NOW + 900), NOW, 2, lambda hop: 1, "2.test").batches
    ids = [one.id for batch in earlier for one in batch.entries]
    go_on, writing = two.begin(claim("one"))
    two.hasty.write(entries.renew, Lease("two", NOW + 1900), ids)
    two.hasty.write(write(message("new", "y@c.test")))
    other = two.second(claim("two"))
    go_on()
    found = [writing.result(PATIENCE), other.result(PATIENCE)]
    taken = ids + [one.id for claimed in found for batch in claimed.batches for one in batch.entries]
    assert len(taken) == len(set(taken)) == 13
    assert [len(claimed.batches) for claimed in found] == [6, 5]
    assert [len(claimed.cut_short) for claimed in found] == [2, 0]
