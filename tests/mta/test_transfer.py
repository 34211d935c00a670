"""One message to the next hop, over real sockets: what is said, and what comes of every way it can go wrong."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.exchangers import Target
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transfer import Result, Transfer
from mailstack.net.tls import ServerTls
from mailstack.work import Work
from tests.certificates import issue
from tests.net.next_hop import CLOSE, HANG, NextHop
from tests.net.own_time import OwnTime

ALICE, BOB, EVE = Address("alice", "a.test"), Address("bob", "b.test"), Address("eve", "b.test")
MESSAGE = Message.of(b"Subject: x\r\n\r\n.hello\r\n")
EIGHT_BIT = Message.of(b"Subject: x\r\n\r\ncaf\xc3\xa9\r\n")


class NoDatabase:
    def dispose(self) -> None:
        pass


class Fixed:
    """Exchangers that are known beforehand."""

    def __init__(self, targets: list[Target] | Reply) -> None:
        self.targets = targets

    def hop(self, domain: str) -> str:
        return domain

    def is_certain(self, hop: str) -> bool:
        return "://" in hop

    async def find(self, hop: str) -> list[Target]:
        if isinstance(self.targets, Reply):
            raise Refused(self.targets)
        return self.targets


def envelope(*recipients: Address, **options: Any) -> Envelope:
    return Envelope("q1", ALICE, tuple(Recipient(one) for one in recipients or (BOB,)), **options)


class TransferCase(TestCase):
    def setUp(self) -> None:
        self.work = Work(reactor, NoDatabase())
        self.addCleanup(lambda: Deferred.fromCoroutine(self.work.close()))
        self.time = OwnTime()

    def hop(self, *args: Any, **options: Any) -> NextHop:
        hop = NextHop(*args, **options)
        hop.hung = self.time.run_out
        self.addCleanup(lambda: Deferred.fromCoroutine(hop.close()))
        return hop

    async def send(
        self, hops: list[NextHop] | Reply, what: Envelope, message: Message = MESSAGE
    ) -> dict[Address, Result]:
        targets: Any = hops
        if isinstance(hops, list):
            targets = [Target(f"mx{n}.b.test", "127.0.0.1", hop.port) for n, hop in enumerate(hops, 1)]
        config = MtaConfig(keep_connections=0, hop_pause=0.001)
        transfer = Transfer(config, "mail.a.test", Fixed(targets), self.work, self.time)  # type: ignore[arg-type]
        return await transfer.send("b.test", what, message)

    async def one(self, *hops: NextHop, message: Message = MESSAGE, **options: Any) -> Result:
        [result] = (await self.send(list(hops), envelope(**options), message)).values()
        return result

    async def code(self, *hops: NextHop, message: Message = MESSAGE, **options: Any) -> str:
        reply = (await self.one(*hops, message=message, **options)).reply
        return f"{reply.code} {reply.enhanced}"


class TestWhatIsSaid(TransferCase):
    async def test_several_recipients_in_one_transaction(self) -> None:
        hop = self.hop()
        results = await self.send([hop], envelope(BOB, EVE))
        self.assertEqual(
            {str(one): result.reply.code for one, result in results.items()},
            {"bob@b.test": 250, "eve@b.test": 250},
        )
        await hop.sessions[0].gone
        expected = [
            "EHLO mail.a.test",
            "MAIL FROM:<alice@a.test>",
            "RCPT TO:<bob@b.test>",
            "RCPT TO:<eve@b.test>",
            "DATA",
            "QUIT",
        ]
        self.assertEqual(hop.lines, expected)
        self.assertEqual(hop.messages, [MESSAGE.read()])

    async def test_who_said_it_is_known(self) -> None:
        hop = self.hop()
        result = await self.one(hop)
        self.assertEqual(result.server, "mx1.b.test")
        self.assertEqual(
            str(result),
            f"mx1.b.test[127.0.0.1]:{hop.port} in clear (STARTTLS is not offered): 250 2.0.0 Ok: taken",
        )

    async def test_pipelining(self) -> None:
        hop = self.hop(offers=("PIPELINING", "SIZE 1000"))
        many = [Address(f"u{n}", "b.test") for n in range(70)]
        results = await self.send([hop], envelope(*many))
        self.assertEqual(len([one for one in results.values() if one.reply.accepted]), 70)
        self.assertIn(50, hop.writes)
        self.assertEqual(hop.lines[1], f"MAIL FROM:<alice@a.test> SIZE={MESSAGE.size}")

    async def test_a_server_that_knows_helo_only(self) -> None:
        hop = self.hop({"EHLO": "502 5.5.1 What?"})
        self.assertEqual(await self.code(hop), "250 2.0.0")
        self.assertEqual(hop.lines[:2], ["EHLO mail.a.test", "HELO mail.a.test"])

    async def test_dsn_parameters_are_the_next_hops_then(self) -> None:
        hop = self.hop(offers=("DSN",))
        self.assertTrue((await self.one(hop, ret="HDRS", envid="e")).dsn)
        self.assertEqual(hop.lines[1], "MAIL FROM:<alice@a.test> RET=HDRS ENVID=e")
        self.assertFalse((await self.one(self.hop())).dsn)


class TestRefusals(TransferCase):
    async def test_each_recipient_has_its_own_reply(self) -> None:
        for offers in ((), ("PIPELINING",)):
            hop = self.hop(
                {"RCPT <eve@b.test>": "550 5.1.1 no eve", "RCPT <odd@b.test>": "450 later"}, offers
            )
            results = await self.send([hop], envelope(BOB, EVE, Address("odd", "b.test")))
            self.assertEqual(
                {str(address): str(one.reply) for address, one in results.items()},
                {
                    "bob@b.test": "250 2.0.0 Ok: taken",
                    "eve@b.test": "550 5.1.1 no eve",
                    "odd@b.test": "450 4.0.0 later",
                },
            )
            self.assertEqual(len(hop.messages), 1)

    async def test_no_recipient_no_content(self) -> None:
        hop = self.hop({"RCPT": "550 5.1.1 no"})
        self.assertEqual(await self.code(hop), "550 5.1.1")
        self.assertNotIn("DATA", hop.lines)

    async def test_data_goes_with_the_recipients_and_nothing_follows_a_refusal(self) -> None:
        """RFC 2920 section 3.1, whatever is said to DATA; what was said of a recipient holds."""
        for data in ("554 5.5.1 No valid recipients", "354 Go on", "421 4.3.2 going down", "250 what", CLOSE):
            says: dict[str, str | bytes] = {"RCPT": "550 5.1.1 no", "DATA": data, ".": "554 5.5.1 Nothing"}
            hop = self.hop(says, ("PIPELINING",))
            self.assertEqual(await self.code(hop), "550 5.1.1", data)
            self.assertEqual(hop.lines[3], "DATA")
            self.assertIn(hop.messages, ([], [b""]))
        hop = self.hop(offers=("PIPELINING",))
        self.assertEqual(await self.code(hop), "250 2.0.0")
        self.assertIn(3, hop.writes)  # MAIL, RCPT and DATA

    async def test_replies_about_the_message_are_final_for_this_attempt(self) -> None:
        for verb in ("MAIL", "RCPT", "DATA", "."):
            for reply, expected in (
                ("451 4.3.0 later", "451 4.3.0"),
                ("554 5.7.1 never", "554 5.7.1"),
                ("552 full", "552 5.0.0"),
            ):
                second = self.hop()
                self.assertEqual(await self.code(self.hop({verb: reply}), second), expected)
                self.assertEqual(second.lines, [])

    async def test_replies_that_make_no_sense_are_tried_again(self) -> None:
        for verb, reply in (("MAIL", "354 go"), ("RCPT", "334 go"), ("DATA", "250 ok"), (".", "354 more")):
            self.assertEqual(await self.code(self.hop({verb: reply})), "451 4.5.0")


class TestBrokenServers(TransferCase):
    async def test_the_next_exchanger_gets_it(self) -> None:
        garbage = b"\x16\x03\x01 what\r\n"
        for verb in ("", "EHLO", "MAIL", "RCPT", "DATA"):
            for says in (CLOSE, HANG, "421 4.3.2 going down", garbage):
                second = self.hop()
                first = self.hop({verb: says}, () if verb != "RCPT" else ("PIPELINING",))
                self.assertEqual(await self.code(first, second), "250 2.0.0", (verb, says))
                self.assertEqual(len(second.messages), 1)

    async def test_greetings_that_refuse(self) -> None:
        for reply, expected in (
            ("554 5.7.1 blocked", "554 5.7.1"),
            ("451 4.7.1 later", "451 4.7.1"),
            ("354 what", "451 4.5.0"),
        ):
            self.assertEqual(await self.code(self.hop({"": reply}), self.hop()), "250 2.0.0")
            self.assertEqual(await self.code(self.hop({"": reply})), expected)

    async def test_one_that_may_serve_later_is_a_reason_to_wait(self) -> None:
        self.assertEqual(await self.code(self.hop({"": "554 no"}), self.hop({"": CLOSE})), "451 4.4.2")
        self.assertEqual(await self.code(self.hop({"": CLOSE}), self.hop({"": "554 no"})), "451 4.4.2")

    async def test_nobody_listens(self) -> None:
        dead = self.hop()
        await dead.leave()
        result = await self.one(dead)
        self.assertEqual((result.reply.enhanced, result.server), ("4.4.1", None))
        self.assertEqual(await self.code(dead, self.hop()), "250 2.0.0")

    async def test_a_lost_answer_to_the_content_is_not_sent_elsewhere(self) -> None:
        for says in (CLOSE, HANG, b"nonsense\r\n"):
            second = self.hop()
            result = await self.one(self.hop({".": says}), second)
            self.assertEqual((result.reply.code, result.reply.enhanced), (451, "4.4.2"))
            self.assertIn("may have been taken", result.reply.text)
            self.assertEqual((second.messages, result.server), ([], None))

    async def test_no_way_known(self) -> None:
        results = await self.send(Reply(550, "5.1.2", "no such domain"), envelope(BOB, EVE))
        self.assertEqual({one.reply.enhanced for one in results.values()}, {"5.1.2"})

    async def test_our_own_name_is_a_loop(self) -> None:
        self.assertEqual(await self.code(self.hop({"EHLO": "250 Mail.A.test"})), "554 5.4.6")


class TestLimits(TransferCase):
    async def test_size(self) -> None:
        hop = self.hop(offers=("SIZE 10",))
        self.assertEqual(await self.code(hop), "552 5.3.4")
        self.assertNotIn("DATA", hop.lines)

    async def test_8_bit_content(self) -> None:
        able, unable = self.hop(offers=("8BITMIME",)), self.hop()
        self.assertEqual(await self.code(unable, able, message=EIGHT_BIT, body="8BITMIME"), "250 2.0.0")
        self.assertEqual(able.lines[1], "MAIL FROM:<alice@a.test> BODY=8BITMIME")
        self.assertEqual(unable.messages, [])
        self.assertEqual(await self.code(self.hop(), message=EIGHT_BIT, body="8BITMIME"), "554 5.6.3")
        self.assertEqual(await self.code(self.hop(), message=MESSAGE, body="8BITMIME"), "250 2.0.0")

    async def test_binary_content(self) -> None:
        for content in (b"S: x\r\n\r\na\nb\r\n", b"S: x\r\n\r\na\rb\r\n", b"S: x\r\n\r\n\0\r\n", b"x" * 999):
            for offers in (("8BITMIME",), ("8BITMIME", "CHUNKING"), ("8BITMIME", "BINARYMIME")):
                code = await self.code(
                    self.hop(offers=offers), message=Message.of(content), body="BINARYMIME"
                )
                self.assertEqual(code, "554 5.6.3")

    async def test_binary_content_that_is_text_goes_anywhere(self) -> None:
        hop = self.hop(offers=("8BITMIME",))
        self.assertEqual(await self.code(hop, message=EIGHT_BIT, body="BINARYMIME"), "250 2.0.0")
        self.assertIn("BODY=8BITMIME", hop.lines[1])
        hop = self.hop()
        self.assertEqual(await self.code(hop, message=MESSAGE, body="BINARYMIME"), "250 2.0.0")
        self.assertNotIn("BODY", hop.lines[1])

    async def test_smtputf8(self) -> None:
        header = Message.of("Subject: é\r\n\r\n".encode())
        able = self.hop(offers=("SMTPUTF8",))
        self.assertEqual(await self.code(self.hop(), able, message=header, smtputf8=True), "250 2.0.0")
        self.assertEqual(able.lines[1], "MAIL FROM:<alice@a.test> SMTPUTF8")
        self.assertEqual(await self.code(self.hop(), message=header, smtputf8=True), "554 5.6.7")
        self.assertEqual(await self.code(self.hop(), smtputf8=True), "250 2.0.0")
        results = await self.send([self.hop()], envelope(Address("bøb", "b.test"), smtputf8=True))
        self.assertEqual([one.reply.enhanced for one in results.values()], ["5.6.7"])


class TestTls(TransferCase):
    def tls(self) -> ServerTls:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        files = issue(folder, "mx.b.test")
        return ServerTls(files.certificate, files.key)

    async def test_used_where_offered(self) -> None:
        hop = self.hop(offers=("STARTTLS",), tls=self.tls())
        self.assertEqual((await self.one(hop)).tls, "TLSv1.3")
        self.assertEqual(hop.lines[:3], ["EHLO mail.a.test", "STARTTLS", "EHLO mail.a.test"])

    async def test_a_refusal_goes_on_in_clear(self) -> None:
        hop = self.hop({"STARTTLS": "454 4.7.0 not now"}, ("STARTTLS",))
        result = await self.one(hop)
        self.assertEqual((result.reply.code, result.tls), (250, None))
        self.assertEqual(len(hop.sessions), 1)

    async def test_a_failed_handshake_goes_on_in_clear_over_a_new_connection(self) -> None:
        @implementer(IOpenSSLContextFactory)
        class Refusing:
            def getContext(self) -> SSL.Context:
                return SSL.Context(SSL.TLS_SERVER_METHOD)

        hop = self.hop(offers=("STARTTLS",), tls=Refusing())
        result = await self.one(hop)
        self.assertEqual((result.reply.code, result.tls), (250, None))
        self.assertEqual(len(hop.sessions), 2)

    async def test_offers_made_before_tls_are_forgotten(self) -> None:
        hop = self.hop(offers=("STARTTLS",), tls=self.tls())
        reply = hop.reply
        hellos: list[str] = []

        def changing(verb: str, line: str = "") -> str | bytes:
            if verb == "EHLO":
                hellos.append(line)
                return reply(verb) if len(hellos) == 1 else "250-mx.b.test\r\n250 SIZE 10"
            return reply(verb, line)

        hop.reply = changing  # type: ignore[method-assign]
        self.assertEqual(await self.code(hop), "552 5.3.4")
