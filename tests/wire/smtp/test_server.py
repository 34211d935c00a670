"""The SMTP session: what may be said when, with which arguments, in which lines."""

from __future__ import annotations

import pytest

from mailstack.mail.address import Address
from mailstack.mail.envelope import Recipient
from mailstack.mail.reply import Reply
from mailstack.wire.smtp import TRANSITIONS, Server, State, events
from tests.wire.smtp.transcripts import EHLO, RCPT, Client, Yes, converse


class TestSequence:
    def test_a_message(self) -> None:
        role = converse(
            RCPT
            + """C: DATA
S: 354 Go ahead
C: Subject: hello
C:
C: ..a dot
C: .
S: 250 2.0.0 Queued
C: QUIT
S: 221 2.0.0 Bye
"""
        )
        assert role.messages == [b"Subject: hello\r\n\r\n.a dot\r\n"]

    def test_helo_offers_nothing(self) -> None:
        converse(
            """
            S: 220 mx
            C: HELO client.example
            S: 250 mx.example.org
            C: MAIL FROM:<a@b.example> SIZE=3
            S: 555 5.5.4
            C: STARTTLS
            S: 502 5.5.1
            C: MAIL FROM:<a@b.example>
            S: 250 2.
            """
        )

    def test_all_at_once(self) -> None:
        role = converse(
            EHLO
            + """C: MAIL FROM:<>
C: RCPT TO:<no-one@example.org>
C: RCPT TO:<bob@example.org>
C: DATA
C: one
C: .
C: MAIL FROM:<a@b.example>
C: RCPT TO:<c@d.example>
C: DATA
C: two
C: .
C: QUIT
C: MAIL FROM:<after@quit.example>
S: 250 2.0.0
S: 550 5.1.1
S: 250 2.0.0
S: 354
S: 250 2.0.0 Queued
S: 250
S: 250
S: 354
S: 250 2.0.0 Queued
S: 221
"""
        )
        assert role.messages == [b"one\r\n", b"two\r\n"]

    def test_data_without_a_valid_recipient(self) -> None:
        """RFC 5321 section 3.3: 554 or 503, and the lines that follow are commands."""
        converse(
            EHLO
            + """C: MAIL FROM:<a@b.example>
S: 250
C: RCPT TO:<no-one@example.org>
S: 550
C: DATA
S: 554 5.5.1
C: .
S: 500 5.5.1
"""
        )

    OUT_OF_ORDER = {
        "": ["MAIL FROM:<a@b.example>", "RCPT TO:<a@b.example>", "DATA", "AUTH PLAIN", "STARTTLS", "BDAT 0 LAST"],
        "EHLO x": ["RCPT TO:<a@b.example>", "DATA", "BDAT 0 LAST"],
        "EHLO x\nMAIL FROM:<>": ["MAIL FROM:<>", "AUTH PLAIN", "STARTTLS"],
        "EHLO x\nMAIL FROM:<>\nRCPT TO:<a@b.example>": ["MAIL FROM:<>", "AUTH LOGIN", "STARTTLS"],
        "EHLO x\nMAIL FROM:<>\nRCPT TO:<a@b.example>\nBDAT 0": [
            "MAIL FROM:<>", "RCPT TO:<a@b.example>", "DATA", "AUTH PLAIN", "STARTTLS",
        ],
        "EHLO x\nMAIL FROM:<>\nRCPT TO:<a@b.example>\nRSET": ["RCPT TO:<a@b.example>", "DATA"],
        "EHLO x\nMAIL FROM:<>\nRCPT TO:<a@b.example>\nEHLO y": ["RCPT TO:<a@b.example>", "DATA"],
        "EHLO x\nAUTH PLAIN AGEAYg==": ["AUTH PLAIN AGEAYg==", "AUTH LOGIN"],
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("before", "command"), [(before, one) for before, all_ in OUT_OF_ORDER.items() for one in all_]
    )
    def test_out_of_order(self, before: str, command: str) -> None:
        client = Client()
        for line in before.split("\n") if before else ():
            assert client.hear(line.encode() + b"\r\n")[:1] == b"2"
        state = client.session.state
        code = b"502 5.5.1" if (before, command) == ("", "BDAT 0 LAST") else b"503 5.5.1"
        assert client.hear(command.encode() + b"\r\n").startswith(code)
        assert client.session.state is state
        assert client.hear(b"NOOP\r\n").startswith(b"250")

    def test_anytime_commands(self) -> None:
        for state, row in TRANSITIONS.items():
            if state not in (State.UNWANTED, State.CLOSED, State.AUTH, State.DATA, State.BDAT):
                assert {events.Noop, events.Reset, events.Helo, events.Quit, events.Vrfy} <= row.keys()
                assert row[events.Helo] is State.READY
                assert row[events.Noop] is state

    def test_after_a_refusing_greeting_only_quit_is_heard(self) -> None:
        """RFC 5321 section 3.1: it MUST wait for that, and SHOULD answer 503 to all else."""
        converse(
            r"""
            S: 554 5.3.2 No service
            C: EHLO client.example
            S: 503 5.5.1 Bad sequence of commands
            C: MAIL FROM:<a@b.example>
            C: RCPT TO:<x@example.org>
            C: DATA
            C: RSET
            C: NOOP
            C: STARTTLS
            C: AUTH PLAIN
            S: 503 5.5.1
            S: 503 5.5.1
            S: 503 5.5.1
            S: 503 5.5.1
            S: 503 5.5.1
            S: 503 5.5.1
            S: 503 5.5.1
            C: XYZZY
            S: 500 5.5.1
            C: BDAT 4 LAST
            C: QUIT\c
            S: 502 5.5.1
            C: QUIT
            S: 221
            """,
            greeting=Reply(554, "5.3.2", "No service"),
        )

    def test_a_greeting_of_421_closes(self) -> None:
        session = Server()
        assert session.send(Reply(421, "4.3.2", "Not now")) == b"421 4.3.2 Not now\r\n"
        assert session.closed
        session.receive_data(b"EHLO x\r\n")
        assert session.next_event() is None

    def test_421_closes_anywhere(self) -> None:
        for text in (b"", b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nhalf a mess"):
            client = Client()
            client.hear(text)
            assert client.session.send(Reply(421, "4.4.2", "Idle")) == b"421 4.4.2 Idle\r\n"
            assert client.session.closed
            assert client.hear(b"age\r\n.\r\nNOOP\r\n") == b""


class TestArguments:
    GOOD_MAIL = {
        "<>": events.Mail(None),
        "<a@b.example>": events.Mail(Address("a", "b.example")),
        " <a@b.example>": events.Mail(Address("a", "b.example")),
        "<a@B.Example> ": events.Mail(Address("a", "b.example")),
        '<"a b>\\"@"@b.example>': events.Mail(Address('a b>"@', "b.example")),
        "<@relay.example,@[192.0.2.1]:a@b.example>": events.Mail(Address("a", "b.example")),
        "<@[IPv6:2001:db8::1]:a@b.example>": events.Mail(Address("a", "b.example")),
        "<a%c.example@b.example>": events.Mail(Address("a%c.example", "b.example")),
        "<a@[192.0.2.1]>": events.Mail(Address("a", "[192.0.2.1]")),
        "<a@b.example> SIZE=100 BODY=8bitmime": events.Mail(Address("a", "b.example"), 100, "8BITMIME"),
        "<a@b.example> size=0": events.Mail(Address("a", "b.example"), 0),
        "<ä@b.example> SMTPUTF8": events.Mail(Address("ä", "b.example"), smtputf8=True),
        "<a@bücher.example> SMTPUTF8": events.Mail(Address("a", "bücher.example"), smtputf8=True),
        "<> RET=HDRS ENVID=QQ+2B314": events.Mail(None, ret="HDRS", envid="QQ+314"),
        "<> AUTH=<>": events.Mail(None, auth=""),
        "<> AUTH=e+3Dmc2@example.org": events.Mail(None, auth="e=mc2@example.org"),
    }

    @pytest.mark.parametrize("text", GOOD_MAIL)
    def test_mail(self, text: str) -> None:
        role = Yes()
        Client(role).hear(f"EHLO x\r\nMAIL FROM:{text}\r\n".encode())
        assert role.events[1] == self.GOOD_MAIL[text]

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("a@b.example", 501),
            ("<a@b.example", 501),
            ("<a>", 501),
            ("<a@>", 501),
            ("<@b.example>", 501),
            ("<a@b..example>", 501),
            ("<a b@c.example>", 501),
            ("<<a@b.example>>", 501),
            ('<"a@b.example>', 501),
            ("<@bad route:a@b.example>", 501),
            ("<@r.example:>", 501),
            ("<" + "a" * 65 + "@b.example>", 501),
            ("<a@b.example>SIZE=1", 501),
            ("<a@b.example> SIZE=", 501),
            ("<a@b.example> SIZE", 501),
            ("<a@b.example> SIZE=-1", 501),
            ("<a@b.example> SIZE=1 SIZE=2", 501),
            ("<a@b.example> SIZE=" + "1" * 21, 501),
            ("<a@b.example> =1", 501),
            ("<a@b.example> BODY=BINARYMIME", 501),
            ("<a@b.example> RET=SOME", 501),
            ("<a@b.example> ENVID=a+0D+0Ab", 501),
            ("<a@b.example> ENVID=a+2", 501),
            ("<a@b.example> SMTPUTF8=1", 501),
            ("<a@b.example> NOTIFY=NEVER", 555),
            ("<a@b.example> X-UNKNOWN=1", 555),
            ("<a@b.example>" + " A=1" * 30, 501),
            ("<ä@b.example>", 553),
            ("", 501),
        ],
    )
    def test_bad_mail(self, text: str, code: int) -> None:
        client = Client()
        client.hear(b"EHLO x\r\n")
        assert client.hear(f"MAIL FROM:{text}\r\n".encode()).startswith(b"%d 5." % code)
        assert client.hear(b"MAIL FROM:<>\r\n").startswith(b"250")

    GOOD_RCPT = {
        "<b@c.example>": Recipient(Address("b", "c.example")),
        "<Postmaster>": Recipient(Address("Postmaster", "")),
        "<@r.example:b@c.example>": Recipient(Address("b", "c.example")),
        "<b@c.example> NOTIFY=SUCCESS,delay": Recipient(
            Address("b", "c.example"), frozenset({"SUCCESS", "DELAY"})
        ),
        "<b@c.example> NOTIFY=NEVER ORCPT=rfc822;b+2B1@c.example": Recipient(
            Address("b", "c.example"), frozenset({"NEVER"}), "rfc822;b+1@c.example"
        ),
        "<b@c.example> ORCPT=utf-8;b\\x{E4}@c.example": Recipient(
            Address("b", "c.example"), orcpt="utf-8;b\\x{E4}@c.example"
        ),
    }

    @pytest.mark.parametrize("text", GOOD_RCPT)
    def test_rcpt(self, text: str) -> None:
        role = Yes()
        Client(role).hear(f"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:{text}\r\n".encode())
        assert role.events[2] == events.Rcpt(self.GOOD_RCPT[text])

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("<>", 501),
            ("<b>", 501),
            ("<b@c.example> SIZE=1", 555),
            ("<b@c.example> NOTIFY=NEVER,SUCCESS", 501),
            ("<b@c.example> NOTIFY=SUCCESS,SUCCESS", 501),
            ("<b@c.example> NOTIFY=", 501),
            ("<b@c.example> ORCPT=b@c.example", 501),
            ("<b@c.example> ORCPT=rfc822;a+0AX-Injected:+20yes", 501),
            ("<ä@c.example>", 553),
        ],
    )
    def test_bad_rcpt(self, text: str, code: int) -> None:
        client = Client()
        client.hear(b"EHLO x\r\nMAIL FROM:<>\r\n")
        assert client.hear(f"RCPT TO:{text}\r\n".encode()).startswith(b"%d 5." % code)

    def test_replies_are_ascii_unless_smtputf8_was_said(self) -> None:
        """RFC 6531 section 3.7.4: text may quote a header field or an address."""

        class Quoting(Yes):
            def answer(self, event: events.Event) -> Reply | None:
                return (
                    Reply(550, "5.7.1", "Größe") if isinstance(event, events.Rcpt) else super().answer(event)
                )

        converse(
            EHLO
            + """C: MAIL FROM:<>
S: 250
C: RCPT TO:<b@example.org>
S: 550 5.7.1 Gr\\xf6\\xdfe
C: RSET
C: MAIL FROM:<> SMTPUTF8
S: 250
S: 250
C: RCPT TO:<b@example.org>
S: 550 5.7.1 Größe
C: RſET
S: 500 5.5.1
""",
            Quoting,
        )

    def test_smtputf8_lasts_for_its_transaction(self) -> None:
        converse(
            EHLO
            + """C: MAIL FROM:<> SMTPUTF8
S: 250
C: RCPT TO:<jürgen@example.org>
S: 250
C: RSET
S: 250
C: MAIL FROM:<>
S: 250
C: RCPT TO:<jürgen@example.org>
S: 553 5.6.7
"""
        )

    @pytest.mark.parametrize(
        "name", ["client.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "my_pc", "localhost", "::1"]
    )
    def test_helo_names(self, name: str) -> None:
        assert Client().hear(f"EHLO {name}\r\n".encode()).startswith(b"250-")

    @pytest.mark.parametrize(
        "name", ["", " ", "two words", "<script>", "a(b)", "a;b", "a" * 256, "bücher.example"]
    )
    def test_bad_helo_names(self, name: str) -> None:
        for verb in ("EHLO", "HELO"):
            assert Client().hear(f"{verb} {name}\r\n".encode()).startswith(b"501 5.5.4")

    def test_arguments_where_none_belong(self) -> None:
        converse(
            EHLO
            + """C: RSET now
S: 501 5.5.4
C: QUIT please
S: 501 5.5.4
C: NOOP and more
S: 250
C: QUIT\\x20
S: 221
"""
        )


class TestLines:
    @pytest.mark.parametrize(
        "line",
        ["NOOP\\nNOOP", "NOOP\\rNOOP", "NOOP\\r", "NO\\0OP", "NOOP \\xff\\xfe", "\\nNOOP", "QUIT\\n.\\nQUIT"],
    )
    def test_one_bad_line_is_one_reply(self, line: str) -> None:
        converse(EHLO + f"C: {line}\nS: 500 5.5.2\nC: NOOP\nS: 250 2.0.0\n")

    @pytest.mark.parametrize(
        ("line", "most"),
        [("NOOP ", 1000), ("MAIL FROM:<", 2000), ("RCPT TO:<", 2000), ("AUTH PLAIN ", 12288)],
    )
    def test_long_lines(self, line: str, most: int) -> None:
        for step in (0, 1, 7):
            client = Client()
            client.hear(b"EHLO x\r\n")
            just = line.encode() + b"A" * (most - len(line))
            assert b"5.5.6" not in client.hear(just + b"\r\n", step)
            said = client.hear(just + b"A\r\nNOOP\r\n", step)
            assert said.startswith(b"500 5.5.6"), said
            assert said.endswith(b"250 2.0.0 Ok\r\n")

    def test_an_endless_line_costs_no_memory(self) -> None:
        client = Client()
        for _ in range(100):
            assert client.hear(b"x" * 10_000 + b"\r") == b""
            assert len(client.session._buffer) < 20_000
        assert client.hear(b"\nNOOP\r\n").startswith(b"500 5.5.6")
        assert client.said.endswith(b"250 2.0.0 Ok\r\n")

    @pytest.mark.parametrize(
        "line", ["", " ", "FOO", "MAILFROM:<>", "HELP\tME", "LHLO x", "GET / HTTP/1.1", "x" * 900]
    )
    def test_unknown(self, line: str) -> None:
        assert Client().hear(line.encode() + b"\r\n").startswith(b"500 5.5.1")

    def test_verbs_in_any_case(self) -> None:
        assert Client().hear(b"ehlo x\r\nmail from:<>\r\nRcpt To:<a@b.example>\r\n").count(b"250 ") == 3
