"""NOTIFY at work (RFC 5465): from a change to what one client is told of it.

Theory of operation. Listeners to the store's news only note what they heard: which mailboxes are no longer as
the client was told, and whether the list of mailboxes is. Then one coroutine, the only one at a time, asks
the index and says the differences; whatever comes meanwhile makes it go round once more. So a flood of
changes costs one look for each round, however many they are. While a command is answered nothing is pushed:
`hold` and `release` stand around each command, and what is due then is told before its end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.interest import (
    MESSAGES,
    Picture,
    Wanted,
    Watched,
    carry_over,
    denials,
    doubtful,
    initial_status,
    list_changes,
    picture,
    status_change,
)
from mailstack.access.imap.permission import recheck
from mailstack.access.imap.telling import tell_selected
from mailstack.access.imap.tree import Tree, tree_of
from mailstack.net.conversation import Vanished
from mailstack.store.flags import SEEN_BIT
from mailstack.store.news import Change, Listed, Noted, by
from mailstack.store.tables import UID_MASK
from mailstack.store.values import Counts, NoSuchMailbox
from mailstack.wire.imap.codes import NOTIFICATION_OVERFLOW
from mailstack.wire.imap.extension_responses import MetadataChanged
from mailstack.wire.imap.responses import Response, StatusResponse, Untagged

_log = Logger(namespace="mailstack.access.imap")

SLICE = 500  # responses said before others are served
MANY = 20_000  # names times groups: more are matched in a thread
MANY_NAMES = 500  # a list of more names is not looked at again at once ...
SECONDS_A_NAME = 0.0004  # ... but after so long for each
SECONDS_FOR_OTHERS = 1.0  # between two looks at what other users have changed
MOST_NOTES = 1000  # annotations' names that wait to be told


class Overflow(Exception):
    """More mailboxes than may be watched by one client."""


class Watch:
    """What one client is told, from one NOTIFY to the next."""

    def __init__(self, context: Context, wanted: Wanted) -> None:
        self._context = context
        self.wanted = wanted
        self.idling = False
        self._picture: Picture | None = None
        self._stops: dict[Hashable, Callable[[], None]] = {}
        self._dirty: dict[int, None] = {}
        self._deferred: dict[int, None] = {}  # those that wait for a look at the list
        self._notes: dict[tuple[int | None, str], None] = {}  # mailbox and annotation, in order
        self._own: set[str] = set()  # names that this client has changed
        self._list_changed = False
        self._not_before = 0.0  # when the list may be looked at again
        self._looked = -SECONDS_FOR_OTHERS  # when it was looked at last
        self._later: Any = None  # the call that will do it
        self._selected_changed = False
        self._attached: Selected | None = None
        self._detach: list[Callable[[], None]] = []
        self._created: set[int] = set()  # UIDs in the selected mailbox that this client made
        self._held = True  # the NOTIFY itself is being answered
        self._scheduled = False
        self._pushing: list[Deferred[None]] | None = None  # who waits for the end of the push
        self._closed = False

    # From NOTIFY to the next

    async def start(self) -> None:
        """Look at the mailboxes and listen. Raise Overflow."""
        if self.wanted.of_server:
            self._listen(("notes", None), self._noted)
        if self.wanted.lists:
            for topic in (("list", self._context.user_id), ("list", None)):
                self._listen(topic, self._heard_of_list)
            self._use(await self._look())

    async def tell_status(self) -> None:
        """What NOTIFY SET STATUS asks for: each watched mailbox as it is now."""
        said: list[Response] = []
        for id, watched in self._watched().items():
            items = initial_status(watched)
            if items and not self._is_selected(id):
                said.append(StatusResponse(watched.name, items))
        await self._say(said)

    async def tell_denied(self) -> None:
        """LIST with \\NoAccess for what may be seen, but not watched (RFC 5465 section 3.1)."""
        if self._picture is not None:
            await self._say(denials(self._picture))

    def close(self) -> None:
        """Tell nothing more."""
        self._closed = True
        for stop in (*self._stops.values(), *self._detach):
            stop()
        self._stops.clear()
        self._detach.clear()
        if self._later is not None:
            self._later.cancel()
            self._later = None

    # Around each command

    async def hold(self) -> None:
        """A command is about to be answered: nothing is pushed until `release`."""
        self._held = True
        if self._pushing is not None:
            done: Deferred[None] = Deferred()
            self._pushing.append(done)
            await done

    def release(self) -> None:
        """The command is answered; its answer is written before anything that is pushed."""
        self._held = False
        self._attach()
        self._stir()

    def changes(self, *names: str) -> None:
        """This client changes the list itself: of these names it knows."""
        if self.wanted.lists:
            self._own.update(names)

    async def flush(self) -> None:
        """Say all that is due of other mailboxes, the list and annotations."""
        if self._list_is_due():
            await self._tell_list()
        if self._dirty:
            await self._tell_counts()
        if self._notes:
            notes, self._notes = self._notes, {}
            await self._tell_notes(list(notes))

    def take_created(self) -> set[int]:
        """The UIDs in the selected mailbox that this client has made since it last was told of new ones."""
        created, self._created = self._created, set()
        return created

    # What is heard

    def _heard(self, change: Change) -> None:
        watched = self._watched().get(change.mailbox_id)
        if watched is None or change.gone or not watched.events & MESSAGES:
            return
        if by.get() is self._context and change.since == watched.counts.highest_modseq:
            watched.counts = _after_own(watched, change)
            return
        self._dirty[change.mailbox_id] = None
        self._stir()

    def _heard_of_list(self, item: Listed) -> None:
        self._list_changed = True
        if item.user_id != self._context.user_id:  # one user's doings cost all others little
            self._not_before = max(self._not_before, self._looked + SECONDS_FOR_OTHERS)
        self._stir()

    def _noted(self, item: Noted) -> None:
        if by.get() is self._context or item.user_id not in (None, self._context.user_id):
            return
        if item.mailbox_id is not None:
            watched = self._watched().get(item.mailbox_id)
            if watched is None or "mailboxmetadatachange" not in watched.events:
                return
        self._notes.update(dict.fromkeys((item.mailbox_id, entry) for entry in item.entries))
        if len(self._notes) > MOST_NOTES:
            self.overflow()
        self._stir()

    def _heard_selected(self, change: Change) -> None:
        if by.get() is self._context:
            self._created.update(row[0] & UID_MASK for row in change.rows)

    def _may_expunge(self) -> bool:
        """Whether EXPUNGE may come with no command in progress (RFC 5465 section 6.1)."""
        selected = self.wanted.selected
        return self.idling or (selected is not None and selected.filter.kind == "selected")

    def idle(self, idling: bool) -> None:
        """IDLE begins, in which EXPUNGE may always come; or it ends."""
        self.idling = idling
        self._selected_changed = self._selected_changed or idling

    def _selected_has_changed(self) -> None:
        self._selected_changed = True
        if self.wanted.selected is not None:
            self._stir()

    def _listen(self, topic: Hashable, listener: Callable[..., None]) -> None:
        if topic not in self._stops:
            self._stops[topic] = self._context.store.news.subscribe(topic, listener)

    def _attach(self) -> None:
        """Listen to the mailbox that is selected now."""
        selected = self._context.current
        if selected is self._attached or self._closed:
            return
        for detach in self._detach:
            detach()
        self._detach, self._attached, self._created = [], selected, set()
        self._selected_changed = False
        if selected is not None:
            selected.wake = self._selected_has_changed
            mailbox = selected.mailbox
            self._detach = [mailbox.watch(self._selected_has_changed)]
            if self.wanted.selected is not None and self.wanted.selected.items:
                news = self._context.store.news
                self._detach.append(news.subscribe(mailbox.id, self._heard_selected))

    # Pushing

    def _is_due(self) -> bool:
        selected = self._selected_changed and self.wanted.selected is not None
        return bool(selected or self._dirty or self._notes or self._list_is_due())

    def _list_is_due(self) -> bool:
        return self._list_changed and self._context.services.clock.seconds() >= self._not_before

    def _stir(self) -> None:
        """Push soon: not in the middle of whoever made the change, nor of an answer to our own client."""
        if self._held or self._closed or self._pushing is not None:
            return
        clock = self._context.services.clock
        if self._is_due():
            if not self._scheduled:
                self._scheduled = True
                clock.callLater(0.0, self._push_now)
        elif self._list_changed and self._later is None:
            self._later = clock.callLater(self._not_before - clock.seconds(), self._look_again)

    def _look_again(self) -> None:
        self._later = None
        self._stir()

    def _push_now(self) -> None:
        self._scheduled = False
        if not self._held and not self._closed and self._pushing is None:
            self._pushing = []
            Deferred.fromCoroutine(self._push())

    async def _push(self) -> None:
        try:
            while not self._held and not self._closed:
                self._selected_changed = False
                await recheck(self._context)
                await tell_selected(self._context, expunges=self._may_expunge())
                await self.flush()
                if not self._is_due():
                    break
        except Vanished:
            self.close()
        except NoSuchMailbox:
            self.overflow()  # the user was just removed
        except Exception:
            _log.failure("a client could not be notified")
            self.overflow()
        finally:
            waiting, self._pushing = self._pushing or [], None
            for done in waiting:
                done.callback(None)
        self._stir()

    def overflow(self) -> None:
        """Too much: as after NOTIFY NONE (RFC 5465 section 5.8)."""
        self.close()
        watch = Watch(self._context, Wanted(None, ()))
        watch._held = self._held
        self._context.watch = watch
        watch._attach()
        said = Untagged("OK", "Too much to notify you of; this is the end of it", NOTIFICATION_OVERFLOW)

        async def farewell() -> None:
            try:
                await self._context.say(said)
            except Vanished:
                pass

        Deferred.fromCoroutine(farewell())

    # What is said

    async def _tell_counts(self) -> None:
        ids, self._dirty = list(self._dirty), {}
        found = await self._context.store.counts(ids)
        said: list[Response] = []
        for id in ids:
            watched, now = self._watched().get(id), found.get(id)
            if watched is None or now is None:
                continue
            if self._list_changed and not watched.own:  # whether we still may tell is not known yet
                self._deferred[id] = None
                continue
            items = status_change(watched, now, modseqs=self._context.condstore)
            watched.counts = now
            if items and not self._is_selected(id):
                said.append(StatusResponse(watched.name, items))
        await self._say(said)

    async def _tell_list(self) -> None:
        own, self._own = self._own, set()
        self._list_changed = False
        before, after = self._picture, await self._look()
        assert before is not None  # who listens to the list has looked
        alive: dict[int, object] = {}
        if vanished := doubtful(before, after):
            alive = {**await self._context.store.counts(vanished)}
        deferred, self._deferred = self._deferred, {}
        self._dirty.update({**deferred, **dict.fromkeys(carry_over(before, after, alive))})
        try:
            self._use(after)
        except Overflow:
            self.overflow()
            return
        await self._say(list_changes(self.wanted, before, after, own))

    async def _tell_notes(self, notes: Sequence[tuple[int | None, str]]) -> None:
        watched = self._watched()
        entries: dict[str, list[str]] = {}
        for id, entry in notes:
            if id is None or id in watched:
                entries.setdefault("" if id is None else watched[id].name, []).append(entry)
        await self._say([MetadataChanged(name, tuple(some)) for name, some in entries.items()])

    async def _say(self, responses: Sequence[Response]) -> None:
        for start in range(0, len(responses), SLICE):
            await self._context.say(tuple(responses[start : start + SLICE]))
            if start + SLICE < len(responses):
                await self._context.services.pause()

    # The picture

    async def _look(self) -> Picture:
        """The user's mailboxes now, matched."""
        services = self._context.services
        tree = await tree_of(self._context)
        names = len(tree.boxes)
        self._looked = services.clock.seconds()
        if names > MANY_NAMES:
            self._not_before = self._looked + SECONDS_A_NAME * names
        if names * len(self.wanted.others) > MANY:
            return await services.work.compute(picture, self.wanted, tree)
        return picture(self.wanted, tree)

    def _use(self, seen: Picture) -> None:
        """Listen to all mailboxes of a picture, and to no others. Raise Overflow."""
        if len(seen.watched) > self._context.services.config.max_notified:
            raise Overflow
        self._picture = seen
        topics: dict[Hashable, Callable[..., None]] = {}
        for id, watched in seen.watched.items():
            if watched.events & MESSAGES:
                topics[id] = self._heard
            if "mailboxmetadatachange" in watched.events:
                topics["notes", id] = self._noted
        for owner in _owners(seen.tree):
            topics["list", owner] = self._heard_of_list
        fixed = {("notes", None), ("list", None)}
        for topic in [topic for topic in self._stops if topic not in topics and topic not in fixed]:
            self._stops.pop(topic)()
        # What came between our look and now was not heard: look at the new ones once more.
        self._dirty.update((id, None) for id in seen.watched if id in topics and id not in self._stops)
        for topic, listener in topics.items():
            self._listen(topic, listener)

    def _watched(self) -> dict[int, Watched]:
        return {} if self._picture is None else self._picture.watched

    def _is_selected(self, id: int) -> bool:
        current = self._context.current
        return current is not None and current.mailbox.id == id


def _owners(tree: Tree) -> set[int]:
    """The users whose mailboxes are seen."""
    return {box.user_id for box in tree.boxes.values()} | {tree.user_id}


def _after_own(watched: Watched, change: Change) -> Counts:
    """What the client knows after a change of its own, which only adds or removes messages there."""
    counts = watched.counts
    new = [row for row in change.rows if row[0] & UID_MASK >= counts.uidnext]
    return replace(
        counts,
        uidnext=max([counts.uidnext, *((row[0] & UID_MASK) + 1 for row in new)]),
        highest_modseq=change.modseq,
        messages=counts.messages + len(new) - len(change.expunged),
        unseen=counts.unseen + sum(1 for row in new if not row[1] & SEEN_BIT),
    )
