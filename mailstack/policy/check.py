"""The class that every check derives from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mailstack.net.checks import Connection, Incoming, Transaction, Verdict


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a check may use of the stack it runs in."""

    name: str  # the check's own, as in the configuration file
    hostname: str  # ours
    reactor: Any  # Twisted's: clock, connections
    work: Any  # `mailstack.work.Work`: where blocking is allowed
    resolver: Any  # `mailstack.net.resolver.Resolver`: DNS


class Check:
    """Says yes to everything: override the points that matter.

    Made once, when the stack starts, and asked for every client; what it must know of one connection or
    transaction it keeps by `Connection`, and forgets at `reset` or `closed`. A method that is not overridden
    costs nothing. Raise `Refused(Reply(...))` to refuse; a 421 closes the connection too. Never block:
    `await self.surroundings.work.files(function, ...)` runs a function in a thread.
    """

    Settings: ClassVar[type[Any] | None] = None  # a dataclass: what [policy.NAME] may hold
    services: ClassVar[tuple[str, ...]] = ("relay", "submission", "lmtp")  # unless [policy.NAME] says other

    def __init__(self, settings: Any, surroundings: Surroundings) -> None:
        self.settings = settings
        self.surroundings = surroundings

    def concerns(self, connection: Connection) -> bool:
        """Asked once for each client, and first: False, and it is asked nothing more about that one."""
        return True

    async def connected(self, now: Transaction) -> Verdict | None:
        """A client has connected; a refusal is its greeting, with the code 421 or 554."""
        return None

    async def hello(self, now: Transaction) -> Verdict | None:
        """It has said EHLO or HELO; after STARTTLS it does so again."""
        return None

    async def mail(self, now: Transaction) -> Verdict | None:
        """MAIL: a transaction begins."""
        return None

    async def recipient(self, now: Transaction) -> Verdict | None:
        """RCPT, for somebody whom we would take: the last of `now.recipients`."""
        return None

    async def message(self, now: Transaction, incoming: Incoming) -> Verdict | None:
        """The message has come whole, and nobody has been told 250."""
        return None

    def reset(self, connection: Connection) -> None:
        """The transaction is over, by RSET or by the end of its message, taken or not."""

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""
