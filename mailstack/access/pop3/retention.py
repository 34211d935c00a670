"""What becomes of mail that POP3 has fetched: kept, removed at QUIT or after days, or hidden from POP3.

RFC 2449 section 6.7 (EXPIRE). What is hidden stays where it is for IMAP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailstack.access.settings import Pop3Config
from mailstack.store.mailbox import Mailbox
from mailstack.store.message_store import MessageStore

DAY = 86_400  # seconds


@dataclass(slots=True)
class Retention:
    """The settings, for one session."""

    hidden: frozenset[int]
    deletes: bool
    _store: MessageStore
    _mailbox_id: int
    _seconds: Callable[[], float]

    async def note(self, uids: Sequence[int]) -> None:
        """They were fetched, and the client has said QUIT."""
        await self._store.note_pop3_fetched(self._mailbox_id, uids, int(self._seconds()))


async def begin(
    store: MessageStore, mailbox: Mailbox, config: Pop3Config, seconds: Callable[[], float]
) -> Retention | None:
    """At login: remove what has been kept long enough; None where fetching has no consequence."""
    if config.after_retr == "delete":
        return Retention(frozenset(), True, store, mailbox.id, seconds)
    if config.after_retr == "keep" and not config.expire_days:
        return None
    fetched = await store.pop3_fetched(mailbox.id)
    if config.after_retr == "hide":
        return Retention(frozenset(fetched), False, store, mailbox.id, seconds)
    last = seconds() - config.expire_days * DAY
    old = sorted(uid for uid, at in fetched.items() if at <= last)
    if old:
        await mailbox.expunge(old)
    return Retention(frozenset(), False, store, mailbox.id, seconds)


def capability(config: Pop3Config) -> str:
    """EXPIRE: for how many days a client may leave its mail here."""
    if config.after_retr != "keep":
        return "EXPIRE 0"
    return f"EXPIRE {config.expire_days or 'NEVER'}"
