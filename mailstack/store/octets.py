"""The octets of one mailbox's messages, read from their files.

Theory of operation. The index tells where a file should lie; what it told is remembered, and with each place
those of the messages that follow, because who reads some reads on. Another program may rename a file at any
time: where there is none, the index is asked again, then the directory is searched.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path

from twisted.logger import Logger

from mailstack.mail.message import Stored
from mailstack.store import maildir, message_files, reading
from mailstack.store.packing import Damaged
from mailstack.store.rows import spans_of
from mailstack.store.values import Expunged
from mailstack.store.view import Timeline
from mailstack.work import Work

_PLACES = 4_096  # paths of files remembered
_AHEAD = 63  # paths looked up with one that is asked for
_MORE = 500  # and with several
_log = Logger()


class Octets:
    """What an open mailbox reads of its messages. `present` are the UIDs that are not expunged."""

    def __init__(
        self,
        mailbox_id: int,
        directory: Path,
        timeline: Timeline,
        present: Container[int],
        work: Work,
        doubted: Callable[[int], None],
    ) -> None:
        self._id = mailbox_id
        self._directory = directory
        self._timeline = timeline
        self._present = present
        self._work = work
        self._doubted = doubted  # a file is not where it should be: look at the directory
        self._places: dict[int, reading.FilePlace] = {}

    async def body(self, uid: int, offset: int = 0, length: int | None = None) -> bytes:
        """See `Mailbox.body`."""
        for _ in range(3):  # it may be renamed between our look at the index and at the disk
            path = await self.path(uid)
            try:
                return await self._work.files(message_files.read_file, path, offset, length)
            except FileNotFoundError:
                self._places.clear()
        for _ in range(3):  # and again between the search and the disk
            path = await self._search(uid)
            try:
                return await self._work.files(message_files.read_file, path, offset, length)
            except FileNotFoundError:
                continue
        raise Expunged(f"message {uid} goes from name to name")

    async def bodies(self, wanted: Sequence[tuple[int, int, int | None]]) -> list[bytes | None]:
        """See `Mailbox.bodies`."""
        places = await self._known_places([uid for uid, _, _ in wanted])
        mailbox = str(self._directory)
        reads: list[message_files.Wanted] = []
        there: list[int] = []  # where in `wanted` they belong
        for at, (uid, offset, length) in enumerate(wanted):
            place = places.get(uid)
            if place is not None:
                path = f"{mailbox}/{maildir.relative(place.name, place.disk_info, place.is_new)}"
                reads.append((path, offset, length))
                there.append(at)
        found: list[bytes | None] = [None] * len(wanted)
        if reads:
            for at, data in zip(there, await self._work.files(message_files.read_files, reads), strict=True):
                found[at] = data
        for at, data in enumerate(found):
            if data is None:
                found[at] = await self._missed(*wanted[at])
        return found

    async def stored(self, uid: int) -> Stored:
        """See `Mailbox.stored`."""
        self._places.pop(uid, None)
        path = await self.path(uid)
        size = self._places[uid].size
        if not await self._work.files(path.exists):
            path = await self._search(uid)
        return Stored(path, 0, size)

    async def path(self, uid: int) -> Path:
        """Where a file should lie. Raise Expunged."""
        place = self._places.get(uid)
        if place is None:
            places = await self._work.read(reading.read_places, self._id, uid, _AHEAD)
            if uid not in places:
                raise Expunged(f"message {uid}")
            self._remember(places)
            place = places[uid]
        return self._directory / maildir.relative(place.name, place.disk_info, place.is_new)

    def forget(self, uids: Iterable[int]) -> None:
        """They are expunged."""
        for uid in uids:
            self._places.pop(uid, None)

    def _remember(self, places: Mapping[int, reading.FilePlace]) -> None:
        if len(self._places) + len(places) > _PLACES:
            self._places.clear()
        self._places.update(places)

    async def _known_places(self, uids: Sequence[int]) -> Mapping[int, reading.FilePlace]:
        """Where the files of some messages should lie; those that are gone are missing."""
        unknown = [uid for uid in uids if uid not in self._places]
        if not unknown:
            return self._places
        among = self._timeline.current.uids
        if len(uids) > 1:
            end = bisect_right(among, max(unknown))
            unknown += [uid for uid in among[end : end + _MORE] if uid not in self._places]
        found = await self._work.read(reading.places_of, self._id, spans_of(unknown, among))
        asked = {uid: self._places[uid] for uid in uids if uid in self._places}
        self._remember(found)
        return asked | found

    async def _missed(self, uid: int, offset: int, length: int | None) -> bytes | None:
        """A body whose file was not where it should be; None if the message is gone."""
        self._places.pop(uid, None)
        if uid not in self._present:
            return None
        try:
            return await self.body(uid, offset, length)
        except Expunged:
            return None
        except Damaged as error:
            _log.error(
                "message {uid} of mailbox {id} cannot be read: {error}", uid=uid, id=self._id, error=error
            )
            return None

    async def _search(self, uid: int) -> Path:
        """The file of a message that another program renamed. Raise Expunged."""
        self._doubted(self._id)
        await self.path(uid)
        base = self._places[uid].name
        try:
            found = await self._work.files(maildir.find, self._directory, base)
        except FileNotFoundError:  # the mailbox was deleted while we look, or its directory is lost
            self._places.pop(uid, None)
            await self.path(uid)
            raise
        if found is None:
            raise Expunged(f"message {uid} has lost its file")
        return self._directory / found
