"""What was given to us comes back octet by octet: each way in, each way out, and after everything in between.

What a protocol forbids is refused by it, and what it changes is said here and in docs/6-inbox.md, no more: SMTP and
LMTP put their fields in front, take no NUL, bare CR or bare LF but in BINARYMIME, and end DATA with CRLF; a file
that another program wrote with bare LF is taken for Unix text, whose lines end with CRLF; POP3 sends lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mailstack.mda.delivery import Delivery
from mailstack.mta.lmtp import Lmtp
from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import LmtpConfig, RelayConfig
from mailstack.net.conversation import Conversation
from mailstack.net.transaction import Reception
from mailstack.store import undelete
from mailstack.store.mailboxes import home_of
from mailstack.store.rebuild import rebuild_user
from mailstack.wire.smtp import Server
from tests.access.imap.harness import Client, World
from tests.access.imap.pop3_client import Pop3Client
from tests.access.imap.replies import read
from tests.net.fakes import Here, Town, Upgradable, reception

EXAMPLES = int(os.environ.get("MAILSTACK_MODEL_EXAMPLES", "1"))
HEAD = b"From: a@b.example\r\nSubject: x\r\n\r\n"
FIELDS = re.compile(
    rb"Return-Path: <x@b\.example>\r\nDelivered-To: [^\r]+\r\nReceived: from [^\r]+(\r\n\t[^\r]+)+\r\n"
)
TOKENS = (
    b"\0", b"\r", b"\n", b"\r\n", b"\r\n", b".", b"\r\n.\r\n", b"\r\n..", b"\xff", "ü".encode(), b"\t", b"\x1a",
    b"some text", b"From ", b"=", b"=00=0D", b"--b\r\n", b"{3}\r\n", b"line\r\n" * 700, b"\x80\0\r\n" * 9000,
)  # fmt: skip
bodies = st.builds(
    lambda head, tokens: head + b"".join(tokens),
    st.sampled_from((HEAD, HEAD, HEAD, b"", b"\r\n", b"Subject: no end", HEAD[:-2])),
    st.lists(st.sampled_from(TOKENS), max_size=6),
)

CORNERS = [
    b"",
    b"\n",
    HEAD + b"no final line end",
    HEAD + b"8 bits \xff\x80 \r\n.\r\n..\r\n",
    HEAD + b"bare \r CR, bare \n LF, NUL \0\r\n",
    b"\0",
    b"\r",
    HEAD + b".",
    HEAD + b"long line " * 20_000 + b"\r\n",
    HEAD + bytes(range(256)) * 700,
    b"\r\n",
    HEAD[:-2],
    HEAD + b"ends in CR\r",
    HEAD + "ü\r\n".encode() * 50_000 + b"x",
    HEAD,
]


class Scene:
    """Alice's mail, and all ways to it."""

    def __init__(self, compression: str) -> None:
        self.world = World(compression=compression, keep_expunged=7, index=False)
        self.given: dict[int, tuple[str, bytes]] = {}  # by UID in INBOX: the way in, and what must come back
        self.client = self.world.connect().login()

    def next_uid(self) -> int:
        said = self.client.ask("u STATUS INBOX (UIDNEXT)")
        return int(said.split(b"(UIDNEXT ")[1].split(b")")[0])

    @contextmanager
    def coming(self, way: str, data: bytes, taken: bool = True) -> Iterator[None]:
        uid = self.next_uid()
        yield
        assert self.next_uid() == uid + taken, f"{way}: {data[:60]!r}"
        if taken:
            self.given[uid] = (way, data)

    # Ways in

    def by_append(self, data: bytes) -> None:
        with self.coming("append", data, bool(data)):
            said = self.client.ask(b"a APPEND INBOX {%d+}\r\n%b" % (len(data), data))
            assert said.startswith(b"a OK" if data else b"a NO [CANNOT]")

    def by_literal8(self, data: bytes) -> None:
        """RFC 3516 section 4.4: no NULs without a transfer encoding, which would have to be changed."""
        with self.coming("literal8", data, bool(data) and b"\0" not in data):
            self.client.ask(b"a APPEND INBOX ~{%d+}\r\n%b" % (len(data), data))

    def by_catenate(self, data: bytes) -> None:
        half = len(data) // 2
        parts = b" ".join(b"TEXT {%d+}\r\n%b" % (len(part), part) for part in (data[:half], data[half:]))
        with self.coming("catenate", data, bool(data)):
            self.client.ask(b"a APPEND INBOX CATENATE (%b)" % parts)

    def by_delivery(self, data: bytes) -> None:
        with self.coming("delivery", data):
            self.world.deliver(data)

    def by_file(self, data: bytes) -> None:
        """Another program's file; with no CR at all, or one LF alone, it is Unix text."""
        with self.coming("file", re.sub(rb"(?<!\r)\n", b"\r\n", data)):
            live = self.world.run(self.world.store.open(1, "INBOX"))
            (live.directory / "new" / f"{len(self.given)}.a.host").write_bytes(data)
            live.close()
            self.world.run(self.world.store.open(1, "INBOX")).close()

    def smtp(self, made: Reception, clock: Clock, lmtp: bool) -> Any:
        work: Any = self.world.work
        delivery = Delivery(Town(), self.world.store, work)
        delivery.deliver = delivery.accept  # type: ignore[attr-defined]
        kind, config = (Lmtp, LmtpConfig()) if lmtp else (Relay, RelayConfig())
        service: Any = kind(
            config, hostname="mx.example.org", directory=Town(), accepts=delivery, reception=made
        )
        transport = Upgradable()
        conversation = Conversation(Server(lmtp=lmtp), service, clock, origin=("127.0.0.1", 4000))
        conversation.makeConnection(transport)

        def say(data: bytes) -> bytes:
            transport.clear()
            conversation.dataReceived(data)
            self.world.settle()
            said: bytes = transport.value()
            return said

        say(b"LHLO pc\r\n" if lmtp else b"EHLO pc\r\n")
        return say

    def by_smtp(self, say: Any, way: str, data: bytes, content: bytes, body: str, taken: bool) -> None:
        assert b"503" not in say(
            b"MAIL FROM:<x@b.example> BODY=%b\r\nRCPT TO:<alice@example.org>\r\n" % body.encode()
        )
        with self.coming(way, data, taken):
            said = say(content)
            assert (b"250 2." in said.splitlines()[-1]) == taken, f"{way}: {said!r} to {data[:60]!r}"
        say(b"RSET\r\n")

    # Ways out

    def bodies_of(self, mailbox: str) -> dict[int, bytes]:
        return {uid: each["BODY[]"] for uid, each in self.fetch(mailbox, "BODY.PEEK[]").items()}

    def fetch(self, mailbox: str, items: str) -> dict[int, dict[str, bytes]]:
        client = self.world.connect().login()
        client.ask(f"s EXAMINE {mailbox}")
        found = {}
        for said in read(client.ask(f"f UID FETCH 1:* (UID {items})"))[:-1]:
            words = said.words[2]
            each = dict(zip(words[::2], words[1::2], strict=True))
            found[int(each.pop("UID"))] = each
        client.lose()
        return found


def is_text(data: bytes) -> bool:
    """Whether SMTP takes it: lines that end with CRLF."""
    return not re.search(rb"\0|\r(?!\n)|(?<!\r)\n", data)


def is_binary(data: bytes) -> bool:
    """Whether SMTP takes it as BINARYMIME: its header section keeps to lines."""
    head, blank, _ = data.partition(b"\r\n\r\n")
    return is_text(head) and bool(blank)


def as_pop3(data: bytes) -> bytes:
    """What POP3 makes of a message: lines, the last one ended too (RFC 1939 section 3)."""
    data = re.sub(rb"(?<!\r)\n", b"\r\n", data)
    return data if data.endswith(b"\r\n") or not data else data + b"\r\n"


def give(scene: Scene, data: bytes, smtp: Any, lmtp: Any) -> None:
    for way in (scene.by_append, scene.by_literal8, scene.by_catenate, scene.by_delivery, scene.by_file):
        way(data)
    if not data.startswith(HEAD):
        return  # to what has no header section SMTP gives one
    ended = data if data.endswith(b"\r\n") else data + b"\r\n"
    stuffed = re.sub(rb"(?m)^\.", b"..", ended) if is_text(data) else ended.replace(b"\r\n.", b"\r\n..")
    for way, say in (("data", smtp), ("lmtp", lmtp)):
        scene.by_smtp(say, way, ended, b"DATA\r\n" + stuffed + b".\r\n", "8BITMIME", is_text(ended))
        half = len(data) // 2
        chunks = b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (half, data[:half], len(data) - half, data[half:])
        scene.by_smtp(say, f"{way} in chunks", data, chunks, "8BITMIME", is_text(data))
        scene.by_smtp(say, f"{way} binary", data, chunks, "BINARYMIME", is_binary(data))


def look(scene: Scene, r: Random) -> None:
    """Every way out of INBOX."""
    whole = scene.bodies_of("INBOX")
    assert set(whole) == set(scene.given)
    for uid, (way, data) in scene.given.items():
        fields = FIELDS.match(whole[uid]) if "data" in way or "lmtp" in way else None
        assert whole[uid][fields.end() if fields else 0 :] == data, f"{way}: {data[:80]!r}"
    for uid, found in scene.fetch(
        "INBOX", "RFC822.SIZE BODY.PEEK[HEADER] BODY.PEEK[TEXT] BINARY.PEEK[]"
    ).items():
        assert found["RFC822.SIZE"] == str(len(whole[uid]))
        assert found["BODY[HEADER]"] + found["BODY[TEXT]"] == whole[uid]
        assert found["BINARY[]"] == whole[uid]
    pieces(scene, whole, r)
    client = Pop3Client(scene.world)
    for number, uid in enumerate(sorted(whole), 1):
        assert client.octets(number) == as_pop3(whole[uid]), f"RETR of {scene.given[uid]}"


def pieces(scene: Scene, whole: dict[int, bytes], r: Random) -> None:
    """Partial fetches, one after the other, make the whole."""
    client = scene.world.connect().login()
    client.ask("s EXAMINE INBOX")
    for uid in r.sample(sorted(whole), min(4, len(whole))):
        item, got = r.choice(("BODY.PEEK[]", "BINARY.PEEK[]")), b""
        size = max(1, len(whole[uid]) // r.randint(1, 5))
        while len(got) < len(whole[uid]):
            said = read(client.ask(f"p UID FETCH {uid} {item}<{len(got)}.{size}>"))[0].words[2]
            piece = next(value for name, value in zip(said[::2], said[1::2], strict=True) if "<" in name)
            assert 0 < len(piece) <= size
            got += piece
        assert got == whole[uid]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not os.environ.get("MAILSTACK_MODEL_EXAMPLES"),
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(
    compression=st.sampled_from(("", "zlib", "zstd")),
    some=st.lists(bodies, min_size=3, max_size=5, unique=True),
    seed=st.integers(0, 99),
)
@example(compression="", some=CORNERS[:5], seed=1)
@example(compression="zlib", some=CORNERS[5:10], seed=2)
@example(compression="zstd", some=CORNERS[10:], seed=3)
def test_octets(
    tmp_path_factory: pytest.TempPathFactory, compression: str, some: list[bytes], seed: int
) -> None:
    scene = Scene(compression)
    made, clock = reception(Here(), tmp_path_factory.mktemp("incoming"))
    smtp, lmtp = scene.smtp(made, clock, False), scene.smtp(made, clock, True)
    try:
        for data in some:
            give(scene, data, smtp, lmtp)
        look(scene, Random(seed))
        travel(scene)
    finally:
        scene.world.close()


def travel(scene: Scene) -> None:
    """COPY, MOVE, expunge and undelete, a lost index: the same octets."""
    world, client = scene.world, Client
    before = list(scene.bodies_of("INBOX").values())
    client = world.connect().login()
    for command in ("SELECT INBOX", "UID COPY 1:* Archive", "UID MOVE 1:* Trash", "SELECT Archive"):
        assert b"a OK" in client.ask(f"a {command}")
    assert list(scene.bodies_of("Archive").values()) == before
    assert list(scene.bodies_of("Trash").values()) == before
    client.ask(r"a UID STORE 1:* +FLAGS.SILENT (\Deleted)")
    assert b"a OK" in client.ask("a CLOSE")
    world.run(world.store.upkeep.catch_up())
    root = world.path / "mail"
    while world.database.write(undelete.put_back, root, 1, "Archive", 0, 1)[1]:
        pass
    world.restart()
    assert list(scene.bodies_of("Archive").values()) == before
    home = world.database.read(home_of, 1)
    world.database.write(lambda db: rebuild_user(root, db, 1, home or ""))
    world.restart()
    assert list(scene.bodies_of("Archive").values()) == before
    assert list(scene.bodies_of("Trash").values()) == before
