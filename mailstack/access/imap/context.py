"""What the commands of one IMAP connection share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mailstack.access.settings import ImapConfig
from mailstack.directory import User
from mailstack.net.peer import Peer
from mailstack.net.sign_in import Door, SignIn
from mailstack.store.mailbox import Mailbox
from mailstack.store.message_store import MessageStore
from mailstack.store.values import ALL_RIGHTS, NoPermission
from mailstack.store.view import View
from mailstack.wire.imap.codes import in_progress
from mailstack.wire.imap.commands import Command
from mailstack.wire.imap.responses import AnyResponse, Bye, Tagged, Untagged
from mailstack.work import Work

if TYPE_CHECKING:
    from mailstack.access.imap.contexts import Updated
    from mailstack.access.imap.watching import Watch

PROGRESS = 5.0  # seconds of a long command until its client hears how far it is, and from then on
Say = Callable[[AnyResponse], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Services:
    """What all connections share."""

    store: MessageStore
    sign_in: SignIn
    config: ImapConfig
    clock: IReactorTime
    work: Work
    hostname: str = "localhost"
    offers_tls: bool = True
    inbox_only: bool = True  # mail is delivered to INBOX and to no other mailbox

    async def pause(self, seconds: float = 0.0) -> None:
        """Let the reactor serve others, for at least `seconds`."""
        await deferLater(self.clock, seconds)


@dataclass(slots=True)
class Selected:
    """The selected mailbox and this session's picture of it."""

    mailbox: Mailbox
    view: View
    read_only: bool
    keywords: tuple[str, ...] = ()  # those the client has been told of
    modseqs: bool = False  # the client is told modseqs with flags (RFC 7162 section 3.1)
    vanishes: bool = (
        False  # it is told VANISHED in place of EXPUNGE, and UIDs with flags (RFC 7162 section 3.2)
    )
    name: str = ""  # as the user calls it, who may not be its owner
    rights: str = ALL_RIGHTS  # what the user may do here (RFC 4314)
    saved: tuple[int, ...] = ()  # UIDs: what `$` stands for (RFC 5182)
    behind: bool = False  # the client was told that its HIGHESTMODSEQ is below an EXPUNGE still to come
    examined: bool = False  # it was opened to be read only, whatever the rights
    doubted: bool = False  # the rights may have changed
    wake: Callable[[], None] | None = None  # called then: somebody waits to be told
    stops: list[Callable[[], None]] = field(default_factory=list)  # end what listens for that
    uid_only: bool = False  # no message numbers: UIDFETCH, VANISHED (RFC 9586)
    updated: dict[str, Updated] = field(default_factory=dict)  # searches kept up to date, by tag
    seconds: Callable[[], float] = time.time  # the clock, for OLDER and YOUNGER
    revised: bool = False  # the client is told as RFC 9051 has it: UIDs with flags, nothing of Recent
    utf8: bool = False  # it reads UTF-8 in quoted strings

    @property
    def recent(self) -> Collection[int]:
        """The UIDs that are Recent to this client; those of IMAP4rev2 know no such flag."""
        return () if self.revised else self.view.recent

    def fetches(self, uids: Sequence[int]) -> tuple[bytes, Iterable[int]]:
        """How responses of FETCH begin: a template, and the number for each; UIDs where there are none."""
        if self.uid_only:
            return b"* %d UIDFETCH (", uids
        return b"* %d FETCH (", self.view.numbers(uids)

    def close(self) -> None:
        """Leave it."""
        for stop in self.stops:
            stop()
        self.view.close()
        self.mailbox.close()


@dataclass(slots=True)
class Context:
    """One connection: who it is, where it is, and how to speak to it."""

    services: Services
    peer: Peer
    say: Say
    door: Door
    user: User | None = None
    current: Selected | None = None
    condstore: bool = False  # the client has shown that it knows modseqs
    qresync: bool = False  # it has enabled QRESYNC
    appended_to: str | None = None  # where the last APPEND, if it succeeded, put its messages
    uid_only: bool = False  # it has enabled UIDONLY
    revised: bool = False  # it has enabled IMAP4rev2 (RFC 9051)
    utf8: bool = False  # it has enabled UTF-8 in strings, by UTF8=ACCEPT (RFC 6855) or IMAP4rev2
    tag: str = ""  # of the command in hand
    told: float = 0.0  # when it began, or the client last heard how far it has come
    watch: Watch | None = None  # what NOTIFY asked for; None: it was never said

    @property
    def store(self) -> MessageStore:
        """The mail."""
        return self.services.store

    @property
    def user_id(self) -> int:
        """Whose mail; only after login (`wire.imap.states` sees to it)."""
        if self.user is None:
            raise RuntimeError("not logged in")
        return self.user.id

    @property
    def selected(self) -> Selected:
        """Only in selected state (`wire.imap.states` sees to it).

        Raise Deleted where the mailbox is gone, NoPermission where it may not be read any more.
        """
        if self.current is None:
            raise RuntimeError("nothing is selected")
        if self.current.mailbox.deleted:
            raise Deleted
        if "r" not in self.current.rights:
            raise NoPermission("you may not read this mailbox any more")
        return self.current

    @property
    def quota(self) -> tuple[int | None, int | None]:
        """The user's limits: octets and messages."""
        return (self.user.quota_octets, self.user.quota_messages) if self.user else (None, None)

    def begin(self, tag: str) -> None:
        """A command has come."""
        self.tag, self.told = tag, self.services.clock.seconds()

    async def progress(self, done: int, goal: int) -> None:
        """Tell the client how far a long command has come, not too often (RFC 9585)."""
        now = self.services.clock.seconds()
        if now - self.told >= PROGRESS:
            self.told = now
            await self.say(Untagged("OK", f"{done} of {goal} messages", in_progress(self.tag, done, goal)))

    def enable_condstore(self) -> None:
        """From here on flags are told with their modseq (RFC 7162 section 3.1)."""
        self.condstore = True
        if self.current is not None:
            self.current.modseqs = True

    def enable_qresync(self) -> None:
        """From here on the client is told of what vanished, by UID (RFC 7162 section 3.2.3)."""
        self.qresync = True
        if self.current is not None:
            self.current.vanishes = True
        self.enable_condstore()

    def enable_uid_only(self) -> None:
        """From here on there are no message numbers (RFC 9586 section 3); there is no way back."""
        self.uid_only = True
        if self.current is not None:
            self.current.uid_only = True
            for search in self.current.updated.values():
                search.uid = True

    def enable_utf8(self) -> None:
        """From here on strings for the client may hold UTF-8 (RFC 6855 section 3)."""
        self.utf8 = True
        if self.current is not None:
            self.current.utf8 = True

    def enable_revised(self) -> None:
        """From here on the client is answered as RFC 9051 has it."""
        self.revised = True
        if self.current is not None:
            self.current.revised = True
        self.enable_utf8()

    def forget(self) -> None:
        """The user is gone, and what they chose (RFC 8437)."""
        self.leave()
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        self.user = self.appended_to = None
        self.condstore = self.qresync = self.uid_only = self.revised = self.utf8 = False

    def leave(self) -> None:
        """Nothing is selected any more."""
        selected, self.current = self.current, None
        if selected is not None:
            selected.close()


class Unsupported(Exception):
    """What is asked for is in the grammar, but not offered here: BAD."""


class Deleted(Exception):
    """The selected mailbox was deleted by somebody else (RFC 2180 section 3.3): the session must end."""

    farewell = Bye("The selected mailbox was deleted; come again", "NONEXISTENT")


def completed(command: Command, words: str, code: str | None = None) -> Tagged:
    """The tagged OK."""
    return Tagged(command.tag, "OK", f"{words} completed", code)


def refuse(command: Command, words: str, code: str | None = None) -> Tagged:
    """The tagged NO."""
    return Tagged(command.tag, "NO", words, code)
