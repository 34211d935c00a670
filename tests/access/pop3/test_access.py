"""POP3 whole: conversations with the real adapter and session over a store and a directory of the test's own."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.defer import Deferred

from mailstack.access.pop3 import maildrop
from mailstack.access.pop3.role import SMALL
from mailstack.mail.address import Address
from mailstack.mail.message import Stored
from mailstack.work import Overloaded
from tests.access.pop3.fakes import ALICE, BOB, AccessCase, FakeUser


class ConversationTests(AccessCase):
    def test_whole_session(self) -> None:
        self.converse(
            """
            S: +OK pop.a.test ready
            C: CAPA
            S: +OK Capabilities follow
            S: TOP
            S: UIDL
            S: RESP-CODES
            S: AUTH-RESP-CODE
            S: PIPELINING
            S: EXPIRE NEVER
            S: UTF8 USER
            S: LANG
            S: STLS
            S: USER
            S: SASL PLAIN LOGIN
            S: IMPLEMENTATION mailstack
            S: .
            C: USER alice@a.test
            S: +OK Now the password
            C: PASS secret pass
            S: +OK 3 messages (74 octets)
            C: CAPA
            S: +OK Capabilities follow
            S: TOP
            S: UIDL
            S: RESP-CODES
            S: AUTH-RESP-CODE
            S: PIPELINING
            S: EXPIRE NEVER
            S: UTF8 USER
            S: LANG
            S: IMPLEMENTATION mailstack
            S: .
            C: STAT
            S: +OK 3 74
            C: LIST
            S: +OK 3 messages
            S: 1 24
            S: 2 30
            S: 3 20
            S: .
            C: LIST 2
            S: +OK 2 30
            C: UIDL
            S: +OK 3 messages
            S: 1 1700000000.11
            S: 2 1700000000.12
            S: 3 1700000000.13
            S: .
            C: UIDL 3
            S: +OK 3 1700000000.13
            C: RETR 1
            S: +OK 24 octets
            S: Subject: one
            S:
            S: ..first
            S: .
            C: TOP 2 1
            S: +OK Top follows
            S: Subject: two
            S:
            S: second
            S: .
            C: DELE 1
            S: +OK Message 1 is marked
            C: DELE 1
            S: -ERR No such message
            C: RETR 1
            S: -ERR No such message
            C: STAT
            S: +OK 2 50
            C: LIST
            S: +OK 2 messages
            S: 2 30
            S: 3 20
            S: .
            C: UIDL 1
            S: -ERR No such message
            C: RSET
            S: +OK 3 messages
            C: LIST 1
            S: +OK 1 24
            C: LIST 0
            S: -ERR No such message
            C: RETR 4
            S: -ERR No such message
            C: TOP 9999999999 1
            S: -ERR No such message
            C: LAST
            S: -ERR Unknown command
            C: NOOP
            S: +OK
            C: QUIT
            S: +OK Good-bye
            """
        )

    def test_sasl(self) -> None:
        plain = base64.b64encode(b"\0alice@a.test\0secret pass").decode()
        login = base64.b64encode(b"bob@a.test").decode()
        password = base64.b64encode("ü".encode()).decode()
        self.converse(f"""
            S: +OK pop.a.test ready
            C: AUTH
            S: +OK Mechanisms follow
            S: PLAIN
            S: LOGIN
            S: .
            C: AUTH X-UNKNOWN
            S: -ERR No such mechanism
            C: AUTH PLAIN
            S: +\x20
            C: *
            S: -ERR Cancelled
            C: AUTH LOGIN
            S: + VXNlcm5hbWU6
            C: {login}
            S: + UGFzc3dvcmQ6
            C: {password}
            S: +OK 0 messages (0 octets)
            C: LIST
            S: +OK 0 messages
            S: .
            C: AUTH PLAIN {plain}
            S: -ERR Already logged in
            C: QUIT
            S: +OK Good-bye
            """)
        self.converse(f"""
            S: +OK pop.a.test ready
            C: AUTH PLAIN
            S: +\x20
            C: {plain}
            S: +OK 3 messages (74 octets)
            """)
        self.converse(f"""
            S: +OK pop.a.test ready
            C: AUTH PLAIN {plain}
            S: +OK 3 messages (74 octets)
            """)
        self.converse(f"""
            S: +OK pop.a.test ready
            C: AUTH LOGIN {login}
            S: + UGFzc3dvcmQ6
            C: {password}
            S: +OK 0 messages (0 octets)
            """)

    def test_bad_sasl_lets_the_next_command_work(self) -> None:
        for line in ("AUTH PLAIN !", "AUTH PLAIN AAA", "AUTH PLAIN =", "AUTH PLAIN YQ==", "AUTH LOGIN ="):
            peer = self.connect()
            answer = self.say(peer, line.encode() + b"\r\n")
            if answer.startswith(b"+"):
                answer = self.say(peer, b"not base64\r\n")
            self.assertTrue(answer.startswith(b"-ERR"), (line, answer))
            self.assertTrue(self.say(peer, b"CAPA\r\n").startswith(b"+OK"), line)

    def test_pipelined(self) -> None:
        peer = self.login()
        answer = self.say(peer, b"STAT\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n")
        self.assertEqual(
            answer,
            b"+OK 3 74\r\n+OK 30 octets\r\nSubject: two\r\n\r\nsecond\r\nline\r\n.\r\n+OK Message 2 is marked\r\n+OK Good-bye\r\n",
        )
        self.assertNotIn(12, self.inbox.messages)


class LoginTests(AccessCase):
    def test_no_login_in_clear_from_elsewhere(self) -> None:
        self.access = self.make_access(plaintext_networks=())
        peer = self.connect()
        offered = self.say(peer, b"CAPA\r\n")
        self.assertIn(b"STLS", offered)
        self.assertNotIn(b"\r\nUSER\r\n", offered)
        self.assertNotIn(b"SASL", offered)
        plain = base64.b64encode(b"\0alice@a.test\0secret pass")
        for line in (b"USER alice@a.test", b"AUTH PLAIN", b"AUTH PLAIN " + plain):
            self.assertTrue(self.say(peer, line + b"\r\n").startswith(b"-ERR [AUTH] No login in clear"), line)
        self.assertEqual(self.say(peer, b"AUTH\r\n"), b"+OK Mechanisms follow\r\n.\r\n")

    def test_tls_from_the_first_octet(self) -> None:
        self.access = self.make_access(plaintext_networks=())
        peer = self.connect(secure=True)
        offered = self.say(peer, b"CAPA\r\n")
        self.assertNotIn(b"STLS", offered)
        self.assertIn(b"SASL PLAIN LOGIN", offered)
        self.assertTrue(self.say(peer, b"STLS\r\n").startswith(b"-ERR"))
        self.assertIn(b"+OK 3 messages", self.say(peer, b"USER alice@a.test\r\nPASS secret pass\r\n"))

    def test_no_tls_to_offer(self) -> None:
        self.access = self.make_access(offers_tls=False)
        peer = self.connect()
        self.assertNotIn(b"STLS", self.say(peer, b"CAPA\r\n"))
        self.assertTrue(self.say(peer, b"STLS\r\n").startswith(b"-ERR"))

    def test_stls(self) -> None:
        self.access = self.make_access(plaintext_networks=())
        _, transport = peer = self.connect()
        started = []
        transport.startTLS = started.append
        answer = self.say(peer, b"STLS\r\nUSER alice@a.test\r\nPASS secret pass\r\n")
        self.assertEqual(answer, b"+OK Begin TLS\r\n")
        self.assertEqual(len(started), 1)
        self.assertIn(b"SASL PLAIN LOGIN", self.say(peer, b"CAPA\r\n"))
        self.assertIn(b"+OK 3 messages", self.say(peer, b"USER alice@a.test\r\nPASS secret pass\r\n"))

    def test_wrong_password_and_unknown_user_get_the_same_answer_late(self) -> None:
        answers = set()
        for user in (b"alice@a.test", b"nobody@a.test", "ß".encode(), b"a b c"):
            self.clock.advance(900)  # the failures before are forgotten
            peer = self.connect()
            self.say(peer, b"USER " + user + b"\r\n")
            self.assertEqual(self.say(peer, b"PASS wrong\r\nCAPA\r\n"), b"")
            self.clock.advance(1.9)
            self.assertEqual(peer[1].value(), b"")
            self.clock.advance(0.2)
            answer, _, rest = peer[1].value().partition(b"\r\n")
            answers.add(answer)
            self.assertTrue(rest.startswith(b"+OK Capabilities"))
        self.assertEqual(answers, {b"-ERR [AUTH] Wrong user name or password"})

    def test_the_last_failure_closes(self) -> None:
        peer = self.connect()
        for _ in range(2):
            self.say(peer, b"USER alice@a.test\r\nPASS wrong\r\n")
            self.clock.advance(3.1)  # each waits longer than the one before
            self.assertFalse(peer[1].disconnecting)
        self.say(peer, b"AUTH PLAIN !\r\n")
        self.assertTrue(peer[1].disconnecting)

    def test_a_bad_line_between_user_and_pass(self) -> None:
        peer = self.connect()
        answer = self.say(peer, b"USER alice@a.test\r\nPASS\r\nPASS secret pass\r\n")
        self.assertIn(b"+OK 3 messages", answer)

    def test_too_many_bad_lines(self) -> None:
        peer = self.connect()
        self.say(peer, b"junk\r\n" * 49)
        self.assertFalse(peer[1].disconnecting)
        self.assertIn(b"-ERR Too many", self.say(peer, b"junk\r\n" * 100))
        self.assertTrue(peer[1].disconnecting)

    def test_directory_trouble_is_temporary(self) -> None:
        for error in (Overloaded("busy"), OSError("disk")):
            self.directory.error = error
            peer = self.connect()
            answer = self.say(peer, b"USER alice@a.test\r\nPASS secret pass\r\n")
            self.assertIn(b"-ERR [SYS/TEMP]", answer)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_store_trouble_leaves_no_lock(self) -> None:
        self.store.error = OSError("disk")
        peer = self.connect()
        self.assertIn(b"-ERR [SYS/TEMP]", self.say(peer, b"USER alice@a.test\r\nPASS secret pass\r\n"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.store.error = None
        self.login()


class ReadAheadTests(AccessCase):
    """Who takes one message takes them all: those that follow are read with it."""

    BODIES = tuple(b"Subject: %d\r\n\r\n.%d\r\n" % (number, number) for number in range(1, 6))

    def setUp(self) -> None:
        super().setUp()
        self.fill(ALICE, self.BODIES)
        self.peer = self.login()

    def retrieve(self, *numbers: int) -> None:
        for number in numbers:
            body = self.BODIES[number - 1].replace(b"\r\n.", b"\r\n..")
            said = b"+OK %d octets\r\n%b.\r\n" % (len(self.BODIES[number - 1]), body)
            self.assertEqual(self.say(self.peer, b"RETR %d\r\n" % number), said)

    def test_in_order(self) -> None:
        self.retrieve(1, 2, 3, 4, 5)
        self.assertEqual(self.inbox.reads, [[12, 13, 14, 15]])

    def test_in_any_other_order(self) -> None:
        self.retrieve(5, 4, 4, 2, 5, 1, 1)
        self.assertEqual(self.inbox.reads, [[15]])

    def test_one_that_was_removed_meanwhile_is_not_sent(self) -> None:
        self.retrieve(1, 2)
        del self.inbox.messages[13]
        self.assertIn(b"-ERR The message was removed", self.say(self.peer, b"RETR 3\r\n"))
        self.retrieve(4)

    def test_deleted_and_big_ones_are_not_read(self) -> None:
        self.fill(BOB, [b"a", b"b", b"c", b"d", b"x" * (SMALL + 1), b"e"])
        peer, inbox = self.login("bob@a.test", "ü"), self.store.boxes[BOB]
        self.say(peer, b"DELE 3\r\nRETR 1\r\nRETR 2\r\n")
        self.assertEqual(inbox.reads, [[12, 14]])


class MaildropTests(AccessCase):
    def test_one_session_at_a_time(self) -> None:
        first = self.login()
        second = self.connect()
        answer = self.say(second, b"USER alice@a.test\r\nPASS secret pass\r\n")
        self.assertIn(b"-ERR [IN-USE]", answer)
        self.login("bob@a.test", "ü")
        self.say(first, b"QUIT\r\n")
        self.assertIn(b"+OK 3", self.say(second, b"USER alice@a.test\r\nPASS secret pass\r\n"))

    def test_vanishing_releases_the_maildrop_and_deletes_nothing(self) -> None:
        peer = self.login()
        self.say(peer, b"DELE 1\r\nRETR 2\r\n")
        self.hang_up(peer[0])
        self.assertEqual(len(self.inbox.messages), 3)
        self.assertEqual(self.inbox.opened, 0)
        self.assertEqual(self.inbox.calls, [("add", [12])])
        self.login()

    def test_silence_deletes_nothing_and_says_nothing(self) -> None:
        peer = self.login()
        self.say(peer, b"DELE 1\r\n")
        peer[1].clear()
        self.clock.advance(601)
        self.assertTrue(peer[1].disconnecting)
        self.assertEqual(peer[1].value(), b"")
        self.hang_up(peer[0])
        self.assertEqual(len(self.inbox.messages), 3)

    def test_quit_expunges_and_marks_seen_in_one_go(self) -> None:
        peer = self.login()
        self.say(peer, b"RETR 1\r\nRETR 2\r\nTOP 3 0\r\nDELE 1\r\nQUIT\r\n")
        self.assertEqual(self.inbox.calls, [("add", [12]), ("expunge", [11])])
        self.assertEqual(self.inbox.opened, 0)
        self.assertEqual(self.inbox.flags[13], set())

    def test_many_are_marked_seen_before_quit(self) -> None:
        self.patch(maildrop, "FLUSH", 2)
        peer = self.login()
        self.say(peer, b"RETR 2\r\nRETR 3\r\nRETR 1\r\n")
        self.assertEqual(self.inbox.calls, [("add", [12, 13])])
        self.say(peer, b"QUIT\r\n")

    def test_quit_when_the_store_fails(self) -> None:
        self.inbox.expunge_error = OSError("disk full")
        peer = self.login()
        self.assertIn(b"-ERR [SYS/TEMP]", self.say(peer, b"DELE 1\r\nQUIT\r\n"))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(len(self.inbox.messages), 3)
        self.hang_up(peer[0])
        self.login()

    def test_messages_that_others_add_or_remove(self) -> None:
        peer = self.login()
        self.inbox.messages[99] = b"new"
        del self.inbox.messages[12]
        self.assertEqual(self.say(peer, b"STAT\r\n"), b"+OK 3 74\r\n")
        self.assertIn(b"-ERR The message was removed", self.say(peer, b"RETR 2\r\n"))
        self.assertIn(b"+OK Good-bye", self.say(peer, b"DELE 2\r\nQUIT\r\n"))
        self.assertIn(99, self.inbox.messages)

    def test_ten_thousand(self) -> None:
        self.fill(ALICE, [b"x"] * 10_000)
        peer = self.login()
        answer = self.say(peer, b"LIST\r\nUIDL\r\n")
        self.assertEqual(answer.count(b"\r\n"), 20_004)
        self.assertIn(b"\r\n10000 1700000000.10010\r\n.\r\n", answer)


class BigMessageTests(AccessCase):
    MESSAGE = b"Subject: big\r\n\r\n" + b".line of text\r\n" * 60_000

    def setUp(self) -> None:
        super().setUp()
        self.fill(ALICE, [self.MESSAGE, b"a" * SMALL, b"small\r\n"])

    def test_streams_whole(self) -> None:
        answer = self.say(self.login(), b"RETR 1\r\n")
        first, _, content = answer.partition(b"\r\n")
        self.assertEqual(first, b"+OK %d octets" % len(self.MESSAGE))
        self.assertEqual(content, self.MESSAGE.replace(b"\r\n.", b"\r\n..") + b".\r\n")

    def test_waits_for_a_slow_client(self) -> None:
        conversation, transport = peer = self.login()
        transport.clear()
        conversation.pauseProducing()  # the transport's buffer is full
        conversation.dataReceived(b"RETR 1\r\n")
        self.assertLess(len(transport.value()), SMALL)
        for _ in range(20):
            conversation.resumeProducing()
        self.assertTrue(transport.value().endswith(b"\r\n.\r\n"))
        self.assertEqual(self.say(peer, b"LIST 3\r\n"), b"+OK 3 7\r\n")

    def test_vanishing_in_the_middle_closes_the_file(self) -> None:
        conversation, _ = self.login()
        conversation.pauseProducing()
        conversation.dataReceived(b"RETR 1\r\n")
        self.hang_up(conversation)
        self.assertEqual(self.inbox.opened, 0)

    def test_top_reads_no_more_than_it_needs(self) -> None:
        answer = self.say(self.login(), b"TOP 1 1\r\n")
        self.assertEqual(answer, b"+OK Top follows\r\nSubject: big\r\n\r\n..line of text\r\n.\r\n")

    def test_a_file_that_is_renamed_meanwhile(self) -> None:
        peer = self.login()
        self.inbox.renames = 2
        self.assertTrue(self.say(peer, b"RETR 1\r\n").endswith(b"text\r\n.\r\n"))

    def test_a_file_that_is_gone(self) -> None:
        peer = self.login()
        self.inbox.renames = 3
        self.assertEqual(
            self.say(peer, b"RETR 1\r\n"), b"-ERR [SYS/TEMP] Internal error; try again later\r\n"
        )
        self.assertEqual(len(self.flushLoggedErrors(FileNotFoundError)), 1)
        self.assertEqual(self.say(peer, b"LIST 3\r\n"), b"+OK 3 7\r\n")

    def test_a_file_that_is_short_cuts_the_connection(self) -> None:
        peer = self.login()
        whole = self.inbox.messages[11]
        stored = self.inbox.stored

        async def short(uid: int) -> Stored:
            place = await stored(uid)
            place.path.write_bytes(b"before" + whole[:400_000])
            return place

        self.inbox.stored = short  # type: ignore[method-assign]
        answer = self.say(peer, b"RETR 1\r\n")
        self.assertFalse(answer.endswith(b"\r\n.\r\n"))
        self.assertTrue(peer[1].disconnecting)
        self.assertEqual(len(self.flushLoggedErrors()), 1)


class NeverStuckTests(AccessCase):
    def test_a_login_that_is_being_checked_when_the_peer_vanishes(self) -> None:
        waiting: Deferred[Any] = Deferred()

        async def slow(login: str, password: str, peer: str) -> Any:
            return await waiting

        self.directory.authenticate = slow  # type: ignore[method-assign]
        conversation, _ = peer = self.connect()
        self.say(peer, b"USER alice@a.test\r\nPASS secret pass\r\n")
        self.hang_up(conversation)
        waiting.callback(FakeUser(ALICE, Address("alice", "a.test")))
        self.assertEqual(self.inbox.opened, 0)
        del self.directory.authenticate
        self.login()
