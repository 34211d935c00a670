"""Each capability that we advertise has a conversation here, run whole and one octet at a time; the docs name each.

Many have more of their own in the other files: this is the proof that none is missing.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailstack.access.imap.login import AFTER_LOGIN, BEFORE_LOGIN
from mailstack.mail.message import Message
from mailstack.store.values import New
from tests.access.imap.conversations import TRANSCRIPTS
from tests.access.imap.harness import Client, World, converse

ELSEWHERE = {
    "COMPRESS=DEFLATE": "test_compression, below",
    "INPROGRESS": "test_progress.py: it takes time",
    "SASL-IR": "test_before_login, below",
}
PAGE = Path(__file__).parents[3] / "docs" / "imap-extensions.md"


@pytest.fixture
def world() -> Iterator[World]:
    world = World(quota=(1 << 20, 100))
    yield world
    world.close()


def selected(world: World, name: str) -> Client:
    """alice or bob, with three messages in INBOX, which is selected."""
    for number in (1, 2, 3):
        more = "References: <1@x>\r\n" if number == 2 else ""
        text = (
            f'From: "Zoe {4 - number}" <z{number}@example.test>\r\nTo: alice@example.test\r\n'
            f"Subject: letter {number}\r\nMessage-ID: <{number}@x>\r\n{more}"
            f"Date: Sun, 22 Nov 2026 10:0{number}:00 +0000\r\n\r\nbody {number}\r\n"
        )
        new = New(Message.of(text.encode()))
        world.run(world.store.append(world.people[f"{name}@example.test"].id, "INBOX", [new]))
    client = world.connect().login(name)
    assert b"\r\ns OK" in client.ask("s SELECT INBOX")
    return client


@pytest.fixture
def client(world: World) -> Client:
    return selected(world, "alice")


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(client: Client, world: World, name: str) -> None:
    """Whole, and by bob one octet at a time, who and alice change places."""
    converse(client, TRANSCRIPTS[name])
    swapped = re.sub("alice|bob", lambda found: "bob" if found[0] == "alice" else "alice", TRANSCRIPTS[name])
    converse(selected(world, "bob"), swapped, one_by_one=True)


def test_none_is_missing(client: Client) -> None:
    """What is advertised before and after the login, in clear and in TLS, has its transcript and its row."""
    world = client.world
    offers = client.ask("c CAPABILITY").split()[2:-4]
    for options in ({"secure": True}, {"plaintext": False}, {"secure": True, "plaintext": False}):
        offers += re.search(rb"CAPABILITY ([^]]*)", world.connect(**options).heard())[1].split()  # type: ignore[index]
    names = {name.decode() for name in offers}
    assert {*BEFORE_LOGIN, *AFTER_LOGIN} <= names
    plain = {
        name.partition("=")[0] if "LIMIT=" in name else name for name in names if not name.startswith("AUTH=")
    }
    assert plain - set(TRANSCRIPTS) - set(ELSEWHERE) == {"LOGINDISABLED", "STARTTLS"}, (
        "test_starttls has these"
    )
    assert set(TRANSCRIPTS) | set(ELSEWHERE) <= plain, "a transcript of what is not advertised"
    page = PAGE.read_text()
    assert {name for name in plain if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_compression(client: Client, step: int) -> None:
    """COMPRESS=DEFLATE (RFC 4978): all that follows the tagged OK is deflated, both ways."""
    assert client.ask("a COMPRESS DEFLATE").startswith(b"a OK")
    deflate, inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
    data = deflate.compress(b"b FETCH 2 (UID)\r\nc NOOP\r\n") + deflate.flush(zlib.Z_SYNC_FLUSH)
    for start in range(0, len(data), step):
        client.send(data[start : start + step])
    assert inflate.decompress(client.heard()) == (
        b"* 2 FETCH (UID 2)\r\nb OK FETCH completed\r\nc OK NOOP completed\r\n"
    )


def test_before_login(world: World, talk: Callable[[Client, str], None]) -> None:
    """SASL-IR (RFC 4959)."""
    client = world.connect(secure=True)
    client.heard()
    talk(
        client,
        """
        C: a AUTHENTICATE PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=
        S: a OK [CAPABILITY IMAP4rev1 ...] Logged in
        """,
    )


def test_starttls(world: World, talk: Callable[[Client, str], None]) -> None:
    """Nobody logs in before it (RFC 3501 section 6.2.1, RFC 8314), and nothing that follows it is heard."""
    client = world.connect(plaintext=False)
    assert b" STARTTLS LOGINDISABLED]" in client.heard()
    talk(
        client,
        """
        C: a LOGIN alice@example.test secret
        S: a NO [PRIVACYREQUIRED] ...
        C: b STARTTLS
        S: b OK ...
        """,
    )
    assert client.wire.tls
