"""What the queue does about release, deadline, priority and required TLS, on both databases."""

from __future__ import annotations

from email.utils import formatdate

from mailstack.mail.envelope import DeliverBy, Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.mta import claims
from mailstack.mta.entries import Lease
from tests.mta.world import World, addr, fields

LATER = Reply(451, "4.3.0", "Later")


class TestOnSqlite(World):
    async def test_held_mail_waits_for_its_release(self) -> None:
        self.start()
        now = self.clock.seconds()
        replies = await self.send("bob@a.test", "carol@b.test", hold_until=now + 3600)
        self.assertEqual({reply.code for reply in replies.values()}, {250})
        self.assertEqual([entry.next_attempt for entry in self.entries()], [now + 3600] * 2)
        await self.pass_time(3500)
        self.assertEqual((self.mda.got, self.transfer.got), ([], []))
        await self.pass_time(101)
        await self.until(lambda: self.mda.got and self.transfer.got)
        await self.until(lambda: not self.entries())

    async def test_a_report_in_utf8_goes_where_utf8_may_not_be_taken(self) -> None:
        """RFC 6533 section 4.5: only a return address in UTF-8 makes a report need SMTPUTF8."""
        self.transfer.says["bøb@b.test"] = Reply(550, "5.1.1", "No bøb here")
        self.start()
        await self.send("bøb@b.test", sender="eve@b.test", smtputf8=True)
        await self.until(lambda: not self.entries() and self.bounces(self.transfer) == 1)
        envelope, report = self.bounce(self.transfer)
        self.assertEqual((envelope.smtputf8, envelope.body), (False, "7BIT"))
        kinds = [part.get_content_type() for part in report.get_payload()]  # type: ignore[union-attr]
        self.assertEqual(kinds[1:], ["message/global-delivery-status", "message/global"])
        await self.send("bøb@b.test", sender="josé@b.test", smtputf8=True, id="q2")
        await self.until(lambda: not self.entries() and self.bounces(self.transfer) == 2)
        envelope, _ = self.bounce(self.transfer)
        self.assertEqual((envelope.smtputf8, envelope.body), (True, "8BITMIME"))

    async def test_held_mail_has_its_days_from_the_release_on(self) -> None:
        now = self.clock.seconds()
        await self.send("carol@b.test", hold_until=now + 3600)
        self.assertEqual({entry.expires for entry in self.entries()}, {now + 3600 + 5 * 86400})

    async def test_what_is_late_comes_back(self) -> None:
        self.transfer.says["carol@b.test"] = LATER
        self.start()
        now = self.clock.seconds()
        await self.send("carol@b.test", deliver_by=DeliverBy(now + 100, returned=True))
        await self.until(lambda: self.entries() and self.entries()[0].attempts == 1)
        self.assertEqual(self.entries()[0].next_attempt, now + 100)
        await self.pass_time(100)
        await self.until(lambda: not self.entries())
        self.assertEqual(len([one for one in self.transfer.got if one[2] == ("carol@b.test",)]), 1)
        _, report = self.bounce(self.mda)
        self.assertEqual(fields(report)[1]["Status"], "5.4.7")
        self.assertIn("Arrival-Date", fields(report)[0])
        self.assertIn("Deliver-By-Date", fields(report)[0])

    async def test_a_report_names_the_release_that_was_asked_for(self) -> None:
        self.transfer.says["carol@b.test"] = Reply(550, "5.1.1", "No")
        self.start()
        now = self.clock.seconds()
        await self.send("carol@b.test", hold_until=now + 3600)
        await self.pass_time(3601)
        await self.until(lambda: self.bounces(self.mda))
        _, report = self.bounce(self.mda)
        self.assertEqual(fields(report)[0]["Future-Release-Request"], "until;2001-09-09T02:46:40Z")

    async def test_a_report_says_all_that_is_known(self) -> None:
        """Every field of RFC 3464 sections 2.2 and 2.3, but for DSN-Gateway: we are none."""
        self.transfer.says["carol@b.test"] = LATER
        carol = Recipient(addr("carol@b.test"), frozenset({"DELAY"}), "rfc822;caroline@b.test")
        await self.send(carol, envid="E1", received_from="mua.test ([192.0.2.1])")  # from here on from rows
        now = self.clock.seconds()
        await self.pass_time(5 * 3600)
        self.start()
        await self.until(lambda: self.bounces(self.mda) == 1)
        whole, about = fields(self.bounce(self.mda)[1])
        self.assertEqual(
            dict(whole.items()),
            {
                "Original-Envelope-Id": "E1",
                "Reporting-MTA": "dns; mail.a.test",
                "Received-From-MTA": "dns; mua.test ([192.0.2.1])",
                "Arrival-Date": formatdate(now),
            },
        )
        self.assertEqual(
            dict(about.items()),
            {
                "Original-Recipient": "rfc822;caroline@b.test",
                "Final-Recipient": "rfc822;carol@b.test",
                "Action": "delayed",
                "Status": "4.3.0",
                "Remote-MTA": "dns; mx.b.test",
                "Diagnostic-Code": "smtp; 451 4.3.0 Later",
                "Last-Attempt-Date": formatdate(now + 5 * 3600),
                "Final-Log-ID": "q1",
                "Will-Retry-Until": formatdate(now + 5 * 86400),
            },
        )

    async def test_what_is_late_and_may_be_is_told_once_and_goes_on(self) -> None:
        self.transfer.says["carol@b.test"] = LATER
        self.start()
        now = self.clock.seconds()
        await self.send("carol@b.test", deliver_by=DeliverBy(now + 100, returned=False))
        await self.until(lambda: self.entries() and self.entries()[0].attempts == 1)
        await self.pass_time(100)
        await self.until(lambda: self.bounces(self.mda) == 1)
        _, report = self.bounce(self.mda)
        self.assertEqual((fields(report)[1]["Action"], fields(report)[1]["Status"]), ("delayed", "4.4.7"))
        self.assertEqual(fields(report)[0]["Deliver-By-Date"], formatdate(now + 100))
        del self.transfer.says["carol@b.test"]
        await self.pass_time(700)
        await self.until(lambda: not self.entries())

    async def test_a_trace_tells_of_each_relay(self) -> None:
        self.transfer.dsn = True
        self.start()
        by = DeliverBy(self.clock.seconds() + 100, returned=False, trace=True)
        quiet = Recipient(addr("quiet@b.test"), frozenset({"NEVER"}))
        await self.send("carol@b.test", quiet, deliver_by=by)
        await self.until(lambda: self.bounces(self.mda) == 1)
        _, report = self.bounce(self.mda)
        self.assertEqual([group["Action"] for group in fields(report)[1:]], ["relayed"])

    async def test_the_urgent_are_claimed_first(self) -> None:
        for number, priority in enumerate((0, -3, 9, 0, 4)):
            await self.send("carol@b.test", id=f"q{number}", priority=priority)
        now = self.clock.seconds()

        def claim(db):  # type: ignore[no-untyped-def]
            return claims.claim(db, Lease("me", now + 60), now, 10, lambda hop: 10, "")

        batches = self.database.write(claim).batches
        self.assertEqual([batch.envelope.id for batch in batches], ["q2", "q4", "q0", "q3", "q1"])
        self.assertEqual([batch.envelope.priority for batch in batches], [9, 4, 0, 0, -3])

    async def test_a_hop_with_urgent_mail_does_not_wait_for_its_turn(self) -> None:
        for number, domain in enumerate(("b1", "b2", "b3", "b4")):
            await self.send(f"carol@{domain}.test", id=f"q{number}", priority=4 if domain == "b4" else 0)
        now = self.clock.seconds()
        batches = self.database.write(
            claims.claim, Lease("me", now + 60), now, 2, lambda hop: 10, "b1.test"
        ).batches
        self.assertEqual([batch.hop for batch in batches], ["b4.test", "b2.test"])

    async def test_what_must_be_told_in_time_is_not_put_off_with_a_hop(self) -> None:
        now = self.clock.seconds()
        for id, seconds in (("soon", 100.0), ("later", 9000.0)):
            await self.send("carol@b.test", id=id, deliver_by=DeliverBy(now + seconds, returned=False))
        number = self.database.write(claims.put_off, "b.test", now, now + 600, "451 down", 4000.0)
        self.assertEqual(number, 1)
        self.assertEqual({one.next_attempt for one in self.entries() if one.message_id == "soon"}, {now})

    async def test_parameters_come_out_as_they_went_in(self) -> None:
        by = DeliverBy(self.clock.seconds() + 1000, returned=True, trace=True)
        self.start()
        await self.send("carol@b.test", requiretls=True, tls_optional=True, priority=2, deliver_by=by)
        await self.until(lambda: self.transfer.envelopes)
        [envelope] = self.transfer.envelopes
        self.assertTrue(envelope.requiretls and envelope.tls_optional)
        self.assertEqual((envelope.priority, envelope.deliver_by), (2, by))

    async def test_a_report_about_required_tls_requires_it_and_returns_the_header_alone(self) -> None:
        self.transfer.says["carol@b.test"] = Reply(550, "5.1.1", "No")
        self.start()
        await self.send("carol@b.test", requiretls=True, ret="FULL")
        await self.until(lambda: self.bounces(self.mda))
        envelope, report = self.bounce(self.mda)
        self.assertTrue(envelope.requiretls)
        parts = report.get_payload()
        assert isinstance(parts, list)
        self.assertEqual(parts[2].get_content_type(), "text/rfc822-headers")  # type: ignore[union-attr]

    async def test_lmtp_gives_each_his_own_answer_and_queues_nothing_of_ours(self) -> None:
        self.mda.says["carol@a.test"] = Reply(452, "4.2.2", "Full")
        to = tuple(Recipient(addr(one)) for one in ("bob@a.test", "carol@a.test", "nobody@a.test"))
        answers = await self.queue.deliver(Envelope("q1", addr("x@b.test"), to), Message.of(b"S: x\r\n\r\n"))
        codes = {str(address): reply.code for address, reply in answers.items()}
        self.assertEqual(codes, {"bob@a.test": 250, "carol@a.test": 452, "nobody@a.test": 550})
        self.assertEqual((self.entries(), self.files()), ([], []))


class TestOnPostgresql(TestOnSqlite):
    kind = "postgresql"
