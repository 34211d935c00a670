"""POP3 over the real store and real files."""

from __future__ import annotations

import ipaddress
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from mailstack.access.pop3 import Pop3Access
from mailstack.access.settings import Pop3Config
from mailstack.directory import User
from mailstack.mail.address import Address
from mailstack.mail.message import Message
from mailstack.net.conversation import Conversation
from mailstack.store import changes
from mailstack.store.rebuild import rebuild_user
from mailstack.store.values import New
from mailstack.wire import pop3
from tests.databases import made
from tests.net.sign_ins import sign_in_with
from tests.store.harness import Harness, now, text


class Anybody:
    """A directory where every password is alice's."""

    async def authenticate(self, login: str, password: str, peer: str) -> User:
        return User(1, Address("alice", "example.org"), None, None)


class StoreCase(TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        folder = Path(temporary.name)
        self.harness = Harness(self.enterContext(made("sqlite")).database, folder)
        now(self.harness.store.provision(1))
        work: Any = self.harness.work
        self.access = Pop3Access(
            self.harness.store,
            sign_in_with(Anybody(), self.harness.clock, (ipaddress.ip_network("192.168.1.0/24"),)),
            Pop3Config(),
            clock=self.harness.clock,
            work=work,
        )

    def session(self, commands: bytes, meanwhile: Callable[[], object] = lambda: None) -> bytes:
        """What a client that logs in and says `commands` hears after the login, and after `meanwhile`."""
        conversation = Conversation(pop3.Server(), self.access, self.harness.clock)  # type: ignore[arg-type]
        transport = StringTransport()
        conversation.makeConnection(transport)
        conversation.dataReceived(b"USER alice@example.org\r\nPASS x\r\n")
        transport.clear()
        meanwhile()
        conversation.dataReceived(commands)
        conversation.connectionLost()
        return transport.value()


class StoreTests(StoreCase):
    def test_fetch_and_delete(self) -> None:
        for number in range(3):
            self.harness.deliver(number)
        size = len(text(0))
        uidvalidity = now(self.harness.store.status(1, "INBOX")).uidvalidity
        answer = self.session(b"STAT\r\nUIDL 3\r\nRETR 1\r\nDELE 2\r\nQUIT\r\n")
        self.assertEqual(
            answer,
            b"+OK 3 %d\r\n+OK 3 %d.3\r\n+OK %d octets\r\n" % (3 * size, uidvalidity, size)
            + text(0)
            + b".\r\n+OK Message 2 is marked\r\n+OK Good-bye\r\n",
        )
        self.assertEqual(self.harness.flags(), {1: {r"\Seen"}, 3: set()})
        self.assertEqual(
            self.session(b"UIDL\r\n"),
            b"+OK 2 messages\r\n1 %d.1\r\n2 %d.3\r\n.\r\n" % (uidvalidity, uidvalidity),
        )
        self.harness.check()

    def test_without_quit_nothing_is_deleted(self) -> None:
        self.harness.deliver(1)
        self.session(b"DELE 1\r\n")
        self.assertEqual(self.session(b"STAT\r\n"), b"+OK 1 %d\r\n" % len(text(1)))

    def test_what_another_process_has_removed_is_removed(self) -> None:
        """Its news has not come yet; QUIT is done all the same."""
        for number in range(2):
            self.harness.deliver(number)
        live = now(self.harness.store.open(1, "INBOX"))
        self.addCleanup(live.close)
        said = self.session(
            b"DELE 1\r\nQUIT\r\n",
            lambda: self.harness.database.write(changes.expunge, live.id, [(1, 1)]),
        )
        self.assertTrue(said.endswith(b"+OK Good-bye\r\n"), said)
        self.assertTrue(self.session(b"STAT\r\n").startswith(b"+OK 1 "))

    def test_a_maildrop_that_is_made_anew_meanwhile(self) -> None:
        """Nothing of it can be removed or marked any more, and that is no error of ours."""
        self.harness.deliver(1)

        def remake() -> None:
            root = self.harness.root
            self.harness.database.write(lambda db: rebuild_user(root, db, 1, "example.org/alice"))

        gone = b"-ERR The maildrop was removed or made anew; log in again\r\n"
        said = self.session(b"RETR 1\r\nDELE 1\r\nQUIT\r\n", remake)
        self.assertTrue(said.endswith(b"marked\r\n" + gone), said)
        self.session(b"RETR 1\r\n", remake)
        self.assertTrue(self.session(b"STAT\r\n").startswith(b"+OK 1 "))

    def test_big_message(self) -> None:
        data = text(1, 300_000)
        now(self.harness.store.append(1, "INBOX", [New(Message.of(data))]))
        answer = self.session(b"RETR 1\r\nTOP 1 1\r\n")
        whole = b"+OK %d octets\r\n" % len(data) + data + b"\r\n.\r\n"
        self.assertTrue(answer.startswith(whole))
        self.assertEqual(answer[len(whole) :], b"+OK Top follows\r\n" + text(1) + b".\r\n")

    def test_recent_is_left_to_imap(self) -> None:
        self.harness.deliver(1)
        self.session(b"RETR 1\r\nQUIT\r\n")
        self.assertEqual(now(self.harness.store.status(1, "INBOX")).recent, 1)

    def test_compressed_mail(self) -> None:
        """Small and streamed, whole and in part, what is sent is the message."""
        self.harness.restart(compression="zlib")
        self.access._services = replace(self.access._services, store=self.harness.store)
        head = b"Subject: x\r\n\r\n"
        bodies = [b"a line\r\n" * 50, b"".join(b"line %d\r\n" % number for number in range(80_000)), b"end"]
        texts = [head + body for body in bodies]
        for each in texts:
            now(self.harness.store.append(1, "INBOX", [New(Message.of(each))]))
        files = [self.harness.path() / name for name in self.harness.files()]
        self.assertLess(sum(path.stat().st_size for path in files), 300_000)
        answer = self.session(b"STAT\r\nRETR 1\r\nRETR 2\r\nTOP 2 2\r\nRETR 3\r\n")
        said = [b"+OK 3 %d\r\n" % sum(map(len, texts))]
        said += [b"+OK %d octets\r\n%b.\r\n" % (len(each), each) for each in texts[:2]]
        said.append(b"+OK Top follows\r\n%bline 0\r\nline 1\r\n.\r\n" % head)
        said.append(b"+OK %d octets\r\n%b\r\n.\r\n" % (len(texts[2]), texts[2]))
        self.assertEqual(answer, b"".join(said))
