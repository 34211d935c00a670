"""Relay: mail from other MTAs, for our own recipients only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailstack.directory.model import User
from mailstack.mail.address import Address
from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import RelayConfig
from tests.net.fakes import BOB, Box, Connection, Here, Town, reception


class Gate:
    """A relay with its surroundings."""

    def __init__(self, folder: Path, config: RelayConfig | None = None, **options: Any) -> None:
        self.box = Box()
        made, self.clock = reception(Here(), folder)
        self.service = Relay(
            config or RelayConfig(),
            hostname="mx.Example.org",
            directory=Town(),
            accepts=self.box,
            reception=made,
            **options,
        )

    def ready(self, **options: Any) -> Connection:
        connection = Connection(self.service, self.clock, **options)
        assert connection.say("EHLO mta.example.net", "MAIL FROM:<x@example.net>").endswith(
            "250 2.1.0 Ok\r\n"
        )
        return connection


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


class TestRecipients:
    @pytest.mark.parametrize(
        ("address", "reply"),
        [
            ("bob@example.org", "250 2.1.5"),
            ("BOB+tag@EXAMPLE.org", "250 2.1.5"),
            ("sales@example.org", "250 2.1.5"),
            ("postmaster@example.org", "250 2.1.5"),
            ("Postmaster", "250 2.1.5"),
            ("@other.example:bob@example.org", "250 2.1.5"),
            ("nobody@example.org", "550 5.1.1"),
            ("bob@example.net", "550 5.7.1"),
            ("@example.org:bob@example.net", "550 5.7.1"),
            ("bob%example.net@example.org", "550 5.1.1"),
            ('"bob@example.net"@example.org', "550 5.1.1"),
            ("bob@[192.0.2.25]", "550 5.7.1"),
            ("bob!example.net@example.org", "550 5.1.1"),
        ],
    )
    def test_only_ours(self, gate: Gate, address: str, reply: str) -> None:
        assert gate.ready().say(f"RCPT TO:<{address}>").startswith(reply)

    def test_postmaster_has_a_domain_in_the_envelope(self, gate: Gate) -> None:
        gate.ready().say("RCPT TO:<postmaster>", "DATA", "Subject: x", "", ".")
        assert str(gate.box.taken[0][0].recipients[0].address) == "postmaster@example.org"

    def test_case_does_not_matter_here(self, gate: Gate) -> None:
        gate.ready().say(
            "RCPT TO:<bob@example.org>", "RCPT TO:<BOB@example.org>", "DATA", "Subject: x", "", "."
        )
        assert len(gate.box.taken[0][0].recipients) == 1

    def test_postmaster_as_told(self, tmp_path: Path) -> None:
        gate = Gate(tmp_path, postmaster=Address("bob", "example.org"))
        gate.ready().say("RCPT TO:<postmaster>", "DATA", "Subject: x", "", ".")
        assert str(gate.box.taken[0][0].recipients[0].address) == "bob@example.org"

    def test_a_full_mailbox(self, tmp_path: Path) -> None:
        async def full(user: User) -> bool:
            return user == BOB

        connection = Gate(tmp_path, full=full).ready()
        assert connection.say("RCPT TO:<bob@example.org>").startswith("452 4.2.2")
        assert connection.say("RCPT TO:<alice@example.org>").startswith("250")

    def test_bounces_are_taken(self, gate: Gate) -> None:
        connection = gate.ready()
        said = connection.say(
            "RSET", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA", "Subject: x", "", "."
        )
        assert "250 2.0.0 Ok: queued as" in said
        assert gate.box.taken[0][0].reverse_path is None
        assert gate.box.taken[0][0].authenticated is None


class TestOffers:
    def test_no_login(self, gate: Gate) -> None:
        connection = Connection(gate.service, gate.clock, secure=True)
        said = connection.say("EHLO mta.example.net", "AUTH PLAIN AGFsaWNlAHNlY3JldA==")
        assert "250-AUTH" not in said
        assert "250 AUTH" not in said
        assert said.endswith("502 5.5.1 Authentication is not offered here\r\n")

    def test_starttls(self, gate: Gate, tmp_path: Path) -> None:
        assert "STARTTLS" not in Connection(gate.service, gate.clock).say("EHLO x")
        with_tls = Gate(tmp_path, tls=True)
        connection = Connection(with_tls.service, with_tls.clock)
        assert "250 STARTTLS\r\n" in connection.say("EHLO x")
        connection.say("STARTTLS")
        assert "STARTTLS" not in connection.say("EHLO x")

    def test_extensions(self, gate: Gate) -> None:
        said = Connection(gate.service, gate.clock).say("EHLO x")
        assert said == (
            "250-mx.Example.org\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n"
            "250-BINARYMIME\r\n250-SMTPUTF8\r\n"
            "250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-DSN\r\n250-LIMITS RCPTMAX=1000\r\n"
            "250 DELIVERBY\r\n"
        )


@pytest.mark.parametrize(
    ("asked", "reply"),
    [
        ("BY=59;R", "555 5.5.4"),
        ("BY=1;RT", "555 5.5.4"),
        ("BY=60;R", "250"),
        ("BY=59;N", "250"),  # nothing comes back: the time only is told
        ("BY=-5;NT", "250"),
    ],
)
def test_the_shortest_time_to_deliver(tmp_path: Path, asked: str, reply: str) -> None:
    """RFC 2852 section 4: less than the number in EHLO's answer is refused at MAIL."""
    gate = Gate(tmp_path, RelayConfig(min_deliver_by_seconds=60))
    connection = Connection(gate.service, gate.clock)
    assert "250 DELIVERBY 60\r\n" in connection.say("EHLO x")
    assert connection.say(f"MAIL FROM:<x@example.net> {asked}").startswith(reply)
    if reply != "250":
        assert connection.say("RCPT TO:<bob@example.org>").startswith("503")


@pytest.mark.parametrize("wrong", [{"max_message_octets": 0}, {"idle_seconds": 0}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RelayConfig(**wrong)


class TestHarvesting:
    """Who asks for addresses that are not here is slowed down, then cut."""

    def test_slower_each_time_then_cut(self, gate: Gate) -> None:
        connection = gate.ready()
        for number in range(5):
            assert connection.say(f"RCPT TO:<nobody{number}@example.org>").startswith("550 5.1.1")
        for number in range(15):
            assert connection.say("RCPT TO:<nobody@example.org>") == ""
            delay = min(8.0, 0.25 * 2**number)
            gate.clock.advance(delay - 0.01)
            assert connection.heard() == ""
            gate.clock.advance(0.02)
            assert connection.heard().startswith("550 5.1.1")
        assert connection.say("RCPT TO:<bob@example.org>") == "250 2.1.5 Ok\r\n"
        said = connection.say("RCPT TO:<x@elsewhere.example>", "NOOP")
        assert said == "421 4.7.0 Too many refused recipients; closing\r\n"
        assert connection.transport.disconnecting

    def test_what_may_be_asked_again_does_not_count(self, tmp_path: Path) -> None:
        async def full(user: User) -> bool:
            return True

        gate = Gate(tmp_path, full=full)
        connection = gate.ready()
        for _ in range(50):
            assert connection.say("RCPT TO:<bob@example.org>").startswith("452 4.2.2")
