"""The reception of mail: envelope, content, trace fields, limits, failures, the log."""

from __future__ import annotations

import errno
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Stored
from mailstack.mail.reply import Reply
from mailstack.mta.relay_settings import RelayConfig
from mailstack.net.reception import SmtpRole
from mailstack.net.replies import conclusion
from mailstack.net.trace import Names, date_time, hops, transmission
from mailstack.net.transaction import Reception
from tests.net.fakes import NOW, Box, Connection, Here, reception


class AnyService:
    """A service that asks nothing of anybody."""

    def __init__(self, config: RelayConfig, box: Box, made: Reception) -> None:
        self.config, self.box, self.made = config, box, made

    def welcome(self, peer: Any, say: Any) -> SmtpRole:
        return SmtpRole(self.config, "mx.example.org", self.box, self.made, peer)


class Place:
    """Everything a test of reception needs."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder = folder / "incoming"
        self.work = Here()
        self.box = Box()
        self.made, self.clock = reception(self.work, self.folder)
        self.service = AnyService(RelayConfig(**limits), self.box, self.made)

    def connect(self, **options: Any) -> Connection:
        return Connection(self.service, self.clock, **options)

    def ready(self, *recipients: str, **options: Any) -> Connection:
        """A connection with an envelope, before DATA."""
        connection = self.connect(**options)
        connection.say("EHLO client.example", "MAIL FROM:<alice@example.net> BODY=8BITMIME")
        for one in recipients or ("bob@example.org",):
            assert connection.say(f"RCPT TO:<{one}>").startswith("250 2.1.5")
        return connection

    def files(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def log() -> Any:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


MESSAGE = "Subject: hello\r\n\r\nworld\r\n"


class TestMessage:
    def test_taken_with_its_envelope_and_trace(self, place: Place) -> None:
        connection = place.connect()
        assert connection.greeting == "220 mx.example.org ESMTP\r\n"
        connection.say("EHLO client.example", "MAIL FROM:<Alice@Example.net> SIZE=30 RET=HDRS ENVID=x1")
        connection.say("RCPT TO:<bob@example.org> NOTIFY=NEVER", "DATA")
        said = connection.send(MESSAGE.encode() + b".\r\n")
        [(envelope, data)] = place.box.taken
        assert said == f"250 2.0.0 Ok: queued as {envelope.id}\r\n"
        assert re.fullmatch("[0-9A-Za-z]+", envelope.id)
        assert envelope.reverse_path == Address("Alice", "example.net")
        assert [str(one.address) for one in envelope.recipients] == ["bob@example.org"]
        assert envelope.recipients[0].notify == {"NEVER"}
        assert envelope.received_from == "client.example ([192.0.2.1])"
        assert (envelope.ret, envelope.envid, envelope.authenticated) == ("HDRS", "x1", None)
        assert data.decode() == (
            "Received: from client.example ([192.0.2.1])\r\n"
            f"\tby mx.example.org with ESMTP id {envelope.id}\r\n"
            "\tfor <bob@example.org>; Wed, 18 Nov 2026 11:06:40 +0000\r\n" + MESSAGE
        )

    def test_blind_copies_are_not_told(self, place: Place) -> None:
        connection = place.ready("bob@example.org", "carol@example.org")
        connection.say("DATA", MESSAGE + ".")
        [(_, data)] = place.box.taken
        assert b"for <" not in data
        assert b"; Wed, 18 Nov 2026" in data

    def test_one_recipient_twice_gets_one_copy(self, place: Place) -> None:
        place.ready("bob@example.org", "bob@EXAMPLE.org").say("DATA", MESSAGE + ".")
        assert len(place.box.taken[0][0].recipients) == 1

    def test_elsewhere_case_may_matter(self, place: Place) -> None:
        place.ready("bob@example.org", "BOB@example.org").say("DATA", MESSAGE + ".")
        assert len(place.box.taken[0][0].recipients) == 2

    def test_two_messages_have_their_own_envelopes(self, place: Place) -> None:
        connection = place.ready()
        connection.say("DATA", MESSAGE + ".")
        connection.say("MAIL FROM:<>", "RCPT TO:<carol@example.org>", "DATA", MESSAGE + ".")
        first, second = (envelope for envelope, _ in place.box.taken)
        assert first.id != second.id
        assert second.reverse_path is None
        assert [str(one.address) for one in second.recipients] == ["carol@example.org"]

    def test_ipv6_and_tls_in_the_trace(self, place: Place) -> None:
        connection = place.ready(address="2001:db8::1", secure=True)
        connection.say("DATA", MESSAGE + ".")
        data = place.box.taken[0][1]
        assert b"([IPv6:2001:db8::1])" in data
        assert b" with ESMTPS id " in data

    def test_in_chunks(self, place: Place) -> None:
        connection = place.ready()
        assert connection.send(b"BDAT 14\r\nSubject: hello") == "250 2.0.0 14 octets received\r\n"
        assert connection.send(b"BDAT 11 LAST\r\n\r\n\r\nworld\r\n").startswith("250 2.0.0 Ok: queued as ")
        assert place.box.taken[0][1].endswith(b"\r\n" + MESSAGE.encode())

    def test_text_without_header_keeps_its_first_lines(self, place: Place) -> None:
        place.ready().say("DATA", "hello world", "second line", ".")
        data = place.box.taken[0][1]
        header, _, body = data.partition(b"\r\n\r\n")
        assert header.startswith(b"Received: ")
        assert body == b"hello world\r\nsecond line\r\n"

    def test_empty_header_section(self, place: Place) -> None:
        place.ready().say("DATA", "", "hello", ".")
        assert place.box.taken[0][1].partition(b"\r\n\r\n")[2] == b"hello\r\n"

    @pytest.mark.parametrize(
        ("replies", "answer"),
        [
            (("250 2.0.0", "550 5.1.1"), "250 2.0.0"),
            (("550 5.1.1", "450 4.2.1"), "450 4.2.1"),
            (("550 5.1.1", "551 5.1.6"), "550 5.1.1"),
        ],
    )
    def test_one_reply_for_all(self, place: Place, replies: tuple[str, str], answer: str) -> None:
        for name, text in zip(("bob", "carol"), replies, strict=True):
            code, enhanced = text.split()
            place.box.replies[f"{name}@example.org"] = Reply(int(code), enhanced, "as told")
        connection = place.ready("bob@example.org", "carol@example.org")
        assert connection.say("DATA", MESSAGE + ".").split("\r\n")[1].startswith(answer)
        assert connection.say("MAIL FROM:<>").startswith("250")

    def test_nobody_answered_is_no_promise(self) -> None:
        assert conclusion(Envelope("x", None, ()), {}).code == 451

    def test_a_bug_asks_to_try_again(self, place: Place) -> None:
        place.box.error = ZeroDivisionError("a bug")
        connection = place.ready()
        assert connection.say("DATA", MESSAGE + ".").split("\r\n")[1].startswith("451 4.3.0")
        place.box.error = None
        said = connection.say("MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA", MESSAGE + ".")
        assert said.split("\r\n")[3].startswith("250 2.0.0 Ok: queued")

    def test_the_promise_waits_for_who_takes_charge(self, place: Place) -> None:
        place.box.held = held = Deferred()
        connection = place.ready()
        assert connection.say("DATA", MESSAGE + ".") == "354 End data with <CR><LF>.<CR><LF>\r\n"
        held.callback(None)
        assert connection.heard().startswith("250 2.0.0 Ok: queued")


class TestSpool:
    BIG = b"Subject: big\r\n\r\n" + b"".join(b"%060d\r\n" % i for i in range(85_000))

    def test_five_megabytes_pass_unchanged(self, place: Place) -> None:
        connection = place.ready()
        connection.say("DATA")
        for i in range(0, len(self.BIG), 65_536):
            connection.send(self.BIG[i : i + 65_536])
            assert sum(map(len, connection.conversation._role._transaction.content._blocks)) <= 65_536
        assert place.files()
        assert connection.send(b".\r\n").startswith("250 2.0.0 Ok")
        [(_, data)] = place.box.taken
        assert data.endswith(b"\r\n" + self.BIG)
        assert hops(data) == 1
        assert isinstance(place.box.messages[0].parts[1], Stored)
        assert place.files() == []

    def test_small_stays_in_memory(self, place: Place) -> None:
        place.ready().say("DATA", "Subject: x\r\n\r\n" + "y" * 60_000, ".")
        assert place.work.calls == []
        assert len(place.box.taken) == 1

    @pytest.mark.parametrize("end", ["vanish", "RSET", "EHLO again", "QUIT"])
    def test_what_is_given_up_is_removed(self, place: Place, end: str) -> None:
        connection = place.ready()
        connection.send(b"BDAT 100000\r\n" + b"x" * 99_998 + b"\r\n")
        assert place.files()
        if end == "vanish":
            connection.vanish()
        else:
            connection.say(end)
        assert place.files() == []

    def test_vanishing_while_it_is_taken(self, place: Place) -> None:
        place.box.held = held = Deferred()
        connection = place.ready()
        connection.say("DATA")
        connection.send(self.BIG + b".\r\n")
        connection.vanish()
        assert place.files()  # whoever takes charge may still read it
        held.callback(None)
        assert place.box.taken[0][1].endswith(self.BIG)
        assert place.files() == []

    def test_the_sender_waits_for_the_disk(self, place: Place) -> None:
        connection = place.ready()
        connection.say("DATA")
        place.work.held = []
        connection.send(b"x" * 70_000)
        connection.send(b"x")
        assert connection.transport.producerState == "paused"
        place.work.release()
        assert connection.transport.producerState == "producing"
        assert connection.send(b"\r\n.\r\n").startswith("250")

    def test_vanishing_while_the_disk_works(self, place: Place) -> None:
        connection = place.ready()
        connection.say("DATA")
        place.work.held = []
        connection.send(b"x" * 70_000)
        connection.vanish()
        place.work.release()
        assert place.files() == []

    @pytest.mark.parametrize(("number", "reply"), [(errno.ENOSPC, "452 4.3.1"), (errno.EIO, "451 4.3.0")])
    def test_disk_errors(self, place: Place, number: int, reply: str) -> None:
        connection = place.ready()
        connection.say("DATA")
        place.work.fails = OSError(number, "the disk")
        assert connection.send(self.BIG[:200_000]) == ""
        assert connection.send(self.BIG[200_000:]) == ""
        assert connection.send(b".\r\n").startswith(reply)
        place.work.fails = None
        connection.say("MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA")
        assert connection.send(self.BIG + b".\r\n").startswith("250 2.0.0 Ok")
        assert [data.endswith(self.BIG) for _, data in place.box.taken] == [True]
        assert place.files() == []

    def test_disk_error_in_a_chunk(self, place: Place) -> None:
        connection = place.ready()
        place.work.fails = OSError(errno.ENOSPC, "full")
        assert connection.send(b"BDAT 100000\r\n" + b"x" * 100_000 + b"NOOP\r\n") == (
            "452 4.3.1 Out of disk space; try again later\r\n250 2.0.0 Ok\r\n"
        )
        assert connection.say("BDAT 0 LAST").startswith("503")


class TestLimits:
    def test_declared_size(self, tmp_path: Path) -> None:
        connection = Place(tmp_path, max_message_octets=100).connect()
        said = connection.say("EHLO x", "MAIL FROM:<> SIZE=101", "MAIL FROM:<> SIZE=100")
        assert "250-SIZE 100\r\n" in said
        assert said.endswith("552 5.3.4 Message is too big\r\n250 2.1.0 Ok\r\n")

    def test_actual_size(self, tmp_path: Path) -> None:
        place = Place(tmp_path, max_message_octets=200_000)
        connection = place.ready()
        connection.say("DATA")
        for _ in range(30):
            assert connection.send(b"x" * 10_000) == ""
        assert place.files() == []
        assert connection.send(b"\r\n.\r\n") == "552 5.3.4 Message is too big\r\n"
        assert connection.say("MAIL FROM:<>") == "250 2.1.0 Ok\r\n"
        connection.say("RCPT TO:<bob@example.org>", "DATA")
        assert connection.send(b"x" * 199_998 + b"\r\n.\r\n").startswith("250 2.0.0 Ok")

    def test_size_of_chunks_together(self, tmp_path: Path) -> None:
        place = Place(tmp_path, max_message_octets=10)
        connection = place.ready()
        assert connection.say("BDAT 8", "123456").startswith("250")
        assert connection.say("BDAT 3 LAST\r\nx").startswith("552 5.3.4")
        assert place.box.taken == []

    def test_recipients(self, tmp_path: Path) -> None:
        connection = Place(tmp_path, max_recipients=2).ready("a@example.org", "b@example.org")
        assert connection.say("RCPT TO:<c@example.org>").startswith("452 4.5.3")
        assert connection.say("DATA").startswith("354")

    def test_errors(self, tmp_path: Path) -> None:
        connection = Place(tmp_path, max_errors=2).connect()
        assert connection.say("FOO", "FOO", "FOO", "NOOP").split("\r\n") == [
            "500 5.5.1 Command not recognized",
            "500 5.5.1 Command not recognized",
            "421 4.7.0 Too many errors; closing",
            "",
        ]
        assert connection.transport.disconnecting

    def test_loops(self, tmp_path: Path) -> None:
        place = Place(tmp_path, max_received=3)
        fields = "Received: by a;\r\n\tnow\r\nRECEIVED : by b\r\nX-Received: no\r\nReceived: by c\r\n"
        place.ready().say("DATA", fields + "\r\nReceived: in the body\r\n", ".")
        assert len(place.box.taken) == 1
        said = place.ready().say("DATA", fields + "Received: by d\r\n\r\nbody", ".")
        assert said.split("\r\n")[1].startswith("554 5.4.6")
        assert len(place.box.taken) == 1

    def test_an_endless_header_section(self, place: Place) -> None:
        connection = place.ready()
        connection.say("DATA")
        for i in range(30):
            assert connection.send(b"X-%d: y\r\n" % i * 2000) == ""
        assert connection.send(b".\r\n") == "552 5.3.4 Header section is too big\r\n"
        assert place.files() == []

    @pytest.mark.parametrize(
        "content", [b"a\nb", b"a\rb", b"\n.\nMAIL FROM:<evil@example.net>\n", b"a\r\r\n"]
    )
    def test_bare_line_ends(self, place: Place, content: bytes) -> None:
        connection = place.ready()
        connection.say("DATA")
        said = connection.send(content + b"\r\n.\r\nNOOP\r\n")
        assert (
            said
            == "550 5.6.11 Message contains a bare CR or LF; lines end with CRLF only\r\n250 2.0.0 Ok\r\n"
        )
        assert place.box.taken == []

    def test_silence(self, place: Place) -> None:
        connection = place.ready()
        place.clock.advance(299)
        assert connection.heard() == ""
        place.clock.advance(2)
        assert connection.heard().startswith("421 4.4.2 mx.example.org")

    def test_silence_within_content(self, place: Place) -> None:
        connection = place.ready()
        connection.say("DATA")
        connection.send(b"half a mess")
        place.clock.advance(301)
        assert connection.heard().startswith("421 4.4.2")
        assert place.box.taken == []


class TestOtherCommands:
    def test_answers(self, place: Place) -> None:
        said = place.connect().say(
            "VRFY bob", "EXPN staff", "HELP", "NOOP", "RSET", "EHLO x", "AUTH PLAIN", "QUIT"
        )
        codes = [line[:9] for line in said.split("\r\n") if not line.startswith("250-")]
        assert codes == [
            "252 2.0.0", "502 5.5.1", "214 2.0.0", "250 2.0.0", "250 2.0.0", "250 DELIV", "502 5.5.1", "221 2.0.0", "",
        ]  # fmt: skip

    def test_starttls_forgets(self, place: Place) -> None:
        class Upgrade(AnyService):
            def welcome(self, peer: Any, say: Any) -> SmtpRole:
                role = super().welcome(peer, say)
                offers = role.hello()
                role.hello = lambda: (*offers, "STARTTLS")  # type: ignore[method-assign]
                return role

        connection = Connection(Upgrade(RelayConfig(), place.box, place.made), place.clock)
        connection.say("EHLO first.example")
        assert connection.say("STARTTLS", "EHLO injected.example") == "220 2.0.0 Ready to start TLS\r\n"
        assert connection.say("MAIL FROM:<>").startswith("503")
        connection.say(
            "EHLO second.example", "MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA", MESSAGE + "."
        )
        assert b"from second.example" in place.box.taken[0][1]
        assert b"with ESMTPS" in place.box.taken[0][1]


class TestLog:
    def test_accepted(self, place: Place, log: list[dict[str, Any]]) -> None:
        place.ready("bob@example.org", "carol@example.org").say("DATA", MESSAGE + ".")
        [event] = [one for one in log if "id" in one]
        assert event["id"] == place.box.taken[0][0].id
        assert (event["sender"], event["peer"]) == ("<alice@example.net>", "192.0.2.1")
        assert event["recipients"] == "bob@example.org, carol@example.org"
        assert event["size"] == len(MESSAGE)
        assert event["reply"].startswith("250 2.0.0")

    def test_refused(self, place: Place, log: list[dict[str, Any]]) -> None:
        place.box.reply = Reply(550, "5.7.1", "Spam")
        place.ready().say("DATA", MESSAGE + ".")
        [event] = [one for one in log if one.get("what") == "message"]
        assert event["reply"] == "550 5.7.1 Spam"
        assert event["recipients"] == "bob@example.org"

    def test_many_recipients_are_one_line(self, place: Place, log: list[dict[str, Any]]) -> None:
        place.ready(*(f"u{i}@example.org" for i in range(30))).say("DATA", MESSAGE + ".")
        [event] = [one for one in log if "recipients" in one]
        assert event["recipients"].endswith("u19@example.org and 10 more")


class TestTrace:
    def test_names_are_unique_and_in_order_of_time(self) -> None:
        clock = Clock()
        clock.advance(NOW)

        class Chance:
            def getrandbits(self, k: int) -> int:
                return (1 << k) - 1

        names = []
        for _ in range(200):
            names.append(Names(clock, Chance()).new())
            clock.advance(0.7)
        assert names == sorted(set(names))
        assert {len(name) for name in names} == {15}
        assert all(re.fullmatch("[0-9A-Za-z]+", name) for name in names)

    def test_dates(self) -> None:
        assert date_time(0) == "Thu, 1 Jan 1970 00:00:00 +0000"
        assert date_time(951_782_399.9) == "Mon, 28 Feb 2000 23:59:59 +0000"

    @pytest.mark.parametrize(
        ("how", "kind"),
        [
            (("SMTP", True, False, False), "SMTP"),
            (("ESMTP", False, False, False), "ESMTP"),
            (("ESMTP", True, True, False), "ESMTPSA"),
            (("ESMTP", False, True, False), "ESMTPA"),
            (("ESMTP", True, False, True), "UTF8SMTPS"),
            (("LMTP", False, False, False), "LMTP"),
            (("LMTP", True, False, False), "LMTPS"),
            (("LMTP", False, False, True), "UTF8LMTP"),
            (("ESMTP", True, True, True), "UTF8SMTPSA"),
        ],
    )
    def test_protocol_types(self, how: tuple[str, bool, bool, bool], kind: str) -> None:
        assert transmission(*how) == kind


WORDS = st.sampled_from(
    [
        "EHLO x", "HELO x", "MAIL FROM:<a@b.example>", "MAIL FROM:<> SMTPUTF8", "RCPT TO:<c@d.example>", "DATA", ".", "QUIT",
        "BDAT 5", "BDAT 3 LAST", "hello", "RSET", "AUTH PLAIN", "AUTH LOGIN YQ==", "*", "YQ==", "NOOP", "VRFY x", "EXPN x",
        "HELP", "\0", "\n", "x" * 1100, "RCPT TO:<postmaster>", "MAIL FROM:<a@b.example> SIZE=9999999999", "Received: x",
        "", "BDAT 200000",
    ]
)  # fmt: skip


class TestAnything:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.one_of(WORDS, st.text(max_size=20)), max_size=40))
    def test_no_words_find_a_bug(self, words: list[str]) -> None:
        failures: list[Any] = []

        def watch(event: dict[str, Any]) -> None:
            if "log_failure" in event:
                failures.append(event)

        globalLogPublisher.addObserver(watch)
        try:
            with tempfile.TemporaryDirectory() as folder:
                place = Place(Path(folder), max_message_octets=1000)
                connection = place.connect()
                for word in ["EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b.example>", *words]:
                    if not connection.transport.disconnecting:
                        said = connection.send(word.encode("utf-8", "replace") + b"\r\n")
                        assert "451" not in said[:3]
                connection.vanish()
                assert place.files() == []
        finally:
            globalLogPublisher.removeObserver(watch)
        assert failures == []
