"""Next hops that misbehave, to the end: what becomes of the entry, and what its last reply and the trail say of why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from sqlalchemy import Connection
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from mailstack.mta.hops import known_hops
from mailstack.mta.queue import Queue
from mailstack.mta.routes import Routes
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transfer import Transfer
from mailstack.net.dialogue import Timeouts
from mailstack.trail.notes import Note
from tests.mta import world
from tests.mta.test_backlog import Ports
from tests.net.next_hop import CLOSE, HANG, NextHop

MEGABYTE = b"250-" + b"x" * 1000 + b"\r\n"
GONE = "421 4.3.2 going down"
PIPELINING = ("PIPELINING",)

PATIENT = Timeouts(connect=60, greeting=60, command=60, data=60, block=60, end=60)

# What the server says, what it offers, the event in the trail (deferred: the entry waits), a part of the reason.
Case = tuple[dict[str, str | bytes], tuple[str, ...], str, str]
CASES: tuple[Case, ...] = (
    ({"": CLOSE}, (), "deferred", "connection lost"),
    ({"": "554 5.7.1 blocked"}, (), "bounced", "554 5.7.1 blocked"),
    ({"": "521 5.3.2 no mail"}, (), "bounced", "521 5.3.2 no mail"),
    ({"": GONE}, (), "deferred", GONE),
    ({"EHLO": GONE}, (), "deferred", GONE),
    ({"MAIL": GONE}, (), "deferred", GONE),
    ({"MAIL": GONE}, PIPELINING, "deferred", GONE),
    ({"RCPT": GONE}, (), "deferred", GONE),
    ({"RCPT": GONE}, PIPELINING, "deferred", GONE),
    ({"DATA": GONE}, (), "deferred", GONE),
    ({"DATA": GONE}, PIPELINING, "deferred", GONE),
    ({".": GONE}, (), "deferred", GONE),
    ({"MAIL": CLOSE}, PIPELINING, "deferred", "connection lost"),
    ({"DATA": CLOSE}, PIPELINING, "deferred", "connection lost"),
    ({"MAIL": "550 5.7.1 not you"}, PIPELINING, "bounced", "550 5.7.1 not you"),
    ({"RCPT": "450 4.2.0 greylisted"}, PIPELINING, "deferred", "450 4.2.0 greylisted"),
    ({"RCPT": "550 5.1.1 nobody", "DATA": CLOSE}, PIPELINING, "bounced", "550 5.1.1 nobody"),
    ({"DATA": "450 4.3.0 not now"}, PIPELINING, "deferred", "450 4.3.0 not now"),
    ({"DATA": "250 what"}, PIPELINING, "deferred", "Unexpected reply"),
    ({"DATA": "554 5.6.0 no"}, (), "bounced", "554 5.6.0 no"),
    ({".": "354 more"}, PIPELINING, "deferred", "Unexpected reply"),
    ({".": CLOSE}, PIPELINING, "deferred", "it may have been taken"),
    ({".": MEGABYTE * 2000}, (), "deferred", "a reply of more than 100 lines"),
    ({".": b"250-one\r\n550 two\r\n"}, PIPELINING, "deferred", "a reply of two codes, 250 and 550"),
    ({"MAIL": b"2x0 fine\r\n"}, PIPELINING, "deferred", "bad reply: not a reply"),
    ({"MAIL": b"25 fine\r\n"}, (), "deferred", "bad reply: not a reply"),
    ({"RCPT": b"999 fine\r\n"}, PIPELINING, "deferred", "bad reply: not a reply"),
    ({"RCPT": b"\r\n"}, (), "deferred", "bad reply: not a reply"),
    ({"DATA": b"\xff\xfe" * 2000}, (), "deferred", "a reply line of more than"),
    ({"EHLO": b"250" * 10000}, (), "deferred", "a reply line of more than"),
)


class Recorder:
    """A trail in memory."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def note(self, id: str, event: str, address: Any = None, message_id: Any = None, **detail: Any) -> None:
        self.notes.append(Note(0.0, id, event, None, None, detail))

    def write(self, db: Connection, notes: Sequence[Note]) -> None:
        self.notes += notes


class TestReasons(world.World):
    async def test_the_table(self) -> None:
        await self.check(CASES, PATIENT)

    async def test_one_that_says_nothing(self) -> None:
        greeting = ({"": HANG}, (), "deferred", "timed out waiting for greeting")
        await self.check((greeting,), replace(PATIENT, greeting=0.1))
        answer = ({".": HANG}, (), "deferred", "it may have been taken")
        await self.check((answer,), replace(PATIENT, end=0.1), 1)

    async def check(self, cases: Sequence[Case], patience: Timeouts, first: int = 0) -> None:
        hops = {f"c{n}.test": NextHop(says, offers) for n, (says, offers, _, _) in enumerate(cases, first)}
        for hop in hops.values():
            self.addCleanup(lambda hop=hop: Deferred.fromCoroutine(hop.close()))
        trail = Recorder()
        queue = self.all_of(hops, trail, patience)
        self.start(queue)
        for n in range(first, first + len(cases)):
            await self.send(f"bob@c{n}.test", id=f"q{n}", queue=queue)
        ends = ("deferred", "bounced", "sent")
        await self.until(lambda: sum(note.event in ends for note in trail.notes) >= len(cases))
        await self.until(lambda: not any(entry.active for entry in self.entries()))
        waiting = {entry.message_id: entry for entry in self.entries()}
        said = {note.id: note for note in trail.notes if note.event in ends}
        for n, (says, _, event, reason) in enumerate(cases, first):
            note = said[f"q{n}"]
            self.assertEqual(note.event, event, (says, note.detail))
            self.assertIn(reason, note.detail["reply"], says)
            self.assertEqual(note.detail["attempt"], 1)
            self.assertIn("127.0.0.1", note.detail["exchanger"])
            if event == "deferred":
                entry = waiting[f"q{n}"]
                self.assertEqual((entry.state, entry.attempts), ("waiting", 1), says)
                self.assertIn(reason, entry.last_reply or "", says)
                self.assertGreater(entry.next_attempt, self.clock.seconds())
            else:
                self.assertNotIn(f"q{n}", waiting)
        self.assertEqual(self.bounces(self.mda), sum(event == "bounced" for _, _, event, _ in cases))

    def all_of(self, hops: dict[str, NextHop], trail: Recorder, patience: Timeouts) -> Queue:
        config = MtaConfig(keep_connections=0.0)
        known = known_hops(config, self.clock, Random(1))
        transfer = Transfer(
            config, "mail.a.test", Ports(hops), self.work, reactor, timeouts=patience, hops=known
        )
        self.addCleanup(transfer.stopService)
        queue = Queue(
            config,
            self.work,
            Routes(self.directory, self.mda, transfer),
            self.clock,
            hostname="mail.a.test",
            spool=self.folder / "spool",
            random=Random(1),
            hops=known,
            trail=trail,
        )
        self.queues.append(queue)
        return queue
