"""What real clients send, and exactly how it is read; and what nobody should send, and how it is refused."""

from __future__ import annotations

import datetime

import pytest

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.commands import Attribute, Section
from mailstack.wire.imap.sequence import SequenceSet
from mailstack.wire.imap.states import State
from tests.wire.imap.transcript import Script, one, opened

SEEN, DELETED, FLAGGED = k.HasFlag(r"\Seen"), k.HasFlag(r"\Deleted"), k.HasFlag(r"\Flagged")
UID, FLAGS, SIZE, DATE = Attribute.UID, Attribute.FLAGS, Attribute.SIZE, Attribute.INTERNALDATE
ALL_MESSAGES = SequenceSet(((1, 0),))


def numbers(*ranges: int | tuple[int, int]) -> SequenceSet:
    return SequenceSet(tuple((item, item) if isinstance(item, int) else item for item in ranges))


def day(year: int, month: int, of_month: int) -> datetime.date:
    return datetime.date(year, month, of_month)


NOT_AUTHENTICATED: list[tuple[bytes, c.Event]] = [
    (b"CAPABILITY", c.Capability("t")),
    (b"capability ", c.Capability("t")),
    (b"STARTTLS", c.StartTls("t")),
    (b"LOGOUT", c.Logout("t")),
    (b"LOGIN alice secret", c.Login("t", "alice", "secret")),
    (b'LOGIN "alice@example.org" "s\\"e\\\\c ret"', c.Login("t", "alice@example.org", 's"e\\c ret')),
    (b"LOGIN {5+}\r\nalice {6+}\r\nsecret", c.Login("t", "alice", "secret")),
    (b'LOGIN alice {4+}\r\n\r\n"\\', c.Login("t", "alice", '\r\n"\\')),
    ('LOGIN alice "pässword"'.encode(), c.Login("t", "alice", "pässword")),
    (b'LOGIN alice "p\xe4ssword"', c.Login("t", "alice", "p\u00e4ssword")),
    (b'LOGIN alice ""', c.Login("t", "alice", "")),
    (b"AUTHENTICATE CRAM-MD5", c.Authenticate("t", "CRAM-MD5")),
    (b"AUTHENTICATE SCRAM-SHA-256 biwsbj1hLHI9Yg==", c.Authenticate("t", "SCRAM-SHA-256", b"n,,n=a,r=b")),
    (b"AUTHENTICATE LOGIN YWxpY2U=", c.Authenticate("t", "LOGIN", b"alice")),
    (b"ID NIL", c.Id("t")),
    (b"ID ()", c.Id("t")),
    (
        b'ID ("name" "Thunderbird" "version" "153.7.0")',
        c.Id("t", (("name", "Thunderbird"), ("version", "153.7.0"))),
    ),
    (b'ID ("Name" "Microsoft Outlook" "os" NIL)', c.Id("t", (("name", "Microsoft Outlook"), ("os", None)))),
]

HEADERS = Section((), "HEADER.FIELDS", ("From", "To", "Message-ID"), peek=True)

SELECTED: list[tuple[bytes, c.Event]] = [
    # mailboxes
    (b"NAMESPACE", c.Namespace("t")),
    (b"ENABLE UTF8=ACCEPT", c.Enable("t", ("UTF8=ACCEPT",))),
    (b"ENABLE Condstore qresync ", c.Enable("t", ("CONDSTORE", "QRESYNC"))),
    (b'SELECT "INBOX"', c.Select("t", "INBOX")),
    (b"SELECT inbox", c.Select("t", "INBOX")),
    (b"SELECT INBOX ", c.Select("t", "INBOX")),
    (b"SELECT {5+}\r\ninBox", c.Select("t", "INBOX")),
    (b"EXAMINE Sent", c.Select("t", "Sent", read_only=True)),
    (b'SELECT "Entw&APw-rfe"', c.Select("t", "Entwürfe")),
    (b"SELECT ~peter/mail/&U,BTFw-/&ZeVnLIqe-", c.Select("t", "~peter/mail/台北/日本語")),
    ('SELECT "Entwürfe"'.encode(), c.Select("t", "Entwürfe")),
    (b"SELECT INBOX (CONDSTORE)", c.Select("t", "INBOX", condstore=True)),
    (b"SELECT INBOX (QRESYNC (67890007 90060115194045000 41:211,214:541))",
     c.Select("t", "INBOX", qresync=c.Resync(67890007, 90060115194045000, numbers((41, 211), (214, 541))))),
    (b"SELECT INBOX (QRESYNC (1 2 (1:3 4:6)) CONDSTORE)",
     c.Select("t", "INBOX", condstore=True, qresync=c.Resync(1, 2, None, (numbers((1, 3)), numbers((4, 6)))))),
    (b"SELECT INBOX (QRESYNC (1 2))", c.Select("t", "INBOX", qresync=c.Resync(1, 2))),
    (b"CREATE Archive/2024", c.Create("t", "Archive/2024")),
    (b'CREATE "Archive/"', c.Create("t", "Archive/")),
    (b"CREATE MySent (USE (\\Sent \\Archive))", c.Create("t", "MySent", (r"\Sent", r"\Archive"))),
    (b'DELETE "a \\"b\\""', c.Delete("t", 'a "b"')),
    (b"RENAME {3+}\r\nold {3+}\r\nnew", c.Rename("t", "old", "new")),
    (b"SUBSCRIBE Trash", c.Subscribe("t", "Trash")),
    (b"UNSUBSCRIBE Trash", c.Unsubscribe("t", "Trash")),
    (b'LIST "" ""', c.List("t", "", ("",))),
    (b'LIST "" *', c.List("t", "", ("*",))),
    (b'LIST "" "%/%"', c.List("t", "", ("%/%",))),
    (b"LIST Entw&APw-rfe &AOk-*", c.List("t", "Entwürfe", ("é*",))),
    (b'LIST (SUBSCRIBED) "" * RETURN (SPECIAL-USE)',
     c.List("t", "", ("*",), frozenset({"SUBSCRIBED"}), frozenset({"SPECIAL-USE"}), extended=True)),
    (b'list () "" (INBOX "Sent*" %) return ()', c.List("t", "", ("INBOX", "Sent*", "%"), extended=True)),
    (b'LIST "" "*" RETURN (SUBSCRIBED CHILDREN STATUS (MESSAGES UNSEEN MESSAGES SIZE))',
     c.List("t", "", ("*",), frozenset(), frozenset({"SUBSCRIBED", "CHILDREN"}), ("MESSAGES", "UNSEEN", "SIZE"), True)),
    (b'LIST (RECURSIVEMATCH SUBSCRIBED) "" %',
     c.List("t", "", ("%",), frozenset({"RECURSIVEMATCH", "SUBSCRIBED"}), extended=True)),
    (b'LSUB "" "*"', c.Lsub("t", "", "*")),
    (b"STATUS Sent (MESSAGES UIDNEXT UIDVALIDITY UNSEEN RECENT)",
     c.Status("t", "Sent", ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "RECENT"))),
    (b"STATUS inbox (size HIGHESTMODSEQ size)", c.Status("t", "INBOX", ("SIZE", "HIGHESTMODSEQ"))),
    (b'GETQUOTAROOT "INBOX"', c.GetQuotaRoot("t", "INBOX")),
    (b'GETQUOTA ""', c.GetQuota("t", "")),
    (b'SETQUOTA "" (storage 512 MESSAGE 10)', c.SetQuota("t", "", (("STORAGE", 512), ("MESSAGE", 10)))),
    (b'SETQUOTA "user/x" ()', c.SetQuota("t", "user/x", ())),
    # the selected mailbox
    (b"CHECK", c.Check("t")),
    (b"CLOSE", c.Close("t")),
    (b"UNSELECT", c.Unselect("t")),
    (b"EXPUNGE", c.Expunge("t")),
    (b"UID EXPUNGE 3:7,9", c.Expunge("t", numbers((3, 7), 9))),
    (b"UID COPY 1:3 Trash", c.Copy("t", True, numbers((1, 3)), "Trash")),
    (b'COPY 2 "Gel&APY-scht"', c.Copy("t", False, numbers(2), "Gelöscht")),
    (b"uid move 4,6 Archive", c.Move("t", True, numbers(4, 6), "Archive")),
    (b"MOVE * inbox", c.Move("t", False, numbers(0), "INBOX")),
    (b"UID STORE 5 +FLAGS (\\seen \\Deleted)", c.Store("t", True, numbers(5), "add", frozenset({r"\Seen", r"\Deleted"}))),
    (b"UID STORE 5 +Flags.Silent \\Seen $Forwarded",
     c.Store("t", True, numbers(5), "add", frozenset({r"\Seen", "$Forwarded"}), silent=True)),
    (b"STORE 1:* -FLAGS ()", c.Store("t", False, ALL_MESSAGES, "remove", frozenset())),
    (b"UID STORE 1 FLAGS (NonJunk)", c.Store("t", True, numbers(1), "replace", frozenset({"NonJunk"}))),
    (b"UID STORE 9 (UNCHANGEDSINCE 42) +FLAGS (\\Seen)",
     c.Store("t", True, numbers(9), "add", frozenset({r"\Seen"}), False, 42)),
    # FETCH
    (b"UID FETCH 1:* (FLAGS)", c.Fetch("t", True, ALL_MESSAGES, (UID, FLAGS))),
    (b"FETCH 1:20 (FLAGS UID INTERNALDATE)", c.Fetch("t", False, numbers((1, 20)), (FLAGS, UID, DATE))),
    (b"FETCH 3 FULL", c.Fetch("t", False, numbers(3), (FLAGS, DATE, SIZE, Attribute.ENVELOPE, Attribute.BODY))),
    (b"FETCH 3 all", c.Fetch("t", False, numbers(3), (FLAGS, DATE, SIZE, Attribute.ENVELOPE))),
    (b"FETCH 3 FAST", c.Fetch("t", False, numbers(3), (FLAGS, DATE, SIZE))),
    (b"UID FETCH 7 (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Message-ID)])",
     c.Fetch("t", True, numbers(7), (UID, SIZE, FLAGS, HEADERS))),
    (b"UID FETCH 7 (UID RFC822.SIZE BODY.PEEK[])", c.Fetch("t", True, numbers(7), (UID, SIZE, Section(peek=True)))),
    (b"UID FETCH 7 (BODY.PEEK[TEXT]<0.10240>)",
     c.Fetch("t", True, numbers(7), (UID, Section(text="TEXT", peek=True, partial=(0, 10240))))),
    (b"UID FETCH 7 BODY[HEADER.FIELDS (DATE)]", c.Fetch("t", True, numbers(7), (UID, Section((), "HEADER.FIELDS", ("DATE",))))),
    (b"UID FETCH 7 (BODY.PEEK[1.2.HEADER] BODY.PEEK[1.2.MIME] BODY[2]<5.10>)",
     c.Fetch("t", True, numbers(7), (UID, Section((1, 2), "HEADER", peek=True), Section((1, 2), "MIME", peek=True),
                                     Section((2,), partial=(5, 10))))),
    (b'FETCH 2 body[3.header.fields.not ("Re]ceived" {2+}\r\nTo)]',
     c.Fetch("t", False, numbers(2), (Section((3,), "HEADER.FIELDS.NOT", ("Re]ceived", "To")),))),
    (b"FETCH 1,2 (BODYSTRUCTURE ENVELOPE INTERNALDATE FLAGS UID BODY.PEEK[HEADER])",
     c.Fetch("t", False, numbers(1, 2), (Attribute.BODYSTRUCTURE, Attribute.ENVELOPE, DATE, FLAGS, UID,
                                         Section(text="HEADER", peek=True)))),
    (b"FETCH 4 (RFC822 RFC822.HEADER RFC822.TEXT BODY)",
     c.Fetch("t", False, numbers(4), (Attribute.RFC822, Attribute.RFC822_HEADER, Attribute.RFC822_TEXT, Attribute.BODY))),
    (b"FETCH 4 (FLAGS UID FLAGS )", c.Fetch("t", False, numbers(4), (FLAGS, UID))),
    (b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345)", c.Fetch("t", True, ALL_MESSAGES, (UID, FLAGS), 12345)),
    (b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 5 VANISHED)", c.Fetch("t", True, ALL_MESSAGES, (UID, FLAGS), 5, True)),
    (b"UID FETCH 8 (MODSEQ)", c.Fetch("t", True, numbers(8), (UID, Attribute.MODSEQ))),
    # SEARCH
    (b"UID SEARCH ALL", c.Search("t", True, k.All())),
    (b"SEARCH UNSEEN UNDELETED ", c.Search("t", False, k.And((k.Not(SEEN), k.Not(DELETED))))),
    (b"UID SEARCH CHARSET UTF-8 ALL", c.Search("t", True, k.All())),
    (b'UID SEARCH UNDELETED FROM "bob"', c.Search("t", True, k.And((k.Not(DELETED), k.Header("From", "bob"))))),
    (b"SEARCH OR SEEN FLAGGED", c.Search("t", False, k.Or(SEEN, FLAGGED))),
    (b"SEARCH NOT FLAGGED", c.Search("t", False, k.Not(FLAGGED))),
    (b"SEARCH NEW", c.Search("t", False, k.And((k.Recent(), k.Not(SEEN))))),
    (b"SEARCH OLD", c.Search("t", False, k.Not(k.Recent()))),
    (b"SEARCH (2:4 (UID 7 ANSWERED)) KEYWORD $Junk UNKEYWORD x",
     c.Search("t", False, k.And((k.And((k.Numbers(numbers((2, 4))), k.And((k.Uids(numbers(7)), k.HasFlag(r"\Answered"))))),
                                 k.HasFlag("$Junk"), k.Not(k.HasFlag("x")))))),
    (b'UID SEARCH HEADER Message-ID "<x@y>"', c.Search("t", True, k.Header("Message-ID", "<x@y>"))),
    (b'SEARCH HEADER X-Spam ""', c.Search("t", False, k.Header("X-Spam", ""))),
    (b"SEARCH LARGER 1000 SMALLER 5000000000", c.Search("t", False, k.And((k.Larger(1000), k.Smaller(5_000_000_000))))),
    (b"SEARCH SINCE 1-Feb-1994", c.Search("t", False, k.Arrived(k.Relation.SINCE, day(1994, 2, 1)))),
    (b'SEARCH BEFORE "01-feb-2024"', c.Search("t", False, k.Arrived(k.Relation.BEFORE, day(2024, 2, 1)))),
    (b"SEARCH SENTON 29-Feb-2024", c.Search("t", False, k.Sent(k.Relation.ON, day(2024, 2, 29)))),
    (b"UID SEARCH CHARSET UTF-8 TEXT {6+}\r\nm\xc3\xbcsli", c.Search("t", True, k.Text("müsli"))),
    (b"SEARCH CHARSET iso-8859-1 BODY {5+}\r\nm\xfcsli", c.Search("t", False, k.Body("müsli"))),
    (b'SEARCH CHARSET "windows-1251" SUBJECT {2+}\r\n\xef\xf0', c.Search("t", False, k.Header("Subject", "пр"))),
    (b"SEARCH CHARSET ISO-2022-JP TEXT {8+}\r\n\x1b$BF|\x1b(B", c.Search("t", False, k.Text("日"))),
    ('SEARCH TEXT "müsli"'.encode(), c.Search("t", False, k.Text("müsli"))),
    (b"UID SEARCH RETURN (MIN COUNT) NOT DELETED", c.Search("t", True, k.Not(DELETED), frozenset({"MIN", "COUNT"}))),
    (b"SEARCH RETURN () CHARSET US-ASCII SEEN", c.Search("t", False, SEEN, frozenset({"ALL"}))),
    (b"SEARCH MODSEQ 620162338", c.Search("t", False, k.ModSeq(620162338))),
    (b'SEARCH MODSEQ "/flags/\\\\draft" all 620', c.Search("t", False, k.ModSeq(620))),
]  # fmt: skip


class TestClients:
    @pytest.mark.parametrize(("line", "event"), NOT_AUTHENTICATED, ids=lambda value: repr(value)[:60])
    def test_before_login(self, line: bytes, event: c.Event) -> None:
        assert one(b"t " + line + b"\r\n", State.NOT_AUTHENTICATED) == event

    @pytest.mark.parametrize(("line", "event"), SELECTED, ids=lambda value: repr(value)[:60])
    def test_selected(self, line: bytes, event: c.Event) -> None:
        assert one(b"t " + line + b"\r\n") == event

    @pytest.mark.parametrize("tag", ["1", "A0001", "7.3", "abc-[x]", "tag:=?~", "x" * 255])
    def test_tags(self, tag: str) -> None:
        assert one(tag.encode() + b" NOOP\r\n") == c.Noop(tag)


MALFORMED = [
    b"", b" ", b"  NOOP", b"XYZZY", b"NOOP x", b"NOOP\0", b"UID", b"UID NOOP", b"UID  FETCH 1 FLAGS", b"UIDFETCH 1 FLAGS",
    b"NOOP(", b"SELECT", b"SELECT ", b"SELECT a b", b'SELECT "a', b'SELECT "a"b', b'SELECT "\\a"', b'SELECT "a\0"', b"SELECT a(b",
    b"SELECT INBOX ()", b"SELECT INBOX (X)", b"SELECT INBOX (QRESYNC)", b"SELECT INBOX (QRESYNC (1))", b"SELECT %",
    b"SELECT INBOX (CONDSTORE", b"CREATE x (USE)", b"CREATE x (USE (Sent))", b"CREATE x (FOO (\\Sent))", b"RENAME a",
    b"RENAME a  b", b"LIST", b'LIST ""', b'LIST "" ()', b'LIST (FOO) "" *', b'LIST (RECURSIVEMATCH) "" *',
    b'LIST "" * RETURN', b'LIST "" * RETURN (FOO)', b'LIST "" * RETURN (STATUS)', b'LIST "" * RETURN (STATUS ())', b'LIST "" a"b',
    b"LSUB x", b"STATUS INBOX", b"STATUS INBOX MESSAGES", b"STATUS INBOX ()", b"STATUS INBOX (FOO)", b"ENABLE", b"ENABLE (",
    b"ID", b"ID foo", b'ID ("a")', b'ID ("a" "b" "c")', b"ID (" + b" ".join([b'"a" "b"'] * 31) + b")",
    b"GETQUOTA", b'SETQUOTA "" STORAGE', b'SETQUOTA "" (STORAGE)', b'SETQUOTA "" (STORAGE x)',
    b'SETQUOTA "" (STORAGE 9223372036854775808)', b"EXPUNGE 1", b"UID EXPUNGE", b"UID EXPUNGE x",
    b"FETCH", b"FETCH 1", b"FETCH 1 ", b"FETCH 0 FLAGS", b"FETCH 4294967296 FLAGS", b"FETCH 1:0 FLAGS", b"FETCH 1: FLAGS",
    b"FETCH ,1 FLAGS", b"FETCH 1,,2 FLAGS", b"FETCH 1:2:3 FLAGS", b"FETCH -1 FLAGS", b"FETCH 00000000001 FLAGS",
    b"FETCH " + b"9" * 30_000 + b" FLAGS", b"FETCH 1 FOO", b"FETCH 1 (FLAGS", b"FETCH 1 ()", b"FETCH 1 (ALL)", b"FETCH 1 FLAGS UID",
    b"FETCH 1 BODY[", b"FETCH 1 BODY[]x", b"FETCH 1 BODY[MIME]", b"FETCH 1 BODY[0]", b"FETCH 1 BODY[1.]", b"FETCH 1 BODY[.TEXT]",
    b"FETCH 1 BODY[1HEADER]", b"FETCH 1 BODY[FOO]", b"FETCH 1 BODY[HEADER.FIELDS]", b"FETCH 1 BODY[HEADER.FIELDS ()]",
    b"FETCH 1 BODY[HEADER (To)]", b"FETCH 1 RFC822[TEXT]", b"FETCH 1 BODY[]<>", b"FETCH 1 BODY[]<1>", b"FETCH 1 BODY[]<1.0>",
    b"FETCH 1 BODY[]<1.9223372036854775808>", b"FETCH 1 BODY[]<-1.5>", b"FETCH 1 BODY[" + b"1." * 60 + b"1]",
    b"FETCH 1 BODY[12345678901]", b"FETCH 1 FLAGS (CHANGEDSINCE)", b"FETCH 1 FLAGS (FOO 1)", b"FETCH 1 FLAGS (CHANGEDSINCE 1 X)",
    b"FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", b"FETCH 1 (" + b" ".join(b"BODY[%d]" % n for n in range(1, 300)) + b")",
    b"FETCH " + b",".join([b"1"] * 10_001) + b" FLAGS",
    b"STORE 1", b"STORE 1 FLAGS", b"STORE 1 FLAGS ", b"STORE 1 *FLAGS (\\Seen)", b"STORE 1 +FLAGS (\\Foo)", b"STORE 1 +FLAGS (a]b)",
    b"STORE 1 FLAGS (\\Recent)", b"STORE 1 +FLAGS (\\*)", b"STORE 1 +FLAGS (\\Seen", b"STORE 1 +FLAGS.LOUD (\\Seen)",
    b"STORE 1 +FLAGS (" + b"k" * 256 + b")", b"STORE 1 (UNCHANGEDSINCE) FLAGS ()", b"STORE 1 (FOO 1) FLAGS ()",
    b"STORE 1 +FLAGS (" + b" ".join([b"k"] * 1001) + b")", b"STORE 1 +FLAGS (\xe9)",
    b"COPY 1", b"COPY x Trash", b"MOVE 1", b"MOVE 1 a b",
    b"SEARCH", b"SEARCH ", b"SEARCH FOO", b"SEARCH NOT", b"SEARCH OR SEEN", b"SEARCH OR", b"SEARCH (SEEN", b"SEARCH ()", b"SEARCH SEEN)",
    b"SEARCH TEXT", b"SEARCH HEADER x", b"SEARCH SINCE foo", b"SEARCH SINCE 31-Feb-2024", b"SEARCH SINCE 1-Foo-2024",
    b"SEARCH SINCE 1-Feb-0000", b'SEARCH SINCE "1-Feb-2024', b"SEARCH LARGER x", b"SEARCH LARGER 99999999999999999999999",
    b"SEARCH UID", b"SEARCH KEYWORD", b"SEARCH CHARSET", b"SEARCH CHARSET UTF-8", b"SEARCH RETURN (FOO) ALL", b"SEARCH RETURN ALL",
    b"SEARCH CHARSET UTF-8 TEXT {2+}\r\n\xff\xfe", b"SEARCH 1:", b"SEARCH SEEN  FLAGGED", b"SEARCH MODSEQ x", b"SEARCH SEENFLAGGED",
    b"LOGIN", b"IDLE now", b"CLOSE 1", b"CHECK x", b"CAPABILITY \t",
]  # fmt: skip


class TestMalformed:
    @pytest.mark.parametrize("line", MALFORMED, ids=lambda value: repr(value)[:60])
    def test_bad_and_the_next_command_works(self, line: bytes) -> None:
        event = one(b"t " + line + b"\r\n") if line else one(b"t\r\n")
        assert isinstance(event, c.Malformed)
        assert (event.tag, event.status, event.fatal) == ("t", "BAD", False)
        script = Script(opened(State.SELECTED))
        said = script.feed(b"t " + line + b"\r\nz NOOP\r\n")
        assert said.startswith(b"t BAD ")
        assert said.endswith(b"\r\n* 3 EXISTS\r\nz OK Noop done\r\n")

    @pytest.mark.parametrize(
        "line",
        [b"LOGIN", b"LOGIN alice", b"LOGIN alice secret x", b"LOGIN  alice secret", b"LOGIN (a) b", b'LOGIN "alice"secret',
         b"AUTHENTICATE", b"AUTHENTICATE " + b"X" * 21, b"AUTHENTICATE PLAIN !!", b"AUTHENTICATE PLAIN AA==AA==",
         b"AUTHENTICATE PLAIN =AAA", b"STARTTLS x"],
    )  # fmt: skip
    def test_before_login(self, line: bytes) -> None:
        event = one(b"t " + line + b"\r\n", State.NOT_AUTHENTICATED)
        assert isinstance(event, c.Malformed)
        assert (event.tag, event.status) == ("t", "BAD")

    @pytest.mark.parametrize(
        "name",
        [b"FOO", b"base64", b"zip", b"rot13", b"idna", b"unicode_escape", b"hex", b'"a b\xff"', b"x" * 5000],
    )
    def test_unknown_charset(self, name: bytes) -> None:
        event = one(b"t SEARCH CHARSET " + name + b" TEXT x\r\n")
        assert isinstance(event, c.Malformed)
        assert (event.status, event.code) == ("NO", "BADCHARSET (UTF-8 US-ASCII)")

    @pytest.mark.parametrize(
        "line",
        [b"SEARCH " + b"(" * 30_000, b"SEARCH " + b"(" * 52 + b"ALL" + b")" * 52, b"SEARCH " + b"NOT " * 10_000 + b"ALL",
         b"SEARCH " + b"OR " * 10_000 + b"ALL", b"SEARCH" + b" SEEN" * 1001],
    )  # fmt: skip
    def test_too_complex_a_search(self, line: bytes) -> None:
        event = one(b"t " + line + b"\r\n")
        assert event == c.Malformed("t", "SEARCH is too complex", "LIMIT", "NO")

    def test_fifty_parentheses_are_fine(self) -> None:
        assert one(b"t SEARCH " + b"(" * 50 + b"ALL" + b")" * 50 + b"\r\n") == c.Search("t", False, k.All())

    def test_a_hundred_thousand_parentheses(self) -> None:
        script = Script(opened(State.SELECTED))
        assert script.feed(b"t SEARCH " + b"(" * 100_000 + b"\r\nz NOOP\r\n").endswith(b"z OK Noop done\r\n")
        assert script.events[0] == c.Malformed("t", "line too long")


class TestSection:
    @pytest.mark.parametrize(
        ("section", "label"),
        [
            (Section(), b"BODY[]"),
            (Section(peek=True, partial=(5, 10)), b"BODY[]<5>"),
            (Section((1, 2)), b"BODY[1.2]"),
            (Section((1, 2), "MIME"), b"BODY[1.2.MIME]"),
            (Section((), "HEADER.FIELDS", ("From", "To")), b"BODY[HEADER.FIELDS (From To)]"),
            (Section((3,), "HEADER.FIELDS.NOT", ("a b", "c]")), b'BODY[3.HEADER.FIELDS.NOT ("a b" "c]")]'),
        ],
    )
    def test_label(self, section: Section, label: bytes) -> None:
        assert section.label == label
