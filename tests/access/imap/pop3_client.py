"""A POP3 client at the same store, for tests of what IMAP sessions then see."""

from __future__ import annotations

import re
from typing import Any

from mailstack.access.pop3 import Pop3Access
from mailstack.access.settings import Pop3Config
from mailstack.net.conversation import Conversation
from mailstack.wire import pop3
from tests.access.imap.harness import LOOPBACK, People, Wire, World
from tests.net.sign_ins import sign_in_with


class Pop3Client:
    """Alice, signed in."""

    def __init__(self, world: World) -> None:
        sign_in = sign_in_with(People(world.people), world.clock, LOOPBACK)
        work: Any = world.work
        access = Pop3Access(world.store, sign_in, Pop3Config(), clock=world.clock, work=work)
        self._world = world
        self._wire = Wire()
        self._conversation = Conversation(pop3.Server(), access, world.clock)
        self._conversation.makeConnection(self._wire)
        self._ask("USER alice@example.test")
        assert self._ask("PASS secret").startswith(b"+OK")

    def _ask(self, command: str) -> bytes:
        self._wire.clear()
        self._conversation.dataReceived(command.encode() + b"\r\n")
        self._world.settle()
        said: bytes = self._wire.value()
        return said

    def unique_ids(self) -> list[str]:
        """What UIDL says, in order."""
        return [line.split()[1].decode() for line in self._ask("UIDL").split(b"\r\n")[1:-2]]

    def retrieve(self, number: int) -> None:
        """RETR."""
        assert self._ask(f"RETR {number}").startswith(b"+OK")

    def octets(self, number: int) -> bytes:
        """What RETR brings, its dots unstuffed."""
        said = self._ask(f"RETR {number}")
        begin, end = said.index(b"\r\n") + 2, len(said) - 3
        assert said.startswith(b"+OK")
        assert said[end:] == b".\r\n"
        return re.sub(rb"(?<=\r\n)\.", b"", b"\r\n" + said[begin:end])[2:]

    def delete_and_quit(self, numbers: list[int]) -> None:
        """DELE of each, then QUIT, which removes them."""
        for number in numbers:
            assert self._ask(f"DELE {number}").startswith(b"+OK")
        assert self._ask("QUIT").startswith(b"+OK")
