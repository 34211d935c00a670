"""The queue: who takes charge when, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import threading
from typing import Any
from unittest import mock

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from twisted.internet.defer import Deferred

from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mta import claims, entering, entries, verbs
from mailstack.mta.attempts import Attempts
from mailstack.mta.tables import queue_entries
from tests.mta import world
from tests.mta.world import LATER, NEVER, OK, START, TEXT, addr, fields
from tests.running import PATIENCE

FIRST_PAUSE = 330.0  # seconds: five minutes and their jitter


class QueueContract:
    """Run with each database; not by itself."""

    def spooled(self, *ids: str) -> list[str]:
        """The files of these messages: they are small, and have none."""
        return []

    # Our own recipients.

    async def test_local_mail_is_delivered_directly_and_never_queued(self) -> None:
        replies = await self.send("bob@a.test", "carol@a.test")
        self.assertEqual(replies, {"bob@a.test": OK, "carol@a.test": OK})
        self.assertEqual(self.mda.got, [("local", "q1", ("bob@a.test", "carol@a.test"), TEXT)])
        self.assertEqual((self.entries(), self.files()), ([], []))

    async def test_if_none_can_be_taken_now_the_client_keeps_it(self) -> None:
        self.mda.says = {"bob@a.test": LATER, "carol@a.test": LATER}
        self.assertEqual(await self.send("bob@a.test", "carol@a.test"), self.mda.says)
        self.assertEqual(self.entries(), [])

    async def test_if_none_can_be_taken_ever_the_client_hears_it(self) -> None:
        self.mda.says = {"bob@a.test": NEVER}
        replies = await self.send("bob@a.test", "nobody@a.test")
        self.assertEqual([reply.code for reply in replies.values()], [550, 550])
        self.assertEqual((self.entries(), self.bounces(self.mda)), ([], 0))

    async def test_if_some_are_taken_the_others_wait(self) -> None:
        self.mda.says = {"carol@a.test": LATER}
        self.start()
        replies = await self.send("bob@a.test", "carol@a.test")
        self.assertEqual(replies["bob@a.test"], OK)
        self.assertEqual(str(replies["carol@a.test"]), "250 2.0.0 Ok: queued as q1")
        [entry] = self.entries()
        self.assertEqual((entry.recipient, entry.attempts, entry.last_reply), ("carol@a.test", 1, str(LATER)))
        self.mda.says = {}
        await self.pass_time(FIRST_PAUSE)
        await self.until(lambda: not self.entries() and not self.files())
        self.assertEqual(self.mda.got[-1], ("local", "q1", ("carol@a.test",), TEXT))

    async def test_what_is_junk_stays_junk_in_the_queue(self) -> None:
        self.mda.says = {"carol@a.test": LATER}
        self.start()
        await self.send("bob@a.test", "carol@a.test", junk=True)
        self.mda.says = {}
        await self.pass_time(FIRST_PAUSE)
        await self.until(lambda: not self.entries() and not self.files())
        self.assertEqual([envelope.junk for envelope in self.mda.envelopes], [True, True])

    async def test_if_some_are_taken_the_refused_bounce(self) -> None:
        self.mda.says = {"carol@a.test": NEVER}
        self.start()
        replies = await self.send("bob@a.test", "carol@a.test", "nobody@a.test", sender="bob@a.test")
        self.assertTrue(all(reply.accepted for reply in replies.values()))
        self.mda.says["nobody@a.test"] = NEVER
        await self.until(lambda: not self.entries() and not self.files())
        _, report = self.bounce(self.mda)
        told = {group["Final-Recipient"]: group["Status"] for group in fields(report)[1:]}
        self.assertEqual(told, {"rfc822;carol@a.test": "5.1.1", "rfc822;nobody@a.test": "5.1.1"})

    async def test_a_directory_that_fails_is_a_reason_to_come_again(self) -> None:
        self.directory.broken = True
        replies = await self.send("bob@a.test", "x@b.test")
        self.assertEqual([reply.code for reply in replies.values()], [451, 451])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    # Recipients elsewhere.

    async def test_remote_mail_is_queued_then_sent(self) -> None:
        self.start()
        replies = await self.send("x@b.test", "y@b.test", "z@c.test", body="8BITMIME", ret="HDRS", envid="e")
        self.assertEqual({str(reply) for reply in replies.values()}, {"250 2.0.0 Ok: queued as q1"})
        await self.until(lambda: not self.entries() and not self.files())
        sent = sorted(self.transfer.got)
        self.assertEqual(
            sent, [("b.test", "q1", ("x@b.test", "y@b.test"), TEXT), ("c.test", "q1", ("z@c.test",), TEXT)]
        )
        envelope = self.transfer.envelopes[0]
        self.assertEqual((envelope.body, envelope.ret, envelope.envid), ("8BITMIME", "HDRS", "e"))
        self.assertEqual(envelope.reverse_path, addr("alice@a.test"))

    async def test_nothing_is_sent_before_it_is_durable(self) -> None:
        self.start()
        seen: list[Any] = []

        async def look() -> None:
            seen.append((len(self.entries()), self.files()))

        self.mda.before = self.transfer.before = look
        await self.send("bob@a.test", "x@b.test")
        self.assertEqual(seen[0], (2, self.spooled("q1")))

    async def test_our_own_recipients_have_it_when_the_answer_goes_out(self) -> None:
        await self.send("bob@a.test", "x@b.test")
        self.assertEqual(self.mda.got, [("local", "q1", ("bob@a.test",), TEXT)])
        self.assertEqual([entry.recipient for entry in self.entries()], ["x@b.test"])
        self.assertEqual(self.files(), self.spooled("q1"))

    async def test_a_local_recipient_among_remote_ones_that_fails_waits(self) -> None:
        self.mda.says = {"bob@a.test": LATER}
        replies = await self.send("bob@a.test", "x@b.test")
        self.assertTrue(all(reply.accepted for reply in replies.values()))
        waiting = {entry.recipient: entry.attempts for entry in self.entries()}
        self.assertEqual(waiting, {"bob@a.test": 1, "x@b.test": 0})

    async def test_an_unknown_local_recipient_among_remote_ones_bounces(self) -> None:
        self.mda.says = {"nobody@a.test": NEVER}
        self.start()
        replies = await self.send("nobody@a.test", "x@b.test")
        self.assertTrue(all(reply.accepted for reply in replies.values()))
        await self.until(lambda: not self.entries())
        self.assertEqual(self.bounces(self.mda), 1)

    async def test_an_alias_goes_on_with_its_original_recipient(self) -> None:
        self.directory.aliases = {"team": ("bob@a.test", "x@b.test")}
        self.start()
        await self.send("team@a.test")
        await self.until(lambda: not self.entries())
        self.assertEqual(self.mda.got[0][2], ("team@a.test",))
        [envelope] = self.transfer.envelopes
        self.assertEqual(envelope.recipients, (Recipient(addr("x@b.test"), orcpt="rfc822;team@a.test"),))

    async def test_once_it_is_queued_the_answer_is_250_whatever_happens_next(self) -> None:
        with mock.patch.object(Attempts, "make", side_effect=RuntimeError("a bug")):
            replies = await self.send("bob@a.test", "x@b.test")
        self.assertTrue(all(reply.accepted for reply in replies.values()))
        self.assertEqual(len(self.entries()), 2)
        self.flushLoggedErrors(RuntimeError)

    async def test_a_success_report_that_fails_does_not_undo_the_delivery(self) -> None:
        with mock.patch("mailstack.mta.bounce.compose", side_effect=RuntimeError("a bug")):
            replies = await self.send(Recipient(addr("bob@a.test"), frozenset({"SUCCESS"})))
        self.assertEqual(replies, {"bob@a.test": OK})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    async def test_a_bounce_that_cannot_be_made_leaves_the_entry(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        self.start()
        with mock.patch("mailstack.mta.bounce.compose", side_effect=RuntimeError("a bug")):
            await self.send("x@b.test")
            await self.until(lambda: self.entries()[0].attempts == 1)
        self.assertEqual(self.bounces(self.mda), 0)
        self.flushLoggedErrors(RuntimeError)
        await self.pass_time(FIRST_PAUSE)
        await self.until(lambda: not self.entries())
        self.assertEqual(self.bounces(self.mda), 1)

    async def test_the_same_recipient_twice_is_one_entry(self) -> None:
        self.directory.aliases = {"team": ("x@b.test",)}
        await self.send("team@a.test", "x@b.test", "x@b.test")
        self.assertEqual(len(self.entries()), 1)

    async def test_the_same_message_again_is_recognised(self) -> None:
        await self.send("x@b.test")
        await self.send("x@b.test")
        self.assertEqual(len(self.entries()), 1)

    # Time.

    async def test_a_deferred_entry_is_tried_again_by_the_schedule(self) -> None:
        self.transfer.says = {"x@b.test": LATER}
        self.queue = self.make(retry=(60.0, 120.0))
        self.start()
        await self.send("x@b.test")
        pauses = []
        for number in range(1, 5):
            await self.until(
                lambda n=number: self.entries()[0].attempts == n and not self.entries()[0].active
            )
            [entry] = self.entries()
            pauses.append(round((entry.next_attempt - self.clock.seconds()) / 6))
            self.assertEqual(entry.last_reply, f"mx.b.test[192.0.2.1]:25 TLSv1.3: {LATER}")
            self.assertEqual(entry.last_attempt, self.clock.seconds())
            await self.pass_time(entry.next_attempt - self.clock.seconds() + 1)
        self.assertTrue(9 <= pauses[0] <= 11, pauses)
        self.assertTrue(all(18 <= one <= 22 for one in pauses[1:]), pauses)

    async def test_in_the_end_it_bounces(self) -> None:
        self.transfer.says = {"x@b.test": LATER}
        self.queue = self.make(retry=(3600.0,), expire=7000.0, warn_after=0)
        self.start()
        await self.send("x@b.test")
        for number in range(1, 3):
            await self.until(
                lambda n=number: self.entries()[0].attempts == n and not self.entries()[0].active
            )
            [entry] = self.entries()
            self.assertLessEqual(entry.next_attempt, START + 7000)
            await self.pass_time(entry.next_attempt - self.clock.seconds() + 1)
        await self.until(lambda: not self.entries() and not self.files())
        envelope, report = self.bounce(self.mda)
        self.assertEqual(envelope.recipients[0].address, addr("alice@a.test"))
        group = fields(report)[1]
        self.assertEqual((group["Action"], group["Status"]), ("failed", "4.2.0"))
        self.assertEqual(group["Remote-MTA"], "dns; mx.b.test")
        self.assertEqual(group["Diagnostic-Code"], f"smtp; {LATER}")

    async def test_the_sender_hears_of_a_delay_once(self) -> None:
        self.transfer.says = {"x@b.test": LATER}
        self.queue = self.make(retry=(3600.0,), warn_after=5000.0)
        self.start()
        await self.send("x@b.test")
        for number in range(1, 6):
            await self.until(
                lambda n=number: self.entries()[0].attempts == n and not self.entries()[0].active
            )
            self.assertEqual(self.bounces(self.mda), 0 if self.clock.seconds() < START + 5000 else 1)
            await self.pass_time(self.entries()[0].next_attempt - self.clock.seconds() + 1)
        _, report = self.bounce(self.mda)
        self.assertEqual(fields(report)[1]["Action"], "delayed")
        self.assertIsNotNone(fields(report)[1]["Will-Retry-Until"])

    # Notifications.

    async def test_a_failure_elsewhere_bounces_with_the_message(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        self.start()
        await self.send("x@b.test", "y@b.test", envid="e1")
        await self.until(lambda: not self.entries() and not self.files())
        envelope, report = self.bounce(self.mda)
        self.assertIsNone(envelope.reverse_path)
        self.assertEqual(report["Auto-Submitted"], "auto-replied")
        self.assertEqual(report["From"], "Mail Delivery System <MAILER-DAEMON@mail.a.test>")
        whole, group = fields(report)
        self.assertEqual(whole["Original-Envelope-Id"], "e1")
        self.assertEqual(group["Final-Recipient"], "rfc822;x@b.test")
        parts: Any = report.get_payload()
        self.assertEqual(parts[2].get_payload()[0]["Subject"], "hello")

    async def test_a_bounce_for_a_sender_elsewhere_goes_through_the_queue(self) -> None:
        self.mda.says = {"bob@a.test": NEVER}
        self.start()
        await self.send("bob@a.test", "carol@a.test", sender="sender@b.test")
        await self.until(lambda: not self.entries() and self.transfer.got)
        self.assertEqual(self.transfer.got[0][2], ("sender@b.test",))

    async def test_never_for_the_null_path(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        self.start()
        await self.send("x@b.test", sender=None)
        await self.until(lambda: not self.entries() and not self.files())
        self.assertEqual(self.mda.got, [])

    async def test_never_where_notify_says_so(self) -> None:
        self.transfer.says = {"x@b.test": NEVER, "y@b.test": NEVER, "z@b.test": NEVER}
        self.start()
        await self.send(
            Recipient(addr("x@b.test"), frozenset({"NEVER"})),
            Recipient(addr("y@b.test"), frozenset({"SUCCESS", "DELAY"})),
            Recipient(addr("z@b.test"), frozenset({"FAILURE"}), "rfc822;zed@old.test"),
        )
        await self.until(lambda: not self.entries() and not self.files())
        _, report = self.bounce(self.mda)
        self.assertEqual(
            [group["Original-Recipient"] for group in fields(report)[1:]], ["rfc822;zed@old.test"]
        )

    async def test_success_where_it_was_asked_for(self) -> None:
        wanted = frozenset({"SUCCESS"})
        self.start()
        await self.send(Recipient(addr("bob@a.test"), wanted))
        _, report = self.bounce(self.mda)
        self.assertEqual(fields(report)[1]["Action"], "delivered")
        await self.send(Recipient(addr("x@b.test"), wanted), Recipient(addr("bob@a.test"), wanted), id="q2")
        await self.until(lambda: not self.entries())
        actions = [fields(self.bounce(self.mda, n)[1])[1]["Action"] for n in range(self.bounces(self.mda))]
        self.assertEqual(sorted(actions), ["delivered", "delivered", "relayed"])

    async def test_success_is_the_next_hops_to_report_if_it_can(self) -> None:
        self.transfer.dsn = True
        self.start()
        await self.send(Recipient(addr("x@b.test"), frozenset({"SUCCESS"})))
        await self.until(lambda: not self.entries())
        self.assertEqual(self.bounces(self.mda), 0)

    async def test_a_bounce_that_bounces_is_dropped(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        self.mda.says = {"alice@a.test": NEVER}
        self.start()
        await self.send("x@b.test")
        await self.until(lambda: not self.entries() and not self.files())
        self.assertEqual(self.bounces(self.mda), 1)

    async def test_a_bounce_that_cannot_be_delivered_now_waits(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        self.mda.says = {"alice@a.test": LATER}
        self.start()
        await self.send("x@b.test")
        entry = await self.until(lambda: [one for one in self.entries() if one.recipient == "alice@a.test"])
        self.assertEqual(entry[0].sender, "")
        self.mda.says = {}
        await self.until(lambda: len(self.entries()) == 1)
        await self.pass_time(FIRST_PAUSE)
        await self.until(lambda: not self.entries() and not self.files())
        self.assertEqual(self.bounces(self.mda), 2)

    # Crashes.

    async def test_a_message_that_could_not_be_written_is_refused(self) -> None:
        with (
            mock.patch.object(
                entries, "insert_messages", side_effect=OperationalError("x", {}, OSError("disk full"))
            ),
            self.assertRaises(OperationalError),
        ):
            await self.send("x@b.test")
        self.assertEqual(self.entries(), [])

    async def test_killed_after_the_250_the_message_is_sent_by_the_next_process(self) -> None:
        await self.send("x@b.test")  # this process never starts its attempts
        self.start(self.make())
        await self.until(lambda: not self.entries() and not self.files())
        self.assertEqual(self.transfer.got, [("b.test", "q1", ("x@b.test",), TEXT)])

    async def test_killed_during_an_attempt_it_is_repeated_under_the_same_id(self) -> None:
        self.mda.hold = []
        sending = Deferred.fromCoroutine(self.send("bob@a.test", "x@b.test"))
        await self.until(lambda: self.mda.hold)
        self.assertTrue([entry for entry in self.entries() if entry.active])
        lost, self.mda.hold = self.mda.hold, None
        self.start(self.make())  # the same node: the lease is nobody's any more
        await self.until(lambda: not self.entries())
        self.assertEqual([(got[1], got[2]) for got in self.mda.got], [("q1", ("bob@a.test",))])
        for one in lost:
            one.callback(None)
        await sending

    async def test_another_nodes_lease_is_respected_until_it_ends(self) -> None:
        self.mda.hold = []
        sending = Deferred.fromCoroutine(self.send("bob@a.test", "x@b.test"))
        await self.until(lambda: self.mda.hold)
        lost, self.mda.hold = self.mda.hold, None
        other = self.make()
        other._owner = other._scheduler._owner = "other"
        self.start(other)
        await self.until(lambda: len(self.entries()) == 1)
        self.assertEqual(self.mda.got, [])
        await self.pass_time(901)
        await self.until(lambda: not self.entries())
        self.assertEqual(len(self.mda.got), 1)
        for one in lost:
            one.callback(None)
        await sending

    async def test_a_success_is_written_down_until_that_works(self) -> None:
        self.start()
        real, failures = entries.settle, [OSError("disk full"), OSError("disk full")]

        def failing(*args: Any) -> Any:
            if failures:
                raise failures.pop()
            return real(*args)

        with mock.patch.object(entries, "settle", failing):
            await self.send("x@b.test")
            await self.until(lambda: self.clock.advance(1) or not self.entries())
        self.assertEqual(failures, [])
        self.assertEqual(len(self.transfer.got), 1)
        self.flushLoggedErrors(OSError)

    async def test_a_crash_between_bounce_and_removal_repeats_the_bounces_id(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        self.queue.startService()
        with mock.patch.object(entries, "settle", side_effect=OSError("killed")):
            await self.send("x@b.test")
            await self.until(lambda: self.bounces(self.mda))
            stopping = self.queue.stopService()
            await self.until(
                lambda: len(self.clock.getDelayedCalls()) == 2
            )  # the pause before it tries again
            self.clock.advance(20)
            self.clock.advance(20)
            await stopping
            await self.work.transaction(lambda db: None)  # what it had under way has failed
        self.assertEqual(len(self.entries()), 1)
        self.start(self.make())
        await self.until(lambda: not self.entries())
        self.assertEqual(self.bounces(self.mda), 2)
        self.assertEqual(self.bounce(self.mda, 0)[0].id, self.bounce(self.mda, 1)[0].id)
        self.flushLoggedErrors(OSError)

    async def test_a_long_attempt_keeps_its_lease(self) -> None:
        self.transfer.hold = []
        self.start()
        await self.send("x@b.test")
        await self.until(lambda: self.transfer.hold)
        other = self.make()
        other._owner = other._scheduler._owner = "other"
        self.start(other)
        for _ in range(12):
            await self.pass_time(150)
            await self.until(lambda: self.lease_until() > self.clock.seconds() + 400)
        self.assertEqual(len(self.transfer.hold), 1)
        self.transfer.hold.pop().callback(None)
        await self.until(lambda: not self.entries())

    def lease_until(self) -> float:
        return self.database.read(lambda db: db.scalar(select(queue_entries.c.lease_until)))

    # Bounds.

    async def test_so_many_at_once_and_no_more_to_one_hop(self) -> None:
        queue = self.make(concurrency=6, concurrency_per_hop=2)
        self.transfer.hold = []
        for n in range(4):
            for domain in ("b.test", "c.test", "d.test", "e.test"):
                await self.send(f"x{n}@{domain}", id=f"q{n}{domain[0]}", queue=queue)
        self.start(queue)
        done = 0
        while done < 16:
            held = await self.until(lambda: self.transfer.hold)
            self.transfer.hold = []
            for one in held:
                done += 1
                one.callback(None)
        await self.until(lambda: not self.entries())
        self.assertEqual(max(self.transfer.most.values()), 2)
        self.assertLessEqual(self.transfer.most_in_all, 6)
        self.assertEqual(len({got[1] for got in self.transfer.got}), 16)
        self.assertEqual(len(self.transfer.got), 16)

    async def test_a_stop_lets_attempts_end_and_starts_no_more(self) -> None:
        self.transfer.hold = []
        await self.send("x@b.test")
        self.queue.startService()
        await self.until(lambda: self.transfer.hold)
        stopping = self.queue.stopService()
        await self.send("y@c.test", id="q2")
        self.assertNoResult(stopping)
        self.transfer.hold[0].callback(None)
        await stopping
        self.transfer.hold = None
        self.assertEqual([entry.recipient for entry in self.entries()], ["y@c.test"])

    async def test_a_stop_while_it_looks_begins_nothing_more(self) -> None:
        looks, may_look = threading.Event(), threading.Event()
        next_due = claims.next_due

        def slow(*args: Any) -> Any:
            looks.set()
            may_look.wait(PATIENCE)
            return next_due(*args)

        self.patch(claims, "next_due", slow)
        self.addCleanup(may_look.set)
        self.transfer.hold = []
        await self.send("x@b.test")
        self.queue.startService()
        await self.until(lambda: self.transfer.hold and looks.is_set())
        stopping = self.queue.stopService()
        await self.send("y@c.test", id="q2")
        may_look.set()
        self.transfer.hold[0].callback(None)
        held = self.transfer.hold
        await self.until(lambda: stopping.called or len(held) > 1)
        self.transfer.hold = held[1:]
        self.assertEqual(len(held), 1)
        self.assertEqual([entry.recipient for entry in self.entries()], ["y@c.test"])

    async def test_a_stop_gives_up_what_does_not_end(self) -> None:
        self.transfer.hold = []
        await self.send("x@b.test")
        self.queue.startService()
        await self.until(lambda: self.transfer.hold)
        self.transfer.hold = []  # nobody lets go of the one that is under way
        stopping = self.queue.stopService()
        # Its patience begins when no claim is under way any more: no one moment is right to let time pass.
        await self.until(lambda: self.clock.advance(1) or stopping.called)
        await stopping
        self.assertEqual(len(self.entries()), 1)

    async def test_a_hundred_recipients_a_transaction(self) -> None:
        self.start()
        await self.send(*(f"u{n}@b.test" for n in range(230)))
        await self.until(lambda: not self.entries())
        sizes = [len(got[2]) for got in self.transfer.got]
        self.assertEqual(sum(sizes), 230)
        self.assertLessEqual(max(sizes), 100)

    # The operator.

    async def test_the_operators_changes_are_noticed(self) -> None:
        self.transfer.says = {"x@b.test": LATER}
        self.start()
        await self.send("x@b.test")
        await self.until(lambda: self.entries()[0].attempts == 1)
        await self.work.transaction(verbs.hold, verbs.Choice(("q1",)))
        await self.pass_time(10_000)
        self.transfer.says = {}
        await self.work.transaction(verbs.release, verbs.Choice(("q1",)), self.clock.seconds())
        await self.until(lambda: self.clock.advance(5) or not self.entries())
        self.assertEqual(len(self.transfer.got), 2)


class TestOnSqlite(QueueContract, world.World):
    """SQLite."""


class TestWithFiles(QueueContract, world.World):
    """Messages too large for their rows."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(entering, "IN_ROW", -1)

    def spooled(self, *ids: str) -> list[str]:
        return list(ids)

    async def test_what_a_crash_left_in_the_spool_is_removed_after_an_hour(self) -> None:
        killed = mock.patch.object(entries, "insert_messages", side_effect=OSError("killed"))
        with killed, self.assertRaises(OSError):
            await self.send("x@b.test")
        await self.send("y@b.test", id="q2")
        self.transfer.says = {"y@b.test": LATER}
        (self.folder / "spool" / "tmp" / "q3").write_bytes(b"half")
        for age, left in ((3000.0, ["q1", "q2", "q3"]), (3700.0, ["q2"])):
            for path in (self.folder / "spool").rglob("q*"):
                os.utime(path, (START - age, START - age))
            queue = self.make()
            queue.startService()
            await queue._starting
            await queue.stopService()
            self.assertEqual(self.files(), left)

    async def test_a_spool_file_that_is_gone_does_not_stop_the_queue(self) -> None:
        await self.send("x@b.test")
        for path in (self.folder / "spool").rglob("q1"):
            path.unlink()
        self.start()
        await self.until(lambda: self.entries()[0].attempts == 1)
        self.flushLoggedErrors(FileNotFoundError)
        await self.send("y@b.test", id="q2")
        await self.until(lambda: len(self.entries()) == 1)


class TestOnPostgresql(QueueContract, world.World):
    """PostgreSQL."""

    kind = "postgresql"


class TestTake(world.World):
    """What the queue makes itself."""

    async def test_what_we_made_ourselves_is_kept_for_later(self) -> None:
        self.mda.says = {"bob@a.test": LATER}
        envelope = Envelope("n1", None, (Recipient(addr("bob@a.test")),))
        replies = await self.queue.take(envelope, Message.of(TEXT))
        self.assertEqual({reply.code for reply in replies.values()}, {250})
        self.assertEqual(len(self.entries()), 1)

    async def test_an_id_that_is_no_file_name_is_refused(self) -> None:
        for bad in ("../../x", "", ".x", "a/b", "x" * 300):
            with self.assertRaises(ValueError):
                await self.send("x@b.test", id=bad)
