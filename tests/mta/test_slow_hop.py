"""A next hop that is always just in time: what it holds up, and for how long at most."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.mta.exchangers import Target
from mailstack.mta.result import Result
from mailstack.mta.settings import MtaConfig, Route
from mailstack.mta.transaction import NOT_ASKED, Transaction
from mailstack.mta.transfer import Transfer
from mailstack.net.dialogue import Broken, Dialogue, Timeouts
from mailstack.wire.smtp.client import Offers
from tests.mta.test_transfer import Fixed
from tests.net.fakes import Here

JUST_IN_TIME = 299.0
HOUR = 3600.0
TARGET = Target("mx.b.test", "192.0.2.1", 25)


class Late(StringTransport):
    """A server that says 250 after so many seconds, command by command, and to content `taken` times.

    To DATA it says 354 after two minutes at most: longer is none in time.
    """

    def __init__(self, clock: Clock, seconds: float, taken: int = 1) -> None:
        super().__init__()
        self.clock = clock
        self.seconds = seconds
        self.taken = taken
        self.asked: list[str] = []
        self.dialogue = Dialogue(clock, Timeouts())
        self.dialogue.makeConnection(self)

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def write(self, data: bytes) -> None:
        """One command after another: the next is looked at when the last was answered."""
        if self.asked[-1:] == ["DATA"]:
            self.asked.append("content")
            for n in range(self.taken):
                self.clock.callLater(self.seconds * (n + 1), self.dialogue.dataReceived, b"250 2.0.0 Ok\r\n")
            return
        wait = 0.0
        for line in data.splitlines():
            self.asked.append(line.split(b" ")[0].decode())
            is_data = line == b"DATA"
            wait += min(self.seconds, 119.0) if is_data else self.seconds
            reply = b"354 Go\r\n" if is_data else b"250 2.0.0 Ok\r\n"
            self.clock.callLater(wait, self.dialogue.dataReceived, reply)

    def abortConnection(self) -> None:
        self.dialogue.connectionLost(Failure(ConnectionAbortedError()))


def outcome(clock: Clock, talk: Any, most: float = 100 * HOUR) -> tuple[Any, float]:
    """What the talk comes to, and after how many seconds."""
    found: list[Any] = []
    began = clock.seconds()
    Deferred.fromCoroutine(talk).addBoth(found.append)
    while not found:
        assert clock.seconds() - began < most, "it never ends"
        clock.advance(1)
    return found[0], clock.seconds() - began


def envelope(recipients: int) -> Envelope:
    to = tuple(Recipient(Address.parse(f"r{n}@b.test")) for n in range(recipients))
    return Envelope("x", Address.parse("a@a.test"), to)


def transaction(late: Late, *offers: str, target: Target = TARGET) -> Transaction:
    known = Offers.read(Reply(250, "", "\n".join(("mx.b.test", *offers))))
    return Transaction(late.dialogue, target, known, Here(), 0.0)  # type: ignore[arg-type]


def test_whom_it_was_too_slow_for_waits_and_the_others_get_the_message() -> None:
    clock = Clock()
    late = Late(clock, JUST_IN_TIME)
    results, seconds = outcome(clock, transaction(late).run(envelope(100), Message.of(b"x\r\n")))
    assert len(results) == 100
    taken = [one for one in results.values() if one.reply.code == 250]
    assert [one.reply for one in results.values() if one not in taken] == [NOT_ASKED] * (100 - len(taken))
    assert 1 < len(taken) < 12
    assert late.asked == ["MAIL", *["RCPT"] * len(taken), "DATA", "content"]
    assert seconds < HOUR + 600


def test_pipelined_it_is_broken_off() -> None:
    clock = Clock()
    late = Late(clock, JUST_IN_TIME)
    run = transaction(late, "PIPELINING").run(envelope(40), Message.of(b"x\r\n"))
    failure, seconds = outcome(clock, run)
    assert failure.check(Broken)
    assert "reply to RCPT: its replies took 3600 s in all" in str(failure.value)
    assert HOUR - 2 < seconds < HOUR + 2


def test_lmtp_has_an_hour_for_all_that_it_says_of_the_content() -> None:
    clock = Clock()
    late = Late(clock, 50, taken=200)
    target = replace(TARGET, route=Route("mx.b.test", 24, "lmtp"))
    results, seconds = outcome(
        clock, transaction(late, "PIPELINING", target=target).run(envelope(40), Message.of(b"x\r\n"))
    )
    codes = [one.reply.code for one in results.values()]
    assert codes == sorted(codes)
    assert set(codes) == {250, 451}
    assert seconds < HOUR + 60


def test_one_that_is_slow_but_comes_to_an_end_is_heard() -> None:
    """A tarpit of half a minute at each of a hundred recipients."""
    clock = Clock()
    late = Late(clock, 30)
    results, _ = outcome(clock, transaction(late).run(envelope(100), Message.of(b"x\r\n")))
    assert {one.reply.code for one in results.values()} == {250}


def test_the_reply_to_the_content_has_its_time_whatever_was_before() -> None:
    clock = Clock()
    late = Late(clock, 1)
    late.dialogue._waited = HOUR - 0.5
    late.asked = ["DATA"]
    late.seconds = 590
    replies, seconds = outcome(clock, late.dialogue.send_content(Message.of(b"x\r\n"), Here()))  # type: ignore[arg-type]
    assert (replies, seconds) == ([Reply(250, "2.0.0", "Ok")], 590)
    failure, seconds = outcome(clock, late.dialogue.command(b"RSET\r\n"))
    assert failure.check(Broken)
    assert seconds <= 1


def test_for_the_next_message_a_kept_connection_has_all_its_time_again() -> None:
    clock = Clock()
    late = Late(clock, JUST_IN_TIME)
    for _ in range(30):
        late.dialogue.begin_attempt()
        reply, _ = outcome(clock, late.dialogue.command(b"NOOP\r\n"))
        assert reply.code == 250


@pytest.mark.parametrize(("seconds", "connections"), [(10.0, 50), (1000.0, 4)])
def test_many_connections_for_one_message_have_an_hour_together(seconds: float, connections: int) -> None:
    """As a server may ask for by LIMITS MAILMAX=1 RCPTMAX=1."""
    clock = Clock()
    transfer = Transfer(MtaConfig(), "a.test", Fixed([TARGET]), Here(), clock)  # type: ignore[arg-type]
    tried = 0

    async def one_each(_plan: Any, _target: Any, _security: Any, some: Envelope, _message: Any) -> Any:
        nonlocal tried
        tried += 1
        clock.advance(seconds)
        return {some.recipients[0].address: Result(Reply(250, "2.0.0", "Ok"))}

    with mock.patch.object(transfer, "_protected", one_each):
        results, _ = outcome(clock, transfer.send("b.test", envelope(50), Message.of(b"x\r\n")))
    assert tried == connections
    assert len(results) == 50
    codes = [one.reply.code for one in results.values()]
    assert codes == [250] * connections + [451] * (50 - connections)
