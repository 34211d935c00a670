"""REPLACE, CATENATE, BINARY, SAVEDATE, OBJECTID, PREVIEW over the real store."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.access.imap import corpus
from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]


def mail(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\nbody of {subject}\r\n".encode()


@pytest.fixture
def three(world: World) -> Client:
    for subject in ("one", "two", "three"):
        world.append(mail(subject))
    return world.connect().select()


class TestReplace:
    def test_in_place(self, three: Client, talk: Talk) -> None:
        talk(three, r"""
            C: a REPLACE 2 INBOX (\Seen) {21+}
            C: Subject: new
            C:
            C: new
            C:
            S: * OK [APPENDUID ... 4] Replacement message ready
            S: * 2 EXPUNGE
            S: * 3 EXISTS
            S: * 3 RECENT
            S: a OK REPLACE completed
            C: b UID FETCH 4 (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])
            S: * 3 FETCH (UID 4 FLAGS (\Seen \Recent) BODY[HEADER.FIELDS (SUBJECT)] {16}
            S: Subject: new
            S:
            S: )
            S: b OK UID FETCH completed
        """)  # fmt: skip

    def test_into_another_mailbox_by_uid(self, world: World, three: Client) -> None:
        said = three.ask(b"a UID REPLACE 3 Sent {8+}\r\nA: b\r\n\r\n")
        assert re.match(rb"\* OK \[APPENDUID \d+ 1\] .*\r\n\* 3 EXPUNGE\r\n", said)
        assert said.endswith(b"a OK REPLACE completed\r\n")
        assert b"MESSAGES 1" in three.ask("b STATUS Sent (MESSAGES)")

    @pytest.mark.parametrize(
        ("command", "answer"),
        [
            ("UID REPLACE 9 INBOX {3}", b"a NO [NONEXISTENT] No such message\r\n"),
            ("REPLACE 9 INBOX {3}", b"a BAD No such message number\r\n"),
            ("REPLACE 1 Nowhere {3}", b"a NO [TRYCREATE] No such mailbox; create it first\r\n"),
        ],
    )
    def test_refused(self, three: Client, command: str, answer: bytes) -> None:
        assert three.ask(f"a {command}") == answer
        assert b"MESSAGES 3" in three.ask("b STATUS INBOX (MESSAGES)")

    def test_one_that_somebody_expunged_meanwhile(self, world: World, three: Client) -> None:
        other = world.connect().select()
        three.send(b"a UID REPLACE 2 INBOX {8}\r\n")
        assert three.heard() == b"+ OK\r\n"
        other.ask(r"a STORE 2 +FLAGS.SILENT (\Deleted)")
        other.ask("b EXPUNGE")
        three.send(b"A: b\r\n\r\n\r\n")
        assert b"a NO [EXPUNGEISSUED]" in three.heard()
        assert b"MESSAGES 2" in three.ask("b STATUS INBOX (MESSAGES)")

    def test_only_what_it_adds_counts_for_the_quota(self) -> None:
        world = World(quota=(100, 1))
        try:
            world.append(b"Subject: old\r\n\r\n" + b"x" * 60)
            client = world.connect().select()
            said = client.ask(b"a REPLACE 1 INBOX {70+}\r\nSubject: new\r\n\r\n" + b"y" * 54)
            assert said.endswith(b"a OK REPLACE completed\r\n")
            said = client.ask(b"a REPLACE 1 INBOX {170+}\r\nSubject: new\r\n\r\n" + b"y" * 154)
            assert said.startswith(b"a NO [OVERQUOTA] ")
            assert b"MESSAGES 1" in client.ask("b STATUS INBOX (MESSAGES)")
        finally:
            world.close()

    def test_read_only(self, three: Client) -> None:
        three.ask("a EXAMINE INBOX")
        assert three.ask("b REPLACE 1 INBOX {3}").startswith(b"b NO [READ-ONLY]")


class TestCatenate:
    def test_a_part_of_another_message(self, world: World, talk: Talk) -> None:
        world.append(corpus.ATTACHED)
        client = world.connect().select()
        talk(client, """
            C: a APPEND Drafts CATENATE (URL "/INBOX/;UID=1/;SECTION=HEADER" TEXT {7+}
            C: Hello
            C:  URL "/INBOX;UIDVALIDITY=1/;UID=9")
            S: a NO [BADURL /INBOX;UIDVALIDITY=1/;UID=9] The URL names nothing here
        """)  # fmt: skip
        section = client.ask("b FETCH 1 BODY.PEEK[2]")
        part = section.partition(b"\r\n")[2].rpartition(b")\r\nb OK")[0]
        said = client.ask(
            b'c APPEND Drafts (\\Seen) CATENATE (TEXT {7+}\r\nA: b\r\n\r URL "/INBOX/;UID=1/;SECTION=2"'
            b' TEXT {3+}\r\nend URL "imap://mail.example.test/INBOX/;UID=1/;SECTION=2/;PARTIAL=0.4")'
        )
        assert re.fullmatch(rb"c OK \[APPENDUID \d+ 1\] APPEND completed\r\n", said)
        client.ask("d SELECT Drafts")
        whole = b"A: b\r\n\r" + part + b"end" + part[:4]
        assert b"BODY[] {%d}\r\n%b)\r\n" % (len(whole), whole) in client.ask("e FETCH 1 BODY.PEEK[]")

    @pytest.mark.parametrize(
        "url",
        ["/INBOX/;UID=7", "/Nowhere/;UID=1", "/INBOX/;UID=1/;SECTION=9", "/INBOX/;UID=1/;SECTION=X", "http://x/",
         "imap://bob@mail.example.test/INBOX/;UID=1", "imap://other.test/INBOX/;UID=1", "/INBOX"],
    )  # fmt: skip
    def test_what_names_nothing_here(self, three: Client, url: str) -> None:
        said = three.ask(f'a APPEND INBOX CATENATE (URL "{url}")')
        assert said.startswith(b"a NO [BADURL "), said
        assert b"MESSAGES 3" in three.ask("b STATUS INBOX (MESSAGES)")

    def test_too_large_in_sum(self, three: Client, world: World) -> None:
        most = world.config.max_message_octets
        said = three.ask(f'a APPEND INBOX CATENATE (URL "/INBOX/;UID=1" TEXT {{{most}}}')
        assert b"a NO [TOOBIG]" in said

    def test_nothing_at_all(self, three: Client) -> None:
        said = three.ask('a APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;PARTIAL=999.1")')
        assert said.startswith(b"a NO [CANNOT]")

    def test_big_parts_pass_through_a_file(self, world: World) -> None:
        big = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 40_000
        world.append(big)
        client = world.connect().select()
        urls = b" ".join([b'URL "/INBOX/;UID=1/;SECTION=TEXT"'] * 2)
        assert b"a OK" in client.ask(b"a APPEND Trash CATENATE (TEXT {8+}\r\nA: b\r\n\r\n " + urls + b")")
        client.ask("b SELECT Trash")
        assert b"RFC822.SIZE %d)" % (8 + 2 * 640_000) in client.ask("c FETCH 1 RFC822.SIZE")


class TestBinary:
    def test_decoded_parts(self, world: World, talk: Talk) -> None:
        world.append(corpus.ATTACHED)
        talk(world.connect().select(), """
            C: a FETCH 1 (BINARY.SIZE[1.1] BINARY.SIZE[1.2] BINARY.PEEK[1.1]<0.3> BINARY.SIZE[7] BINARY.PEEK[7])
            S: * 1 FETCH (BINARY.SIZE[1.1] 14 BINARY.SIZE[1.2] 20 BINARY[1.1]<0> {3}
            S: Caf BINARY.SIZE[7] 0 BINARY[7] NIL)
            S: a OK FETCH completed
        """)  # fmt: skip

    def test_it_marks_seen_unless_it_peeks(self, world: World) -> None:
        world.append(corpus.ATTACHED)
        client = world.connect().select()
        assert rb"\Seen" not in client.ask("a FETCH 1 BINARY.PEEK[1.2]")
        assert b"<p>Caf\xc3\xa9 in HTML</p>" in client.ask("a FETCH 1 BINARY.PEEK[1.2]")
        assert rb"FLAGS (\Seen \Recent)" in client.ask("b FETCH 1 BINARY[1.2]")

    def test_nuls_go_as_literal8(self, world: World) -> None:
        world.append(b"Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEA\r\n")
        said = world.connect().select().ask("a FETCH 1 BINARY[1]")
        assert b"BINARY[1] ~{3}\r\n\0\1\0" in said

    def test_an_unknown_encoding(self, world: World, talk: Talk) -> None:
        world.append(b"Content-Transfer-Encoding: x-uuencode\r\n\r\nabc\r\n")
        talk(world.connect().select(), """
            C: a FETCH 1 (BINARY.PEEK[1])
            S: a NO [UNKNOWN-CTE] A part has an unknown transfer encoding
            C: b FETCH 1 (BINARY.SIZE[])
            S: * 1 FETCH (BINARY.SIZE[] 46)
            S: b OK FETCH completed
        """)  # fmt: skip

    def test_a_big_one(self, world: World) -> None:
        world.append(b"Content-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 200_000)
        client = world.connect().select()
        assert b"BINARY[1] {600000}\r\nABCABC" in client.ask("a FETCH 1 BINARY[1]")

    def test_append_of_octets(self, three: Client) -> None:
        assert b"a OK [APPENDUID" in three.ask(b"a APPEND INBOX ~{9+}\r\nA: b\r\n\r\n\xff")
        said = three.ask(b"b APPEND INBOX ~{9+}\r\nA: b\r\n\r\n\0")
        assert b"b NO [UNKNOWN-CTE] " in said


class TestIdentity:
    def test_ids(self, world: World, three: Client) -> None:
        three.ask("a COPY 1 Trash")
        said = three.ask("b FETCH 1 (EMAILID THREADID)")
        found = re.search(rb"EMAILID \((M[^)]+)\) THREADID \((T[^)]+)\)", said)
        assert found is not None, said
        email, thread = found[1].decode(), found[2].decode()
        assert three.ask(f"c SEARCH EMAILID {email}") == b"* SEARCH 1\r\nc OK SEARCH completed\r\n"
        assert three.ask(f"c SEARCH NOT THREADID {thread}") == b"* SEARCH 2 3\r\nc OK SEARCH completed\r\n"
        status = re.search(rb"MAILBOXID \((F[^)]+)\)", three.ask("d STATUS Trash (MAILBOXID)"))
        assert status is not None
        selected = three.ask("e SELECT Trash")
        assert b"[MAILBOXID (%b)]" % status[1] in selected
        assert b"EMAILID (%b)" % found[1] in three.ask("f FETCH 1 EMAILID")

    def test_save_dates(self, three: Client, talk: Talk) -> None:
        talk(three, """
            C: a SEARCH SAVEDSINCE 1-Jan-2020 SAVEDATESUPPORTED
            S: * SEARCH 1 2 3
            S: a OK SEARCH completed
            C: b SEARCH SAVEDBEFORE 1-Jan-2020
            S: * SEARCH
            S: b OK SEARCH completed
        """)  # fmt: skip
        assert re.search(
            rb'SAVEDATE "[ 0-9]\d-\w{3}-\d{4} \d\d:\d\d:\d\d \+0000"', three.ask("c FETCH 1 SAVEDATE")
        )

    def test_preview(self, world: World, three: Client, talk: Talk) -> None:
        world.append(b'Subject: q\r\n\r\nHe said "hi"\r\n')
        talk(three, """
            C: a FETCH 1 (PREVIEW)
            S: * 1 FETCH (PREVIEW "body of one")
            S: * 4 EXISTS
            S: * 4 RECENT
            S: a OK FETCH completed
            C: b FETCH 4 (PREVIEW (LAZY) UID)
            S: * 4 FETCH (PREVIEW {12}
            S: He said "hi" UID 4)
            S: b OK FETCH completed
        """)  # fmt: skip
