"""The milter client against a filter of our own that answers everything there is, by TCP and Unix socket."""

from __future__ import annotations

import base64
import struct
import tempfile
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from time import monotonic
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from mailstack.msa.settings import MsaConfig
from mailstack.msa.submission import Submission
from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import RelayConfig
from mailstack.policy import Surroundings
from mailstack.policy.milter import AT_ONCE, Milter, MilterSettings
from mailstack.policy.milter_changes import MOST_CHANGES, Edited
from mailstack.policy.milter_link import MOST_UNREAD, MilterLink
from mailstack.policy.panel import Panel, Seat
from mailstack.wire import milter
from tests.directory.inline import now
from tests.net.fakes import Box, Connection, Here, Town, reception
from tests.net.own_time import OwnTime
from tests.net.sign_ins import sign_in_with
from tests.running import PATIENCE

OFFICE = (ip_network("192.0.2.0/24"),)  # of the tests' clients; they may sign in without TLS
CONTINUE = b"\0\0\0\x01c"
NAMES = {"C": "connect", "H": "helo", "M": "mail", "R": "rcpt", "T": "data", "L": "header", "N": "eoh", "B": "body",
         "E": "eom", "A": "abort", "Q": "quit", "O": "options"}  # fmt: skip


def packet(command: str, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command.encode() + data


class Filter(Protocol):
    """Answers each step as its factory says, else with continue."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters
        self.buffer = b""

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) > 4 and len(self.buffer) >= 4 + int.from_bytes(self.buffer[:4], "big"):
            length = int.from_bytes(self.buffer[:4], "big")
            one, self.buffer = self.buffer[4 : 4 + length], self.buffer[4 + length :]
            self.heard(chr(one[0]), one[1:])

    def heard(self, command: str, data: bytes) -> None:
        filters = self.filters
        if command == "D":
            words = data[1:].split(b"\0")[:-1]
            filters.macros[NAMES[chr(data[0])]] = dict(zip(words[::2], words[1::2], strict=True))
            return
        name = NAMES[command]
        filters.said.append((name, data))
        if name == "options":
            self.transport.write(packet("O", struct.pack("!III", 6, 0x1FF, filters.steps) + filters.wanted))
        elif name not in ("abort", "quit"):
            answer = filters.answers.get(name, CONTINUE)
            if callable(answer):
                answer = answer(data)
            if answer is None:
                self.transport.abortConnection()
            else:
                self.transport.write(answer)

    def connectionLost(self, reason: Any = None) -> None:
        self.filters.lost += 1


class Filters(Factory):
    noisy = False

    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []
        self.macros: dict[str, dict[bytes, bytes]] = {}
        self.answers: dict[str, bytes | Callable[[bytes], bytes | None] | None] = {}
        self.steps = 0
        self.wanted = b""
        self.lost = 0

    def buildProtocol(self, addr: Any) -> Filter:
        return Filter(self)

    def steps_said(self) -> list[str]:
        return [name for name, _ in self.said]

    def told(self, name: str) -> list[bytes]:
        return [data for step, data in self.said if step == name]


class WithFilter(TestCase):
    unix = False

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.filters = Filters()
        self.box = Box()
        made, self.clock = reception(Here(), folder / "spool")
        if self.unix:
            path = str(folder / "m")
            port = reactor.listenUNIX(path, self.filters)
            address = f"unix:{path}"
        else:
            port = reactor.listenTCP(0, self.filters, interface="127.0.0.1")
            address = f"inet:127.0.0.1:{port.getHost().port}"
        self.port = port
        self.listening = True
        self.addCleanup(self.close)
        self.made = made
        self.address = address
        self.connections: list[Connection] = []
        self.relay = Relay(
            RelayConfig(), hostname="mx.example.org", directory=Town(), accepts=self.box, reception=made
        )
        self.arrange()

    def arrange(
        self, on_error: Any = "tempfail", count: int = 1, services: Any = ("relay",), **settings: Any
    ) -> None:
        around = Surroundings("milter", "mx.example.org", OwnTime(self.clock), None, None)
        checks = [Milter(MilterSettings(self.address, **settings), around) for _ in range(count)]
        seats = [Seat(f"milter{n}", check, services, on_error, 60, 480) for n, check in enumerate(checks)]
        self.made.policy = Panel(seats, self.clock)

    async def close(self) -> None:
        for connection in self.connections:
            connection.vanish()
        if self.listening:
            await self.port.stopListening()
        await deferLater(reactor, 0.02)

    async def until(self, check: Callable[[], Any]) -> None:
        give_up = monotonic() + PATIENCE
        while monotonic() < give_up:
            if check():
                return
            await deferLater(reactor, 0.002)
            self.clock.advance(0.001)  # a connection is tried by its pace, too
        self.fail(f"it never happened; the filter heard {self.filters.steps_said()}")

    async def heard(self, connection: Connection) -> str:
        """What the server says, once it says something."""
        await self.until(lambda: connection.transport.value())
        return connection.heard()

    async def connect(self) -> Connection:
        connection = Connection(self.relay, self.clock)
        self.connections.append(connection)
        if not connection.greeting:
            connection.greeting = await self.heard(connection)
        return connection

    async def converse(self, connection: Connection, *lines: str) -> str:
        """Say lines one after another; all answers."""
        said = ""
        for line in lines:
            connection.conversation.dataReceived(f"{line}\r\n".encode())
            if line not in ("Subject: hello", "", "world"):
                said = await self.heard(connection)
        return said

    async def deliver(self, connection: Connection | None = None, content: bytes = b"") -> str:
        connection = connection or await self.connect()
        said = await self.converse(
            connection, "EHLO mta.example.net", "MAIL FROM:<x@example.net>", "RCPT TO:<bob@example.org>"
        )
        if not said.startswith("250"):
            return said
        await self.converse(connection, "DATA")
        connection.conversation.dataReceived((content or b"Subject: hello\r\n\r\nworld\r\n") + b".\r\n")
        return await self.heard(connection)

    def message(self) -> str:
        [(_, data)] = self.box.taken
        return data.decode().partition("+0000\r\n")[2]

    # The steps.

    async def test_every_step_is_told(self) -> None:
        connection = await self.connect()
        self.assertTrue((await self.deliver(connection)).startswith("250"))
        connection.say("QUIT")
        connection.vanish()
        await self.until(lambda: "quit" in self.filters.steps_said())
        self.assertEqual(
            self.filters.steps_said(),
            ["options", "connect", "helo", "mail", "rcpt", "data", "header", "eoh", "body", "eom", "quit"],
        )
        self.assertEqual(self.filters.told("connect"), [b"[192.0.2.1]\x004\x9c\x40192.0.2.1\0"])
        self.assertEqual(self.filters.told("mail"), [b"<x@example.net>\0"])
        self.assertEqual(self.filters.told("header"), [b"Subject\0hello\0"])
        self.assertEqual(self.filters.told("body"), [b"world\r\n"])
        macros = self.filters.macros
        self.assertEqual(macros["connect"][b"j"], b"mx.example.org")
        self.assertEqual(macros["connect"][b"{daemon_name}"], b"relay")
        self.assertEqual(macros["mail"][b"{mail_addr}"], b"x@example.net")
        self.assertEqual(macros["mail"][b"i"].decode(), self.box.taken[0][0].id)
        self.assertEqual(macros["rcpt"][b"{rcpt_addr}"], b"bob@example.org")
        self.assertEqual(self.message(), "Subject: hello\r\n\r\nworld\r\n")

    async def test_who_has_signed_in_is_told(self) -> None:
        """By these a filter knows that it is to sign, and not to judge."""
        town = Town()
        self.relay = Submission(
            MsaConfig(),
            hostname="mail.example.org",
            directory=town,
            accepts=self.box,
            reception=self.made,
            sign_in=sign_in_with(town, self.clock, OFFICE),
        )
        self.arrange(services=("submission",))
        connection = await self.connect()
        secret = base64.b64encode(b"\0alice@example.org\0secret").decode()
        await self.converse(
            connection, "EHLO pc", f"AUTH PLAIN {secret}", "MAIL FROM:<alice@example.org> BODY=8BITMIME"
        )
        macros = self.filters.macros["mail"]
        self.assertEqual(macros[b"{auth_authen}"], b"alice@example.org")
        self.assertEqual(macros[b"{auth_type}"], b"PLAIN")
        self.assertEqual(macros[b"{mail_host}"], b"example.org")

    async def test_what_it_does_not_want_it_is_not_told(self) -> None:
        self.filters.steps = 0x27F | 0x100000  # nothing but the end, the header fields with their blanks
        self.filters.wanted = b"\0\0\0\x05\0"
        self.assertTrue((await self.deliver()).startswith("250"))
        self.assertEqual(self.filters.steps_said(), ["options", "eom"])
        self.assertEqual(self.filters.macros, {"eom": {}})

    async def test_what_it_does_not_answer_is_not_waited_for(self) -> None:
        self.filters.steps = 0xFF080
        silent = dict.fromkeys(("connect", "helo", "mail", "rcpt", "data", "header", "eoh", "body"), b"")
        self.filters.answers = {**silent}
        self.assertTrue((await self.deliver()).startswith("250"))
        self.assertEqual(self.filters.steps_said()[-1], "eom")

    async def test_a_big_body_in_chunks_until_it_has_seen_enough(self) -> None:
        body = b"x" * 78 + b"\r\n"
        self.assertTrue((await self.deliver(content=b"S: b\r\n\r\n" + body * 5000)).startswith("250"))
        chunks = self.filters.told("body")
        self.assertEqual((b"".join(chunks), {len(one) for one in chunks[:-1]}), (body * 5000, {65535}))
        self.filters.said.clear()
        self.filters.answers["body"] = packet("s")
        self.assertTrue((await self.deliver(content=b"S: b\r\n\r\n" + body * 5000)).startswith("250"))
        self.assertEqual((len(self.filters.told("body")), self.filters.steps_said()[-1]), (1, "eom"))

    async def test_folded_fields_and_blanks(self) -> None:
        content = b"A:no blank\r\nB:  two\r\n\tfolded \r\nno-field\r\n\r\n"
        await self.deliver(content=content)
        self.assertEqual(self.filters.told("header"), [b"A\0no blank\0", b"B\0 two\n\tfolded \0"])
        self.filters.said.clear()
        self.filters.steps = 0x100000
        await self.deliver(content=content)
        self.assertEqual(self.filters.told("header"), [b"A\0no blank\0", b"B\0  two\n\tfolded \0"])

    async def test_reset_aborts(self) -> None:
        connection = await self.connect()
        await self.converse(connection, "EHLO x", "MAIL FROM:<>", "RSET", "MAIL FROM:<>", "EHLO y")
        self.assertEqual(
            self.filters.steps_said(),
            ["options", "connect", "helo", "mail", "abort", "mail", "abort", "helo"],
        )

    # Answers.

    async def test_each_step_may_refuse(self) -> None:
        for step in ("connect", "helo", "mail", "rcpt", "data", "header", "eoh", "body", "eom"):
            for answer, reply in (
                (packet("r"), "550 5.7.1 Rejected by policy"),
                (packet("t"), "451 4.7.1 Service unavailable; try again later"),
                (packet("y", b"552 5.2.3 Own words\0"), "552 5.2.3 Own words"),
                (packet("y", b"450 4.2.3 Own words\0"), "450 4.2.3 Own words"),
                (packet("f"), "421 4.7.1 Service unavailable; closing"),
            ):
                self.filters.answers = {step: answer}
                connection = await self.connect()
                if step == "connect":
                    await self.greeted(connection, reply)
                else:
                    self.assertEqual((step, await self.refused(connection, step)), (step, f"{reply}\r\n"))
                    if answer != packet("f"):
                        self.assertEqual(connection.say("NOOP"), "250 2.0.0 Ok\r\n")
        self.assertEqual(self.box.taken, [])

    async def greeted(self, connection: Connection, reply: str) -> None:
        """In the same words, but a greeting has 421 and 554 only (RFC 5321 section 4.3.2)."""
        code = "421" if reply[0] == "4" else "554"
        self.assertEqual(connection.greeting, f"{code}{reply[3:]}\r\n")
        self.assertEqual(connection.transport.disconnecting, code == "421")
        if code == "554":
            for line in ("EHLO mta.example.net", "MAIL FROM:<x@example.net>", "NOOP"):
                refused = await self.converse(connection, line)
                self.assertEqual(refused, "503 5.5.1 Bad sequence of commands\r\n")
            self.assertEqual((await self.converse(connection, "QUIT"))[:3], "221")
            self.assertTrue(connection.transport.disconnecting)

    async def refused(self, connection: Connection, step: str) -> str:
        said = await self.converse(connection, "EHLO mta.example.net")
        if step == "helo":
            return said
        said = await self.converse(connection, "MAIL FROM:<x@example.net>")
        if step == "mail":
            return said
        said = await self.converse(connection, "RCPT TO:<bob@example.org>")
        if step == "rcpt":
            return said
        return await self.converse(connection, "DATA", "Subject: hello", "", "world", ".")

    async def test_a_refused_recipient_is_not_the_last(self) -> None:
        self.filters.answers["rcpt"] = lambda data: packet("r") if b"alice" in data else CONTINUE
        connection = await self.connect()
        await self.converse(connection, "EHLO x", "MAIL FROM:<>")
        self.assertEqual((await self.converse(connection, "RCPT TO:<alice@example.org>"))[:3], "550")
        self.assertEqual((await self.converse(connection, "RCPT TO:<bob@example.org>"))[:3], "250")

    async def test_what_it_accepts_it_is_not_told_more_of(self) -> None:
        for step, last in (("connect", "connect"), ("helo", "helo"), ("mail", "mail"), ("rcpt", "rcpt"),
                           ("data", "data"), ("header", "header"), ("eoh", "eoh"), ("body", "body")):  # fmt: skip
            self.filters.answers = {step: packet("a")}
            self.filters.said.clear()
            connection = await self.connect()
            self.assertTrue((await self.deliver(connection)).startswith("250"))
            told = [name for name in self.filters.steps_said() if name not in ("abort", "quit")]
            self.assertEqual(told[-1], last)
            self.filters.answers = {}
            self.assertTrue((await self.deliver(connection)).startswith("250"))
            again = self.filters.steps_said().count("eom")
            self.assertEqual(again, 0 if step in ("connect", "helo") else 1)

    async def test_discard_at_any_step(self) -> None:
        for step in ("connect", "helo", "mail", "rcpt", "data", "header", "eoh", "body", "eom"):
            self.filters.answers = {step: packet("d")}
            self.assertTrue((await self.deliver()).startswith("250 2.0.0 Ok: queued as"), step)
        self.assertEqual(self.box.taken, [])

    async def test_progress_gives_it_more_time(self) -> None:
        self.filters.answers["eom"] = packet("p") * 3 + CONTINUE
        self.assertTrue((await self.deliver()).startswith("250"))

    async def test_several_in_order(self) -> None:
        self.arrange(count=2)
        heard: list[bytes] = []
        self.filters.answers["eom"] = lambda _: packet("h", b"X-Seen\0%d\0" % len(heard)) + CONTINUE
        self.filters.answers["header"] = lambda data: heard.append(data) or CONTINUE
        self.assertTrue((await self.deliver()).startswith("250"))
        self.assertEqual(self.message(), "Subject: hello\r\nX-Seen: 1\r\nX-Seen: 3\r\n\r\nworld\r\n")

    # Changes.

    async def changed(self, *changes: bytes, content: bytes = b"", steps: int = 0) -> str:
        self.filters.steps = steps
        self.filters.answers["eom"] = b"".join(changes) + CONTINUE
        self.assertTrue((await self.deliver(content=content)).startswith("250"))
        return self.message()

    async def test_header_fields(self) -> None:
        message = await self.changed(
            packet("h", b"X-Last\0one\n two\r\nevil: injected\0"),
            packet("i", struct.pack("!I", 0) + b"X-First\0a\0"),
            packet("i", struct.pack("!I", 1) + b"X-Before\0b\0"),
            packet("i", struct.pack("!I", 4) + b"X-Fourth\0c\0"),
            packet("i", struct.pack("!I", 99) + b"X-End\0d\0"),
            packet("m", struct.pack("!I", 2) + b"a\0changed\0"),
            packet("m", struct.pack("!I", 1) + b"A\0\0"),
            packet("m", struct.pack("!I", 7) + b"New\0x\0"),
            packet("m", struct.pack("!I", 7) + b"None\0\0"),
            packet("h", b"Bad Name\0x\0"),
            content=b"A: 1\r\nA: 2\r\nB: 3\r\n\r\nworld\r\n",
        )
        self.assertEqual(
            message,
            "X-Before: b\r\nX-First: a\r\na: changed\r\nX-Fourth: c\r\nB: 3\r\n"
            "X-Last: one\r\n two\r\n\tevil: injected\r\nX-End: d\r\nNew: x\r\n\r\nworld\r\n".replace(
                "a: changed\r\nX-Fourth: c\r\n", "X-Fourth: c\r\na: changed\r\n"
            ),
        )

    async def test_blanks_where_agreed(self) -> None:
        message = await self.changed(packet("h", b"X\0 y\0"), packet("h", b"Z\0z\0"), steps=0x100000)
        self.assertEqual(message, "Subject: hello\r\nX: y\r\nZ:z\r\n\r\nworld\r\n")

    async def test_a_new_body(self) -> None:
        parts = [b"part %d " % number * 4000 for number in range(40)]
        message = await self.changed(*(packet("b", part) for part in parts))
        self.assertEqual(message, "Subject: hello\r\n\r\n" + b"".join(parts).decode())

    async def test_the_envelope(self) -> None:
        await self.changed(
            packet("e", b"<new@example.net>\0"),
            packet("+", b"<alice@example.org>\0"),
            packet("2", b"<sales@example.org>\0NOTIFY=NEVER\0"),
            packet("-", b"<BOB@example.org>\0"),
            packet("+", b"nonsense\0"),
            packet("q", b"suspicious\0"),
        )
        envelope = self.box.taken[0][0]
        self.assertEqual(str(envelope.reverse_path), "new@example.net")
        self.assertEqual(
            [str(one.address) for one in envelope.recipients], ["alice@example.org", "sales@example.org"]
        )
        self.assertTrue(envelope.junk)

    async def test_without_recipients_it_is_dropped(self) -> None:
        self.filters.answers["eom"] = packet("-", b"<bob@example.org>\0") + CONTINUE
        self.assertTrue((await self.deliver()).startswith("250"))
        self.assertEqual(self.box.taken, [])

    async def test_what_it_changes_in_a_message_that_it_refuses_is_forgotten(self) -> None:
        self.filters.answers["eom"] = packet("b", b"x" * 100_000) + packet("r")
        self.assertTrue((await self.deliver()).startswith("550 5.7.1"))

    # Failures.

    async def test_gone_at_any_step_and_back_for_the_next_message(self) -> None:
        for step in ("helo", "mail", "rcpt", "data", "header", "eoh", "body", "eom"):
            self.filters.answers = {step: None}
            connection = await self.connect()
            said = await self.deliver(connection) if step not in ("helo", "mail") else ""
            said = (
                said or await self.converse(connection, "EHLO x", "MAIL FROM:<>") if step == "mail" else said
            )
            said = said or await self.converse(connection, "EHLO x")
            self.assertEqual(said, "451 4.7.1 Cannot check this now; try again later\r\n", step)
            self.filters.answers = {}
            self.assertEqual((await self.converse(connection, "RSET"))[:3], "250")
            self.assertTrue((await self.deliver(connection)).startswith("250 2.0.0"), step)
        self.assertEqual(len(self.box.taken), 8)

    async def test_nonsense_and_silence_are_failures(self) -> None:
        for answer in (packet("?"), b"\0\0\0\0", packet("h", b"X\0y\0"), packet("4")):
            self.filters.answers = {"mail": answer}
            connection = await self.connect()
            self.assertEqual((await self.converse(connection, "EHLO x", "MAIL FROM:<>"))[:3], "451")
        self.filters.answers = {"mail": b""}
        connection = await self.connect()
        await self.converse(connection, "EHLO x")
        self.filters.said.clear()
        connection.conversation.dataReceived(b"MAIL FROM:<>\r\n")
        await self.until(lambda: "mail" in self.filters.steps_said())
        self.clock.advance(31)
        self.assertEqual((await self.heard(connection))[:3], "451")

    async def test_too_many_changes_are_a_failure(self) -> None:
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.filters.answers["eom"] = packet("h", b"X\0y\0") * (MOST_CHANGES + 1) + CONTINUE
        self.assertEqual(await self.deliver(), "451 4.7.1 Cannot check this now; try again later\r\n")
        [event] = [event for event in events if event.get("log_namespace") == "mailstack.policy"]
        self.assertEqual((event["why"], event["log_level"].name), ("it changes too much", "error"))
        self.assertEqual(self.box.taken, [])

    async def test_after_a_few_changes_others_have_their_turn(self) -> None:
        """Each may look through a long header section; here our time stands still, so that turn never ends."""
        applied = 0
        apply = Edited.apply

        async def counted(edited: Edited, event: milter.Event) -> None:
            nonlocal applied
            applied += 1
            await apply(edited, event)

        self.patch(Edited, "apply", counted)
        self.filters.answers["eom"] = packet("h", b"X-New\0y\0") * 900 + CONTINUE
        connection = await self.connect()
        await self.converse(
            connection, "EHLO x", "MAIL FROM:<x@example.net>", "RCPT TO:<bob@example.org>", "DATA"
        )
        connection.conversation.dataReceived(b"Subject: hello\r\n\r\nworld\r\n.\r\n")
        give_up = monotonic() + PATIENCE
        while applied < AT_ONCE and monotonic() < give_up:
            await deferLater(reactor, 0.002)
        for _ in range(10):
            await deferLater(reactor, 0)
        self.assertEqual(applied, AT_ONCE)
        self.assertEqual((await self.heard(connection))[:3], "250")
        self.assertEqual((applied, self.message().count("X-New: y")), (900, 900))

    async def test_unreachable(self) -> None:
        await self.port.stopListening()
        self.listening = False
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        connection = await self.connect()
        self.assertEqual(connection.greeting, "421 4.7.1 Cannot check this now; try again later\r\n")
        [event] = [event for event in events if event.get("log_namespace") == "mailstack.policy"]
        self.assertIn("cannot connect to", event["why"])
        self.arrange(on_error="pass")
        self.assertTrue((await self.deliver()).startswith("250"))
        self.assertEqual(len(self.box.taken), 1)

    async def test_a_client_that_vanishes_leaves_no_connection(self) -> None:
        connection = await self.connect()
        await self.converse(connection, "EHLO x", "MAIL FROM:<>")
        connection.vanish()
        await self.until(lambda: self.filters.lost)
        self.assertEqual(self.filters.steps_said()[-2:], ["abort", "quit"])


class WithUnixSocket(WithFilter):
    """The same by a Unix socket."""

    unix = True


class Paused:
    """A transport that knows whether it reads."""

    reading = True

    def registerProducer(self, producer: Any, streaming: bool) -> None: ...

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True


def test_what_nobody_has_asked_for_is_not_read_for_ever() -> None:
    link: Any = MilterLink(Clock())
    transport: Any = Paused()
    link.makeConnection(transport)
    part = packet("b", b"x" * 65535)
    sent = 0
    while transport.reading:
        link.dataReceived(part)
        sent += 1
    assert sent * len(part) <= MOST_UNREAD + len(part)
    taken = 0
    while not transport.reading:
        assert isinstance(now(link.event(1)), milter.ReplaceBody)
        taken += 1
    assert taken == 1
    link.dataReceived(packet("c"))
    for _ in range(sent - taken):
        now(link.event(1))
    assert now(link.answer(1)) is milter.Answer.CONTINUE
