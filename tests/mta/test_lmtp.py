"""LMTP: the checks of the policy are asked, and every recipient keeps an answer of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.lmtp import Lmtp
from mailstack.mta.relay_settings import LmtpConfig
from mailstack.net.checks import Changes, Verdict
from mailstack.net.conversation import Conversation
from mailstack.policy import Check, Surroundings
from mailstack.policy.panel import Panel, Seat
from mailstack.wire.smtp import Server
from tests.net.fakes import Box, Here, Town, Upgradable, reception

NO = Reply(550, "5.7.1", "We do not want this")
LATER = Reply(451, "4.7.1", "Later")


class Says(Check):
    """Answers each point as told, and remembers what it was asked."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(None, Surroundings("says", "mx.example.org", None, None, None))
        self.answers = answers
        self.asked: list[str] = []

    async def _at(self, point: str, now: Any) -> Verdict | None:
        assert now.connection.service == "lmtp"
        name = f"{point} {now.recipients[-1].address}" if point == "recipient" else point
        self.asked.append(name)
        answer = self.answers.get(name.replace(" ", "_").partition("@")[0])
        if isinstance(answer, Reply):
            raise Refused(answer)
        return answer

    async def connected(self, now: Any) -> Verdict | None:
        return await self._at("connected", now)

    async def hello(self, now: Any) -> Verdict | None:
        return await self._at("hello", now)

    async def mail(self, now: Any) -> Verdict | None:
        return await self._at("mail", now)

    async def recipient(self, now: Any) -> Verdict | None:
        return await self._at("recipient", now)

    async def message(self, now: Any, incoming: Any) -> Verdict | None:
        return await self._at("message", now)


class Queue(Box):
    """Delivers at once, or queues; which, it remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.queued: list[str] = []
        self.delivered: list[str] = []

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        answers = await super().accept(envelope, message)
        self.queued += [str(one) for one, reply in answers.items() if reply.accepted]
        return answers

    async def deliver(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        answers = await super().accept(envelope, message)
        self.delivered += [str(one) for one, reply in answers.items() if reply.accepted]
        return answers


class Program:
    """What delivers to us by LMTP."""

    def __init__(
        self, folder: Path, check: Says, services: tuple[str, ...] = ("lmtp",), host: str = "127.0.0.1"
    ) -> None:
        made, clock = reception(Here(), folder)
        made.policy = Panel([Seat("says", check, services, "tempfail", 60, 480)], clock)
        self.queue = Queue()
        service = Lmtp(
            LmtpConfig(),
            hostname="mx.example.org",
            directory=Town(),
            accepts=self.queue,
            reception=made,
        )
        self.transport = Upgradable()
        conversation = Conversation(Server(lmtp=True), service, clock, origin=(host, 4000))
        conversation.makeConnection(self.transport)
        self.say = lambda data: (conversation.dataReceived(data), self.heard())[1]
        self.greeting = self.heard()

    def heard(self) -> list[str]:
        said = self.transport.value().decode().split("\r\n")[:-1]
        self.transport.clear()
        return [line for line in said if not line.startswith("250-")]

    def deliver(self) -> list[str]:
        """A message for bob, alice and bob again: the replies to its end."""
        names = ("bob", "alice", "BOB")
        self.say(b"LHLO pc\r\nMAIL FROM:<x@b.example>\r\n")
        self.say(b"".join(b"RCPT TO:<%s@example.org>\r\n" % name.encode() for name in names))
        said = self.say(b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")[1:]
        assert self.say(b"NOOP\r\n") == ["250 2.0.0 Ok"]
        return said


def test_every_point_is_asked(tmp_path: Path) -> None:
    check = Says()
    program = Program(tmp_path, check)
    assert program.deliver() == ["250 2.0.0 Taken"] * 3
    recipients = [f"recipient {name}@example.org" for name in ("bob", "alice", "BOB")]
    assert check.asked == ["connected", "hello", "mail", *recipients, "message"]
    assert program.queue.delivered == ["bob@example.org", "alice@example.org"]


def test_only_where_the_operator_wants_it(tmp_path: Path) -> None:
    check = Says(message=NO)
    assert Program(tmp_path, check, ("relay", "submission")).deliver() == ["250 2.0.0 Taken"] * 3
    assert check.asked == []


def test_a_refused_connection(tmp_path: Path) -> None:
    program = Program(tmp_path, Says(connected=Reply(554, "5.7.1", "Not you")))
    assert program.greeting == ["554 5.7.1 Not you"]
    assert [said[:3] for said in program.say(b"LHLO pc\r\nQUIT\r\n")] == ["503", "221"]
    assert program.transport.disconnecting


def test_a_stranger_cannot_speak_lmtp(tmp_path: Path) -> None:
    check = Says()
    program = Program(tmp_path, check, host="192.0.2.9")
    assert program.greeting == ["554 5.7.1 LMTP is not for your network"]
    assert [said[:3] for said in program.say(b"LHLO pc\r\nQUIT\r\n")] == ["503", "221"]
    assert program.transport.disconnecting
    assert check.asked == []


@pytest.mark.parametrize(
    ("point", "said"), [("hello", b"LHLO pc\r\n"), ("mail", b"LHLO pc\r\nMAIL FROM:<>\r\n")]
)
def test_refused_before_there_are_recipients(tmp_path: Path, point: str, said: bytes) -> None:
    program = Program(tmp_path, Says(**{point: NO}))
    assert program.say(said)[-1] == str(NO)
    assert program.say(b"NOOP\r\n") == ["250 2.0.0 Ok"]


def test_a_refused_recipient_has_no_answer_at_the_end(tmp_path: Path) -> None:
    program = Program(tmp_path, Says(recipient_alice=NO))
    assert program.deliver() == ["250 2.0.0 Taken"] * 2
    assert program.queue.delivered == ["bob@example.org"]


@pytest.mark.parametrize("reply", [NO, LATER])
def test_a_refused_message_is_refused_for_each(tmp_path: Path, reply: Reply) -> None:
    program = Program(tmp_path, Says(message=reply))
    assert program.deliver() == [str(reply)] * 3
    assert program.queue.taken == []


def test_a_dropped_message_is_taken_for_each(tmp_path: Path) -> None:
    program = Program(tmp_path, Says(message=Verdict(discard=True)))
    assert [one[:9] for one in program.deliver()] == ["250 2.0.0"] * 3
    assert program.queue.taken == []


def changed(add: str | None = None, remove: str | None = None) -> Verdict:
    added = (Address.parse(add),) if add else ()
    removed = (Address.parse(remove),) if remove else ()
    return Verdict(changes=Changes(add_recipients=added, remove_recipients=removed))


def test_who_is_taken_away_is_no_failure(tmp_path: Path) -> None:
    program = Program(tmp_path, Says(message=changed(remove="bob@example.org")))
    program.queue.replies = {"alice@example.org": Reply(452, "4.2.2", "Full")}
    assert program.deliver() == ["250 2.0.0 Ok", "452 4.2.2 Full", "250 2.0.0 Ok"]


def test_who_is_added_goes_by_the_queue(tmp_path: Path) -> None:
    program = Program(tmp_path, Says(message=changed("copy@elsewhere.example", "bob@example.org")))
    program.queue.replies = {"alice@example.org": Reply(452, "4.2.2", "Full")}
    said = program.deliver()
    assert [one[:3] for one in said] == ["250", "452", "250"]
    assert (program.queue.queued, program.queue.delivered) == (["copy@elsewhere.example"], [])


@pytest.mark.parametrize(("reply", "each"), [(LATER, ["451"] * 3), (NO, ["550", "250", "550"])])
def test_who_is_added_cannot_be_queued(tmp_path: Path, reply: Reply, each: list[str]) -> None:
    """Later: nothing is delivered, or the next try would double it. Never: who was replaced hears it."""
    program = Program(tmp_path, Says(message=changed("copy@elsewhere.example", "bob@example.org")))
    program.queue.replies = {"copy@elsewhere.example": reply}
    assert [one[:3] for one in program.deliver()] == each
    assert program.queue.delivered == (["alice@example.org"] if reply is NO else [])
