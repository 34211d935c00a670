"""Commands that take long and do not say how far they are: the client hears that they go on (RFC 9585)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from mailstack.access.imap.context import PROGRESS, Context
from mailstack.net.conversation import Vanished
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.codes import in_progress
from mailstack.wire.imap.responses import Untagged

T = TypeVar("T")

# Commands that may take long. FETCH is none: it says what it has, and may be in the middle of a literal.
LONG: frozenset[type[c.Command]] = frozenset(
    {
        c.Select, c.Close, c.Expunge, c.Search, c.Store, c.Copy, c.Move, c.AppendEnd, c.Delete, c.Rename,
        c.List, c.Lsub, c.Status, x.Sort, x.Thread, x.MultiSearch, x.Notify,
    }
)  # fmt: skip


async def with_progress(context: Context, answer: Awaitable[T]) -> T:
    """Its value; every few seconds in which nothing else is said of it, the client hears INPROGRESS."""
    clock = context.services.clock
    call: Any = None

    def again(seconds: float) -> None:
        nonlocal call
        call = clock.callLater(seconds, tick)

    def tick() -> None:
        quiet = clock.seconds() - context.told
        if quiet < PROGRESS:  # it has told something itself
            again(PROGRESS - quiet)
            return
        context.told = clock.seconds()
        again(PROGRESS)
        Deferred.fromCoroutine(_say(context))

    again(PROGRESS)
    try:
        return await answer
    finally:
        call.cancel()


async def _say(context: Context) -> None:
    try:
        await context.say(Untagged("OK", "Still at it", in_progress(context.tag)))
    except Vanished:
        pass  # the command ends for itself
