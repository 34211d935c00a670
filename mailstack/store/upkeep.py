"""What the store does beside: names behind flags, files of expunged messages, looks at the directories."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from mailstack.store import behind
from mailstack.store.settings import StoreConfig
from mailstack.work import Work

_log = Logger()

_NAMES = 200  # files renamed in one transaction
_GRAVES = 500  # files unlinked between two transactions
_PRUNING = 3600.0  # seconds between two
_DAY = 86_400  # seconds
_ROUNDS = 1_000  # of either in one run
_REST = 3.0  # of the time spent on names: mail that comes in meanwhile has most of the machine
_LONGEST_REST = 0.25  # seconds: a stop waits for it


class Upkeep:
    """Three loops: what is behind catches up soon; open mailboxes are looked at; the old is forgotten."""

    def __init__(
        self, config: StoreConfig, work: Work, clock: Any, look: Callable[[], Awaitable[None]]
    ) -> None:
        self._config = config
        self._root = Path(config.path)
        self._work = work
        self._claims: dict[int, int] = {}  # mailbox id: the first UID that is still recent
        self._behind = True  # after a start there may be something from before a crash
        self._stopped = False
        self._look = look
        self._clock = clock
        self._ended: list[Deferred[Any]] = []  # fire when a loop has
        self._loops = [
            (self._loop(clock, self._catch_up), config.write_behind),
            (self._loop(clock, self._look_around), config.poll),
            (self._loop(clock, self._prune), _PRUNING),
        ]

    def start(self) -> None:
        """Begin; the first run is one interval from now."""
        self._stopped = False
        self._ended = [loop.start(interval, now=False) for loop, interval in self._loops]

    async def finish(self) -> None:
        """End. Of what is behind some hundreds of files are still done, the rest after the next start."""
        self._stopped = True
        for loop, _ in self._loops:
            if loop.running:
                loop.stop()
        ended, self._ended = self._ended, []
        for one in ended:
            await one
        try:
            if self._behind:
                await self.catch_up()
        except Exception:
            _log.failure("upkeep of the store failed; it is tried again after the next start")

    def behind(self) -> None:
        """Something is behind the index."""
        self._behind = True

    def claim(self, mailbox_id: int, uid: int) -> None:
        """A session was told of the messages below `uid`."""
        self._claims[mailbox_id] = max(uid, self._claims.get(mailbox_id, 0))
        self._behind = True

    async def catch_up(self, rest: float = 0) -> None:
        """Do all that is behind, now; after each transaction on names rest `rest` times its length."""
        claims, self._claims = self._claims, {}
        self._behind = False
        try:
            if claims:
                await self._work.transaction(behind.claim_recent, claims)
            for _ in range(_ROUNDS):
                started = time.monotonic()
                done = await self._work.transaction(behind.sync_names, self._root, _NAMES)
                if done < _NAMES or self._stopped:
                    break
                if rest:
                    seconds = rest * (time.monotonic() - started)
                    await deferLater(self._clock, min(seconds, _LONGEST_REST))
            await self._bury()
            await self._clear()
        except BaseException:
            for mailbox_id, uid in claims.items():
                self.claim(mailbox_id, uid)
            self._behind = True
            raise

    async def prune(self) -> int:
        """Forget what was expunged long ago, unlink what was kept long enough; how much was forgotten."""
        config, now = self._config, int(time.time())
        before = now - config.remember_expunged * _DAY
        self._behind = True  # for the files
        return await self._work.transaction(behind.prune, before, config.remember_most, now)

    async def _keep(self) -> None:
        for _ in range(_ROUNDS):
            graves = await self._work.read(behind.to_keep, self._root, _GRAVES)
            done = await self._work.files(behind.keep, graves) if graves else []
            if done:
                await self._work.transaction(behind.note_kept, done)
            if len(done) < _GRAVES or self._stopped:
                break

    async def _bury(self) -> None:
        days = self._config.keep_expunged
        before = int(time.time()) - days * _DAY if days else None
        if days:
            await self._keep()
        for _ in range(_ROUNDS):
            graves = await self._work.read(behind.graves, self._root, _GRAVES, before)
            done = await self._work.files(behind.unlink, graves) if graves else []
            if done:
                await self._work.transaction(behind.forget_names, done)
            if len(done) < _GRAVES or self._stopped:
                break

    async def _clear(self) -> None:
        if await self._work.read(behind.discarded_paths):
            paths = await self._work.transaction(behind.set_aside, self._root)
            done = await self._work.files(behind.remove_directories, self._root, paths)
            await self._work.transaction(behind.forget_discarded, done)

    async def _catch_up(self) -> None:
        if self._behind:
            await self.catch_up(_REST)

    async def _prune(self) -> None:
        await self.prune()

    async def _look_around(self) -> None:
        await self._look()

    def _loop(self, clock: Any, run: Callable[[], Awaitable[None]]) -> LoopingCall:
        async def once() -> None:
            try:
                await run()
            except Exception:
                if not self._stopped:  # the threads may end before us
                    _log.failure("upkeep of the store failed; it is tried again")

        loop = LoopingCall(lambda: Deferred.fromCoroutine(once()))
        loop.clock = clock
        return loop
