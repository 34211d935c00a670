"""Every known way to have a stranger's mail passed on, tried on a running server: what leaves it is looked at."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.catch import Catch
from tests.mta.test_bad_input import RECIPIENTS
from tests.running import PATIENCE, RunningStack, eventually, free_ports

# As a stranger, a bounce, one of ours, ourselves, an address literal, and in clothes of ours.
SENDERS = (
    "s@stranger.test", "", "alice@example.test", "postmaster@mail.example.test", "spam@[127.0.0.1]",
    "spam@localhost", '"alice@example.test"@stranger.test', "team@example.test",
)  # fmt: skip
LOOKALIKES = (
    "x\uff20elsewhere.test",
    "x\uff05elsewhere.test",
    "elsewhere.test\uff01x",
    "x\ufe6aelsewhere.test",
)
# Of the domains here one has a user for each address, who takes what looks like a way out.
CAUGHT = (
    "x%elsewhere.test", "elsewhere.test!x", '"x@elsewhere.test"', '"x%elsewhere.test"', "x=elsewhere.test", "x#elsewhere.test",
    '"x\\@elsewhere.test"', "x%elsewhere.test%elsewhere.test", "|id", '"| id"', "/tmp/x", '"/tmp/x"', '":include:/etc/passwd"', "~x",
)  # fmt: skip
DETAILS = (
    "x%elsewhere.test",
    "elsewhere.test!x",
    "INBOX/x",
    "|id",
    "/etc/passwd",
    "SRS0=aaaaaa=aa=elsewhere.test=x",
)
QUOTED = ("x@elsewhere.test", "../../alice", "INBOX/../x", "x\\@elsewhere.test", " ")
FORGED = (
    "SRS0=AAAAAA=AA=elsewhere.test=x", "SRS0+AAAAAA=AA=elsewhere.test=x", "SRS0-AAAAAA=AA=elsewhere.test=x", "SRS0==AA=elsewhere.test=x",
    "SRS1=AAAAAA=elsewhere.test==AAAAAA=AA=elsewhere.test=x", "srs2=00000000000000000000", "srs0=======x", "SRS0=AAAAAA=AA=elsewhere.test=x%y",
    "SRS0", "SRS0=", "SRS1=AAAAAA=elsewhere.test=", "prvs=0000abcdef=x", "btv1==000==x",
)  # fmt: skip


class Site:
    """example.test, with an alias that leads away, and catch.test, where every address is alice's."""

    def __init__(self, folder: Path) -> None:
        self.lmtp, onward = free_ports(2)
        self.catch = Catch(onward)
        settings = (
            f'mta.routes={{"*"="smtp://127.0.0.1:{onward}"}}',
            f"listeners.lmtp={self.lmtp}",
            "mda.detail_mailbox=true",
            "relay.max_refused_recipients=1000000",
        )
        self.ours = RunningStack(folder / "ours", settings=settings)
        self.ours.configured("domain", "add", "catch.test")
        self.ours.configured("alias", "add", "@catch.test", "alice@example.test")
        self.ours.configured("alias", "add", "team@example.test", "out@away.test")
        self.ours.start()

    def talk(self, port: int, lines: Sequence[str], content: bytes = b"") -> list[str]:
        """The replies to these commands, sent at once; each BDAT is followed by the content."""
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            said = b"".join(
                line.encode() + b"\r\n" + (content if line.startswith("BDAT") else b"") for line in lines
            )
            client.sendall(said + b"QUIT\r\n")
            heard = b""
            while piece := client.recv(65536):
                heard += piece
        return [line for line in heard.decode().splitlines() if line[3:4] != "-"][1:-1]

    def taken(self, port: int, sender: str, paths: Sequence[str]) -> list[str]:
        """Which of these recipients are taken, four in a connection: the sixth would wait; each gets a message."""
        hello = "LHLO x" if port == self.lmtp else "EHLO x"
        found = []
        for start in range(0, len(paths), 4):
            some = paths[start : start + 4]
            for utf8 in {not one.isascii() for one in some}:
                named = [one for one in some if one.isascii() is not utf8]
                mail = f"MAIL FROM:<{sender}>{' SMTPUTF8' if utf8 else ''}"
                lines = [hello, mail, *(f"RCPT TO:<{one}>" for one in named)]
                replies = self.talk(port, lines)
                assert len(replies) == len(lines), (lines, replies)
                assert replies[1].startswith("250"), (sender, replies)
                found += [one for one, reply in zip(named, replies[2:], strict=True) if reply[:3] == "250"]
        for number, one in enumerate(found):
            self._send(port, hello, sender, one, chunked=bool(number % 2))
        return found

    def _send(self, port: int, hello: str, sender: str, path: str, chunked: bool) -> None:
        content = b"From: x@stranger.test\r\nSubject: spam\r\n\r\nspam\r\n"
        words = f"MAIL FROM:<{sender}>" + ("" if path.isascii() else " SMTPUTF8")
        lines = [hello, words, f"RCPT TO:<{path}>"]
        if chunked:
            replies = self.talk(port, [*lines, f"BDAT {len(content)} LAST"], content)
        else:
            replies = self.talk(port, [*lines, "DATA", content.decode() + "."])
        assert replies[-1].startswith("250 2."), (path, replies)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("relay"))
    try:
        yield made
    finally:
        made.ours.stop()
        made.catch.close()


def spellings() -> list[str]:
    """All recipients that are to be refused."""
    table = [
        path.replace("example.org", "example.test").replace("elsewhere.example", "elsewhere.test")
        for path, _ in RECIPIENTS
    ]
    here = [
        f"{one}@{domain}"
        for one in (*FORGED, *CAUGHT, *LOOKALIKES)
        for domain in ("example.test", "mail.example.test", "[127.0.0.1]")
    ]
    here += [
        f"x@elsewhere.test@{domain}" for domain in ("example.test", "mail.example.test", "[127.0.0.1]")
    ]  # nmap's
    routes = [
        f"@{domain}:x@elsewhere.test"
        for domain in ("example.test", "catch.test", "mail.example.test", "[127.0.0.1]")
    ]
    own = [f"{one}@catch.test" for one in FORGED if one.upper().startswith("SRS") and "=" in one]
    known = {"bob@example.test", "BOB@EXAMPLE.TEST"}
    return [one for one in [*table, *here, *routes, *own] if one not in known and '"\\' not in one]


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
def test_no_spelling_leads_out(site: Site, door: str) -> None:
    port = site.lmtp if door == "lmtp" else site.ours.ports["smtp"]
    paths = spellings()
    size = -(-len(paths) // len(SENDERS))
    for number, sender in enumerate(SENDERS):  # each path once, and each sender with its share of them
        assert site.taken(port, sender, paths[number * size : (number + 1) * size]) == []
    battery = ["x@elsewhere.test", "x%elsewhere.test@example.test", "@example.test:x@elsewhere.test"]
    for sender in SENDERS:
        assert site.taken(port, sender, battery) == []


def test_what_looks_like_a_way_out_and_is_an_address_here(site: Site) -> None:
    """A catch-all and subaddresses: they are mailboxes, whatever they are called."""
    caught = [f"{one}@catch.test" for one in (*CAUGHT, *LOOKALIKES)]
    details = [f"bob+{one}@example.test" for one in DETAILS] + [f'"bob+{one}"@example.test' for one in QUOTED]
    for port, sender in itertools.product((site.ours.ports["smtp"], site.lmtp), SENDERS[:2]):
        assert sorted(site.taken(port, sender, caught + details)) == sorted(caught + details)
    assert {one for message in site.catch.caught for one in message.addresses} <= {"out@away.test"}
    assert site.ours.json("queue", "list") == []


def test_an_alias_leads_where_it_leads_and_nowhere_else(site: Site) -> None:
    before = len(site.catch.caught)
    spelled = [
        "team@example.test",
        "TEAM@EXAMPLE.TEST",
        "team+x%elsewhere.test@example.test",
        "team+x@example.test",
    ]
    assert site.taken(site.ours.ports["smtp"], "s@stranger.test", spelled) == spelled
    eventually(lambda: len(site.catch.caught) >= before + len(spelled))
    forwarded = site.catch.caught[before:]
    assert {one for message in forwarded for one in message.addresses} == {"out@away.test"}
    path = forwarded[0].mail.partition("<")[2].partition(">")[0]
    assert path.startswith("SRS0=")
    assert path.endswith("=stranger.test=s@example.test")
    # Who has seen the return path cannot write by it, nor make another of it.
    local = path.partition("@")[0]
    port = site.ours.ports["smtp"]
    assert site.taken(port, "s@stranger.test", [path, path.lower()]) == []
    others = [local.replace("=s", "=t"), local.replace("stranger.test", "elsewhere.test"), local[:-1] + "x", local + "x",
              local.replace("SRS0=", "SRS1="), local.replace("SRS0=", "SRS0+"), local.replace("SRS0", "SRS1").replace("=stranger", "==stranger")]  # fmt: skip
    assert site.taken(port, "", [f"{one}@example.test" for one in others]) == []
    # A report goes to the one sender.
    assert site.taken(port, "", [path]) == [path]
    eventually(lambda: site.catch.caught[-1].addresses == ["s@stranger.test"])


def test_submission_without_a_login(site: Site) -> None:
    """Whatever is said before it."""
    port = site.ours.ports["submission"]
    for sender in SENDERS:
        for first in (
            "NOOP",
            "XCLIENT ADDR=127.0.0.1 LOGIN=alice@example.test",
            "AUTH PLAIN",
            "AUTH EXTERNAL =",
            "RSET",
        ):
            replies = site.talk(
                port, ["EHLO localhost", first, f"MAIL FROM:<{sender}>", "RCPT TO:<x@elsewhere.test>", "DATA"]
            )
            assert [reply[:3] for reply in replies[-3:]] == ["530", "503", "503"], replies
