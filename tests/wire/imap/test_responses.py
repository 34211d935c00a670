"""Every response, octet for octet."""

from __future__ import annotations

import pytest

from mailstack.wire.imap import responses as r
from mailstack.wire.imap.commands import Malformed
from mailstack.wire.imap.sequence import SequenceSet
from mailstack.wire.imap.server import Server

CASES: list[tuple[r.AnyResponse, bytes]] = [
    (r.Tagged("a1", "OK", "done"), b"a1 OK done"),
    (r.Tagged("a1", "NO", "no such mailbox", code="TRYCREATE"), b"a1 NO [TRYCREATE] no such mailbox"),
    (r.Tagged("a1", "NO", "x\r\na2 OK"), b"a1 NO x a2 OK"),
    (r.Untagged("OK", "first", "UNSEEN 3"), b"* OK [UNSEEN 3] first"),
    (r.Greeting("ready", ("IMAP4rev1", "IDLE")), b"* OK [CAPABILITY IMAP4rev1 IDLE] ready"),
    (r.Greeting("ready"), b"* OK ready"),
    (r.Bye("later", "UNAVAILABLE"), b"* BYE [UNAVAILABLE] later"),
    (r.Continuation(), b"+ OK"),
    (r.Challenge(b""), b"+ "),
    (r.Challenge(b"Username:"), b"+ VXNlcm5hbWU6"),
    (r.Capabilities(("IMAP4rev1", "AUTH=PLAIN")), b"* CAPABILITY IMAP4rev1 AUTH=PLAIN"),
    (r.Enabled(), b"* ENABLED"),
    (r.Enabled(("CONDSTORE",)), b"* ENABLED CONDSTORE"),
    (r.ListResponse("Sent", (r"\HasNoChildren", r"\Sent")), rb'* LIST (\HasNoChildren \Sent) "/" Sent'),
    (r.ListResponse("", (r"\Noselect",)), rb'* LIST (\Noselect) "/" ""'),
    (r.ListResponse("Entwürfe", (), None), b"* LIST () NIL Entw&APw-rfe"),
    (r.ListResponse("a b", (), "/", ("SUBSCRIBED",)), b'* LIST () "/" "a b" ("CHILDINFO" ("SUBSCRIBED"))'),
    (r.LsubResponse("Foo", (r"\Noselect",)), rb'* LSUB (\Noselect) "/" Foo'),
    (r.StatusResponse("INBOX", {"MESSAGES": 3, "SIZE": 10}), b"* STATUS INBOX (MESSAGES 3 SIZE 10)"),
    (r.SearchResponse([]), b"* SEARCH"),
    (r.SearchResponse(range(2, 5)), b"* SEARCH 2 3 4"),
    (r.SearchResponse([7], modseq=9), b"* SEARCH 7 (MODSEQ 9)"),
    (
        r.ESearch("a1", True, 1, 9, 3, SequenceSet.of([1, 2, 9])),
        b'* ESEARCH (TAG "a1") UID MIN 1 MAX 9 COUNT 3 ALL 1:2,9',
    ),
    (r.ESearch("a1", False, count=0, all=SequenceSet(())), b'* ESEARCH (TAG "a1") COUNT 0'),
    (r.Flags((r"\Seen", "x")), rb"* FLAGS (\Seen x)"),
    (r.Exists(3), b"* 3 EXISTS"),
    (r.Recent(0), b"* 0 RECENT"),
    (r.Expunged(4), b"* 4 EXPUNGE"),
    (r.Vanished(SequenceSet.of([4, 5]), earlier=True), b"* VANISHED (EARLIER) 4:5"),
    (r.fetch(3, [b"UID 7", b"FLAGS " + r.flags([r"\Seen"])]), rb"* 3 FETCH (UID 7 FLAGS (\Seen))"),
    (r.fetch(3, [b"BODY[] " + r.literal(b"hi\r\n")]), b"* 3 FETCH (BODY[] {4}\r\nhi\r\n)"),
    (r.Namespaces(), b'* NAMESPACE (("" "/")) NIL NIL'),
    (r.Identity(), b"* ID NIL"),
    (r.Identity((("name", "mailstack"), ("os", None))), b'* ID ("name" "mailstack" "os" NIL)'),
    (r.Quota("", (("STORAGE", 10, 512), ("MESSAGE", 1, 2))), b'* QUOTA "" (STORAGE 10 512 MESSAGE 1 2)'),
    (r.Quota("", ()), b'* QUOTA "" ()'),
    (r.QuotaRoot("INBOX", ("",)), b'* QUOTAROOT INBOX ""'),
    (r.QuotaRoot("INBOX", ()), b"* QUOTAROOT INBOX"),
    ((r.Exists(1), b"* 0 RECENT\r\n", r.Tagged("a", "OK", "x")), b"* 1 EXISTS\r\n* 0 RECENT\r\na OK x"),
    (r.refusal(Malformed("a", "what?")), b"a BAD what?"),
    (r.refusal(Malformed(None, "what?")), b"* BAD what?"),
    (r.refusal(Malformed("a", "no", "TOOBIG", "NO")), b"a NO [TOOBIG] no"),
    (r.refusal(Malformed("a", "enough", fatal=True)), b"* BYE enough"),
]


@pytest.mark.parametrize(("response", "line"), CASES, ids=lambda value: repr(value)[:50])
def test_encoding(response: r.AnyResponse, line: bytes) -> None:
    assert r.encode(response) == line + b"\r\n"
    assert Server().send(response) == line + b"\r\n"


def test_append_uid() -> None:
    assert r.append_uid(38505, [3955]) == "APPENDUID 38505 3955"


def test_copy_uid_keeps_source_and_target_in_step() -> None:
    assert r.copy_uid(5, [(9, 30), (3, 31), (4, 32)]) == "COPYUID 5 3:4,9 31:32,30"
    assert r.copy_uid(5, []) is None
