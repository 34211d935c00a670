"""UTF8=ACCEPT (RFC 6855): names, strings, APPEND, what is told of messages with UTF-8 in their headers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailstack.access.settings import ImapConfig
from mailstack.mail.eight_bit import Header
from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]

LETTER = (
    "From: Jörg <jörg@bücher.test>\r\nTo: Ana <ana@bücher.test>\r\nSubject: Grüße\r\n"
    'Content-Type: text/plain; name="ü.txt"\r\n\r\nGuten Tag\r\n'
).encode()


class TestEnable:
    def test_names_are_in_utf8_from_then_on(self, world: World, talk: Talk) -> None:
        client = world.connect().login()
        talk(client, """
            C: a CREATE Entw&APw-rfe
            S: a OK [MAILBOXID ...] CREATE completed
            C: b LIST "" E*
            S: * LIST (\\HasNoChildren) "/" Entw&APw-rfe
            S: b OK LIST completed
            C: c ENABLE UTF8=ACCEPT
            S: * ENABLED UTF8=ACCEPT
            S: c OK ENABLE completed
            C: d LIST "" "Entwü*"
            S: * LIST (\\HasNoChildren) "/" "Entwürfe"
            S: d OK LIST completed
            C: e STATUS "Entwürfe" (MESSAGES)
            S: * STATUS "Entwürfe" (MESSAGES 0)
            S: e OK STATUS completed
            C: f CREATE "A&B"
            S: f OK [MAILBOXID ...] CREATE completed
            C: g LIST "" A*
            S: * LIST (\\HasNoChildren) "/" A&B
            S: * LIST (\\HasNoChildren \\Archive) "/" Archive
            S: g OK LIST completed
            C: h MYRIGHTS "Entwürfe"
            S: * MYRIGHTS "Entwürfe" ...
            S: h OK MYRIGHTS completed
        """)  # fmt: skip

    def test_a_name_in_utf8_is_understood_before_too(self, world: World, talk: Talk) -> None:
        """RFC 6855 section 3: the quoted form is for any argument, whatever was enabled."""
        talk(world.connect().login(), """
            C: a CREATE "Entwürfe"
            S: a OK [MAILBOXID ...] CREATE completed
            C: b LIST "" E*
            S: * LIST (\\HasNoChildren) "/" Entw&APw-rfe
            S: b OK LIST completed
        """)  # fmt: skip

    def test_octets_that_are_not_utf8_are_bad(self, world: World) -> None:
        client = world.connect().login()
        assert client.ask(b'a SELECT "\xff\xfe"') == b"a BAD expected UTF-8\r\n"
        assert client.ask(b'a SEARCH SUBJECT "\xff"').startswith(b"a BAD")
        client.ask("b ENABLE UTF8=ACCEPT")
        assert client.ask(b'a SELECT "\xc3"') == b"a BAD expected UTF-8\r\n"
        assert client.ask(b"a SELECT {1+}\r\n\xc3") == b"a BAD expected UTF-8\r\n"
        assert client.ask(b'a CREATE "\xed\xa0\x80"') == b"a BAD expected UTF-8\r\n"  # a surrogate
        assert client.ask("c NOOP") == b"c OK NOOP completed\r\n"

    @pytest.mark.parametrize("name", ["a\u0085b", "a\u2028b", "a\u2029b", "a\x7fb", "a\x01b"])
    def test_names_hold_no_control_character(self, world: World, name: str) -> None:
        """RFC 6855 section 3."""
        client = world.connect().login()
        client.ask("a ENABLE UTF8=ACCEPT")
        assert client.ask(f'b CREATE "{name}"').startswith(b"b NO [CANNOT]")

    def test_search_has_no_charset(self, world: World, talk: Talk) -> None:
        world.append(LETTER)
        client = world.connect().select()
        talk(client, """
            C: a SEARCH CHARSET UTF-8 SUBJECT "Grüße"
            S: * SEARCH 1
            S: a OK SEARCH completed
            C: b ENABLE UTF8=ACCEPT
            S: * ENABLED UTF8=ACCEPT
            S: b OK ENABLE completed
            C: c SEARCH CHARSET UTF-8 SUBJECT "Grüße"
            S: c BAD no charset after UTF8=ACCEPT
            C: d SEARCH SUBJECT "grüße"
            S: * SEARCH 1
            S: d OK SEARCH completed
            C: e ESEARCH RETURN (COUNT) CHARSET UTF-8 SUBJECT "x"
            S: e BAD no charset after UTF8=ACCEPT
            C: f SORT (SUBJECT) UTF-8 SUBJECT "grüße"
            S: * SORT 1
            S: f OK SORT completed
            C: g UNAUTHENTICATE
            S: g OK UNAUTHENTICATE completed
        """)  # fmt: skip
        client.select()
        assert b"* SEARCH 1\r\n" in client.ask('h SEARCH CHARSET UTF-8 SUBJECT "Grüße"')


class TestFetch:
    def test_who_has_not_enabled_it_reads_seven_bits(self, world: World) -> None:
        world.append(LETTER)
        said = world.connect().select().ask("a FETCH 1 (ENVELOPE BODYSTRUCTURE)")
        assert said.isascii()
        assert b'"invalid" "internationalized-address.invalid"' in said
        assert b'((NIL NIL "ana" "xn--bcher-kva.test"))' in said.replace(b'"Ana"', b"NIL")
        assert b'("name" "=?utf-8?' in said

    def test_much_of_it_is_written_in_a_thread(self, world: World) -> None:
        """A header of 200 KiB that somebody has sent must not keep others waiting."""
        world.append(
            b"To: " + b", ".join(b"a@\xc3\xbc%d.test" % number for number in range(4000)) + b"\r\n\r\n"
        )
        world.append("Subject: {}\r\n\r\n".format("ü" * 100_000).encode())
        client = world.connect().select()
        world.work.trips.clear()
        said = client.ask("a FETCH 1:2 ENVELOPE")
        assert said.isascii()
        assert b'"a" "xn--0-dha.test"' in said
        assert said.count(b"=?utf-8?b?w7zDvMO8") > 4000
        assert "compute" in world.work.trips
        client.ask("b ENABLE UTF8=ACCEPT")
        world.work.trips.clear()
        assert "ü" * 100_000 in client.ask("c FETCH 1:2 ENVELOPE").decode()
        assert "compute" not in world.work.trips

    def test_who_has_reads_utf8(self, world: World, talk: Talk) -> None:
        world.append(LETTER)
        client = world.connect().login()
        client.ask("e ENABLE UTF8=ACCEPT")
        client.ask("s SELECT INBOX")
        who = '(("Jörg" NIL "jörg" "bücher.test"))'
        talk(client, f"""
            C: a FETCH 1 (ENVELOPE BODYSTRUCTURE)
            S: * 1 FETCH (ENVELOPE (NIL "Grüße" {who} {who} {who} (("Ana" NIL "ana" "bücher.test")) NIL NIL NIL NIL) BODYSTRUCTURE ("text" "plain" ("name" "ü.txt" "charset" "us-ascii") NIL NIL "7bit" 11 1 NIL NIL NIL NIL))
            S: a OK FETCH completed
        """)  # fmt: skip

    def test_the_message_itself_is_the_same_for_all(self, world: World) -> None:
        """Its octets, its size and its signatures are those that came (RFC 6855 section 7 leaves the choice)."""
        world.append(LETTER)
        for enable in ("NOOP", "ENABLE UTF8=ACCEPT"):
            client = world.connect().login()
            client.ask(f"e {enable}")
            client.ask("s EXAMINE INBOX")
            assert LETTER in client.ask("a FETCH 1 BODY[]")
            assert "Subject: Grüße\r\n".encode() in client.ask("a FETCH 1 BODY[HEADER.FIELDS (SUBJECT)]")
            assert b"RFC822.SIZE %d)" % len(LETTER) in client.ask("a FETCH 1 RFC822.SIZE")


class TestAppend:
    def test_a_message_with_utf8_in_its_header(self, world: World, talk: Talk) -> None:
        client = world.connect().select()
        talk(client, """
            C: a ENABLE UTF8=ACCEPT
            S: * ENABLED UTF8=ACCEPT
            S: a OK ENABLE completed
            C: b APPEND INBOX (\\Seen) UTF8 (~{20+}
            C: Subject: Grüße
            C:
            C: )
            S: * 1 EXISTS
            S: * 1 RECENT
            S: b OK [APPENDUID ... 1] APPEND completed
            C: c FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]
            S: * 1 FETCH (BODY[HEADER.FIELDS (SUBJECT)] {20}
            S: Subject: Grüße
            S:
            S: )
            S: c OK FETCH completed
        """)  # fmt: skip

    def test_as_a_part_of_catenate(self, world: World) -> None:
        """RFC 6855 section 4: cat-part =/ utf8-literal."""
        for one_by_one in (False, True):
            client = world.connect().login()
            client.ask("a ENABLE UTF8=ACCEPT")
            head = "Subject: Grüße\r\n\r\n".encode()
            line = b"b APPEND Sent CATENATE (UTF8 (~{%d+}\r\n%b) TEXT {3+}\r\nabc)\r\n" % (len(head), head)
            client.send(line, one_by_one)
            assert b"b OK [APPENDUID" in client.heard()
            client.ask("s SELECT Sent")
            assert head + b"abc" in client.ask("c FETCH * BODY.PEEK[]")

    def test_a_part_of_catenate_that_is_not_closed(self, world: World) -> None:
        client = world.connect().login()
        client.ask("a ENABLE UTF8=ACCEPT")
        assert client.ask(b"b APPEND Sent CATENATE (UTF8 (~{3+}\r\nabc TEXT {1+}\r\na)").startswith(b"b BAD")
        assert client.ask(b"b APPEND Sent CATENATE (UTF8 ({3+}\r\nabc))").startswith(b"b BAD")
        assert client.ask("c NOOP") == b"c OK NOOP completed\r\n"

    def test_old_clients_may_be_refused(self) -> None:
        """RFC 6855 section 4, where the operator wants it: old mail often has 8-bit octets there."""
        world = World(ImapConfig(refuse_8bit_headers=True))
        try:
            client = world.connect().login()
            said = b"b NO [CANNOT] A header in UTF-8 needs ENABLE UTF8=ACCEPT\r\n"
            line = b"b APPEND Sent {%d+}\r\n%b" % (len(LETTER), LETTER)
            assert client.ask(line) == said
            plain = "Subject: s\r\n\r\nGrüße\r\n".encode()  # in the body, that is
            assert client.ask(b"b APPEND Sent {%d+}\r\n%b" % (len(plain), plain)).startswith(b"b OK")
            client.ask("c ENABLE UTF8=ACCEPT")
            assert client.ask(line).startswith(b"b OK")
        finally:
            world.close()

    @pytest.mark.parametrize(
        ("message", "is_so"),
        [
            (b"a: b\r\n\r\n\xff", False),
            (b"a: \xff\r\n\r\n", True),
            (b"a: b\n\n\xff", False),
            (b"\r\n\xff", False),
            (b"\n\xff", False),
            (b"a: b\r\nc: \xff", True),
            (b"\xff", True),
            (b"a: b\r\n\r\n", False),
            (b"", False),
        ],
    )
    def test_header_in_pieces(self, message: bytes, is_so: bool) -> None:
        assert Header().has_8bit(message) is is_so
        for size in (1, 2, 3):
            header = Header()
            pieces = [message[at : at + size] for at in range(0, len(message), size)]
            assert (sum(map(header.has_8bit, pieces)) > 0) is is_so
