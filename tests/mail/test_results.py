"""Authentication-Results: written so that all can read them; claims to our name found however they are spelled."""

from __future__ import annotations

import authres
import pytest

from mailstack.mail.results import Result, field_body, found_by, without_claims

US = "mx.example.org"


def test_a_field() -> None:
    results = [
        Result("spf", "pass", (("smtp.mailfrom", "carol@c.test"),)),
        Result("dkim", "fail", (("header.d", "c.test"), ("header.b", "a/b+c=")), 'it says "no"\r\n here'),
    ]
    assert field_body(US, results) == (
        "mx.example.org;\r\n\tspf=pass smtp.mailfrom=carol@c.test"
        ';\r\n\tdkim=fail reason="it says \\"no\\"  here" header.d=c.test header.b="a/b+c="'
    )
    assert field_body(US, []) == "mx.example.org;\r\n\tnone"


def test_another_library_reads_it() -> None:
    results = [
        Result("spf", "fail", (("smtp.mailfrom", '"odd (one"@c.test'),), "ip4:192.0.2.0/24; or (so"),
        Result("dkim", "pass", (("header.d", "c.test"), ("header.a", "rsa-sha256"), ("header.b", "aB+/9="))),
        Result("dmarc", "pass", (("header.from", "c.test"), ("policy.dmarc", "reject"))),
        Result("arc", "none"),
    ]
    read = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {field_body(US, results)}")
    assert read.authserv_id == US
    assert [(one.method, one.result) for one in read.results] == [(one.method, one.result) for one in results]
    assert read.results[0].reason == "ip4:192.0.2.0/24; or (so"
    assert [(one.type, one.name, one.value) for one in read.results[1].properties][2] == (
        "header",
        "b",
        "aB+/9=",
    )


def test_lines_are_short_whatever_an_enemy_writes() -> None:
    long = Result("dkim", "permerror", (("header.d", "x" * 9000), ("header.s", "y" * 9000)), "z" * 9000)
    body = field_body(US, [long] * 8)
    assert max(map(len, body.split("\r\n"))) < 998
    assert len(body) < 10_000


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a.b-c@c.test", "a.b-c@c.test"),
        ('"odd one"@c.test', '"\\"odd one\\"@c.test"'),
        ("grün@bücher.test", "grün@bücher.test"),
        ("x; dmarc=pass", '"x; dmarc=pass"'),
        ("(x)", '"(x)"'),
    ],
)
def test_values_that_need_quotes(value: str, written: str) -> None:
    assert str(Result("spf", "none", (("smtp.mailfrom", value),))) == f"spf=none smtp.mailfrom={written}"


@pytest.mark.parametrize(
    "body",
    [
        "mx.example.org; dmarc=pass",
        " MX.Example.ORG ; dmarc=pass",
        "mx.example.org. ; dmarc=pass",
        "mx.example.org 1; dmarc=pass",
        "mx.example.org",
        '"mx.example.org"; dmarc=pass',
        '"mx\\.example.org"; dmarc=pass',
        "(a (nested) comment \\) ;) mx.example.org; dmarc=pass",
        "\r\n\t(x)\r\n mx.example.org; dmarc=pass",
        "mx.example.org(x); dmarc=pass",
        "",
        ";dmarc=pass",
        "(never closed mx.example.org; dmarc=pass",
    ],
)
@pytest.mark.parametrize(
    "name", ["Authentication-Results", "AUTHENTICATION-RESULTS", "Authentication-Results \t"]
)
def test_a_claim_to_our_name_goes(name: str, body: str) -> None:
    header = f"Subject: x\r\n{name}:{body}\r\nFrom: a@b.test\r\n".encode()
    assert without_claims(header, US) == b"Subject: x\r\nFrom: a@b.test\r\n"


@pytest.mark.parametrize(
    "field",
    [
        "Authentication-Results: mx.example.net; dmarc=pass",
        "Authentication-Results: mx.example.org.evil.test; dmarc=pass",
        "Authentication-Results: (mx.example.org) other; dmarc=pass",
        'Authentication-Results: "other.example.org"; dmarc=pass',
        "X-Authentication-Results: mx.example.org; dmarc=pass",
        "Subject: Authentication-Results: mx.example.org; dmarc=pass",
    ],
)
def test_what_others_say_stays(field: str) -> None:
    header = f"{field}\r\nFrom: a@b.test\r\n".encode()
    assert without_claims(header, US) is header or without_claims(header, US) == header


def test_what_we_found() -> None:
    header = (
        b"Received: x\r\nAuthentication-Results: other; dkim=fail\r\n"
        b"Authentication-Results: mx.example.org;\r\n\tspf=pass;\r\n\tdmarc=pass\r\n"
        b"Authentication-Results: MX.example.org 1; x-virus=none\r\n"
    )
    assert found_by(header, US) == "spf=pass;\r\n\tdmarc=pass;\r\n\tx-virus=none"
    assert found_by(b"Subject: x\r\n", US) is None
