"""Every response and code of extensions, octet for octet."""

from __future__ import annotations

import pytest

from mailstack.mail.threads import Forest
from mailstack.wire.imap import codes
from mailstack.wire.imap import extension_responses as e
from mailstack.wire.imap import responses as r
from mailstack.wire.imap.commands import Partial
from mailstack.wire.imap.sequence import SequenceSet
from mailstack.wire.imap.server import Server

NOTHING = SequenceSet(())


def forest(roots: list[int], children: dict[int, list[int]], count: int) -> Forest:
    """Nodes from 1 on, whose numbers are their own; from 100 on they are dummies."""
    every = range(count + 1)
    return Forest(
        roots, [children.get(node, []) for node in every], [node if node < 100 else None for node in every]
    )


CASES: list[tuple[r.AnyResponse, bytes]] = [
    (e.SortResponse([]), b"* SORT"),
    (e.SortResponse([5, 3, 4]), b"* SORT 5 3 4"),
    (e.SortResponse([5], 7), b"* SORT 5 (MODSEQ 7)"),
    (e.ThreadResponse(forest([], {}, 0)), b"* THREAD"),
    (e.ThreadResponse(forest([2, 3], {3: [6], 6: [4, 44], 4: [23], 44: [7], 7: [96]}, 99)),
     b"* THREAD (2)(3 6 (4 23)(44 7 96))"),
    (e.ThreadResponse(forest([103], {103: [3, 5]}, 103)), b"* THREAD ((3)(5))"),
    (e.ThreadResponse(forest([1, 103], {103: [3, 5], 3: [4]}, 103)), b"* THREAD (1)((3 4)(5))"),
    (e.ThreadResponse(forest([1], {1: [103, 2], 103: [3, 5]}, 103)), b"* THREAD (1 ((3)(5))(2))"),
    (e.ESearchUpdate("B01", True, ((0, SequenceSet.of([32768, 32769])),)), b'* ESEARCH (TAG "B01") UID ADDTO (0 32768:32769)'),
    (e.ESearchUpdate("B01", False, ((1, SequenceSet.of([5])), (3, SequenceSet.of([7]))), ((2, SequenceSet.of([9])),)),
     b'* ESEARCH (TAG "B01") REMOVEFROM (2 9) ADDTO (1 5 3 7)'),
    (r.ESearch("A01", True, partial=(Partial(-1, -100), SequenceSet.of([55500, 55501]))),
     b'* ESEARCH (TAG "A01") UID PARTIAL (-1:-100 55500:55501)'),
    (r.ESearch("A01", True, partial=(Partial(24000, 24500), NOTHING)), b'* ESEARCH (TAG "A01") UID PARTIAL (24000:24500 NIL)'),
    (r.ESearch("B1", False, all=SequenceSet.of([1, 5, 10]), relevancy=(4, 99, 42)),
     b'* ESEARCH (TAG "B1") ALL 1,5,10 RELEVANCY (4 99 42)'),
    (r.ESearch("tag1", True, all=SequenceSet.of([4001]), modseq=9, source=("a b", 1)),
     b'* ESEARCH (TAG "tag1" MAILBOX "a b" UIDVALIDITY 1) UID ALL 4001 MODSEQ 9'),
    (e.GenUrlAuthResponse(("imap://a/b", 'c"')), b'* GENURLAUTH "imap://a/b" "c\\""'),
    (e.LanguageResponse(("EN", "DE")), b'* LANGUAGE ("EN" "DE")'),
    (e.Acl("INBOX", (("fred", "rwi"), ("a b", ""))), b'* ACL INBOX fred rwi "a b" ""'),
    (e.Acl("a b", ()), b'* ACL "a b"'),
    (e.ListRightsResponse("INBOX", "smith", "la", ("r", "swicd")), b"* LISTRIGHTS INBOX smith la r swicd"),
    (e.ListRightsResponse("INBOX", "smith", "", ("r",)), b'* LISTRIGHTS INBOX smith "" r'),
    (e.MyRightsResponse("INBOX", "rwl"), b"* MYRIGHTS INBOX rwl"),
    (e.Metadata("", (("/shared/comment", b"x"), ("/private/y", None), ("/private/z", b"a\r\n"))),
     b'* METADATA "" (/shared/comment "x" /private/y NIL /private/z {3}\r\na\r\n)'),
    (e.Metadata("INBOX", (("/private/z", b"a\0"),)), b"* METADATA INBOX (/private/z ~{2}\r\na\0)"),
    (e.MetadataChanged("INBOX", ("/shared/comment", "/private/comment")), b"* METADATA INBOX /shared/comment /private/comment"),
    (r.fetch_uid(25996, [b"FLAGS ()"]), b"* 25996 UIDFETCH (FLAGS ())"),
    (r.StatusResponse("x", {"MAILBOXID": "(F1)", "APPENDLIMIT": "NIL", "DELETED": 3}),
     b"* STATUS x (MAILBOXID (F1) APPENDLIMIT NIL DELETED 3)"),
    (r.ListResponse("new", old_name="old é"), b'* LIST () "/" new ("OLDNAME" ("old &AOk-"))'),
    (r.ListResponse("new", child_info=("SUBSCRIBED",), old_name="old"),
     b'* LIST () "/" new ("CHILDINFO" ("SUBSCRIBED") "OLDNAME" (old))'),
    (r.Namespaces(others=("Other Users/",), shared=("Shared/", "é/")),
     b'* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/")("&AOk-/" "/"))'),
    (r.Vanished(SequenceSet.of([300, 301, 405])), b"* VANISHED 300:301,405"),
]  # fmt: skip


@pytest.mark.parametrize(("response", "line"), CASES, ids=lambda value: repr(value)[:50])
def test_encoding(response: r.AnyResponse, line: bytes) -> None:
    assert r.encode(response) == line + b"\r\n"
    assert Server().send(response) == line + b"\r\n"


UTF8: list[tuple[r.AnyResponse, bytes]] = [
    (r.ListResponse("Entwürfe", (r"\Drafts",)), '* LIST (\\Drafts) "/" "Entwürfe"'.encode()),
    (r.ListResponse("new", old_name='"é\\'), '* LIST () "/" new ("OLDNAME" ("\\"é\\\\"))'.encode()),
    (r.LsubResponse("a&b"), b'* LSUB () "/" a&b'),
    (r.StatusResponse("日本語", {"MESSAGES": 1}), '* STATUS "日本語" (MESSAGES 1)'.encode()),
    (r.QuotaRoot("é", ("",)), '* QUOTAROOT "é" ""'.encode()),
    (r.Namespaces(shared=("é/",)), '* NAMESPACE (("" "/")) NIL (("é/" "/"))'.encode()),
    (r.ESearch("a", True, count=0, source=("é", 1)), '* ESEARCH (TAG "a" MAILBOX "é" UIDVALIDITY 1) UID COUNT 0'.encode()),
    (e.Acl("é", (("bob", "lr"),)), '* ACL "é" bob lr'.encode()),
    (e.MyRightsResponse("é", "lr"), '* MYRIGHTS "é" lr'.encode()),
    (e.MetadataChanged("é", ("/shared/x",)), '* METADATA "é" /shared/x'.encode()),
    (r.Exists(3), b"* 3 EXISTS"),
    ((r.LsubResponse("é"), b"* OK x\r\n"), '* LSUB () "/" "é"\r\n* OK x'.encode()),
]  # fmt: skip


@pytest.mark.parametrize(("response", "line"), UTF8, ids=lambda value: repr(value)[:50])
def test_encoding_for_a_client_that_has_enabled_utf8(response: r.AnyResponse, line: bytes) -> None:
    assert r.encode(response, utf8=True) == line + b"\r\n"
    session = Server()
    session.send(r.Enabled(("UTF8=ACCEPT",)))
    assert session.send(response) == line + b"\r\n"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (codes.highest_modseq(715194045007), "HIGHESTMODSEQ 715194045007"),
        (codes.modified([7, 9, 10]), "MODIFIED 7,9:10"),
        (codes.mailbox_id("F2212ea87"), "MAILBOXID (F2212ea87)"),
        (codes.in_progress("A001"), 'INPROGRESS ("A001" NIL NIL)'),
        (codes.in_progress("A001", 454), 'INPROGRESS ("A001" 454 NIL)'),
        (codes.in_progress("A001", 454, 1000), 'INPROGRESS ("A001" 454 1000)'),
        (codes.message_limit(1000), "MESSAGELIMIT 1000"),
        (codes.message_limit(1000, 23221), "MESSAGELIMIT 1000 23221"),
        (codes.bad_url('/a;UID=1] "\r\n'), "BADURL /a;UID=1"),
        (codes.bad_url("]"), "BADURL -"),
        (codes.url_mechanisms(), "URLMECH INTERNAL"),
        (codes.no_update("B02"), 'NOUPDATE "B02"'),
        (codes.undefined_filter("x"), "UNDEFINED-FILTER x"),
        (codes.metadata_long_entries(2199), "METADATA LONGENTRIES 2199"),
        (codes.metadata_max_size(1024), "METADATA MAXSIZE 1024"),
    ],
)
def test_codes(code: str, text: str) -> None:
    assert code == text


def test_a_thread_of_a_hundred_thousand() -> None:
    count = 100_000
    deep = Forest([0], [[node + 1] for node in range(count - 1)] + [[]], list(range(1, count + 1)))
    line = e.ThreadResponse(deep).encode()
    assert line == b"* THREAD (" + b" ".join(b"%d" % number for number in range(1, count + 1)) + b")\r\n"
