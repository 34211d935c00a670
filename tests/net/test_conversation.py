"""The one adapter: order, back-pressure, TLS upgrade, silence, vanishing peers. Real sockets where it matters."""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailstack.mail.reply import Refused, Reply
from mailstack.net.conversation import Conversation, Vanished
from mailstack.net.listener import Listener, PortUnavailable, Speaks
from mailstack.net.places import PlaceLimits, Places
from mailstack.net.tls import ServerTls
from tests.certificates import issue
from tests.running import PATIENCE


def places(connections: int, per_address: int) -> Places:
    return Places(PlaceLimits(connections, per_address), Clock())


class Lines:
    """The smallest session: an event is a line, a reply is text."""

    def __init__(self) -> None:
        self.upgrading = False
        self.closed = False
        self.buffer = b""

    def receive_data(self, data: bytes) -> None:
        self.buffer += data

    def next_event(self) -> bytes | None:
        line, end, rest = self.buffer.partition(b"\r\n")
        if not end:
            return None
        self.buffer = rest
        return line

    def send(self, reply: Any) -> bytes:
        text = str(reply) if isinstance(reply, Reply) else reply
        if text == "go ahead":
            self.upgrading = True
            self.buffer = b""
        if text == "bye":
            self.closed = True
        return f"{text}\r\n".encode()

    def secured(self) -> None:
        self.upgrading = False

    def failure(self, event: Any) -> str:
        return "failure"


class Busy(Lines):
    """Has more to read than it did when it is first asked."""

    busy = True
    asked = False

    def next_event(self) -> bytes | None:
        if self.asked:
            self.busy = False
            return super().next_event()
        self.asked = True
        return None


class Answers:
    """A role that does what the line says."""

    def __init__(self, service: Service, peer: Any, say: Any) -> None:
        self.service, self.peer, self.say = service, peer, say
        self.idle_limit = 60.0

    async def greet(self) -> str:
        return "hello"

    async def answer(self, event: bytes) -> str:
        service = self.service
        service.events.append(event)
        if event == b"refuse":
            raise Refused(Reply(550, "5.0.0", "no"))
        if event == b"bug":
            raise ZeroDivisionError
        if event == b"slow":
            service.waiting = Deferred()
            return await service.waiting
        if event == b"much":
            for _ in range(400):
                await self.say("x" * 65536)
            service.events.append(b"much done")
        return {b"tls": "go ahead", b"quit": "bye", b"secure?": str(self.peer.tls)}.get(event, event.decode())

    def timed_out(self) -> str:
        return "too slow"

    def dismissed(self) -> str:
        return "going"

    def lost(self) -> None:
        self.service.lost += 1


class Service:
    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.lost = 0
        self.waiting: Deferred[str] | None = None

    def welcome(self, peer: Any, say: Any) -> Answers:
        self.role = Answers(self, peer, say)
        return self.role


class Transport(StringTransport):
    """A transport that can be aborted and half-closed, and whose buffer fills when told to."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def lines(self) -> list[str]:
        value = self.value().decode().split("\r\n")[:-1]
        self.clear()
        return value


class WithoutSockets(TestCase):
    """Order, refusals, silence: on a clock of our own."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.service = Service()
        self.transport = Transport()
        self.conversation = Conversation(Lines(), self.service, self.clock)
        self.conversation.makeConnection(self.transport)
        self.assertEqual(self.transport.lines(), ["hello"])

    def hear(self, data: bytes) -> list[str]:
        self.conversation.dataReceived(data)
        return self.transport.lines()

    def test_pipelined_lines_are_answered_in_order(self) -> None:
        self.assertEqual(self.hear(b"a\r\nb\r\nc"), ["a", "b"])
        self.assertEqual(self.hear(b"\r\n"), ["c"])

    def test_a_refusal_is_an_answer_and_a_bug_asks_for_another_try(self) -> None:
        self.assertEqual(self.hear(b"refuse\r\nbug\r\nnext\r\n"), ["550 5.0.0 no", "failure", "next"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_reading_stops_when_more_comes_while_an_answer_is_made(self) -> None:
        self.assertEqual(self.hear(b"slow\r\nb\r\n"), [])
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.hear(b"c\r\n"), [])
        self.assertEqual(self.transport.producerState, "paused")
        self.service.waiting.callback("slowly")
        self.assertEqual(self.transport.lines(), ["slowly", "b", "c"])
        self.assertEqual(self.transport.producerState, "producing")

    def test_nothing_is_answered_after_the_last_word(self) -> None:
        self.assertEqual(self.hear(b"quit\r\na\r\n"), ["bye"])
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.service.events, [b"quit"])

    def test_silence_gets_a_farewell_and_the_end(self) -> None:
        self.clock.advance(30)
        self.assertEqual(self.hear(b"a\r\n"), ["a"])
        self.clock.advance(59)
        self.assertEqual(self.transport.lines(), [])
        self.clock.advance(1)
        self.assertEqual(self.transport.lines(), ["too slow"])
        self.assertTrue(self.transport.disconnecting)
        self.clock.advance(31)
        self.assertTrue(self.transport.aborted)

    def test_our_own_slowness_is_not_the_peers(self) -> None:
        self.hear(b"slow\r\n")
        self.clock.advance(600)
        self.assertFalse(self.transport.disconnecting)
        self.service.waiting.callback("at last")
        self.assertEqual(self.transport.lines(), ["at last"])

    def test_a_peer_that_does_not_read_is_cut(self) -> None:
        self.conversation.pauseProducing()
        self.hear(b"a\r\nb\r\n")
        self.assertEqual(self.service.events, [b"a"])
        self.clock.advance(299)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(2)
        self.assertTrue(self.transport.aborted)

    def test_room_again_goes_on_where_it_stopped(self) -> None:
        self.conversation.pauseProducing()
        self.assertEqual(self.hear(b"a\r\nb\r\n"), ["a"])
        self.conversation.resumeProducing()
        self.assertEqual(self.transport.lines(), ["b"])

    def test_what_a_lost_client_had_sent_is_not_answered(self) -> None:
        """Twisted says stopProducing before connectionLost; two million commands were answered in between."""
        self.conversation.pauseProducing()
        self.hear(b"a\r\n" + b"b\r\n" * 100)
        self.conversation.stopProducing()
        self.conversation.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.service.events, [b"a"])
        self.assertEqual(self.service.lost, 1)

    def test_a_busy_session_lets_others_have_their_turn(self) -> None:
        self.conversation._session = Busy()
        self.assertEqual(self.hear(b"a\r\n"), [])
        self.clock.advance(0)
        self.assertEqual(self.transport.lines(), ["a"])
        self.assertEqual(self.hear(b"b\r\n"), ["b"])

    def test_an_answer_in_the_making_ends_before_the_role_is_told(self) -> None:
        self.hear(b"slow\r\n")
        self.conversation.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.service.lost, 0)
        self.service.waiting.callback("nobody hears this")
        self.assertEqual(self.service.lost, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_when_the_server_stops_a_silent_client_is_told_and_soon_cut(self) -> None:
        """Thunderbird looks at an idle connection only when it needs it: nobody waits for it to close its end."""
        self.conversation.shut_down()
        self.assertEqual(self.transport.lines(), ["going"])
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_when_the_server_stops_an_answer_in_the_making_goes_out(self) -> None:
        self.hear(b"slow\r\nb\r\n")
        self.conversation.shut_down()
        self.clock.advance(4)
        self.assertFalse(self.transport.disconnecting)
        self.service.waiting.callback("at last")
        self.assertEqual(self.transport.lines()[0], "at last")
        self.assertTrue(self.transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_saying_something_to_nobody(self) -> None:
        self.conversation.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.service.lost, 1)
        self.failureResultOf(Deferred.fromCoroutine(self.service.role.say("x")), Vanished)

    def test_half_close_is_answered_and_then_closed(self) -> None:
        self.hear(b"slow\r\n")
        self.conversation.readConnectionLost()
        self.assertFalse(self.transport.disconnecting)
        self.service.waiting.callback("done")
        self.assertEqual(self.transport.lines(), ["done"])
        self.assertTrue(self.transport.disconnecting)


class OverSockets(TestCase):
    """TLS, back-pressure and limits with real clients."""

    def setUp(self) -> None:
        directory = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, directory)
        self.files = issue(directory, "mail.example.test")
        self.service = Service()

    def listen(self, **options: Any) -> int:
        listener = Listener(
            reactor,
            Speaks("test", Lines, b"busy\r\n", options.pop("alpn", ())),
            self.service,
            places=options.pop("places", places(100, 100)),
            port=0,
            interface="127.0.0.1",
            tls=ServerTls(self.files.certificate, self.files.key),
            **options,
        )
        listener.startService()
        self.addCleanup(listener.stopService)
        return listener.address.port

    def client(self, port: int, talk: Any) -> Deferred[Any]:
        def run() -> Any:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
                return talk(connection)

        return threads.deferToThread(run)

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.files.ca))

    async def test_tls_upgrade_forgets_what_was_said_before(self) -> None:
        def talk(connection: socket.socket) -> list[bytes]:
            file = connection.makefile("rb")
            lines = [file.readline()]
            connection.sendall(b"secure?\r\ntls\r\ninjected\r\n")
            lines += [file.readline(), file.readline()]
            with self.context().wrap_socket(connection, server_hostname="mail.example.test") as secure:
                secure.sendall(b"secure?\r\nquit\r\n")
                lines += secure.makefile("rb").readlines()
            return lines

        lines = await self.client(self.listen(), talk)
        self.assertEqual(lines[:3], [b"hello\r\n", b"None\r\n", b"go ahead\r\n"])
        self.assertRegex(lines[3], rb"^TLSv1\.3 TLS_")
        self.assertEqual(lines[4:], [b"bye\r\n"])
        self.assertNotIn(b"injected", self.service.events)

    async def test_tls_from_the_first_byte(self) -> None:
        def talk(connection: socket.socket) -> list[bytes]:
            with self.context().wrap_socket(connection, server_hostname="mail.example.test") as secure:
                secure.sendall(b"secure?\r\nquit\r\n")
                return secure.makefile("rb").readlines()

        lines = await self.client(self.listen(implicit_tls=True), talk)
        self.assertEqual(lines[0], b"hello\r\n")
        self.assertRegex(lines[1], rb"^TLSv1\.3 TLS_")

    async def test_the_protocol_that_a_client_asks_for(self) -> None:
        """RFC 7301 section 3.2, with TLS from the first byte and after an upgrade."""

        def asking(*names: str, upgrade: bool) -> Callable[[socket.socket], object]:
            def talk(connection: socket.socket) -> object:
                context = self.context()
                context.set_alpn_protocols(list(names))
                if upgrade:
                    connection.sendall(b"tls\r\n")
                    file = connection.makefile("rb")
                    file.readline()
                    file.readline()
                try:
                    with context.wrap_socket(connection, server_hostname="mail.example.test") as secure:
                        secure.sendall(b"quit\r\n")
                        assert secure.makefile("rb").readlines()[-1] == b"bye\r\n"
                        return secure.selected_alpn_protocol()
                except ssl.SSLError:
                    return "refused"

            return talk

        for upgrade in (False, True):
            port = self.listen(implicit_tls=not upgrade, alpn=(b"imap", b"imap2"))
            for names, answer in (
                (("h2", "imap"), "imap"),
                (("imap2",), "imap2"),
                (("h2", "http/1.1"), "refused"),
            ):
                self.assertEqual(await self.client(port, asking(*names, upgrade=upgrade)), answer)
        port = self.listen(implicit_tls=True)  # of a service without a name it is not asked
        self.assertIsNone(await self.client(port, asking("h2", upgrade=False)))

    async def test_in_tls_answers_leave_at_once_and_in_order(self) -> None:
        asked = threading.Event()

        def talk(connection: socket.socket) -> list[bytes]:
            with self.context().wrap_socket(connection, server_hostname="mail.example.test") as secure:
                file = secure.makefile("rb")
                secure.sendall(b"one\r\ntwo\r\nslow\r\nfour\r\n")
                lines = [file.readline() for _ in range(3)]  # while it waits for what is slow
                asked.set()
                lines += [file.readline() for _ in range(2)]
                secure.sendall(b"quit\r\n")
                return lines + file.readlines()

        talking = self.client(self.listen(implicit_tls=True), talk)
        await threads.deferToThread(asked.wait, PATIENCE)
        assert self.service.waiting is not None
        self.service.waiting.callback("three")
        self.assertEqual(
            await talking, [b"hello\r\n", b"one\r\n", b"two\r\n", b"three\r\n", b"four\r\n", b"bye\r\n"]
        )

    async def test_a_reader_that_stalls_in_tls_stops_the_writer(self) -> None:
        stalled, go_on = threading.Event(), threading.Event()

        def talk(connection: socket.socket) -> int:
            with self.context().wrap_socket(connection, server_hostname="mail.example.test") as secure:
                secure.sendall(b"much\r\n")
                total = len(secure.recv(100))
                stalled.set()
                go_on.wait(PATIENCE)
                while total < 7 + 400 * 65538:
                    total += len(secure.recv(1 << 20))
                return total

        talking = self.client(self.listen(implicit_tls=True), talk)
        await threads.deferToThread(stalled.wait, PATIENCE)
        self.assertNotIn(b"much done", self.service.events)
        go_on.set()
        self.assertEqual(await talking, 7 + 400 * 65538)
        self.assertIn(b"much", self.service.events)

    async def test_a_reader_that_stalls_stops_the_writer(self) -> None:
        port = self.listen()
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.addCleanup(client.close)
        client.sendall(b"much\r\n")
        while not self.service.events:
            await deferLater(reactor, 0)
        await deferLater(reactor, 0.3)
        self.assertEqual(self.service.events, [b"much"])  # 26 MB were not taken into memory at once

        def drain() -> int:
            total = 0
            while total < 400 * 65538:
                total += len(client.recv(1 << 20))
            return total

        await threads.deferToThread(drain)
        self.assertEqual(self.service.events, [b"much", b"much done"])

    async def test_upgrade_under_back_pressure(self) -> None:
        def talk(connection: socket.socket) -> bytes:
            file = connection.makefile("rb")
            file.readline()
            connection.sendall(b"tls\r\n")
            file.readline()
            with self.context().wrap_socket(connection, server_hostname="mail.example.test") as secure:
                secure.sendall(b"much\r\nquit\r\n")
                return secure.makefile("rb").read()

        said = await self.client(self.listen(), talk)
        self.assertEqual(len(said), 400 * 65538 + len(b"much\r\nbye\r\n"))

    async def test_half_close(self) -> None:
        def talk(connection: socket.socket) -> bytes:
            connection.sendall(b"a\r\nb\r\n")
            connection.shutdown(socket.SHUT_WR)
            return connection.makefile("rb").read()

        self.assertEqual(await self.client(self.listen(), talk), b"hello\r\na\r\nb\r\n")

    async def test_the_door_is_closed_to_one_origin_and_open_again(self) -> None:
        port = self.listen(places=places(100, 1))

        def one(connection: socket.socket) -> bytes:
            return connection.makefile("rb").readline()

        first = await threads.deferToThread(socket.create_connection, ("127.0.0.1", port), PATIENCE)
        self.assertEqual(await threads.deferToThread(one, first), b"hello\r\n")
        self.assertEqual(await self.client(port, one), b"busy\r\n")
        first.sendall(b"quit\r\n")
        await threads.deferToThread(first.makefile("rb").read)
        first.close()
        await deferLater(reactor, 0)
        self.assertEqual(await self.client(port, one), b"hello\r\n")

    def test_a_port_in_use_says_so(self) -> None:
        port = self.listen()
        second = Listener(
            reactor,
            Speaks("test", Lines, b""),
            self.service,
            places=places(1, 1),
            port=port,
            interface="127.0.0.1",
        )
        with self.assertRaisesRegex(PortUnavailable, f"test: cannot listen on 127.0.0.1 port {port}"):
            second.startService()

    def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(self) -> None:
        tls = ServerTls(self.files.certificate, self.files.key)
        before = tls.getContext()
        tls.refresh()
        self.assertIs(tls.getContext(), before)
        issue(self.files.key.parent, "other.example.test")
        tls.refresh()
        renewed = tls.getContext()
        self.assertIsNot(renewed, before)
        self.files.certificate.write_text("nonsense")
        tls.refresh()
        self.assertIs(tls.getContext(), renewed)
