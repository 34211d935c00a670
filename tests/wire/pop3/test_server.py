"""The POP3 session: framing, grammar, states, replies."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire import pop3
from mailstack.wire.pop3 import Server, State
from mailstack.wire.pop3.server import MAX_AUTH_LINE, MAX_LINE


def events(server: Server, *chunks: bytes) -> list[pop3.Event]:
    """Feed, and answer every event with +OK so that the next comes."""
    found = []
    for chunk in chunks:
        server.receive_data(chunk)
        while (event := server.next_event()) is not None:
            found.append(event)
            server.send(event.reply if isinstance(event, pop3.Malformed) else pop3.Ok(""))
    return found


def logged_in() -> Server:
    server = Server()
    events(server, b"USER a\r\nPASS b\r\n")
    assert server.state is State.TRANSACTION
    return server


class TestGrammar:
    @pytest.mark.parametrize(
        ("line", "event"),
        [
            (b"USER alice@example.test", pop3.User("alice@example.test")),
            (b"user  alice ", pop3.User("alice")),
            ("USER ü".encode(), pop3.User("ü")),
            (b"UTF8", pop3.Utf8()),
            (b"lang", pop3.Lang(None)),
            (b"LANG de-AT", pop3.Lang("de-at")),
            (b"LANG *", pop3.Lang("*")),
            (b"AUTH PLAIN", pop3.Auth("PLAIN")),
            (b"auth plain AGEAYg==", pop3.Auth("PLAIN", b"AGEAYg==")),
            (b"AUTH", pop3.Auth(None)),
            (b"CAPA", pop3.Capa()),
            (b"capa ", pop3.Capa()),
            (b"STLS", pop3.Stls()),
            (b"QUIT", pop3.Quit()),
        ],
    )
    def test_before_login(self, line: bytes, event: pop3.Event) -> None:
        assert events(Server(), line + b"\r\n") == [event]

    @pytest.mark.parametrize(
        ("line", "event"),
        [
            (b"STAT", pop3.Stat()),
            (b"LIST", pop3.List(None)),
            (b"LIST 2", pop3.List(2)),
            (b"UIDL", pop3.Uidl(None)),
            (b"uidl 0000000007", pop3.Uidl(7)),
            (b"RETR 1", pop3.Retr(1)),
            (b"TOP  1  0 ", pop3.Top(1, 0)),
            (b"DELE 9999999999", pop3.Dele(9999999999)),
            (b"NOOP", pop3.Noop()),
            (b"RSET", pop3.Rset()),
            (b"CAPA", pop3.Capa()),
            (b"QUIT", pop3.Quit()),
        ],
    )
    def test_after_login(self, line: bytes, event: pop3.Event) -> None:
        assert events(logged_in(), line + b"\r\n") == [event]

    @pytest.mark.parametrize(
        ("password", "text"),
        [(b"two words", "two words"), (b" x ", " x "), ("ü".encode(), "ü"), (b" ", " ")],
    )
    def test_password_is_all_that_follows(self, password: bytes, text: str) -> None:
        assert events(Server(), b"USER a\r\nPASS " + password + b"\r\n")[1] == pop3.Pass(text)

    @pytest.mark.parametrize(
        "line",
        [
            *(
                b"",
                b" ",
                b"\0",
                b"\n",
                b"\r",
                b"XYZZY",
                b"USER",
                b"USER  ",
                b"CAPA x",
                b"APOP a b",
                b" CAPA",
                b"CAPA\n",
            ),
            *(
                b"AUTH a b c",
                b"AUTH \xff",
                b"RETR 1",
                b"STAT",
                b"PASS x",
                b"USER a\0b",
                b"x" * 5000,
                b"USER " + b"a" * 300,
            ),
            *(b"AUTH PLAIN " + b"A" * (MAX_AUTH_LINE + 1), b"\xff" * 50, b"USER a\rb", b"NOOP"),
        ],
    )
    def test_malformed_before_login_costs_its_own_line(self, line: bytes) -> None:
        server = Server()
        found = events(server, line + b"\r\nCAPA\r\n")
        assert isinstance(found[0], pop3.Malformed)
        assert found[1:] == [pop3.Capa()]

    @pytest.mark.parametrize(
        "line",
        [
            *(
                b"RETR",
                b"RETR x",
                b"RETR -1",
                b"RETR +1",
                b"RETR 1 2",
                b"RETR 12345678901",
                b"RETR \xb2",
                b"TOP 1",
            ),
            *(
                b"TOP 1 2 3",
                b"LIST 1 2",
                b"DELE",
                b"STAT 1",
                b"USER a",
                b"PASS b",
                b"AUTH PLAIN",
                b"STLS",
                b"LAST",
            ),
        ],
    )
    def test_malformed_after_login_costs_its_own_line(self, line: bytes) -> None:
        found = events(logged_in(), line + b"\r\nSTAT\r\n")
        assert isinstance(found[0], pop3.Malformed)
        assert found[1:] == [pop3.Stat()]


class TestFraming:
    def test_longest_line(self) -> None:
        line = b"USER " + b"a" * (MAX_LINE - 7) + b"\r\n"
        assert isinstance(events(Server(), line)[0], pop3.User)
        assert isinstance(events(Server(), b"USER a" + line[5:])[0], pop3.Malformed)

    def test_a_line_without_end_is_not_kept(self) -> None:
        server = Server()
        for _ in range(1000):
            server.receive_data(b"x" * 1000)
            assert server.next_event() is None
            assert len(server._buffer) <= 1000
        server.receive_data(b"\r\nCAPA\r\n")
        assert isinstance(server.next_event(), pop3.Malformed)
        server.send(pop3.Err(""))
        assert server.next_event() == pop3.Capa()

    def test_the_end_of_a_long_line_split_in_two(self) -> None:
        assert [type(event) for event in events(Server(), b"x" * 300 + b"\r", b"\nCAPA\r\n")] == [
            pop3.Malformed,
            pop3.Capa,
        ]

    def test_long_lines_are_for_auth_only(self) -> None:
        response = b"A" * (MAX_AUTH_LINE - 13)
        assert events(Server(), b"AUTH PLAIN " + response + b"\r\n") == [pop3.Auth("PLAIN", response)]

    def test_pipelined_commands_wait_for_their_turn(self) -> None:
        server = logged_in()
        server.receive_data(b"STAT\r\nNOOP\r\n")
        assert server.next_event() == pop3.Stat()
        assert server.send(pop3.Ok("0 0")) == b"+OK 0 0\r\n"
        assert server.next_event() == pop3.Noop()

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [b"CAPA\r\n", b"USER x\r\n", b"junk", b"\r", b"\n", b"\r\n", b"AUTH PLAIN\r\n", b"x" * 256]
            ),
            max_size=12,
        ),
        st.data(),
    )
    def test_any_split_gives_the_same_events(self, pieces: list[bytes], data: st.DataObject) -> None:
        stream = b"".join(pieces)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert events(Server(), *chunks) == events(Server(), stream)


class TestStates:
    def test_refused_password_begins_again(self) -> None:
        server = Server()
        events(server, b"USER a\r\n")
        server.receive_data(b"PASS b\r\nPASS b\r\n")
        assert server.next_event() == pop3.Pass("b")
        server.send(pop3.Err("no", "AUTH"))
        assert isinstance(server.next_event(), pop3.Malformed)

    def test_exchange(self) -> None:
        server = Server()
        server.receive_data(b"AUTH LOGIN\r\nYQ==\r\n")
        assert server.next_event() == pop3.Auth("LOGIN")
        assert server.send(pop3.Challenge(b"Username:")) == b"+ VXNlcm5hbWU6\r\n"
        assert server.next_event() == pop3.AuthLine(b"YQ==")
        assert server.send(pop3.Challenge(b"")) == b"+ \r\n"
        server.receive_data(b"*\r\n")
        assert server.next_event() == pop3.AuthLine(None)
        server.send(pop3.Err("Cancelled"))
        assert server.state is State.AUTHORIZATION

    def test_exchange_that_succeeds(self) -> None:
        server = Server()
        server.receive_data(b"AUTH PLAIN\r\n\r\n")
        server.next_event()
        server.send(pop3.Challenge(b""))
        assert server.next_event() == pop3.AuthLine(b"")
        server.send(pop3.Ok(""))
        assert server.state is State.TRANSACTION

    def test_a_line_too_long_ends_the_exchange(self) -> None:
        server = Server()
        server.receive_data(b"AUTH PLAIN\r\n" + b"A" * (MAX_AUTH_LINE + 1) + b"\r\nCAPA\r\n")
        server.next_event()
        server.send(pop3.Challenge(b""))
        assert isinstance(server.next_event(), pop3.Malformed)
        server.send(pop3.Err("Line too long"))
        assert server.next_event() == pop3.Capa()

    def test_asking_for_mechanisms_is_no_login(self) -> None:
        server = Server()
        server.receive_data(b"AUTH\r\n")
        server.next_event()
        assert server.send(pop3.Lines("follow", b"PLAIN\r\n")) == b"+OK follow\r\nPLAIN\r\n.\r\n"
        assert server.state is State.AUTHORIZATION

    def test_stls_forgets_what_came_before(self) -> None:
        server = Server()
        events(server, b"USER a\r\n")
        server.receive_data(b"STLS\r\nPASS injected\r\n")
        assert server.next_event() == pop3.Stls()
        server.send(pop3.Ok("Begin TLS"))
        assert server.upgrading
        server.receive_data(b"QUIT\r\n")
        assert server.next_event() is None
        server.secured()
        assert not server.upgrading
        assert server.next_event() is None
        assert [type(event) for event in events(server, b"PASS x\r\n")] == [pop3.Malformed]

    def test_stls_refused(self) -> None:
        server = Server()
        server.receive_data(b"STLS\r\nCAPA\r\n")
        server.next_event()
        server.send(pop3.Err("no"))
        assert not server.upgrading
        assert server.next_event() == pop3.Capa()

    @pytest.mark.parametrize("reply", [pop3.Ok("bye"), pop3.Err("not removed", "SYS/TEMP")])
    def test_quit_closes_whatever_the_answer(self, reply: pop3.Reply) -> None:
        server = logged_in()
        server.receive_data(b"QUIT\r\nSTAT\r\n")
        server.next_event()
        server.send(reply)
        assert server.closed
        server.receive_data(b"STAT\r\n")
        assert server.next_event() is None


class TestReplies:
    def test_greeting_changes_nothing(self) -> None:
        server = Server()
        assert server.send(pop3.Ok("ready")) == b"+OK ready\r\n"
        assert server.state is State.AUTHORIZATION

    def test_codes(self) -> None:
        assert Server().send(pop3.Err("Held", "IN-USE")) == b"-ERR [IN-USE] Held\r\n"
        assert Server().send(pop3.Ok("")) == b"+OK\r\n"

    def test_text_cannot_break_the_line(self) -> None:
        assert Server().send(pop3.Err("a\r\nb")) == b"-ERR a  b\r\n"

    def test_bye_closes(self) -> None:
        server = Server()
        assert server.send(pop3.Bye("Enough")) == b"-ERR Enough\r\n"
        assert server.closed

    def test_content_in_pieces(self) -> None:
        server = logged_in()
        server.receive_data(b"RETR 1\r\nSTAT\r\n")
        server.next_event()
        replies = [
            pop3.Begin("5 octets"),
            pop3.Content(b".a\r\n"),
            pop3.Content(b"."),
            pop3.Content(b"b"),
            pop3.End(),
        ]
        assert b"".join(map(server.send, replies)) == b"+OK 5 octets\r\n..a\r\n..b\r\n.\r\n"
        assert server.next_event() == pop3.Stat()

    def test_whole_content(self) -> None:
        server = logged_in()
        server.receive_data(b"RETR 1\r\nSTAT\r\n")
        server.next_event()
        assert server.send(pop3.Whole("2 octets", b".\n")) == b"+OK 2 octets\r\n..\r\n.\r\n"
        assert server.next_event() == pop3.Stat()

    def test_a_failure_inside_content_closes_without_a_terminator(self) -> None:
        server = logged_in()
        server.receive_data(b"RETR 1\r\n")
        event = server.next_event()
        assert event is not None
        server.send(pop3.Begin(""))
        server.send(pop3.Content(b"half"))
        assert server.send(server.failure(event)) == b""
        assert server.closed

    def test_content_outside_is_our_bug(self) -> None:
        with pytest.raises(ValueError, match="outside"):
            Server().send(pop3.Content(b""))
