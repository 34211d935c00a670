"""ENVELOPE and BODYSTRUCTURE against what Dovecot answers, and where ours is different on purpose."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.mail.mime import pack, scan, unpack
from mailstack.wire.imap.downgrade import seven_bit
from mailstack.wire.imap.structure import bodies, envelope
from tests.wire.imap.dovecot_structures import CASES


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("text", "expected_envelope", "expected_structure"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
class TestLikeDovecot:
    def test_envelope(self, text: str, expected_envelope: str, expected_structure: str) -> None:
        data = crlf(text)
        assert envelope(data[: scan(data).body]).decode() == expected_envelope

    def test_body_structure(self, text: str, expected_envelope: str, expected_structure: str) -> None:
        part = scan(crlf(text))
        assert bodies(part)[1].decode() == expected_structure
        assert bodies(unpack(pack(part)))[1] == bodies(part)[1]


class TestBody:
    def test_has_no_extension_data(self) -> None:
        data = crlf(
            "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-ID: <i>\n\na\n--x\nContent-Type: message/rfc822\n\n"
            "Subject: s\n\nt\n--x--\n"
        )
        assert bodies(scan(data))[0] == (
            b'(("text" "plain" ("charset" "us-ascii") "<i>" NIL "7bit" 1 0)'
            b'("message" "rfc822" NIL NIL NIL "7bit" 15 (NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL)'
            b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) 2) "mixed")'
        )


class TestOnPurpose:
    def envelope(self, fields: str) -> str:
        return envelope(crlf(fields) + b"\r\n").decode()

    def test_no_domain_is_an_empty_host(self) -> None:
        """NIL would begin a group (RFC 3501 section 7.4.2)."""
        assert self.envelope("To: root\n") == '(NIL NIL NIL NIL NIL ((NIL NIL "root" "")) NIL NIL NIL NIL)'

    def test_source_route_is_nil(self) -> None:
        assert '((NIL NIL "u" "h"))' in self.envelope("To: <@r1,@r2:u@h>\n")

    def test_eight_bit_is_utf8(self) -> None:
        assert self.envelope("Subject: Grüße\nTo: Jörg <jö@ö.test>\n") == (
            '(NIL "Grüße" NIL NIL NIL (("Jörg" NIL "jö" "ö.test")) NIL NIL NIL NIL)'
        )
        assert envelope(b"Subject: Gr\xfc\xdfe\r\n\r\n") == envelope("Subject: Grüße\r\n\r\n".encode())
        part = scan('Content-Type: image/png; name="ü.png"\r\n\r\n'.encode())
        assert '("name" "ü.png")'.encode() in bodies(part)[1]

    def test_quotes_are_escaped(self) -> None:
        assert self.envelope('Subject: a "b" \\c\n').startswith('(NIL "a \\"b\\" \\\\c" NIL')

    def test_folding_tab_and_control_characters_become_blanks(self) -> None:
        assert envelope(b"Subject: a\r\n\tb\rc\0d\r\n\r\n").startswith(b'(NIL "a b c d" NIL')

    def test_line_end_inside_an_encoded_word(self) -> None:
        assert seven_bit(envelope(b"Subject: =?utf-8?q?a=0D=0Ab?= \xff\r\n\r\n")).startswith(
            b'(NIL "a  b =?utf-8?b?w78=?=" NIL'
        )

    def test_types_and_encodings_are_in_lower_case(self) -> None:
        part = scan(b"Content-Type: TEXT/Plain; CHARSET=UTF-8\r\nContent-Transfer-Encoding: BASE64\r\n\r\n")
        assert bodies(part)[0] == b'("text" "plain" ("charset" "UTF-8") NIL NIL "base64" 0 0)'

    def test_malformed_type_is_plain_text(self) -> None:
        part = scan(b"Content-Type: foo\r\n\r\nx\r\n")
        assert bodies(part)[0] == b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1)'

    def test_name_with_blanks_stays_whole(self) -> None:
        part = scan(b"Content-Type: application/pdf; name=foo bar.pdf\r\n\r\n")
        assert b'("name" "foo bar.pdf")' in bodies(part)[0]

    def test_line_end_before_the_outer_delimiter_is_not_the_message(self) -> None:
        """RFC 2046 section 5.1.1; Dovecot counts it in after the inner terminator."""
        data = crlf(
            "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/rfc822\n\n"
            "Content-Type: multipart/mixed; boundary=i\n\n--i\n\none\n--i--\n--o--\n"
        )
        message = scan(data).children[0]
        assert data[message.body : message.end].endswith(b"--i--")


class TestSevenBit:
    """For clients that have not enabled UTF-8 (RFC 6855 section 8)."""

    def envelope(self, fields: str) -> str:
        return seven_bit(envelope(crlf(fields) + b"\r\n")).decode("ascii")

    def test_text_becomes_words_and_a_domain_its_ascii_form(self) -> None:
        assert self.envelope("Subject: Grüße\nTo: Jörg <j@ö.test>, <k@ö.test>\n") == (
            '(NIL "=?utf-8?b?R3LDvMOfZQ==?=" NIL NIL NIL (("=?utf-8?b?SsO2cmc=?=" NIL "j" "xn--nda.test")'
            '(NIL NIL "k" "xn--nda.test")) NIL NIL NIL NIL)'
        )

    def test_an_address_that_cannot_be_written_is_no_address(self) -> None:
        """RFC 6858 section 2.1: nobody is answered by mistake, and the user is told what it was."""
        assert self.envelope("From: jö@ö.test\nTo: Jo <jö@a.test>\nCc: a@b.test\n").endswith(
            '(("Jo =?utf-8?b?PGrDtkBhLnRlc3Q+?=" NIL "invalid" "internationalized-address.invalid"))'
            ' ((NIL NIL "a" "b.test")) NIL NIL NIL)'
        )
        assert '(("=?utf-8?b?PGrDtkDDti50ZXN0Pg==?=" NIL "invalid"' in self.envelope("From: jö@ö.test\n")

    def test_a_domain_that_has_no_ascii_form(self) -> None:
        written = self.envelope(f"To: a@{'ö' * 80}.test\n")
        assert '"invalid" "internationalized-address.invalid"' in written

    def test_quotes_and_lists_inside_strings_stay_inside(self) -> None:
        written = self.envelope('Subject: ü (NIL NIL "a" "b") \\\nTo: a@b.test\n')
        assert written == (
            '(NIL "=?utf-8?b?w7w=?= (NIL NIL \\"a\\" \\"b\\") \\\\" NIL NIL NIL ((NIL NIL "a" "b.test")) NIL NIL NIL NIL)'
        )

    def test_of_parts(self) -> None:
        part = scan('Content-Type: image/png; name="ü.png"\r\n\r\n'.encode())
        assert b'("name" "=?utf-8?b?w7wucG5n?=")' in seven_bit(bodies(part)[1])


def tokens(data: bytes) -> int:
    """Parse IMAP syntax of quoted strings, NIL, numbers and lists; return the number of tokens."""
    depth = count = at = 0
    while at < len(data):
        octet = data[at : at + 1]
        count += 1
        if octet == b'"':
            at += 1
            while data[at] != ord('"'):
                if data[at] == ord("\\"):
                    assert data[at + 1] in b'"\\'
                    at += 1
                assert data[at]
                assert data[at] not in b"\r\n"
                at += 1
        elif octet in b"()":
            depth += 1 if octet == b"(" else -1
            assert depth > 0 or at == len(data) - 1
        elif octet != b" ":
            end = min(i for i in (data.find(b" ", at), data.find(b")", at)) if i > 0)
            assert data[at:end] == b"NIL" or data[at:end].isdigit()
            at = end - 1
        at += 1
    assert depth == 0
    return count


PIECES = [
    b"From: ",
    b"To: ",
    b"Subject: ",
    b"Content-Type: ",
    b"multipart/mixed; boundary=x",
    b"message/rfc822",
    b"\r\n",
]
PIECES += [
    b"\n",
    b'"',
    b"\\",
    b"(",
    b")",
    b"<a@b>",
    b",",
    b":",
    b";",
    b"\xff",
    b"\xc3\xbc",
    b"\0",
    b"--x",
    b" ",
    b"\r\n\r\n",
]
PIECES += [
    b"Content-Disposition: ",
    b"a; b=c",
    b"Content-Language: a, b",
    b"Content-ID: ",
    b"=?utf-8?q?=0D=0A?=",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_any_message_gives_well_formed_answers(data: bytes) -> None:
    part = scan(data)
    said = envelope(data[: part.body])
    assert tokens(said) >= 21
    assert tokens(bodies(part)[0]) < tokens(bodies(part)[1])
    said.decode("utf-8")
    assert seven_bit(said).isascii()
    assert tokens(seven_bit(said)) == tokens(said)
    assert tokens(seven_bit(bodies(part)[1])) == tokens(bodies(part)[1])
