"""One message, a few, and many in scattered spans: each way to ask the database, on both of them."""

from __future__ import annotations

import pytest

from mailstack.mail.collation import casemap
from mailstack.store.behind import _DIRTY, _ON_DISK
from mailstack.store.changes import _FEW as FEW_FLAGS
from mailstack.store.mailbox import Mailbox
from mailstack.store.maildir import list_files
from mailstack.store.spanned import FEW
from tests.store.harness import Harness, now

MANY = range(1, 2 * FEW_FLAGS + 9)  # messages
SOME: list[list[int]] = [
    [],
    [7],
    list(range(3, 9)),
    [1, 2, 9, 20],
    list(MANY)[::2],  # too many spans, and too many messages to write one by one
    list(MANY),
    [2, 5000, 6000],  # not all are there
]
COLUMNS = frozenset({"fields", "header_size", "saved"})
ANSWERED = r"\Answered"


def flags_of(box: Mailbox) -> dict[int, frozenset[str]]:
    return {entry.uid: entry.flags for uid in MANY if (entry := box.entry(uid)) is not None}


def test_what_is_known_of_messages(harness: Harness) -> None:
    assert len(SOME[4]) > FEW
    harness.append(MANY)
    box = now(harness.store.open(1, "INBOX"))
    for uids in SOME:
        there = [uid in MANY for uid in uids]
        found = now(box.facts(uids, COLUMNS))
        assert [facts is not None for facts in found] == there
        for uid, facts in zip(uids, found, strict=True):
            assert facts is None or f"number {uid}\r\n".encode() in facts.fields, facts
        assert sorted(now(box.headings.read(uids, ("sent", "base"))).uids) == [
            uid for uid in uids if uid in MANY
        ]
        texts = now(box.bodies([(uid, 0, None) for uid in uids]))
        assert [text is not None for text in texts] == there
    assert now(box.headings.holding(casemap("number 7"))) == {7, *range(70, MANY[-1] + 1)}


@pytest.mark.parametrize("mode", ["add", "remove", "replace"])
def test_flags(harness: Harness, mode: str) -> None:
    """Those that have them already do not change; rows, memory and file names agree."""
    harness.append(MANY, flags=[r"\Seen"])
    box = now(harness.store.open(1, "INBOX"))
    for uids in SOME:
        now(box.store_flags(MANY, "replace", frozenset({r"\Seen"})))
        now(box.store_flags([1, 2, 3, 9], "add", frozenset({ANSWERED})))
        before, modseq = flags_of(box), box.highest_modseq
        wanted = dict(before)
        for uid in set(uids) & set(MANY):
            kept = frozenset() if mode == "replace" else before[uid]
            wanted[uid] = kept - {ANSWERED} if mode == "remove" else kept | {ANSWERED}
        stored = now(box.store_flags(uids, mode, frozenset({ANSWERED})))
        assert stored.changed == [uid for uid in MANY if wanted[uid] != before[uid]]
        assert box.highest_modseq == modseq + bool(stored.changed)
        assert flags_of(box) == wanted
        harness.restart()
        harness.upkeep()
        box = now(harness.store.open(1, "INBOX"))
        assert flags_of(box) == wanted
        newer = [uid for uid in MANY if (entry := box.entry(uid)) is not None and entry.modseq > modseq]
        assert newer == stored.changed
        answered = sum("R" in path.partition(":2,")[2] for path in list_files(harness.path()).values())
        assert answered == sum(ANSWERED in flags for flags in wanted.values())


def test_names_that_are_behind_are_found_by_their_index(harness: Harness) -> None:
    """Not by a look at every message that there is, each time a flag changes."""
    if not harness.database.is_sqlite:
        pytest.skip("SQLite says beforehand how it will look")
    with harness.database.engine.connect() as db:
        for statement in (_DIRTY, _ON_DISK):
            sql, order, _ = statement._for(db)
            rows = db.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", tuple(1 for _ in order or ()))
            assert "ix_messages_dirty" in " ".join(row[3] for row in rows)
