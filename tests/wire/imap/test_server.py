"""Conversations with a session: states, literals, APPEND, AUTHENTICATE, IDLE, STARTTLS, and broken input."""

from __future__ import annotations

import pytest

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import responses as r
from mailstack.wire.imap.framer import Limits
from mailstack.wire.imap.server import Server
from mailstack.wire.imap.states import State
from tests.wire.imap.transcript import Script, converse, one, opened


def kinds(script: Script) -> list[str]:
    return [type(event).__name__ for event in script.events]


class TestStates:
    def test_a_whole_session(self) -> None:
        script = converse("""
            C: a1 CAPABILITY
            S: a1 OK Capability done
            C: a2 LOGIN alice "pass \\"word\\""
            S: a2 OK Login done
            C: a3 SELECT inbox
            S: a3 OK Select done
            C: a4 NOOP
            S: * 3 EXISTS
            S: a4 OK Noop done
            C: a5 CLOSE
            S: a5 OK Close done
            C: a6 FETCH 1 FLAGS
            S: a6 BAD not allowed in the authenticated state
            C: a7 LOGOUT
            S: * BYE farewell
            S: a7 OK done
            C: a8 NOOP
        """)
        assert script.events[1] == c.Login("a2", "alice", 'pass "word"')
        assert script.session.closed
        assert script.session.state is State.LOGOUT

    def test_pipelined_commands_see_the_state_that_the_one_before_made(self) -> None:
        converse("""
            C: a LOGIN alice secret
            C: b SELECT INBOX
            C: c FETCH 1 FLAGS
            C: d UNSELECT
            C: e FETCH 1 FLAGS
            S: a OK Login done
            S: b OK Select done
            S: c OK Fetch done
            S: d OK Unselect done
            S: e BAD not allowed in the authenticated state
        """)

    @pytest.mark.parametrize(
        "line",
        [
            "SELECT INBOX",
            "IDLE",
            "FETCH 1 FLAGS",
            "APPEND INBOX {3}",
            "APPEND INBOX {2+}\nC: hi",
            'LIST "" *',
        ],
    )
    def test_nothing_but_login_before_login(self, line: str) -> None:
        converse(f"""
C: a {line}
S: a BAD not allowed in the not authenticated state
C: b NOOP
S: * 3 EXISTS
S: b OK Noop done
""")

    def test_login_only_once(self) -> None:
        converse("C: a LOGIN x y\nS: a BAD not allowed in the authenticated state", State.AUTHENTICATED)

    def test_a_failed_login_moves_nothing(self) -> None:
        script = converse(
            "C: a LOGIN x y\nS: a NO [AUTHENTICATIONFAILED] no",
            refused={c.Login: r.Tagged("", "NO", "no", "AUTHENTICATIONFAILED")},
        )
        assert script.session.state is State.NOT_AUTHENTICATED

    def test_a_failed_select_leaves_nothing_selected(self) -> None:
        script = converse(
            "C: a SELECT gone\nS: a NO no", State.SELECTED, refused={c.Select: r.Tagged("", "NO", "no")}
        )
        assert script.session.state is State.AUTHENTICATED

    def test_a_malformed_select_leaves_the_mailbox_selected(self) -> None:
        script = converse("C: a SELECT\nS: a BAD expected a space", State.SELECTED)
        assert script.session.state is State.SELECTED

    def test_becomes_overrides_the_table(self) -> None:
        session = opened(State.SELECTED)
        session.receive_data(b"a NOOP\r\n")
        session.next_event()
        assert session.send(r.Tagged("a", "OK", "gone", becomes=State.AUTHENTICATED)) == b"a OK gone\r\n"
        assert session.state is State.AUTHENTICATED

    def test_preauthenticated(self) -> None:
        assert Server(preauthenticated=True).state is State.AUTHENTICATED

    def test_a_decisive_command_waits_for_its_answer(self) -> None:
        session = Server()
        session.receive_data(b"a LOGIN x y\r\nb SELECT INBOX\r\n")
        assert isinstance(session.next_event(), c.Login)
        assert session.next_event() is None
        session.send(r.Tagged("a", "OK", "in"))
        assert session.next_event() == c.Select("b", "INBOX")


class TestStartTls:
    def test_what_was_sent_ahead_is_dropped(self) -> None:
        session = Server()
        session.receive_data(b"a STARTTLS\r\nb LOGIN mallory secret\r\nc NOOP\r\n")
        assert isinstance(session.next_event(), c.StartTls)
        assert session.next_event() is None
        assert session.send(r.Tagged("a", "OK", "begin TLS")) == b"a OK begin TLS\r\n"
        assert session.upgrading
        assert session.next_event() is None
        session.secured()
        assert not session.upgrading
        assert session.next_event() is None
        session.receive_data(b"d NOOP\r\n")
        assert session.next_event() == c.Noop("d")

    def test_refused_starttls_goes_on_in_plain(self) -> None:
        script = converse(
            "C: a STARTTLS\nS: a NO no\nC: b NOOP\nS: * 3 EXISTS\nS: b OK Noop done",
            refused={c.StartTls: r.Tagged("", "NO", "no")},
        )
        assert not script.session.upgrading

    def test_half_a_command_before_tls_is_forgotten(self) -> None:
        script = Script(Server())
        script.feed(b"a STARTTLS\r\nb LOGIN {3}")
        assert script.feed(b"c NOOP\r\n") == b"* 3 EXISTS\r\nc OK Noop done\r\n"


class TestLiterals:
    def test_synchronizing(self) -> None:
        script = converse("""
            C: a LOGIN {5}
            S: + go ahead
            C: alice {8}
            S: + go ahead
            C: pa ss"wd
            S: a OK Login done
        """)
        assert script.events[-1] == c.Login("a", "alice", 'pa ss"wd')

    def test_non_synchronizing(self) -> None:
        script = converse("""
            C: a LOGIN {5+}
            C: alice {6+}
            C: secret
            S: a OK Login done
        """)
        assert script.events == [c.Login("a", "alice", "secret")]

    def test_a_literal_may_hold_line_ends_and_look_like_a_command(self) -> None:
        script = converse("""
            C: a LOGIN {21+}
            C: alice
            C: b DELETE INBOX secret
            S: a OK Login done
        """)
        assert script.events == [c.Login("a", "alice\r\nb DELETE INBOX", "secret")]

    def test_empty_literals(self) -> None:
        script = converse("C: a LOGIN {0+}\nC:  {0}\nS: + go ahead\nC: \nS: a OK Login done")
        assert script.events[-1] == c.Login("a", "", "")

    def test_too_large_and_synchronizing_is_refused_before_it_is_sent(self) -> None:
        converse("""
            C: a LIST "" {70000}
            S: a BAD [TOOBIG] literal too large
            C: b NOOP
            S: * 3 EXISTS
            S: b OK Noop done
        """, State.AUTHENTICATED)  # fmt: skip

    def test_too_large_and_non_synchronizing_is_skipped_exactly(self) -> None:
        script = Script(opened(State.AUTHENTICATED))
        said = script.feed(
            b'a LIST "" {70000+}\r\n' + b"b NOOP\r\n" * 8750 + b' {3+}\r\n\r\nx "{2+}\r\nyyz\r\nc NOOP\r\n'
        )
        assert said == b"a BAD [TOOBIG] literal too large\r\n* 3 EXISTS\r\nc OK Noop done\r\n"

    def test_the_sum_of_literals_is_bounded(self) -> None:
        limits = Limits(command=1000, literal=400)
        script = Script(opened(State.SELECTED, limits))
        argument = b"{400+}\r\n" + b"x" * 400
        said = script.feed(
            b"a SEARCH TEXT " + argument + b" TEXT " + argument + b" TEXT " + argument + b"\r\nb NOOP\r\n"
        )
        assert said == b"a BAD [TOOBIG] literal too large\r\n* 3 EXISTS\r\nb OK Noop done\r\n"

    def test_the_number_of_literals_is_bounded(self) -> None:
        script = Script(opened(State.SELECTED, Limits(literals=3)))
        said = script.feed(b"a SEARCH" + b" TEXT {1+}\r\nx" * 4 + b"\r\nb NOOP\r\n")
        assert said == b"a BAD too many literals\r\n* 3 EXISTS\r\nb OK Noop done\r\n"

    def test_nobody_sends_much_before_login(self) -> None:
        converse("C: a LOGIN {16384}\nS: a BAD [TOOBIG] literal too large")
        script = Script(Server())
        assert script.feed(b"a LOGIN " + b"x" * 20_000) == b"a BAD line too long\r\n"

    def test_an_unknown_command_is_refused_before_its_literal(self) -> None:
        converse("C: a XYZZY {3}\nS: a BAD unknown command\nC: b NOOP\nS: * 3 EXISTS\nS: b OK Noop done")
        converse(
            "C: a XYZZY {3+}\nC: foo {1+}\nC: x\nS: a BAD unknown command\nC: b NOOP\nS: * 3 EXISTS\nS: b OK Noop done"
        )

    def test_literal8_is_no_argument(self) -> None:
        converse(
            "C: a LOGIN ~{3}\nS: a BAD literal8 is not allowed here\nC: b NOOP\nS: * 3 EXISTS\nS: b OK Noop done"
        )

    def test_a_nul_in_a_literal(self) -> None:
        assert one(b"a LIST {1+}\r\n\0 *\r\n") == c.Malformed("a", "NUL in a literal")

    def test_a_size_of_twenty_digits_ends_the_session_at_the_bound(self) -> None:
        script = Script(opened(State.AUTHENTICATED, Limits(skipped=1000)))
        said = script.feed(b"a CREATE {99999999999999999999+}\r\n" + b"x" * 1001)
        assert said == b"a BAD [TOOBIG] literal too large\r\n* BYE [TOOBIG] too much to skip\r\n"
        assert script.session.closed

    def test_a_refused_literal_is_not_awaited(self) -> None:
        converse(
            "C: a LOGIN {3}\nS: a NO no\nC: b NOOP\nS: * 3 EXISTS\nS: b OK Noop done",
            refused={c.LiteralAnnounced: r.Tagged("", "NO", "no")},
        )


class TestAppend:
    def test_synchronizing(self) -> None:
        script = converse("""
            C: a APPEND "Sent Items" (\\Seen $Forwarded) "01-Feb-2024 10:00:00 +0100" {14}
            S: + go ahead
            C: Subject: x
            C:
            C:
            S: a OK AppendEnd done
        """, State.AUTHENTICATED)  # fmt: skip
        date = c.DateTime(1_706_778_000, 60)
        assert script.events == [
            c.Append("a", "Sent Items", 14, frozenset({r"\Seen", "$Forwarded"}), date),
            c.AppendChunk("a", b"Subject: x\r\n\r\n"),
            c.AppendEnd("a"),
        ]

    def test_non_synchronizing_writes_no_continuation(self) -> None:
        script = converse("""
            C: a APPEND Drafts {5+}
            C: hello
            C: b NOOP
            S: a OK AppendEnd done
            S: * 3 EXISTS
            S: b OK Noop done
        """, State.AUTHENTICATED)  # fmt: skip
        assert script.events == [
            c.Append("a", "Drafts", 5, synchronizing=False),
            c.AppendChunk("a", b"hello"),
            c.AppendEnd("a"),
            c.Noop("b"),
        ]

    def test_a_mailbox_name_in_a_literal(self) -> None:
        script = converse("""
            C: a APPEND {6}
            S: + go ahead
            C: Drafts {3}
            S: + go ahead
            C: abc
            S: a OK AppendEnd done
        """, State.AUTHENTICATED)  # fmt: skip
        assert script.events[1] == c.Append("a", "Drafts", 3)

    def test_a_role_may_refuse_before_the_client_sends(self) -> None:
        converse("""
            C: a APPEND nowhere {5}
            S: a NO [TRYCREATE] no such mailbox
            C: b NOOP
            S: * 3 EXISTS
            S: b OK Noop done
        """, State.AUTHENTICATED, refused={c.Append: r.Tagged("", "NO", "no such mailbox", "TRYCREATE")})  # fmt: skip

    def test_a_refused_message_that_comes_anyway_is_skipped(self) -> None:
        script = converse("""
            C: a APPEND nowhere {10+}
            C: b DELETE x
            C: c NOOP
            S: a NO [TRYCREATE] no such mailbox
            S: * 3 EXISTS
            S: c OK Noop done
        """, State.AUTHENTICATED, refused={c.Append: r.Tagged("", "NO", "no such mailbox", "TRYCREATE")})  # fmt: skip
        assert kinds(script) == ["Append", "Noop"]

    def test_a_refused_multiappend_is_skipped_whole(self) -> None:
        converse("""
            C: a APPEND nowhere {3+}
            C: abc (\\Seen) {4+}
            C: abcd
            C: c NOOP
            S: a NO over
            S: * 3 EXISTS
            S: c OK Noop done
        """, State.AUTHENTICATED, refused={c.Append: r.Tagged("", "NO", "over")})  # fmt: skip

    @pytest.mark.parametrize("plus", ["", "+"])
    def test_a_role_may_break_off_in_the_middle(self, plus: str) -> None:
        script = Script(opened(State.AUTHENTICATED), {c.AppendChunk: r.Tagged("", "NO", "disk full")})
        script.feed(b"a APPEND INBOX {20" + plus.encode() + b"}\r\n")
        assert script.feed(b"0123456789") == b"a NO disk full\r\n"
        assert script.feed(b"b NOOP\r\n!!\r\nc NOOP\r\n") == b"* 3 EXISTS\r\nc OK Noop done\r\n"

    def test_too_big_is_refused_before_the_role_is_asked(self) -> None:
        limits = Limits(message=10)
        script = converse("""
            C: a APPEND INBOX {11}
            S: a NO [TOOBIG] message too large
            C: b APPEND INBOX {11+}
            C: b2 NOOP....
            C: c NOOP
            S: b NO [TOOBIG] message too large
            S: * 3 EXISTS
            S: c OK Noop done
        """, State.AUTHENTICATED, limits)  # fmt: skip
        assert kinds(script) == ["Malformed", "Malformed", "Noop"]

    def test_multiappend(self) -> None:
        script = converse("""
            C: a APPEND INBOX (\\Seen) {3}
            S: + go ahead
            C: one (\\Draft) {3+}
            C: two {0+}
            C:
            S: a OK AppendEnd done
        """, State.AUTHENTICATED)  # fmt: skip
        assert script.events == [
            c.Append("a", "INBOX", 3, frozenset({r"\Seen"})),
            c.AppendChunk("a", b"one"),
            c.Append("a", "INBOX", 3, frozenset({r"\Draft"}), synchronizing=False, following=True),
            c.AppendChunk("a", b"two"),
            c.Append("a", "INBOX", 0, synchronizing=False, following=True),
            c.AppendEnd("a"),
        ]

    def test_words_after_the_message(self) -> None:
        script = converse("""
            C: a APPEND INBOX {3+}
            C: one garbage
            C: b NOOP
            S: a BAD unexpected words at the end
            S: * 3 EXISTS
            S: b OK Noop done
            C: c APPEND INBOX {3+}
            C: onegarbage {4+}
            C: cccc
            C: d NOOP
            S: c BAD expected a space
            S: * 3 EXISTS
            S: d OK Noop done
        """, State.AUTHENTICATED)  # fmt: skip
        assert kinds(script) == ["Append", "AppendChunk", "Malformed", "Noop"] * 2

    def test_octets_are_not_touched(self) -> None:
        message = bytes(range(256)) * 300
        script = Script(opened(State.AUTHENTICATED))
        script.feed(b"a APPEND INBOX ~{%d+}\r\n" % len(message) + message + b"\r\n")
        assert script.events[1:] == [c.AppendChunk("a", message), c.AppendEnd("a")]

    def test_a_large_message_is_streamed(self) -> None:
        session = opened(State.AUTHENTICATED)
        session.receive_data(b"a APPEND INBOX {1000000+}\r\n" + b"x" * 600_000)
        assert isinstance(session.next_event(), c.Append)
        session.send(r.Continuation())
        sizes = []
        while (event := session.next_event()) is not None:
            assert isinstance(event, c.AppendChunk)
            sizes.append(len(event.data))
        assert sum(sizes) == 600_000
        assert max(sizes) <= Limits().chunk

    @pytest.mark.parametrize(
        "line",
        [b"APPEND", b"APPEND INBOX", b"APPEND INBOX ()", b'APPEND INBOX "1-Feb-2024 10:00:00 +0000"', b"APPEND INBOX hi",
         b"APPEND INBOX(\\Seen) {3}", b"APPEND INBOX (\\Foo) {3}", b'APPEND INBOX "32-Feb-2024 10:00:00 +0000" {3}',
         b'APPEND INBOX "1-Feb-2024 24:00:00 +0000" {3}', b"APPEND {3}\r\nabc", b"APPEND INBOX (\\Seen {3}"],
    )  # fmt: skip
    def test_malformed(self, line: bytes) -> None:
        event = one(b"a " + line + b"\r\n")
        assert isinstance(event, c.Malformed)
        assert (event.tag, event.status) == ("a", "BAD")

    def test_recent_is_passed_over(self) -> None:
        script = Script(opened(State.AUTHENTICATED))
        script.feed(b"a APPEND INBOX (\\recent \\SEEN) {3}\r\n")
        assert script.events == [c.Append("a", "INBOX", 3, frozenset({r"\Seen"}))]


class TestAuthenticate:
    def test_challenge_and_response(self) -> None:
        script = converse("""
            C: a authenticate plain
            S: + 
            C: AGFsaWNlAHNlY3JldA==
            S: a OK AuthResponse done
        """)  # noqa: W291
        assert script.events == [c.Authenticate("a", "PLAIN"), c.AuthResponse("a", b"\0alice\0secret")]
        assert script.session.state is State.AUTHENTICATED

    def test_initial_response(self) -> None:
        script = converse("C: a AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==\nS: a OK Authenticate done")
        assert script.events == [c.Authenticate("a", "PLAIN", b"\0alice\0secret")]

    def test_an_empty_initial_response(self) -> None:
        assert one(b"a AUTHENTICATE EXTERNAL =\r\n", State.NOT_AUTHENTICATED) == c.Authenticate(
            "a", "EXTERNAL", b""
        )

    def test_several_rounds_and_an_empty_response(self) -> None:
        script = converse("""
            C: a AUTHENTICATE LOGIN
            S: + 
            C: bW9yZQ==
            S: + Y2hhbGxlbmdl
            C:
            S: a OK AuthResponse done
        """)  # noqa: W291
        assert script.events[1:] == [c.AuthResponse("a", b"more"), c.AuthResponse("a", b"")]

    def test_cancelled(self) -> None:
        script = converse("""
            C: a AUTHENTICATE PLAIN
            S: + 
            C: *
            S: a BAD cancelled
            C: b NOOP
            S: * 3 EXISTS
            S: b OK Noop done
        """)  # noqa: W291
        assert script.events[1] == c.AuthResponse("a", None)

    @pytest.mark.parametrize("response", ["not base64!", "AAA", "AA=A", "\u00e9", "{3}", "b NOOP"])
    def test_bad_base64(self, response: str) -> None:
        converse(
            f"C: a AUTHENTICATE PLAIN\nS: + \nC: {response}\nS: a BAD "
            + ("expected base64" if response == "{3}" else "bad base64")
            + "\nC: b NOOP\nS: * 3 EXISTS\nS: b OK Noop done"
        )

    def test_a_pipelined_response_is_not_taken_for_a_command(self) -> None:
        script = converse(
            "C: a AUTHENTICATE PLAIN\nC: AGFsaWNlAHNlY3JldA==\nC: b NOOP\nS: + \nS: a OK AuthResponse done\nS: * 3 EXISTS\nS: b OK Noop done"
        )
        assert kinds(script) == ["Authenticate", "AuthResponse", "Noop"]

    def test_secrets_are_not_shown(self) -> None:
        shown = repr(
            [
                c.Login("a", "alice", "hush"),
                c.Authenticate("a", "PLAIN", b"hush"),
                c.AuthResponse("a", b"hush"),
            ]
        )
        assert "hush" not in shown
        assert "alice" in shown


class TestIdle:
    def test_done(self) -> None:
        script = converse("""
            C: a IDLE
            S: + idling
            C: done
            S: a OK IdleDone done
        """, State.SELECTED)  # fmt: skip
        assert script.events == [c.Idle("a"), c.IdleDone("a")]

    def test_the_next_command_comes_with_done(self) -> None:
        converse("""
            C: a IDLE
            C: DONE
            C: b NOOP
            S: + idling
            S: a OK IdleDone done
            S: * 3 EXISTS
            S: b OK Noop done
        """, State.SELECTED)  # fmt: skip

    def test_a_command_without_done(self) -> None:
        script = converse("""
            C: a IDLE
            S: + idling
            C: b APPEND INBOX {3+}
            C: abc
            S: a BAD expected DONE
            S: b OK AppendEnd done
        """, State.SELECTED)  # fmt: skip
        assert kinds(script) == ["Idle", "Malformed", "Append", "AppendChunk", "AppendEnd"]

    def test_pushes_do_not_disturb_it(self) -> None:
        session = opened(State.SELECTED)
        session.receive_data(b"a IDLE\r\n")
        session.next_event()
        session.send(r.Continuation("idling"))
        assert session.send(r.Exists(4)) == b"* 4 EXISTS\r\n"
        assert session.send(b"* 5 EXISTS\r\n") == b"* 5 EXISTS\r\n"
        session.receive_data(b"DONE\r\n")
        assert session.next_event() == c.IdleDone("a")

    def test_refused(self) -> None:
        converse(
            "C: a IDLE\nS: a NO no\nC: b NOOP\nS: * 3 EXISTS\nS: b OK Noop done",
            State.SELECTED, refused={c.Idle: r.Tagged("", "NO", "no")},
        )  # fmt: skip

    def test_too_long_a_line_while_idling(self) -> None:
        script = Script(opened(State.SELECTED))
        script.feed(b"a IDLE\r\n")
        assert script.feed(b"x" * 70_000) == b"a BAD line too long\r\n"
        assert script.feed(b"\r\nb NOOP\r\n") == b"* 3 EXISTS\r\nb OK Noop done\r\n"


class TestBrokenInput:
    @pytest.mark.parametrize(
        ("octets", "tag"),
        [
            (b"a NOOP\n", "a"),
            (b"a LOGIN x y\nb DELETE INBOX\r\n", "a"),
            (b"a\n", "a"),
            (b"\n", None),
            (b'a SEARCH TEXT "x\ny"\r\n', "a"),
            (b"a LOGIN {3+}\nabc\r\n", "a"),
            (b"a NOOP \r \n", "a"),
        ],
    )
    def test_a_bare_lf(self, octets: bytes, tag: str | None) -> None:
        event = one(octets)
        assert event == c.Malformed(tag, "bare LF in a line")
        script = Script(opened(State.SELECTED))
        script.feed(octets if octets.endswith(b"\r\n") else octets + b"\r\n")
        assert script.feed(b"z NOOP\r\n").endswith(b"z OK Noop done\r\n")

    def test_nothing_after_a_bare_lf_is_obeyed(self) -> None:
        script = Script(opened(State.SELECTED))
        script.feed(b"a SELECT x\nb DELETE INBOX\nc DELETE INBOX {3+}\r\nxxx\r\nd NOOP\r\n")
        assert kinds(script) == ["Malformed", "Noop"]

    @pytest.mark.parametrize("step", [1 << 30, 1000, 1])
    def test_an_overlong_line(self, step: int) -> None:
        script = Script(opened(State.SELECTED, Limits(line=3000)))
        octets = b"a SEARCH TEXT " + b"x" * 5000 + b" {4+}\r\n\r\n\r\n\r\nb NOOP\r\n"
        said = b"".join(script.feed(octets[at : at + step]) for at in range(0, len(octets), step))
        assert said == b"a BAD line too long\r\n* 3 EXISTS\r\nb OK Noop done\r\n"

    @pytest.mark.parametrize("step", [1 << 30, 1])
    def test_the_longest_line_is_not_overlong(self, step: int) -> None:
        line = b"a SEARCH TEXT " + b"x" * 986
        for extra, name in ((b"", "Search"), (b"x", "Malformed")):
            script = Script(opened(State.SELECTED, Limits(line=1000)))
            octets = line + extra + b"\r\n"
            for at in range(0, len(octets), step):
                script.feed(octets[at : at + step])
            assert kinds(script) == [name]

    def test_the_text_between_literals_counts(self) -> None:
        script = Script(opened(State.SELECTED, Limits(line=1000)))
        said = script.feed(
            b"a SEARCH TEXT " + b"x" * 900 + b" TEXT {1+}\r\ny TEXT " + b"x" * 100 + b"\r\nb NOOP\r\n"
        )
        assert said == b"a BAD line too long\r\n* 3 EXISTS\r\nb OK Noop done\r\n"

    @pytest.mark.parametrize(
        "line", [b"*", b"+ NOOP", b"a+ NOOP", b'"a" NOOP', b"\0 NOOP", b"\xff NOOP", b" NOOP", b"(a) x", b"x" * 300 + b" NOOP"]
    )  # fmt: skip
    def test_no_tag(self, line: bytes) -> None:
        assert one(line + b"\r\n") == c.Malformed(None, "expected a tag")
        assert Script(opened(State.SELECTED)).feed(line + b"\r\n") == b"* BAD expected a tag\r\n"

    def test_empty_lines_are_passed_over(self) -> None:
        script = Script(Server())
        assert script.feed(b"\r\n" * 50_000 + b"a NOOP\r\n") == b"* 3 EXISTS\r\na OK Noop done\r\n"

    def test_too_many_bad_commands(self) -> None:
        script = Script(Server(Limits(bad_commands=3)))
        assert script.feed(b"a X\r\nb X\r\nc NOOP\r\n").endswith(b"c OK Noop done\r\n")
        assert script.feed(b"d X\r\ne X\r\nf X\r\ng NOOP\r\n") == (
            b"d BAD unknown command\r\ne BAD unknown command\r\n* BYE too many bad commands\r\n"
        )
        assert script.session.closed
        assert script.feed(b"h NOOP\r\n") == b""

    def test_refused_messages_are_not_bad_commands(self) -> None:
        script = Script(opened(State.AUTHENTICATED, Limits(message=1, bad_commands=3)))
        script.feed(b"a APPEND INBOX {9}\r\n" * 5)
        assert not script.session.closed

    @pytest.mark.parametrize(
        "octets",
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /imap HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"],
    )
    def test_another_protocol_is_cut_at_once(self, octets: bytes) -> None:
        for step in (1 << 30, 1):
            script = Script(Server())
            said = b"".join(script.feed(octets[at : at + step]) for at in range(0, len(octets), step))
            assert said.startswith(b"* BYE ")
            assert said.count(b"\r\n") == 1
            assert script.session.closed

    def test_a_fatal_event_is_the_last_even_if_the_role_does_not_close(self) -> None:
        session = Server()
        session.receive_data(b"GET / HTTP/1.1\r\na NOOP\r\n")
        event = session.next_event()
        assert isinstance(event, c.Malformed)
        assert event.fatal
        assert session.next_event() is None

    def test_failure(self) -> None:
        session = Server()
        assert (
            session.send(session.failure(c.Noop("a")))
            == b"a NO [SERVERBUG] internal error, try again later\r\n"
        )
        assert session.send(session.failure(c.Malformed(None, "x"))) == b"* BAD x\r\n"

    def test_a_failure_in_the_middle_of_append_stays_in_step(self) -> None:
        session = opened(State.AUTHENTICATED)
        session.receive_data(b"a APPEND INBOX {10+}\r\n01234")
        event = session.next_event()
        assert event is not None
        session.send(session.failure(event))
        session.receive_data(b"56789\r\nb NOOP\r\n")
        assert session.next_event() == c.Noop("b")
