"""A server that shares a store: `writer_process.py URL FOLDER NAME ROUNDS`, then a line on standard input to begin.

Each round delivers one message to two users in one operation, changes flags in the mailbox of one of them and
appends there. NAME "two" takes the users in the other order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.task import Clock

from mailstack.db import Database, DatabaseConfig
from mailstack.mail.message import Message
from mailstack.store.message_store import MessageStore
from mailstack.store.settings import StoreConfig
from mailstack.store.values import Delivered, New, Parcel
from mailstack.work import _operation
from tests.running import PATIENCE
from tests.store.harness import InlineWork, now, text

T = TypeVar("T")


class Inline(InlineWork):
    """What an operation says of itself reaches the database."""

    async def transaction(self, function: Callable[..., T], *args: Any) -> T:
        return self.database.write(_operation(function, *args))


def main(url: str, folder: str, name: str, rounds: str) -> None:
    """Write; raise what goes wrong."""
    os.fsync = lambda descriptor: None  # nothing here outlives the machine
    work = Inline(Database(DatabaseConfig(url, busy_timeout=PATIENCE)))
    store = MessageStore(StoreConfig(path=Path(folder)), work, Clock())  # type: ignore[arg-type]
    users = (1, 2) if name == "one" else (2, 1)
    own = now(store.open(users[0], "INBOX"))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(rounds)):
        parcels = [Parcel(user, "INBOX", Message.of(text(number)), f"{name}-{number}") for user in users]
        outcomes = now(store.deliver(parcels))
        delivered = [one for one in outcomes if isinstance(one, Delivered)]
        assert len(delivered) == 2, outcomes
        now(own.refresh())
        now(own.store_flags([delivered[0].uid], "add", frozenset({"\\Flagged", f"$of-{name}"})))
        now(store.append(users[1], "INBOX", [New(Message.of(text(number)))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
