"""IMAP URLs (RFC 5092) and their authorization (RFC 4467)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.wire.imap.url import LONGEST, BadUrl, Url, authorized, is_authorized, parse

GOOD: list[tuple[str, Url]] = [
    ("/INBOX/;UID=20", Url("INBOX", 20)),
    ("/inbox/;uid=20/", Url("INBOX", 20)),
    ("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER", Url("Drafts", 20, 385759045, "HEADER")),
    ("/a%20b/c/;UID=1/;SECTION=1.2.MIME", Url("a b/c", 1, section="1.2.MIME")),
    ("/x/;UID=1/;SECTION=HEADER.FIELDS%20(To%20Cc)", Url("x", 1, section="HEADER.FIELDS (To Cc)")),
    ("/x/;UID=1/;PARTIAL=0.1024", Url("x", 1, partial=(0, 1024))),
    ("/x/;UID=1/;SECTION=1/;PARTIAL=5", Url("x", 1, section="1", partial=(5, None))),
    ("imap://joe@Example.COM:1143/Entw%C3%BCrfe/;UID=4294967295",
     Url("Entwürfe", 4294967295, user="joe", host="example.com", port=1143)),
    ("imap://joe;AUTH=*@h/x/;UID=1", Url("x", 1, user="joe", host="h")),
    ("imap://[2001:db8::1]/x/;UID=1", Url("x", 1, host="[2001:db8::1]")),
    ("IMAP://joe%40a.test@h/x/;UID=1", Url("x", 1, user="joe@a.test", host="h")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "url"), GOOD)
def test_good(text: str, url: Url) -> None:
    assert parse(text) == url


BAD = [
    "", "/", "x", "INBOX/;UID=1", "/INBOX", "/INBOX;UID=1", "/INBOX/;UID=", "/INBOX/;UID=0", "/INBOX/;UID=4294967296", "/x/;UID=1/;FOO=1",
    "/x;UIDVALIDITY=0/;UID=1", "/x/;UID=1/;PARTIAL=", "/x/;UID=1/;PARTIAL=0.0", "/x/;UID=1 ", "/x\r\n/;UID=1", "/x%0d%0a/;UID=1", "/x%00/;UID=1",
    "http://h/x/;UID=1", "imap://h", "imap:///x/;UID=1", "imap://a@b@c/x/;UID=1", "/x/;UID=1;EXPIRE=2024", "/x/;UID=1;EXPIRE=2024-01-01T00:00:00",
    "/x/;UID=1;EXPIRE=2024-13-01T00:00:00Z", "/x/;UID=1;URLAUTH=foo", "/x/;UID=1;URLAUTH=anonymous:internal:zz", "/é/;UID=1", "/" + "x" * LONGEST + "/;UID=1",
    "/x?y/;UID=1", "/x/;UID=1?y", "/x#/;UID=1",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(BadUrl):
        parse(text)


RUMP = "imap://joe@example.com/INBOX/;UID=20/;SECTION=1.2;EXPIRE=2026-12-31T23:59:59Z;URLAUTH=submit+fred"
KEY = b"k" * 32


class TestAuthorization:
    def test_a_rump(self) -> None:
        url = parse(RUMP)
        assert (url.access, url.expire, url.rump, url.mechanism, url.token) == (
            "submit+fred",
            1798761599,
            RUMP,
            None,
            None,
        )
        assert not is_authorized(url, KEY)

    def test_signed_and_read_again(self) -> None:
        url = parse(authorized(RUMP, KEY))
        assert (url.mechanism, url.rump, url.section) == ("INTERNAL", RUMP, "1.2")
        assert is_authorized(url, KEY)
        assert not is_authorized(url, b"other")

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("UID=20", "UID=21"),
            ("fred", "eve"),
            ("submit+fred", "anonymous"),
            ("2026", "2027"),
            ("internal", "external"),
            ("1.2;", "1.3;"),
        ],
    )
    def test_altered(self, old: str, new: str) -> None:
        assert not is_authorized(parse(authorized(RUMP, KEY).replace(old, new)), KEY)

    @pytest.mark.parametrize("access", ["submit+a%20b", "user+bob", "authuser", "anonymous", "AuthUser"])
    def test_who_may(self, access: str) -> None:
        url = parse(authorized(f"/x/;UID=1;URLAUTH={access}", KEY))
        assert is_authorized(url, KEY)
        assert url.access == access.replace("%20", " ")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "/",
                "imap://",
                "h",
                "@",
                ";UID=1",
                ";UIDVALIDITY=2",
                ";SECTION=",
                "1",
                "%41",
                "%",
                ";",
                "INBOX",
                ":",
                ".",
            ]
        )
    ).map("".join)
)
def test_anything_is_a_url_or_is_not(text: str) -> None:
    try:
        url = parse(text)
    except BadUrl:
        return
    assert url.uid == 1 or url.uid > 1
