"""SPF by RFC 7208: records, mechanisms, macros, limits."""

from __future__ import annotations

import pytest

from mailstack.mail.spf import Client, Spf, check
from mailstack.mail.spf.macros import expand
from mailstack.mail.spf.record import BadRecord, parse
from tests.mail.zones import Zone, at_once

FOUR, SIX = "192.0.2.7", "2001:db8::7"
NIBBLES = "2.0.0.1.0.D.B.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7"

ZONE = {
    "host.test": ["A 192.0.2.7", "AAAA 2001:db8::7"],
    "far.test": ["A 198.51.100.1"],
    "mx.test": ["MX far.test", "MX host.test"],
    "mxs.test": [f"MX m{n}.test" for n in range(11)],
    "listed.test": ["TXT v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"],
    "other.test": ["TXT v=spf1 ip4:203.0.113.9 -all"],
    "soft.test": ["TXT v=spf1 ~all"],
    "wrong.test": ["TXT v=spf1 ip4:300.1.1.1 -all"],
    "down.test": ["FAIL"],
    "twice.test": ["TXT v=spf1 -all", "TXT v=spf1 +all"],
    "beside.test": ["TXT v=spf10 -all", "TXT google-site-verification=x", "TXT V=SPF1 +ALL"],
    "loop.test": ["TXT v=spf1 include:loop.test -all"],
    "ring.test": ["TXT v=spf1 redirect=ring.test"],
    "7.2.0.192.in-addr.arpa": ["PTR mail.named.test", "PTR liar.test"],
    "mail.named.test": ["A 192.0.2.7"],
    "liar.test": ["A 198.51.100.9"],
    "alice.users.test": ["A 127.0.0.2"],
    "192.0.2.7.in-addr.ips.test": ["A 127.0.0.2"],
    "7.2.0.192.in-addr.ips.test": ["A 127.0.0.2"],
    f"{NIBBLES}.ip6.ips.test".lower(): ["A 127.0.0.2"],
    "greeting.test.helos.test": ["A 127.0.0.2"],
    "deep.test": ["A 127.0.0.2"],
    "mail.named.test.p.test": ["A 127.0.0.2"],
}

CASES = [
    # The record.
    ("-all", FOUR, "fail"),
    ("", FOUR, "neutral"),
    ("?all", FOUR, "neutral"),
    ("~all", FOUR, "softfail"),
    ("+ALL", FOUR, "pass"),
    ("  -all   ", FOUR, "fail"),
    ("all:x.test", FOUR, "permerror"),
    ("all/8", FOUR, "permerror"),
    ("unknown", FOUR, "permerror"),
    ("-all unknown", FOUR, "permerror"),  # section 4.6: an error anywhere
    ("-all unknown=yes", FOUR, "fail"),
    ("unknown=%(x) -all", FOUR, "permerror"),
    ("=x -all", FOUR, "permerror"),
    ("redirect=soft.test redirect=soft.test", FOUR, "permerror"),
    ("exp=a.test exp=a.test -all", FOUR, "permerror"),
    ("exp= -all", FOUR, "permerror"),
    ("exp=%{c}.test -all", FOUR, "permerror"),
    ("ä -all", FOUR, "permerror"),
    ("\t-all", FOUR, "permerror"),
    # Addresses.
    ("ip4:192.0.2.7 -all", FOUR, "pass"),
    ("ip4:192.0.2.0/29 -all", FOUR, "pass"),
    ("ip4:192.0.2.8/29 -all", FOUR, "fail"),
    ("ip4:0.0.0.0/0 -all", FOUR, "pass"),
    ("ip4:0.0.0.0/0 -all", SIX, "fail"),
    ("ip4:192.0.2.7 -all", "::ffff:192.0.2.7", "pass"),
    ("ip4:192.0.2.8 -all", FOUR, "fail"),  # without a length it is one address (RFC 7208 section 5.6)
    ("ip4:192.0.2.99/24 -all", FOUR, "pass"),
    ("ip6:2001:db8::/32 -all", SIX, "pass"),
    ("ip6:2001:db8::7 -all", SIX, "pass"),
    ("ip6:2001:db8::8 -all", SIX, "fail"),
    ("ip6:2001:db8::99/64 -all", SIX, "pass"),
    ("ip6:::/0 -all", SIX, "pass"),
    ("ip6:::/0 -all", FOUR, "fail"),
    ("ip6:2001:db8::7 -all", f"{SIX}%eth0", "pass"),
    ("ip4:192.0.2.7/33", FOUR, "permerror"),
    ("ip4:192.0.2.7/024", FOUR, "permerror"),
    ("ip4:192.0.2.7/", FOUR, "permerror"),
    ("ip4:192.0.2", FOUR, "permerror"),
    ("ip4:192.0.2.7//32", FOUR, "permerror"),
    ("ip4", FOUR, "permerror"),
    ("ip6:2001:db8::7%eth0", SIX, "permerror"),
    ("ip6:2001:db8::7/129", SIX, "permerror"),
    ("ip6:192.0.2.7", SIX, "permerror"),
    # a and mx.
    ("a:host.test -all", FOUR, "pass"),
    ("a:host.test -all", SIX, "pass"),
    ("a:far.test -all", FOUR, "fail"),
    ("a:far.test/0 -all", FOUR, "pass"),
    ("a:host.test/24//64 -all", "192.0.2.200", "pass"),
    ("a:host.test/24//64 -all", "2001:db8::200", "pass"),
    ("a:host.test//128 -all", "2001:db8::200", "fail"),
    ("a:host.test/33", FOUR, "permerror"),
    ("a:host.test//129", FOUR, "permerror"),
    ("a: -all", FOUR, "permerror"),
    ("a:host -all", FOUR, "permerror"),
    ("a:host.9 -all", FOUR, "permerror"),
    ("a:down.test -all", FOUR, "temperror"),
    ("a:absent.test -all", FOUR, "fail"),
    ("mx:mx.test -all", FOUR, "pass"),
    ("mx:mx.test//64 -all", "2001:db8::200", "pass"),
    ("mx:far.test -all", FOUR, "fail"),
    ("mx:mxs.test -all", FOUR, "permerror"),
    ("mx:down.test -all", FOUR, "temperror"),
    # include and redirect.
    ("include:listed.test -all", FOUR, "pass"),
    ("include:other.test ?all", FOUR, "neutral"),
    ("include:soft.test -all", FOUR, "fail"),
    ("~include:listed.test -all", FOUR, "softfail"),
    ("include:absent.test -all", FOUR, "permerror"),
    ("include:wrong.test -all", FOUR, "permerror"),
    ("include:down.test -all", FOUR, "temperror"),
    ("include:twice.test -all", FOUR, "permerror"),
    ("include -all", FOUR, "permerror"),
    ("include:listed.test/24 -all", FOUR, "permerror"),
    ("include:loop.test -all", FOUR, "permerror"),
    ("redirect=soft.test", FOUR, "softfail"),
    ("redirect=soft.test -all", FOUR, "fail"),
    ("redirect=absent.test", FOUR, "permerror"),
    ("redirect=ring.test", FOUR, "permerror"),
    ("redirect=down.test", FOUR, "temperror"),
    # exists and macros.
    ("exists:%{l}.users.test -all", FOUR, "pass"),
    ("exists:%{i}.%{v}.ips.test -all", FOUR, "pass"),
    ("exists:%{ir}.%{v}.ips.test -all", FOUR, "pass"),
    ("exists:%{i}.%{v}.ips.test -all", SIX, "pass"),  # asks for A, whatever the client has
    ("exists:%{h}.helos.test -all", FOUR, "pass"),
    ("exists:%{d1r}ep.test -all", FOUR, "fail"),
    ("exists:%{p}.p.test -all", FOUR, "pass"),
    ("exists:%{z}.test -all", FOUR, "permerror"),
    ("exists:%{l0}.test -all", FOUR, "permerror"),
    ("exists:%{t}.test -all", FOUR, "permerror"),
    ("exists:%{l -all", FOUR, "permerror"),
    ("exists:%x.test -all", FOUR, "permerror"),
    ("exists:%%%_%-.test -all", FOUR, "fail"),
    ("exists:%{l}" + "x" * 64 + ".test -all", FOUR, "fail"),  # no such name can be
    ("exists -all", FOUR, "permerror"),
    # ptr.
    ("ptr:named.test -all", FOUR, "pass"),
    ("ptr:mail.named.test -all", FOUR, "pass"),
    ("ptr:amed.test -all", FOUR, "fail"),
    ("ptr:liar.test -all", FOUR, "fail"),  # its address is another
    ("ptr -all", "198.51.100.77", "fail"),
    # Limits.
    (" ".join(f"a:n{n}.test" for n in range(3)) + " -all", FOUR, "permerror"),  # three find nothing
    ("a:n1.test a:n2.test a:host.test -all", FOUR, "pass"),
    ("a:far.test " * 10 + "-all", FOUR, "fail"),
    ("a:far.test " * 11 + "-all", FOUR, "permerror"),
    ("ip4:203.0.113.1 " * 400 + "-all", FOUR, "fail"),
    ("ip4:203.0.113.1 " * 600 + "-all", FOUR, "permerror"),
]


def ask(zone: dict[str, list[str]], address: str, domain: str = "sender.test", sender: str = "alice") -> Spf:
    return at_once(check(Zone(zone), Client(address, "greeting.test"), sender, domain))


@pytest.mark.parametrize(("terms", "address", "result"), CASES)
def test_a_record(terms: str, address: str, result: str) -> None:
    found = ask({**ZONE, "sender.test": [f"TXT v=spf1 {terms}"]}, address)
    assert found.result == result, found


@pytest.mark.parametrize(
    ("domain", "result"),
    [
        ("absent.test", "none"),
        ("host.test", "none"),
        ("down.test", "temperror"),
        ("twice.test", "permerror"),
        ("beside.test", "pass"),
        ("test", "none"),
        ("a..test", "none"),
        (f"{'x' * 64}.test", "none"),
        ("[192.0.2.1]", "none"),
        ("", "none"),
        ("bücher.test", "none"),
    ],
)
def test_a_domain(domain: str, result: str) -> None:
    assert ask(ZONE, FOUR, domain).result == result


def test_nobody_is_postmaster() -> None:
    zone = {
        "sender.test": ["TXT v=spf1 exists:%{l}.users.test -all"],
        "postmaster.users.test": ["A 127.0.0.2"],
    }
    assert ask(zone, FOUR, sender="").result == "pass"


def test_it_stops_at_the_first_match() -> None:
    zone = Zone({**ZONE, "sender.test": ["TXT v=spf1 a:host.test include:down.test"]})
    assert at_once(check(zone, Client(FOUR, ""), "x", "sender.test")).result == "pass"
    assert not zone.asked["down.test TXT"]


def test_names_of_a_client_are_bounded() -> None:
    names = [f"PTR n{n}.many.test" for n in range(50)]
    zone = Zone(
        {
            "7.2.0.192.in-addr.arpa": names,
            "sender.test": ["TXT v=spf1 ptr:many.test -all"],
            **{f"n{n}.many.test": ["A 198.51.100.1"] for n in range(50)},
        }
    )
    assert at_once(check(zone, Client(FOUR, ""), "x", "sender.test")).result == "fail"
    assert sum(zone.asked.values()) == 12  # the record, the names, the addresses of ten


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        # RFC 7208 section 7.4.
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l-}", "strong.bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{S}.x", "strong-bad%40email.example.com.x"),
        ("%{d}." + "%{d}." * 20 + "%{d}", ".".join(["email.example.com"] * 14)),  # the left goes
    ],
)
def test_macros(spec: str, name: str) -> None:
    values = {
        "s": "strong-bad@email.example.com",
        "l": "strong-bad",
        "o": "email.example.com",
        "d": "email.example.com",
        "i": "192.0.2.3",
        "v": "in-addr",
    }
    if len(name) > 200:
        assert len(expand(spec, values)) <= 253
        assert expand(spec, values).endswith(name)
    else:
        assert expand(spec, values) == name


def test_too_long_a_record_is_no_work() -> None:
    with pytest.raises(BadRecord, match="too long"):
        parse(b"v=spf1 " + b"a " * 10_000)
