"""Submission: who may log in and how, whose name they may use, what is added to their messages."""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path
from typing import Any

import pytest

from mailstack.mail.address import Address
from mailstack.mail.reply import Refused
from mailstack.msa.fix_up import Draft
from mailstack.msa.settings import MsaConfig
from mailstack.msa.submission import Submission
from tests.net.fakes import Box, Connection, Here, Town, reception
from tests.net.sign_ins import sign_in_with

SECRET = base64.b64encode(b"\0alice@example.org\0secret").decode()
WRONG = base64.b64encode(b"\0alice@example.org\0wrong").decode()


class Office:
    """A submission service with its surroundings."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.box = Box()
        self.town = Town()
        made, self.clock = reception(Here(), folder)
        self.service = Submission(
            options.pop("config", MsaConfig()),
            hostname="mail.example.org",
            directory=self.town,
            accepts=self.box,
            reception=made,
            sign_in=sign_in_with(self.town, self.clock, options.pop("plaintext_networks", ())),
            **options,
        )

    def connect(self, secure: bool = True, **options: Any) -> Connection:
        return Connection(self.service, self.clock, secure=secure, **options)

    def logged_in(self) -> Connection:
        connection = self.connect()
        assert connection.say("EHLO pc", f"AUTH PLAIN {SECRET}").endswith(
            "235 2.7.0 Authentication successful\r\n"
        )
        return connection

    def submit(self, message: str, sender: str = "alice@example.org") -> str:
        """The reply to a message; what was taken is in the box."""
        connection = self.logged_in()
        connection.say(f"MAIL FROM:<{sender}>", "RCPT TO:<bob@elsewhere.example>", "DATA")
        return connection.send(message.encode() + b"\r\n.\r\n")


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


class TestLogin:
    def test_in_clear_nothing_is_offered_but_tls(self, office: Office) -> None:
        connection = office.connect(secure=False)
        said = connection.say("EHLO pc")
        assert "STARTTLS" in said
        assert "AUTH" not in said
        assert connection.say(f"AUTH PLAIN {SECRET}").startswith("538 5.7.11")
        assert connection.say("AUTH LOGIN").startswith("538 5.7.11")
        assert connection.say("MAIL FROM:<alice@example.org>").startswith("530 5.7.0 Must issue a STARTTLS")

    def test_after_starttls(self, office: Office) -> None:
        connection = office.connect(secure=False)
        connection.say("EHLO pc", "STARTTLS")
        said = connection.say("EHLO pc")
        assert "250 AUTH PLAIN LOGIN\r\n" in said
        assert "STARTTLS" not in said
        assert connection.say(f"AUTH PLAIN {SECRET}").startswith("235")

    def test_in_tls_from_the_start(self, office: Office) -> None:
        said = office.connect().say("EHLO pc")
        assert "STARTTLS" not in said
        assert "AUTH PLAIN LOGIN" in said

    def test_without_a_certificate_there_is_no_starttls(self, tmp_path: Path) -> None:
        said = Office(tmp_path, tls=False).connect(secure=False).say("EHLO pc", "STARTTLS")
        assert "250-STARTTLS" not in said
        assert said.endswith("502 5.5.1 Command not implemented\r\n")

    def test_plaintext_networks(self, tmp_path: Path) -> None:
        office = Office(tmp_path, plaintext_networks=[ipaddress.ip_network("192.0.2.0/24")])
        assert "AUTH PLAIN LOGIN" in office.connect(secure=False).say("EHLO pc")
        assert "AUTH" not in office.connect(secure=False, address="198.51.100.1").say("EHLO pc")

    def test_a_login_in_clear_does_not_outlive_starttls(self, tmp_path: Path) -> None:
        office = Office(tmp_path, plaintext_networks=[ipaddress.ip_network("192.0.2.0/24")])
        connection = office.connect(secure=False)
        assert "235 2.7.0" in connection.say("EHLO pc", f"AUTH PLAIN {SECRET}")
        connection.say("STARTTLS")
        assert connection.say("EHLO pc", "MAIL FROM:<alice@example.org>").endswith(
            "530 5.7.0 Authentication required\r\n"
        )

    def test_as_outlook_does_it(self, office: Office) -> None:
        connection = office.connect()
        connection.say("EHLO pc")
        name, password = (base64.b64encode(one).decode() for one in (b"alice@example.org", b"secret"))
        assert connection.say(f"AUTH LOGIN {name}") == "334 UGFzc3dvcmQ6\r\n"
        assert connection.say(password).startswith("235 2.7.0")

    def test_login_step_by_step(self, office: Office) -> None:
        connection = office.connect()
        connection.say("EHLO pc")
        assert connection.say("AUTH LOGIN") == "334 VXNlcm5hbWU6\r\n"
        assert connection.say("*").startswith("501 5.7.0")
        assert connection.say("AUTH PLAIN") == "334 \r\n"
        assert connection.say(SECRET).startswith("235 2.7.0")

    def test_unknown_mechanism(self, office: Office) -> None:
        connection = office.connect()
        assert connection.say("EHLO pc", "AUTH CRAM-MD5").endswith(
            "504 5.5.4 Authentication mechanism not supported\r\n"
        )

    def test_a_wrong_password_waits_longer_each_time(self, office: Office) -> None:
        connection = office.connect()
        connection.say("EHLO pc")
        delays = []
        for _ in range(5):
            before = office.clock.seconds()
            assert connection.say(f"AUTH PLAIN {WRONG}") == ""
            while not (said := connection.heard()):
                office.clock.advance(0.25)
            assert said.startswith("535 5.7.8")
            delays.append(office.clock.seconds() - before)
        assert delays[0] >= 1
        assert delays == sorted(set(delays))
        assert connection.say(f"AUTH PLAIN {SECRET}") == "421 4.7.0 Too many failed logins; closing\r\n"
        assert connection.transport.disconnecting

    def test_vanishing_while_a_refusal_waits(self, office: Office) -> None:
        connection = office.connect()
        connection.say("EHLO pc", f"AUTH PLAIN {WRONG}")
        connection.vanish()
        office.clock.advance(10)
        assert connection.heard() == ""

    def test_a_directory_out_of_order(self, office: Office) -> None:
        async def broken(login: str, password: str, peer: str = "") -> None:
            raise ZeroDivisionError

        office.town.authenticate = broken  # type: ignore[method-assign, assignment]
        connection = office.connect()
        assert connection.say("EHLO pc", f"AUTH PLAIN {SECRET}").endswith(
            "454 4.7.0 Temporary authentication failure; try again later\r\n"
        )


class TestEnvelope:
    def test_login_comes_first(self, office: Office) -> None:
        said = office.connect().say("EHLO pc", "MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.org>")
        assert said.endswith("530 5.7.0 Authentication required\r\n503 5.5.1 Bad sequence of commands\r\n")

    @pytest.mark.parametrize("path", ["alice@example.org", "Alice+tag@example.org", "sales@example.org", ""])
    def test_own_addresses(self, office: Office, path: str) -> None:
        assert office.logged_in().say(f"MAIL FROM:<{path}>").startswith("250")

    @pytest.mark.parametrize("path", ["bob@example.org", "alice@elsewhere.example", "nobody@example.org"])
    def test_other_addresses(self, office: Office, path: str) -> None:
        assert office.logged_in().say(f"MAIL FROM:<{path}>").startswith("553 5.7.1")

    def test_recipients(self, office: Office) -> None:
        connection = office.logged_in()
        connection.say("MAIL FROM:<alice@example.org>")
        assert connection.say("RCPT TO:<bob@example.org>").startswith("250")
        assert connection.say("RCPT TO:<anybody@elsewhere.example>").startswith("250")
        assert connection.say("RCPT TO:<nobody@example.org>").startswith("550 5.1.1")
        assert connection.say("RCPT TO:<postmaster>").startswith("250")
        connection.say("DATA", "Subject: x", "", ".")
        envelope = office.box.taken[0][0]
        assert envelope.authenticated == "alice@example.org"
        assert str(envelope.recipients[2].address) == "postmaster@example.org"


class TestMessage:
    def test_what_is_missing_is_added(self, office: Office) -> None:
        assert office.submit("Subject: hi\r\n\r\nbody").startswith("250 2.0.0 Ok")
        [(envelope, data)] = office.box.taken
        assert data.decode() == (
            "Received: from pc ([192.0.2.1])\r\n"
            f"\tby mail.example.org with ESMTPSA id {envelope.id}\r\n"
            "\tfor <bob@elsewhere.example>; Wed, 18 Nov 2026 11:06:40 +0000\r\n"
            "From: alice@example.org\r\n"
            "Date: Wed, 18 Nov 2026 11:06:40 +0000\r\n"
            f"Message-ID: <{envelope.id}@mail.example.org>\r\n"
            "Subject: hi\r\n\r\nbody\r\n"
        )

    def test_what_is_there_is_kept(self, office: Office) -> None:
        message = (
            "from: Alice <ALICE@example.org>\r\nDATE: yesterday\r\nmessage-id :\r\n <1@pc>\r\n"
            "Sender: bob@example.org\r\n\r\nBcc: not a field\r\n"
        )
        office.submit(message)
        assert office.box.taken[0][1].partition(b"+0000\r\n")[2] == message.encode() + b"\r\n"

    def test_text_without_header(self, office: Office) -> None:
        office.submit("hello world\r\nBcc: x@example.org")
        header, _, body = office.box.taken[0][1].partition(b"\r\n\r\n")
        assert body == b"hello world\r\nBcc: x@example.org\r\n"
        assert b"Message-ID: <" in header

    def test_blind_copies_stay_blind(self, office: Office) -> None:
        office.submit(
            "From: alice@example.org\r\nBcc: x@example.org,\r\n\ty@example.org\r\nSubject: hi\r\n"
            "resent-bcc : z@example.org\r\nX-Bcc: kept\r\n\r\nBcc: in the body\r\n"
        )
        data = office.box.taken[0][1]
        assert b"x@example.org" not in data
        assert b"y@example.org" not in data
        assert b"z@example.org" not in data
        assert data.endswith(
            b"From: alice@example.org\r\nSubject: hi\r\nX-Bcc: kept\r\n\r\nBcc: in the body\r\n\r\n"
        )

    def test_nobody_speaks_in_our_name_of_results(self, office: Office) -> None:
        office.submit(
            "From: alice@example.org\r\nAuthentication-Results: mail.example.org; dmarc=pass\r\n"
            "Authentication-Results: other.example; dkim=pass\r\nSubject: hi\r\n\r\nhello\r\n"
        )
        data = office.box.taken[0][1]
        assert data.endswith(
            b"From: alice@example.org\r\nAuthentication-Results: other.example; dkim=pass\r\n"
            b"Subject: hi\r\n\r\nhello\r\n\r\n"
        )

    def test_blind_copies_of_a_big_message(self, office: Office) -> None:
        body = b"z" * 60 + b"\r\n"
        office.submit("Subject: big\r\nBcc: x@example.org\r\nX: y\r\n\r\n" + (body * 4000).decode())
        data = office.box.taken[0][1]
        assert data.endswith(b"Subject: big\r\nX: y\r\n\r\n" + body * 4000 + b"\r\n")

    @pytest.mark.parametrize(
        "field",
        [
            "From: alice@example.org",
            "From: Alice <alice+news@example.org>, sales@example.org",
            "From: =?utf-8?q?Alice?= <Alice@Example.ORG>",
            "From: (x) alice@example.org (y)",
            "From:\r\n Alice\r\n <alice@example.org>",
        ],
    )
    def test_own_from(self, office: Office, field: str) -> None:
        assert office.submit(f"{field}\r\n\r\nx").startswith("250"), field

    @pytest.mark.parametrize(
        "field",
        [
            "From: bob@example.org",
            "From: Alice <alice@elsewhere.example>",
            "From: alice@example.org, bob@example.org",
            'From: "alice@example.org" <bob@example.org>',
            "From: alice@example.org\r\nFrom: bob@example.org",
            "from : bob@example.org",
            "From: us: alice@example.org, bob@example.org;",
            "From: alice",
            "From:",
            "From: " + ", ".join(["alice@example.org"] * 30),
        ],
    )
    def test_not_own_from(self, office: Office, field: str) -> None:
        said = office.submit(f"{field}\r\n\r\nx")
        assert said[:7] in ("550 5.7", "550 5.6"), said
        assert office.box.taken == []

    def test_the_directory_is_asked_once_an_address(self, office: Office) -> None:
        office.submit("From: alice@example.org\r\n\r\nx")
        assert office.town.asked == 1

    def test_read_receipts(self, office: Office) -> None:
        """RFC 8098 section 3: sent from the null path, in one's own name."""
        assert office.submit("Subject: read\r\n\r\nx", sender="").startswith("250")
        assert b"\r\nFrom: alice@example.org\r\n" in office.box.taken[0][1]


class TestDraft:
    def test_no_from(self) -> None:
        assert Draft(b"Subject: x\r\n").authors() == []

    def test_the_header_is_the_same_object(self) -> None:
        header = b"From: a@b.example\r\n"
        assert Draft(header).remaining() is header

    def test_a_last_line_without_end(self) -> None:
        draft = Draft(b"From: a@b.example\r\nBcc: c@d.example")
        assert draft.authors() == [Address("a", "b.example")]
        assert draft.remaining() == b"From: a@b.example\r\n"

    def test_broken_from(self) -> None:
        with pytest.raises(Refused):
            Draft(b"From: a@b..example\r\n").authors()


@pytest.mark.parametrize("wrong", [{"max_recipients": 0}, {"idle_seconds": 0}, {"auth_failure_seconds": -1}])
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|idle_seconds"):
        MsaConfig(**wrong)
