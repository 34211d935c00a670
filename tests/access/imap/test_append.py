"""APPEND, streamed and refused."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mailstack.access.settings import ImapConfig
from tests.access.imap.harness import HELLO, Client, World

Talk = Callable[[Client, str], None]


def test_append(world: World, talk: Talk) -> None:
    client = world.connect().login()
    talk(
        client,
        r"""
        C: a APPEND Sent (\Seen $Forwarded) " 1-Jul-2003 10:52:37 +0200" {21}
        S: + ...
        C: Subject: hello
        C:
        C: x
        C:
        S: a OK [APPENDUID ... 1] APPEND completed
        C: b APPEND Sent {4+}
        C: abcd
        S: b OK [APPENDUID ... 2] APPEND completed
        C: c APPEND Nowhere {3}
        S: c NO [TRYCREATE] ...
        C: d APPEND Nowhere {3+}
        C: abc
        S: d NO [TRYCREATE] ...
        C: e APPEND Sent {0+}
        C:
        S: e NO [CANNOT] ...
        C: f NOOP
        S: f OK NOOP completed
        """,
    )
    client.ask("s SELECT Sent")
    said = client.ask("g FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
    assert said == (
        b'* 1 FETCH (FLAGS (\\Seen $Forwarded \\Recent) INTERNALDATE " 1-Jul-2003 10:52:37 +0200" RFC822.SIZE 21 '
        b"BODY[] {21}\r\nSubject: hello\r\n\r\nx\r\n)\r\ng OK FETCH completed\r\n"
    )


def test_append_to_the_selected_mailbox(world: World) -> None:
    client = world.connect().select()
    said = client.ask(b"a APPEND INBOX (\\Seen) {%d+}\r\n%b" % (len(HELLO), HELLO))
    assert re.fullmatch(
        rb"\* 1 EXISTS\r\n\* 1 RECENT\r\n(\* 1 FETCH .*\r\n)?a OK \[APPENDUID \d+ 1\] APPEND completed\r\n",
        said,
    ), said


def test_multiappend(world: World) -> None:
    client = world.connect().login()
    said = client.ask(b"a APPEND INBOX (\\Seen) {3+}\r\nabc (\\Flagged) {4+}\r\ndefg")
    assert re.fullmatch(rb"a OK \[APPENDUID \d+ 1:2\] APPEND completed\r\n", said), said
    client.ask("s SELECT INBOX")
    assert client.ask("b FETCH 1:2 (FLAGS BODY.PEEK[])") == (
        b"* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[] {3}\r\nabc)\r\n"
        b"* 2 FETCH (FLAGS (\\Flagged \\Recent) BODY[] {4}\r\ndefg)\r\nb OK FETCH completed\r\n"
    )


def test_multiappend_is_all_or_none(world: World) -> None:
    client = world.connect().login()
    said = client.ask(b"a APPEND INBOX {3+}\r\nabc {0+}\r\n")
    assert b"a NO [CANNOT]" in said
    assert b"MESSAGES 0" in client.ask("b STATUS INBOX (MESSAGES)")
    said = client.ask(b"c APPEND INBOX {3+}\r\nabc nonsense {3+}\r\ndef")
    assert b"c BAD" in said
    assert b"MESSAGES 0" in client.ask("d STATUS INBOX (MESSAGES)")


def spool(world: World, config: ImapConfig | None = None) -> Path:
    folder = Path(tempfile.mkdtemp(dir=world.path))
    world.config = config or ImapConfig(spool=folder)
    return folder


def test_a_big_message_is_spooled(world: World) -> None:
    folder = spool(world)
    big = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 50_000
    client = world.connect().login()
    client.send(b"a APPEND INBOX {%d}\r\n" % len(big))
    assert client.heard().startswith(b"+ ")
    client.send(big[:500_000])
    assert [path.stat().st_size > 300_000 for path in folder.iterdir()] == [True]
    client.send(big[500_000:] + b"\r\n")
    assert b"a OK [APPENDUID" in client.heard()
    assert list(folder.iterdir()) == []
    client.ask("s SELECT INBOX")
    assert big in client.ask("b FETCH 1 BODY.PEEK[]")


@pytest.mark.parametrize("how", ["vanish", "malformed"])
def test_a_message_cut_short_leaves_nothing(world: World, how: str) -> None:
    folder = spool(world)
    client = world.connect().login()
    client.send(b"a APPEND INBOX {200000+}\r\n" + b"x" * 150_000)
    assert len(list(folder.iterdir())) == 1
    if how == "vanish":
        client.lose()
    else:
        client.send(b"x" * 50_000 + b" and what is this\r\n")
        assert client.heard().startswith(b"a BAD")
    assert list(folder.iterdir()) == []
    assert b"MESSAGES 0" in world.connect().login().ask("b STATUS INBOX (MESSAGES)")


def test_too_big(world: World, talk: Talk) -> None:
    world.config = ImapConfig(max_message_octets=1024)
    talk(
        world.connect().login(),
        """
        C: a APPEND INBOX {1025}
        S: a NO [TOOBIG] ...
        C: b APPEND INBOX {1025+}
        C: 0123456789xLONG
        S: b NO [TOOBIG] ...
        C: c APPEND INBOX {10+}
        C: 0123456789
        S: c OK [APPENDUID ... 1] APPEND completed
        C: d APPEND INBOX {99999999999}
        S: d ...
        """.replace("LONG", "x" * 1014),
    )


def test_a_full_disk(world: World) -> None:
    client = world.connect().login()
    world.work.failing = {"files": OSError(28, "No space left on device")}
    said = client.ask(b"a APPEND INBOX {100000+}\r\n" + b"x" * 100_000)
    assert said.startswith(b"a NO "), said
    world.work.failing = {"prepared": OSError(28, "No space left on device")}
    said = client.ask(b"b APPEND INBOX {3+}\r\nabc")
    assert said.startswith(b"b NO "), said
    world.work.failing = {}
    assert b"c OK" in client.ask(b"c APPEND INBOX {3+}\r\nabc")


def test_append_again_where_the_mailbox_is_gone(world: World, talk: Talk) -> None:
    """The last APPEND's mailbox is not looked up again before the message comes; it is when it has come."""
    client = world.connect().login()
    talk(
        client,
        r"""
        C: a CREATE Here
        S: a OK ...
        C: b APPEND Here {4}
        S: + ...
        C: abcd
        S: b OK [APPENDUID ... 1] APPEND completed
        C: c DELETE Here
        S: c OK ...
        C: d APPEND Here {4}
        S: + ...
        C: abcd
        S: d NO [TRYCREATE] ...
        C: e APPEND Here {4}
        S: e NO [TRYCREATE] ...
        C: f APPEND Sent {4+}
        C: abcd
        S: f OK [APPENDUID ... 1] APPEND completed
        """,
    )
