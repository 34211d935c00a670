"""One copy in Sent, whoever puts it there first."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from mailstack.db import Database
from mailstack.mail.message import Message
from mailstack.store import delivery, sent
from mailstack.store.delivery import When
from mailstack.store.mailboxes import provision
from mailstack.store.rows import box_by_name
from mailstack.store.tables import mailboxes, messages
from mailstack.store.values import NO_QUOTA, New
from tests.store.harness import Harness

TEXT = b"Message-ID: <1@a.test>\r\nSubject: x\r\n\r\nhi\r\n"


class Desk:
    """A user's Sent, by our own copies and by APPEND."""

    def __init__(self, database: Database, root: Path) -> None:
        self.database, self.root = database, root
        self.home = root / database.write(provision, root, 1) / "Maildir"

    def save(self, at: int, text: bytes = TEXT) -> bool:
        when = When(at, 0)
        written = delivery.write_new(self.home, [New(Message.of(text))], when)
        return self.database.write(sent.save_sent_txn, self.root, written, 1, NO_QUOTA, when) is not None

    def append(self, at: int, *flags: str, text: bytes = TEXT) -> int:
        when = When(at, 0)
        new = New(Message.of(text), frozenset(flags))
        written = delivery.write_new(self.home, [new], when)

        def run(db):  # type: ignore[no-untyped-def]
            box = box_by_name(db, 1, "Sent")
            return sent.append_sent_txn(db, self.root, written, box, new, NO_QUOTA, when)

        return self.database.write(run)[0].uids[0]

    def flags(self) -> list[int]:
        return list(
            self.database.read(lambda db: db.scalars(messages.select().with_only_columns(messages.c.flags)))
        )

    def files(self) -> int:
        return sum(
            path.is_file() and path.parent.name in ("new", "cur", "tmp") for path in self.home.rglob("*")
        )


@pytest.fixture
def desk(harness: Harness) -> Desk:
    return Desk(harness.database, harness.root)


def test_ours_first(desk: Desk) -> None:
    assert desk.save(1000)
    assert desk.append(1599, "\\Answered") == 1
    assert len(desk.flags()) == desk.files() == 1


def test_theirs_first(desk: Desk) -> None:
    assert desk.append(1000, "\\Flagged") == 1
    before = desk.flags()
    assert not desk.save(1001)
    assert desk.flags() == before
    assert desk.files() == 1


def test_long_after_it_is_another(desk: Desk) -> None:
    assert desk.save(1000)
    assert desk.append(1601) == 2
    assert desk.append(1602) == 3
    assert desk.save(1700)
    assert len(desk.flags()) == desk.files() == 4


def test_without_a_name_each_is_its_own(desk: Desk) -> None:
    assert desk.save(1000, b"Subject: x\r\n\r\n")
    assert desk.append(1001, text=b"Subject: x\r\n\r\n") == 2


def test_it_is_the_users_own_by_whatever_name(harness: Harness) -> None:
    def call(user: int, name: str) -> None:
        mine = (mailboxes.c.user_id == user) & (mailboxes.c.special_use == sent.SENT)
        harness.database.write(lambda db: db.execute(update(mailboxes).where(mine).values(name=name)))

    for user, name in ((1, "B"), (2, "A")):
        harness.database.write(provision, harness.root, user)
        call(user, name)
    assert [harness.database.read(sent.sent_mailbox, user) for user in (1, 2, 3)] == ["B", "A", None]
