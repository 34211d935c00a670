"""Coroutines begun at once, and given a Deferred only if they wait.

Theory of operation. Most of what a client says is answered without waiting for anything: the recipient is
remembered, the reply is a constant. For such an answer a Deferred, with all that Twisted does around a
coroutine, costs more than the answer. So the coroutine runs as far as it gets; where it ends there, nothing
else was needed, and where it waits, Twisted has the rest of it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred


def start(coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
    """Run `coroutine` until it ends. It lets no exception out: there is nobody to hear of it."""
    context = copy_context()  # what it sets there is its own, as Deferred.fromCoroutine has it
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration:
        return
    context.run(Deferred.fromCoroutine, _rest(coroutine, awaited))


def _rest(
    coroutine: Coroutine[Deferred[Any], Any, None], awaited: Deferred[Any]
) -> Generator[Deferred[Any], Any, None]:
    """What is left of a coroutine that waits for `awaited`."""
    while True:
        go_on: Callable[[], Deferred[Any]]
        try:
            go_on = partial(coroutine.send, (yield awaited))
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:
            go_on = partial(coroutine.throw, error)
        try:
            awaited = go_on()
        except StopIteration:
            return
