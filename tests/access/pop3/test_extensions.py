"""UTF8 and LANG (RFC 6856), EXPIRE and LOGIN-DELAY (RFC 2449), SYS/PERM (RFC 3206)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mailstack.access.pop3.login import Recently
from mailstack.access.pop3.retention import DAY
from mailstack.access.pop3.role import SMALL
from mailstack.access.settings import Pop3Config
from mailstack.store.values import NoSuchMailbox
from tests.access.pop3.fakes import ALICE, AccessCase
from tests.access.pop3.test_with_store import StoreCase
from tests.store.harness import now, text

LETTER = "Subject: Grüße\r\n\r\nGuten Tag\r\n".encode()


class Utf8Tests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.fill(ALICE, [LETTER, b"Subject: x\r\n\r\n" + "ü\r\n".encode()])

    def test_transcript(self) -> None:
        self.converse(
            """
            S: +OK pop.a.test ready
            C: UTF8 now
            S: -ERR Wrong number of arguments
            C: UTF8
            S: +OK UTF-8 it is
            C: USER alice@a.test
            S: +OK Now the password
            C: UTF8
            S: +OK UTF-8 it is
            C: STLS
            S: -ERR STLS comes before UTF8
            C: PASS secret pass
            S: +OK 2 messages (49 octets)
            C: UTF8
            S: -ERR Already logged in
            C: RETR 1
            S: +OK 31 octets
            S: Subject: Grüße
            S:
            S: Guten Tag
            S: .
            C: QUIT
            S: +OK Good-bye
            """
        )

    def test_user_and_password_in_utf8(self) -> None:
        """RFC 6856 section 2.2: "UTF8 USER" is announced; other octets are refused."""
        self.login("bob@a.test", "ü")
        peer = self.connect()
        self.assertEqual(self.say(peer, b"USER b\xfc\r\n"), b"-ERR Names and passwords are in UTF-8\r\n")
        self.assertEqual(
            self.say(peer, b"USER bob@a.test\r\nPASS \xfc\r\n"),
            b"+OK Now the password\r\n-ERR Names and passwords are in UTF-8\r\n",
        )

    def test_such_a_message_is_refused_where_the_operator_wants_it(self) -> None:
        self.config = Pop3Config(refuse_8bit_headers=True)
        self.access = self.make_access()
        big = LETTER + b"x\r\n" * SMALL
        self.fill(ALICE, [LETTER, b"Subject: x\r\n\r\n" + "ü\r\n".encode(), big])
        peer = self.login()
        refused = b"-ERR [UTF8] The message is in UTF-8: say UTF8 before login\r\n"
        for command in (b"RETR 1\r\n", b"TOP 1 0\r\n", b"RETR 3\r\n", b"TOP 3 0\r\n"):
            self.assertEqual(self.say(peer, command), refused)
        self.assertTrue(self.say(peer, b"RETR 2\r\n").startswith(b"+OK"))
        self.say(peer, b"QUIT\r\n")
        self.assertEqual(self.inbox.flags[11], set())  # it was not fetched
        self.hang_up(peer[0])
        peer = self.connect()
        said = self.say(peer, b"UTF8\r\nUSER alice@a.test\r\nPASS secret pass\r\nRETR 1\r\n")
        self.assertTrue(said.endswith(LETTER + b".\r\n"), said)


class LanguageTests(AccessCase):
    def test_transcript(self) -> None:
        self.converse(
            """
            S: +OK pop.a.test ready
            C: LANG
            S: +OK Languages follow
            S: en English
            S: i-default English
            S: .
            C: LANG de
            S: -ERR We speak English only
            C: LANG EN-gb
            S: +OK en It is English
            C: LANG i-default
            S: +OK i-default It is English
            C: LANG a b
            S: -ERR LANG takes one language
            C: LANG d\u00fc
            S: -ERR LANG takes one language
            C: USER alice@a.test
            S: +OK Now the password
            C: LANG *
            S: +OK en It is English
            C: PASS secret pass
            S: +OK 3 messages (74 octets)
            C: LANG MUL
            S: -ERR We speak English only
            C: LANG en
            S: +OK en It is English
            C: QUIT
            S: +OK Good-bye
            """
        )


class DelayTests(AccessCase):
    def setUp(self) -> None:
        super().setUp()
        self.config = Pop3Config(login_delay=60)
        self.access = self.make_access()

    def test_transcript(self) -> None:
        plain = base64.b64encode(b"\0alice@a.test\0secret pass")
        enter = b"USER alice@a.test\r\nPASS secret pass\r\n"
        peer = self.connect()
        self.assertIn(b"\r\nLOGIN-DELAY 60\r\n", self.say(peer, b"CAPA\r\n"))
        self.assertIn(b"+OK 3 messages", self.say(peer, enter))
        self.assertIn(b"\r\nLOGIN-DELAY 60\r\n", self.say(peer, b"CAPA\r\n"))
        self.say(peer, b"QUIT\r\n")
        self.hang_up(peer[0])
        self.clock.advance(59)
        again = self.connect()
        refused = b"-ERR [LOGIN-DELAY] Log in once in 60 seconds\r\n"
        self.assertTrue(self.say(again, enter, 1).endswith(refused))
        self.assertTrue(self.say(again, b"AUTH PLAIN " + plain + b"\r\n").endswith(refused))
        self.login("bob@a.test", "ü")  # who is somebody else
        self.clock.advance(1)
        self.assertIn(b"+OK 3 messages", self.say(again, enter))

    def test_what_is_remembered_is_bounded(self) -> None:
        recently = Recently()
        for user in range(100):
            self.assertFalse(recently.is_too_soon(user, float(user), 10.0))
            recently.note(user, float(user))
        self.assertEqual(len(recently._times), 10)
        self.assertTrue(recently.is_too_soon(99, 100.0, 10.0))


class PermanentTests(AccessCase):
    def test_what_somebody_must_see_to(self) -> None:
        for error in (NoSuchMailbox("user 1 has no mail"), PermissionError(13, "no")):
            self.store.error = error
            peer = self.connect()
            said = self.say(peer, b"USER alice@a.test\r\nPASS secret pass\r\n")
            self.assertTrue(
                said.endswith(b"-ERR [SYS/PERM] The maildrop cannot be read; tell the postmaster\r\n")
            )
            self.hang_up(peer[0])
        self.flushLoggedErrors(NoSuchMailbox, PermissionError)
        self.store.error = None
        self.login()


class RetentionTests(StoreCase):
    """What becomes of fetched mail, over the real store."""

    def configure(self, **settings: Any) -> None:
        services: Any = self.access._services
        self.access._services = type(services)(
            services.store, services.sign_in, Pop3Config(**settings), services.clock, services.work, "h", True
        )

    def test_deleted_at_quit(self) -> None:
        for number in range(3):
            self.harness.deliver(number)
        self.configure(after_retr="delete")
        self.assertIn(b"\r\nEXPIRE 0\r\n", self.session(b"CAPA\r\nRETR 1\r\nTOP 2 1\r\n"))
        self.assertIn(b"+OK 3 ", self.session(b"STAT\r\nRETR 1\r\nRSET\r\nQUIT\r\n"))
        self.assertTrue(self.session(b"STAT\r\nRETR 1\r\nTOP 2 1\r\nQUIT\r\n").startswith(b"+OK 3 "))
        self.assertTrue(self.session(b"STAT\r\n").startswith(b"+OK 2 "))
        self.assertEqual(set(self.harness.flags()), {2, 3})

    def test_hidden_from_pop3_and_not_from_imap(self) -> None:
        for number in range(3):
            self.harness.deliver(number)
        self.configure(after_retr="hide")
        self.session(b"RETR 1\r\n")  # without QUIT nothing happens
        said = self.session(b"CAPA\r\nSTAT\r\nRETR 1\r\nRETR 2\r\nDELE 2\r\nQUIT\r\n")
        self.assertIn(b"\r\nEXPIRE 0\r\n", said)
        self.assertIn(b"+OK 3 ", said)
        epoch = now(self.harness.store.status(1, "INBOX")).uidvalidity
        self.assertEqual(
            self.session(b"STAT\r\nUIDL\r\n"),
            b"+OK 1 %d\r\n+OK 1 messages\r\n1 %d.3\r\n.\r\n" % (len(text(2)), epoch),
        )
        self.assertEqual(self.harness.flags(), {1: {r"\Seen"}, 3: set()})
        self.configure()  # the operator has another mind: all of it is there again
        self.assertTrue(self.session(b"STAT\r\n").startswith(b"+OK 2 "))

    def test_removed_days_after_it_was_fetched(self) -> None:
        for number in range(3):
            self.harness.deliver(number)
        self.configure(expire_days=14)
        self.assertIn(b"\r\nEXPIRE 14\r\n", self.session(b"CAPA\r\nRETR 1\r\nQUIT\r\n"))
        self.harness.clock.advance(7 * DAY)
        self.session(b"RETR 1\r\nRETR 2\r\nQUIT\r\n")  # the first time counts
        self.harness.clock.advance(7 * DAY - 1)
        self.assertTrue(self.session(b"STAT\r\n").startswith(b"+OK 3 "))
        self.harness.clock.advance(1)
        self.assertTrue(self.session(b"STAT\r\n").startswith(b"+OK 2 "))
        self.harness.clock.advance(365 * DAY)
        self.assertTrue(self.session(b"STAT\r\n").startswith(b"+OK 1 "))
        self.assertEqual(set(self.harness.flags()), {3})  # what was never fetched stays

    def test_never(self) -> None:
        self.harness.deliver(1)
        self.session(b"RETR 1\r\nQUIT\r\n")
        self.harness.clock.advance(36_500 * DAY)
        said = self.session(b"CAPA\r\nSTAT\r\n")
        self.assertIn(b"\r\nEXPIRE NEVER\r\n", said)
        self.assertIn(b"\r\n+OK 1 ", said)


@pytest.mark.parametrize(
    "settings", [{"after_retr": "burn"}, {"login_delay": -1}, {"login_delay": 90_000}, {"expire_days": -1}]
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^access\.pop3: "):
        Pop3Config(**settings)
