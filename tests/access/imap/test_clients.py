"""imaplib and IMAPClient against the real thing: sockets, threads, store."""

from __future__ import annotations

import imaplib
import shutil
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from imapclient import IMAPClient
from sqlalchemy import insert
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailstack.access.imap import ImapAccess
from mailstack.access.settings import ImapConfig
from mailstack.db import Database, DatabaseConfig, metadata
from mailstack.directory import User
from mailstack.directory.tables import domains, users
from mailstack.mail.address import Address
from mailstack.mail.message import Message
from mailstack.net.conversation import Conversation
from mailstack.store.message_store import MessageStore
from mailstack.store.settings import StoreConfig
from mailstack.store.values import Parcel
from mailstack.wire.imap.server import Server
from mailstack.work import Work
from tests.access.imap import corpus
from tests.access.imap.harness import PASSWORDS, People
from tests.net.sign_ins import sign_in_with
from tests.running import PATIENCE

reactor: Any = _reactor
NAME = "alice@example.test"
SENT = [imaplib.MapCRLF.sub(b"\r\n", message) for message in corpus.ALL]  # both libraries see to CRLF
BIG = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 60_000


class ClientTests(TestCase):
    """Each test talks from a thread; the server runs in the reactor."""

    async def setUp(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="mailstack-test-"))
        database = Database(DatabaseConfig(url=f"sqlite:///{self.path}/mailstack.db"))
        metadata.create_all(database.engine)
        with database.engine.connect() as db:
            db.execute(insert(domains).values(id=1, name="example.test", created=0))
            row = {
                "id": 1,
                "domain_id": 1,
                "address": NAME,
                "password_hash": "x",
                "enabled": True,
                "created": 0,
            }
            db.execute(insert(users).values(**row))
            db.commit()
        self.work = Work(reactor, database)
        self.store = MessageStore(StoreConfig(path=self.path / "mail"), self.work, reactor)
        people = People({NAME: User(1, Address.parse(NAME), 10_000_000, None)})
        access = ImapAccess(
            self.store,
            sign_in_with(people, reactor, [ip_network("127.0.0.0/8")]),
            ImapConfig(auth_failure_seconds=0.0),
            clock=reactor,
            work=self.work,
        )
        self.conversations: set[Conversation] = set()
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda address: self.converse(access)  # type: ignore[method-assign,assignment]
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    def converse(self, access: ImapAccess) -> Conversation:
        conversation = Conversation(Server(), access, reactor, gone=self.conversations.discard)
        self.conversations.add(conversation)
        return conversation

    async def tearDown(self) -> None:
        await self.port.stopListening()
        while self.conversations:
            for conversation in list(self.conversations):
                conversation.transport.abortConnection()  # type: ignore[union-attr]
            pause: Deferred[None] = Deferred()
            reactor.callLater(0, pause.callback, None)
            await pause
        await self.work.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def run_in_thread(self, talk: Callable[[], None]) -> Deferred[None]:
        return deferToThread(talk)

    def imaplib(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self.port.getHost().port, timeout=PATIENCE)
        client.login(NAME, PASSWORDS[NAME])
        return client

    def imapclient(self) -> IMAPClient:
        client = IMAPClient("127.0.0.1", self.port.getHost().port, ssl=False, timeout=PATIENCE)
        client.login(NAME, PASSWORDS[NAME])
        return client

    def test_imaplib(self) -> Deferred[None]:
        def talk() -> None:
            client = self.imaplib()
            self.assertEqual(client.append("INBOX", r"(\Seen)", imaplib.Time2Internaldate(0), BIG)[0], "OK")
            for message in corpus.ALL:
                self.assertEqual(client.append("INBOX", None, None, message)[0], "OK")
            self.assertEqual(client.select("INBOX"), ("OK", [b"%d" % (len(corpus.ALL) + 1)]))
            for number, message in enumerate([BIG, *SENT], 1):
                data: Any = client.fetch(str(number), "(BODY.PEEK[])")[1]
                self.assertEqual(data[0][1], message)
            self.assertEqual(client.search(None, "SUBJECT", '"letter"'), ("OK", [b"3"]))
            self.assertEqual(client.store("1:3", "+FLAGS", r"(\Deleted)")[0], "OK")
            self.assertEqual(client.copy("1", "Trash")[0], "OK")
            self.assertEqual(client.expunge(), ("OK", [b"3", b"2", b"1"]))
            status = client.status("Trash", "(MESSAGES UIDNEXT UNSEEN)")[1][0]
            self.assertEqual(status, b"Trash (MESSAGES 1 UIDNEXT 2 UNSEEN 0)")
            self.assertEqual(len(client.list()[1]), 6)
            self.assertEqual(client.getquotaroot("INBOX")[0], "OK")
            self.assertEqual(client.logout()[0], "BYE")

        return self.run_in_thread(talk)

    def test_rights_annotations_and_order(self) -> Deferred[None]:
        """IMAPClient's ACL, SORT and THREAD; PREVIEW and BINARY.SIZE by its FETCH."""

        def talk() -> None:
            client = self.imapclient()
            for subject in (b"b", b"a"):
                client.append("INBOX", b"Subject: " + subject + b"\r\n\r\nx\r\n")
            client.setacl("INBOX", "anyone", "lr")
            self.assertIn((b"anyone", b"lr"), client.getacl("INBOX"))
            client.select_folder("INBOX")
            self.assertEqual(client.sort(["SUBJECT"]), [2, 1])
            self.assertEqual(client.sort(["REVERSE SUBJECT"]), [1, 2])
            self.assertEqual(len(client.thread()), 2)
            self.assertIn(b"PREVIEW", client.fetch(1, ["PREVIEW"])[1])
            self.assertEqual(client.fetch(1, ["BINARY.SIZE[1]"])[1][b"BINARY.SIZE[1]"], 3)
            self.assertTrue(client.has_capability("REPLACE"))
            client.logout()

        return self.run_in_thread(talk)

    def test_imaplib_refused(self) -> Deferred[None]:
        def talk() -> None:
            client = imaplib.IMAP4("127.0.0.1", self.port.getHost().port, timeout=PATIENCE)
            with self.assertRaises(imaplib.IMAP4.error):
                client.login(NAME, "guess")
            self.assertEqual(client.authenticate("PLAIN", lambda _: b"\0alice@example.test\0secret")[0], "OK")
            client.logout()

        return self.run_in_thread(talk)

    def test_imapclient(self) -> Deferred[None]:
        def talk() -> None:
            with self.imapclient() as client:
                for message in corpus.ALL:
                    client.append("INBOX", message, flags=[rb"\Flagged"])
                client.select_folder("INBOX")
                uids = client.search("FLAGGED")
                self.assertEqual(len(uids), len(corpus.ALL))
                items = ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[]"]
                found = client.fetch(uids, items)
                for uid, message in zip(uids, SENT, strict=True):
                    self.assertEqual(found[uid][b"BODY[]"], message)
                    self.assertEqual(found[uid][b"RFC822.SIZE"], len(message))
                self.assertEqual(found[uids[0]][b"ENVELOPE"].message_id, b"<plain@example.org>")
                self.assertTrue(found[uids[1]][b"BODYSTRUCTURE"].is_multipart)
                self.assertEqual(client.search(["TEXT", "caf\u00e9"], charset="UTF-8"), [uids[1]])
                self.assertEqual(client.search(["FROM", "rene", "NOT", "DELETED"]), [uids[0]])
                client.create_folder("Entw\u00fcrfe/alt")
                self.assertIn("Entw\u00fcrfe/alt", [name for _, _, name in client.list_folders()])
                client.move(uids[:2], "Entw\u00fcrfe/alt")
                self.assertEqual(client.folder_status("Entw\u00fcrfe/alt", ["MESSAGES"]), {b"MESSAGES": 2})
                self.assertEqual(
                    client.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"], len(corpus.ALL) - 2
                )
                client.add_flags(uids[2], [rb"\Deleted", b"$Junk"])
                client.uid_expunge([uids[2]])
                self.assertNotIn(uids[2], client.search())
                client.unselect_folder()
                client.rename_folder("Entw\u00fcrfe", "Drafts2")
                client.delete_folder("Drafts2/alt")
                self.assertEqual(client.find_special_folder(rb"\Sent"), "Sent")
                self.assertEqual(client.namespace().personal, (("", "/"),))
                self.assertIn(b"name", client.id_({"name": "test"})[0])
                self.assertEqual(client.get_quota_root("INBOX")[1][0].resource, "STORAGE")

        return self.run_in_thread(talk)

    def test_imapclient_sorts_and_threads(self) -> Deferred[None]:
        def mail(subject: str, sender: str, name: str, refers: str = "") -> bytes:
            references = f"References: {refers}\r\n" if refers else ""
            head = f"From: {sender}@b.test\r\nSubject: {subject}\r\nMessage-ID: <{name}@b>\r\n{references}"
            return f"{head}\r\nhello\r\n".encode()

        def talk() -> None:
            with self.imapclient() as client:
                client.append("INBOX", mail("pears", "zoe", "1"))
                client.append("INBOX", mail("Re: apples", "bob", "2", "<3@b>"))
                client.append("INBOX", mail("apples", "amy", "3"))
                client.enable("QRESYNC")
                client.select_folder("INBOX")
                self.assertEqual(client.sort("FROM"), [3, 2, 1])
                self.assertEqual(client.sort(["REVERSE SUBJECT", "ARRIVAL"], ["ALL"], "UTF-8"), [1, 2, 3])
                self.assertEqual(client.thread("REFERENCES"), ((1,), (3, 2)))
                self.assertEqual(client.thread("ORDEREDSUBJECT", "SUBJECT apples"), ((2, 3),))
                client.add_flags(2, [rb"\Deleted"])
                tag = client._imap._command("EXPUNGE")
                self.assertEqual(client._imap._command_complete("EXPUNGE", tag)[0], "OK")
                self.assertEqual(client._imap.untagged_responses["VANISHED"], [b"2"])
                self.assertEqual(client.thread("REFS"), ((1,), (3,)))

        return self.run_in_thread(talk)

    def test_idle_is_told_of_a_delivery(self) -> Deferred[None]:
        def deliver() -> None:
            parcel = Parcel(1, "INBOX", Message.of(corpus.PLAIN), "delivery-1")
            Deferred.fromCoroutine(self.store.deliver([parcel])).addErrback(
                lambda failure: self.fail(str(failure))
            )

        def talk() -> None:
            with self.imapclient() as client:
                client.select_folder("INBOX")
                client.idle()
                reactor.callFromThread(deliver)
                told: list[Any] = []
                until = time.monotonic() + PATIENCE
                while (1, b"EXISTS") not in told and time.monotonic() < until:
                    told += client.idle_check(timeout=1)
                self.assertIn((1, b"EXISTS"), told)
                client.idle_done()
                self.assertEqual(client.search(), [1])

        return self.run_in_thread(talk)

    def test_two_clients(self) -> Deferred[None]:
        def talk() -> None:
            with self.imapclient() as one, self.imapclient() as two:
                for message in corpus.ALL[:3]:
                    one.append("INBOX", message)
                one.select_folder("INBOX")
                two.select_folder("INBOX")
                one.delete_messages([1])
                one.expunge()
                two.fetch([2], ["FLAGS"])
                self.assertEqual(two.search(), [2, 3])

        return self.run_in_thread(talk)
