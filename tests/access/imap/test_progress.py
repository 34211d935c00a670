"""INPROGRESS (RFC 9585): long commands say that they go on, and nothing is said once they end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailstack.store.headings import Headings
from mailstack.store.mailbox import Mailbox
from tests.access.imap.harness import HELLO, World

STILL = b'* OK [INPROGRESS ("a" NIL NIL)] Still at it\r\n'


class Gate:
    """A method of the store that waits until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.open: Deferred[None] = Deferred()
        owner = Headings if name == "read" else Mailbox
        original = getattr(owner, name)
        gate = self.open

        async def waiting(self: Any, *args: Any, **options: Any) -> Any:
            await gate
            return await original(self, *args, **options)

        monkeypatch.setattr(owner, name, waiting)


@pytest.mark.parametrize(
    ("method", "command"),
    [
        ("copy", "COPY 1 Trash"), ("move", "UID MOVE 1 Trash"), ("store_flags", r"STORE 1 +FLAGS (\Deleted)"),
        ("expunge", "EXPUNGE"), ("expunge", "CLOSE"), ("facts", "SORT (FROM) UTF-8 ALL"),
        ("read", "THREAD REFS UTF-8 ALL"), ("facts", "ESEARCH IN (selected) SUBJECT hello"),
    ],
)  # fmt: skip
def test_long_commands(world: World, monkeypatch: pytest.MonkeyPatch, method: str, command: str) -> None:
    world.append(HELLO, flags=(r"\Deleted",))
    client = world.connect().select()
    gate = Gate(monkeypatch, method)
    assert client.ask(f"a {command}") == b""
    world.clock.advance(4.0)
    assert client.heard() == b""
    world.clock.advance(1.5)
    assert client.heard() == STILL
    world.clock.advance(5.0)
    world.clock.advance(5.0)
    assert client.heard() == STILL * 2
    gate.open.callback(None)
    world.settle()
    assert b"\r\na OK" in b"\r\n" + client.heard()
    world.clock.advance(60.0)
    assert client.heard() == b""


def test_what_says_how_far_it_is_is_not_doubled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailstack.access.imap.search.FIELDS_SLICE", 5)
    for _ in range(7):
        world.append(HELLO)
    client = world.connect().select()
    gate = Gate(monkeypatch, "facts")
    client.ask("a SEARCH SUBJECT hello")
    world.clock.advance(5.0)
    assert client.heard() == STILL
    world.clock.advance(4.0)
    gate.open.callback(None)
    world.settle()
    assert client.heard() == b"* SEARCH 1 2 3 4 5 6 7\r\na OK SEARCH completed\r\n"


def test_a_client_that_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.append(HELLO)
    client = world.connect().select()
    gate = Gate(monkeypatch, "copy")
    client.ask("a COPY 1 Trash")
    client.lose()
    world.clock.advance(20.0)
    gate.open.callback(None)
    world.settle()
    assert world.run(world.store.status(world.alice.id, "Trash")).messages == 1
