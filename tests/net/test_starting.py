"""Coroutines that are begun at once."""

from __future__ import annotations

from contextvars import ContextVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailstack.net.starting import start

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class TestStart(SynchronousTestCase):
    def test_what_does_not_wait_is_done_when_start_returns(self) -> None:
        done: list[str] = []

        async def steps() -> None:
            done.append("done")

        start(steps())
        self.assertEqual(done, ["done"])

    def test_values_and_errors_come_in_where_it_waits(self) -> None:
        waits: list[Deferred[str]] = [Deferred(), Deferred(), Deferred()]
        heard: list[str] = []

        async def steps() -> None:
            heard.append(await waits[0])
            try:
                await waits[1]
            except ValueError as error:
                heard.append(f"caught {error}")
            heard.append(await waits[2])

        start(steps())
        waits[2].callback("last")  # before it is waited for
        self.assertEqual(heard, [])
        waits[0].callback("first")
        self.assertEqual(heard, ["first"])
        waits[1].errback(ValueError("second"))
        self.assertEqual(heard, ["first", "caught second", "last"])

    def test_what_it_sets_is_its_own_before_and_after_it_waits(self) -> None:
        wait: Deferred[None] = Deferred()
        seen: list[str] = []

        async def steps() -> None:
            whose.set("mine")
            await wait
            seen.append(whose.get())

        start(steps())
        self.assertEqual(whose.get(), "nobody's")
        wait.callback(None)
        self.assertEqual(seen, ["mine"])
        self.assertEqual(whose.get(), "nobody's")
