"""TLS reports (RFC 8460): composed, sent by mail and HTTPS, read."""

from __future__ import annotations

import email
import gzip
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.mta import tls_report, tls_reports
from mailstack.mta.security import Outcome
from mailstack.mta.tls_report import BadReport, Count
from mailstack.mta.tls_reports import ReportReader, TlsReports
from mailstack.net.client_tls import Roots
from mailstack.net.dns_settings import DnsConfig
from mailstack.net.https import Https
from mailstack.net.name_server import NameServer
from mailstack.net.reach import Reach
from mailstack.net.resolver import Resolver
from mailstack.net.tls import ServerTls
from mailstack.work import Work
from tests.certificates import issue
from tests.databases import made
from tests.running import PATIENCE

STS = ("version: STSv1", "mode: enforce", "mx: mx.b.test", "max_age: 86400")
GOOD = Outcome("b.test", "sts", STS, ("mx.b.test",), "mx.b.test", "192.0.2.1", "")
BAD = Outcome(
    "b.test", "sts", STS, ("mx.b.test",), "mx.b.test", "192.0.2.1", "certificate-expired", "it has expired"
)


def report() -> bytes:
    counts = [
        Count("sts", STS, ("mx.b.test",), "mx.b.test", "192.0.2.1", "", "", 7),
        Count("sts", STS, ("mx.b.test",), "mx.b.test", "192.0.2.1", "certificate-expired", "old", 2),
        Count("no-policy-found", (), (), "mx.b.test", "192.0.2.1", "", "", 1),
    ]
    return tls_report.compose("mail.a.test", "postmaster@mail.a.test", "id1", "2026-11-21", "b.test", counts)


class TestWords:
    def test_the_json(self) -> None:
        found = json.loads(report())
        assert found["date-range"] == {
            "start-datetime": "2026-11-21T00:00:00Z",
            "end-datetime": "2026-11-21T23:59:59Z",
        }
        first, second = found["policies"]
        assert first["policy"] == {
            "policy-type": "sts",
            "policy-domain": "b.test",
            "policy-string": list(STS),
            "mx-host": ["mx.b.test"],
        }
        assert first["summary"] == {"total-successful-session-count": 7, "total-failure-session-count": 2}
        [failure] = first["failure-details"]
        assert (failure["result-type"], failure["failed-session-count"]) == ("certificate-expired", 2)
        assert second["policy"] == {"policy-type": "no-policy-found", "policy-domain": "b.test"}

    def test_the_mail(self) -> None:
        data = tls_report.mail(
            "mail.a.test", "p@mail.a.test", "r@b.test", "b.test", "2026-11-21", "id1", "now", report()
        )
        parsed = email.message_from_bytes(data)
        assert parsed.get_content_type() == "multipart/report"
        assert parsed.get_param("report-type") == "tlsrpt"
        assert (parsed["TLS-Report-Domain"], parsed["TLS-Report-Submitter"]) == ("b.test", "mail.a.test")
        part = parsed.get_payload()[1]
        assert part.get_content_type() == "application/tlsrpt+gzip"
        assert part.get_filename() == "mail.a.test!b.test!1795219200!1795305599.json.gz"
        assert gzip.decompress(part.get_payload(decode=True)) == report()
        assert max(map(len, data.split(b"\r\n"))) < 998
        assert b"\n" not in data.replace(b"\r\n", b"")

    @pytest.mark.parametrize(
        ("records", "expected"),
        [
            ([b"v=TLSRPTv1; rua=mailto:a@b.test"], ("mailto:a@b.test",)),
            (
                [b"x", b"v=TLSRPTv1;rua=mailto:a@b.test, https://b.test/r;"],
                ("mailto:a@b.test", "https://b.test/r"),
            ),
            ([b"v=TLSRPTv1; rua=http://b.test/"], ()),
            ([b"v=TLSRPTv1; rua=mailto:a@b.test"] * 2, ()),
            ([b"v=TLSRPTv2; rua=mailto:a@b.test"], ()),
            ([], ()),
        ],
    )
    def test_where_to(self, records: list[bytes], expected: tuple[str, ...]) -> None:
        assert tls_report.rua(records) == expected

    def test_read_in_every_form(self) -> None:
        mail = tls_report.mail("o", "p@a.test", "r@b.test", "b.test", "2026-11-21", "id1", "now", report())
        for data in (report(), gzip.compress(report()), mail):
            found = tls_report.read(data)
            assert (found.organization, found.id, found.good, found.bad) == ("mail.a.test", "id1", 8, 2)
            assert (found.domains, found.content) == (("b.test",), report())

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"Subject: hello\r\n\r\nno report",
            b"{",
            b"{}",
            b'{"policies": 3, "report-id": 1}',
            b'{"policies": [], "report-id": "x", "date-range": []}',
            b"\x1f\x8bnonsense",
            gzip.compress(b" " * 20_000_000),
            b"[" * 100_000,
            b"{" + b'"a":{' * 50_000,
            b"Content-Type: multipart/mixed; boundary=\xff\r\n\r\n--\xff",
        ],
    )
    def test_what_is_none(self, data: bytes) -> None:
        with pytest.raises(BadReport):
            tls_report.read(data)

    def test_nothing_of_it_reaches_a_terminal_raw(self) -> None:
        evil = json.loads(report())
        evil["organization-name"] = "a\x1b[31mb\n"
        assert tls_report.read(json.dumps(evil).encode()).organization == "a?[31mb?"


class Page(Resource):
    isLeaf = True
    status = 201

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[bytes, bytes]] = []

    def render_POST(self, request: Any) -> bytes:
        self.got.append((request.getHeader(b"content-type"), request.content.read()))
        request.setResponseCode(self.status)
        return b""


class TestSending(TestCase):
    timeout = PATIENCE

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.database = self.enterContext(made("sqlite")).database
        self.work = Work(reactor, self.database)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.work.close()))
        self.names = NameServer(
            reactor,
            {
                "_smtp._tls.b.test": ['TXT "v=TLSRPTv1; rua=mailto:reports@b.test"'],
                "_smtp._tls.web.test": ['TXT "v=TLSRPTv1; rua=https://web.test/r"'],
                "web.test": ["A 127.0.0.1"],
            },
        )
        self.names.startService()
        self.addCleanup(self.names.stopService)
        files = issue(folder, "web.test")
        self.page = Page()
        site = Site(self.page)
        site.noisy = False
        tls = ServerTls(files.certificate, files.key)
        port = reactor.listenSSL(0, site, tls, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.clock = Clock()
        self.clock.advance(1_795_300_000.0)  # 2026-11-21 UTC
        resolver = Resolver(reactor, DnsConfig((f"127.0.0.1:{self.names.port}",)))
        https = Https(reactor, resolver, Roots(files.ca), port.getHost().port, Reach(["127.0.0.0/8"]))
        self.reports = TlsReports("mail.a.test", "", resolver, https, self.work, self.clock)
        self.reports.take = self.take
        self.taken: list[tuple[Envelope, bytes]] = []
        self.reply = Reply(250, "2.0.0", "Ok")

    async def take(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        self.taken.append((envelope, message.read()))
        return {one.address: self.reply for one in envelope.recipients}

    def left(self) -> list[tuple[str, str]]:
        return self.database.read(tls_reports.unsent, "9999")

    async def count(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.reports.count(outcome)
        await self.reports.flush()

    async def test_by_mail_once_the_day_is_over(self) -> None:
        await self.count(GOOD, GOOD, BAD)
        await self.count(GOOD)
        await self.reports.report()
        self.assertEqual(self.taken, [])
        self.clock.advance(86400)
        await self.reports.report()
        [(envelope, data)] = self.taken
        self.assertEqual([str(one.address) for one in envelope.recipients], ["reports@b.test"])
        self.assertEqual(str(envelope.reverse_path), "postmaster@mail.a.test")
        found = tls_report.read(data)
        self.assertEqual((found.good, found.bad, found.id), (3, 1, "2026-11-21.b.test@mail.a.test"))
        self.assertEqual(self.left(), [])
        await self.reports.report()
        self.assertEqual(len(self.taken), 1)

    async def test_by_https(self) -> None:
        await self.count(Outcome("web.test", "no-policy-found", (), (), "mx", "192.0.2.1", ""))
        self.clock.advance(86400)
        self.page.status = 500
        await self.reports.report()
        self.assertEqual(len(self.left()), 1)
        self.page.status = 201
        await self.reports.report()
        self.assertEqual(self.left(), [])
        self.assertEqual(self.page.got[-1][0], b"application/tlsrpt+gzip")
        self.assertEqual(tls_report.read(self.page.got[-1][1]).good, 1)

    async def test_nobody_wants_one(self) -> None:
        await self.count(Outcome("none.test", "no-policy-found", (), (), "mx", "192.0.2.1", ""))
        self.clock.advance(86400)
        await self.reports.report()
        self.assertEqual((self.left(), self.taken), ([], []))

    async def test_what_cannot_be_handed_over_waits_three_days(self) -> None:
        await self.count(GOOD)
        self.reply = Reply(451, "4.3.0", "later")
        for _ in range(3):
            self.clock.advance(86400)
            await self.reports.report()
            self.assertEqual(len(self.left()), 1)
        self.clock.advance(86400)
        await self.reports.report()
        self.assertEqual(self.left(), [])

    async def test_the_memory_is_bounded(self) -> None:
        self.patch(tls_reports, "MOST_COUNTED", 3)
        for number in range(9):
            self.reports.count(Outcome(f"d{number}.test", "sts", (), (), "mx", "192.0.2.1", ""))
        self.assertEqual(len(self.reports._counted), 3)

    async def test_it_runs_by_itself(self) -> None:
        self.reports.startService()
        self.reports.count(GOOD)
        await self.reports.stopService()
        self.assertEqual(self.left(), [("2026-11-21", "b.test")])

    async def test_those_that_come(self) -> None:
        reader = ReportReader(("Tls@a.test",), self.work, self.clock)
        envelope = Envelope("q1", None, (Recipient(Address("tls", "a.test")),))
        self.assertTrue(reader.is_for_us(envelope))
        self.assertFalse(reader.is_for_us(Envelope("q2", None, (Recipient(Address("x", "a.test")),))))
        for _ in range(2):
            await reader.read(envelope, Message.of(report()))
        await reader.read(envelope, Message.of(b"Subject: spam\r\n\r\n"))
        [row] = self.database.read(tls_reports.listed, 10)
        self.assertEqual((row["organization"], row["domains"], row["bad"]), ("mail.a.test", "b.test", 2))
        content = self.database.read(tls_reports.shown, row["id"])
        self.assertEqual(gzip.decompress(content or b""), report())
        self.assertIsNone(self.database.read(tls_reports.shown, 99))
