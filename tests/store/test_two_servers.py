"""Two servers, one PostgreSQL, the same mailboxes: UIDs and MODSEQs are given once and are seen in their order."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

from sqlalchemy import Connection, select

from mailstack.db import Database, DatabaseConfig
from mailstack.store.tables import UID_MASK, mailboxes, messages
from tests.databases import database_url
from tests.running import PATIENCE
from tests.store.harness import Harness, now

ROUNDS = 15
Seen = tuple[int, int, dict[int, int]]  # UIDNEXT, HIGHESTMODSEQ, UIDs with their MODSEQ


def look(db: Connection) -> dict[int, Seen]:
    """The INBOX of each user, in one snapshot."""
    boxes = db.execute(select(mailboxes).where(mailboxes.c.name == "INBOX")).all()
    rows = db.execute(select(messages.c.mailbox_id, messages.c.id, messages.c.modseq)).all()
    return {
        box.user_id: (
            box.uidnext,
            box.modseq,
            {row.id & UID_MASK: row.modseq for row in rows if row.mailbox_id == box.id},
        )
        for box in boxes
    }


def check(before: Seen, after: Seen) -> None:
    """What a client knows up to HIGHESTMODSEQ and UIDNEXT stays true (RFC 7162 section 3.1, RFC 9051 2.3.1.1)."""
    assert after[0] >= before[0]
    assert after[1] >= before[1]
    for uid, modseq in after[2].items():
        assert uid < after[0]
        assert modseq <= after[1]
        if before[2].get(uid) != modseq:
            assert modseq > before[1], f"UID {uid}: {modseq} came after {before[1]} had been seen"
        if uid not in before[2]:
            assert uid >= before[0], f"UID {uid} came after UIDNEXT {before[0]} had been seen"


def test_two_servers_and_one_who_looks(tmp_path: Path) -> None:
    url = database_url("postgresql", tmp_path)
    database = Database(DatabaseConfig(url, busy_timeout=PATIENCE))
    harness = Harness(database, tmp_path)
    for user in (1, 2):
        now(harness.store.open(user, "INBOX"))
    program = [sys.executable, "-m", "tests.store.writer_process", url, str(harness.root)]
    servers = [
        subprocess.Popen(
            [*program, name, str(ROUNDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    try:
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
        for server in servers:
            assert server.stdin is not None
            server.stdin.write("go\n")
            server.stdin.flush()
        seen = [database.read(look)]
        while any(server.poll() is None for server in servers):
            seen.append(database.read(look))
            time.sleep(0.01)  # the processor is theirs
        seen.append(database.read(look))
        assert [server.returncode for server in servers] == [0, 0]
    finally:
        for server in servers:
            server.kill()
            server.communicate()
        database.dispose()
    for user in (1, 2):
        for before, after in pairwise(seen):
            check(before[user], after[user])
        uidnext, modseq, rows = seen[-1][user]
        assert sorted(rows) == list(range(1, 3 * ROUNDS + 1))  # two deliveries and an APPEND a round
        assert uidnext == 3 * ROUNDS + 1
        assert modseq == max(rows.values())
