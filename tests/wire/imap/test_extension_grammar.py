"""Commands of extensions: how each is read, and how what is not one is refused."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.commands import Attribute, Binary, BinarySize, Partial, Preview
from mailstack.wire.imap.sequence import SequenceSet
from mailstack.wire.imap.states import State
from tests.wire.imap.transcript import Script, one, opened

ALL_MESSAGES = SequenceSet(((1, 0),))
SAVED = SequenceSet((), saved=True)
UID, FLAGS = Attribute.UID, Attribute.FLAGS
SELECTED = x.MailboxFilter("selected")


def numbers(*ranges: int | tuple[int, int]) -> SequenceSet:
    return SequenceSet(tuple((item, item) if isinstance(item, int) else item for item in ranges))


def found(text: str) -> k.Key:
    return k.Header("Subject", text)


GOOD: list[tuple[bytes, c.Event]] = [
    # CONDSTORE and QRESYNC
    (b"UID FETCH 1:* (FLAGS) (VANISHED CHANGEDSINCE 5)", c.Fetch("t", True, ALL_MESSAGES, (UID, FLAGS), 5, True)),
    (b"FETCH 1:* FLAGS (changedsince 9223372036854775807)", c.Fetch("t", False, ALL_MESSAGES, (FLAGS,), 2**63 - 1)),
    (b"STORE 7,5 (UNCHANGEDSINCE 0) +FLAGS.SILENT (\\Deleted)",
     c.Store("t", False, numbers(7, 5), "add", frozenset({r"\Deleted"}), True, 0)),
    (b"STATUS INBOX (UIDNEXT HIGHESTMODSEQ DELETED SIZE MAILBOXID APPENDLIMIT DELETED-STORAGE)",
     c.Status("t", "INBOX", ("UIDNEXT", "HIGHESTMODSEQ", "DELETED", "SIZE", "MAILBOXID", "APPENDLIMIT", "DELETED-STORAGE"))),
    (b"ENABLE IMAP4rev2 QRESYNC UIDONLY", c.Enable("t", ("IMAP4REV2", "QRESYNC", "UIDONLY"))),
    # ESEARCH, SEARCHRES, PARTIAL, CONTEXT, FUZZY
    (b"SEARCH RETURN (SAVE) SEEN", c.Search("t", False, k.HasFlag(r"\Seen"), frozenset({"SAVE"}))),
    (b"UID SEARCH RETURN (SAVE MIN) $", c.Search("t", True, k.Numbers(SAVED), frozenset({"SAVE", "MIN"}))),
    (b"SEARCH UID $ 2:3", c.Search("t", False, k.And((k.Uids(SAVED), k.Numbers(numbers((2, 3))))))),
    (b"FETCH $ FLAGS", c.Fetch("t", False, SAVED, (FLAGS,))),
    (b"UID COPY $ Trash", c.Copy("t", True, SAVED, "Trash")),
    (b"STORE $ +FLAGS (\\Seen)", c.Store("t", False, SAVED, "add", frozenset({r"\Seen"}))),
    (b"UID EXPUNGE $", c.Expunge("t", SAVED)),
    (b"UID SEARCH RETURN (PARTIAL -1:-100) ALL",
     c.Search("t", True, k.All(), frozenset({"PARTIAL"}), Partial(-1, -100))),
    (b"SEARCH RETURN (COUNT partial 500:400) ALL",
     c.Search("t", False, k.All(), frozenset({"COUNT", "PARTIAL"}), Partial(400, 500))),
    (b"UID FETCH 25900:26600 (UID FLAGS) (PARTIAL -30:-1)",
     c.Fetch("t", True, numbers((25900, 26600)), (UID, FLAGS), partial=Partial(-1, -30))),
    (b"UID FETCH 1:* FLAGS (CHANGEDSINCE 98305 PARTIAL 1:5 VANISHED)",
     c.Fetch("t", True, ALL_MESSAGES, (UID, FLAGS), 98305, True, Partial(1, 5))),
    (b"SEARCH RETURN (UPDATE CONTEXT COUNT) ALL",
     c.Search("t", False, k.All(), frozenset({"UPDATE", "CONTEXT", "COUNT"}))),
    (b"SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT \"IMAP break\"",
     c.Search("t", False, k.Fuzzy(k.Text("IMAP break")), frozenset({"RELEVANCY", "ALL"}))),
    (b"SEARCH FUZZY (SUBJECT a SUBJECT b) NOT FUZZY SUBJECT c",
     c.Search("t", False, k.And((k.Fuzzy(k.And((found("a"), found("b")))), k.Not(k.Fuzzy(found("c"))))))),
    (b"SEARCH RETURN (UPDATE (UID FLAGS uid) COUNT) ALL",
     c.Search("t", False, k.All(), frozenset({"UPDATE", "COUNT"}), None, (UID, FLAGS))),
    (b"UID SORT RETURN (UPDATE (UID)) (DATE) UTF-8 ALL",
     x.Sort("t", True, (x.Criterion("DATE"),), k.All(), frozenset({"UPDATE"}), None, (UID,))),
    (b"UID SEARCH UIDAFTER 7 UIDBEFORE 9",
     c.Search("t", True, k.And((k.Not(k.Uids(SequenceSet(((1, 7),)))), k.Uids(SequenceSet(((1, 8),))))))),
    (b"UID SEARCH UIDBEFORE 1", c.Search("t", True, k.Not(k.All()))),
    (b'CANCELUPDATE "B01" "C01"', x.CancelUpdate("t", ("B01", "C01"))),
    # WITHIN, SAVEDATE, OBJECTID, FILTERS
    (b"SEARCH UNSEEN YOUNGER 259200", c.Search("t", False, k.And((k.Not(k.HasFlag(r"\Seen")), k.Younger(259200))))),
    (b"SEARCH OLDER 1", c.Search("t", False, k.Older(1))),
    (b"SEARCH SAVEDON 1-Jan-2024 SAVEDATESUPPORTED",
     c.Search("t", False, k.And((k.Saved(k.Relation.ON, datetime.date(2024, 1, 1)), k.SaveDateSupported())))),
    (b"SEARCH SAVEDBEFORE 1-Jan-2024", c.Search("t", False, k.Saved(k.Relation.BEFORE, datetime.date(2024, 1, 1)))),
    (b"SEARCH OR EMAILID M6d99ac3275bb4e THREADID T64b478",
     c.Search("t", False, k.Or(k.EmailId("M6d99ac3275bb4e"), k.ThreadId("T64b478")))),
    (b"SEARCH FILTER on-the-road UNSEEN",
     c.Search("t", False, k.And((k.Filter("on-the-road"), k.Not(k.HasFlag(r"\Seen")))))),
    (b"FETCH 1 (EMAILID THREADID SAVEDATE MODSEQ)",
     c.Fetch("t", False, numbers(1), (Attribute.EMAILID, Attribute.THREADID, Attribute.SAVEDATE, Attribute.MODSEQ))),
    # PREVIEW, BINARY
    (b"FETCH 1 (RFC822.SIZE PREVIEW)", c.Fetch("t", False, numbers(1), (Attribute.SIZE, Preview()))),
    (b"FETCH 1 (PREVIEW (LAZY) UID)", c.Fetch("t", False, numbers(1), (Preview(lazy=True), UID))),
    (b"FETCH 1 PREVIEW (lazy)", c.Fetch("t", False, numbers(1), (Preview(lazy=True),))),
    (b"FETCH 1 PREVIEW", c.Fetch("t", False, numbers(1), (Preview(),))),
    (b"FETCH 1 PREVIEW (CHANGEDSINCE 5)", c.Fetch("t", False, numbers(1), (Preview(),), 5)),
    (b"UID FETCH 3 (BINARY.PEEK[1.2]<5.10> BINARY[] BINARY.SIZE[2])",
     c.Fetch("t", True, numbers(3), (UID, Binary((1, 2), True, (5, 10)), Binary(), BinarySize((2,))))),
    # SORT, THREAD, ESEARCH
    (b"SORT (SUBJECT REVERSE DATE) UTF-8 ALL",
     x.Sort("t", False, (x.Criterion("SUBJECT"), x.Criterion("DATE", True)), k.All())),
    (b"UID SORT RETURN (ALL COUNT) (DISPLAYFROM reverse displayto) us-ascii SUBJECT a",
     x.Sort("t", True, (x.Criterion("DISPLAYFROM"), x.Criterion("DISPLAYTO", True)), found("a"), frozenset({"ALL", "COUNT"}))),
    (b"UID SORT RETURN (PARTIAL 1:10) (ARRIVAL) UTF-8 SUBJECT {4+}\r\nm\xc3\xbcs",
     x.Sort("t", True, (x.Criterion("ARRIVAL"),), found("müs"), frozenset({"PARTIAL"}), Partial(1, 10))),
    (b"THREAD references UTF-8 SEEN", x.Thread("t", False, "REFERENCES", k.HasFlag(r"\Seen"))),
    (b"UID THREAD ORDEREDSUBJECT US-ASCII ALL", x.Thread("t", True, "ORDEREDSUBJECT", k.All())),
    (b"UID THREAD REFS UTF-8 ALL", x.Thread("t", True, "REFS", k.All())),
    (b'ESEARCH IN (mailboxes "folder1" subtree "folder2") unseen',
     x.MultiSearch("t", (x.MailboxFilter("mailboxes", ("folder1",)), x.MailboxFilter("subtree", ("folder2",))),
                   k.Not(k.HasFlag(r"\Seen")), frozenset({"ALL"}))),
    (b'ESEARCH IN (subtree-one (a b) personal selected) RETURN (MIN) CHARSET UTF-8 ALL',
     x.MultiSearch("t", (x.MailboxFilter("subtree-one", ("a", "b")), x.MailboxFilter("personal"), SELECTED), k.All(),
                   frozenset({"MIN"}))),
    (b"ESEARCH RETURN (COUNT) ALL", x.MultiSearch("t", None, k.All(), frozenset({"COUNT"}))),
    # NOTIFY
    (b"NOTIFY NONE", x.Notify("t", ())),
    (b"NOTIFY SET STATUS (selected MessageNew (UID BODY.PEEK[]) MessageExpunge)", c.Malformed("t", "expected events or NONE")),
    (b"NOTIFY SET STATUS (selected (MessageNew (uid flags) MessageExpunge FlagChange)) (subtree Lists (MailboxName)) (inboxes NONE)",
     x.Notify("t", (x.EventGroup(SELECTED, frozenset({"messagenew", "messageexpunge", "flagchange"}), (UID, FLAGS)),
                    x.EventGroup(x.MailboxFilter("subtree", ("Lists",)), frozenset({"mailboxname"})),
                    x.EventGroup(x.MailboxFilter("inboxes"), frozenset())), status=True)),
    (b"NOTIFY SET (mailboxes (a INBOX) (SubscriptionChange)) (selected-delayed (MessageNew MessageExpunge)) ",
     x.Notify("t", (x.EventGroup(x.MailboxFilter("mailboxes", ("a", "INBOX")), frozenset({"subscriptionchange"})),
                    x.EventGroup(x.MailboxFilter("selected-delayed"), frozenset({"messagenew", "messageexpunge"}))))),
    # LIST
    (b'LIST "" "%" RETURN (MYRIGHTS METADATA (/shared/comment "/private/Comment"))',
     c.List("t", "", ("%",), frozenset(), frozenset({"MYRIGHTS"}), (), True, ("/shared/comment", "/private/comment"))),
    # rights
    (b"SETACL INBOX alice@example.org +lr", x.SetAcl("t", "INBOX", "alice@example.org", "add", "lr")),
    (b'SETACL "a b" -anyone "-swipr"', x.SetAcl("t", "a b", "-anyone", "remove", "swipr")),
    (b'SETACL INBOX bob ""', x.SetAcl("t", "INBOX", "bob", "replace", "")),
    (b"SETACL INBOX bob lrlr0", x.SetAcl("t", "INBOX", "bob", "replace", "lr0")),
    (b"DELETEACL INBOX bob", x.DeleteAcl("t", "INBOX", "bob")),
    (b"GETACL inbox", x.GetAcl("t", "INBOX")),
    (b"LISTRIGHTS INBOX bob", x.ListRights("t", "INBOX", "bob")),
    (b"MYRIGHTS INBOX", x.MyRights("t", "INBOX")),
    # metadata
    (b'GETMETADATA "" /shared/comment', x.GetMetadata("t", "", ("/shared/comment",))),
    (b'GETMETADATA INBOX (MAXSIZE 1024) (/shared/comment /private/COMMENT)',
     x.GetMetadata("t", "INBOX", ("/shared/comment", "/private/comment"), 1024)),
    (b'GETMETADATA (DEPTH infinity MAXSIZE 5) INBOX /private/filters/values',
     x.GetMetadata("t", "INBOX", ("/private/filters/values",), 5, None)),
    (b'GETMETADATA INBOX (DEPTH 1) (/private/x)', x.GetMetadata("t", "INBOX", ("/private/x",), None, 1)),
    (b'SETMETADATA INBOX (/private/comment "My own" /shared/comment NIL)',
     x.SetMetadata("t", "INBOX", (("/private/comment", b"My own"), ("/shared/comment", None)))),
    (b"SETMETADATA INBOX (/private/comment {3+}\r\na\r\n /private/x ~{2+}\r\n\0\xff)",
     x.SetMetadata("t", "INBOX", (("/private/comment", b"a\r\n"), ("/private/x", b"\0\xff")))),
    # URLs
    (b'GENURLAUTH "imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred" INTERNAL',
     x.GenUrlAuth("t", (("imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred", "INTERNAL"),))),
    (b'URLFETCH "a" b', x.UrlFetch("t", ("a", "b"))),
    (b"RESETKEY", x.ResetKey("t")),
    (b"RESETKEY INBOX INTERNAL", x.ResetKey("t", "INBOX", ("INTERNAL",))),
    # the session
    (b"COMPRESS deflate", x.Compress("t", "DEFLATE")),
    (b"UNAUTHENTICATE", x.Unauthenticate("t")),
    (b"LANGUAGE", x.Language("t")),
    (b"LANGUAGE DE-AT \"*\"", x.Language("t", ("de-at", "*"))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "event"), GOOD, ids=lambda value: repr(value)[:60] if isinstance(value, bytes) else ""
)
def test_good(line: bytes, event: c.Event) -> None:
    assert one(b"t " + line + b"\r\n") == event


MALFORMED = [
    b"UID FETCH 1 FLAGS (VANISHED)", b"FETCH 1 FLAGS (PARTIAL 1:2)", b"UID FETCH 1 FLAGS (PARTIAL)", b"UID FETCH 1 FLAGS (PARTIAL 1)",
    b"UID FETCH 1 FLAGS (CHANGEDSINCE 1 CHANGEDSINCE 2)", b"UID FETCH 1 FLAGS (PARTIAL -1:2)", b"UID FETCH 1 FLAGS (PARTIAL 0:2)",
    b"UID FETCH 1 FLAGS ()", b"SELECT INBOX (QRESYNC (1 2 1:*))", b"SELECT INBOX (QRESYNC (1 2 1:3 (1:* 1:3)))",
    b"SELECT INBOX (QRESYNC (1 2 $))", b"FETCH $,1 FLAGS", b"FETCH 1:$ FLAGS", b"FETCH $$ FLAGS",
    b"SEARCH RETURN (PARTIAL) ALL", b"SEARCH RETURN (PARTIAL 1:4294967296) ALL", b"SEARCH RETURN (ALL PARTIAL 1:2) ALL",
    b"SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL", b"SEARCH OLDER 0", b"SEARCH YOUNGER x", b"SEARCH OLDER 4294967296", b"SEARCH FUZZY",
    b"SEARCH SAVEDON", b"SEARCH EMAILID a.b", b"SEARCH THREADID " + b"x" * 256, b"SEARCH FILTER a/b", b"SEARCH FILTER",
    b"FETCH 1 PREVIEW (FOO)", b"FETCH 1 PREVIEW (LAZY LAZY)", b"FETCH 1 PREVIEW ()", b"FETCH 1 BINARY[HEADER]", b"FETCH 1 BINARY",
    b"FETCH 1 BINARY.SIZE[1]<0.5>", b"FETCH 1 BINARY[1.]", b"FETCH 1 BINARY[0]", b"FETCH 1 BINARY[1]<0.0>",
    b"SORT", b"SORT (DATE)", b"SORT (DATE) UTF-8", b"SORT () UTF-8 ALL", b"SORT (REVERSE) UTF-8 ALL", b"SORT (FOO) UTF-8 ALL",
    b"SORT DATE UTF-8 ALL", b"SORT (REVERSE REVERSE DATE) UTF-8 ALL", b"SORT (" + b" ".join([b"DATE"] * 31) + b") UTF-8 ALL",
    b"THREAD", b"THREAD FOO UTF-8 ALL", b"THREAD REFERENCES UTF-8", b"THREAD REFERENCES UTF-8 FOO",
    b"ESEARCH", b"ESEARCH IN () ALL", b"ESEARCH IN (mailboxes) ALL", b"ESEARCH IN (selected-delayed) ALL", b"ESEARCH IN (foo) ALL",
    b"ESEARCH IN (personal)ALL", b"ESEARCH IN (subtree ()) ALL",
    b"ESEARCH IN (" + b" ".join([b"personal"] * 101) + b") ALL",
    b"SEARCH UIDAFTER 0", b"SEARCH UIDBEFORE *", b"SEARCH UIDAFTER 1:2", b"SEARCH RETURN (UPDATE ()) ALL", b"SEARCH RETURN (UPDATE (FOO)) ALL", b"CANCELUPDATE", b"CANCELUPDATE x", b"NOTIFY", b"NOTIFY FOO", b"NOTIFY SET", b"NOTIFY SET STATUS", b"NOTIFY SET ()", b"NOTIFY SET (inboxes)",
    b"NOTIFY SET (inboxes ())", b"NOTIFY SET (inboxes (MessageNew))", b"NOTIFY SET (inboxes (FlagChange))", b"NOTIFY SET STATUS NONE",
    b"NOTIFY SET (inboxes (MessageNew (UID) MessageExpunge))", b"NOTIFY SET (selected (MailboxName))", b"NOTIFY SET (subtree-one a NONE)",
    b"NOTIFY SET (selected (MessageNew MessageExpunge)) (selected-delayed (MessageNew MessageExpunge))", b"NOTIFY NONE x",
    b"NOTIFY SET " + b" ".join([b"(inboxes NONE)"] * 101),
    b'LIST "" * RETURN (METADATA)', b'LIST "" * RETURN (METADATA ())', b'LIST "" * RETURN (METADATA (foo))',
    b"SETACL", b"SETACL INBOX", b"SETACL INBOX bob", b"SETACL INBOX bob LR", b"SETACL INBOX bob ++", b'SETACL INBOX "" lr',
    b"SETACL INBOX " + b"x" * 256 + b" lr", b"SETACL INBOX {3+}\r\na\r\n lr", b"DELETEACL INBOX", b"GETACL", b"GETACL a b", b"LISTRIGHTS INBOX", b"MYRIGHTS",
    b"GETMETADATA", b"GETMETADATA INBOX", b"GETMETADATA INBOX ()", b"GETMETADATA INBOX comment", b"GETMETADATA INBOX /public/x",
    b"GETMETADATA INBOX /shared//x", b"GETMETADATA INBOX /shared/x/", b"GETMETADATA INBOX /shared/%", b"GETMETADATA INBOX (DEPTH 2) /shared/x",
    b"GETMETADATA INBOX (MAXSIZE x) /shared/x", b"GETMETADATA (FOO 1) INBOX /shared/x", b"GETMETADATA INBOX /shared/" + b"x" * 255,
    b"GETMETADATA INBOX (" + b" ".join(b"/shared/%d" % n for n in range(101)) + b")",
    b"SETMETADATA INBOX", b"SETMETADATA INBOX ()", b"SETMETADATA INBOX (/shared/x)", b"SETMETADATA INBOX (/shared/x atom)",
    b'SETMETADATA INBOX (/shared/x "" /SHARED/x NIL)', b"SETMETADATA INBOX (/shared/x {1+}\r\n\0)",
    b"GENURLAUTH", b"GENURLAUTH x", b"URLFETCH", b"URLFETCH " + b"x" * 4097, b'URLFETCH "\xe9"', b"URLFETCH" + b" x" * 101,
    b"COMPRESS", b"COMPRESS LZ4", b"UNAUTHENTICATE x", b"LANGUAGE de_AT", b"LANGUAGE" + b" de" * 51, b"LANGUAGE \"\"",
    b"REPLACE", b"REPLACE 1", b"REPLACE x INBOX {0+}\r\n", b"REPLACE 1 INBOX", b"REPLACE 0 INBOX {0+}\r\n",
    b"UID REPLACE 4294967296 INBOX {0+}\r\n", b"REPLACE 1:2 INBOX {0+}\r\n",
    b"APPEND INBOX CATENATE", b"APPEND INBOX CATENATE ", b"APPEND INBOX UTF8 ({3+}\r\nabc)",
    b"LIST \"\" ~{1+}\r\n*",
]  # fmt: skip


@pytest.mark.parametrize(
    "line", MALFORMED, ids=lambda value: repr(value)[:60] if isinstance(value, bytes) else ""
)
def test_bad_and_the_next_command_works(line: bytes) -> None:
    event = one(b"t " + line + b"\r\n")
    assert isinstance(event, c.Malformed)
    assert (event.tag, event.status, event.fatal) == ("t", "BAD", False)
    script = Script(opened(State.SELECTED))
    assert script.feed(b"t " + line + b"\r\nz NOOP\r\n").endswith(b"\r\n* 3 EXISTS\r\nz OK Noop done\r\n")


def test_an_event_that_nobody_knows() -> None:
    event = one(b"t NOTIFY SET (inboxes (MessageNew MessageExpunge Sunrise))\r\n")
    assert isinstance(event, c.Malformed)
    assert event.status == "NO"
    assert event.code is not None
    assert event.code.startswith("BADEVENT (MessageNew ")


def test_sort_in_an_unknown_charset() -> None:
    event = one(b"t SORT (DATE) KLINGON ALL\r\n")
    assert event == c.Malformed("t", "unknown charset", "BADCHARSET (UTF-8 US-ASCII)", "NO")


@pytest.mark.parametrize("line", [b"FUZZY " * 52 + b"ALL", b"NOT FUZZY " * 30 + b"ALL"])
def test_fuzzy_is_as_deep_as_others(line: bytes) -> None:
    assert one(b"t SEARCH " + line + b"\r\n") == c.Malformed("t", "SEARCH is too complex", "LIMIT", "NO")


@pytest.mark.parametrize(
    "line",
    [
        b"NOTIFY NONE",
        b"GETACL INBOX",
        b"COMPRESS DEFLATE",
        b"UNAUTHENTICATE",
        b"ESEARCH ALL",
        b"REPLACE 1 a {0+}\r\n",
    ],
)
def test_not_before_login(line: bytes) -> None:
    event = one(b"t " + line + b"\r\n", State.NOT_AUTHENTICATED)
    assert event == c.Malformed("t", "not allowed in the not authenticated state")


@pytest.mark.parametrize(
    "line", [b"SORT (DATE) UTF-8 ALL", b"UID THREAD REFS UTF-8 ALL", b"UID REPLACE 1 a {0+}\r\n"]
)
def test_only_with_a_mailbox(line: bytes) -> None:
    event = one(b"t " + line + b"\r\n", State.AUTHENTICATED)
    assert event == c.Malformed("t", "not allowed in the authenticated state")


class TestPartial:
    @pytest.mark.parametrize(
        ("partial", "part"),
        [
            (Partial(1, 3), [1, 2, 3]),
            (Partial(4, 9), [4, 5]),
            (Partial(6, 9), []),
            (Partial(-1, -2), [4, 5]),
            (Partial(-2, -3), [3, 4]),
            (Partial(-4, -9), [1, 2]),
            (Partial(-6, -9), []),
        ],
    )
    def test_slice(self, partial: Partial, part: list[int]) -> None:
        assert [1, 2, 3, 4, 5][partial.slice(5)] == part

    @settings(max_examples=100, deadline=None)
    @given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 20), st.booleans())
    def test_slice_is_what_counting_gives(self, first: int, last: int, count: int, from_end: bool) -> None:
        first, last = min(first, last), max(first, last)
        ascending = list(range(count))
        partial = Partial(-first, -last) if from_end else Partial(first, last)
        counted = ascending[::-1] if from_end else ascending
        assert sorted(counted[first - 1 : last]) == ascending[partial.slice(count)]


LABELS = [
    (Binary((1, 2), partial=(5, 10)), b"BINARY[1.2]<5>"),
    (Binary(peek=True), b"BINARY[]"),
    (BinarySize((4,)), b"BINARY.SIZE[4]"),
]


@pytest.mark.parametrize(("item", "label"), LABELS)
def test_labels(item: Binary | BinarySize, label: bytes) -> None:
    assert item.label == label
