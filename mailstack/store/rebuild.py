"""A lost index made again from the files: mailboxes, UIDVALIDITY, UIDs, flags, keywords, subscriptions.

What is lost with the database: names and UIDs of expunged messages (no UID is given again all the same, the
mailbox's file says how far they went), time zones of internal dates, quotas' history. MODSEQ goes on from the
clock, which is ahead of any count of changes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from mailstack.db import sync_directory
from mailstack.store import dovecot, maildir
from mailstack.store.adoption import Found, examine
from mailstack.store.behind import discarded_paths
from mailstack.store.claims import Claims, Known, Place, known_of
from mailstack.store.flags import SEEN_BIT, letters_mask
from mailstack.store.names import INBOX, mailbox_name, superiors
from mailstack.store.rows import MAILDIR, RESERVE, mailbox_path
from mailstack.store.statefile import MailboxState, read_subscriptions
from mailstack.store.tables import (
    expunged,
    keywords,
    mailbox_annotations,
    mailbox_rights,
    mailboxes,
    message_facts,
    message_id,
    messages,
    subscriptions,
    usage,
)
from mailstack.store.values import BadMailboxName, Usage

_SLICE = 200  # messages read and inserted at a time
_LOOKS = 5  # at a directory whose files other programs go on renaming


# By how many UIDVALIDITYs the last may be ahead of the clock: as many as mailboxes are made in one second.
_APART = 10_000


def rebuild_user(
    root: Path, db: Connection, user_id: int, home: str, looked: Callable[[int], None] = lambda more: None
) -> Usage:
    """Replace what the index says of a user by what the files in `home` say; `home` is relative to `root`.

    Rights and annotations, which only the index has, stay with their mailboxes. `looked` is told how many
    more messages were read. Raise OSError; the index is kept then. Blocking, in a write transaction, long:
    every message is read.
    """
    attached, known = _attached(db, user_id), known_of(db, user_id)
    maildir_of_user = root / home / MAILDIR
    taken_over = (maildir_of_user / dovecot.UIDLIST).exists() and MailboxState.read(maildir_of_user) is None
    for table in (subscriptions, mailboxes, usage):
        db.execute(delete(table).where(table.c.user_id == user_id))
    db.execute(insert(usage).values(user_id=user_id, home=home, octets=0, messages=0, uidvalidity=0))
    rebuilder = _Rebuild(db, root, user_id, home, looked, known)
    for directory, state in rebuilder.states():
        rebuilder.mailbox(directory, state)
    rebuilder.superiors()
    _attach(db, user_id, attached)
    names = (dovecot.read_subscriptions if taken_over else read_subscriptions)(maildir_of_user)
    if names:
        db.execute(insert(subscriptions), [{"user_id": user_id, "name": name} for name in names])
    return rebuilder.finish()


_Attached = list[tuple[Table, dict[str, Any], tuple[str | None, int]]]


def _attached(db: Connection, user_id: int) -> _Attached:
    """Rows of rights and annotations, with directory and UIDVALIDITY of their mailbox."""
    found: _Attached = []
    for table in (mailbox_rights, mailbox_annotations):
        query = (
            select(table, mailboxes.c.directory, mailboxes.c.uidvalidity)
            .join(mailboxes, mailboxes.c.id == table.c.mailbox_id)
            .where(mailboxes.c.user_id == user_id)
        )
        for row in db.execute(query).mappings():
            values = {
                column.name: row[column.name] for column in table.c if column.name not in ("id", "mailbox_id")
            }
            found.append((table, values, (row["directory"], row["uidvalidity"])))
    return found


def _attach(db: Connection, user_id: int, attached: _Attached) -> None:
    query = select(mailboxes.c.directory, mailboxes.c.uidvalidity, mailboxes.c.id)
    rows = db.execute(query.where(mailboxes.c.user_id == user_id, mailboxes.c.selectable))
    ids = {(directory, uidvalidity): mailbox_id for directory, uidvalidity, mailbox_id in rows}
    for table, values, key in attached:
        if key in ids:
            db.execute(insert(table).values(**values, mailbox_id=ids[key]))


@dataclass(slots=True)
class _Rebuild:
    db: Connection
    root: Path
    user_id: int
    home: str
    looked: Callable[[int], None]
    known: dict[Place, Known]  # by the index that was
    octets: int = 0
    count: int = 0
    uidvalidity: int = 0  # the highest
    never_given: int = 0  # from here on

    def states(self) -> Iterator[tuple[str, MailboxState]]:
        """Every mailbox's directory, from the user's Maildir, with what its file says or its name tells."""
        top = self.root / self.home / MAILDIR
        names = {path.name for path in top.iterdir() if path.name.startswith(".") and path.is_dir()}
        removed = set(discarded_paths(self.db))  # deleted, if not yet from the disk
        folders = sorted(name for name in names if f"{self.home}/{MAILDIR}/{name}" not in removed)
        taken: set[str] = set()
        found = [
            (directory, path, MailboxState.read(path))
            for directory in ["", *folders]
            if _is_maildir(path := mailbox_path(self.root, self.home, directory))
        ]
        given = max((known.uidvalidity for _, _, known in found if known), default=0)
        self.never_given = max(given, int(time.time())) + _APART
        for directory, path, known in found:
            state = known or self._guess(path, directory)
            name = INBOX if not directory else _free(state.name, taken | {INBOX})
            taken.add(name)
            yield (
                directory,
                MailboxState(name, state.uidvalidity, state.reserved, state.special_use, state.keywords),
            )

    def mailbox(self, directory: str, state: MailboxState) -> None:
        """One mailbox with its messages."""
        modseq = int(time.time())
        mailbox_id = self._insert(directory, state, modseq)
        if state.keywords:
            rows = [{"mailbox_id": mailbox_id, "bit": bit, "name": n} for bit, n in state.keywords.items()]
            self.db.execute(insert(keywords), rows)
        path = mailbox_path(self.root, self.home, directory)
        maildir.make_mailbox(path)
        contents = _Contents(
            self.db, path, mailbox_id, state, modseq, self.looked, self._claims(directory, path, state)
        )
        contents.index()
        uidnext = max(contents.uidnext, state.reserved)
        if uidnext > state.reserved or MailboxState.read(path) is None:
            reserved = uidnext + RESERVE
            MailboxState(state.name, state.uidvalidity, reserved, state.special_use, state.keywords).write(
                path
            )
        else:
            reserved = state.reserved
        self.db.execute(
            update(mailboxes)
            .where(mailboxes.c.id == mailbox_id)
            .values(
                uidnext=uidnext,
                uid_reserved=reserved,
                recent_uid=uidnext,
                messages=contents.count,
                unseen=contents.unseen,
                octets=contents.octets,
                surveyed=None,
            )
        )
        self.octets += contents.octets
        self.count += contents.count
        self.uidvalidity = max(self.uidvalidity, state.uidvalidity)

    def _claims(self, directory: str, path: Path, state: MailboxState) -> Claims:
        place = directory, state.uidvalidity
        elsewhere = {name for other, known in self.known.items() if other != place for name in known.names}
        listed = None if MailboxState.read(path) else dovecot.read_uids(path)
        known = self.known.get(place, Known())
        return Claims(
            state.reserved, known, frozenset(elsewhere - set(known.names)), listed.uids if listed else {}
        )

    def superiors(self) -> None:
        """Names that only hold others."""
        query = select(mailboxes.c.name).where(mailboxes.c.user_id == self.user_id)
        names = set(self.db.execute(query).scalars())
        missing = {above for name in names for above in superiors(name)} - names
        for above in sorted(missing):
            self._insert(None, MailboxState(above, int(time.time()), 1), int(time.time()))

    def finish(self) -> Usage:
        """Note what the user holds."""
        self.db.execute(
            update(usage)
            .where(usage.c.user_id == self.user_id)
            .values(octets=self.octets, messages=self.count, uidvalidity=self.uidvalidity)
        )
        return Usage(self.octets, self.count)

    def _guess(self, path: Path, directory: str) -> MailboxState:
        """A mailbox of Dovecot's: its UIDs stay. Of another program, or one whose file is lost: new ones."""
        listed = dovecot.read_uids(path)
        if listed is None:
            self.uidvalidity = max(self.uidvalidity + 1, self.never_given)
        known = {} if listed is None else dovecot.read_keywords(path)
        uidvalidity, uidnext = (listed.uidvalidity, listed.uidnext) if listed else (self.uidvalidity, 1)
        try:
            name = mailbox_name(directory)
        except BadMailboxName:
            name = f"Recovered {path.name[1:60]}".replace("/", "-")
        return MailboxState(name, uidvalidity, uidnext, "", known)

    def _insert(self, directory: str | None, state: MailboxState, now: int) -> int:
        row: dict[str, Any] = {
            "user_id": self.user_id,
            "name": state.name,
            "directory": directory,
            "selectable": directory is not None,
            "uidvalidity": state.uidvalidity,
            "uidnext": 1,
            "uid_reserved": 1,
            "recent_uid": 1,
            "modseq": now,
            "special_use": state.special_use,
            "messages": 0,
            "unseen": 0,
            "octets": 0,
            "created": now,
            "forgotten": now,
        }
        return int(self.db.execute(insert(mailboxes).values(row).returning(mailboxes.c.id)).scalar_one())


class _Contents:
    """The messages of one mailbox, indexed anew."""

    def __init__(
        self,
        db: Connection,
        path: Path,
        mailbox_id: int,
        state: MailboxState,
        modseq: int,
        looked: Any,
        claims: Claims,
    ) -> None:
        self._looked = looked
        self._db = db
        self._path = path
        self._mailbox_id = mailbox_id
        self._claims = claims
        self._reserved = max(state.reserved, claims.known.uidnext)
        self._meant = 0xFF | sum(1 << bit for bit in state.keywords)
        self._modseq = modseq
        self._uids: set[int] = set()
        self._deliveries: set[str] = set()
        self.uidnext = 1
        self.count = self.unseen = self.octets = 0

    def index(self) -> None:
        """Read every file. Files without a UID of ours come last and get new ones."""
        seen: set[str] = set()
        buried = {base for base in self._claims.known.gone.values() if base}
        for number in range(_LOOKS):  # one that another program renames meanwhile is met at its new place
            lying = maildir.list_files(self._path)
            more = [path for base, path in lying.items() if base not in seen | buried]
            if number and not more:
                break
            self._look(lying)
            paths = sorted(more, key=self._order)
            for start in range(0, len(paths), _SLICE):
                seen |= self._insert(examine(self._path, paths[start : start + _SLICE]))
                self._looked(len(paths[start : start + _SLICE]))
        kept = [f"{maildir.KEPT}/{name}" for name in maildir.list_kept(self._path)]
        self._remember([*kept, *(path for base, path in sorted(lying.items()) if base in buried)])

    def _look(self, lying: dict[str, str]) -> None:
        kept = [f"/{name}" for name in maildir.list_kept(self._path)]
        self._claims.look([*lying, *map(maildir.base_of, kept)])
        own = {uid for uid in map(self._own_uid, [*lying.values(), *kept]) if uid}
        self.uidnext = max([*own, 0, self._reserved - 1, self.uidnext - 1]) + 1

    def _remember(self, paths: list[str]) -> None:
        """Expunged mail whose files are kept, and can still be put back, or are not yet unlinked."""
        graves = []
        for path in paths:
            base = maildir.base_of(path)
            try:
                status = os.stat(self._path / path)
            except FileNotFoundError:
                continue  # now it is
            uid = self._own_uid(path)
            if uid is None or uid in self._uids:
                uid, self.uidnext = self.uidnext, self.uidnext + 1
            self._uids.add(uid)
            graves.append(
                {
                    "id": message_id(self._mailbox_id, uid),
                    "mailbox_id": self._mailbox_id,
                    "modseq": self._modseq,
                    "name": path,
                    "delivery": maildir.delivery_of(base),
                    "at": self._modseq,
                    "flags": letters_mask(maildir.letters_of(path)) & self._meant,
                    "internal_date": int(status.st_mtime),
                    "zone": 0,
                    "size": maildir.size_of(base) or status.st_size,
                }
            )
        if graves:
            self._db.execute(insert(expunged), graves)

    def _order(self, path: str) -> tuple[int, str]:
        return (self._own_uid(path) or 1 << 32, maildir.base_of(path))

    def _own_uid(self, path: str) -> int | None:
        return self._claims.uid(maildir.base_of(path))

    def _insert(self, found: list[Found]) -> set[str]:
        """The base names that these files had and have now."""
        named = [(file, placed) for file in found if (placed := self._place(file)) is not None]
        if not named:
            return set()
        rows = [self._row(file, *placed) for file, placed in named]
        self._db.execute(insert(messages), rows)
        facts = [
            {"message_id": row["id"], **{name: getattr(file.facts, name) for name in _FACTS}}
            for row, (file, _) in zip(rows, named, strict=True)
        ]
        self._db.execute(insert(message_facts), facts)
        return {row["name"] for row in rows} | {file.base for file, _ in named}

    def _place(self, file: Found) -> tuple[int, str] | None:
        """Its UID and its name, which says that; None if another program renamed it meanwhile."""
        uid = self._own_uid(file.path)
        if uid is None or uid in self._uids:
            uid = self.uidnext
        name = maildir.with_uid(file.base, file.size, uid)
        if maildir.size_of(file.base) == file.size and maildir.uid_of(file.base) == uid:
            name = file.base
        is_new = file.path.startswith("new/")
        target = self._path / maildir.relative(name, maildir.letters_of(file.path), is_new)
        if target != self._path / file.path:
            try:
                (self._path / file.path).rename(target)
            except FileNotFoundError:
                return None
            sync_directory(self._db, target.parent)
        self._uids.add(uid)
        self.uidnext = max(self.uidnext, uid + 1)
        return uid, name

    def _row(self, file: Found, uid: int, name: str) -> dict[str, Any]:
        key = maildir.delivery_of(file.base)
        key = None if key in self._deliveries else key
        self._deliveries.add(key or "")
        letters, is_new = maildir.letters_of(file.path), file.path.startswith("new/")
        mask = letters_mask(letters) & self._meant
        self.count += 1
        self.octets += file.size
        self.unseen += not mask & SEEN_BIT
        return {
            "id": message_id(self._mailbox_id, uid),
            "mailbox_id": self._mailbox_id,
            "name": name,
            "disk_info": letters,
            "is_new": is_new,
            "dirty": False,
            "flags": mask,
            "modseq": self._modseq,
            "internal_date": file.modified,
            "zone": 0,
            "size": file.size,
            "saved": self._modseq,
            "delivery": key,
        }


def _is_maildir(path: Path) -> bool:
    return (path / "cur").is_dir() and (path / "new").is_dir()


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}~{number}"
    return free


_FACTS = [column.name for column in message_facts.c if column.name != "message_id"]
