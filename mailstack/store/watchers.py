"""Who is called after each change of a mailbox: at once, but of thousands only a few in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

AT_ONCE = 100  # watchers called before the reactor serves others

_log = Logger(namespace="mailstack.store")


class Watchers:
    """Of one mailbox. `soon` calls a function in a later turn of the reactor."""

    __slots__ = ("_callbacks", "_calling", "_due", "_soon")

    def __init__(self, soon: Callable[[Callable[[], None]], Any]) -> None:
        self._soon = soon
        self._callbacks: dict[object, Callable[[], None]] = {}
        self._due: dict[object, None] = {}  # those to be called, in order
        self._calling = False  # somebody is calling them, or will soon

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` after each change, until the returned function is called."""
        key = object()
        self._callbacks[key] = callback

        def remove() -> None:
            self._callbacks.pop(key, None)
            self._due.pop(key, None)

        return remove

    def call(self) -> None:
        """Something has changed. Who is still to be called for an earlier change is called once for both."""
        self._due.update(dict.fromkeys(self._callbacks))
        if not self._calling:
            self._calling = True
            self._call()

    def _call(self) -> None:
        for _ in range(AT_ONCE):
            if not self._due:
                break
            key = next(iter(self._due))
            del self._due[key]
            try:
                self._callbacks[key]()
            except Exception:
                _log.failure("a watcher of a mailbox failed")
        self._calling = bool(self._due)
        if self._calling:
            self._soon(self._call)
