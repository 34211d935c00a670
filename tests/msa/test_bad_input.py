"""What nobody should send to the submission ports, before a login and after; and the next command works."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailstack.msa.settings import MsaConfig
from tests.msa.test_submission import SECRET, Office
from tests.mta.test_bad_input import BAD, RECIPIENTS, RELAYING, UNKNOWN
from tests.net.fakes import Connection

NOOP = "250 2.0.0 Ok"
MAIL = "MAIL FROM:<alice@example.org>"
LOOK_ALIKES = (
    "bob@exаmple.org",
    "bob\uff20elsewhere.example@example.org",
    "bob@example\uff0eorg",
    "bob@example.org\u3002x.example",
)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path, config=MsaConfig(max_errors=100_000, unknown_per_hour=0))


def last(said: str) -> str:
    """The last line of what was said."""
    return said.split("\r\n")[-2]


def ready(office: Office) -> Connection:
    """A client that has logged in and named itself again."""
    connection = office.logged_in()
    connection.say("EHLO pc")
    return connection


@pytest.mark.parametrize("secure", [True, False])
def test_nobody_relays_without_a_login(office: Office, secure: bool) -> None:
    """Every spelling, one after another in one connection: MAIL is refused, so is what follows it."""
    connection = office.connect(secure=secure)
    connection.say("EHLO pc")
    for path in [*(path for path, _ in RECIPIENTS), *LOOK_ALIKES]:
        for mail in (
            MAIL,
            "MAIL FROM:<>",
            "MAIL FROM:<postmaster@example.org>",
            f"{MAIL} SMTPUTF8",
            f"{MAIL} AUTH=<>",
        ):
            said = connection.say(mail, f"RCPT TO:<{path}>", "DATA", "NOOP").split("\r\n")
            assert said[0].startswith(("530 5.7.0", "555 5.5.4")), (mail, said)
            assert said[1].startswith(("503 5.5.1", "500 5.5")), (path, said)
            assert said[2].startswith("503 5.5.1"), said
            assert said[3] == NOOP
    assert office.box.taken == []


def test_after_a_login_an_odd_spelling_is_refused_or_itself(office: Office) -> None:
    """A user may send elsewhere; nothing of ours is reached by a trick, and nothing is rewritten."""
    wanted = {RELAYING: "250 2.1.5", UNKNOWN: "550 5.1.1", BAD: "501 5.1.3", "501": "501"}
    for path, reply in RECIPIENTS:
        connection = ready(office)
        said = connection.say(MAIL, f"RCPT TO:<{path}>", "NOOP").split("\r\n")
        assert said[1].startswith(wanted[reply]), (path, said)
        assert said[2] == NOOP
        if reply == RELAYING:
            assert connection.say("DATA").startswith("354")
            assert last(connection.say("From: alice@example.org", "", "x", ".")).startswith("250 2.0.0")
            [recipient] = office.box.taken.pop()[0].recipients
            written = path.rpartition(":")[2] if path.startswith("@") else path
            assert str(recipient.address).lower() == written.lower()
        connection.vanish()
    assert office.box.taken == []


PARAMETERS = [
    # Repeated.
    ("HOLDFOR=60 HOLDFOR=60", "501 5.5.4"), ("HOLDFOR=60 HOLDUNTIL=2026-11-19T00:00:00Z", "501 5.5.4"), ("HOLDFOR=60 holdfor=61", "501 5.5.4"),
    ("MT-PRIORITY=1 MT-PRIORITY=1", "501 5.5.4"), ("BY=60;R BY=60;N", "501 5.5.4"), ("REQUIRETLS REQUIRETLS", "501 5.5.4"),
    ("AUTH=<> AUTH=<>", "501 5.5.4"), ("SIZE=1 BODY=7BIT SIZE=1", "501 5.5.4"), ("RET=FULL ret=HDRS", "501 5.5.4"),
    # Without a value, or with one that it does not take.
    ("HOLDFOR", "501 5.5.4"), ("HOLDFOR=", "501 5.5.4"), ("HOLDUNTIL", "501 5.5.4"), ("MT-PRIORITY", "501 5.5.2"), ("AUTH", "501 5.5.4"),
    ("AUTH=", "501 5.5.4"), ("REQUIRETLS=1", "501 5.5.4"), ("REQUIRETLS=", "501 5.5.4"), ("SMTPUTF8=yes", "501 5.5.4"),
    ("HOLDFOR=0", "501 5.5.4"), ("HOLDFOR=-1", "501 5.5.4"), ("HOLDFOR=+60", "501 5.5.4"), ("HOLDFOR=1e3", "501 5.5.4"), ("HOLDFOR=060", "501 5.5.4"),
    ("HOLDFOR=0x3c", "501 5.5.4"), ("HOLDFOR=9999999999", "501 5.5.4"), ("HOLDFOR=999999999", "501 5.5.4"), ("HOLDFOR=६०", "501 5.5.4"),
    ("HOLDUNTIL=tomorrow", "501 5.5.4"), ("HOLDUNTIL=2026-13-01T00:00:00Z", "501 5.5.4"), ("HOLDUNTIL=2026-11-31T00:00:00Z", "501 5.5.4"),
    ("HOLDUNTIL=2026-11-19T25:00:00Z", "501 5.5.4"), ("HOLDUNTIL=2026-11-19T00:00:00", "501 5.5.4"), ("HOLDUNTIL=20261119T000000Z", "501 5.5.4"),
    ("HOLDUNTIL=9999-12-31T23:59:59Z", "501 5.5.4"), ("HOLDUNTIL=0001-01-01T00:00:00+23:59", "501 5.5.4"), ("HOLDUNTIL=1795000000", "501 5.5.4"),
    ("MT-PRIORITY=10", "501 5.5.2"), ("MT-PRIORITY=-10", "501 5.5.2"), ("MT-PRIORITY=+1", "501 5.5.2"), ("MT-PRIORITY=-0", "501 5.5.2"),
    ("MT-PRIORITY=01", "501 5.5.2"), ("MT-PRIORITY=1.5", "501 5.5.2"), ("MT-PRIORITY=high", "501 5.5.2"), ("MT-PRIORITY=٣", "501 5.5.2"),
    ("BY=0;R", "501 5.5.4"), ("BY=-60;R", "501 5.5.4"), ("BY=60", "501 5.5.4"), ("BY=60;", "501 5.5.4"), ("BY=;N", "501 5.5.4"), ("BY=60;NR", "501 5.5.4"),
    ("BY=60;TN", "501 5.5.4"), ("BY=1000000000;N", "501 5.5.4"), ("BY=--1;N", "501 5.5.4"), ("BY=60;N;T", "501 5.5.4"), ("BY=1 ;N", "501 5.5.4"),
    ("HOLDFOR=600 BY=60;R", "501 5.5.4"), ("HOLDFOR=600 BY=600;N", "501 5.5.4"),
    ("AUTH=+", "501 5.5.4"), ("AUTH=+0a", "501 5.5.4"), ("AUTH=a@b+0D+0AX", "501 5.5.4"), ("AUTH=<", "250 2.1.0"),
    # Unknown, and those of other commands.
    ("FOO", "555 5.5.4"), ("FOO=BAR", "555 5.5.4"), ("X-PRIORITY=1", "555 5.5.4"), ("NOTIFY=NEVER", "555 5.5.4"), ("ORCPT=rfc822;a", "555 5.5.4"),
    ("TRANSID=<a@b>", "555 5.5.4"), ("SOLICIT=net.example:ADV", "555 5.5.4"), ("MTRK=x", "555 5.5.4"), ("CONPERM", "555 5.5.4"), ("XOORG=x", "555 5.5.4"),
    # Good, so that the refusals above are not for something else.
    ("HOLDFOR=60", "250 2.1.0"), ("HOLDUNTIL=2026-11-19T00:00:00Z", "250 2.1.0"), ("MT-PRIORITY=-9", "250 2.1.0"), ("BY=-999999999;NT", "250 2.1.0"),
    ("REQUIRETLS", "250 2.1.0"), ("AUTH=<>", "250 2.1.0"), ("HOLDFOR=60 BY=61;R MT-PRIORITY=3 SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x", "250 2.1.0"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "reply"), PARAMETERS)
def test_parameters_after_a_login(office: Office, words: str, reply: str) -> None:
    connection = ready(office)
    assert connection.say(f"{MAIL} {words}").startswith(reply), words
    assert connection.say("NOOP") == f"{NOOP}\r\n"


@pytest.mark.parametrize(
    "command",
    ["AUTH PLAIN AA==", "AUTH LOGIN", "AUTH", "AUTH PLAIN *", f"AUTH PLAIN {SECRET}", "auth scram-sha-1"],
)
def test_a_second_login(office: Office, command: str) -> None:
    connection = ready(office)
    wanted = ("503 5.5.1",)
    assert connection.say(command).startswith(wanted)
    assert connection.say(MAIL, command, "NOOP").split("\r\n")[1:3][0].startswith("503 5.5.1")
    assert connection.say("RCPT TO:<bob@elsewhere.example>").startswith("250 2.1.5")


def test_mail_in_a_transaction(office: Office) -> None:
    """Refused, and the transaction goes on as it was."""
    connection = ready(office)
    said = connection.say(
        MAIL, "MAIL FROM:<alice+x@example.org>", "RCPT TO:<bob@elsewhere.example>", MAIL, "DATA"
    )
    assert [line[:9] for line in said.split("\r\n")[:-1]] == [
        "250 2.1.0",
        "503 5.5.1",
        "250 2.1.5",
        "503 5.5.1",
        "354 End d",
    ]
    assert connection.say("S: x", "", ".").startswith("250 2.0.0")
    [(envelope, _)] = office.box.taken
    assert str(envelope.reverse_path) == "alice@example.org"


PHASES = [
    [], ["EHLO pc"], ["EHLO pc", "AUTH PLAIN"], ["EHLO pc", "AUTH LOGIN"], ["EHLO pc", f"AUTH PLAIN {SECRET}"],
    ["EHLO pc", f"AUTH PLAIN {SECRET}", MAIL], ["EHLO pc", f"AUTH PLAIN {SECRET}", MAIL, "RCPT TO:<bob@elsewhere.example>"],
    ["EHLO pc", f"AUTH PLAIN {SECRET}", MAIL, "RCPT TO:<bob@elsewhere.example>", "DATA"],
    ["EHLO pc", f"AUTH PLAIN {SECRET}", MAIL, "RCPT TO:<bob@elsewhere.example>", "DATA", "Subject: x", "", "half a mess"],
    ["EHLO pc", f"AUTH PLAIN {SECRET}", MAIL, "RCPT TO:<bob@elsewhere.example>", "BDAT 100", "half a chunk"],
    ["EHLO pc", f"AUTH PLAIN {SECRET}", MAIL, "RCPT TO:<bob@elsewhere.example>", "BDAT 4", "ab"],
]  # fmt: skip


@pytest.mark.parametrize("lines", PHASES, ids=lambda lines: (lines or [""])[-1][:12])
def test_half_closed_at_each_phase(office: Office, tmp_path: Path, lines: list[str]) -> None:
    """The client will say no more: nothing is taken, nothing stays, the connection is closed; others are served."""
    for half_line in ("", "NOO"):
        connection = office.connect()
        if lines:
            connection.say(*lines)
        connection.send(half_line.encode())
        connection.conversation.readConnectionLost()
        assert connection.transport.disconnecting
        connection.vanish()
        assert office.box.taken == []
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert last(office.connect().say("EHLO pc", "NOOP")) == NOOP


def test_half_closed_after_the_last_word(office: Office) -> None:
    """Whoever closes its side with the last word is answered: the message counts."""
    connection = ready(office)
    connection.say(MAIL, "RCPT TO:<bob@elsewhere.example>", "DATA", "S: x")
    assert connection.say("", ".").startswith("250 2.0.0")
    connection.conversation.readConnectionLost()
    assert len(office.box.taken) == 1
    assert connection.transport.disconnecting
