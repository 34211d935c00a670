"""What our client makes of the next hop's extensions: LMTP, BDAT, LIMITS, REQUIRETLS, DELIVERBY, MT-PRIORITY."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mailstack.mail.address import Address
from mailstack.mail.envelope import DeliverBy, Recipient
from mailstack.mail.message import Message
from mailstack.mta.exchangers import Exchangers, Target
from mailstack.mta.settings import MtaConfig, Route
from mailstack.mta.transfer import Transfer
from mailstack.net.tls import ServerTls
from mailstack.wire.smtp.client import Offers, groups, in_one_session, rcpt
from tests.certificates import issue
from tests.mta.test_transfer import BOB, EVE, MESSAGE, TransferCase, envelope
from tests.net.next_hop import CLOSE, NextHop


class One(Exchangers):
    """One exchanger, known beforehand; its name is certain."""

    def __init__(self, target: Target, certain: bool = True) -> None:
        self.target = target
        self.certain = certain

    async def find(self, hop: str) -> list[Target]:
        return [self.target]

    def is_certain(self, hop: str) -> bool:
        return self.certain


class ExtensionCase(TransferCase):
    async def through(
        self,
        hop: NextHop,
        what: Any,
        message: Message = MESSAGE,
        lmtp: bool = False,
        certain: bool = True,
        **config: Any,
    ) -> dict[Address, Any]:
        """The results of one transfer to the name localhost."""
        route = Route("localhost", hop.port, "lmtp") if lmtp else None
        exchangers = One(Target("localhost", "127.0.0.1", hop.port, route), certain)
        transfer = Transfer(
            MtaConfig(keep_connections=0, **config),
            "mail.a.test",
            exchangers,
            self.work,
            self.time,
        )
        return await transfer.send("b.test", what, message)

    async def codes(self, *args: Any, **options: Any) -> list[str]:
        results = await self.through(*args, **options)
        return [f"{one.reply.code} {one.reply.enhanced}" for one in results.values()]


class TestLmtp(ExtensionCase):
    async def test_a_reply_for_each(self) -> None:
        said = "250 2.1.5 Here\r\n552 5.2.2 Full"
        hop = self.hop({"LHLO": "250 mx.b.test", ".": said, "RCPT <no@b.test>": "550 5.1.1 No"})
        to = envelope(BOB, Address("no", "b.test"), EVE)
        results = await self.through(hop, to, lmtp=True)
        codes = {str(address): f"{one.reply.code} {one.reply.enhanced}" for address, one in results.items()}
        wanted = {"bob@b.test": "250 2.1.5", "no@b.test": "550 5.1.1", "eve@b.test": "552 5.2.2"}
        self.assertEqual(codes, wanted)
        self.assertEqual(hop.lines[0], "LHLO mail.a.test")

    async def test_what_was_said_holds_when_the_connection_breaks(self) -> None:
        hop = self.hop({"LHLO": "250 mx.b.test", ".": b"250 2.1.5 Here\r\n"})
        hop.last = "."
        codes = await self.codes(hop, envelope(BOB, EVE), lmtp=True)
        self.assertEqual(codes, ["250 2.1.5", "451 4.4.2"])

    async def test_no_helo(self) -> None:
        hop = self.hop({"LHLO": "500 5.5.1 What?"})
        self.assertEqual(await self.codes(hop, envelope(), lmtp=True), ["500 5.5.1"])
        self.assertNotIn("HELO mail.a.test", hop.lines)

    async def test_our_own_name_is_no_loop(self) -> None:
        hop = self.hop({"LHLO": "250 mail.a.test"})
        self.assertEqual(await self.codes(hop, envelope(), lmtp=True), ["250 2.0.0"])


class TestLimits(ExtensionCase):
    async def test_recipients_of_one_transaction(self) -> None:
        hop = self.hop(offers=("PIPELINING", "LIMITS RCPTMAX=2"))
        to = [Address(f"u{n}", "b.test") for n in range(5)]
        codes = await self.codes(hop, envelope(*to))
        self.assertEqual(codes, ["250 2.0.0"] * 5)
        self.assertEqual([line.split(":")[0] for line in hop.lines if line[:4] in ("MAIL", "RSET")],
                         ["MAIL FROM", "RSET", "MAIL FROM", "RSET", "MAIL FROM"])  # fmt: skip
        self.assertEqual(len(hop.messages), 3)
        self.assertEqual(len(hop.sessions), 1)

    async def test_messages_of_one_connection(self) -> None:
        hop = self.hop(offers=("LIMITS MAILMAX=1 RCPTMAX=1",))
        self.assertEqual(await self.codes(hop, envelope(BOB, EVE)), ["250 2.0.0"] * 2)
        self.assertEqual((len(hop.messages), len(hop.sessions)), (2, 2))

    async def test_domains_of_one_session(self) -> None:
        """RCPTDOMAINMAX counts in the session, not in the transaction, and such a session is not kept."""
        hop = self.hop(offers=("LIMITS RCPTDOMAINMAX=1 RCPTMAX=1",))
        far = Address("x", "c.test")
        self.assertEqual(await self.codes(hop, envelope(BOB, EVE, far)), ["250 2.0.0"] * 3)
        self.assertEqual((len(hop.messages), len(hop.sessions)), (3, 2))
        made = groups(envelope(BOB, far).recipients, Offers("mx", {"LIMITS": "RCPTDOMAINMAX=1"}))
        self.assertEqual(len(in_one_session(made, Offers("mx", {"LIMITS": "RCPTDOMAINMAX=1"}))), 1)
        self.assertEqual(len(in_one_session(made, Offers())), 2)

    async def test_what_came_before_a_failure_holds(self) -> None:
        hop = self.hop({"RCPT <eve@b.test>": CLOSE}, offers=("LIMITS RCPTMAX=1",))
        self.assertEqual(await self.codes(hop, envelope(BOB, EVE)), ["250 2.0.0", "451 4.4.2"])

    async def test_what_came_before_a_failure_to_connect_again_holds(self) -> None:
        hop = self.hop(offers=("LIMITS MAILMAX=1 RCPTMAX=1",))
        reply = hop.reply
        self.patch(
            hop,
            "reply",
            lambda verb, line="": "554 5.3.2 Enough" if not verb and hop.messages else reply(verb, line),
        )
        self.assertEqual(await self.codes(hop, envelope(BOB, EVE)), ["250 2.0.0", "451 4.4.2"])
        self.assertEqual(len(hop.messages), 1)

    def test_groups(self) -> None:
        to = envelope(BOB, EVE, Address("x", "c.test"), Address("y", "d.test")).recipients
        offers = Offers("mx", {"LIMITS": "RCPTDOMAINMAX=2 FOO=3 RCPTMAX=x"})
        self.assertEqual([len(group) for group in groups(to, offers)], [3, 1])
        self.assertEqual(groups(to, Offers()), [to])
        bad = ("RCPTMAX=0", "RCPTMAX", "RCPTMAX=-1", "RCPTMAX=" + "9" * 30, "=", "", "RCPTMAX=01", "RCPTMAX=1000000",
               "RCPTMAX=+1", "RCPTMAX=\u0663")  # fmt: skip
        for text in bad:
            self.assertEqual(groups(to, Offers("mx", {"LIMITS": text})), [to])


class TestParameters(ExtensionCase):
    async def test_priority_and_deadline_go_along_where_offered(self) -> None:
        by = DeliverBy(self.time.seconds() + 500, returned=True, trace=True)
        what = envelope(priority=3, deliver_by=by)
        hop = self.hop(offers=("MT-PRIORITY", "DELIVERBY 60"))
        [result] = (await self.through(hop, what)).values()
        self.assertRegex(hop.lines[1], r"MAIL FROM:<alice@a.test> MT-PRIORITY=3 BY=500;RT$")
        self.assertTrue(result.by)

    async def test_a_deadline_that_nobody_keeps(self) -> None:
        soon = DeliverBy(self.time.seconds() + 50, returned=True)
        self.assertEqual(await self.codes(self.hop(), envelope(deliver_by=soon)), ["554 5.3.3"])
        hop = self.hop(offers=("DELIVERBY 60",))
        self.assertEqual(await self.codes(hop, envelope(deliver_by=soon)), ["554 5.4.7"])
        whenever = DeliverBy(soon.deadline, returned=False)
        hop = self.hop(offers=("DELIVERBY 60,X-NEW", "DSN"))
        self.assertEqual(await self.codes(hop, envelope(deliver_by=soon)), ["554 5.4.7"])
        self.assertEqual(await self.codes(hop, envelope(deliver_by=whenever)), ["250 2.0.0"])
        self.assertIn("RCPT TO:<bob@b.test>", hop.lines)
        for notify, told in ((), "DELAY,FAILURE"), (("SUCCESS",), "DELAY,SUCCESS"), (("NEVER",), "NEVER"):
            recipient = Recipient(BOB, frozenset(notify))
            said = rcpt(recipient, Offers("mx", {"DSN": ""}), whenever)
            self.assertEqual(said, f"RCPT TO:<bob@b.test> NOTIFY={told}\r\n".encode())
        [result] = (await self.through(self.hop(), envelope(deliver_by=whenever))).values()
        self.assertEqual((result.reply.code, result.by), (250, False))

    async def test_codes_that_say_no_mail_here(self) -> None:
        self.assertEqual(await self.codes(self.hop({"": "521 No mail"}), envelope()), ["521 5.3.2"])
        self.assertEqual(await self.codes(self.hop({"RCPT": "556 Null MX"}), envelope()), ["556 5.1.10"])

    async def test_binary_content_goes_by_one_chunk(self) -> None:
        content = b"Subject: x\r\n\r\na\nb\r\0\r\n.\r\n"
        hop = self.hop({"BDAT": "250 2.0.0 Taken"}, offers=("CHUNKING", "BINARYMIME", "8BITMIME"))
        codes = await self.codes(hop, envelope(body="BINARYMIME"), Message.of(content))
        self.assertEqual(codes, ["250 2.0.0"])
        self.assertIn("BODY=BINARYMIME", hop.lines[1])
        self.assertEqual(hop.lines[3], f"BDAT {len(content)} LAST")


class TestRequireTls(ExtensionCase):
    def setUp(self) -> None:
        super().setUp()
        self.files = issue(Path(self.mktemp()), "localhost")
        self.other = issue(Path(self.mktemp()), "localhost")
        self.tls = ServerTls(self.files.certificate, self.files.key)

    async def test_verified_and_promised(self) -> None:
        hop = self.hop(offers=("STARTTLS", "REQUIRETLS"), tls=self.tls)
        codes = await self.codes(hop, envelope(requiretls=True), ca_file=self.files.ca)
        self.assertEqual(codes, ["250 2.0.0"])
        self.assertIn("MAIL FROM:<alice@a.test> REQUIRETLS", hop.lines)

    async def test_everything_less_bounces(self) -> None:
        for offers, authority, code in (
            ((), self.files.ca, "550 5.7.10"),
            (("REQUIRETLS",), self.files.ca, "550 5.7.10"),
            (("STARTTLS",), self.files.ca, "550 5.7.30"),
            (("STARTTLS", "REQUIRETLS"), self.other.ca, "550 5.7.10"),
        ):
            hop = self.hop(offers=offers, tls=self.tls)
            self.assertEqual(await self.codes(hop, envelope(requiretls=True), ca_file=authority), [code])
            self.assertFalse([line for line in hop.lines if line.startswith("MAIL")])

    async def test_a_name_that_dns_alone_says_proves_nothing(self) -> None:
        hop = self.hop(offers=("STARTTLS", "REQUIRETLS"), tls=self.tls)
        what = envelope(requiretls=True)
        self.assertEqual(await self.codes(hop, what, certain=False, ca_file=self.files.ca), ["550 5.7.10"])
        codes = await self.codes(hop, what, certain=False, ca_file=self.files.ca, requiretls_by_mx=True)
        self.assertEqual(codes, ["250 2.0.0"])

    async def test_a_report_goes_all_the_same(self) -> None:
        from dataclasses import replace

        what = replace(envelope(requiretls=True), reverse_path=None)
        self.assertEqual(await self.codes(self.hop(), what), ["250 2.0.0"])
