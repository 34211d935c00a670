"""A store and a directory of the test's own, and conversations with the real adapter and session over them."""

from __future__ import annotations

import ipaddress
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from mailstack.access.pop3 import Pop3Access
from mailstack.access.settings import Pop3Config
from mailstack.mail.address import Address
from mailstack.mail.message import Stored
from mailstack.net.conversation import Conversation
from mailstack.store.flags import SEEN_BIT
from mailstack.store.news import Row
from mailstack.store.values import SEEN, Expunged
from mailstack.wire import pop3
from tests.net.sign_ins import sign_in_with

ALICE, BOB = 1, 2


@dataclass
class FakeUser:
    id: int
    address: Address


class FakeDirectory:
    def __init__(self) -> None:
        self.users = {("alice@a.test", "secret pass"): FakeUser(ALICE, Address("alice", "a.test"))}
        self.users["bob@a.test", "ü"] = FakeUser(BOB, Address("bob", "a.test"))
        self.error: Exception | None = None

    async def authenticate(self, login: str, password: str, peer: str = "") -> Any:
        if self.error:
            raise self.error
        return self.users.get((login, password))


class FakeView:
    def __init__(self, uids: list[int]) -> None:
        self.uids = uids


class FakeMailbox:
    """The part of Mailbox that POP3 uses, in memory; messages of SMALL octets and more are files."""

    uidvalidity = 1700000000

    def __init__(self, messages: Sequence[bytes], folder: Path) -> None:
        self.messages = dict(enumerate(messages, 11))
        self.flags: dict[int, set[str]] = {uid: set() for uid in self.messages}
        self.folder = folder
        self.opened = 0
        self.calls: list[tuple[str, list[int]]] = []
        self.reads: list[list[int]] = []  # UIDs read together
        self.expunge_error: Exception | None = None
        self.renames = 0  # how many times a file is not where `stored` said

    def view(self, read_only: bool = False) -> FakeView:
        assert read_only  # or \Recent would be lost for IMAP
        return FakeView(sorted(self.messages))

    def rows(self, uids: Iterable[int]) -> list[Row]:
        return [
            (uid, SEEN_BIT if SEEN in self.flags[uid] else 0, 1, 0, 0, len(self.messages[uid]))
            for uid in uids
            if uid in self.messages
        ]

    async def store_flags(self, uids: Sequence[int], mode: str, flags: frozenset[str]) -> None:
        self.calls.append((mode, list(uids)))
        for uid in uids:
            self.flags[uid] |= flags

    async def expunge(self, uids: Sequence[int]) -> list[int]:
        if self.expunge_error:
            raise self.expunge_error
        self.calls.append(("expunge", list(uids)))
        return [uid for uid in uids if self.messages.pop(uid, None) is not None]

    async def body(self, uid: int, offset: int = 0, length: int | None = None) -> bytes:
        if uid not in self.messages:
            raise Expunged
        return self.messages[uid]

    async def bodies(self, wanted: Sequence[tuple[int, int, int | None]]) -> list[bytes | None]:
        self.reads.append([uid for uid, _, _ in wanted])
        return [self.messages.get(uid) for uid, _, _ in wanted]

    async def stored(self, uid: int) -> Stored:
        if uid not in self.messages:
            raise Expunged
        path = self.folder / str(uid)
        path.write_bytes(b"before" + self.messages[uid])
        if self.renames:
            self.renames -= 1
            path = path.with_name("renamed")
        return Stored(path, 6, len(self.messages[uid]))

    def close(self) -> None:
        self.opened -= 1


class FakeStore:
    def __init__(self) -> None:
        self.boxes: dict[int, FakeMailbox] = {}
        self.error: Exception | None = None

    async def open(self, user_id: int, name: str) -> FakeMailbox:
        assert name == "INBOX"
        if self.error:
            raise self.error
        box = self.boxes[user_id]
        box.opened += 1
        return box


class FakeWork:
    async def files(self, function: Any, *args: Any) -> Any:
        return function(*args)


MESSAGES = [
    b"Subject: one\r\n\r\n.first\r\n",
    b"Subject: two\r\n\r\nsecond\r\nline\r\n",
    b"Subject: three\r\n\r\n\r\n",
]


class AccessCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = FakeStore()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.fill(ALICE, MESSAGES)
        self.fill(BOB, [])
        self.directory = FakeDirectory()
        self.config = Pop3Config(max_auth_failures=3, auth_failure_seconds=2.0)
        self.access = self.make_access()

    def make_access(self, **settings: Any) -> Pop3Access:
        networks = settings.pop("plaintext_networks", (ipaddress.ip_network("192.168.1.0/24"),))
        sign_in = sign_in_with(self.directory, self.clock, networks)
        work: Any = FakeWork()
        store: Any = self.store
        return Pop3Access(
            store, sign_in, self.config, clock=self.clock, work=work, hostname="pop.a.test", **settings
        )

    def fill(self, user: int, messages: Sequence[bytes]) -> None:
        self.store.boxes[user] = FakeMailbox(messages, self.folder)

    def connect(self, secure: bool = False) -> tuple[Conversation, StringTransport]:
        conversation = Conversation(pop3.Server(), self.access, self.clock, secure=secure)
        transport = StringTransport()
        conversation.makeConnection(transport)
        self.addCleanup(self.hang_up, conversation)
        return conversation, transport

    def hang_up(self, conversation: Conversation) -> None:
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        if conversation._connected:
            conversation.connectionLost(Failure(ConnectionDone()))

    def say(self, peer: tuple[Conversation, StringTransport], data: bytes, piece: int = 1 << 30) -> bytes:
        """Send, let time pass as it must, and return what came."""
        conversation, transport = peer
        transport.clear()
        for at in range(0, len(data), piece):
            conversation.dataReceived(data[at : at + piece])
        return transport.value()

    def converse(self, script: str, secure: bool = False) -> None:
        """Run a transcript of C: and S: lines, whole and again octet by octet."""
        for piece in (1 << 30, 1):
            self.setUp()
            peer = self.connect(secure)
            sent = expected = b""
            got = peer[1].value()
            for line in textwrap.dedent(script).strip().splitlines():
                text = line[3:].encode() + b"\r\n"
                if line.startswith("C:"):
                    if expected:
                        self.assertEqual(got.decode(), expected.decode())
                        got = expected = b""
                    got += self.say(peer, text, piece)
                    sent += text
                else:
                    expected += text
            self.assertEqual(got.decode(), expected.decode())
            self.hang_up(peer[0])

    def login(
        self, user: str = "alice@a.test", password: str = "secret pass"
    ) -> tuple[Conversation, StringTransport]:
        peer = self.connect()
        answer = self.say(peer, f"USER {user}\r\nPASS {password}\r\n".encode())
        self.assertIn(b"+OK", answer)
        self.assertNotIn(b"-ERR", answer)
        return peer

    @property
    def inbox(self) -> FakeMailbox:
        return self.store.boxes[ALICE]
