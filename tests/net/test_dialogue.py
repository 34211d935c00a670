"""The client's end of one connection, against a next hop that misbehaves, over real sockets."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mailstack.mail.message import Message, Stored
from mailstack.mail.reply import Reply
from mailstack.net.dialogue import Broken, Dialogue, Timeouts, TlsFailed, connect
from mailstack.net.tls import ServerTls
from mailstack.work import Work
from tests.certificates import issue
from tests.net.next_hop import CLOSE, HANG, NextHop
from tests.net.own_time import OwnTime

LONG = Timeouts()


class NoDatabase:
    def dispose(self) -> None:
        pass


class DialogueCase(TestCase):
    def setUp(self) -> None:
        self.work = Work(reactor, NoDatabase())
        self.addCleanup(lambda: Deferred.fromCoroutine(self.work.close()))

    def hop(self, *args: Any, **options: Any) -> NextHop:
        hop = NextHop(*args, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(hop.close()))
        return hop

    async def dial(self, hop: NextHop, timeouts: Timeouts = LONG, time: Any = reactor) -> Dialogue:
        dialogue = await connect(time, "127.0.0.1", hop.port, timeouts)
        self.addCleanup(dialogue.quit)
        return dialogue

    async def breaks(self, awaitable: Any, kind: type[Broken] = Broken) -> str:
        try:
            found = await awaitable
        except kind as error:
            return str(error)
        raise AssertionError(f"{found}, and nothing broke")

    def tls(self) -> ServerTls:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        files = issue(folder, "mx.b.test")
        return ServerTls(files.certificate, files.key)


class TestConnecting(TestCase):
    def test_who_gives_up_hears_of_no_broken_connection(self) -> None:
        """It would be a reason to try the next exchanger, while the server stops."""
        connecting = Deferred.fromCoroutine(connect(MemoryReactorClock(), "192.0.2.1", 25, LONG))
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)


class TestCommands(DialogueCase):
    async def test_a_whole_conversation(self) -> None:
        hop = self.hop()
        dialogue = await self.dial(hop)
        self.assertEqual((await dialogue.greeting()).code, 220)
        self.assertEqual((await dialogue.command(b"EHLO a.test\r\n")).text, "mx.b.test")
        replies = await dialogue.pipeline([b"MAIL FROM:<>\r\n", b"RCPT TO:<b@b.test>\r\n"])
        self.assertEqual([reply.code for reply in replies], [250, 250])
        self.assertEqual((await dialogue.command(b"DATA\r\n")).code, 354)
        [reply] = await dialogue.send_content(Message.of(b"a\r\n.b\r\n"), self.work)
        self.assertEqual(reply, Reply(250, "2.0.0", "Ok: taken"))
        self.assertTrue(dialogue.content_sent)
        dialogue.quit()
        await hop.sessions[0].gone
        self.assertEqual(hop.messages, [b"a\r\n.b\r\n"])
        self.assertEqual(hop.lines[-1], "QUIT")

    async def test_nobody_there(self) -> None:
        hop = self.hop()
        await hop.leave()
        self.assertIn("cannot connect", await self.breaks(connect(reactor, "127.0.0.1", hop.port, LONG)))

    async def test_silence(self) -> None:
        hop, time = self.hop({"": HANG}), OwnTime()
        hop.hung = time.run_out
        dialogue = await self.dial(hop, time=time)
        self.assertIn("greeting", await self.breaks(dialogue.greeting()))
        self.assertIn("greeting", await self.breaks(dialogue.command(b"EHLO a.test\r\n")))

    async def test_a_closed_connection(self) -> None:
        dialogue = await self.dial(self.hop({"EHLO": CLOSE}))
        await dialogue.greeting()
        self.assertIn("connection lost", await self.breaks(dialogue.command(b"EHLO a.test\r\n")))

    async def test_garbage(self) -> None:
        dialogue = await self.dial(self.hop({"": b"HTTP/1.1 200 OK\r\n\r\n"}))
        self.assertIn("not a reply", await self.breaks(dialogue.greeting()))

    async def test_a_hundred_megabytes_of_reply_cost_a_few_kilobytes(self) -> None:
        hop = self.hop({"": HANG})
        dialogue = await self.dial(hop)
        greeting = Deferred.fromCoroutine(self.breaks(dialogue.greeting()))
        line = b"220-" + b"x" * 1000 + b"\r\n"

        class Torrent:
            sent = 0

            def resumeProducing(self) -> None:
                self.sent += 1
                hop.sessions[0].transport.write(line * 60)
                if self.sent > 1700:
                    hop.sessions[0].transport.unregisterProducer()

            def stopProducing(self) -> None:
                pass

        torrent = Torrent()
        hop.sessions[0].transport.registerProducer(torrent, False)
        self.assertIn("100 lines", await greeting)
        self.assertLess(torrent.sent, 200)  # it was cut off long before the end

    async def test_a_slow_trickle_gains_no_time(self) -> None:
        clock = Clock()
        transport: Any = StringTransport()
        transport.setTcpNoDelay = lambda _: None
        aborted = []
        transport.abortConnection = lambda: aborted.append(clock.seconds())
        dialogue = Dialogue(clock, Timeouts(greeting=300))
        dialogue.makeConnection(transport)
        greeting = Deferred.fromCoroutine(self.breaks(dialogue.greeting()))
        for _ in range(40):
            dialogue.dataReceived(b"2" if clock.seconds() == 0 else b"")
            dialogue.dataReceived(b"20-x\r\n2")
            clock.advance(10)
        self.assertIn("timed out", await greeting)
        self.assertEqual(aborted, [300])

    def silent(self) -> tuple[Dialogue, Clock]:
        clock = Clock()
        transport: Any = StringTransport()
        transport.setTcpNoDelay = lambda _: None
        transport.abortConnection = lambda: None
        dialogue = Dialogue(clock, LONG)
        dialogue.makeConnection(transport)
        return dialogue, clock

    def expires_after(self, awaitable: Any, clock: Clock, limit: float) -> None:
        waiting = Deferred.fromCoroutine(self.breaks(awaitable))
        clock.advance(limit - 1)
        self.assertNoResult(waiting)
        clock.advance(1)
        self.assertIn("timed out", self.successResultOf(waiting))

    def test_each_phase_has_its_own_limit(self) -> None:
        dialogue, clock = self.silent()
        self.expires_after(dialogue.greeting(), clock, 300)
        dialogue, clock = self.silent()
        self.expires_after(dialogue.command(b"MAIL FROM:<>\r\n"), clock, 300)
        dialogue, clock = self.silent()
        self.expires_after(dialogue.command(b"DATA\r\n", LONG.data), clock, 120)
        dialogue, clock = self.silent()
        self.expires_after(dialogue.send_content(Message.of(b"x"), self.work), clock, 600)


class TestContent(DialogueCase):
    async def ready(self, hop: NextHop, timeouts: Timeouts = LONG) -> Dialogue:
        dialogue = await self.dial(hop, timeouts)
        await dialogue.greeting()
        self.assertEqual((await dialogue.command(b"DATA\r\n")).code, 354)
        return dialogue

    async def test_a_big_file(self) -> None:
        hop = self.hop()
        with tempfile.NamedTemporaryFile() as file:
            content = b"".join(b".%d line\r\n" % n for n in range(200_000))
            file.write(content)
            file.flush()
            message = Message((b"Received: x\r\n", Stored(Path(file.name), 0, len(content))))
            dialogue = await self.ready(hop)
            self.assertEqual((await dialogue.send_content(message, self.work))[0].code, 250)
        self.assertEqual(hop.messages, [b"Received: x\r\n" + content])

    async def test_a_server_that_does_not_read_is_given_up(self) -> None:
        hop = self.hop()
        dialogue = await self.ready(hop, replace(LONG, block=0.3))
        hop.sessions[0].transport.pauseProducing()
        endless = Message((b"x" * 78 + b"\r\n",) * 200_000)
        self.assertIn("room", await self.breaks(dialogue.send_content(endless, self.work)))
        self.assertFalse(dialogue.content_sent)

    async def test_a_reply_before_the_end_stops_the_sending(self) -> None:
        hop = self.hop({"early": "552 5.3.4 Too much"})
        dialogue = await self.ready(hop)
        sent = []

        def parts() -> Any:
            for n in range(5000):
                sent.append(n)
                yield b"x" * 9998 + b"\r\n"

        class Endless(Message):
            __slots__ = ()

            def chunks(self) -> Any:
                return parts()

        big = Endless((Stored(Path("none"), 0, 50_000_000),))
        self.assertEqual((await dialogue.send_content(big, self.work))[0].code, 552)
        self.assertLess(len(sent), 5000)
        await self.breaks(dialogue.command(b"RSET\r\n"))

    async def test_a_lost_answer_is_told_from_a_lost_content(self) -> None:
        dialogue = await self.ready(self.hop({".": CLOSE}))
        await self.breaks(dialogue.send_content(Message.of(b"x\r\n"), self.work))
        self.assertTrue(dialogue.content_sent)

    async def test_a_file_that_is_too_short_is_our_error_not_theirs(self) -> None:
        hop = self.hop()
        dialogue = await self.ready(hop)
        with tempfile.NamedTemporaryFile() as file:
            message = Message((Stored(Path(file.name), 0, 10),))
            with self.assertRaises(EOFError):
                await dialogue.send_content(message, self.work)
        self.assertFalse(dialogue.content_sent)
        dialogue.quit()
        await hop.sessions[0].gone
        self.assertNotIn(b"QUIT", hop.sessions[0].content or b"")
        self.assertEqual(hop.messages, [])


class TestTls(DialogueCase):
    async def secured(self, hop: NextHop, time: Any = reactor) -> Dialogue:
        dialogue = await self.dial(hop, time=time)
        await dialogue.greeting()
        self.assertEqual((await dialogue.command(b"STARTTLS\r\n")).code, 220)
        await dialogue.start_tls("mx.b.test")
        return dialogue

    async def test_on(self) -> None:
        tls = self.tls()
        names: list[Any] = []
        tls.getContext().set_tlsext_servername_callback(
            lambda connection: names.append(connection.get_servername())
        )
        hop = self.hop(tls=tls)
        dialogue = await self.secured(hop)
        self.assertEqual(dialogue.tls, "TLSv1.3")
        self.assertEqual(names, [b"mx.b.test"])
        self.assertEqual((await dialogue.command(b"EHLO a.test\r\n")).code, 250)
        dialogue.quit()
        await hop.sessions[0].gone

    async def test_a_failed_handshake(self) -> None:
        @implementer(IOpenSSLContextFactory)
        class Refusing:
            def getContext(self) -> SSL.Context:
                return SSL.Context(SSL.TLS_SERVER_METHOD)  # no certificate: no cipher can be shared

        await self.breaks(self.secured(self.hop(tls=Refusing())), TlsFailed)

    async def test_no_handshake_at_all(self) -> None:
        hop, time = self.hop(), OwnTime()
        failing = Deferred.fromCoroutine(self.breaks(self.secured(hop, time), TlsFailed))
        while not failing.called and not (hop.sessions and hop.sessions[0].unread):
            await deferLater(reactor, 0)
        time.run_out(hop.sessions[0])
        await failing

    async def test_nonsense_instead_of_a_handshake(self) -> None:
        hop = self.hop({"STARTTLS": b"220 go\r\n"})
        dialogue = await self.dial(hop)
        await dialogue.greeting()
        await dialogue.command(b"STARTTLS\r\n")
        hop.sessions[0].dataReceived = lambda data: hop.sessions[0].transport.write(b"no TLS here\r\n" * 9)
        await self.breaks(dialogue.start_tls("mx.b.test"), TlsFailed)

    async def test_words_injected_before_tls_are_never_heard_after_it(self) -> None:
        hop = self.hop({"STARTTLS": b"220 go\r\n250 injected\r\n"})
        await self.breaks(self.secured(hop), TlsFailed)
