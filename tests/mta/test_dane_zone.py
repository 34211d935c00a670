"""DANE from the DNS to the transfer: a signed zone, a validating name server, real TLS."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import reactor

from mailstack.mta.exchangers import Exchangers
from mailstack.mta.security import Outcome, Protection
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transfer import Transfer
from mailstack.net.dns_settings import DnsConfig
from mailstack.net.resolver import Resolver
from mailstack.net.tls import ServerTls
from tests.certificates import issue
from tests.mta import signed_zone
from tests.mta.test_transfer import BOB, MESSAGE, TransferCase, envelope
from tests.running import PATIENCE


class TestSignedZone(TransferCase):
    if signed_zone.missing():
        skip = f"not installed: {signed_zone.missing()}"

    timeout = PATIENCE

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.files = issue(self.folder / "tls", "mx.signed.test")
        self.certificate = x509.load_pem_x509_certificate(self.files.certificate.read_bytes())
        self.tls = ServerTls(self.files.certificate, self.files.key)
        self.next = self.hop(offers=("STARTTLS",), tls=self.tls)
        key = self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.good = f"3 1 1 {hashlib.sha256(key).hexdigest()}"
        authority = x509.load_pem_x509_certificate(self.files.ca.read_bytes())
        whole = authority.public_bytes(Encoding.DER)
        self.anchor = f"2 0 0 {whole.hex()}"
        self.wrong = f"3 1 1 {'0' * 64}"
        self.outcomes: list[Outcome] = []

    def serve(self, tlsa: str, forged: bool = False, mx: str = "mx", more: str = "") -> None:
        lines = f"@ MX 10 {mx}\nmx A 127.0.0.1\nunsigned MX 10 mx.plain.test.\n"
        lines += f"_{self.next.port}._tcp.mx TLSA {tlsa}\n" if tlsa else ""
        lines += more.replace("PORT", str(self.next.port))
        plain = f"@ MX 10 mx\nmx A 127.0.0.1\n_{self.next.port}._tcp.mx TLSA {self.wrong}\n"
        zones = signed_zone.SignedZones(
            self.folder,
            {"signed.test": lines},
            {"plain.test": plain, "cross.test": "@ MX 10 mx.signed.test.\n", **self.others},
        )
        if forged:
            zones.forge("signed.test", tlsa.rpartition(" ")[2][:56], "1" * 56)
        zones.start()
        self.addCleanup(zones.stop)
        self.port = zones.port

    def make(self, validating: bool = True, **options: Any) -> Transfer:
        server = f"127.0.0.1:{self.port}"
        resolver = Resolver(reactor, DnsConfig((server,), validating=(server,) if validating else ()))
        config = MtaConfig(
            port=self.next.port, ca_file=self.files.ca, private_networks=("127.0.0.0/8",), **options
        )
        transfer = Transfer(
            config,
            "mail.a.test",
            Exchangers(resolver, config, "mail.a.test", Random(1)),
            self.work,
            reactor,
            protection=Protection(config, resolver, None, self.outcomes.append),
        )
        self.addCleanup(transfer.stopService)
        return transfer

    async def to(self, domain: str, **options: Any) -> str:
        result = (await self.make(**options).send(domain, envelope(), MESSAGE))[BOB]
        return f"{result.reply.code} {result.trust or result.reply.text}"

    others: dict[str, str] = {}

    async def test_aliases(self) -> None:
        self.serve(
            self.anchor,
            more="inside MX 10 pointer\npointer CNAME mx\n"
            # The name that it stands for has records, but not for this: those of its own are asked for.
            "own MX 10 named\nnamed CNAME bare\nbare A 127.0.0.1\n"
            f"_PORT._tcp.named TLSA {self.good}\n"
            "outside MX 10 away\naway CNAME mx.plain.test.\n"
            f"_PORT._tcp.away TLSA {self.good}\n"
            "lost MX 10 gone\ngone CNAME mx.plain.test.\n"
            "shared MX 10 shared\nshared A 127.0.0.1\n_PORT._tcp.shared CNAME _PORT._tcp.mx\n",
        )
        for domain, expected in (
            ("inside.signed.test", "250 verified by DANE-TA"),  # the certificate is for the name behind
            ("own.signed.test", "250 verified by DANE-EE"),
            ("outside.signed.test", "250 verified by DANE-EE"),  # the alias is signed, its target is not
            ("lost.signed.test", "250 opportunistic"),
            ("shared.signed.test", "451 DANE: the certificate is not for shared.signed.test"),
        ):
            self.assertEqual((domain, await self.to(domain)), (domain, expected))
        self.assertEqual([len(one) for one in (self.outcomes, self.next.messages)], [5, 4])

    async def test_records_that_cannot_be_used_beside_one_that_can(self) -> None:
        nothing = "0" * 64
        self.serve(
            f"1 1 1 {nothing}",
            more=f"_PORT._tcp.mx TLSA 0 0 1 {nothing}\n_PORT._tcp.mx TLSA 3 1 2 {nothing}\n"
            f"_PORT._tcp.mx TLSA 2 1 1 {nothing}\n_PORT._tcp.mx TLSA {self.good}\n",
        )
        self.assertEqual(await self.to("signed.test"), "250 verified by DANE-EE")

    async def test_end_entity(self) -> None:
        self.serve(self.good)
        self.assertEqual(await self.to("signed.test"), "250 verified by DANE-EE")
        [outcome] = self.outcomes
        self.assertEqual((outcome.policy, outcome.result), ("tlsa", ""))
        self.assertEqual(await self.to("signed.test", dane=False), "250 opportunistic")
        self.assertEqual(await self.to("signed.test", validating=False), "250 opportunistic")
        self.assertEqual(await self.to("plain.test"), "250 opportunistic")  # its TLSA is not signed
        self.assertEqual(await self.to("cross.test"), "250 opportunistic")  # its MX is not signed

    async def test_trust_anchor(self) -> None:
        self.serve(self.anchor)
        self.assertEqual(await self.to("signed.test"), "250 verified by DANE-TA")

    async def test_no_record(self) -> None:
        self.serve("")
        self.assertEqual(await self.to("signed.test"), "250 opportunistic")

    async def test_no_match(self) -> None:
        self.serve(self.wrong)
        expected = "451 DANE: no TLSA record matches the certificate"
        self.assertEqual(await self.to("signed.test"), expected)
        self.assertEqual([one.result for one in self.outcomes], ["validation-failure"])
        self.assertEqual(self.next.messages, [])

    async def test_no_tls_offered(self) -> None:
        self.next.offers = ()
        self.serve(self.good)
        self.assertEqual(await self.to("signed.test"), "451 DANE: STARTTLS is not offered")

    async def test_unusable_records_ask_for_encryption_only(self) -> None:
        self.serve("1 1 1 " + "0" * 64)
        self.assertEqual(await self.to("signed.test"), "250 unverified, DANE, no usable TLSA record")
        self.next.offers = ()
        answer = await self.to("signed.test")
        self.assertEqual(answer, "451 DANE, no usable TLSA record: STARTTLS is not offered")

    async def test_a_forged_record_defers(self) -> None:
        self.serve(self.good, forged=True)
        answer = await self.to("signed.test")
        self.assertTrue(answer.startswith("451 DANE: TLSA look-up of _"), answer)
        self.assertEqual((self.next.sessions, self.outcomes[0].result), ([], "dane-required"))
