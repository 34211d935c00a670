"""What `test_interleaved` and `test_model` have found, each as the shortest conversation that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.access.imap.harness import HELLO, Client, World
from tests.access.imap.turns import Link, Stage

Talk = Callable[[Client, str], None]


class Scene:
    """One server whose threads wait until all has been said; alice and bob."""

    def __init__(self) -> None:
        self.world = World()
        self.stage = Stage(self.world, 1, lambda by: None)
        [self.host] = self.stage.hosts

    def enter(self, user: str, *commands: str) -> Link:
        link = self.host.imap()
        password = {"alice": "secret", "bob": "sesame"}[user]
        self.ask(link, f"LOGIN {user}@example.test {password}")
        for command in commands:
            self.ask(link, command)
        return link

    def say(self, link: Link, command: str) -> None:
        """Send it; nothing is done for it yet but what needs no thread."""
        link.send(f"t {command}\r\n".encode())

    def ask(self, link: Link, command: str) -> str:
        self.say(link, command)
        return self.told(link)

    def told(self, link: Link) -> str:
        """All that it is told once everything is done, in the order in which it was asked for."""
        self.stage.drain()
        return link.heard().decode()

    def close(self) -> None:
        self.stage.close()
        self.world.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def test_rights_that_change_while_a_move_is_under_way(scene: Scene) -> None:
    """It was answered without its EXPUNGE, for the rights were in doubt (RFC 6851 section 4.3)."""
    shared = '"Other Users/alice@example.test/INBOX"'
    alice = scene.enter("alice", "SETACL INBOX bob@example.test lrswipkxte", "CREATE A")
    scene.ask(alice, f"APPEND INBOX {{{len(HELLO)}+}}\r\n{HELLO.decode()}")
    bob = scene.enter("bob", f"SELECT {shared}")
    bob.heard()
    scene.say(alice, "SETACL A bob@example.test lr")
    scene.say(bob, "MOVE 1 INBOX")
    said = scene.told(bob).split("\r\n")
    assert said[0].startswith("* OK [COPYUID ")
    assert said[1:] == ["* 1 EXPUNGE", "t OK MOVE completed", ""]


def test_rights_that_change_twice_while_an_expunge_is_under_way(scene: Scene) -> None:
    """HIGHESTMODSEQ was told, but not what vanished: a client that left then never heard of it."""
    shared = '"Other Users/alice@example.test/INBOX"'
    alice = scene.enter("alice", "SETACL INBOX bob@example.test lrswipkxte", "CREATE A")
    scene.ask(alice, f"APPEND INBOX (\\Deleted) {{{len(HELLO)}+}}\r\n{HELLO.decode()}")
    bob = scene.enter("bob", "ENABLE QRESYNC", f"SELECT {shared}")
    bob.heard()
    scene.say(alice, "SETACL A bob@example.test lr")
    scene.say(bob, "EXPUNGE")
    scene.say(alice, "SETACL A bob@example.test lrs")
    said = scene.told(bob)
    assert said.startswith("* VANISHED 1\r\n")
    assert "\r\nt OK [HIGHESTMODSEQ " in said


def test_a_mailbox_that_is_deleted_while_it_is_selected(scene: Scene) -> None:
    """SELECT was refused, but the session had it all the same: EXPUNGE came where nothing was selected."""
    alice = scene.enter("alice", "ENABLE QRESYNC", "CREATE A")
    validity = scene.ask(alice, "STATUS A (UIDVALIDITY)").split("(UIDVALIDITY ")[1].split(")")[0]
    scene.ask(alice, f"APPEND A {{{len(HELLO)}+}}\r\n{HELLO.decode()}")
    scene.say(alice, f"SELECT A (QRESYNC ({validity} 1))")
    while b"URLMECH" not in alice.wire.value():
        scene.stage.choices()[0]()
    scene.world.run(scene.world.store.delete(1, "A"))
    assert "t NO [NONEXISTENT]" in scene.told(alice)
    assert alice.role._context.current is None
    assert scene.ask(alice, "CHECK").startswith("t BAD")


def test_a_copy_from_a_mailbox_that_is_just_deleted(scene: Scene) -> None:
    """It was answered with TRYCREATE: but it is not the target that is gone."""
    alice = scene.enter("alice")
    for verb in ("COPY", "MOVE"):
        scene.ask(alice, "CREATE A")
        scene.ask(alice, f"APPEND A {{{len(HELLO)}+}}\r\n{HELLO.decode()}")
        other = scene.enter("alice", "SELECT A")
        other.heard()
        scene.say(alice, "DELETE A")
        scene.say(other, f"{verb} 1 INBOX")
        assert scene.told(other).startswith("t NO [EXPUNGEISSUED]")
        assert scene.ask(other, "SEARCH ALL").startswith("* BYE")


def test_what_came_and_went_untold_holds_nothing_back(world: World, talk: Talk) -> None:
    """No number is in the way of EXISTS, so SEARCH may say it."""
    one, two = world.connect().select(), world.connect().select()
    world.append(HELLO)
    two.ask("n NOOP")
    two.ask(r"a STORE 1 +FLAGS (\Deleted)")
    two.ask("b EXPUNGE")
    world.append(HELLO)
    talk(one, """
        C: c SEARCH ALL
        S: * SEARCH
        S: * 1 EXISTS
        S: * 1 RECENT
        S: c OK SEARCH completed
    """)  # fmt: skip
