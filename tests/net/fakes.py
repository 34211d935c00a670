"""Stand-ins for what surrounds the reception of mail: threads, directory, queue, clock, chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mailstack.directory.model import Local, NotLocal, Resolution, User
from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.net.conversation import Conversation
from mailstack.net.spool import Spool
from mailstack.net.transaction import Reception
from mailstack.wire.smtp import Server

NOW = 1_795_000_000.0  # Thu, 18 Nov 2026 13:06:40 +0000
ALICE = User(1, Address("alice", "example.org"), None, None)
BOB = User(2, Address("bob", "example.org"), None, None)


class Here:
    """Work that is done at once, in this thread; or later, when a test lets it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails: OSError | None = None
        self.held: list[Deferred[None]] | None = None

    async def files(self, function: Callable[..., Any], *args: Any) -> Any:
        self.calls.append(function.__name__.strip("_"))
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting
        if self.fails and function.__name__ == "_write":
            raise self.fails
        return function(*args)

    def release(self) -> None:
        """Let what waits go on, and nothing wait again."""
        held, self.held = self.held or [], None
        for one in held:
            one.callback(None)


class Box:
    """Takes charge of every message, or answers what a test says."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.reply = reply or Reply(250, "2.0.0", "Taken")
        self.replies: dict[str, Reply] = {}  # by address, where one differs
        self.error: Exception | None = None
        self.held: Deferred[None] | None = None
        self.taken: list[tuple[Envelope, bytes]] = []
        self.messages: list[Message] = []

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        if self.held is not None:
            await self.held
        if self.error:
            raise self.error
        self.taken.append((envelope, message.read()))
        self.messages.append(message)
        return {one.address: self.replies.get(str(one.address), self.reply) for one in envelope.recipients}


class Town:
    """A directory: alice and bob live in example.org, sales is an alias of alice."""

    def __init__(self) -> None:
        self.asked = 0

    async def is_local(self, domain: str) -> bool:
        return domain == "example.org"

    async def resolve(self, address: Address) -> Resolution | None:
        if address.domain != "example.org":
            raise NotLocal
        name, plus, detail = address.local_part.lower().partition("+")
        user = {"alice": ALICE, "bob": BOB, "sales": ALICE, "postmaster": ALICE}.get(name)
        return Resolution((Local(user, address, detail if plus else None),), ()) if user else None

    async def authenticate(self, login: str, password: str, peer: str = "") -> User | None:
        return ALICE if (login, password) == ("alice@example.org", "secret") else None

    async def may_send_as(self, user: User, address: Address) -> bool:
        self.asked += 1
        found = await self.resolve(address) if address.domain == "example.org" else None
        return found is not None and found.locals[0].user == user


class Connection:
    """A client's end of a conversation with a service, over a transport in memory."""

    def __init__(
        self,
        service: Any,
        clock: Clock,
        address: str = "192.0.2.1",
        secure: bool = False,
        lmtp: bool = False,
    ) -> None:
        self.transport = Upgradable()
        self.transport.peerAddr = _Host(address)
        session = Server(lmtp=lmtp)
        self.conversation = Conversation(session, service, clock, secure=secure, tls="a context")
        self.conversation.makeConnection(self.transport)
        self.greeting = self.heard()

    def heard(self) -> str:
        """What the server has said since the last time."""
        said: str = self.transport.value().decode()
        self.transport.clear()
        return said

    def say(self, *lines: str) -> str:
        """Send lines; what the server says to them."""
        return self.send("".join(f"{line}\r\n" for line in lines).encode())

    def send(self, data: bytes) -> str:
        """Send bytes; what the server says to them."""
        self.conversation.dataReceived(data)
        return self.heard()

    def vanish(self) -> None:
        """The client is gone."""
        self.conversation.connectionLost()


class Upgradable(StringTransport):
    """A transport that can start TLS, in name."""

    def startTLS(self, context: Any) -> None:
        """Nothing happens but that it is on."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to delay."""


class _Host:
    def __init__(self, host: str) -> None:
        self.host = host
        self.port = 40_000


def reception(work: Here, folder: Path) -> tuple[Reception, Clock]:
    """A reception into `folder` at NOW, with its clock."""
    clock = Clock()
    clock.advance(NOW)
    made = Reception(work, folder, clock, random.Random(1))
    made.spool = Spool(work, folder, fund=0)  # what is not small goes to its file
    made.prepare()
    return made, clock
