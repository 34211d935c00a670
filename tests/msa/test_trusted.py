"""Clients that submit by their address alone: who is one, in whose name they send, and who is none."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.testing import StringTransport

from mailstack.config import ConfigError, parse
from mailstack.db import Database
from mailstack.mail.address import Address
from mailstack.mail.reply import Reply
from mailstack.msa.limits import HourlyLimits
from mailstack.msa.settings import TrustedConfig
from mailstack.msa.trusted import Trust, TrustedFirst
from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import RelayConfig
from mailstack.net.gateways import default_gateways
from mailstack.net.listener import Listener, Speaks
from mailstack.net.places import PlaceLimits, Places
from mailstack.wire.smtp import Server
from tests.databases import made_database
from tests.msa.test_rights_and_limits import Straight
from tests.msa.test_submission import SECRET, Office
from tests.net.fakes import Box, Connection

__all__ = ["made_database"]

PRINTER = "10.0.0.9"
STRANGER = "192.0.2.7"
PROXY = "10.1.0.1"
MAPPED = ip_network("::ffff:10.0.0.0/104")  # Python 3.13 writes it otherwise than those before
ELSEWHERE = "RCPT TO:<x@elsewhere.example>"
STRANGERS_NAME = "550 5.7.1 Without a login you may send elsewhere"


async def postmaster() -> Address:
    return Address("postmaster", "example.org")


class Site(Office):
    """An office that trusts 10.0.0.0/8, with port 25 beside it; what is not signed is in `unsigned`."""

    def __init__(self, folder: Path, on_smtp: bool = True, **options: Any) -> None:
        given = {"networks": (ip_network("10.0.0.0/8"), ip_network("fd00::/8")), "on_smtp": on_smtp}
        config = TrustedConfig(**{**given, **options})  # type: ignore[arg-type]
        super().__init__(folder)
        self.unsigned = Box()
        self.trust = Trust(
            config,
            self.town,
            self.unsigned,
            postmaster,
            proxies=(ip_network(f"{PROXY}/32"),),
            gateways=frozenset({"10.0.0.1"}),
        )
        relay = Relay(
            RelayConfig(),
            hostname="mail.example.org",
            directory=self.town,
            accepts=self.unsigned,
            reception=self.service.reception,
        )
        self.submission = TrustedFirst(self.trust, self.service, self.service)
        self.smtp = TrustedFirst(self.trust, self.service, relay, logins=False) if on_smtp else relay

    def from_(self, address: str, port: int = 587, secure: bool = False) -> Connection:
        service = self.smtp if port == 25 else self.submission
        connection = Connection(service, self.clock, address=address, secure=secure)
        connection.say("EHLO printer")
        return connection


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def send(connection: Connection, sender: str, *to: str, text: str = "Subject: x\r\n\r\nhi") -> str:
    """All replies to a message."""
    said = connection.say(f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in to), "DATA")
    return said + (connection.send(text.encode() + b"\r\n.\r\n") if "354" in said else "")


class TestInOurName:
    @pytest.mark.parametrize("port", [25, 587])
    def test_it_goes_anywhere(self, site: Site, port: int) -> None:
        said = send(
            site.from_(PRINTER, port), "scanner@example.org", "x@elsewhere.example", "bob@example.org"
        )
        assert "250 2.0.0 Ok: queued" in said
        [(envelope, data)] = site.box.taken  # the box of submissions: what is taken there is signed
        assert site.unsigned.taken == []
        assert envelope.authenticated == "[10.0.0.9]"
        assert b"with ESMTP id" in data, "it was not authenticated, and the trace does not say so (RFC 3848)"
        for field in (b"From: scanner@example.org\r\n", b"Date: ", b"Message-ID: <"):
            assert data.count(field) == 1

    def test_octet_by_octet(self, site: Site) -> None:
        connection = site.from_(PRINTER)
        words = "MAIL FROM:<alice@example.org>\r\nRCPT TO:<x@elsewhere.example>\r\nDATA\r\nBcc: y@z.example\r\n\r\nhi\r\n.\r\n"
        said = "".join(connection.send(bytes([octet])) for octet in words.encode())
        assert [line[:3] for line in said.splitlines()] == ["250", "250", "354", "250"]
        assert b"\nBcc:" not in site.box.taken[0][1]

    def test_ipv6(self, site: Site) -> None:
        assert "250 2.0.0 Ok: queued" in send(
            site.from_("fd00::9"), "alice@example.org", "x@elsewhere.example"
        )
        assert site.box.taken[0][0].authenticated == "[fd00::/64]"

    def test_without_a_reverse_path(self, site: Site) -> None:
        assert "250 2.0.0 Ok: queued" in send(site.from_(PRINTER), "", "x@elsewhere.example")
        assert b"From: postmaster@example.org\r\n" in site.box.taken[0][1]

    def test_several_authors_have_a_sender(self, site: Site) -> None:
        text = "From: a@example.org, b@example.org\r\nSender: x@elsewhere.example\r\n\r\nhi"
        send(site.from_(PRINTER), "scanner@example.org", "x@elsewhere.example", text=text)
        assert site.box.taken[0][1].count(b"Sender: scanner@example.org\r\n") == 1

    def test_what_is_suppressed(self, site: Site) -> None:
        async def refusal(address: Address) -> Reply | None:
            return Reply(550, "5.1.1", "told before")

        site.service.refusal = refusal
        assert "550 5.1.1 told before" in send(
            site.from_(PRINTER), "alice@example.org", "x@elsewhere.example"
        )

    def test_only_as_listed(self, tmp_path: Path) -> None:
        site = Site(tmp_path, senders=("Scanner@example.org", "@shop.example"))
        for sender in ("scanner@EXAMPLE.org", "any@shop.example"):
            assert "250 2.0.0 Ok" in send(site.from_(PRINTER), sender, "x@elsewhere.example")
        for sender in ("alice@example.org", "scanner+x@example.org", "x@sub.shop.example"):
            assert STRANGERS_NAME in send(site.from_(PRINTER), sender, "x@elsewhere.example")


class TestInAnotherName:
    @pytest.mark.parametrize("sender", ["root@host.lan", "ceo@example.org.elsewhere.example", "x@[10.0.0.9]"])
    def test_only_to_our_users(self, site: Site, sender: str) -> None:
        connection = site.from_(PRINTER)
        said = send(
            connection, sender, "x@elsewhere.example", "bob@example.org", text="From: r@h.lan\r\n\r\nhi"
        )
        assert STRANGERS_NAME in said
        assert "250 2.0.0 Ok: queued" in said
        [(envelope, data)] = site.unsigned.taken
        assert [str(one.address) for one in envelope.recipients] == ["bob@example.org"]
        assert b"Message-ID" not in data, "it is not ours to put in order"
        assert site.box.taken == []

    @pytest.mark.parametrize(
        ("field", "reply"),
        [
            ("From: x@elsewhere.example", "550 5.7.1 From: x@elsewhere.example is not your address"),
            ("From: a@example.org, x@elsewhere.example", "550 5.7.1 From: x@elsewhere.example"),
            ("From: a@example.org\r\nFrom: x@elsewhere.example", "550 5.6.0 Message has more than one From"),
            ("From: nobody", "550 5.7.1"),
            ("From:", "550 5.6.0"),
            ("From: " + "a@example.org,\r\n " * 600 + "a@example.org", "550 5.6.0 From field is too long"),
        ],
    )
    def test_the_from_field_counts_too(self, site: Site, field: str, reply: str) -> None:
        text = f"{field}\r\n\r\nhi"
        for sender in ("alice@example.org", ""):
            assert reply in send(site.from_(PRINTER), sender, "x@elsewhere.example", text=text)
        assert site.box.taken == []
        assert "250 2.0.0 Ok" in send(site.from_(PRINTER), "alice@example.org", "bob@example.org", text=text)
        assert len(site.unsigned.taken) == 1, "among us it may, as on port 25: unsigned"

    def test_not_through_us_to_a_sender_elsewhere(self, site: Site) -> None:
        site.trust = replace(site.trust, is_return_path=lambda address: address.local_part == "alice")
        site.submission = TrustedFirst(site.trust, site.service, site.service)
        assert STRANGERS_NAME in send(site.from_(PRINTER), "root@host.lan", "alice@example.org")
        assert "250 2.0.0 Ok" in send(site.from_(PRINTER), "root@host.lan", "bob@example.org")
        assert "250 2.0.0 Ok" in send(site.from_(PRINTER), "bob@example.org", "alice@example.org")

    def test_one_message_says_nothing_of_the_next(self, site: Site) -> None:
        connection = site.from_(PRINTER)
        assert "250 2.0.0 Ok: queued" in send(connection, "alice@example.org", "x@elsewhere.example")
        assert STRANGERS_NAME in send(connection, "root@host.lan", "x@elsewhere.example")
        connection.say("RSET")
        assert "250 2.0.0 Ok: queued" in send(connection, "root@host.lan", "bob@example.org")
        assert (len(site.box.taken), len(site.unsigned.taken)) == (1, 1)

    def test_who_is_not_here(self, site: Site) -> None:
        for sender in ("alice@example.org", "root@host.lan", ""):
            assert "550 5.1.1 No such user" in send(site.from_(PRINTER), sender, "nobody@example.org")
        assert "250 2.0.0 Ok" in send(site.from_(PRINTER), "root@host.lan", "postmaster")


class TestWhoIsNone:
    @pytest.mark.parametrize("address", [STRANGER, "11.0.0.9", "9.255.255.255", "fe00::9", "2001:db8::a00:9"])
    def test_others(self, site: Site, address: str) -> None:
        assert "530 5.7.0 Must issue a STARTTLS" in site.from_(address).say("MAIL FROM:<alice@example.org>")
        assert "550 5.7.1 Relaying denied" in send(
            site.from_(address, 25), "alice@example.org", "x@elsewhere.example"
        )
        # An IPv4 address that IPv6 wraps in another way than a dual-stack socket does.
        for wrapped in ("::10.0.0.9", "64:ff9b::a00:9", "2002:a00:9::1", "::ffff:0:10.0.0.9"):
            assert "530" in site.from_(wrapped).say("MAIL FROM:<alice@example.org>")

    def test_proxies_and_gateways(self, site: Site) -> None:
        for address in (PROXY, "10.0.0.1"):
            assert "530" in site.from_(address).say("MAIL FROM:<alice@example.org>")
            assert "550 5.7.1 Relaying" in send(
                site.from_(address, 25), "a@example.org", "x@elsewhere.example"
            )

    def test_a_gateway_that_is_named_itself(self, tmp_path: Path) -> None:
        site = Site(tmp_path, networks=(ip_network("10.0.0.1/32"),))
        assert "250 2.0.0 Ok" in send(site.from_("10.0.0.1"), "alice@example.org", "x@elsewhere.example")

    @pytest.mark.parametrize(
        "word",
        [
            "XCLIENT ADDR=10.0.0.9",
            "XFORWARD ADDR=10.0.0.9",
            "PROXY TCP4 10.0.0.9 10.0.0.2 1 25",
            "HELO 10.0.0.9",
        ],
    )
    def test_nothing_that_is_said_helps(self, site: Site, word: str) -> None:
        for hello in ("EHLO [10.0.0.9]", "EHLO localhost", "EHLO mail.example.org"):
            connection = site.from_(STRANGER, 25)
            connection.say(hello, word)
            assert "550 5.7.1 Relaying" in send(connection, "alice@example.org", "x@elsewhere.example")
            connection = site.from_(STRANGER)
            connection.say(hello, word)
            assert "530" in connection.say("MAIL FROM:<alice@example.org> AUTH=<>", "MAIL FROM:<>")

    def test_port_25_is_as_before_unless_asked(self, tmp_path: Path) -> None:
        site = Site(tmp_path, on_smtp=False)
        assert "550 5.7.1 Relaying" in send(
            site.from_(PRINTER, 25), "alice@example.org", "x@elsewhere.example"
        )

    def test_no_networks_no_trust(self, tmp_path: Path) -> None:
        site = Site(tmp_path, networks=())
        assert "530" in site.from_("127.0.0.1").say("MAIL FROM:<alice@example.org>")


class TestLogin:
    def test_a_trusted_client_may_log_in(self, site: Site) -> None:
        connection = site.from_(PRINTER, secure=True)
        assert "AUTH PLAIN" in connection.say("EHLO pc")
        assert "235" in connection.say(f"AUTH PLAIN {SECRET}")
        assert "553 5.7.1 Not your address" in connection.say("MAIL FROM:<scanner@example.org>")
        send(connection, "alice@example.org", "x@elsewhere.example")
        [(envelope, data)] = site.box.taken
        assert envelope.authenticated == "alice@example.org"
        assert b"with ESMTPSA id" in data

    def test_not_on_port_25(self, site: Site) -> None:
        connection = site.from_(PRINTER, 25, secure=True)
        assert "AUTH" not in connection.say("EHLO pc")
        assert connection.say(f"AUTH PLAIN {SECRET}").startswith("502 5.5.1")

    def test_what_is_for_users_alone_is_not_offered(self, site: Site) -> None:
        said = site.from_(PRINTER).say("EHLO pc")
        assert "FUTURERELEASE" not in said
        assert "MT-PRIORITY" not in said


class Wire(StringTransport):
    """A transport whose protocol may be replaced."""

    protocol: Any

    def abortConnection(self) -> None:
        self.disconnecting = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to delay."""


def v2(family: int, source: str, command: int = 1) -> bytes:
    there, here = ip_address(source).packed, ip_address("::1" if ":" in source else "127.0.0.1").packed
    body = there + here + struct.pack("!HH", 40000, 25)
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x20 | command, family, len(body)) + body


class TestByProxy:
    """The client is who the header says; where it names nobody, nobody is trusted."""

    def heard(self, site: Site, address: Any, first: bytes) -> str:
        listener = Listener(
            site.clock,
            Speaks("smtp", Server, b"421 no\r\n"),
            site.smtp,
            places=Places(PlaceLimits(1000, 1000), site.clock),
            port=0,
            proxies=(ip_network(f"{PROXY}/32"),),
        )
        protocol = listener._listens.buildProtocol(address)
        wire = Wire(peerAddress=address)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        words = b"EHLO x\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<x@elsewhere.example>\r\n"
        wire.protocol.dataReceived(first)
        wire.protocol.dataReceived(words)
        said: str = wire.value().decode()
        return said.splitlines()[-1][:9] if said else ""

    @pytest.mark.parametrize(
        ("first", "reply"),
        [
            (b"PROXY TCP4 10.0.0.9 127.0.0.1 40000 25\r\n", "250 2.1.5"),
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 25\r\n", "550 5.7.1"),
            (b"PROXY TCP6 ::ffff:10.0.0.9 ::1 40000 25\r\n", "250 2.1.5"),
            (b"PROXY UNKNOWN\r\n", "550 5.7.1"),
            (b"PROXY UNKNOWN 10.0.0.9 10.0.0.9 1 1\r\n", "550 5.7.1"),
            (b"PROXY TCP4 10.1.0.1 127.0.0.1 40000 25\r\n", "550 5.7.1"),
            (v2(0x11, "10.0.0.9"), "250 2.1.5"),
            (v2(0x11, "192.0.2.7"), "550 5.7.1"),
            (v2(0x21, "fd00::7"), "250 2.1.5"),
            (v2(0x21, "2001:db8::7"), "550 5.7.1"),
            (v2(0x11, "10.0.0.9", command=0), "550 5.7.1"),  # LOCAL: the proxy itself
            (v2(0x31, "10.0.0.9"), ""),  # a socket in the file system, with too little of an address: cut
            (b"EHLO x\r\n", ""),
        ],
    )
    def test_headers(self, site: Site, first: bytes, reply: str) -> None:
        assert self.heard(site, IPv4Address("TCP", PROXY, 40000), first) == reply

    @pytest.mark.parametrize(
        ("address", "reply"),
        [
            ("10.0.0.9", "250 2.1.5"),
            ("::ffff:10.0.0.9", "250 2.1.5"),
            ("::ffff:a00:9", "250 2.1.5"),
            ("::ffff:192.0.2.7", "550 5.7.1"),
            ("::ffff:10.1.0.1", ""),  # the proxy, by a dual-stack socket: its header is awaited
            ("fe80::9%eth0", "550 5.7.1"),
        ],
    )
    def test_without(self, site: Site, address: str, reply: str) -> None:
        kind = IPv6Address if ":" in address else IPv4Address
        assert self.heard(site, kind("TCP", address, 40000), b"NOOP\r\n") == reply


class TestLimits:
    @pytest.fixture
    def limited(self, tmp_path: Path, made_database: Database) -> Site:
        site = Site(tmp_path / "site", messages_per_hour=2, recipients_per_hour=4, unknown_per_hour=2)
        limits = HourlyLimits(site.trust.config, Straight(made_database), site.clock)
        object.__setattr__(site.trust, "limits", limits)
        return site

    def test_by_address(self, limited: Site) -> None:
        for _ in range(2):
            assert "250 2.0.0 Ok" in send(limited.from_(PRINTER), "a@example.org", "x@elsewhere.example")
        said = limited.from_(PRINTER).say("MAIL FROM:<b@example.org>")
        assert said.startswith("450 4.7.1 At most 2 messages in an hour")
        assert "250 2.0.0 Ok" in send(limited.from_("10.0.0.10"), "a@example.org", "x@elsewhere.example")
        limited.clock.advance(3600)
        assert "250 2.0.0 Ok" in send(limited.from_(PRINTER), "a@example.org", "x@elsewhere.example")

    def test_recipients(self, limited: Site) -> None:
        said = send(limited.from_(PRINTER), "a@example.org", *(f"x{n}@elsewhere.example" for n in range(5)))
        assert said.count("250 2.1.5") == 4
        assert "450 4.7.1 At most 4 recipients" in said

    def test_unknown_ones(self, limited: Site) -> None:
        said = send(limited.from_(PRINTER), "a@example.org", *(f"nobody{n}@example.org" for n in range(3)))
        assert said.count("550 5.1.1") == 2
        assert "450 4.7.1 At most 2 unknown recipients" in said


HEAD = 'hostname = "mail.example.org"\n[msa.trusted]\n'


class TestSettings:
    @pytest.mark.parametrize(
        "network",
        [
            "10.0.0.0/8",
            "192.168.0.0/16",
            "172.16.0.0/12",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "198.51.100.0/24",
            "198.51.100.7/32",
            "fd00::/8",
            "fe80::/10",
            "::1/128",
            "2001:db8::/48",
        ],
    )
    def test_networks(self, network: str) -> None:
        config = parse(f'{HEAD}networks = ["{network}"]', Path("/tmp/x.toml"))
        assert config.msa.trusted.networks == (ip_network(network),)

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            (
                'networks = ["0.0.0.0/0"]',
                "0.0.0.0/0 is not yours alone, and strangers would send through this",
            ),
            ('networks = ["::/0"]', "::/0 has every IPv4 address in it"),
            ('networks = ["::/1"]', "has every IPv4 address in it"),
            ('networks = ["8000::/1"]', "is not yours alone"),
            ('networks = ["128.0.0.0/1"]', "is not yours alone"),
            ('networks = ["10.0.0.0/7"]', "is not yours alone"),
            ('networks = ["100.64.0.0/10"]', "is not yours alone"),
            ('networks = ["198.51.100.0/23"]', "of at most /24"),
            ('networks = ["198.51.0.0/16", "10.0.0.0/8"]', "of at most /24"),
            ('networks = ["2001:db8::/47"]', "of at most /48"),
            ('networks = ["::ffff:10.0.0.0/104"]', f"write {MAPPED} as IPv4: 10.0.0.0/8"),
            ('networks = ["::ffff:0:0/96"]', "as IPv4: 0.0.0.0/0"),
            ('networks = ["printer.example.org"]', "msa.trusted.networks.0 - "),
            ('networks = ["10.0.0.9/8"]', "msa.trusted.networks.0 - "),
            ('networks = "10.0.0.0/8"', "msa.trusted.networks - "),
            ('senders = ["example.org"]', 'example.org is neither an address nor "@domain"'),
            ('senders = ["@"]', "is neither an address"),
            ('senders = ["@*"]', "is neither an address"),
            ("messages_per_hour = -1", "messages_per_hour must be 0 or more"),
            ('nets = ["10.0.0.0/8"]', "msa.trusted.nets - unknown key"),
        ],
    )
    def test_refused(self, line: str, words: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(HEAD + line, Path("/tmp/x.toml"))
        assert words in str(caught.value)
        assert "msa.trusted" in str(caught.value)


def test_the_gateways_of_a_machine(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\n"
        "eth0\t00000000\t010011AC\t0003\t0\n"
        "eth0\t000011AC\t00000000\t0001\t0\n"
        "wg0\t00000000\t00000000\t0001\t0\n"
    )
    zero, there = "0" * 32, "fe80" + "0" * 27 + "1"
    (tmp_path / "ipv6_route").write_text(
        f"{zero} 00 {zero} 00 {there} 00000400 1 0 00450003 eth0\n{zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        f"fe80{zero[4:]} 40 {zero} 00 {zero} 00000100 1 0 00000001 eth0\n"
    )
    assert default_gateways(tmp_path) == {"172.17.0.1", "fe80::1"}
    assert default_gateways(tmp_path / "none") == frozenset()
