"""Two server processes and the operator's commands on one database: what one does the other's clients see at once.

The looks at the mailboxes every few seconds are switched off, so that nothing but the announcements can bring it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.running import PATIENCE, RunningStack, eventually, running

SETTINGS = ["store.poll=86400.0", 'auth.plaintext_networks=["127.0.0.0/8"]']


class Line:
    """One IMAP connection, read line by line."""

    def __init__(self, stack: RunningStack, user: str = "alice") -> None:
        self.socket = socket.create_connection(("127.0.0.1", stack.ports["imap"]), PATIENCE)
        self.file = self.socket.makefile("rb")
        self.until("* OK")
        assert "OK" in self.ask(f"l LOGIN {stack.address(user)} {user}-secret")[-1]

    def say(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\r\n")

    def until(self, start: str) -> list[str]:
        """The lines up to one that begins so."""
        lines: list[str] = []
        while not lines or not lines[-1].startswith(start):
            line = self.file.readline().decode()
            assert line, f"closed after {lines}"
            lines.append(line.rstrip("\r\n"))
        return lines

    def ask(self, line: str) -> list[str]:
        """All that is said up to the end of a command."""
        self.say(line)
        return self.until(line.split()[0] + " ")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningStack, RunningStack]]:
    """The same folder, other ports."""
    with running(tmp_path_factory.mktemp("two") / "data", settings=SETTINGS) as first:
        second = first.beside().start()
        try:
            yield first, second
        finally:
            second.stop()


def test_arrivals_flags_and_expunges(servers: tuple[RunningStack, RunningStack]) -> None:
    first, second = servers
    here, there = Line(first), Line(second)
    here.ask("s SELECT INBOX")
    here.say("i IDLE")
    here.until("+")
    assert "OK" in there.ask("a APPEND INBOX {4+}\r\nabcd")[-1]
    assert here.until("* 1 EXISTS")
    there.ask("s SELECT INBOX")
    there.ask(r"b STORE 1 +FLAGS (\Flagged \Deleted)")
    assert r"\Flagged" in here.until("* 1 FETCH")[-1]
    there.ask("c EXPUNGE")
    assert here.until("* 1 EXPUNGE")
    here.close()
    there.close()


def test_notify_and_the_operator(servers: tuple[RunningStack, RunningStack]) -> None:
    first, second = servers
    here, there = Line(first), Line(second)
    here.ask("a NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))")
    assert "OK" in there.ask("a APPEND Sent {4+}\r\nabcd")[-1]
    assert here.until("* STATUS")[-1] == "* STATUS Sent (UIDNEXT 2 MESSAGES 1)"
    first.configured("mailbox", "add", first.address("alice"), "Projects")
    assert here.until("* LIST")[-1].endswith('"/" Projects')
    there.ask("b APPEND Projects {4+}\r\nabcd")
    assert here.until("* STATUS Projects")
    here.close()
    there.close()


def test_rights_taken_by_the_other(servers: tuple[RunningStack, RunningStack]) -> None:
    first, second = servers
    alice, bob = Line(second), Line(first, "bob")
    alice.ask(f"a SETACL INBOX {first.address('bob')} lr")
    bob.ask(f's SELECT "Other Users/{first.address("alice")}/INBOX"')
    bob.say("i IDLE")
    bob.until("+")
    alice.ask(f"b DELETEACL INBOX {first.address('bob')}")
    assert "[NOPERM]" in bob.until("* NO")[-1]
    alice.close()
    bob.close()


def test_a_server_that_comes_back_listens_again(servers: tuple[RunningStack, RunningStack]) -> None:
    first, second = servers
    second.kill()
    second.start()
    here, there = Line(first), Line(second)
    there.ask("s SELECT Junk")
    there.say("i IDLE")
    there.until("+")
    here.ask("a APPEND Junk {4+}\r\nabcd")
    assert there.until("* 1 EXISTS")
    [pipes] = first.directory.rglob("*.db.peers")
    eventually(lambda: len(list(pipes.iterdir())) == 2)  # that of the one that was killed is gone
    here.close()
    there.close()
