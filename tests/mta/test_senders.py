"""Suppressed addresses, senders on hold, rates."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from mailstack.mail.reply import Reply
from mailstack.mta import claims, senders, suppression
from mailstack.mta.rates import Rates
from mailstack.mta.suppression import Suppressions, is_hard
from mailstack.mta.transfer import Result
from mailstack.work import Work
from tests.mta import world
from tests.mta.world import LATER, NEVER, addr


class TestSuppression(world.World):
    """What bounced for good is remembered."""

    async def test_a_hard_bounce_is_remembered_and_refused_with_the_reason(self) -> None:
        self.transfer.says = {"X@b.test": NEVER, "y@b.test": LATER, "z@b.test": Reply(550, "5.7.1", "spam")}
        suppressions = Suppressions(self.work, self.clock)
        self.assertIsNone(await suppressions.refusal(addr("x@b.test")))
        self.start()
        await self.send("X@b.test", "y@b.test", "z@b.test")
        await self.until(lambda: [one.attempts for one in self.entries()] == [1])
        self.clock.advance(suppression.FRESH)
        reply = await suppressions.refusal(addr("x@B.test"))
        assert reply is not None
        self.assertEqual((reply.code, reply.enhanced), (550, "5.1.1"))
        self.assertIn("mx.b.test[192.0.2.1]:25 TLSv1.3: 550 5.1.1 no such user", reply.text)
        self.assertIsNone(await suppressions.refusal(addr("y@b.test")))
        self.assertIsNone(await suppressions.refusal(addr("z@b.test")))
        self.clock.advance(31 * 86400)
        self.assertIsNone(await suppressions.refusal(addr("x@b.test")))

    async def test_cleared_it_is_free_at_once(self) -> None:
        suppressions = Suppressions(self.work, self.clock)
        self.database.write(suppression.suppress, "x@b.test", "gone", world.START, None)
        self.assertIsNotNone(await suppressions.refusal(addr("x@b.test")))
        self.assertTrue(self.database.write(suppression.clear, "X@b.test"))
        self.assertIsNone(await suppressions.refusal(addr("x@b.test")))
        self.assertFalse(self.database.write(suppression.clear, "x@b.test"))

    async def test_switched_off(self) -> None:
        queue = self.make(suppress=0.0)
        self.transfer.says = {"x@b.test": NEVER}
        self.start(queue)
        await self.send("x@b.test", queue=queue)
        await self.until(lambda: not self.entries())
        self.assertEqual(self.database.read(suppression.list_suppressed, world.START), [])


def test_what_is_hard() -> None:
    def hard(code: int, enhanced: str, text: str = "") -> bool:
        return is_hard(Result(Reply(code, enhanced, text)))

    assert hard(550, "5.1.1")
    assert hard(556, "5.1.10")
    assert hard(550, "5.0.0", "<x>: User unknown in table")
    assert not hard(550, "5.0.0", "blocked")
    assert not hard(554, "5.7.1", "user unknown")
    assert not hard(450, "4.1.1", "user unknown")
    assert not hard(552, "5.2.2", "mailbox full")


class TestSpray(world.World):
    """An account that behaves as if it were stolen."""

    async def test_too_many_recipients(self) -> None:
        queue = self.make(spray_recipients=3)
        self.directory.users.add("postmaster")
        self.start(queue)
        await self.send("a@b.test", "b@b.test", "c@b.test", queue=queue, authenticated="alice@a.test")
        await self.until(lambda: not self.entries())
        replies = await self.send("d@b.test", queue=queue, id="q2", authenticated="alice@a.test")
        self.assertEqual(str(replies["d@b.test"]), "250 2.0.0 Ok: queued as q2")
        await self.until(lambda: self.mda.got)
        [entry] = self.entries()
        self.assertEqual(entry.state, "held")
        self.assertIn("4 recipients in an hour, more than 3", entry.last_reply or "")
        [report] = self.mda.got
        self.assertEqual(report[2], ("postmaster@a.test",))
        self.assertIn(b"Subject: Held: mail of alice@a.test\r\n", report[3])
        self.assertIn(b"    mailstack queue drop --login alice@a.test\r\n", report[3])
        self.assertIn(b"    mailstack user password alice@a.test\r\n", report[3])
        await self.send("e@b.test", queue=queue, id="q3", authenticated="bob@a.test")
        await self.until(lambda: len(self.transfer.got) == 2)

    async def test_too_many_refusals_and_what_waits_is_held_too(self) -> None:
        queue = self.make(spray_refusals=1)
        self.directory.users.add("postmaster")
        self.transfer.says = {"x@b.test": NEVER, "y@b.test": NEVER, "z@c.test": LATER}
        self.start(queue)
        await self.send("z@c.test", queue=queue, id="q1", authenticated="alice@a.test")
        await self.until(lambda: [one.attempts for one in self.entries()] == [1])
        await self.send("x@b.test", "y@b.test", queue=queue, id="q2", authenticated="alice@a.test")
        await self.until(lambda: [one.state for one in self.entries()] == ["held"])
        [held] = self.database.read(senders.list_held)
        self.assertEqual(
            (held.login, held.reason), ("alice@a.test", "2 recipients refused in an hour, more than 1")
        )
        self.assertEqual(self.database.write(senders.release_sender, "alice@a.test", self.clock.seconds()), 1)
        self.assertIsNone(self.database.write(senders.release_sender, "alice@a.test", self.clock.seconds()))
        self.assertEqual([one.state for one in self.entries()], ["waiting"])

    async def test_an_hour_later_it_counts_anew(self) -> None:
        queue = self.make(spray_recipients=1)
        self.start(queue)
        for number in range(3):
            await self.send("x@b.test", queue=queue, id=f"q{number}", authenticated="alice@a.test")
            await self.pass_time(3700)
        await self.until(lambda: not self.entries())
        self.assertEqual(self.database.read(senders.list_held), [])

    async def test_a_senders_share_of_a_minute(self) -> None:
        queue = self.make(sender_recipients_per_minute=2)
        for number in range(4):
            await self.send("x@b.test", queue=queue, id=f"q{number}", authenticated="alice@a.test")
        due = sorted(one.next_attempt - world.START for one in self.entries())
        self.assertEqual(due, [0, 0, 30, 60])


class TestRates(world.World):
    """So many to a destination in a minute."""

    async def test_no_more_than_that(self) -> None:
        queue = self.make(messages_per_minute={"b.test": 12}, concurrency_per_hop=50)
        for number in range(5):
            await self.send("x@b.test", queue=queue, id=f"q{number}")
        await self.send("x@c.test", queue=queue, id="other")
        self.start(queue)
        await self.until(lambda: len(self.transfer.got) == 3)
        await self.until(lambda: len(self.entries()) == 3)
        await self.pass_time(4)
        self.assertEqual(len(self.transfer.got), 3)
        for seconds, expected in ((2, 4), (5, 5), (5, 6)):
            await self.pass_time(seconds)
            await self.until(lambda expected=expected: len(self.transfer.got) == expected)

    async def test_no_more_than_that_where_mail_goes_at_once(self) -> None:
        queue = self.make(messages_per_minute={"b.test": 12}, concurrency_per_hop=50)
        self.start(queue)
        for number in range(5):
            await self.send("x@b.test", queue=queue, id=f"q{number}")
        await self.until(lambda: len(self.entries()) <= 3)
        await self.pass_time(4)
        self.assertEqual(len(self.transfer.got), 2)

    async def test_what_comes_while_others_are_claimed_keeps_to_the_rate(self) -> None:
        work = SlowClaim(self.work)
        queue = self.make(work, messages_per_minute={"b.test": 12}, concurrency_per_hop=50)
        for number in range(2):
            await self.send("x@b.test", queue=queue, id=f"q{number}")
        self.start(queue)
        await work.claimed
        await self.send("x@b.test", queue=queue, id="q2")
        work.may_return.callback(None)
        await self.until(lambda: len(self.entries()) <= 1)
        self.assertEqual([got[1] for got in self.transfer.got], ["q0", "q1"])

    async def test_what_comes_while_others_are_claimed_keeps_to_the_window(self) -> None:
        """What the claim may take is promised to nobody else."""
        work = SlowClaim(self.work)
        queue = self.make(work, first_concurrency=2)
        self.transfer.hold = []
        for number in range(2):
            await self.send("x@b.test", queue=queue, id=f"q{number}")
        self.start(queue)
        await work.claimed
        for number in range(2, 4):
            await self.send("x@b.test", queue=queue, id=f"q{number}")
        work.may_return.callback(None)
        await self.until(lambda: len(self.transfer.hold or []) == 2)
        self.work_settled()
        await self.until(lambda: not self.entries())
        self.assertLessEqual(self.transfer.most["b.test"], 2)

    async def test_mail_that_goes_at_once_claims_nothing(self) -> None:
        work = SlowClaim(self.work)
        work.may_return.callback(None)
        queue = self.make(work)
        self.start(queue)
        await work.claimed
        await self.until(lambda: queue._scheduler._sleeping is not None)
        for number in range(20):
            await self.send(f"x@d{number}.test", queue=queue, id=f"q{number}")
        await self.until(lambda: not self.entries())
        self.assertEqual(len(self.transfer.got), 20)
        self.assertLessEqual(work.claims, 2)  # that of the start, and one of a slow machine's five seconds


class SlowClaim:
    """Work whose first claim tells what it found only when `may_return` fires."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.claims = 0
        self.claimed: Deferred[None] = Deferred()
        self.may_return: Deferred[None] = Deferred()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)

    async def transaction(self, function: Any, *args: Any) -> Any:
        found = await self._work.transaction(function, *args)
        self.claims += function is claims.claim
        if function is claims.claim and not self.claimed.called:
            self.claimed.callback(None)
            await self.may_return
        return found


def test_a_domain_is_meant_whether_it_has_a_route_or_not() -> None:
    rates = Rates({"b.test": 60, "c.test": 6, "*": 600}, {"b.test": "smtp://smart:25", "*": "smtp://all:25"})
    assert rates.left("smtp://smart:25", 0) == 10
    assert rates.left("c.test", 0) == 1
    assert rates.left("smtp://all:25", 0) == 100


def test_the_room_for_a_hop() -> None:
    rates = Rates({"b.test": 60}, {})
    assert (rates.left("b.test", 0), rates.left("c.test", 0)) == (10, None)
    for _ in range(10):
        rates.start("b.test", 0)
    assert rates.left("b.test", 0) == 0
    assert rates.left("b.test", 3) == 3
    assert rates.left("b.test", 1000) == 10
