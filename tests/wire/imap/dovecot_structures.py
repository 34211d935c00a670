"""What Dovecot 2.3.19 answers to FETCH (ENVELOPE) and FETCH (BODYSTRUCTURE) for tricky messages.

Each entry: a name, the message with LF for CRLF, the ENVELOPE, the BODYSTRUCTURE.
"""

CASES: list[tuple[str, str, str, str]] = [
    (
        "multi from",
        """\
From: a@b
From: c@d
To: x@y
To: z@w
Subject: one
Subject: two

hi
""",
        '(NIL "two" ((NIL NIL "a" "b")(NIL NIL "c" "d")) ((NIL NIL "a" "b")(NIL NIL "c" "d")) ((NIL NIL "a" "b")(NIL NIL "c" "d")) ((NIL NIL "x" "y")(NIL NIL "z" "w")) NIL NIL NIL NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 4 1 NIL NIL NIL NIL)',
    ),
    (
        "noheader",
        """\

body
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1 NIL NIL NIL NIL)',
    ),
    (
        "nonl",
        """\
Subject: x""",
        '(NIL "x" NIL NIL NIL NIL NIL NIL NIL NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)',
    ),
    (
        "html",
        """\
Content-Type: text/html

b""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)',
    ),
    (
        "noboundary",
        """\
Content-Type: multipart/mixed

b
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" NIL NIL NIL NIL)',
    ),
    (
        "nodelim",
        """\
Content-Type: multipart/mixed; boundary=x

b
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "x") NIL NIL NIL)',
    ),
    (
        "simple",
        """\
Content-Type: multipart/mixed; boundary=x

pre
--x

line1
line2
--x
Content-Type: message/rfc822

Subject: in
From: (cm) a@b (Jo)

body
body
--x--
epi
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 12 1 NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 46 (NIL "in" (("Jo" NIL "a" "b")) (("Jo" NIL "a" "b")) (("Jo" NIL "a" "b")) NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 10 1 NIL NIL NIL NIL) 4 NIL NIL NIL NIL) "mixed" ("boundary" "x") NIL NIL NIL)',
    ),
    (
        "noblank",
        """\
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: text/html
--x


--x
--x""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "x") NIL NIL NIL)',
    ),
    (
        "same",
        """\
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: multipart/alternative; boundary=x

--x

A
--x

B
--x--
--x

C
--x--
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '((("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) "alternative" ("boundary" "x") NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) "mixed" ("boundary" "x") NIL NIL NIL)',
    ),
    (
        "prefix",
        """\
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: multipart/alternative; boundary=xy

--xy

A
--xy

B
--xy--
--x

C
--xz

D""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '((("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) "alternative" ("boundary" "xy") NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) "mixed" ("boundary" "x") NIL NIL NIL)',
    ),
    (
        "digest",
        """\
Content-Type: multipart/digest; boundary=x

--x

Subject: d1

body1
--x

Subject: d2

--x--
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("message" "rfc822" NIL NIL NIL "7bit" 20 (NIL "d1" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 15 (NIL "d2" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) "digest" ("boundary" "x") NIL NIL NIL)',
    ),
    (
        "b64msg",
        """\
Content-Type: message/rfc822
Content-Transfer-Encoding: base64

U3ViamVjdDogeA0KDQp5
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("message" "rfc822" NIL NIL NIL "base64" 22 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) 1 NIL NIL NIL NIL)',
    ),
    (
        "partial",
        """\
Content-Type: message/partial; id=x

b
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("message" "partial" ("id" "x") NIL NIL "7bit" 3 NIL NIL NIL NIL)',
    ),
    (
        "ext",
        """\
Content-Type: message/external-body; access-type=x

b
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("message" "external-body" ("access-type" "x") NIL NIL "7bit" 3 NIL NIL NIL NIL)',
    ),
    (
        "comment",
        """\
Content-Type: text/plain (c) ; charset (x) = utf-8 ; format=flowed;;

b
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("text" "plain" ("charset" "utf-8" "format" "flowed") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)',
    ),
    (
        "alternative in mixed with attachment",
        """\
From: a@b.test
Content-Type: multipart/mixed; boundary="outer"

preamble
--outer
Content-Type: multipart/alternative; boundary="inner"

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

caf=C3=A9
--inner
Content-Type: text/html; charset=utf-8

<p>x</p>
--inner--

--outer
Content-Type: application/pdf; name="r.pdf"
Content-Disposition: attachment; filename="r.pdf"
Content-Transfer-Encoding: base64
Content-ID: <r@b>

JVBERi0=
--outer--
epilogue
""",
        '(NIL NIL ((NIL NIL "a" "b.test")) ((NIL NIL "a" "b.test")) ((NIL NIL "a" "b.test")) NIL NIL NIL NIL NIL)',
        '((("text" "plain" ("charset" "utf-8") NIL NIL "quoted-printable" 9 0 NIL NIL NIL NIL)("text" "html" ("charset" "utf-8") NIL NIL "7bit" 8 0 NIL NIL NIL NIL) "alternative" ("boundary" "inner") NIL NIL NIL)("application" "pdf" ("name" "r.pdf") "<r@b>" NIL "base64" 8 NIL ("attachment" ("filename" "r.pdf")) NIL NIL) "mixed" ("boundary" "outer") NIL NIL NIL)',
    ),
    (
        "no terminators",
        """\
Content-Type: multipart/mixed; boundary=o

--o
Content-Type: multipart/mixed; boundary=i

--i

one
--o

two
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '((("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0 NIL NIL NIL NIL) "mixed" ("boundary" "i") NIL NIL NIL)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 1 NIL NIL NIL NIL) "mixed" ("boundary" "o") NIL NIL NIL)',
    ),
    (
        "message in message",
        """\
Content-Type: message/rfc822

Subject: 1
Content-Type: message/rfc822

Subject: 2
From: x@y
To: g: a@b;

deep
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("message" "rfc822" NIL NIL NIL "7bit" 88 (NIL "1" NIL NIL NIL NIL NIL NIL NIL NIL) ("message" "rfc822" NIL NIL NIL "7bit" 44 (NIL "2" ((NIL NIL "x" "y")) ((NIL NIL "x" "y")) ((NIL NIL "x" "y")) ((NIL NIL "g" NIL)(NIL NIL "a" "b")(NIL NIL NIL NIL)) NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1 NIL NIL NIL NIL) 5 NIL NIL NIL NIL) 8 NIL NIL NIL NIL)',
    ),
    (
        "headers only in part",
        """\
Content-Type: multipart/mixed; boundary=o

--o
Content-Type: text/html

--o--
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" ("boundary" "o") NIL NIL NIL)',
    ),
    (
        "boundary with blanks after",
        """\
Content-Type: multipart/mixed; boundary="o"

--o  \x20

a
--o--\x20
b
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) "mixed" ("boundary" "o") NIL NIL NIL)',
    ),
    (
        "quoted boundary",
        """\
Content-Type: multipart/mixed; boundary="a b:c?d=_"

--a b:c?d=_

a
--a b:c?d=_--
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) "mixed" ("boundary" "a b:c?d=_") NIL NIL NIL)',
    ),
    (
        "language and location on multipart",
        """\
Content-Type: multipart/related; boundary=o; type="text/html"
Content-Language: de
Content-Location: http://x.test/a
Content-Disposition: inline

--o

a
--o--
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) "related" ("boundary" "o" "type" "text/html") ("inline" NIL) ("de") "http://x.test/a")',
    ),
    (
        "continuations",
        """\
Content-Type: text/plain; name*0="a"; name*1="b"; name*2="c"

x
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("text" "plain" ("name" "abc" "charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)',
    ),
    (
        "encoded words",
        """\
From: =?utf-8?q?J=C3=B6rg?= <j@x>
Subject: =?utf-8?b?R3LDvMOfZQ==?= x

x
""",
        '(NIL "=?utf-8?b?R3LDvMOfZQ==?= x" (("=?utf-8?q?J=C3=B6rg?=" NIL "j" "x")) (("=?utf-8?q?J=C3=B6rg?=" NIL "j" "x")) (("=?utf-8?q?J=C3=B6rg?=" NIL "j" "x")) NIL NIL NIL NIL NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)',
    ),
    (
        "groups",
        """\
To: a@b, Friends: c@d, "E F" <e@f>;, Empty:;

x
""",
        '(NIL NIL NIL NIL NIL ((NIL NIL "a" "b")(NIL NIL "Friends" NIL)(NIL NIL "c" "d")("E F" NIL "e" "f")(NIL NIL NIL NIL)(NIL NIL "Empty" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)',
    ),
    (
        "comments",
        """\
From: a@b (Al (nested) B)
To: (c) "X" (d) <x@y> (e)

x
""",
        '(NIL NIL (("Al (nested) B" NIL "a" "b")) (("Al (nested) B" NIL "a" "b")) (("Al (nested) B" NIL "a" "b")) (("X" NIL "x" "y")) NIL NIL NIL NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)',
    ),
    (
        "quoted local part",
        """\
From: "a b"@c.test, <"x,y"@z>

x
""",
        '(NIL NIL ((NIL NIL "a b" "c.test")(NIL NIL "x,y" "z")) ((NIL NIL "a b" "c.test")(NIL NIL "x,y" "z")) ((NIL NIL "a b" "c.test")(NIL NIL "x,y" "z")) NIL NIL NIL NIL NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)',
    ),
    (
        "sender",
        """\
From: a@b
Sender: s@b
Reply-To: r@b

x
""",
        '(NIL NIL ((NIL NIL "a" "b")) ((NIL NIL "s" "b")) ((NIL NIL "r" "b")) NIL NIL NIL NIL NIL)',
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)',
    ),
    (
        "two content types",
        """\
Content-Type: text/html
Content-Type: image/png

x
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("text" "html" ("charset" "us-ascii") NIL NIL "7bit" 3 1 NIL NIL NIL NIL)',
    ),
    (
        "digest nested",
        """\
Content-Type: multipart/digest; boundary=x

--x
Content-Type: text/plain

t
--x

Subject: d

t
--x--
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)("message" "rfc822" NIL NIL NIL "7bit" 15 (NIL "d" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL) "digest" ("boundary" "x") NIL NIL NIL)',
    ),
    (
        "delimiter in text",
        """\
Content-Type: text/plain

--x
--x--
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 12 2 NIL NIL NIL NIL)',
    ),
    (
        "dashes",
        """\
Content-Type: multipart/mixed; boundary=--

----

a
------
""",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        '(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0 NIL NIL NIL NIL) "mixed" ("boundary" "--") NIL NIL NIL)',
    ),
]
