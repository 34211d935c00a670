"""What follows STARTTLS and STLS in the same packet was said in clear by whoever stands between: it is forgotten."""

from __future__ import annotations

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


@pytest.mark.parametrize("cut", [0, 1], ids=["together", "cut"])
def test_imap(world: World, cut: int) -> None:
    """In one packet, or cut in the middle of the line end of STARTTLS."""
    for injected in IN_IMAP:
        client = world.connect(plaintext=False)
        client.heard()
        data = b"a STARTTLS\r\n" + injected
        client.send(data[: 11 * cut])
        client.send(data[11 * cut :])
        assert client.heard() == b"a OK Begin TLS\r\n", injected
        assert client.wire.tls
        assert client.ask("x NOOP") == b"x OK NOOP completed\r\n", injected
        assert client.ask("y SELECT INBOX").startswith(b"y BAD not allowed in the not authenticated state")
        assert client.ask("z LOGIN alice@example.test secret").startswith(b"z OK [CAPABILITY ")


@pytest.mark.parametrize("cut", [0, 1], ids=["together", "cut"])
def test_pop3(world: World, cut: int) -> None:
    world.append(b"Subject: stays\r\n\r\n")
    for injected in IN_POP3:
        client = Popper(world)
        data = b"STLS\r\n" + injected
        client.ask(data[: 5 * cut])
        assert client.ask(data[5 * cut :]) == b"+OK Begin TLS\r\n", injected
        assert client.wire.tls
        assert client.ask(b"STAT\r\n").startswith(b"-ERR"), injected
        assert client.ask(b"PASS secret\r\n").startswith(b"-ERR"), "a name of before would be forgotten"
        assert client.ask(b"USER alice@example.test\r\n").startswith(b"+OK")
        assert client.ask(b"PASS secret\r\n").startswith(b"+OK 1 messages")
        assert client.ask(b"QUIT\r\n").startswith(b"+OK")
