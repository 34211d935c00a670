"""The MIME scanner: offsets, numbers, bounds, and the packed form."""

from __future__ import annotations

import email
import email.policy
import mmap
import tempfile
from collections.abc import Iterator
from email.message import EmailMessage, Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail import mime
from mailstack.mail.mime import Part, find, pack, parameter, scan, search_text, unpack


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def walk(part: Part) -> Iterator[Part]:
    yield part
    for child in part.children:
        yield from walk(child)


def bodies(data: bytes, part: Part) -> list[bytes]:
    return [data[leaf.body : leaf.end] for leaf in walk(part) if not leaf.children]


def check(data: bytes, part: Part) -> None:
    """What must hold for any input: nesting of offsets, order, grammar, and the packed form."""
    assert (part.header, part.end) == (0, len(data))
    for entity in walk(part):
        assert entity.header <= entity.body <= entity.end
        at = entity.body
        for child in entity.children:
            assert at <= child.header
            assert child.end <= entity.end
            at = child.end
        assert bool(entity.children) or not entity.is_multipart
        if entity.type == "message" and entity.subtype == "rfc822":
            assert len(entity.children) == 1
            assert entity.children[0].header == entity.body
        if not entity.is_multipart:
            assert entity.lines == data[entity.body : entity.end].count(b"\n")
    assert unpack(pack(part)) == part
    assert pack(part).isascii()


MIXED = crlf(
    """From: a@b.test
Content-Type: multipart/mixed; boundary="outer"

preamble
--outer
Content-Type: multipart/alternative; boundary="outer2"

--outer2

plain
--outer2
Content-Type: text/html

<p>html
--outer2--
--outer
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary=deep

--deep

one
--deep

two
--deep--
--outer
Content-Type: message/rfc822

Subject: simple

text
--outer--
epilogue
"""
)


class TestScan:
    def test_tree(self) -> None:
        part = scan(MIXED)
        check(MIXED, part)
        assert bodies(MIXED, part) == [b"plain", b"<p>html", b"one", b"two", b"text"]
        assert [child.type for child in part.children] == ["multipart", "message", "message"]

    @pytest.mark.parametrize(
        ("section", "body"),
        [
            ((1, 1), b"plain"),
            ((1, 2), b"<p>html"),
            ((2, 1), b"one"),
            ((2, 2), b"two"),
            ((3, 1), b"text"),
            ((3,), b"Subject: simple\r\n\r\ntext"),
            ((), MIXED.partition(b"\r\n\r\n")[2]),
        ],
    )
    def test_numbers(self, section: tuple[int, ...], body: bytes) -> None:
        part = find(scan(MIXED), section)
        assert part is not None
        assert MIXED[part.body : part.end] == body

    @pytest.mark.parametrize("section", [(0,), (4,), (1, 3), (1, 1, 1), (3, 2), (3, 1, 1), (2, 1, 1), (1, 0)])
    def test_numbers_that_are_not_there(self, section: tuple[int, ...]) -> None:
        assert find(scan(MIXED), section) is None

    def test_number_one_of_a_simple_message_is_its_text(self) -> None:
        part = scan(b"Subject: x\r\n\r\ntext\r\n")
        assert find(part, (1,)) == part
        assert find(part, (2,)) is None
        assert find(part, (1, 1)) is None

    def test_numbers_of_a_message_that_is_a_message(self) -> None:
        data = crlf("Content-Type: message/rfc822\n\nSubject: in\n\ntext\n")
        part = scan(data)
        assert find(part, (1,)) == part
        assert find(part, (1, 1)) == part.children[0]

    def test_header_of_the_embedded_message(self) -> None:
        part = find(scan(MIXED), (3,))
        assert part is not None
        embedded = part.children[0]
        assert MIXED[embedded.header : embedded.body] == b"Subject: simple\r\n\r\n"
        assert embedded.fields == b"Subject: simple\r\n\r\n"

    @pytest.mark.parametrize(
        ("data", "header_size"),
        [
            (b"", 0),
            (b"\r\n", 2),
            (b"\n", 1),
            (b"\r\nbody", 2),
            (b"A: b", 4),
            (b"A: b\r\n", 6),
            (b"A: b\r\n\r\n", 8),
            (b"A: b\n\nbody", 6),
            (b"A: b\n\r\nbody", 7),
            (b"A: b\r\nC: d\n\nbody\r\n\r\n", 12),
            (b"\0\xff", 2),
            (b"\r\r\n\r\n", 5),
        ],
    )
    def test_where_the_body_begins(self, data: bytes, header_size: int) -> None:
        part = scan(data)
        assert (part.body, part.end) == (header_size, len(data))
        assert (part.type, part.subtype, part.encoding) == ("text", "plain", "7bit")

    def test_line_feeds_alone(self) -> None:
        data = MIXED.replace(b"\r\n", b"\n")
        check(data, scan(data))
        assert bodies(data, scan(data)) == [b"plain", b"<p>html", b"one", b"two", b"text"]

    def test_no_terminators(self) -> None:
        data = crlf(
            "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n"
            "--i\n\none\n--o\n\ntwo"
        )
        check(data, scan(data))
        assert bodies(data, scan(data)) == [b"one", b"two"]

    def test_an_outer_delimiter_ends_an_embedded_message(self) -> None:
        data = crlf(
            "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/rfc822\n\nSubject: x\n--o\n\ntwo\n"
        )
        check(data, scan(data))
        assert bodies(data, scan(data)) == [b"", b"two\r\n"]

    def test_nested_multiparts_with_one_boundary(self) -> None:
        nested = "Content-Type: multipart/mixed; boundary=x\n\n"
        data = crlf(f"{nested}--x\n{nested}--x\n\none\n--x\n\ntwo\n--x--\n--x\n\nthree\n--x--\n")
        part = scan(data)
        check(data, part)
        assert [len(child.children) for child in part.children] == [2, 0]
        assert bodies(data, part) == [b"one", b"two", b"three"]

    @pytest.mark.parametrize(("outer", "inner"), [("x", "xy"), ("xy", "x")])
    def test_boundaries_that_begin_with_one_another(self, outer: str, inner: str) -> None:
        data = crlf(
            f"Content-Type: multipart/mixed; boundary={outer}\n\n--{outer}\n"
            f"Content-Type: multipart/mixed; boundary={inner}\n\n--{inner}\n\none\n--{inner}--\n--{outer}\n\ntwo\n"
            f"--{outer}--\n"
        )
        part = scan(data)
        check(data, part)
        assert bodies(data, part) == [b"one", b"two"]
        assert len(part.children) == 2

    @pytest.mark.parametrize(("outer", "inner"), [("x", "xy"), ("xy", "x")])
    def test_such_boundaries_where_the_inner_part_is_not_closed(self, outer: str, inner: str) -> None:
        data = crlf(
            f"Content-Type: multipart/mixed; boundary={outer}\n\n--{outer}\n"
            f"Content-Type: multipart/mixed; boundary={inner}\n\n--{inner}\n\none\n--{outer}\n\ntwo\n"
            f"--{outer}--\n"
        )
        part = scan(data)
        check(data, part)
        assert bodies(data, part) == [b"one", b"two"]
        assert [len(child.children) for child in part.children] == [1, 0]

    def test_no_boundary_or_no_delimiter_is_one_empty_part(self) -> None:
        for field in ("multipart/mixed", "multipart/mixed; boundary=x", 'multipart/mixed; boundary=""'):
            data = crlf(f"Content-Type: {field}\n\ntext\n")
            part = scan(data)
            check(data, part)
            assert [child.size for child in part.children] == [0]

    def test_boundary_that_is_not_ascii(self) -> None:
        for boundary in ("gr\xfc\xdfe".encode(), b"gr\xfc"):
            data = b'Content-Type: multipart/mixed; boundary="%s"\n\n--%s\n\none\n' % (boundary, boundary)
            assert bodies(data, scan(data)) == [b"one\n"]

    def test_digest(self) -> None:
        data = crlf("Content-Type: multipart/digest; boundary=x\n\n--x\n\nSubject: d\n\ntext\n--x--\n")
        part = scan(data)
        assert part.children[0].is_message
        assert bodies(data, part) == [b"text"]

    def test_memory_map_gives_the_same(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(MIXED)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                part = scan(data)
                text = search_text(part, data)
        assert part == scan(MIXED)
        assert text == search_text(part, MIXED)


class TestFields:
    def scan(self, *fields: str) -> Part:
        return scan("".join(f"{field}\r\n" for field in fields).encode() + b"\r\n")

    def test_all(self) -> None:
        part = self.scan(
            'CONTENT-TYPE: Application/X-Foo; Name="a\\"b"; x=y;',
            "content-transfer-encoding: BASE64 (comment)",
            "Content-Disposition: ATTACHMENT;\r\n\tFilename=c.txt",
            "Content-ID: <i@d>",
            "Content-Description: some\r\n thing",
            "Content-MD5: abc==",
            "Content-Language: en, de",
            "Content-Location: http://x.test/",
        )
        assert (part.type, part.subtype, part.encoding) == ("application", "x-foo", "base64")
        assert part.parameters == (("name", 'a"b'), ("x", "y"))
        assert part.disposition == ("attachment", (("filename", "c.txt"),))
        assert (part.id, part.description, part.md5) == ("<i@d>", "some thing", "abc==")
        assert (part.language, part.location) == (("en", "de"), "http://x.test/")

    @pytest.mark.parametrize(
        "kind", ["", "text", "text/", "/plain", "text plain", ";", "(text/html)", "\x00"]
    )
    def test_malformed_type_is_plain_text(self, kind: str) -> None:
        part = self.scan(f"Content-Type: {kind}", "Content-ID: <x>")
        assert (part.type, part.subtype, part.id) == ("text", "plain", "<x>")

    @pytest.mark.parametrize(
        ("written", "parameters"),
        [
            ("; a=b", [("a", "b")]),
            (' (c) ; a (d) = b ;; c="d;e" (f)', [("a", "b"), ("c", "d;e")]),
            ("; a=b c.pdf; d", [("a", "b c.pdf")]),
            ('; a="b', [("a", "b")]),
            ('; a="b\\', [("a", "b")]),
            ("; a=", [("a", "")]),
            ('; a="(b)"', [("a", "(b)")]),
            ("; a*1=y; a*0=x; b=c", [("b", "c"), ("a", "xy")]),
            ("; a*0*=utf-8''x%20; a*1=5%", [("a*", "utf-8''x%205%25")]),
            ("; a*=utf-8''x; b*c=d", [("a*", "utf-8''x"), ("b*c", "d")]),
        ],
    )
    def test_parameters(self, written: str, parameters: list[tuple[str, str]]) -> None:
        assert list(self.scan(f"Content-Type: a/b{written}").parameters) == parameters

    def test_decoded_parameters(self) -> None:
        part = self.scan(
            "Content-Type: a/b; name*=iso-8859-1'en'f%FCr.txt; title*0*=utf-8''%c3; title*1*=%bc",
            'Content-Disposition: attachment; filename="=?utf-8?b?w7w=?=.txt"',
        )
        assert parameter(part, "name") == "für.txt"
        assert parameter(part, "title") == "ü"
        assert parameter(part, "filename") == "ü.txt"
        assert parameter(part, "other") is None

    def test_damaged_extended_parameter(self) -> None:
        part = self.scan("Content-Type: a/b; name*=nonsense; x*=no-such-charset''%fc")
        assert parameter(part, "name") == ""
        assert parameter(part, "x") == "ü"

    def test_first_of_two(self) -> None:
        assert self.scan("Content-Type: a/b", "Content-Type: c/d").subtype == "b"


class TestBounds:
    def test_nested_deeper_than_the_bound(self) -> None:
        data = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%06d\n\n--b%06d\n" % (i, i) for i in range(10_000)
        )
        part = scan(data)
        check(data, part)
        leaf = list(walk(part))[-1]
        assert (leaf.type, leaf.subtype) == ("application", "octet-stream")
        assert len(list(walk(part))) == mime.MAX_DEPTH

    def test_messages_deeper_than_the_bound(self) -> None:
        data = b"Content-Type: message/rfc822\n\n" * 10_000
        part = scan(data)
        check(data, part)
        assert len(list(walk(part))) == mime.MAX_DEPTH

    def test_more_parts_than_the_bound(self) -> None:
        data = b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\n\na\n" * 20_000
        part = scan(data)
        check(data, part)
        assert len(part.children) == mime.MAX_PARTS - 1

    def test_more_detail_than_the_bound_is_opaque(self) -> None:
        one = b"--x\nContent-Type: a/b; name=%s\n\n\n" % (b"n" * 8000)
        data = b"Content-Type: multipart/mixed; boundary=x\n\n" + one * 300
        part = scan(data)
        check(data, part)
        assert part.children[0].subtype == "b"
        assert part.children[-1].subtype == "octet-stream"
        assert len(pack(part)) < 2 * mime.MAX_DETAIL

    def test_header_longer_than_the_bound(self) -> None:
        data = b"X: y\n" * 100_000 + b"Content-Type: text/html\n\nbody"
        part = scan(data)
        assert data[part.body :] == b"body"
        assert part.subtype == "plain"

    def test_packed_form_is_small(self) -> None:
        part = scan(
            crlf("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ntext\n")
        )
        assert len(pack(part)) < 80

    @pytest.mark.parametrize(
        "data", [b"", b"{}", b"[]", b"[1]", b"null", b"[0,0,0,0,1,2,3]", b"\xff", b"[" * 100_000]
    )
    def test_unpack_refuses_what_is_not_packed(self, data: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            unpack(data)


class TestText:
    def test_header_and_bodies(self) -> None:
        data = crlf(
            "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n folded\nContent-Type: multipart/mixed; boundary=x\n\n"
            "--x\nContent-Type: text/plain; charset=iso-8859-15\nContent-Transfer-Encoding: quoted-printable\n\n"
            "5 =A4 =\nonly\n"
            "--x\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: base64\n\nPGI+w7w8L2I+\n"
            "--x\nContent-Type: image/png; name=picture.png\nContent-Transfer-Encoding: base64\n\nc2VjcmV0\n"
            "--x--\n"
        )
        part = scan(data)
        text = search_text(part, data)
        assert "Grüße folded" in text
        assert "5 € only" in text
        assert "<b>ü</b>" in text
        assert "picture.png" in text
        assert "secret" not in text
        assert "Grüße" not in search_text(part, data, header=False)
        assert "5 €" in search_text(part, data, header=False)

    @pytest.mark.parametrize(
        ("charset", "encoding", "body", "text"),
        [
            ("utf-8", "base64", b"w7w", "ü"),
            ("utf-8", "base64", b"w7\r\nw=!!\r\n", "ü"),
            ("utf-8", "base64", b"w7w=w7w=", "üü"),
            ("utf-8", "base64", b"w", ""),
            ("utf-8", "quoted-printable", b"=C3=BC=ZZ=", "ü=ZZ"),
            ("utf-8", "8bit", b"\xc3\xbc\xff", "ü�"),
            ("no-such-charset", "8bit", b"\xfc", "ü"),
            ("us-ascii", "7bit", "ü".encode(), "ü"),
            ("iso-8859-1", "8bit", b"\x93\xfc\x94", "“ü”"),
            ("iso-2022-jp", "7bit", "日本".encode("iso-2022-jp"), "日本"),
            ("GB2312", "8bit", "中文".encode("gb2312"), "中文"),
            ("zlib", "8bit", b"x", "x"),
            ("punycode", "8bit", b"a-b", "a-b"),
            ("unicode_escape", "8bit", b"\\x41", "\\x41"),
            ("a" * 5000, "x-unknown", b"x", "x"),
            ('"utf-8\\', "8bit", b"x", "x"),
        ],
    )
    def test_damaged(self, charset: str, encoding: str, body: bytes, text: str) -> None:
        data = (
            crlf(f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n")
            + body
        )
        assert mime.decode_body(scan(data), data) == text

    @pytest.mark.parametrize("subtype", ["delivery-status", "disposition-notification", "partial", "global"])
    def test_reports_are_text(self, subtype: str) -> None:
        """SEARCH BODY finds the address that a bounce is about, where no text names it."""
        data = crlf(
            "Content-Type: multipart/report; boundary=x\n\n"
            f"--x\nContent-Type: message/{subtype}\n\nFinal-Recipient: rfc822; lost@example.org\n"
            "--x--\n"
        )
        assert "lost@example.org" in search_text(scan(data), data, header=False)

    def test_one_bad_field_does_not_spoil_the_others(self) -> None:
        data = b"Subject: \xc3\xbc\r\nX: \xfc\r\n\r\n"
        assert search_text(scan(data), data).count("ü") == 2


class TestAgainstTheStandardLibrary:
    """Well-formed messages: the same tree, types and decoded bodies as `email` finds."""

    def message(self) -> bytes:
        inner = EmailMessage()
        inner["Subject"] = "Grüße aus Köln"
        inner["From"] = "Jörg <joerg@example.test>"
        inner.set_content("Hällo\n" * 5)
        message = EmailMessage()
        message["Subject"] = "all"
        message.set_content("plain ü\n")
        message.add_alternative("<p>html ü</p>\n", subtype="html")
        message.add_attachment(b"\0\1\2" * 100, maintype="application", subtype="pdf", filename="räport.pdf")
        message.add_attachment(inner)
        return message.as_bytes(policy=email.policy.SMTP)

    def compare(self, part: Part, data: bytes, other: Message) -> None:
        assert f"{part.type}/{part.subtype}" == other.get_content_type()
        if part.children:
            payload = other.get_payload()
            assert isinstance(payload, list)
            assert len(part.children) == len(payload)
            for child, its in zip(part.children, payload, strict=True):
                assert isinstance(its, Message)
                self.compare(child, data, its)
        else:
            body = data[part.body : part.end]
            decoded = mime.decode_body(part, data)
            theirs = other.get_payload(decode=True)
            assert isinstance(theirs, bytes)
            assert theirs == mime_bytes(body, part.encoding)
            if part.type == "text":
                assert decoded == theirs.decode()
            assert parameter(part, "filename") == other.get_filename()

    def test_same_tree(self) -> None:
        data = self.message()
        check(data, scan(data))
        self.compare(scan(data), data, email.message_from_bytes(data, policy=email.policy.default))


def mime_bytes(body: bytes, encoding: str) -> bytes:
    from mailstack.mail.charset import decode_transfer

    return decode_transfer(body, encoding)


PIECES = st.sampled_from(
    [
        *(
            b"--x",
            b"--xy",
            b"--x--",
            b"--",
            b"\r\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b"\n\n",
            b" ",
            b"text",
            b"\0",
            b"\xff",
        ),
        *(
            b"Content-Type: ",
            b"multipart/mixed",
            b"multipart/digest",
            b"message/rfc822",
            b"; boundary=x",
            b"text/html",
        ),
        *(
            b'; boundary="xy"',
            b"Content-Transfer-Encoding: base64",
            b"; name*0*=a''%ff",
            b"Subject: s",
            b"(",
            b'"',
        ),
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n",
        b"Content-Type: multipart/mixed; boundary=xy\n\n--xy\n",
        b"Content-Type: message/rfc822\r\n\r\n",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=40).map(b"".join) | st.binary(max_size=200))
def test_any_octets(data: bytes) -> None:
    part = scan(data)
    check(data, part)
    search_text(part, data)
    for entity in walk(part):
        mime.decode_body(entity, data)
        parameter(entity, "name")
