"""The SMTP session: STARTTLS and AUTH."""

from __future__ import annotations

import base64

import pytest

from mailstack.mail.reply import Reply
from mailstack.wire.smtp import Server, State, events
from tests.wire.smtp.transcripts import EHLO, Client, Yes, converse


class TestStartTls:
    def test_what_came_in_clear_is_forgotten(self) -> None:
        role = Yes()
        client = Client(role)
        client.hear(b"EHLO x\r\n")
        said = client.hear(b"STARTTLS\r\nEHLO injected.example\r\nMAIL FROM:<evil@example.net>\r\n")
        assert said == b"220 2.0.0 Ready\r\n"
        assert client.session.state is State.START
        assert client.hear(b"MAIL FROM:<a@b.example>\r\n").startswith(b"503")
        assert "injected.example" not in str(role.events)

    def test_bytes_between_the_go_ahead_and_tls_are_dropped(self) -> None:
        session = Server()
        session.send(Reply(220, "", "hi"))
        session.receive_data(b"EHLO x\r\n")
        session.next_event()
        session.send(Reply(250, "", "mx\nSTARTTLS"))
        session.receive_data(b"STARTTLS\r\nNO")
        assert session.next_event() == events.StartTls()
        session.send(Reply(220, "2.0.0", "Go"))
        assert session.upgrading
        session.receive_data(b"OP\r\n")
        assert session.next_event() is None
        session.secured()
        assert not session.upgrading
        assert session.next_event() is None

    def test_a_login_in_clear_is_forgotten(self) -> None:
        client = Client()
        client.hear(b"EHLO x\r\nAUTH PLAIN AGEAYg==\r\nSTARTTLS\r\n")
        assert client.hear(b"EHLO x\r\nAUTH PLAIN AGEAYg==\r\n").endswith(b"235 2.7.0 Hi a\r\n")

    def test_a_refused_one_changes_nothing(self) -> None:
        client = Client()
        client.hear(b"EHLO x\r\n")
        client.session.receive_data(b"STARTTLS\r\nNOOP\r\n")
        assert client.session.next_event() == events.StartTls()
        client.session.send(Reply(454, "4.7.0", "Not now"))
        assert client.session.next_event() == events.Noop()

    def test_only_where_offered(self) -> None:
        client = Client(Yes(["PIPELINING"]))
        client.hear(b"EHLO x\r\n")
        assert client.hear(b"STARTTLS\r\n").startswith(b"502 5.5.1")
        assert client.hear(b"BDAT 5\r\nNOOP\nNOOP\r\n").startswith(b"502 5.5.1")
        assert client.said.endswith(b"250 2.0.0 Ok\r\n")


class TestAuth:
    @pytest.mark.parametrize(
        "text",
        [
            "C: AUTH PLAIN AGEAYg==\nS: 235 2.7.0 Hi a",
            "C: AUTH PLAIN\nS: 334 \nC: AGEAYg==\nS: 235 2.7.0 Hi a",
            "C: auth plain YQBhAGI=\nS: 235 2.7.0 Hi a",
            "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YQ==\nS: 334 UGFzc3dvcmQ6\nC: Yg==\nS: 235",
            "C: AUTH LOGIN YQ==\nS: 334 UGFzc3dvcmQ6\nC: Yg==\nS: 235",  # Outlook
            "C: AUTH LOGIN =\nS: 334 VXNlcm5hbWU6\nC: YQ==\nS: 334 UGFzc3dvcmQ6\nC: Yg==\nS: 235",
            "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501 5.7.0\nC: AUTH PLAIN AGEAYg==\nS: 235",
            "C: AUTH LOGIN\nS: 334\nC: YQ==\nS: 334\nC: *\nS: 501 5.7.0\nC: NOOP\nS: 250",
            "C: AUTH PLAIN AGEAd3Jvbmc=\nS: 535 5.7.8\nC: AUTH PLAIN AGEAYg==\nS: 235",
            "C: AUTH PLAIN\nS: 334 \nC: not base64\nS: 501 5.5.2\nC: NOOP\nS: 250",
            "C: AUTH PLAIN !!!!\nS: 501 5.5.2\nC: NOOP\nS: 250",
            "C: AUTH PLAIN AGEA\\xff\nS: 500 5.5.2\nC: NOOP\nS: 250",
            "C: AUTH LOGIN\nS: 334\nC: QUI\nS: 501\nC: NOOP\nS: 250",
            "C: AUTH NTLM\nS: 504 5.5.4",
            "C: AUTH\nS: 501 5.5.4",
            "C: AUTH PL(IN\nS: 501 5.5.4",
            "C: AUTH PLAIN =\nS: 501 5.5.2",
            "C: AUTH PLAIN AGEAYg==\nS: 235\nC: AUTH PLAIN AGEAYg==\nS: 503 5.5.1",
            "C: AUTH PLAIN AGEAYg==\nS: 235\nC: MAIL FROM:<>\nS: 250",
        ],
    )
    def test_exchange(self, text: str) -> None:
        converse(EHLO + text)

    def test_a_response_too_long(self) -> None:
        client = Client()
        client.hear(b"EHLO x\r\nAUTH PLAIN\r\n")
        assert client.hear(b"A" * 20_000) == b""
        assert client.hear(b"\r\nNOOP\r\n").startswith(b"500 5.5.6")
        assert client.said.endswith(b"250 2.0.0 Ok\r\n")

    @pytest.mark.parametrize("before", [b"AUTH PLAIN\r\n", b"AUTH PLAIN "])
    def test_a_response_as_long_as_tokens_are(self, before: bytes) -> None:
        """RFC 4954 section 4: 12288 octets, though a command has 512."""
        token = base64.b64encode(b"\0a\0" + b"t" * 760)
        client = Client()
        client.hear(b"EHLO x\r\n")
        assert client.hear(before + token + b"\r\n").endswith(b"235 2.7.0 Hi a\r\n")

    def test_our_failure_asks_to_try_again(self) -> None:
        session = Server()
        assert session.failure(events.Auth("PLAIN")).code == 454
        assert session.failure(events.EndOfData()) == Reply(451, "4.3.0", "Local error; try again later")
