"""Connections that are kept, verified, logged in: against next hops on loopback."""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from mailstack.mta.exchangers import Target
from mailstack.mta.security import Level, Outcome, Protection, Security
from mailstack.mta.settings import MtaConfig, parse_route
from mailstack.mta.sts import StsPolicy
from mailstack.mta.transfer import Result, Transfer
from mailstack.net.client_tls import Roots
from mailstack.net.tls import ServerTls
from tests.certificates import Files, issue
from tests.mta.test_transfer import BOB, EVE, MESSAGE, Fixed, TransferCase, envelope
from tests.net.next_hop import CLOSE, NextHop


class Base(TransferCase):
    def make(self, *hops: NextHop, targets: list[Target] | None = None, **options: Any) -> Transfer:
        around = {name: options.pop(name, None) for name in ("protection", "roots", "timeouts")}
        time = options.pop("time", reactor)
        targets = targets or [Target(f"mx{n}.b.test", "127.0.0.1", hop.port) for n, hop in enumerate(hops, 1)]
        transfer = Transfer(
            MtaConfig(**options),
            "mail.a.test",
            Fixed(targets),  # type: ignore[arg-type]
            self.work,
            time,
            **around,
        )
        self.addCleanup(transfer.stopService)
        return transfer

    async def by(self, transfer: Transfer, hop: str = "b.test") -> Result:
        return (await transfer.send(hop, envelope(), MESSAGE))[BOB]

    def files(self, *names: str, days: float = 2) -> Files:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        return issue(folder, *names, days=days)


class TestKept(Base):
    async def test_the_next_message_goes_over_the_same_connection(self) -> None:
        hop = self.hop()
        transfer = self.make(hop)
        for _ in range(3):
            self.assertEqual((await self.by(transfer)).reply.code, 250)
        self.assertEqual((len(hop.sessions), len(hop.messages)), (1, 3))
        self.assertNotIn("QUIT", hop.lines)
        transfer.stopService()
        await hop.sessions[0].gone
        self.assertEqual(hop.lines[-1], "QUIT")

    async def test_no_more_messages_than_the_server_wants(self) -> None:
        hop = self.hop(offers=("LIMITS MAILMAX=2 RCPTMAX=1",))
        transfer = self.make(hop)
        for _ in range(3):
            self.assertEqual((await self.by(transfer)).reply.code, 250)
        results = await transfer.send("b.test", envelope(BOB, EVE), MESSAGE)
        self.assertEqual([one.reply.code for one in results.values()], [250, 250])
        self.assertEqual((len(hop.sessions), len(hop.messages)), (3, 5))

    async def test_rset_after_a_transaction_that_was_not_ended(self) -> None:
        hop = self.hop({"RCPT": "550 5.1.1 no"})
        transfer = self.make(hop)
        await self.by(transfer)
        hop.says.clear()
        self.assertEqual((await self.by(transfer)).reply.code, 250)
        self.assertEqual(hop.lines[3:5], ["RSET", "MAIL FROM:<alice@a.test>"])

    async def test_no_more_messages_than_allowed(self) -> None:
        hop = self.hop()
        transfer = self.make(hop, messages_per_connection=2)
        for _ in range(5):
            await self.by(transfer)
        self.assertEqual((len(hop.sessions), len(hop.messages)), (3, 5))

    async def test_none_is_kept(self) -> None:
        hop = self.hop()
        transfer = self.make(hop, keep_connections=0.0)
        for _ in range(2):
            await self.by(transfer)
        self.assertEqual(len(hop.sessions), 2)

    async def test_so_many_and_no_more(self) -> None:
        hop = self.hop()
        transfer = self.make(hop, kept_connections=2)
        taken = [
            await transfer._connections.open(Target("x", "127.0.0.1", hop.port), Security(Level.MAY))
            for _ in range(4)
        ]
        for connection in taken:
            transfer._connections.give(connection)
        self.assertEqual(len(transfer._connections._order), 2)
        for session in hop.sessions[:2]:
            await session.gone

    async def test_one_that_waits_too_long_is_ended(self) -> None:
        hop = self.hop()
        transfer = self.make(hop, keep_connections=0.05)
        await self.by(transfer)
        await hop.sessions[0].gone
        self.assertEqual(hop.lines[-1], "QUIT")

    async def test_the_server_closed_it_meanwhile(self) -> None:
        hop = self.hop()
        transfer = self.make(hop)
        await self.by(transfer)
        hop.sessions[0].transport.loseConnection()
        await hop.sessions[0].gone
        await deferLater(reactor, 0.02, lambda: None)
        self.assertEqual((await self.by(transfer)).reply.code, 250)
        self.assertEqual(len(hop.sessions), 2)

    async def test_the_server_closes_it_at_any_command(self) -> None:
        for verb in ("MAIL", "RCPT", "DATA"):
            for says in (CLOSE, "421 4.4.2 idle too long", b"\x00nonsense\r\n"):
                hop = self.hop()
                transfer = self.make(hop)
                await self.by(transfer)
                hop.says[verb] = says
                self.patch(hop, "reply", _once(hop, verb))
                self.assertEqual((await self.by(transfer)).reply.code, 250, (verb, says))
                self.assertEqual((len(hop.sessions), len(hop.messages)), (2, 2))

    async def test_a_goodbye_while_it_waits(self) -> None:
        hop = self.hop()
        transfer = self.make(hop)
        await self.by(transfer)
        hop.sessions[0].transport.write(b"421 4.4.2 bye\r\n")
        await deferLater(reactor, 0.02, lambda: None)
        self.assertEqual((await self.by(transfer)).reply.code, 250)
        self.assertEqual(len(hop.sessions), 2)

    async def test_a_lost_answer_on_a_kept_connection_is_not_sent_again_now(self) -> None:
        hop = self.hop()
        transfer = self.make(hop)
        await self.by(transfer)
        hop.says["."] = CLOSE
        result = await self.by(transfer)
        self.assertIn("may have been taken", result.reply.text)
        self.assertEqual(len(hop.messages), 2)


def _once(hop: NextHop, verb: str) -> Any:
    """What `says` has for a verb is said once."""
    reply = hop.reply

    def once(said: str, line: str = "") -> str | bytes:
        answer = reply(said, line)
        if said == verb:
            hop.says.pop(verb, None)
        return answer

    return once


class TestHopsThatAreDown(Base):
    async def test_not_each_message_tries_it(self) -> None:
        hop = self.hop({"": "421 4.3.2 not now"})
        transfer = self.make(hop)
        first, second = await self.by(transfer), await self.by(transfer)
        self.assertEqual(len(hop.sessions), 1)
        self.assertEqual(str(first.reply), "421 4.3.2 not now")
        self.assertEqual(str(second.reply), "451 4.3.2 Not tried now; the last failure: not now")
        self.assertEqual((await self.by(transfer, "other.test")).reply.code, 421)  # another hop is asked

    async def test_a_refused_message_says_that_somebody_is_there(self) -> None:
        hop = self.hop({"RCPT": "451 4.2.0 later"})
        transfer = self.make(hop)
        for _ in range(3):
            self.assertEqual(str((await self.by(transfer)).reply), "451 4.2.0 later")
        self.assertIsNone(transfer.hops.down("b.test"))


class Sts:
    """A policy for everybody."""

    def __init__(self, mode: str, *mx: str) -> None:
        self.found = StsPolicy(mode, mx, 86400.0)

    async def policy(self, domain: str) -> StsPolicy:
        return self.found


class TestMtaSts(Base):
    def setUp(self) -> None:
        super().setUp()
        self.outcomes: list[Outcome] = []

    def sts(self, files: Files, hop: NextHop, mode: str, *mx: str, **options: Any) -> Transfer:
        config = MtaConfig()
        protection = Protection(config, None, Sts(mode, *(mx or ("mx1.b.test",))), self.outcomes.append)
        return self.make(hop, protection=protection, roots=Roots(files.ca), **options)

    def tls_hop(self, files: Files, **options: Any) -> NextHop:
        return self.hop(offers=("STARTTLS",), tls=ServerTls(files.certificate, files.key), **options)

    def results(self) -> list[str]:
        return [one.result for one in self.outcomes]

    async def test_verified(self) -> None:
        files = self.files("mx1.b.test")
        hop = self.tls_hop(files)
        result = await self.by(self.sts(files, hop, "enforce"))
        self.assertEqual((result.reply.code, result.tls), (250, "TLSv1.3"))
        self.assertEqual(result.trust, "verified by MTA-STS")
        self.assertIn("TLSv1.3 TLS_AES_256_GCM_SHA384 (verified by MTA-STS): 250", str(result))
        [outcome] = self.outcomes
        self.assertEqual((outcome.domain, outcome.policy, outcome.result), ("b.test", "sts", ""))
        self.assertIn("mode: enforce", outcome.strings)

    async def test_every_way_to_fail(self) -> None:
        good = self.files("mx1.b.test")
        cases = [
            (good, self.tls_hop(good), ("elsewhere.test",), "validation-failure", "not among the mx"),
            (good, self.hop(), (), "starttls-not-supported", "STARTTLS is not offered"),
            (
                good,
                self.hop({"STARTTLS": "454 4.7.0 no"}, ("STARTTLS",)),
                (),
                "starttls-not-supported",
                "STARTTLS was refused: 454 4.7.0 no",
            ),
            (good, self.hop({"STARTTLS": CLOSE}, ("STARTTLS",)), (), None, "connection lost"),
            (
                good,
                self.hop({"STARTTLS": b"220 go\r\n220 injected\r\n"}, ("STARTTLS",)),
                (),
                "validation-failure",
                "more was sent",
            ),
            (good, self.hop(offers=("STARTTLS",)), (), "validation-failure", ""),  # and no handshake follows
        ]
        cases[-1][1].last = "STARTTLS"
        wrong = self.files("else.test")
        cases.append((wrong, self.tls_hop(wrong), (), "certificate-host-mismatch", "not for mx1.b.test"))
        old = self.files("mx1.b.test", days=-1)
        cases.append((old, self.tls_hop(old), (), "certificate-expired", "has expired"))
        cases.append((self.files("x"), self.tls_hop(good), (), "certificate-not-trusted", "not"))
        for files, hop, mx, result_type, words in cases:
            self.outcomes.clear()
            result = await self.by(self.sts(files, hop, "enforce", *mx, time=self.time))
            self.assertTrue(result.reply.transient, (words, str(result)))
            self.assertIn(words, result.reply.text)
            self.assertEqual(hop.messages, [])
            if result_type is not None:
                self.assertEqual((self.results(), result.reply.enhanced), ([result_type], "4.7.5"))

    async def test_the_next_exchanger_may_do(self) -> None:
        files = self.files("mx2.b.test")
        first, second = self.hop(), self.tls_hop(files)
        protection = Protection(MtaConfig(), None, Sts("enforce", "*.b.test"), self.outcomes.append)
        result = await self.by(self.make(first, second, protection=protection, roots=Roots(files.ca)))
        self.assertEqual((result.reply.code, len(second.messages)), (250, 1))

    async def test_testing_only_reports(self) -> None:
        good, wrong = self.files("mx1.b.test"), self.files("else.test")
        for files, hop, mx, expected, words in (
            (wrong, self.tls_hop(wrong), "mx1.b.test", "certificate-host-mismatch", "not for mx1.b.test"),
            (good, self.hop(), "mx1.b.test", "starttls-not-supported", "STARTTLS is not offered"),
            (good, self.tls_hop(good), "mx1.b.test", "", "unverified, MTA-STS in testing"),
        ):
            self.outcomes.clear()
            result = await self.by(self.sts(files, hop, "testing", mx))
            self.assertEqual(result.reply.code, 250)
            self.assertEqual(self.results(), [expected])
            self.assertIn(words, result.trust)
        self.outcomes.clear()
        result = await self.by(self.sts(good, self.tls_hop(good), "testing", "elsewhere.test"))
        self.assertEqual((result.reply.code, self.results()[0]), (250, "validation-failure"))

    async def test_none_asks_for_nothing(self) -> None:
        files = self.files("else.test")
        result = await self.by(self.sts(files, self.tls_hop(files), "none"))
        self.assertEqual((result.reply.code, result.trust), (250, "opportunistic"))

    async def test_a_message_that_needs_no_tls_goes_whatever_the_policy_says(self) -> None:
        files = self.files("mx1.b.test")
        what = envelope(tls_optional=True)
        for hop, mx in ((self.hop(), ()), (self.tls_hop(self.files("else.test")), ("elsewhere.test",))):
            result = (await self.sts(files, hop, "enforce", *mx).send("b.test", what, MESSAGE))[BOB]
            self.assertEqual(result.reply.code, 250, str(result))
        self.assertIn("unverified, TLS-Required: No", result.trust)

    async def test_a_policy_makes_a_name_certain_enough_for_required_tls(self) -> None:
        files = self.files("mx1.b.test")
        tls = ServerTls(files.certificate, files.key)
        what = envelope(requiretls=True)
        for mode, offers, code in (
            ("enforce", ("STARTTLS", "REQUIRETLS"), "250 2.0.0"),
            ("enforce", ("STARTTLS",), "550 5.7.30"),
            ("enforce", ("REQUIRETLS",), "550 5.7.10"),
            ("testing", ("STARTTLS", "REQUIRETLS"), "550 5.7.10"),
        ):
            hop = self.hop(offers=offers, tls=tls)
            result = (await self.sts(files, hop, mode).send("b.test", what, MESSAGE))[BOB]
            self.assertEqual(f"{result.reply.code} {result.reply.enhanced}", code, str(result))

    async def test_so_does_a_signed_mx_record(self) -> None:
        files = self.files("mx1.b.test")
        hop = self.hop(offers=("STARTTLS", "REQUIRETLS"), tls=ServerTls(files.certificate, files.key))
        targets = [Target("mx1.b.test", "127.0.0.1", hop.port, secure=True)]
        transfer = self.make(targets=targets, roots=Roots(files.ca))
        result = (await transfer.send("b.test", envelope(requiretls=True), MESSAGE))[BOB]
        self.assertEqual((result.reply.code, result.trust), (250, "verified by REQUIRETLS"))

    async def test_a_kept_connection_without_the_promise_is_not_for_required_tls(self) -> None:
        files = self.files("mx1.b.test")
        hop = self.tls_hop(files)
        transfer = self.sts(files, hop, "enforce")
        self.assertEqual((await self.by(transfer)).reply.code, 250)
        result = (await transfer.send("b.test", envelope(requiretls=True), MESSAGE))[BOB]
        self.assertEqual((result.reply.code, len(hop.sessions), len(hop.messages)), (550, 1, 1))
        self.assertEqual((await self.by(transfer)).reply.code, 250)  # others are not held up

    async def test_a_connection_of_less_proof_is_not_taken_up(self) -> None:
        files = self.files("else.test")
        hop = self.tls_hop(files)
        transfer = self.sts(files, hop, "none")
        await self.by(transfer)
        transfer._protection._sts.found = StsPolicy("enforce", ("mx1.b.test",), 1.0)
        self.assertEqual((await self.by(transfer)).reply.enhanced, "4.7.5")
        self.assertEqual(len(hop.messages), 1)


class TestSmarthost(Base):
    """Routes with a login."""

    def smarthost(self, files: Files, hop: NextHop, route: str, **options: Any) -> Transfer:
        route = route.replace("PORT", str(hop.port))
        target = Target("localhost", "127.0.0.1", hop.port, parse_route(route))
        return self.make(targets=[target], roots=Roots(files.ca), **options)

    def auth_hop(self, files: Files, mechanisms: str = "PLAIN LOGIN", **says: Any) -> NextHop:
        tls = ServerTls(files.certificate, files.key)
        return self.hop({"AUTH": "235 2.7.0 welcome", **says}, ("STARTTLS", f"AUTH {mechanisms}"), tls)

    async def test_plain_after_verified_tls(self) -> None:
        files = self.files("localhost")
        hop = self.auth_hop(files)
        transfer = self.smarthost(
            files, hop, "submission://me@localhost:PORT", credentials={"me@localhost": "päss"}
        )
        result = await self.by(transfer, "submission://me@localhost")
        self.assertEqual((result.reply.code, result.trust), (250, "verified by route"))
        word = base64.b64encode("\0me\0päss".encode()).decode()
        self.assertEqual(
            hop.lines[:4], ["EHLO mail.a.test", "STARTTLS", "EHLO mail.a.test", f"AUTH PLAIN {word}"]
        )

    async def test_login_with_a_password_file(self) -> None:
        files = self.files("localhost")
        secret = files.ca.parent / "secret"
        secret.write_text("hush\nmore\n")
        hop = self.auth_hop(files, "LOGIN", AUTH="334 VXNlcm5hbWU6")
        transfer = self.smarthost(files, hop, f"submission://me@localhost:PORT?password_file={secret}")
        reply, answers = hop.reply, iter(["334 UGFzc3dvcmQ6", "235 2.7.0 welcome"])
        names = {base64.b64encode(one).decode().upper() for one in (b"me", b"hush")}
        self.patch(hop, "reply", lambda verb, line="": next(answers) if verb in names else reply(verb, line))
        self.assertEqual((await self.by(transfer, "submission://x")).reply.code, 250)

    async def test_tls_from_the_first_octet(self) -> None:
        files = self.files("localhost")
        hop = NextHop({"AUTH": "235 ok"}, ("AUTH PLAIN",))
        await hop._port.stopListening()
        hop._port = reactor.listenSSL(
            0, hop._port.factory, ServerTls(files.certificate, files.key), interface="127.0.0.1"
        )
        hop.port = hop._port.getHost().port
        self.addCleanup(lambda: Deferred.fromCoroutine(hop.close()))
        transfer = self.smarthost(files, hop, "smtps://me@localhost:PORT", credentials={"me@localhost": "x"})
        result = await self.by(transfer, "smtps://x")
        self.assertEqual((result.reply.code, result.tls), (250, "TLSv1.3"))

    async def test_no_password_leaves_us_unless_the_host_is_proved(self) -> None:
        wrong, good = self.files("else.test"), self.files("localhost")
        for files, hop, words in (
            (good, self.hop(offers=("AUTH PLAIN",)), "STARTTLS is not offered"),
            (wrong, self.auth_hop(good), "not"),
        ):
            for scheme in ("submission", "smtp"):
                transfer = self.smarthost(
                    files, hop, f"{scheme}://me@localhost:PORT", credentials={"me@localhost": "x"}
                )
                result = await self.by(transfer, "submission://x")
                self.assertEqual((result.reply.code, result.reply.enhanced), (451, "4.7.5"))
                self.assertIn(words, result.reply.text)
                self.assertFalse([line for line in hop.lines if line.startswith("AUTH")])

    async def test_a_refused_login_is_tried_again_later(self) -> None:
        files = self.files("localhost")
        for hop, words in (
            (
                self.auth_hop(files, AUTH="535 5.7.8 wrong password"),
                "refused our login: 535 5.7.8 wrong password",
            ),
            (self.auth_hop(files, "CRAM-MD5"), "neither AUTH PLAIN nor AUTH LOGIN"),
        ):
            transfer = self.smarthost(
                files, hop, "submission://me@localhost:PORT", credentials={"me@localhost": "x"}
            )
            result = await self.by(transfer, "submission://x")
            self.assertEqual((result.reply.code, result.reply.enhanced), (451, "4.7.8"))
            self.assertIn(words, result.reply.text)

    async def test_no_password_is_known(self) -> None:
        files = self.files("localhost")
        hop = self.auth_hop(files)
        for query in ("", "?password_file=/nowhere/at/all"):
            transfer = self.smarthost(files, hop, f"submission://me@localhost:PORT{query}")
            result = await self.by(transfer, "submission://x")
            self.assertEqual(str(result.reply), "451 4.7.8 No password is known for me at localhost")
        self.assertEqual(hop.sessions, [])
        self.flushLoggedErrors()


class TestWords(Base):
    async def test_why_in_clear(self) -> None:
        result = await self.by(self.make(self.hop()))
        self.assertIn("in clear (STARTTLS is not offered)", str(result))
        result = await self.by(self.make(self.hop(offers=("STARTTLS",)), starttls=False))
        self.assertEqual(result.trust, "TLS is not wanted")
        broken = self.hop(offers=("STARTTLS",))
        broken.says["STARTTLS"] = b"220 go\r\nnot TLS at all, and some more octets\r\n"
        result = await self.by(self.make(broken))
        self.assertTrue(result.reply.accepted or result.reply.transient)

    async def test_large_replies_cost_nothing(self) -> None:
        flood = b"250-" + b"x" * 1000 + b"\r\n"
        hop = self.hop({"EHLO": flood * 2000})
        result = await self.by(self.make(hop))
        self.assertEqual((result.reply.code, result.reply.enhanced), (451, "4.4.2"))
        self.assertIn("a reply of more than", result.reply.text)
