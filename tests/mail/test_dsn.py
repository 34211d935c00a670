"""Delivery status notifications, read back by the standard library's parser."""

from __future__ import annotations

import base64
import email
import email.policy
from dataclasses import replace
from email.message import Message

import pytest

from mailstack.mail.address import Address
from mailstack.mail.dsn import Report, Status, compose
from mailstack.mail.reply import Reply

ALICE = Address("alice", "a.test")
BOB = Address("bob", "b.test")
ORIGINAL = b"Subject: hello\r\nMessage-ID: <1@a.test>\r\n\r\nthe body\r\n"
FAILED = Status(
    BOB,
    "failed",
    Reply(550, "5.1.1", "No such user\nreally"),
    orcpt="rfc822;robert@a.test",
    remote="mx.b.test",
    last_attempt=1_000_000_060.0,
)
REPORT = Report(
    "q1.fail1", "mx.a.test", ALICE, 1_000_000_100.0, 1_000_000_000.0, "env1", (FAILED,), ORIGINAL, True
)


def parsed(report: Report) -> tuple[Message, list[Message]]:
    data = compose(report)
    assert data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")
    assert max(len(line) for line in data.split(b"\r\n")) <= 998
    message = email.message_from_bytes(data)
    assert not message.defects
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert len(parts) == 3
    return message, parts  # type: ignore[return-value]


def groups(part: Message) -> list[Message]:
    found = part.get_payload()
    assert isinstance(found, list)
    return found  # type: ignore[return-value]


class TestFailure:
    def test_the_header(self) -> None:
        message, _ = parsed(REPORT)
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "delivery-status"
        assert message["From"] == "Mail Delivery System <MAILER-DAEMON@mx.a.test>"
        assert message["To"] == "<alice@a.test>"
        assert message["Auto-Submitted"] == "auto-replied"
        assert message["Message-ID"] == "<q1.fail1@mx.a.test>"
        assert message["In-Reply-To"] == message["References"] == "<1@a.test>"
        assert message["Date"] == "Sun, 09 Sep 2001 01:48:20 -0000"

    def test_the_words(self) -> None:
        _, parts = parsed(REPORT)
        text = str(parts[0].get_payload())
        assert parts[0].get_content_type() == "text/plain"
        assert "could not be delivered" in text
        assert "<bob@b.test>" in text
        assert "mx.b.test said" in text
        assert "550 5.1.1 No such user / really" in text

    def test_the_fields(self) -> None:
        _, parts = parsed(REPORT)
        assert parts[1].get_content_type() == "message/delivery-status"
        whole, recipient = groups(parts[1])
        assert dict(whole.items()) == {
            "Original-Envelope-Id": "env1",
            "Reporting-MTA": "dns; mx.a.test",
            "Arrival-Date": "Sun, 09 Sep 2001 01:46:40 -0000",
        }
        assert dict(recipient.items()) == {
            "Original-Recipient": "rfc822;robert@a.test",
            "Final-Recipient": "rfc822;bob@b.test",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.b.test",
            "Diagnostic-Code": "smtp; 550 5.1.1 No such user / really",
            "Last-Attempt-Date": "Sun, 09 Sep 2001 01:47:40 -0000",
        }

    def test_who_gave_us_the_message(self) -> None:
        """RFC 3464 section 2.2.4: the name in EHLO, and the address as a comment, between MTA and date."""
        _, parts = parsed(replace(REPORT, received_from="mta.example ([192.0.2.1])"))
        whole, _ = groups(parts[1])
        assert whole["Received-From-MTA"] == "dns; mta.example ([192.0.2.1])"
        assert whole.keys() == ["Original-Envelope-Id", "Reporting-MTA", "Received-From-MTA", "Arrival-Date"]
        _, parts = parsed(replace(REPORT, received_from="b\u00f8b.example\r\nX-Evil: 1 ([192.0.2.1])"))
        whole, _ = groups(parts[1])
        assert whole["Received-From-MTA"] == "dns; b\\xf8b.example X-Evil: 1 ([192.0.2.1])"

    def test_the_message_comes_back(self) -> None:
        _, parts = parsed(REPORT)
        assert parts[2].get_content_type() == "message/rfc822"
        assert groups(parts[2])[0].as_bytes(policy=email.policy.SMTP) == ORIGINAL

    def test_or_its_header_alone(self) -> None:
        _, parts = parsed(replace(REPORT, full=False))
        assert parts[2].get_content_type() == "text/rfc822-headers"
        assert parts[2].get_payload() == "Subject: hello\r\nMessage-ID: <1@a.test>\r\n"

    def test_several_recipients_each_with_a_group(self) -> None:
        other = replace(
            FAILED, recipient=Address("eve", "c.test"), reply=Reply(451, "4.4.1", "no answer"), remote=None
        )
        _, parts = parsed(replace(REPORT, statuses=(FAILED, other)))
        _, first, second = groups(parts[1])
        assert (first["Final-Recipient"], second["Final-Recipient"]) == (
            "rfc822;bob@b.test",
            "rfc822;eve@c.test",
        )
        assert second["Status"] == "4.4.1"  # it expired
        assert second["Remote-MTA"] is None
        assert second["Diagnostic-Code"] == "x-mailstack; 451 4.4.1 no answer"


class TestOtherActions:
    def test_a_delay_says_how_long_we_try(self) -> None:
        late = replace(
            FAILED, action="delayed", reply=Reply(451, "4.4.1", "no answer"), will_retry_until=1_000_400_000.0
        )
        message, parts = parsed(replace(REPORT, statuses=(late,), full=False))
        assert message["Subject"] == "Delayed: your message"
        _, recipient = groups(parts[1])
        assert (recipient["Action"], recipient["Status"]) == ("delayed", "4.4.1")
        assert recipient["Will-Retry-Until"] == "Thu, 13 Sep 2001 16:53:20 -0000"
        assert "Thu, 13 Sep 2001 16:53:20" in str(parts[0].get_payload())

    def test_a_success_has_a_code_of_its_class_and_the_words_of_another_server(self) -> None:
        for action, remote in (("delivered", None), ("relayed", "mx.b.test")):
            done = replace(FAILED, action=action, reply=Reply(250, "", "ok"), remote=remote)
            _, parts = parsed(replace(REPORT, statuses=(done,), full=False))
            _, recipient = groups(parts[1])
            assert (recipient["Action"], recipient["Status"]) == (action, "2.0.0")
            assert recipient["Diagnostic-Code"] == (remote and "smtp; 250 ok")
            assert recipient["Last-Attempt-Date"] == "Sun, 09 Sep 2001 01:47:40 -0000"

    @pytest.mark.parametrize("strange", ["5.01.1", "5.1.001", "5.1", "5.1.1.1", "5.1.\u0661", "9.1.1"])
    def test_a_code_that_is_none_is_not_passed_on(self, strange: str) -> None:
        _, parts = parsed(replace(REPORT, statuses=(replace(FAILED, reply=Reply(550, strange, "no")),)))
        _, recipient = groups(parts[1])
        assert recipient["Status"] == "5.0.0"


class TestHostileInput:
    def test_a_reply_cannot_add_fields(self) -> None:
        nasty = replace(
            FAILED, reply=Reply(550, "5.0.0", "x\nAction: delivered\r\n\r\n--=_report"), remote="mx\r\nX: y"
        )
        _, parts = parsed(replace(REPORT, statuses=(nasty,), envid="e\r\nX: y"))
        whole, recipient = groups(parts[1])
        assert recipient.get_all("Action") == ["failed"]
        assert whole["X"] is None
        assert recipient["X"] is None

    def test_a_long_reply_is_folded(self) -> None:
        long = replace(FAILED, reply=Reply(550, "5.0.0", "word " * 1000))
        _, parts = parsed(replace(REPORT, statuses=(long,)))
        _, recipient = groups(parts[1])
        assert str(recipient["Diagnostic-Code"]).count("word") == 1000

    def test_8_bit_content_is_declared(self) -> None:
        _, parts = parsed(replace(REPORT, original=b"Subject: x\r\n\r\ncaf\xc3\xa9\r\n"))
        assert parts[2]["Content-Transfer-Encoding"] == "8bit"
        assert parts[2].get_content_type() == "message/rfc822"

    def test_a_message_with_nothing_in_it(self) -> None:
        parsed(replace(REPORT, original=b""))
        parsed(replace(REPORT, original=b"no header at all", full=False))


BOEB = Address("bøb", "b.test")
JOSE = Address("josé", "a.test")
GLOBAL = replace(
    REPORT,
    to=JOSE,
    original="Subject: grüß dich\r\n\r\nthe body\r\n".encode(),
    statuses=(
        replace(
            FAILED,
            recipient=BOEB,
            orcpt="utf-8;b\\x{F8}b\\x{2B}x@a.test",
            reply=Reply(550, "5.1.1", "bøb ist weg"),
        ),
    ),
)


class TestUtf8:
    def test_word_for_word(self) -> None:
        """RFC 6533 section 4: to a return address that is in UTF-8 too."""
        assert GLOBAL.smtputf8
        assert compose(GLOBAL).decode() == (
            "From: Mail Delivery System <MAILER-DAEMON@mx.a.test>\r\n"
            "To: <josé@a.test>\r\n"
            "Subject: Not delivered: your message\r\n"
            "Date: Sun, 09 Sep 2001 01:48:20 -0000\r\n"
            "Message-ID: <q1.fail1@mx.a.test>\r\n"
            "Auto-Submitted: auto-replied\r\n"
            "MIME-Version: 1.0\r\n"
            "Content-Type: multipart/report; report-type=delivery-status;\r\n"
            '\tboundary="=_report_q1.fail1"\r\n'
            "\r\n"
            "--=_report_q1.fail1\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: 8bit\r\n"
            "\r\n"
            "This is the mail server mx.a.test.\r\n"
            "\r\n"
            "Your message could not be delivered to:\r\n"
            "\r\n"
            "  <bøb@b.test>\r\n"
            "    The server mx.b.test said:\r\n"
            "    550 5.1.1 bøb ist weg\r\n"
            "\r\n"
            "Please check the address, or ask the recipient by other means. Your message is attached.\r\n"
            "\r\n"
            "--=_report_q1.fail1\r\n"
            "Content-Type: message/global-delivery-status\r\n"
            "Content-Transfer-Encoding: 8bit\r\n"
            "\r\n"
            "Original-Envelope-Id: env1\r\n"
            "Reporting-MTA: dns; mx.a.test\r\n"
            "Arrival-Date: Sun, 09 Sep 2001 01:46:40 -0000\r\n"
            "\r\n"
            "Original-Recipient: utf-8;bøb+x@a.test\r\n"
            "Final-Recipient: utf-8;bøb@b.test\r\n"
            "Action: failed\r\n"
            "Status: 5.1.1\r\n"
            "Remote-MTA: dns; mx.b.test\r\n"
            "Diagnostic-Code: smtp; 550 5.1.1 bøb ist weg\r\n"
            "Last-Attempt-Date: Sun, 09 Sep 2001 01:47:40 -0000\r\n"
            "\r\n"
            "--=_report_q1.fail1\r\n"
            "Content-Type: message/global\r\n"
            "Content-Transfer-Encoding: 8bit\r\n"
            "\r\n"
            "Subject: grüß dich\r\n"
            "\r\n"
            "the body\r\n"
            "\r\n"
            "--=_report_q1.fail1--\r\n"
        )

    def test_in_seven_bits_to_a_return_address_that_may_not_take_more(self) -> None:
        report = replace(GLOBAL, to=ALICE)
        assert not report.smtputf8
        assert compose(report).isascii()
        _, parts = parsed(report)
        assert [one.get_content_type() for one in parts[:2]] == [
            "text/plain",
            "message/global-delivery-status",
        ]
        assert "<bøb@b.test>" in decoded(parts[0])
        assert "Final-Recipient: utf-8;bøb@b.test\r\n" in decoded(parts[1])
        assert parts[2]["Content-Transfer-Encoding"] == "base64"
        assert decoded(parts[2]) == report.original.decode()
        _, parts = parsed(replace(report, full=False))
        assert parts[2].get_content_type() == "message/global-headers"
        assert decoded(parts[2]) == "Subject: grüß dich\r\n"

    def test_the_types_of_old_are_in_seven_bits(self) -> None:
        status = replace(FAILED, reply=Reply(550, "5.1.1", "weg für immer"), orcpt="utf-8;bøb@a.test")
        _, parts = parsed(replace(REPORT, statuses=(status,)))
        assert parts[1].get_content_type() == "message/delivery-status"
        _, recipient = groups(parts[1])
        assert recipient["Diagnostic-Code"] == "smtp; 550 5.1.1 weg f\\xfcr immer"
        assert recipient["Original-Recipient"] == "utf-8;b\\x{F8}b@a.test"

    def test_original_recipients_that_are_no_characters(self) -> None:
        for address in (
            "x\\x{110000}@a.test",
            "x\\x{zz}@a.test",
            "x\\x{@a.test",
            "x\\x{D800}@a.test",
            "x\\x{0A}Action: relayed",
        ):
            report = replace(GLOBAL, statuses=(replace(GLOBAL.statuses[0], orcpt=f"utf-8;{address}"),))
            data = compose(report)
            assert data.count(b"\r\nAction: ") == 1


def decoded(part: Message) -> str:
    """The content of a part in base64, which the library leaves alone in types that it does not know."""
    payload = part.get_payload()
    text = payload if isinstance(payload, str) else "".join(one.as_string() for one in payload)
    return base64.b64decode(text).decode()
