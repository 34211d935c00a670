"""Conversations with extensions in them: CATENATE, REPLACE, literal8, UTF-8, COMPRESS, UNAUTHENTICATE."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import responses as r
from mailstack.wire.imap.compression import Deflate
from mailstack.wire.imap.framer import Limits
from mailstack.wire.imap.server import Server
from mailstack.wire.imap.states import State
from tests.wire.imap.transcript import Script, converse, one, opened

IN = State.AUTHENTICATED


class TestCatenate:
    def test_the_example_of_the_rfc(self) -> None:
        script = converse("""
            C: A003 APPEND Drafts (\\Seen \\Draft $MDNSent) CATENATE (URL "/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER" TEXT {43}
            S: + go ahead
            C: Content-Type: text/plain
            C:
            C: words and words URL "/Drafts;UID=30" TEXT {2+}
            C: --)
            S: A003 OK AppendEnd done
            C: z NOOP
            S: * 3 EXISTS
            S: z OK Noop done
        """.replace("C:\n", "C: \n"), IN)  # fmt: skip
        assert script.events[0] == c.Append(
            "A003", "Drafts", 0, frozenset({r"\Seen", r"\Draft", "$MDNSent"}), None, False, catenated=True
        )
        assert script.events[1:4] == [
            x.CatenateUrl("A003", "/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER"),
            x.CatenateText("A003", 43),
            c.AppendChunk("A003", b"Content-Type: text/plain\r\n\r\nwords and words"),
        ]
        assert script.events[4:8] == [
            x.CatenateUrl("A003", "/Drafts;UID=30"),
            x.CatenateText("A003", 2, synchronizing=False),
            c.AppendChunk("A003", b"--"),
            c.AppendEnd("A003"),
        ]

    def test_urls_only_and_no_literal_at_all(self) -> None:
        script = converse("""
            C: a APPEND INBOX "01-Jan-2024 00:00:00 +0000" CATENATE (URL x URL "y z")
            S: a OK AppendEnd done
        """, IN)  # fmt: skip
        assert script.events[1:] == [x.CatenateUrl("a", "x"), x.CatenateUrl("a", "y z"), c.AppendEnd("a")]

    def test_a_url_in_a_literal_and_an_empty_text(self) -> None:
        script = converse("""
            C: a APPEND {5}
            S: + go ahead
            C: INBOX CATENATE (URL {4}
            S: + go ahead
            C: /x;y TEXT {0+}
            C:  URL {2+}
            C: /z)
            S: a OK AppendEnd done
        """, IN)  # fmt: skip
        kept = [event for event in script.events if not isinstance(event, c.LiteralAnnounced)]
        assert kept[1:] == [
            x.CatenateUrl("a", "/x;y"),
            x.CatenateText("a", 0, synchronizing=False),
            x.CatenateUrl("a", "/z"),
            c.AppendEnd("a"),
        ]

    def test_with_multiappend(self) -> None:
        script = converse("""
            C: a APPEND INBOX CATENATE (TEXT {2+}
            C: hi) (\\Seen) {3+}
            C: you (\\Draft) CATENATE (URL u) "01-Jan-2024 00:00:00 +0000" CATENATE (URL v)
            S: a OK AppendEnd done
        """, IN)  # fmt: skip
        appends = [event for event in script.events if isinstance(event, c.Append)]
        assert [(event.catenated, event.following, event.size) for event in appends] == [
            (True, False, 0), (False, True, 3), (True, True, 0), (True, True, 0)
        ]  # fmt: skip
        assert isinstance(script.events[-1], c.AppendEnd)

    @pytest.mark.parametrize(
        ("kind", "skipped"),
        [(c.Append, "C: hi URL v)\n"), (x.CatenateUrl, "C: hi URL v)\n"), (x.CatenateText, "C: hi URL v)\n")],
    )
    def test_refused_and_what_comes_anyway_is_skipped(self, kind: type[c.Command], skipped: str) -> None:
        converse(
            "C: a APPEND INBOX CATENATE (URL u TEXT {2+}\n" + skipped + "S: a NO [BADURL u] no\n"
            "C: z NOOP\nS: * 3 EXISTS\nS: z OK Noop done",
            IN, refused={kind: r.Tagged("", "NO", "no", "BADURL u")},
        )  # fmt: skip

    @pytest.mark.parametrize("kind", [c.Append, x.CatenateUrl, x.CatenateText])
    def test_refused_while_the_client_waits(self, kind: type[c.Command]) -> None:
        converse(
            "C: a APPEND INBOX CATENATE (URL u TEXT {2}\nS: a NO no\nC: z NOOP\nS: * 3 EXISTS\nS: z OK Noop done",
            IN, refused={kind: r.Tagged("", "NO", "no")},
        )  # fmt: skip

    @pytest.mark.parametrize(
        "parts",
        ["()", "(URL)", "(URL )", "(TEXT x)", "(URL u", "(URL uURL v)", "( URL u)", "(URL u )", "(FOO u)", "(URL u) x",
         "(URL u TEXT {2+}\nC: hi", "(TEXT {2+}\nC: hiURL u)", "(URL {2+}\nC: hi", "(URL u FOO {2+}\nC: hi)", "(URL ~{2+}\nC: hi)",
         "(URL {4097+}\nC: " + "u" * 4097 + ")"],
    )  # fmt: skip
    def test_malformed_and_the_next_command_works(self, parts: str) -> None:
        script = Script(opened(IN))
        wire = f"a APPEND INBOX CATENATE {parts}".replace("\nC: ", "\r\n").encode()
        said = script.feed(wire + b"\r\nz NOOP\r\n")
        assert said.startswith(b"a BAD ")
        assert said.endswith(b"\r\n* 3 EXISTS\r\nz OK Noop done\r\n")
        assert said.count(b"\r\n") == 3

    def test_the_sum_of_texts_is_bounded(self) -> None:
        converse("""
            C: a APPEND INBOX CATENATE (TEXT {6+}
            C: 123456 TEXT {6}
            S: a NO [TOOBIG] message too large
        """, IN, Limits(message=10))  # fmt: skip

    def test_the_count_of_parts_is_bounded(self) -> None:
        script = Script(opened(IN, Limits(literals=5)))
        said = script.feed(b"a APPEND INBOX CATENATE (" + b"URL u " * 8 + b"URL u)\r\n")
        assert said == b"a NO [LIMIT] too many messages\r\n"


class TestReplace:
    def test_by_number_and_by_uid(self) -> None:
        script = converse("""
            C: a REPLACE 4 Drafts (\\Seen) {3}
            S: + go ahead
            C: new
            S: a OK AppendEnd done
            C: b UID REPLACE 4294967295 {6+}
            C: Drafts {3+}
            C: new
            S: b OK AppendEnd done
            C: c REPLACE * Drafts CATENATE (URL u)
            S: c OK AppendEnd done
        """, State.SELECTED)  # fmt: skip
        replaced = [event.replaces for event in script.events if isinstance(event, c.Append)]
        assert replaced == [c.Replaced(False, 4), c.Replaced(True, 2**32 - 1), c.Replaced(False, 0)]

    def test_only_one_message(self) -> None:
        converse("""
            C: a REPLACE 4 Drafts {3+}
            C: new {3+}
            C: two
            S: a BAD REPLACE takes one message
            C: z NOOP
            S: * 3 EXISTS
            S: z OK Noop done
        """, State.SELECTED)  # fmt: skip


class TestBinaryLiterals:
    def test_append_may_hold_nul(self) -> None:
        wire = b"a APPEND INBOX ~{3+}\r\n\0\xff\0\r\n"
        script = Script(opened(IN))
        assert script.feed(wire) == b"a OK AppendEnd done\r\n"
        assert script.events == [
            c.Append("a", "INBOX", 3, synchronizing=False, binary=True),
            c.AppendChunk("a", b"\0\xff\0"),
            c.AppendEnd("a"),
        ]

    def test_utf8(self) -> None:
        script = converse("""
            C: a APPEND INBOX (\\Seen) UTF8 (~{3}
            S: + go ahead
            C: new) {2+}
            C: hi
            S: a OK AppendEnd done
        """, IN)  # fmt: skip
        assert script.events[0] == c.Append("a", "INBOX", 3, frozenset({r"\Seen"}), binary=True, utf8=True)

    def test_utf8_without_its_end(self) -> None:
        converse("C: a APPEND INBOX UTF8 (~{3+}\nC: new\nS: a BAD expected )", IN)

    def test_refused_elsewhere_and_skipped(self) -> None:
        converse("""
            C: a LIST "" ~{3+}
            C: abc
            S: a BAD literal8 is not allowed here
            C: b SETMETADATA INBOX (/shared/x ~{3}
            S: + go ahead
            C: abc)
            S: b OK SetMetadata done
        """, IN)  # fmt: skip


class TestUtf8Names:
    @pytest.mark.parametrize("name", ["UTF8=ACCEPT", "IMAP4rev2"])
    def test_names_are_utf8_after_enable(self, name: str) -> None:
        script = converse(
            f"""
            C: a LIST "" "Entw&APw-rfe"
            S: * LIST () "/" Entw&APw-rfe
            S: a OK List done
            C: b ENABLE {name}
            S: * ENABLED {name.upper()}
            S: b OK Enable done
            C: c LIST "" "Entwürfe"
            S: * LIST () "/" "Entwürfe"
            S: c OK List done
            C: d CREATE "Entw&APw-rfe"
            S: d OK Create done
            C: e APPEND Entwürfe {{2+}}
            C: hi
            S: e OK AppendEnd done
        """,
            IN,
        )
        assert script.events[3] == c.Create("d", "Entw&APw-rfe")
        assert script.events[4] == c.Append("e", "Entwürfe", 2, synchronizing=False)

    def test_another_enable_changes_nothing(self) -> None:
        script = converse("C: a ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: a OK Enable done", IN)
        assert not script.session.utf8

    def test_a_new_user_begins_anew(self) -> None:
        script = converse("""
            C: a ENABLE UTF8=ACCEPT
            S: * ENABLED UTF8=ACCEPT
            S: a OK Enable done
            C: b UNAUTHENTICATE
            S: b OK Unauthenticate done
            C: c SELECT INBOX
            S: c BAD not allowed in the not authenticated state
            C: d LOGIN bob secret
            S: d OK Login done
            C: e CREATE "&AOk-"
            S: e OK Create done
        """, State.SELECTED)  # fmt: skip
        assert script.events[-1] == c.Create("e", "é")


def compressing(script: Script) -> Deflate:
    """The session after COMPRESS; the client's side of it."""
    assert script.feed(b"c COMPRESS DEFLATE\r\n") == b"c OK Compress done\r\n"
    return Deflate()


def plain(codec: Deflate, wire: bytes) -> bytes:
    codec.feed(wire)
    return b"".join(iter(codec.inflate, b""))


class TestCompress:
    @pytest.mark.parametrize("step", [1, 7, 1 << 20])
    def test_a_conversation(self, step: int) -> None:
        script = Script(opened(IN))
        codec = compressing(script)
        lines = b"a NOOP\r\nb APPEND INBOX {5+}\r\nhello\r\nd SELECT INBOX\r\n"
        wire = codec.deflate(lines)
        said = b"".join(script.feed(wire[at : at + step]) for at in range(0, len(wire), step))
        assert plain(codec, said) == (
            b"* 3 EXISTS\r\na OK Noop done\r\nb OK AppendEnd done\r\nd OK Select done\r\n"
        )
        assert script.session.state is State.SELECTED

    def test_twice(self) -> None:
        script = Script(opened(IN))
        codec = compressing(script)
        said = script.feed(codec.deflate(b"d COMPRESS DEFLATE\r\n"))
        assert plain(codec, said) == b"d NO [COMPRESSIONACTIVE] already compressed\r\n"

    def test_refused_it_stays_plain(self) -> None:
        converse("C: a COMPRESS DEFLATE\nS: a NO no\nC: b NOOP\nS: * 3 EXISTS\nS: b OK Noop done", IN,
                 refused={x.Compress: r.Tagged("", "NO", "no")})  # fmt: skip

    def test_a_bomb_is_inflated_in_pieces_and_ends_in_bye(self) -> None:
        session = opened(IN, Limits(line=1000, skipped=100_000))
        script = Script(session)
        codec = compressing(script)
        bomb = codec.deflate(b"x" * 50_000_000)
        assert len(bomb) < 60_000
        said = plain(codec, script.feed(bomb))
        assert said.startswith(b"* BAD line too long\r\n* BYE [TOOBIG] ")
        assert len(session._framer._buffer) < 200_000

    @pytest.mark.parametrize(("line", "most"), [(b"\r\n", 1), (b"a NOOP\r\n", 8193)])
    def test_much_in_little_gives_way_to_others(self, line: bytes, most: int) -> None:
        """Neither much that is nothing to answer, nor many commands with a client that reads: a piece at a time."""
        session = Server(preauthenticated=True)
        session.receive_data(b"a COMPRESS DEFLATE\r\n")
        session.next_event()
        session.send(r.Tagged("a", "OK", "on"))
        session.receive_data(Deflate().deflate(line * (300_000 // len(line)) + b"b NOOP\r\n"))
        turns = [0]
        while (event := session.next_event()) != c.Noop("b"):
            turns += [0] * session.busy
            turns[-1] += event is not None
            assert event is not None or session.busy
        assert len(turns) == 5
        assert max(turns) <= most
        assert session.next_event() is None
        assert not session.busy

    def test_rubbish_is_the_end(self) -> None:
        script = Script(opened(IN))
        codec = compressing(script)
        said = plain(codec, script.feed(b"\xff\xff\xff NOOP\r\n"))
        assert said.startswith(b"* BYE ")
        assert script.session.closed

    def test_each_answer_can_be_read_at_once(self) -> None:
        codec = Deflate()
        inflate = zlib.decompressobj(-15)
        for line in (b"* OK\r\n", b"", b"* 1 EXISTS\r\n"):
            assert inflate.decompress(codec.deflate(line)) == line

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.binary(max_size=3000), max_size=6), st.integers(1, 500), st.integers(1, 5000))
    def test_any_cut_and_any_piece(self, pieces: list[bytes], step: int, most: int) -> None:
        sender, receiver = Deflate(), Deflate()
        wire = b"".join(map(sender.deflate, pieces))
        got = b""
        for at in range(0, len(wire), step):
            receiver.feed(wire[at : at + step])
            while data := receiver.inflate(most):
                assert len(data) <= most
                got += data
        assert got == b"".join(pieces)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300))
    def test_no_octets_raise(self, data: bytes) -> None:
        script = Script(opened(IN))
        compressing(script)
        script.feed(data)


def test_language_in_any_state() -> None:
    for state in (State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED):
        assert one(b"a LANGUAGE de\r\n", state) == x.Language("a", ("de",))


def test_compress_drops_nothing_sent_right_behind() -> None:
    session = Server(preauthenticated=True)
    codec = Deflate()
    session.receive_data(b"a COMPRESS DEFLATE\r\n" + codec.deflate(b"b NOOP\r\n"))
    assert session.next_event() == x.Compress("a", "DEFLATE")
    assert session.next_event() is None
    assert session.send(r.Tagged("a", "OK", "on")) == b"a OK on\r\n"
    assert session.next_event() == c.Noop("b")
