"""Submission: what a user may send in an hour, in whose name, how big; Sender; release and priority; Sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailstack.db import Database
from mailstack.directory import verbs
from mailstack.directory.grants import grant, is_granted, list_grants, revoke
from mailstack.mail.message import Message
from mailstack.msa import counts
from mailstack.msa.counts import Count
from mailstack.msa.fix_up import Draft
from mailstack.msa.limits import HourlyLimits
from mailstack.msa.settings import MsaConfig
from tests.databases import made_database
from tests.msa.test_submission import Office
from tests.net.fakes import ALICE, NOW

__all__ = ["made_database"]


@pytest.fixture
def database(made_database: Database) -> Database:
    made_database.write(verbs.add_domain, "example.org")
    made_database.write(verbs.add_user, "alice@example.org", "x")
    return made_database


class Straight:
    """Work that is done at once."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def transaction(self, function: Any, *args: Any) -> Any:
        return self.database.write(function, *args)

    async def read(self, function: Any, *args: Any) -> Any:
        return self.database.read(function, *args)


def office(folder: Path, database: Database, **limits: int) -> Office:
    config = MsaConfig(**limits)  # type: ignore[arg-type]
    made = Office(folder / "spool", config=config)  # which is emptied; the database is in `folder`
    made.service.limits = HourlyLimits(config, Straight(database), made.clock)
    return made


class TestByTheHour:
    def test_messages(self, tmp_path: Path, database: Database) -> None:
        place = office(tmp_path, database, messages_per_hour=2)
        for _ in range(2):
            assert "250 2.0.0 Ok: queued" in place.submit("Subject: x\r\n\r\nhi")
        said = place.logged_in().say("MAIL FROM:<alice@example.org>")
        assert said.startswith("450 4.7.1 At most 2 messages in an hour; come again after Wed, 18 Nov 2026 ")
        other = office(
            tmp_path / "other", database, messages_per_hour=2
        )  # another process, or after a restart
        assert other.logged_in().say("MAIL FROM:<alice@example.org>").startswith("450 4.7.1")
        place.clock.advance(3600)
        assert "250 2.0.0 Ok: queued" in place.submit("Subject: x\r\n\r\nhi")

    def test_who_is_quicker_wins(self, tmp_path: Path, database: Database) -> None:
        place = office(tmp_path, database, messages_per_hour=1)
        connections = [place.logged_in() for _ in range(2)]
        for connection in connections:
            connection.say("MAIL FROM:<alice@example.org>", "RCPT TO:<x@elsewhere.example>", "DATA")
        said = [connection.send(b"S: x\r\n\r\n.\r\n")[:9] for connection in connections]
        assert said == ["250 2.0.0", "450 4.7.1"]
        assert len(place.box.taken) == 1

    def test_who_is_quicker_has_the_recipients(self, tmp_path: Path, database: Database) -> None:
        place = office(tmp_path, database, recipients_per_hour=3)
        connections = [place.logged_in() for _ in range(2)]
        to = [f"RCPT TO:<u{n}@elsewhere.example>" for n in range(2)]
        for connection in connections:
            connection.say("MAIL FROM:<alice@example.org>", *to, "DATA")
        said = [connection.send(b"S: x\r\n\r\n.\r\n") for connection in connections]
        assert said[0].startswith("250 2.0.0")
        assert said[1].startswith("450 4.7.1 At most 3 recipients in an hour; come again after ")
        assert len(place.box.taken) == 1

    def test_recipients(self, tmp_path: Path, database: Database) -> None:
        place = office(tmp_path, database, recipients_per_hour=2)
        connection = place.logged_in()
        to = [f"RCPT TO:<u{n}@elsewhere.example>" for n in range(3)]
        said = connection.say("MAIL FROM:<alice@example.org>", *to).split("\r\n")
        assert [line[:9] for line in said[1:4]] == ["250 2.1.5", "250 2.1.5", "450 4.7.1"]
        connection.say("DATA", "S: x\r\n\r\n.")
        assert connection.say("MAIL FROM:<alice@example.org>", to[0]).split("\r\n")[1].startswith("450 4.7.1")

    def test_unknown_recipients(self, tmp_path: Path, database: Database) -> None:
        place = office(tmp_path, database, unknown_per_hour=2)
        connection = place.logged_in()
        to = [f"RCPT TO:<nobody{n}@example.org>" for n in range(2)]
        said = connection.say("MAIL FROM:<alice@example.org>", *to, "RCPT TO:<bob@example.org>").split("\r\n")
        assert [line[:9] for line in said[1:4]] == ["550 5.1.1", "550 5.1.1", "450 4.7.1"]
        again = place.logged_in().say("MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.org>")
        assert again.split("\r\n")[1].startswith("450 4.7.1")

    def test_counts(self, database: Database) -> None:
        for minute in (0, 10, 50):
            database.write(counts.add, 1, NOW + 60 * minute, Count(1, 2, 3))
        hour = database.read(counts.read, 1, NOW + 3000)
        assert [hour.total(of) for of in (counts.messages, counts.recipients, counts.unknown)] == [3, 6, 9]
        assert hour.room_at(counts.messages, 4, 1) is None
        first = hour.slots[0][0]
        assert hour.room_at(counts.messages, 3, 1) == (first + 12) * 300
        assert hour.room_at(counts.messages, 1, 9) == (hour.slots[-1][0] + 12) * 300
        database.write(counts.add, 1, NOW + 4000, Count())
        assert database.read(counts.read, 1, NOW + 4000).total(counts.messages) == 2


class TestGrants:
    def test_given_and_taken(self, database: Database) -> None:
        assert database.write(grant, "alice@example.org", "Office@Example.org") == "office@example.org"
        assert database.write(grant, "alice@example.org", "@Other.example") == "@other.example"
        for key, may in (
            ("office@example.org", True),
            ("x@other.example", True),
            ("x@sub.other.example", False),
        ):
            assert database.read(is_granted, 1, key) is may
        assert not database.read(is_granted, 2, "office@example.org")
        assert [one.address for one in database.read(list_grants)] == ["@other.example", "office@example.org"]
        assert len(database.read(list_grants, "Alice@example.org")) == 2
        database.write(verbs.add_user, "bob@example.org", "x")
        assert database.read(list_grants, "bob@example.org") == []
        assert database.write(revoke, "alice@example.org", "office@example.org") == "office@example.org"
        assert not database.read(is_granted, 1, "office@example.org")

    @pytest.mark.parametrize(
        ("verb", "words", "why"),
        [
            (grant, ("nobody@example.org", "x@example.org"), "no such user"),
            (grant, ("alice@example.org", "x"), "not an address"),
            (grant, ("alice@example.org", "@..."), "not an address"),
            (revoke, ("alice@example.org", "x@example.org"), "was not granted"),
        ],
    )
    def test_refused(self, database: Database, verb: Any, words: tuple[str, str], why: str) -> None:
        with pytest.raises(verbs.Refusal, match=why):
            database.write(verb, *words)

    def test_twice(self, database: Database) -> None:
        database.write(grant, "alice@example.org", "x@example.org")
        with pytest.raises(verbs.Refusal, match="already"):
            database.write(grant, "alice@example.org", "X@example.org")


class TestOffers:
    def test_for_users_alone(self, tmp_path: Path) -> None:
        """Offered to all, as in the example of RFC 6710, so that no second EHLO is needed; taken after the login."""
        place = Office(tmp_path)
        said = place.connect().say("EHLO pc")
        assert "250-MT-PRIORITY\r\n250-FUTURERELEASE 2592000 2026-12-18T11:06:40Z\r\n250 AUTH" in said
        words = "MAIL FROM:<alice@example.org> MT-PRIORITY=3 HOLDFOR=10"
        assert place.connect().say("EHLO pc", words).endswith("530 5.7.0 Authentication required\r\n")
        assert place.logged_in().say(words) == "250 2.1.0 Ok\r\n"

    @pytest.mark.parametrize(
        ("words", "reply"),
        [
            ("HOLDFOR=60", "250"), ("HOLDFOR=2592001", "501 5.5.4"), ("HOLDFOR=0", "501"), ("HOLDFOR=-1", "501"), ("HOLDFOR", "501"),
            ("HOLDFOR=1 HOLDUNTIL=2026-11-18T12:00:00Z", "501"), ("HOLDUNTIL=2026-11-18T12:00:00Z", "250"), ("HOLDUNTIL=x", "501"),
            ("HOLDUNTIL=2026-11-18T14:00:00+02:00", "250"), ("HOLDUNTIL=2026-13-18T12:00:00Z", "501"), ("HOLDUNTIL=2027-11-18T12:00:00Z", "501"),
            ("HOLDUNTIL=2020-01-01T00:00:00Z", "250"), ("HOLDFOR=60 BY=30;R", "501"), ("HOLDFOR=60 BY=90;R", "250"),
            ("MT-PRIORITY=9", "250"), ("MT-PRIORITY=-9", "250"), ("MT-PRIORITY=0", "250"), ("MT-PRIORITY=10", "501 5.5.2"), ("MT-PRIORITY=+1", "501"),
            ("MT-PRIORITY=-0", "501"), ("MT-PRIORITY", "501"), ("MT-PRIORITY=3 MT-PRIORITY=3", "501"), ("BY=60;N", "250"), ("BY=-60;NT", "250"),
            ("REQUIRETLS", "250"), ("REQUIRETLS=1", "501"), ("BODY=BINARYMIME", "250"),
        ],
    )  # fmt: skip
    def test_parameters(self, tmp_path: Path, words: str, reply: str) -> None:
        connection = Office(tmp_path).logged_in()
        connection.say("EHLO pc")
        assert connection.say(f"MAIL FROM:<alice@example.org> {words}").startswith(reply)
        assert connection.say("NOOP") == "250 2.0.0 Ok\r\n"

    def test_they_reach_the_envelope_and_the_trace(self, tmp_path: Path) -> None:
        place = Office(tmp_path)
        connection = place.logged_in()
        connection.say(
            "EHLO pc", "MAIL FROM:<alice@example.org> HOLDFOR=60 MT-PRIORITY=-4 BY=90;RT REQUIRETLS"
        )
        connection.say("RCPT TO:<x@elsewhere.example>", "DATA", "TLS-Required: No\r\n\r\nhi\r\n.")
        [(envelope, data)] = place.box.taken
        assert (envelope.hold_until, envelope.priority, envelope.requiretls) == (NOW + 60, -4, True)
        assert not envelope.tls_optional  # RFC 8689 section 4.1: the parameter overrules the field
        by = envelope.deliver_by
        assert by is not None
        assert (by.deadline, by.returned, by.trace) == (NOW + 90, True, True)
        assert b"\tPRIORITY -4; " in data

    def test_tls_that_is_not_required(self, tmp_path: Path) -> None:
        place = Office(tmp_path)
        place.submit("tls-required:  no\r\nSubject: x\r\n\r\nTLS-Required: No")
        place.submit("Subject: x\r\n\r\nTLS-Required: No")
        assert [envelope.tls_optional for envelope, _ in place.box.taken] == [True, False]

    def test_without_tls_none_can_be_required(self, tmp_path: Path) -> None:
        connection = Office(tmp_path).connect(secure=False)
        assert "REQUIRETLS" not in connection.say("EHLO pc")

    def test_size_by_user(self, tmp_path: Path) -> None:
        place = Office(tmp_path)

        async def authenticate(login: str, password: str, peer: str = "") -> Any:
            return replace(ALICE, max_message_octets=1000)

        place.town.authenticate = authenticate  # type: ignore[method-assign]
        connection = place.logged_in()
        assert "SIZE 1000\r\n" in connection.say("EHLO pc")
        assert connection.say("MAIL FROM:<alice@example.org> SIZE=1001").startswith("552 5.3.4")


class TestSender:
    def submit(self, folder: Path, header: str) -> str:
        place = Office(folder)
        assert "250 2.0.0" in place.submit(f"{header}\r\n\r\nhi")
        return place.box.taken[0][1].decode()

    def test_several_authors_have_a_sender(self, tmp_path: Path) -> None:
        both = "From: alice@example.org, sales@example.org"
        assert "\r\nSender: alice@example.org\r\n" in self.submit(tmp_path / "1", both)
        own = self.submit(tmp_path / "2", f"{both}\r\nSender: sales@example.org")
        assert own.count("Sender:") == 1
        assert "Sender: sales@example.org" in own
        foreign = self.submit(tmp_path / "3", f"{both}\r\nSender: x@elsewhere.example")
        assert foreign.count("Sender:") == 1
        assert "Sender: alice@example.org" in foreign
        twice = self.submit(
            tmp_path / "4", f"{both}\r\nSender: alice@example.org\r\nSender: sales@example.org"
        )
        assert twice.count("Sender:") == 1

    def test_one_author_needs_none(self, tmp_path: Path) -> None:
        assert "Sender:" not in self.submit(tmp_path, "From: alice@example.org, Alice <alice@example.org>")

    def test_what_is_no_sender(self) -> None:
        for value in ("", "x", "a@b.example, c@d.example", "group: a@b.example;"):
            assert Draft(f"Sender: {value}\r\n".encode()).sender() is None


class Sent:
    def __init__(self, error: Exception | None = None) -> None:
        self.saved: list[bytes] = []
        self.error = error

    async def save_sent(self, user_id: int, message: Message, quota: Any) -> None:
        if self.error:
            raise self.error
        self.saved.append(message.read())


class TestCopy:
    def test_as_it_was_written(self, tmp_path: Path) -> None:
        place = Office(tmp_path)
        place.service.store = sent = Sent()
        place.submit("From: alice@example.org\r\nBcc: eve@elsewhere.example\r\nSubject: x\r\n\r\nhi")
        place.submit("words alone")
        first, second = sent.saved
        assert b"Bcc: eve@elsewhere.example" in first
        assert b"Message-ID: <" in first
        assert b"Received" not in first
        assert b"\nBcc:" not in place.box.taken[0][1]
        assert second.endswith(b"\r\n\r\nwords alone\r\n")

    def test_a_full_mailbox_stops_no_mail(self, tmp_path: Path) -> None:
        place = Office(tmp_path)
        place.service.store = Sent(OSError("full"))
        assert "250 2.0.0 Ok: queued" in place.submit("Subject: x\r\n\r\nhi")
