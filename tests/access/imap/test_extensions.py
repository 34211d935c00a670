"""Extensions over the real store: QRESYNC, SEARCHRES, WITHIN, PARTIAL, SORT, THREAD, COMPRESS, UNAUTHENTICATE."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mailstack.wire.imap.compression import Deflate
from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]


def mail(subject: str = "", sender: str = "bob@b.test", **fields: str) -> bytes:
    lines = [f"From: {sender}", f"Subject: {subject}"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\nbody\r\n").encode()


def number(said: bytes, before: bytes) -> int:
    found = re.search(re.escape(before) + rb"(\d+)", said)
    assert found is not None, said
    return int(found[1])


@pytest.fixture
def five(world: World) -> Client:
    for at in range(5):
        world.append(mail(f"number {at}"), date=1_790_000_000 - 100 * at)
    return world.connect().select()


class TestQresync:
    def test_it_must_be_enabled(self, five: Client, talk: Talk) -> None:
        talk(five, """
            C: a SELECT INBOX (QRESYNC (1 1))
            S: a BAD QRESYNC needs ENABLE QRESYNC
            C: b UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)
            S: b BAD VANISHED needs ENABLE QRESYNC
            C: c ENABLE QRESYNC X-UNKNOWN
            S: * ENABLED QRESYNC
            S: c OK ENABLE completed
            C: d UID FETCH 1:* (UID) (CHANGEDSINCE 1000000 VANISHED)
            S: d OK UID FETCH completed
        """)  # fmt: skip

    def test_what_vanishes_is_told_by_uid(self, world: World, five: Client, talk: Talk) -> None:
        other = world.connect().select()
        other.ask("e ENABLE QRESYNC")
        talk(five, r"""
            C: a ENABLE QRESYNC
            S: * ENABLED QRESYNC
            S: a OK ENABLE completed
            C: b UID STORE 2,4:5 +FLAGS.SILENT (\Deleted)
            S: * 2 FETCH (UID 2 MODSEQ (...))
            S: * 4 FETCH (UID 4 MODSEQ (...))
            S: * 5 FETCH (UID 5 MODSEQ (...))
            S: b OK UID STORE completed
            C: c EXPUNGE
            S: * VANISHED 2,4:5
            S: * 2 RECENT
            S: c OK [HIGHESTMODSEQ ...] EXPUNGE completed
            C: d EXPUNGE
            S: d OK EXPUNGE completed
        """)  # fmt: skip
        said = other.ask("a NOOP")
        assert said == b"* VANISHED 2,4:5\r\na OK NOOP completed\r\n"

    def test_flags_come_with_the_uid(self, world: World, five: Client) -> None:
        other = world.connect().select()
        other.ask("e ENABLE QRESYNC")
        five.ask(r"a STORE 3 +FLAGS (\Seen)")
        assert re.match(rb"\* 3 FETCH \(UID 3 MODSEQ \(\d+\) FLAGS \(\\Seen\)\)\r\na OK", other.ask("a NOOP"))

    def test_what_was_missed(self, world: World, five: Client) -> None:
        said = five.ask("a SELECT INBOX")
        uidvalidity, modseq = number(said, b"[UIDVALIDITY "), number(said, b"[HIGHESTMODSEQ ")
        five.ask(r"b STORE 2,4 +FLAGS.SILENT (\Deleted)")
        five.ask("c EXPUNGE")
        five.ask(r"d STORE 3 +FLAGS.SILENT (\Flagged)")
        world.append(mail("new"))
        client = world.connect().login()
        client.ask("a ENABLE QRESYNC")
        said = client.ask(f"b SELECT INBOX (QRESYNC ({uidvalidity} {modseq}))")
        lines = said.split(b"\r\n")
        assert b"* VANISHED (EARLIER) 2,4" in lines
        changed = [line for line in lines if b" FETCH " in line]
        assert [re.sub(rb"\d+\)", b"N)", line, count=1) for line in changed] == [
            rb"* 3 FETCH (UID 5 MODSEQ (N) FLAGS (\Flagged))",
            rb"* 4 FETCH (UID 6 MODSEQ (N) FLAGS (\Recent))",
        ]
        assert lines[-2] == b"b OK [READ-WRITE] SELECT completed"

    def test_only_of_the_uids_that_the_client_knows(self, world: World, five: Client) -> None:
        said = five.ask("a SELECT INBOX")
        uidvalidity, modseq = number(said, b"[UIDVALIDITY "), number(said, b"[HIGHESTMODSEQ ")
        five.ask(r"b STORE 1,2,4 +FLAGS.SILENT (\Deleted)")
        five.ask("c UID EXPUNGE 2,4")
        client = world.connect().login()
        client.ask("a ENABLE QRESYNC")
        said = client.ask(f"b SELECT INBOX (QRESYNC ({uidvalidity} {modseq} 1:2,5 (1:2 1:2)))")
        assert b"* VANISHED (EARLIER) 2\r\n" in said
        assert said.count(b" FETCH ") == 1
        said = client.ask(f"c UID FETCH 3:9 (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
        assert said == b"* VANISHED (EARLIER) 4\r\nc OK UID FETCH completed\r\n"

    def test_another_uidvalidity_tells_nothing(self, five: Client) -> None:
        five.ask("a ENABLE QRESYNC")
        said = five.ask("b SELECT INBOX (QRESYNC (7 1))")
        assert said.startswith(b"* OK [CLOSED] ")
        assert b"VANISHED" not in said
        assert b" FETCH " not in said

    def test_where_the_index_has_forgotten_all_that_is_missing_is_told(
        self, world: World, five: Client
    ) -> None:
        said = five.ask("a SELECT INBOX")
        uidvalidity, modseq = number(said, b"[UIDVALIDITY "), number(said, b"[HIGHESTMODSEQ ")
        five.ask(r"b STORE 2,4 +FLAGS.SILENT (\Deleted)")
        five.ask("c EXPUNGE")
        with world.database.engine.begin() as db:
            db.exec_driver_sql("DELETE FROM expunged")
            db.exec_driver_sql("UPDATE mailboxes SET forgotten = modseq")
        five.ask("d ENABLE QRESYNC")
        said = five.ask(f"e SELECT INBOX (QRESYNC ({uidvalidity} {modseq} 1:5))")
        assert b"* VANISHED (EARLIER) 2,4\r\n" in said

    def test_move_vanishes_too(self, five: Client, talk: Talk) -> None:
        talk(five, """
            C: a ENABLE QRESYNC
            S: * ENABLED QRESYNC
            S: a OK ENABLE completed
            C: b MOVE 1:2 Trash
            S: * OK [COPYUID ... 1:2 1:2] Moved
            S: * VANISHED 1:2
            S: * 3 RECENT
            S: b OK [HIGHESTMODSEQ ...] MOVE completed
        """)  # fmt: skip


class TestSavedResult:
    def test_every_command_takes_it(self, five: Client, talk: Talk) -> None:
        talk(five, r"""
            C: a SEARCH RETURN (SAVE) OR SUBJECT "number 1" SUBJECT "number 3"
            S: a OK SEARCH completed
            C: b FETCH $ (UID)
            S: * 2 FETCH (UID 2)
            S: * 4 FETCH (UID 4)
            S: b OK FETCH completed
            C: c UID STORE $ +FLAGS.SILENT (\Deleted)
            S: c OK UID STORE completed
            C: d UID SEARCH $
            S: * SEARCH 2 4
            S: d OK UID SEARCH completed
            C: e SEARCH NOT UID $
            S: * SEARCH 1 3 5
            S: e OK SEARCH completed
            C: e2 SEARCH OR $ OR SUBJECT "number 0" NOT FUZZY NOT $
            S: * SEARCH 1 2 4
            S: e2 OK SEARCH completed
            C: f UID COPY $ Trash
            S: f OK [COPYUID ... 2,4 1:2] COPY completed
            C: g UID SORT (REVERSE ARRIVAL) UTF-8 $
            S: * SORT 2 4
            S: g OK UID SORT completed
            C: h UID EXPUNGE $
            S: * 4 EXPUNGE
            S: * 2 EXPUNGE
            S: * 3 RECENT
            S: h OK EXPUNGE completed
            C: i FETCH $ (UID)
            S: i OK FETCH completed
        """)  # fmt: skip

    def test_which_part_is_saved(self, five: Client, talk: Talk) -> None:
        talk(five, """
            C: a SEARCH RETURN (SAVE MIN) ALL
            S: * ESEARCH (TAG "a") MIN 1
            S: a OK SEARCH completed
            C: b SEARCH $
            S: * SEARCH 1
            S: b OK SEARCH completed
            C: c SEARCH RETURN (SAVE MIN MAX) 2:4
            S: * ESEARCH (TAG "c") MIN 2 MAX 4
            S: c OK SEARCH completed
            C: d SEARCH $
            S: * SEARCH 2 4
            S: d OK SEARCH completed
            C: e SEARCH RETURN (SAVE MIN COUNT) 2:4
            S: * ESEARCH (TAG "e") MIN 2 COUNT 3
            S: e OK SEARCH completed
            C: f SEARCH $
            S: * SEARCH 2 3 4
            S: f OK SEARCH completed
            C: g SEARCH RETURN (SAVE PARTIAL -1:-2 MIN) ALL
            S: * ESEARCH (TAG "g") MIN 1 PARTIAL (-1:-2 4:5)
            S: g OK SEARCH completed
            C: h SEARCH $
            S: * SEARCH 1 4 5
            S: h OK SEARCH completed
            C: i SEARCH RETURN (SAVE) SUBJECT nothing
            S: i OK SEARCH completed
            C: j SEARCH $
            S: * SEARCH
            S: j OK SEARCH completed
        """)  # fmt: skip

    def test_a_new_mailbox_begins_empty(self, five: Client) -> None:
        five.ask("a SEARCH RETURN (SAVE) ALL")
        five.ask("b SELECT INBOX")
        assert five.ask("c SEARCH $") == b"* SEARCH\r\nc OK SEARCH completed\r\n"


def test_within(five: Client, talk: Talk) -> None:
    talk(five, """
        C: a SEARCH YOUNGER 150
        S: * SEARCH 1 2
        S: a OK SEARCH completed
        C: b SEARCH OLDER 200
        S: * SEARCH 3 4 5
        S: b OK SEARCH completed
        C: c SEARCH NOT OLDER 200 YOUNGER 100
        S: * SEARCH 1 2
        S: c OK SEARCH completed
    """)  # fmt: skip


def test_partial(five: Client, talk: Talk) -> None:
    talk(five, """
        C: a UID SEARCH RETURN (PARTIAL 2:3 COUNT) ALL
        S: * ESEARCH (TAG "a") UID COUNT 5 PARTIAL (2:3 2:3)
        S: a OK UID SEARCH completed
        C: b UID SEARCH RETURN (PARTIAL 9:7) ALL
        S: * ESEARCH (TAG "b") UID PARTIAL (7:9 NIL)
        S: b OK UID SEARCH completed
        C: c UID FETCH 2:5 (UID) (PARTIAL -1:-2)
        S: * 4 FETCH (UID 4)
        S: * 5 FETCH (UID 5)
        S: c OK UID FETCH completed
        C: d UID FETCH 2:5 (UID) (PARTIAL 9:10)
        S: d OK UID FETCH completed
        C: e UID SORT RETURN (PARTIAL 1:2) (ARRIVAL) UTF-8 ALL
        S: * ESEARCH (TAG "e") UID PARTIAL (1:2 5,4)
        S: e OK UID SORT completed
    """)  # fmt: skip


@pytest.fixture
def mixed(world: World) -> Client:
    world.append(
        mail("Re: b", "Zed <al@x.test>", to="Mia <m@x.test>", date="Thu, 1 Jan 2026 12:00:00 +0100"), date=30
    )
    world.append(
        mail("a", "bob@x.test", cc="q@x.test", date="Thu, 1 Jan 2026 10:30:00 +0000") + b"longer\r\n", date=20
    )
    world.append(mail("=?utf-8?q?=C3=A4?=", "Al <zed@x.test>", to="kai@x.test", date="rubbish"), date=10)
    return world.connect().select()


class TestSort:
    @pytest.mark.parametrize(
        ("criteria", "order"),
        [
            ("ARRIVAL", "3 2 1"),
            ("REVERSE ARRIVAL", "1 2 3"),
            ("DATE", "3 2 1"),  # 10 s after 1970, as its Date is rubbish; 10:30 UTC; 11:00 UTC
            ("SUBJECT", "2 3 1"),
            ("FROM", "1 2 3"),
            ("DISPLAYFROM", "3 2 1"),
            ("TO", "2 3 1"),
            ("DISPLAYTO", "2 3 1"),
            ("CC REVERSE ARRIVAL", "1 3 2"),
        ],
    )
    def test_criteria(self, mixed: Client, criteria: str, order: str) -> None:
        said = mixed.ask(f"a SORT ({criteria}) UTF-8 ALL")
        assert said == f"* SORT {order}\r\na OK SORT completed\r\n".encode()

    def test_extended(self, mixed: Client, talk: Talk) -> None:
        talk(mixed, """
            C: a SORT RETURN (MIN MAX COUNT ALL) (ARRIVAL) UTF-8 ALL
            S: * ESEARCH (TAG "a") MIN 3 MAX 1 COUNT 3 ALL 3,2,1
            S: a OK SORT completed
            C: b UID SORT RETURN () (FROM) UTF-8 SUBJECT nothing
            S: * ESEARCH (TAG "b") UID
            S: b OK UID SORT completed
            C: c SORT (DATE) UTF-8 SUBJECT nothing
            S: * SORT
            S: c OK SORT completed
            C: d SORT (RELEVANCY) UTF-8 ALL
            S: d BAD RELEVANCY needs FUZZY
        """)  # fmt: skip

    def test_with_modseq(self, mixed: Client) -> None:
        assert re.fullmatch(
            rb"\* SORT 3 2 1 \(MODSEQ \d+\)\r\na OK SORT completed\r\n",
            mixed.ask("a SORT (ARRIVAL) UTF-8 MODSEQ 1"),
        )


class TestThread:
    def test_algorithms(self, world: World, talk: Talk) -> None:
        date = "Thu, 1 Jan 2026 1{}:00:00 +0000"
        world.append(mail("plans", message_id="<1@x>", date=date.format(0)), date=10)
        world.append(
            mail("Re: plans", message_id="<2@x>", in_reply_to="<1@x> <9@x>", date=date.format(1)), date=20
        )
        world.append(mail("other", message_id="<3@x>", date=date.format(2)), date=15)
        world.append(
            mail("new title", message_id="<4@x>", references="<1@x>\r\n <2@x>", date=date.format(3)), date=40
        )
        world.append(mail("Re: other", message_id="<5@x>", date=date.format(4)), date=12)
        client = world.connect().select()
        client.ask("x UID STORE 3 +FLAGS.SILENT (\\Seen)")
        talk(client, """
            C: a THREAD REFERENCES UTF-8 ALL
            S: * THREAD (1 2 4)(3 5)
            S: a OK THREAD completed
            C: b UID THREAD ORDEREDSUBJECT UTF-8 ALL
            S: * THREAD (1 2)(3 5)(4)
            S: b OK UID THREAD completed
            C: c UID THREAD REFS UTF-8 ALL
            S: * THREAD (5)(3)(1 2 4)
            S: c OK UID THREAD completed
            C: d THREAD REFERENCES UTF-8 SUBJECT nothing
            S: * THREAD
            S: d OK THREAD completed
            C: e THREAD REFERENCES UTF-8 UNSEEN SUBJECT other
            S: * THREAD (5)
            S: e OK THREAD completed
        """)  # fmt: skip


def test_compress(five: Client) -> None:
    assert five.ask("a COMPRESS DEFLATE") == b"a OK DEFLATE active\r\n"
    codec = Deflate()

    five.send(codec.deflate(b"b FETCH 1:2 (UID)\r\n"))
    codec.feed(five.heard())
    said = b"".join(iter(codec.inflate, b""))
    assert said == b"* 1 FETCH (UID 1)\r\n* 2 FETCH (UID 2)\r\nb OK FETCH completed\r\n"
    five.send(codec.deflate(b"c COMPRESS DEFLATE\r\nd FETCH 1:5 (BODY.PEEK[])\r\n"))
    codec.feed(five.heard())
    said = b"".join(iter(codec.inflate, b""))
    assert said.startswith(b"c NO [COMPRESSIONACTIVE] ")
    assert said.count(b"Subject: number") == 5
    assert said.endswith(b"\r\nd OK FETCH completed\r\n")


def test_unauthenticate(five: Client, talk: Talk) -> None:
    talk(five, """
        C: a ENABLE QRESYNC
        S: * ENABLED QRESYNC
        S: a OK ENABLE completed
        C: b UNAUTHENTICATE
        S: b OK UNAUTHENTICATE completed
        C: c SELECT INBOX
        S: c BAD not allowed in the not authenticated state
        C: d LOGIN bob@example.test sesame
        S: d OK [CAPABILITY ...] Logged in
        C: e SELECT INBOX (QRESYNC (1 1))
        S: e BAD QRESYNC needs ENABLE QRESYNC
        C: f STATUS INBOX (MESSAGES APPENDLIMIT)
        S: * STATUS INBOX (MESSAGES 0 APPENDLIMIT 52428800)
        S: f OK STATUS completed
    """)  # fmt: skip


def test_who_is_nobody_again_has_no_more_time_than_before(world: World, five: Client) -> None:
    five.ask("a UNAUTHENTICATE")
    world.clock.advance(world.config.login_seconds - 1)
    assert not five.closed
    world.clock.advance(1)
    assert five.heard().startswith(b"* BYE ")
    assert five.closed
