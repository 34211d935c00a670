"""The read-ahead of RETR: what is read when, and what if the disk fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailstack.access.pop3.reading import ReadAhead
from mailstack.store.values import Expunged
from tests.access.pop3.fakes import FakeMailbox

FIRST, COUNT = 11, 12
BATCH = 4


class SlowMailbox(FakeMailbox):
    """Reads are answered when the test says so."""

    def __init__(self) -> None:
        super().__init__([b"message %d" % (FIRST + number) for number in range(COUNT)], Path())
        self.waiting: list[Deferred[None]] = []
        self.slow = False

    async def bodies(self, wanted: Sequence[tuple[int, int, int | None]]) -> list[bytes | None]:
        found = await super().bodies(wanted)
        if self.slow:
            self.waiting.append(Deferred())
            await self.waiting[-1]
        return found


class ReadAheadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.box = SlowMailbox()
        self.ahead = ReadAhead(self.box, self.following)  # type: ignore[arg-type]

    def following(self, uid: int) -> list[int]:
        return [each for each in sorted(self.box.messages) if each > uid][: BATCH - 1]

    def ask(self, uid: int) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.ahead.body(uid))

    def take(self, *uids: int) -> None:
        for uid in uids:
            self.assertEqual(self.successResultOf(self.ask(uid)), b"message %d" % uid)

    def test_the_first_alone_and_then_several_together(self) -> None:
        self.take(11)
        self.assertEqual(self.box.reads, [])
        self.take(12, 13, 14, 15)
        self.assertEqual(self.box.reads, [[12, 13, 14, 15]])
        self.take(16)
        self.assertEqual(self.box.reads[1:], [[16, 17, 18, 19]])

    def test_whoever_leaves_the_order_reads_one(self) -> None:
        self.take(11, 12, 11)
        self.assertEqual(len(self.box.reads), 1)
        self.take(13)  # nothing is held that was not taken in order
        self.assertEqual(self.box.reads[1:], [[13, 14, 15, 16]])

    def test_what_fails_is_told_to_who_asks_and_read_again(self) -> None:
        self.take(11)
        self.box.slow = True
        asked = self.ask(12)
        self.box.waiting.pop().errback(OSError("disk"))
        self.failureResultOf(asked, OSError)
        self.box.slow = False
        self.take(13, 14)

    def test_one_that_is_gone_when_it_is_read(self) -> None:
        self.take(11)
        self.box.slow = True
        asked = self.ask(12)
        del self.box.messages[14]
        self.box.slow = False
        self.box.waiting[0].callback(None)
        self.assertEqual(self.successResultOf(asked), b"message 12")
        self.take(13)
        self.failureResultOf(self.ask(14), Expunged)
        self.take(15, 16)
