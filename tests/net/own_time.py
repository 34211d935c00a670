"""Connections by the real reactor, time by a clock that only the test moves: a limit that must hold never ends by
itself, however slow the machine is, and one that must end does so at once.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock

from tests.net.next_hop import Session

reactor: Any = _reactor
_TURNS = (
    10  # of the reactor: by then what is sent on loopback has arrived, and what it leads to has been done
)
_AGE = 1000.0  # seconds: more than any limit


class OwnTime:
    """A reactor for who is tested."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def callLater(self, *args: Any) -> Any:
        """By our clock."""
        return self.clock.callLater(*args)

    def seconds(self) -> float:
        """By our clock."""
        return self.clock.seconds()

    def run_out(self, session: Session, turns: int = _TURNS) -> None:
        """Let time pass until who talks to this session has given it up: nobody else may wait meanwhile."""
        if session.gone.called:
            return
        if turns == 0:
            self.clock.advance(_AGE)
            turns = _TURNS
        reactor.callLater(0, self.run_out, session, turns - 1)
