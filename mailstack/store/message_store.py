"""The store's front: what the MDA and the access protocols ask of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.db import Ear, touches, undo, user_mail
from mailstack.mail.message import Message
from mailstack.store import acl, delivery, mailboxes, sent
from mailstack.store.changes import expunge_one, move_all
from mailstack.store.counting import Counting
from mailstack.store.delivery import When
from mailstack.store.file_index import FileIndex
from mailstack.store.index import TextIndex
from mailstack.store.indexer import Indexer
from mailstack.store.mailbox import Mailbox, Surroundings
from mailstack.store.maildir import Written
from mailstack.store.names import INBOX, SEPARATOR, canonical
from mailstack.store.news import Change, Listed, News
from mailstack.store.opened import Opened
from mailstack.store.peers import Peers
from mailstack.store.rows import MAILDIR, box_by_name
from mailstack.store.settings import StoreConfig
from mailstack.store.sharing import Sharing
from mailstack.store.upkeep import Upkeep
from mailstack.store.values import (
    NO_QUOTA,
    Appended,
    BadMailboxName,
    Counts,
    Delivered,
    MailboxInfo,
    New,
    NoSuchMailbox,
    Parcel,
    Quota,
    StoreError,
    Usage,
)
from mailstack.work import Work

_log = Logger()

T = TypeVar("T")
_HOMES = 10_000  # users whose folder is remembered


class MessageStore(Sharing, Service):
    """Maildirs and their index. All methods in the reactor's thread; all may raise OSError and Overloaded."""

    def __init__(
        self,
        config: StoreConfig,
        work: Work,
        clock: Any,
        *,
        recognise_sent: bool = False,
        listen: Callable[[], Ear] | None = None,
        index: TextIndex | None = None,
    ) -> None:
        self._config = config
        self._recognise_sent = recognise_sent  # `save_sent` is used: a program's own copy takes its place
        self._root = Path(config.path)
        self._work = work
        self._clock = clock
        self.news = News()
        self._opened = Opened(config, self._root, work, clock, self.news)
        self.upkeep = Upkeep(config, work, clock, self._opened.look_around)
        index = index or FileIndex()
        self.indexer = Indexer(index, self._root, work, clock, config.index, config.index_delay)
        self.news.always.append(self.indexer.hear)
        self._opened.around = Surroundings(
            self._root,
            work,
            self.news,
            self._opened.released,
            self.upkeep.claim,
            self.upkeep.behind,
            self._opened.doubted,
            self.indexer.candidates,
            lambda call: clock.callLater(0.0, call),
        )
        self._peers = None if listen is None else Peers(listen, self.news, work, clock)
        self._counting = Counting(work, clock)
        self._homes: dict[int, Path] = {}

    # Users and their mailboxes

    async def provision(self, user_id: int) -> None:
        """Give a user INBOX, Drafts, Sent, Junk, Trash and Archive, if that was not done yet.

        Raise NoSuchMailbox if there is no such user.
        """
        await self._home(user_id)

    async def mailboxes(self, user_id: int) -> list[MailboxInfo]:
        """Every mailbox of the user, by name; names that only hold others are not selectable."""
        await self._home(user_id)
        return await self._work.read(mailboxes.list_mailboxes, user_id)

    async def subscriptions(self, user_id: int) -> frozenset[str]:
        """The subscribed names, of mailboxes that exist and of others."""
        await self._home(user_id)
        return await self._work.read(mailboxes.list_subscriptions, user_id)

    async def usage(self, user_id: int) -> Usage:
        """What the user holds, for quotas."""
        return await self._work.read(mailboxes.usage_of, user_id)

    async def is_full(self, user_id: int, quota: Quota) -> bool:
        """Whether `quota` is used up. Without a limit nothing is asked."""
        octets, messages = quota
        if octets is None and messages is None:
            return False
        held = await self.usage(user_id)
        return (octets is not None and held.octets >= octets) or (
            messages is not None and held.messages >= messages
        )

    async def status(self, user_id: int, name: str) -> MailboxInfo:
        """One mailbox. Raise NoSuchMailbox."""
        place = await self._located(user_id, name, "r")
        info = await self._work.read(mailboxes.mailbox_info, place.owner_id, place.name)
        if place.owner_id == user_id:
            return info
        return replace(info, name=name, rights=place.rights, special_use=(), subscribed=False)

    async def create(self, user_id: int, name: str, special_use: Iterable[str] = ()) -> MailboxInfo:
        """Make a mailbox, and its superiors (RFC 3501 section 6.3.3).

        Raise MailboxExists, BadMailboxName, TooMany.
        """
        place = await self._located_new(user_id, name)
        owner, own = place.owner_id, canonical(place.name.removesuffix(SEPARATOR))
        most = self._config.max_mailboxes
        uses = tuple(special_use)

        def make(db: Any) -> MailboxInfo:
            new = [*mailboxes.missing_superiors(db, owner, own), own]
            made = mailboxes.create(db, self._root, owner, place.name, uses, most)
            for each in new:
                acl.inherit(db, owner, each)
            return made

        made = await self._work.transaction(make)
        self._listed(owner)
        return made if owner == user_id else replace(made, name=name.removesuffix(SEPARATOR))

    async def delete(self, user_id: int, name: str) -> None:
        """Delete a mailbox with its messages; with inferiors it stays, not selectable (RFC 3501 section
        6.3.4).

        Raise NoSuchMailbox; BadMailboxName for INBOX and for what only holds others.
        """
        place = await self._located(user_id, name, "x")
        gone = await self._work.transaction(mailboxes.remove, place.owner_id, place.name)
        self.news.publish(Change(gone, 0, 0, gone=True))
        self._opened.forget(gone)
        self.upkeep.behind()
        self._listed(place.owner_id)

    async def rename(self, user_id: int, old: str, new: str) -> None:
        """Rename with all inferiors; INBOX stays and its messages move (RFC 3501 section 6.3.5).

        Raise NoSuchMailbox, MailboxExists, BadMailboxName, TooMany.
        """
        place = await self._located(user_id, old, "x")
        target = await self._located_new(user_id, new)
        owner = place.owner_id
        if target.owner_id != owner:
            raise BadMailboxName("a mailbox stays with its owner")
        if place.name == INBOX:
            await self._rename_inbox(owner, target.name)
            return
        most = self._config.max_mailboxes
        rename = mailboxes.rename
        renamed = await self._work.transaction(rename, self._root, owner, place.name, target.name, most)
        for mailbox_id, name in renamed:
            self.news.publish(Change(mailbox_id, 0, 0, renamed=name))
        self._listed(owner)

    async def subscribe(self, user_id: int, name: str) -> None:
        """Subscribe to a name. Raise BadMailboxName, TooMany."""
        await self._home(user_id)
        most = self._config.max_mailboxes
        await self._work.transaction(mailboxes.subscribe, self._root, user_id, name, most)
        self._listed(user_id)

    async def unsubscribe(self, user_id: int, name: str) -> None:
        """Take a subscription back; no matter if there is none."""
        await self._home(user_id)
        await self._work.transaction(mailboxes.unsubscribe, self._root, user_id, canonical(name))
        self._listed(user_id)

    async def counts(self, mailbox_ids: Sequence[int]) -> dict[int, Counts]:
        """How much each of some mailboxes holds; those that are gone are missing. Asks for no right."""
        return await self._counting.counts(mailbox_ids)

    # Mail comes in

    async def deliver(self, parcels: Sequence[Parcel]) -> list[Delivered | StoreError | OSError]:
        """Deliver each parcel exactly once, durably: an outcome for each, in order.

        All files are written first; where one cannot be written, none is delivered and each gets that
        OSError. Other errors (Overloaded, of the database) are raised: nothing is delivered then, deliver
        again.
        """
        outcomes = await self._deliver_once(parcels)
        if any(isinstance(outcome, FileNotFoundError) for outcome in outcomes):
            # Somebody's folder is gone, most likely with its user: the others are not to wait for that.
            outcomes = await self._deliver_once(parcels)
        return outcomes

    async def append(
        self,
        user_id: int,
        name: str,
        new: Sequence[New],
        quota: Quota = NO_QUOTA,
        replaced: tuple[Mailbox, int] | None = None,
    ) -> Appended:
        """Append messages, all or none; the message `replaced` is removed with that (RFC 8508).

        Raise NoSuchMailbox, NoPermission, OverQuota, TooMany, OSError; Expunged for `replaced`.
        """
        place = await self._located(user_id, name, "i")
        if place.owner_id != user_id:
            quota = await self._work.read(acl.quota_of, place.owner_id)
        home = await self._home(place.owner_id)
        when = self._when()
        target = (place.owner_id, place.name)

        def prepare() -> list[Written]:
            return delivery.write_new(home, new, when, self._config.compression)

        def put(db: Any, written: list[Written]) -> tuple[Appended, Change | None]:
            if self._recognise_sent and len(new) == 1:
                box = box_by_name(db, *target)
                if sent.is_sent(box):
                    undo(db, lambda: delivery.remove_written(written))
                    return sent.append_sent_txn(db, self._root, written, box, new[0], quota, when)
            return delivery.append_txn(db, self._root, written, target, new, quota, when)

        def index(db: Any, written: list[Written]) -> tuple[Appended, list[Change | None]]:
            gone = None if replaced is None else expunge_one(db, replaced[0].id, replaced[1])
            appended, change = put(db, written)
            return appended, [gone, change]

        alone = touches(user_mail(place.owner_id))(index) if replaced is None else index
        appended, done = await self._prepared(prepare, alone)
        for change in done:
            if change is not None:
                self.news.publish(change)
        if replaced is not None:
            self.upkeep.behind()
        return appended if "r" in place.rights else replace(appended, readable=False)

    async def save_sent(self, user_id: int, message: Message, quota: Quota = NO_QUOTA) -> None:
        """Put what the user has submitted into their mailbox for sent mail, once (see `sent`).

        Nothing happens where they have no such mailbox. Raise OverQuota, OSError.
        """
        home = await self._home(user_id)
        when = self._when()

        def prepare() -> list[Written]:
            return delivery.write_new(home, [New(message)], when, self._config.compression)

        @touches(user_mail(user_id))
        def index(db: Any, written: list[Written]) -> Change | None:
            undo(db, lambda: delivery.remove_written(written))
            return sent.save_sent_txn(db, self._root, written, user_id, quota, when)

        change = await self._work.prepared(prepare, index)
        if change is not None:
            self.news.publish(change)

    # Open mailboxes

    async def open(self, user_id: int, name: str) -> Mailbox:
        """The live mailbox, what other programs did to its files taken over. Raise NoSuchMailbox, OSError."""
        before: int | None = None
        while True:
            place = await self._located(user_id, name, "r")
            box = await self._work.read(box_by_name, place.owner_id, place.name, False)
            try:
                return await self._opened.open(box)
            except NoSuchMailbox:
                if box.id == before:
                    raise
                before = box.id  # the name may be another's now: the index may just have been made anew

    # Life

    def startService(self) -> None:
        """Begin the upkeep."""
        super().startService()
        self.upkeep.start()
        self.indexer.start()
        if self._peers is not None:
            self._peers.start()

    def stopService(self) -> Deferred[None]:
        """End the upkeep."""
        super().stopService()
        self.indexer.stop()
        if self._peers is not None:
            self._peers.stop()
        return Deferred.fromCoroutine(self.upkeep.finish())

    # Inside

    async def _deliver_once(self, parcels: Sequence[Parcel]) -> list[Delivered | StoreError | OSError]:
        refused: dict[int, StoreError] = {}
        homes: dict[int, Path] = {}
        for user_id in {parcel.user_id for parcel in parcels}:
            try:
                homes[user_id] = await self._home(user_id)
            except StoreError as error:
                refused[user_id] = error
        chosen = [parcel for parcel in parcels if parcel.user_id in homes]
        done = iter(await self._deliver(chosen, homes))
        return [refused[p.user_id] if p.user_id in refused else next(done) for p in parcels]

    async def _deliver(
        self, parcels: Sequence[Parcel], homes: dict[int, Path]
    ) -> list[Delivered | StoreError | OSError]:
        when = self._when()

        def prepare() -> list[Written]:
            folders = [homes[parcel.user_id] for parcel in parcels]
            return delivery.write_parcels(folders, parcels, when, self._config.compression)

        @touches(*{user_mail(parcel.user_id) for parcel in parcels})
        def index(db: Any, written: list[Written]) -> Any:
            return delivery.deliver_txn(db, self._root, written, parcels, when)

        if not parcels:
            return []
        try:
            quick = all(parcel.message.in_memory for parcel in parcels)
            outcomes, changes = await self._prepared(prepare, index, quick)
        except OSError as error:
            for user_id in homes:
                self._homes.pop(user_id, None)  # it may be the folder that is gone
            return [error for _ in parcels]
        for change in changes:
            self.news.publish(change)
        return list(outcomes)

    async def _prepared(
        self, prepare: Callable[[], list[Written]], index: Callable[..., T], quick: bool = True
    ) -> T:
        """Write files, then index them; on any error what is still in tmp/ is removed."""
        files: list[Written] = []

        def write() -> list[Written]:
            files.extend(prepare())
            return files

        try:
            return await self._work.prepared(write, index, quick)
        except Exception:
            if files:
                await self._work.files(delivery.remove_written, files)
            raise

    async def _rename_inbox(self, user_id: int, new: str) -> None:
        most = self._config.max_mailboxes

        def move(db: Any) -> list[Change]:
            mailboxes.must_be_free(db, user_id, new)
            made = mailboxes.create(db, self._root, user_id, new, (), most)
            return move_all(db, self._root, user_id, INBOX, made.name, int(time.time()))

        for change in await self._work.transaction(move):
            self.news.publish(change)
        self.upkeep.behind()
        self._listed(user_id)

    async def _home(self, user_id: int) -> Path:
        """The user's Maildir; made at first sight of the user."""
        known = self._homes.get(user_id)
        if known is None:
            home = await self._work.read(mailboxes.home_of, user_id)
            if home is None:
                home = await self._work.transaction(mailboxes.provision, self._root, user_id)
            if len(self._homes) > _HOMES:
                self._homes.clear()
            known = self._homes[user_id] = self._root / home / MAILDIR
        return known

    def _listed(self, user_id: int | None) -> None:
        self.news.publish(Listed(user_id))

    def _when(self) -> When:
        now = time.time()
        return When(int(now), time.localtime(now).tm_gmtoff // 60)
