"""Which UID a file may keep when an index is made anew from the files.

A file's name says the UID that it was given, and so may the name of a file that somebody has copied or
moved here by hand. One UID of one UIDVALIDITY must never name two messages (RFC 9051 section 2.3.1.1):
clients would show the one for the other. So where the old index still knows, it decides; where two files
claim one UID and it does not know, both get new ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from mailstack.store import maildir
from mailstack.store.tables import UID_MASK, expunged, mailboxes, messages

AHEAD = 1_000_000  # UIDs that were given since the mailbox's file was written, at most: it may be an old one
Place = tuple[str, int]  # directory of a mailbox, its UIDVALIDITY


@dataclass(slots=True)
class Known:
    """What the index knew of one mailbox."""

    uidnext: int = 1
    names: dict[str, int] = field(default_factory=dict)  # base name of a file: its UID
    gone: dict[int, str | None] = field(default_factory=dict)  # UID of what was expunged: its file, if any


@dataclass(slots=True)
class Claims:
    """The UIDs of one mailbox's files."""

    reserved: int  # every UID that was given is below, so says the mailbox's file
    known: Known
    elsewhere: frozenset[str]  # base names that the index knows in other mailboxes of the user
    listed: Mapping[str, int]  # base name to UID, in Dovecot's list
    claimed: Counter[int] = field(default_factory=Counter)

    def look(self, bases: Iterable[str]) -> None:
        """These are all the files there are, by base name."""
        self.claimed = Counter(uid for base in bases if (uid := self._said(base)) is not None)

    def uid(self, base: str) -> int | None:
        """The UID that a file keeps; None: it is to get a new one."""
        uid = self._said(base)
        if uid is None or self.known.names.get(base) == uid or self.known.gone.get(uid) == base:
            return uid
        given = uid in self.known.gone or base in self.elsewhere
        return None if given or self.claimed[uid] > 1 else uid

    def _said(self, base: str) -> int | None:
        uid = self.listed.get(base) or maildir.uid_of(base)
        limit = min(max(self.reserved, self.known.uidnext) + AHEAD, UID_MASK - AHEAD)
        return uid if uid is not None and uid < limit else None


def known_of(db: Connection, user_id: int) -> dict[Place, Known]:
    """What the index knows of a user's mailboxes, before it is made anew."""
    found: dict[Place, Known] = {}
    boxes = select(mailboxes.c.id, mailboxes.c.directory, mailboxes.c.uidvalidity, mailboxes.c.uidnext)
    for id, directory, uidvalidity, uidnext in db.execute(boxes.where(mailboxes.c.user_id == user_id)).all():
        if directory is None:
            continue
        known = found[directory, uidvalidity] = Known(uidnext)
        rows = select(messages.c.name, messages.c.id).where(messages.c.mailbox_id == id)
        known.names = {name: message & UID_MASK for name, message in db.execute(rows)}
        graves = select(expunged.c.id, expunged.c.name).where(expunged.c.mailbox_id == id)
        known.gone = {
            message & UID_MASK: None if name is None else maildir.base_of(name)
            for message, name in db.execute(graves)
        }
    return found
