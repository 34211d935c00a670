"""What follows STARTTLS and STLS in the same packet was said in clear by whoever stands between: it is forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from mailstack.access.pop3 import Pop3Access
from mailstack.access.settings import Pop3Config
from mailstack.net.conversation import Conversation
from mailstack.wire import pop3
from tests.access.imap.harness import People, Wire, World
from tests.net.sign_ins import sign_in_with

PLAIN = b"AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ="  # alice's
TAILS = (b"", b"x", b"\r", b"\r\n", b"\n", b"\0", b"x" * 70_000)  # and lines that are not whole


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


IN_IMAP = [
    b"b NOOP\r\n", b"b STARTTLS\r\n", b"b LOGOUT\r\n", b"b CAPABILITY\r\nc ", b"b LOGIN {18+}\r\nalice@example.test",
    b"b LOGIN alice@example.test secret\r\n", b"b AUTHENTICATE PLAIN " + PLAIN + b"\r\n", b"b AUTHENTICATE PLAIN\r\n",
    b"b LOGIN {18}\r\n", b"b APPEND INBOX {1000+}\r\nnever whole", b"+" * 9_000, *TAILS,
]  # fmt: skip
IN_POP3 = [
    b"CAPA\r\n", b"NOOP\r\n", b"QUIT\r\n", b"STLS\r\n", b"USER alice@example.test\r\n", b"PASS secret\r\n",
    b"USER alice@example.test\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n", b"AUTH PLAIN " + PLAIN + b"\r\n", b"AUTH PLAIN\r\n",
    *TAILS,
]  # fmt: skip


class Popper:
    """A client of POP3, whose connection is in clear at first."""

    def __init__(self, world: World) -> None:
        sign_in = sign_in_with(People(world.people), world.clock, ())
        access = Pop3Access(world.store, sign_in, Pop3Config(), clock=world.clock, work=world.work)
        self.world, self.wire = world, Wire()
        self._conversation = Conversation(pop3.Server(), access, world.clock)
        self._conversation.makeConnection(self.wire)

    def ask(self, data: bytes) -> bytes:
        self.wire.clear()
        self._conversation.dataReceived(data)
        self.world.settle()
        said: bytes = self.wire.value()
        return said


def test_imap(world: World) -> None:
    """In one packet, or cut anywhere in the line of STARTTLS."""
    line = b"a STARTTLS\r\n"
    for injected, cut in itertools.product(IN_IMAP, range(len(line))):
        client = world.connect(plaintext=False)
        client.heard()
        client.send(line[:cut])
        client.send(line[cut:] + injected)
        assert client.heard() == b"a OK Begin TLS\r\n", (injected, cut)
        assert client.wire.tls
        assert client.ask("x NOOP") == b"x OK NOOP completed\r\n", (injected, cut)
        assert client.ask("y SELECT INBOX").startswith(b"y BAD not allowed in the not authenticated state")
        assert client.ask("z LOGIN alice@example.test secret").startswith(b"z OK [CAPABILITY ")


def test_pop3(world: World) -> None:
    line = b"STLS\r\n"
    world.append(b"Subject: stays\r\n\r\n")
    for injected, cut in itertools.product(IN_POP3, range(len(line))):
        client = Popper(world)
        client.ask(line[:cut])
        assert client.ask(line[cut:] + injected) == b"+OK Begin TLS\r\n", (injected, cut)
        assert client.wire.tls
        assert client.ask(b"STAT\r\n").startswith(b"-ERR"), injected
        assert client.ask(b"PASS secret\r\n").startswith(b"-ERR"), "a name of before would be forgotten"
        assert client.ask(b"USER alice@example.test\r\n").startswith(b"+OK")
        assert client.ask(b"PASS secret\r\n").startswith(b"+OK 1 messages")
        assert client.ask(b"QUIT\r\n").startswith(b"+OK")
