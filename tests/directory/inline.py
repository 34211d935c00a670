"""Work without threads, for tests: everything is done at once, or when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailstack.db import Database

T = TypeVar("T")


class InlineWork:
    """Runs each piece of work as it comes, and counts it; with `hold`, hashes wait for `go`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.reads = 0
        self.hashes: list[tuple[Any, ...]] = []  # the arguments of each
        self.writes = 0
        self.hold = False
        self._held: list[tuple[Callable[..., Any], tuple[Any, ...], Deferred[Any]]] = []

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        self.reads += 1
        return self.database.read(function, *args)

    async def transaction(self, function: Callable[..., T], *args: Any) -> T:
        self.writes += 1
        return self.database.write(function, *args)

    async def hash(self, function: Callable[..., T], *args: Any) -> T:
        self.hashes.append(args)
        if not self.hold:
            return function(*args)
        answer: Deferred[T] = Deferred()
        self._held.append((function, args, answer))
        return await answer

    def go(self, error: Exception | None = None) -> None:
        """Do what was held, or have it fail."""
        held, self._held = self._held, []
        for function, args, answer in held:
            answer.callback(function(*args) if error is None else Failure(error))


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The value of a coroutine that needs to wait for nothing; its error is raised."""
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    assert found, "it waits for something"
    if isinstance(found[0], Failure):
        found[0].raiseException()
    value: T = found[0]
    return value
