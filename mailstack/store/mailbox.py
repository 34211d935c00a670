"""The live state of one mailbox: one object for all sessions of this process, in the reactor's thread.

Theory of operation. The rows of all messages, without names and facts, are in memory. A change is a
transaction; what it did comes back as a `Change`, is published, and every live mailbox applies it. One that
does not continue what the mailbox knows makes it read what is newer from the database; nothing else is ever
needed to be right again.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.db import touches, user_mail
from mailstack.mail.collation import casemap
from mailstack.mail.message import Stored as StoredMessage
from mailstack.store import changes, maildir, reading
from mailstack.store.change_log import ChangeLog
from mailstack.store.flags import kept_bits
from mailstack.store.headings import Headings
from mailstack.store.index import Hits, Needle
from mailstack.store.news import Change, News, Row
from mailstack.store.octets import Octets
from mailstack.store.rows import Span, spans_of
from mailstack.store.tables import UID_MASK
from mailstack.store.values import (
    ALL_RIGHTS,
    NO_QUOTA,
    Copied,
    Entry,
    Expunged,
    FactColumns,
    Facts,
    Quota,
    Since,
    Stored,
)
from mailstack.store.view import Timeline, View
from mailstack.store.watchers import Watchers
from mailstack.work import Work

_log = Logger()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every live mailbox has from its store."""

    root: Path
    work: Work
    news: News
    released: Callable[[Mailbox], None]  # a use has ended
    claimed: Callable[[int, int], None]  # mailbox id, first UID not yet \Recent to anybody
    behind: Callable[[], None]  # file names are behind the index
    doubted: Callable[[int], None]  # a file is not where it should be: look at the directory
    candidates: Callable[[int, Needle, int], Awaitable[Hits | None]]  # asks the full-text index
    soon: Callable[[Callable[[], None]], Any]  # calls a function in a later turn of the reactor


class Mailbox:
    """One open mailbox. Each `MessageStore.open` needs one `close`."""

    def __init__(self, loaded: reading.Loaded, around: Surroundings) -> None:
        box = loaded.box
        self.id = box.id
        self.user_id = box.user_id
        self.name = box.name
        self.uidvalidity = box.uidvalidity
        self.uidnext = box.uidnext
        self.highest_modseq = box.modseq
        self.deleted = False
        self.uses = 0
        self.timeline = Timeline(loaded.uids)
        self.directory = box.path(around.root)
        self.object_id = box.object_id  # RFC 8474, MAILBOXID
        self._around = around
        self._keywords = loaded.keywords
        self._rows = loaded.rows
        self._recent_uid = box.recent_uid
        self._log = ChangeLog(box.modseq)
        self._watchers = Watchers(around.soon)
        self._octets = Octets(box.id, self.directory, self.timeline, self._rows, around.work, around.doubted)
        self._reading: list[Deferred[None]] | None = None  # those who wait for the refresh under way
        self.heard = box.modseq  # the highest modseq that any news told of
        self.unsubscribe = around.news.subscribe(box.id, self.hear)

    # What the mailbox holds

    @property
    def messages(self) -> int:
        """How many."""
        return len(self._rows)

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keywords that messages here have or had."""
        return tuple(self._keywords.names.values())

    def entry(self, uid: int) -> Entry | None:
        """One message, or None once it is expunged."""
        row = self._rows.get(uid)
        if row is None:
            return None
        return Entry(uid, self._keywords.flags(row[1]), row[2], row[3], row[4], row[5], row[0])

    def rows(self, uids: Iterable[int]) -> list[Row]:
        """What is in memory of several messages, without those that are expunged: `entry` for thousands."""
        return [row for row in map(self._rows.get, uids) if row is not None]

    def mask_of(self, flags: Iterable[str]) -> tuple[int, bool]:
        """The bits of those flags, and whether all of them have one here."""
        mask, missing = self._keywords.mask(flags)
        return mask, not missing

    def flags_of(self, mask: int) -> frozenset[str]:
        """The flags that the bits of a row stand for."""
        return self._keywords.flags(mask)

    def view(self, read_only: bool = False) -> View:
        """A new session's picture. One that is not read-only claims what is \\Recent."""
        return View(self, read_only)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each change, until the returned function is called."""
        return self._watchers.add(callback)

    def close(self) -> None:
        """End one use."""
        self._around.released(self)

    # What a view asks

    def known_changes(self, modseq: int) -> Sequence[int] | None:
        """The UIDs of messages new or changed after `modseq`, ascending; None: all have to be looked at."""
        return self._log.since(modseq)

    def changed_since(self, modseq: int) -> Sequence[int]:
        """The same, whatever it costs."""
        known = self._log.since(modseq)
        return [uid for uid, row in self._rows.items() if row[2] > modseq] if known is None else known

    async def changes_since(self, modseq: int) -> Since:
        """What happened after `modseq`, as far as this mailbox knows it now (RFC 7162 section 3.2.5.1).

        Where the index no longer knows what was expunged after `modseq`, all that is not there has vanished:
        the client has to compare (RFC 7162 section 3.2.7). Raise NoSuchMailbox.
        """
        gone = await self._around.work.read(reading.expunged_since, self.id, modseq)
        changed = list(self.changed_since(modseq))
        if gone is None:
            return Since(changed, _between(self.timeline.current.uids, self.uidnext), False)
        rows = self._rows
        return Since(changed, spans_of([uid for uid in gone if uid not in rows]), True)

    def claim_recent(self, read_only: bool) -> tuple[int, int]:
        """The UIDs, from and to before, that no session was told of; theirs who asks and is not read-only."""
        claim = self._recent_uid, self.uidnext
        if not read_only and claim[0] < claim[1]:
            self._recent_uid = self.uidnext
            self._around.claimed(self.id, self.uidnext)
        return claim

    # Changing it

    async def store_flags(
        self,
        uids: Sequence[int],
        mode: str,
        flags: frozenset[str],
        unchanged_since: int | None = None,
        rights: str = ALL_RIGHTS,
    ) -> Stored:
        """Change flags; `mode` is "add", "remove" or "replace". UIDs that are gone are passed over.

        "replace" leaves alone what `rights` do not let it change; the others take the flags as they are.

        Raise NoSuchMailbox if the mailbox was deleted, TooMany keywords.
        """
        wanted = changes.FlagChange(mode, flags, unchanged_since, kept_bits(rights))
        spans = self._spans(uids)
        store = touches(user_mail(self.user_id))(partial(changes.store_flags))
        stored, change = await self._around.work.transaction(store, self._around.root, self.id, spans, wanted)
        await self._published([change])
        self._around.behind()
        return stored

    async def expunge(self, uids: Sequence[int], marked: bool = False) -> list[int]:
        r"""Remove messages for good; the UIDs that were there. Raise NoSuchMailbox.

        With `marked` only those that are \Deleted when it is done: somebody may just have taken that back.
        """
        spans = self._spans(uids)
        expunge = touches(user_mail(self.user_id))(partial(changes.expunge))
        gone, change = await self._around.work.transaction(expunge, self.id, spans, marked)
        await self._published([change])
        self._around.behind()
        return gone

    async def copy(
        self, uids: Sequence[int], to_name: str, quota: Quota = NO_QUOTA, user_id: int | None = None
    ) -> Copied:
        """Copy to another mailbox, all or none; `to_name` as `user_id` (None: the owner) calls it.

        Raise NoSuchMailbox, NoPermission, OverQuota, Expunged, OSError.
        """
        return await self._copy(uids, to_name, quota, False, user_id)

    async def move(
        self, uids: Sequence[int], to_name: str, quota: Quota = NO_QUOTA, user_id: int | None = None
    ) -> Copied:
        """Move in one transaction (RFC 6851); the quota counts only from one user's mailboxes to another's.

        Raise as `copy` does.
        """
        return await self._copy(uids, to_name, quota, True, user_id)

    async def refresh(self) -> None:
        """Take over what is newer in the database."""
        if self._reading is not None:
            waiter: Deferred[None] = Deferred()
            self._reading.append(waiter)
            await waiter
            return
        self._reading = []
        try:
            for _ in range(10):
                change = await self._around.work.read(reading.changes_since, self.id, self.highest_modseq)
                self._apply(change)
                if change.gone or self.highest_modseq >= self.heard:
                    break
        finally:
            waiters, self._reading = self._reading, None
            for waiter in waiters:
                waiter.callback(None)

    # Reading messages

    async def facts(self, uids: Sequence[int], names: frozenset[str]) -> list[Facts | None]:
        """Facts in the order of `uids`, None where a message is gone; columns not asked for are empty.

        One trip to a thread: ask for at most some hundred messages at a time.
        """
        found = await self.fact_columns(uids, names)
        known = dict(zip(found.uids, found.facts(), strict=True))
        return [known.get(uid) for uid in uids]

    async def fact_columns(self, uids: Sequence[int], names: frozenset[str]) -> FactColumns:
        """The same column by column: of hundreds of messages, with no object for each."""
        if late := bool(names & reading.LATE_COLUMNS):
            names |= {"email_id"}
        found = await self._fact_columns(uids, names)
        if not late or all(found.columns["email_id"]):
            return found
        pairs = zip(found.uids, found.columns["email_id"], strict=True)
        await self._complete([uid for uid, identity in pairs if not identity])
        return await self._fact_columns(uids, names)

    async def vanished_since(self, modseq: int) -> list[int] | None:
        """The UIDs of messages expunged after `modseq`, ascending.

        None where some are forgotten: after a rebuild, or long after (`[store] remember_expunged`).
        """
        return await self._around.work.read(reading.expunged_since, self.id, modseq)

    async def body(self, uid: int, offset: int = 0, length: int | None = None) -> bytes:
        """Octets of a message: `length` (None: all) from `offset`. Raise Expunged, OSError."""
        return await self._octets.body(uid, offset, length)

    async def bodies(self, wanted: Sequence[tuple[int, int, int | None]]) -> list[bytes | None]:
        """Octets of several messages: of each UID from an offset a length (None: all); None where it is gone.

        One trip to the index, and only for places not known yet, and one to the disk: ask for some hundred
        small messages at a time. Raise OSError.
        """
        return await self._octets.bodies(wanted)

    async def candidates(self, needle: str) -> set[int] | None:
        """The UIDs of messages whose text may hold `needle`, in any case: all others do not.

        None: every message is a candidate, because the needle has less than three characters or there is no
        index. Compare the text itself; the index knows header sections and bodies as one.
        """
        return await self._candidates(casemap(needle))

    async def similar(self, runs: frozenset[str] | None) -> set[int] | None:
        """The same for messages whose text holds one of some casemapped runs of three characters."""
        return None if runs is None else await self._candidates(runs)

    async def _candidates(self, needle: Needle) -> set[int] | None:
        uids = self.timeline.current.uids
        hits = await self._around.candidates(self.id, needle, uids[-1] if uids else 0)
        if hits is None:
            return None
        uids = self.timeline.current.uids
        return hits.uids.union(uids[bisect_right(uids, hits.mark) :])

    async def stored(self, uid: int) -> StoredMessage:
        """Where a message's bytes lie now. The file may be renamed any time: on FileNotFoundError ask again.

        Raise Expunged.
        """
        return await self._octets.stored(uid)

    @property
    def headings(self) -> Headings:
        """What SORT, THREAD and SEARCH need of the messages."""
        return Headings(self.id, self._around.work, self._spans, self.facts)

    # Inside

    async def _fact_columns(self, uids: Sequence[int], names: frozenset[str]) -> FactColumns:
        return await self._around.work.read(reading.read_facts, self.id, uids, self._spans(uids), names)

    async def _complete(self, uids: Sequence[int]) -> None:
        """Write down what messages lack that came before it was kept."""
        made: dict[int, Facts] = {}
        for uid in uids:
            try:
                path = await self._octets.path(uid)
                _, _, made[uid] = await self._around.work.files(maildir.file_facts, path)
            except (Expunged, OSError):
                continue  # next time
        if made:
            await self._around.work.transaction(reading.complete_facts, self.id, made)

    async def _copy(
        self, uids: Sequence[int], to_name: str, quota: Quota, move: bool, user_id: int | None
    ) -> Copied:
        root, now = self._around.root, int(time.time())
        copied, done = await self._around.work.transaction(
            changes.copy, root, self.id, self._spans(uids), to_name, quota, now, move, user_id
        )
        await self._published(done)
        if move:
            self._around.behind()
        return copied

    async def _published(self, done: Iterable[Change | None]) -> None:
        """Tell everybody; on return this mailbox has applied what it did."""
        for change in done:
            if change is not None:
                self._around.news.publish(change)
        if self.highest_modseq < self.heard:
            await self.refresh()

    def _spans(self, uids: Sequence[int]) -> list[Span]:
        return spans_of(uids, self.timeline.current.uids)

    def hear(self, change: Change) -> None:
        """News of this mailbox."""
        self.heard = max(self.heard, change.modseq)
        if change.renamed is not None:
            self.name = change.renamed
        if change.gone or change.since <= self.highest_modseq:
            self._apply(change)
        elif self._reading is None:
            _log.debug("news of mailbox {id} were missed; reading the index", id=self.id)
            Deferred.fromCoroutine(self.refresh()).addErrback(self._refresh_failed)

    def _refresh_failed(self, failure: Any) -> None:
        _log.failure("mailbox {id} could not be read again", failure, id=self.id)

    def _apply(self, change: Change) -> None:
        if change.gone:
            self.deleted = True
        elif change.modseq > self.highest_modseq:
            if change.keywords is not None:
                self._keywords = type(self._keywords)(dict(change.keywords))
            self._apply_rows(change)
            gone = change.expunged
            if change.present is not None:
                gone = tuple(sorted(uid for uid in self._rows if uid not in change.present))
            if gone:
                self._bury(gone)
            self.highest_modseq = change.modseq
            self._log.note(change)
        else:
            return
        self._watchers.call()

    def _apply_rows(self, change: Change) -> None:
        known = self._rows
        if change.since == self.highest_modseq:  # the usual case: all of it is newer than what is known
            rows = {row[0] & UID_MASK: row for row in change.rows}
            if rows.keys() <= known.keys():
                known.update(rows)
                return
        for row in change.rows:
            uid = row[0] & UID_MASK
            if uid in known:
                if known[uid][2] < row[2]:
                    known[uid] = row
            elif uid >= self.uidnext:
                known[uid] = row
                self.timeline.add(uid)
                self.uidnext = uid + 1

    def _bury(self, uids: Sequence[int]) -> None:
        gone = [uid for uid in uids if self._rows.pop(uid, None) is not None]
        self._octets.forget(gone)
        self.uidnext = max(self.uidnext, uids[-1] + 1)
        if gone:
            self.timeline.remove(gone)


def _between(uids: Sequence[int], end: int) -> list[Span]:
    """The runs of numbers below `end` that are not among `uids`."""
    found, before = [], 0
    for uid in [*uids, end]:
        if uid > before + 1:
            found.append((before + 1, uid - 1))
        before = uid
    return found
