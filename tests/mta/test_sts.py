"""MTA-STS: records and policies in words, and fetched from a real HTTPS server with an authority of its own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mailstack.mta import sts_policies as module
from mailstack.mta.sts import BadPolicy, StsPolicy, read_policy, record_id
from mailstack.mta.sts_policies import StsPolicies
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

GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mx.b.test\r\nmx: *.Backup.test\r\nmax_age: 86400\r\n"


class TestRecord:
    @pytest.mark.parametrize(
        ("records", "expected"),
        [
            ([b"v=STSv1; id=20260101T1;"], "20260101T1"),
            ([b"other", b"v=STSv1;id=a"], "a"),
            ([b"v=STSv1 ; id = a ;"], "a"),
            ([], None),
            ([b"v=STSv1; id=a", b"v=STSv1; id=b"], None),
            ([b"v=STSv2; id=a"], None),
            ([b"v=STSv1; id=" + b"a" * 33], None),
            ([b"v=STSv1; id=a-b"], None),
            ([b"v=STSv1"], None),
            ([b"\xff\xfe"], None),
        ],
    )
    def test_id(self, records: list[bytes], expected: str | None) -> None:
        assert record_id(records) == expected


class TestPolicy:
    def test_good(self) -> None:
        assert read_policy(GOOD) == StsPolicy("enforce", ("mx.b.test", "*.backup.test"), 86400.0)
        assert read_policy(GOOD.replace(b"\r\n", b"\n") + b"later: what\n\nno colon") == read_policy(GOOD)
        assert read_policy(b"version:STSv1\nmode:none\nmax_age:5") == StsPolicy("none", (), 5.0)
        assert read_policy(GOOD.replace(b"86400", b"9999999999")).max_age == 31_557_600

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff" * 100,
            GOOD.replace(b"STSv1", b"STSv2"),
            GOOD.replace(b"enforce", b"sometimes"),
            GOOD.replace(b"86400", b"-1"),
            GOOD.replace(b"86400", b"1" * 11),
            GOOD.replace(b"mx.b.test", b"*.*.test"),
            GOOD.replace(b"mx.b.test", b"a b"),
            b"version: STSv1\nmode: enforce\nmax_age: 1\n",
            GOOD + b"mx: x.test\n" * 100,
        ],
    )
    def test_bad(self, data: bytes) -> None:
        with pytest.raises(BadPolicy):
            read_policy(data)

    def test_which_exchangers(self) -> None:
        policy = read_policy(GOOD)
        assert policy.allows("MX.b.test.")
        assert policy.allows("mx9.backup.test")
        assert not policy.allows("a.mx9.backup.test")
        assert not policy.allows("backup.test")
        assert not policy.allows("evil.test")


class TestAsking:
    def test_that_nobody_could_look_is_no_policy_of_none(self) -> None:
        """A cancelled look-up, or a database that is away: no message goes unprotected because of it."""
        nothing: Any = None
        policies = StsPolicies(nothing, nothing, nothing, Clock())
        looking: list[Deferred[StsPolicy | None]] = []

        async def look(domain: str) -> StsPolicy | None:
            looking.append(Deferred())
            return await looking[-1]

        policies._look = look  # type: ignore[method-assign]
        failed: list[Any] = []
        asked = [Deferred.fromCoroutine(policies.policy("b.test")) for _ in range(2)]
        for one in asked:
            one.addErrback(failed.append)
        asked[0].cancel()
        assert [type(one.value) for one in failed] == [CancelledError, CancelledError]
        good = StsPolicy("enforce", ("mx.b.test",), 86400.0)
        found: list[Any] = []
        Deferred.fromCoroutine(policies.policy("b.test")).addCallback(found.append)
        looking[-1].callback(good)
        assert found == [good]


class Page(Resource):
    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.body = GOOD
        self.kind = b"text/plain; charset=utf-8"
        self.status = 200
        self.location: bytes | None = None
        self.asked: list[bytes] = []
        self.hangs = False

    def render_GET(self, request: Any) -> Any:
        self.asked.append(request.uri)
        request.setResponseCode(self.status)
        request.setHeader(b"content-type", self.kind)
        if self.location:
            request.setHeader(b"location", self.location)
        if self.hangs:
            return NOT_DONE_YET
        return self.body


class TestFetching(TestCase):
    timeout = PATIENCE

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.database = self.enterContext(made("sqlite")).database
        self.work = Work(reactor, self.database)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.work.close()))
        self.zone = {
            "_mta-sts.b.test": ['TXT "v=STSv1; id=1"'],
            "mta-sts.b.test": ["A 127.0.0.1"],
            "_mta-sts.wrong.test": ['TXT "v=STSv1; id=1"'],
            "mta-sts.wrong.test": ["A 127.0.0.1"],
        }
        self.names = NameServer(reactor, self.zone)
        self.names.startService()
        self.addCleanup(self.names.stopService)
        files = issue(folder, "mta-sts.b.test")
        self.ca = files.ca
        self.page = Page()
        site = Site(self.page)
        site.noisy = False
        tls = ServerTls(files.certificate, files.key)
        self.port = reactor.listenSSL(0, site, tls, interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.clock = Clock()
        self.clock.advance(1_000_000.0)

    def make(self, ca: bool = True) -> StsPolicies:
        resolver = Resolver(reactor, DnsConfig((f"127.0.0.1:{self.names.port}",)))
        roots = Roots(self.ca if ca else None)
        https = Https(reactor, resolver, roots, self.port.getHost().port, Reach(["127.0.0.0/8"]))
        return StsPolicies(resolver, https, self.work, self.clock)

    async def mode(self, domain: str = "b.test", **options: Any) -> str | None:
        policy = await self.make(**options).policy(domain)
        return policy.mode if policy else None

    async def test_fetched_once_and_kept_in_the_database(self) -> None:
        policies = self.make()
        found = await gatherResults([Deferred.fromCoroutine(policies.policy("b.test")) for _ in range(5)])
        self.assertEqual({one.mx for one in found}, {("mx.b.test", "*.backup.test")})
        self.assertEqual(await self.mode(), "enforce")  # a process that starts anew
        self.assertEqual(self.page.asked, [b"/.well-known/mta-sts.txt"])

    async def test_no_record_no_policy(self) -> None:
        self.assertIsNone(await self.mode("none.test"))
        self.assertEqual(self.page.asked, [])

    async def test_a_policy_outlives_what_hides_it(self) -> None:
        await self.mode()
        self.names._records.clear()
        self.clock.advance(86000)
        self.assertEqual(await self.mode(), "enforce")
        self.clock.advance(1000)
        self.assertIsNone(await self.mode())

    async def test_one_in_use_is_fetched_again_before_it_is_over(self) -> None:
        await self.mode()
        self.clock.advance(40_000)
        await self.mode()
        self.assertEqual(len(self.page.asked), 1)
        self.clock.advance(10_000)
        self.page.status = 500  # it cannot be had: the old one holds as long as it held
        self.assertEqual(await self.mode(), "enforce")
        self.page.status = 200
        self.assertEqual(await self.mode(), "enforce")
        self.assertEqual(len(self.page.asked), 3)
        self.names._records.clear()
        self.clock.advance(80_000)  # beyond the day that the first was for
        self.assertEqual(await self.mode(), "enforce")

    async def test_a_policy_of_none_ends_one_of_enforce(self) -> None:
        await self.mode()
        self.page.body = b"version: STSv1\nmode: none\nmax_age: 86400\n"
        self.names._records.update(_zone({"_mta-sts.b.test": ['TXT "v=STSv1; id=2"']}))
        self.assertEqual(await self.mode(), "none")

    async def test_a_new_id_is_fetched_and_the_old_holds_until_that_works(self) -> None:
        await self.mode()
        self.page.body, self.page.status = GOOD.replace(b"enforce", b"testing"), 500
        self.names._records.update(_zone({"_mta-sts.b.test": ['TXT "v=STSv1; id=2"']}))
        policies = self.make()
        self.assertEqual((await policies.policy("b.test")).mode, "enforce")
        self.page.status = 200
        self.clock.advance(module.FRESH + 1)
        self.assertEqual((await policies.policy("b.test")).mode, "enforce")  # not asked again so soon
        self.assertEqual(len(self.page.asked), 2)
        self.clock.advance(module.RETRY)
        self.assertEqual((await policies.policy("b.test")).mode, "testing")

    async def test_what_is_no_policy(self) -> None:
        for changes in (
            {"status": 404},
            {"status": 301, "location": b"https://mta-sts.b.test/elsewhere"},
            {"kind": b"text/html"},
            {"body": b"x" * 70_000},
            {"body": b"version: STSv1\n"},
        ):
            for key, value in changes.items():
                setattr(self.page, key, value)
            before = len(self.page.asked)
            self.assertIsNone(await self.mode(), changes)
            self.assertEqual(len(self.page.asked), before + 1)
            self.page.body, self.page.kind, self.page.status, self.page.location = (
                GOOD,
                b"text/plain",
                200,
                None,
            )
        self.assertEqual(await self.mode(), "enforce")

    async def test_the_certificate_must_be_right(self) -> None:
        self.assertIsNone(await self.mode("wrong.test"))  # another name
        self.assertIsNone(await self.mode(ca=False))  # an authority that the system does not know
        self.assertEqual(self.page.asked, [])

    async def test_a_server_that_hangs(self) -> None:
        self.patch(__import__("mailstack.net.https", fromlist=["x"]), "SECONDS", 0.3)
        self.page.hangs = True
        self.assertIsNone(await self.mode())


def _zone(records: dict[str, list[str]]) -> Any:
    from mailstack.net.name_server import _read

    return _read(records)
