"""What is verified of mail from outside, what is said about it, and what the operator may have refused."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mailstack.mail.dkim import Chain, PrivateKey, Signer
from mailstack.mail.dkim.arc import Sealing, seal
from mailstack.mail.dkim.canonical import BodyHash
from mailstack.mail.dkim.signing import sign
from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import RelayConfig
from mailstack.net.checks import Connection as Client
from mailstack.net.peer import Peer
from mailstack.policy.authentication import SECONDS, Authentication, AuthenticationConfig, author_domains
from mailstack.policy.check import Surroundings
from mailstack.policy.loader import load
from mailstack.policy.panel import Panel, Seat
from mailstack.policy.settings import PolicyConfig
from tests.mail.zones import Zone
from tests.net.fakes import NOW, Box, Connection, Here, Town, reception

KEY, OTHER = PrivateKey.make("rsa"), PrivateKey.make("ed25519")
RECORDS = {
    "c.test": ["TXT v=spf1 ip4:192.0.2.1 -all"],
    "d.test": ["TXT v=spf1 -all"],
    "mta.example.net": ["TXT v=spf1 a -all", "A 192.0.2.1"],
    "s._domainkey.c.test": [f"TXT {KEY.record()}"],
    "e._domainkey.list.test": [f"TXT {KEY.record()}"],
    "_dmarc.c.test": ["TXT v=DMARC1; p=reject"],
    "_dmarc.d.test": ["TXT v=DMARC1; p=quarantine"],
    "_dmarc.down.test": ["FAIL"],
}
LETTER = b"From: Carol <carol@c.test>\r\nTo: bob@example.org\r\nSubject: hello\r\n\r\nhello\r\n"


def signed(letter: bytes = LETTER, domain: str = "c.test", selector: str = "s") -> bytes:
    return sign([letter], [Signer(domain, selector, KEY)], int(NOW)) + letter


class Place:
    """A relay whose one check is ours."""

    def __init__(self, folder: Path, records: dict[str, Any] | None = None, **settings: Any) -> None:
        self.box, self.zone = Box(), Zone({**RECORDS, **(records or {})})
        work = Here()
        made, self.clock = reception(work, folder)
        around = Surroundings("authentication", "mx.example.org", self.clock, work, None)
        self.check = Authentication(AuthenticationConfig(**settings), around)
        self.check._lookups = self.zone  # type: ignore[assignment]
        made.policy = Panel([Seat("authentication", self.check, ("relay",), "tempfail", 60, 480)], self.clock)
        self.notes: list[tuple[str, dict[str, Any]]] = []
        made.trail = self  # type: ignore[assignment]
        self.relay = Relay(
            RelayConfig(), hostname="mx.example.org", directory=Town(), accepts=self.box, reception=made
        )

    def note(self, id: str, event: str, address: Any = None, message_id: Any = None, **detail: Any) -> None:
        self.notes.append((event, detail))

    def deliver(self, content: bytes, sender: str = "carol@c.test", address: str = "192.0.2.1") -> str:
        client = Connection(self.relay, self.clock, address)
        client.say("EHLO mta.example.net", f"MAIL FROM:<{sender}>", "RCPT TO:<bob@example.org>", "DATA")
        return client.send(content + b".\r\n")

    def header(self, at: int = -1) -> str:
        """The message as it was taken, without our trace field."""
        return self.box.taken[at][1].decode().partition("+0000\r\n")[2].partition("\r\n\r\n")[0]

    def results(self) -> str:
        """The field that was put in front of it, on one line, without the name of it and of us."""
        name, _, rest = (
            self.header().replace("\r\n\t ", " ").replace("\r\n\t", " ").partition(": mx.example.org; ")
        )
        assert name == "Authentication-Results"
        return rest.partition("\r\n")[0]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_all_that_passes(place: Place) -> None:
    assert place.deliver(signed()).startswith("250")
    said = place.results()
    assert said.startswith(
        "spf=pass smtp.mailfrom=carol@c.test; spf=pass smtp.helo=mta.example.net; "
        "dkim=pass header.d=c.test header.s=s header.a=rsa-sha256 header.b="
    )
    assert said.endswith("; dmarc=pass header.from=c.test policy.dmarc=reject; arc=none")
    [(_, detail)] = [note for note in place.notes if note[0] == "checked"]
    assert detail["verdicts"] == [f"authentication: {said}"]


def test_all_that_fails_is_taken_and_said(place: Place) -> None:
    letter = signed().replace(b"hello\r\n.", b"").replace(b"\r\n\r\nhello", b"\r\n\r\nhallo")
    assert place.deliver(letter, address="198.51.100.1").startswith("250")
    said = place.results()
    assert "spf=fail reason=all smtp.mailfrom=carol@c.test; " in said.replace('"', "")
    assert 'dkim=fail reason="body hash did not verify" header.d=c.test' in said
    assert "dmarc=fail header.from=c.test policy.dmarc=reject" in said
    assert not place.box.taken[0][0].junk


def test_signatures_alone_answer_for_forwarded_mail(place: Place) -> None:
    place.deliver(signed(), sender="x@d.test", address="198.51.100.1")
    assert "spf=fail" in place.results()
    assert "dmarc=pass header.from=c.test" in place.results()


def test_a_bounce_is_judged_by_the_name_of_the_client(place: Place) -> None:
    place.deliver(LETTER.replace(b"c.test", b"mta.example.net"), sender="")
    assert place.results().startswith("spf=pass smtp.helo=mta.example.net; dkim=none; dmarc=none")


def test_what_claims_to_be_ours_is_taken_out(place: Place) -> None:
    forged = b"Authentication-Results: mx.example.org; dmarc=pass\r\n"
    theirs = b"Authentication-Results: mx.c.test; dkim=pass\r\n"
    place.deliver(forged + theirs + forged.upper() + LETTER)
    header = place.header()
    assert header.lower().count("mx.example.org") == 1
    assert header.endswith((theirs + LETTER.partition(b"\r\n\r\n")[0]).decode())
    assert place.box.taken[0][1].endswith(b"\r\n\r\nhello\r\n")


def test_our_own_hosts_are_not_looked_at(place: Place) -> None:
    field = b"Authentication-Results: mx.example.org; dmarc=pass\r\n"
    place.deliver(field + LETTER, address="127.0.0.1")
    assert place.header().startswith(field.decode())
    assert not place.zone.asked


def test_nothing_is_asked_before_there_is_a_message(place: Place) -> None:
    client = Connection(place.relay, place.clock)
    client.say("EHLO mta.example.net", "MAIL FROM:<carol@c.test>", "RCPT TO:<nobody@example.org>", "RSET")
    assert not place.zone.asked


class TestEnforced:
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(tmp_path, enforce=True, trusted_sealers=("list.test",))

    def test_reject(self, place: Place) -> None:
        reply = place.deliver(LETTER, sender="x@d.test")
        assert reply == "550 5.7.26 Not taken: DMARC of c.test wants c.test to be proved\r\n"
        of_sender, of_recipient = [detail for event, detail in place.notes if event == "refused"]
        assert of_recipient["reply"] == reply.strip()
        detail = of_sender
        assert detail["verdicts"][0].startswith("authentication: spf=fail")
        assert detail["verdicts"][0].endswith("arc=none")

    def test_quarantine(self, place: Place) -> None:
        assert place.deliver(LETTER.replace(b"c.test", b"d.test")).startswith("250")
        assert place.box.taken[0][0].junk

    def test_what_passes(self, place: Place) -> None:
        assert place.deliver(LETTER).startswith("250")
        assert not place.box.taken[0][0].junk

    @pytest.mark.parametrize(
        "authors",
        [b"", b"From: carol@c.test\r\nFrom: dave@d.test\r\n", b"From: nobody\r\n", b"From: <>\r\n"],
    )
    def test_no_author_to_ask_about(self, place: Place, authors: bytes) -> None:
        reply = place.deliver(authors + b"Subject: x\r\n\r\nx\r\n")
        assert reply == "550 5.7.1 Not taken: a message must have one From field, with an address\r\n"

    def test_the_worst_of_several_authors(self, place: Place) -> None:
        both = b"From: x@c.test, y@d.test, z@absent.test\r\n\r\nx\r\n"
        assert place.deliver(both).startswith("250")
        assert place.box.taken[0][0].junk
        assert "dmarc=fail header.from=d.test" in place.results()

    def test_no_answer_for_now(self, tmp_path: Path) -> None:
        place = Place(tmp_path / "x", {"c.test": ["FAIL"]}, enforce=True)
        assert place.deliver(LETTER).startswith("451 4.7.26 Cannot look up now whether c.test is proved")
        assert place.deliver(signed()).startswith("250")  # that is proof enough
        assert place.deliver(LETTER.replace(b"c.test", b"down.test")).startswith(
            "250"
        )  # who knows its policy
        assert "dmarc=temperror" in place.results()

    @pytest.mark.parametrize(
        ("domain", "results", "taken"),
        [
            ("list.test", "dmarc=pass header.from=c.test", True),
            ("list.test", "spf=pass; dmarc=pass", True),
            ("list.test", "dmarc=fail", False),
            ("list.test", "dmarc=passed", False),
            ("c.test", "dmarc=pass", False),
        ],
    )
    def test_those_who_passed_it_on(self, place: Place, domain: str, results: str, taken: bool) -> None:
        letter = LETTER.replace(b"hello", b"[list] hello")
        hashed = BodyHash(relaxed=True)
        hashed.update(letter.partition(b"\r\n\r\n")[2])
        selector = "e" if domain == "list.test" else "s"
        what = Sealing(Signer(domain, selector, KEY), "mx.list.test", results, "none", int(NOW))
        header = letter.partition(b"\r\n\r\n")[0] + b"\r\n"
        sealed = seal(header, hashed.digest(), Chain(header), what) + letter
        assert place.deliver(sealed, sender="x@list.test").startswith("250" if taken else "550 5.7.26")
        if taken:
            assert 'arc=pass reason="its sealers are trusted here"' in place.results()


class Never(Zone):
    """A DNS that says nothing."""

    async def txt(self, name: str) -> list[bytes]:
        waiting: Deferred[list[bytes]] = Deferred()
        return await waiting


def test_a_dns_that_says_nothing_costs_a_bounded_time(place: Place) -> None:
    place.check._lookups = Never({})  # type: ignore[assignment]
    assert place.deliver(LETTER) == ""
    place.clock.advance(SECONDS)
    place.clock.advance(SECONDS)
    assert place.results() == (
        'spf=temperror reason="the DNS takes too long" smtp.mailfrom=carol@c.test; '
        'spf=temperror reason="the DNS takes too long" smtp.helo=mta.example.net; dkim=none; '
        'dmarc=temperror reason="the DNS takes too long" header.from=c.test; arc=none'
    )


def test_a_client_that_goes_away_meanwhile(place: Place) -> None:
    place.check._lookups = Never({})  # type: ignore[assignment]
    client = Connection(place.relay, place.clock)
    client.say("EHLO mta.example.net", "MAIL FROM:<carol@c.test>", "RCPT TO:<bob@example.org>", "DATA")
    client.send(LETTER + b".\r\n")
    client.vanish()
    place.clock.advance(SECONDS)
    place.clock.advance(SECONDS)
    assert place.clock.getDelayedCalls() == []


def test_it_is_asked_unless_the_operator_lists_others(tmp_path: Path) -> None:
    def around(name: str) -> Surroundings:
        return Surroundings(name, "mx.example.org", None, None, None)

    panel = load(PolicyConfig(), around, None)
    assert panel is not None
    assert panel.has(Authentication, "relay")
    assert not panel.has(Authentication, "submission")
    outside = Client(Peer("192.0.2.1", 1, 25, False), "relay", "mx.example.org")
    assert panel.inspection(outside) is not None
    assert panel.inspection(Client(Peer("127.0.0.1", 1, 25, False), "relay", "mx.example.org")) is None
    assert panel.inspection(Client(Peer("", 0, 0, False), "relay", "mx.example.org")) is None
    settings = {"authentication": {"trusted_networks": ["192.0.2.0/24"], "enforce": True}}
    panel = load(PolicyConfig(settings=settings), around, None)
    assert panel is not None
    assert panel.inspection(outside) is None
    assert load(PolicyConfig(checks=()), around, None) is None


@pytest.mark.parametrize(
    ("header", "domains"),
    [
        (b"From: a@B.test\r\n", ["b.test"]),
        ("From: <x@bücher.test>\r\n".encode(), ["xn--bcher-kva.test"]),
        (b"From: a@b.test, c@b.test\r\n", ["b.test"]),
        (b"From: us: a@b.test, c@d.test;\r\n", ["b.test", "d.test"]),
        (b'From: "x@evil.test" <a@b.test>\r\n', ["b.test"]),
        (b"From: a@b.test\r\n\tc@d.test\r\n", None),
        (b"From: " + b", ".join(b"a@b%d.test" % n for n in range(9)) + b"\r\n", None),
        (b"From: a@b.test" + b" " * 70_000 + b"\r\n", None),
    ],
)
def test_authors(header: bytes, domains: list[str] | None) -> None:
    assert author_domains(header) == domains


def test_the_networks_are_networks() -> None:
    assert AuthenticationConfig().trusted_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
