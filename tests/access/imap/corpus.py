"""Messages that are hard to take apart."""

from __future__ import annotations


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8")


PLAIN = crlf("""From: =?utf-8?Q?Ren=C3=A9?= <rene@example.org>
To: Alice <alice@example.test>, bob@example.test
Cc: Team: a@example.org, b@example.org;
Subject: =?iso-8859-1?Q?Gr=FC=DFe?= and
 more
Date: Tue, 1 Jul 2003 10:52:37 +0200
Message-ID: <plain@example.org>
X-Colour: green

First line.
Second line.
""")

ATTACHED = crlf("""From: bob@example.test
To: alice@example.test
Subject: a letter with a picture
Date: Wed, 2 Jul 2003 08:00:00 -0700
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

This is the preamble.
--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Caf=C3=A9 in plain
--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PHA+Q2Fmw6kgaW4gSFRNTDwvcD4=
--inner--

--outer
Content-Type: image/png; name="dot.png"
Content-Disposition: attachment; filename="dot.png"
Content-Transfer-Encoding: base64

iVBORw0KGgo=
--outer--
This is the epilogue.
""")

FORWARDED = crlf("""From: carol@example.org
To: alice@example.test
Subject: Fwd: inner things
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=f

--f

See below.
--f
Content-Type: message/rfc822

From: dave@example.org
To: carol@example.org
Subject: inner subject
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=g

--g
Content-Type: text/plain

inner text
--g
Content-Type: text/x-note

a note
--g--
--f--
""")

EIGHT_BIT = (
    b"From: \xe9ric@example.org\r\nSubject: na\xc3\xafve\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nL'\xe9t\xe9\r\n"
)
NO_BODY = b"Subject: header only\r\n\r\n"
NO_HEADER = b"\r\njust a body\r\n"
NO_BLANK = b"Subject: no blank line"
BROKEN = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"
BARE_LF = b"Subject: bare\nTo: a@b\n\nbody\n"
NOT_MAIL = bytes(range(1, 256)) * 3

ALL = [PLAIN, ATTACHED, FORWARDED, EIGHT_BIT, NO_BODY, NO_HEADER, NO_BLANK, BROKEN, BARE_LF, NOT_MAIL]
