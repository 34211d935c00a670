"""DMARC by RFC 9989: records, the walk up the DNS, alignment, what is wanted."""

from __future__ import annotations

import pytest

from mailstack.mail.dmarc import Dmarc, Identities, Record, check
from tests.mail.zones import Zone, at_once

ZONE = {
    "_dmarc.strict.test": ["TXT v=DMARC1; p=reject; adkim=s; aspf=s"],
    "_dmarc.org.test": ["TXT v=DMARC1; p=reject; sp=quarantine; np=none; rua=mailto:x@org.test"],
    "there.org.test": ["MX mail.org.test"],
    "_dmarc.own.org.test": ["TXT v=DMARC1;p=none"],
    "_dmarc.apart.org.test": ["TXT v=DMARC1; p=quarantine; psd=n"],
    "_dmarc.suffix": ["TXT v=DMARC1; p=reject; np=reject; psd=y"],
    "_dmarc.co.suffix": ["TXT v=DMARC1; p=none; sp=quarantine; psd=y"],
    "_dmarc.trying.test": ["TXT v=DMARC1; p=reject; t=y"],
    "_dmarc.milder.test": ["TXT v=DMARC1; p=quarantine; t=y"],
    "_dmarc.two.test": ["TXT v=DMARC1; p=reject", "TXT v=DMARC1; p=none"],
    "_dmarc.beside.test": ["TXT v=DMARC2; p=none", "TXT hello", "TXT v=DMARC1; p=reject"],
    "_dmarc.typo.test": ["TXT v=DMARC1; p=rejekt"],
    "_dmarc.heard.test": ["TXT v=DMARC1; p=rejekt; rua=mailto:x@heard.test"],
    "_dmarc.down.test": ["FAIL"],
    "_dmarc.bare.test": ["TXT v=DMARC1"],
}


def ask(author: str, **identities: object) -> Dmarc:
    return at_once(check(Zone(ZONE), author, Identities(**identities)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("author", "identities", "result", "policy"),
    [
        # Whose policy.
        ("absent.test", {}, "none", "none"),
        ("strict.test", {}, "fail", "reject"),
        ("org.test", {}, "fail", "reject"),
        ("there.org.test", {}, "fail", "quarantine"),
        ("ghost.org.test", {}, "fail", "none"),
        ("own.org.test", {}, "fail", "none"),
        ("x.apart.org.test", {}, "fail", "quarantine"),
        ("a.b.c.d.e.f.g.h.org.test", {}, "fail", "none"),
        ("shop.suffix", {}, "fail", "reject"),
        ("shop.co.suffix", {}, "fail", "quarantine"),
        ("co.suffix", {}, "fail", "none"),
        ("trying.test", {}, "fail", "quarantine"),
        ("milder.test", {}, "fail", "none"),
        ("two.test", {}, "none", "none"),
        ("beside.test", {}, "fail", "reject"),
        ("typo.test", {}, "none", "none"),
        ("heard.test", {}, "fail", "none"),
        ("bare.test", {}, "fail", "none"),
        ("down.test", {}, "temperror", "none"),
        ("x.down.test", {}, "temperror", "none"),
        # Alignment.
        ("strict.test", {"spf": "strict.test"}, "pass", "reject"),
        ("strict.test", {"spf": "mail.strict.test"}, "fail", "reject"),
        ("strict.test", {"dkim": ["mail.strict.test", "strict.test"]}, "pass", "reject"),
        ("org.test", {"spf": "there.org.test"}, "pass", "reject"),
        ("there.org.test", {"dkim": ["org.test"]}, "pass", "quarantine"),
        ("there.org.test", {"dkim": ["own.org.test"]}, "pass", "quarantine"),
        ("org.test", {"dkim": ["apart.org.test"]}, "fail", "reject"),  # an organization of its own
        ("apart.org.test", {"dkim": ["org.test"]}, "fail", "quarantine"),
        ("org.test", {"dkim": ["evilorg.test", "test", "org.test.evil.test"]}, "fail", "reject"),
        ("shop.suffix", {"spf": "mail.shop.suffix"}, "pass", "reject"),
        ("shop.suffix", {"spf": "other.suffix"}, "fail", "reject"),
        ("shop.suffix", {"spf": "suffix"}, "fail", "reject"),
        ("shop.co.suffix", {"dkim": ["co.suffix"]}, "fail", "quarantine"),
        ("absent.test", {"spf": "absent.test"}, "none", "none"),
        # What could not be asked.
        ("strict.test", {"unsure": True}, "temperror", "reject"),
        ("strict.test", {"unsure": True, "spf": "strict.test"}, "pass", "reject"),
    ],
)
def test_a_verdict(author: str, identities: dict[str, object], result: str, policy: str) -> None:
    found = ask(author, **identities)
    assert (found.result, found.policy) == (result, policy)


def test_a_long_name_costs_eight_questions() -> None:
    zone = Zone(ZONE)
    at_once(check(zone, ".".join("abcdefghijklmnop") + ".long.test", Identities()))
    names = [one.removesuffix(" TXT") for one in zone.asked]
    assert len(names) == 8
    assert names[1] == "_dmarc.l.m.n.o.p.long.test"
    assert names[-1] == "_dmarc.test"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"v=spf1 -all",
        b"p=none; v=DMARC1",
        b" v=DMARC1",
        b"v=dmarc1",
        b"v=DMARC1" + b";x" * 20_000,
        b"\xff",
    ],
)
def test_what_is_no_record(text: bytes) -> None:
    assert Record.parse("x.test", text) is None


def test_tags_that_are_not_known_and_those_written_twice() -> None:
    record = Record.parse("x.test", b"v=DMARC1 ; P = Reject; p=none; ;fo=1; pct=0; ADKIM=S; \xff=1;=; t=n;x")
    assert record == Record("x.test", "reject", "reject", "reject", strict_dkim=True)
