"""NOTIFY (RFC 5465) over the real store: what is told, to whom, when, and with no command in progress."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mailstack.access.settings import ImapConfig
from tests.access.imap.harness import HELLO, Client, World

Talk = Callable[[Client, str], None]
ALL = "MessageNew MessageExpunge FlagChange"
SHARED = "Other Users/alice@example.test"


def plain(said: bytes) -> list[str]:
    """The lines, numbers that depend on the moment left out."""
    return re.sub(r"(MODSEQ \(?|UIDVALIDITY )\d+", r"\g<1>N", said.decode()).split("\r\n")[:-1]


@pytest.fixture
def client(world: World) -> Client:
    """Alice, INBOX selected, with three messages."""
    for at in range(3):
        world.append(f"Subject: {at}\r\n\r\nx\r\n".encode())
    return world.connect().select()


@pytest.fixture
def other(world: World, client: Client) -> Client:
    """Alice's other program."""
    return world.connect().select()


class TestSelected:
    def test_everything_comes_by_itself(self, client: Client, other: Client, talk: Talk) -> None:
        talk(client, f"""
            C: a NOTIFY SET (selected ({ALL}))
            S: a OK NOTIFY completed
        """)  # fmt: skip
        other.ask(r"a STORE 2 +FLAGS (\Seen $Todo)")
        assert plain(client.heard()) == [
            r"* FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Todo)",
            r"* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Todo \*)] Flags permitted",
            r"* 2 FETCH (UID 2 FLAGS (\Seen $Todo \Recent))",
        ]
        other.world.deliver(HELLO)
        assert client.heard() == b"* 4 EXISTS\r\n* 4 RECENT\r\n"
        other.ask(r"b STORE 1 +FLAGS.SILENT (\Deleted)")
        client.heard()
        other.ask("c EXPUNGE")
        assert client.heard() == b"* 1 EXPUNGE\r\n* 3 RECENT\r\n"
        assert client.ask("b NOOP") == b"b OK NOOP completed\r\n"

    def test_new_messages_with_what_was_asked_for(self, client: Client, other: Client, talk: Talk) -> None:
        talk(client, """
            C: a NOTIFY SET (selected (MessageNew (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY[TEXT]) MessageExpunge))
            S: a OK NOTIFY completed
        """)  # fmt: skip
        other.world.deliver(HELLO)
        assert client.heard() == (
            b"* 4 EXISTS\r\n* 4 RECENT\r\n* 4 FETCH (UID 4 FLAGS (\\Recent) "
            b"BODY[HEADER.FIELDS (SUBJECT)] {18}\r\nSubject: hello\r\n\r\n BODY[TEXT] {15}\r\nHello, Alice.\r\n)\r\n"
        )
        assert b"FLAGS (\\Recent)" in client.ask("b FETCH 4 (FLAGS)")  # not \Seen
        other.ask(r"c STORE 1 +FLAGS (\Seen)")
        assert client.heard() == b"" == client.ask("d NOOP").removeprefix(b"d OK NOOP completed\r\n")

    def test_what_it_appends_itself_it_need_not_be_shown(self, client: Client, talk: Talk) -> None:
        talk(client, """
            C: a NOTIFY SET (selected (MessageNew (UID) MessageExpunge))
            S: a OK NOTIFY completed
            C: b APPEND INBOX {4+}
            C: abcd
            S: * 4 EXISTS
            S: * 4 RECENT
            S: b OK [APPENDUID ... 4] APPEND completed
            C: c COPY 1 INBOX
            S: * 5 EXISTS
            S: * 5 RECENT
            S: c OK [COPYUID ... 1 5] COPY completed
        """)  # fmt: skip

    def test_none_is_a_snapshot(self, client: Client, other: Client, talk: Talk) -> None:
        other.world.deliver(HELLO)
        talk(client, """
            C: a NOTIFY SET (selected NONE)
            S: * 4 EXISTS
            S: * 4 RECENT
            S: a OK NOTIFY completed
        """)  # fmt: skip
        other.world.deliver(HELLO)
        other.ask(r"a STORE 1 +FLAGS (\Deleted)")
        other.ask("b EXPUNGE")
        talk(client, """
            C: b NOOP
            S: b OK NOOP completed
            C: c FETCH 4 (UID)
            S: * 4 FETCH (UID 4)
            S: c OK FETCH completed
            C: d IDLE
            S: + idling
            C: DONE
            S: d OK IDLE completed
            C: e NOTIFY NONE
            S: e OK NOTIFY completed
            C: f NOOP
            S: f OK NOOP completed
            C: g NOTIFY SET (selected (MessageNew MessageExpunge))
            S: * 1 EXPUNGE
            S: * 4 EXISTS
            S: * 3 RECENT
            S: g OK NOTIFY completed
        """)  # fmt: skip

    def test_its_own_expunge_is_told_whatever_was_asked(self, client: Client, talk: Talk) -> None:
        talk(client, r"""
            C: a NOTIFY NONE
            S: a OK NOTIFY completed
            C: b STORE 2 +FLAGS (\Deleted)
            S: * 2 FETCH (FLAGS (\Deleted \Recent))
            S: b OK STORE completed
            C: c EXPUNGE
            S: * 2 EXPUNGE
            S: * 2 RECENT
            S: c OK EXPUNGE completed
            C: d MOVE 1 Trash
            S: * OK [COPYUID ... 1 1] Moved
            S: * 1 EXPUNGE
            S: * 1 RECENT
            S: d OK MOVE completed
        """)  # fmt: skip

    def test_delayed_numbers_stay_until_a_command_allows(self, client: Client, other: Client) -> None:
        client.ask("a NOTIFY SET (selected-delayed (MessageNew MessageExpunge FlagChange))")
        other.ask(r"a STORE 1 +FLAGS.SILENT (\Deleted)")
        assert b"1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))" in client.heard()
        other.ask("b EXPUNGE")
        assert client.heard() == b""
        assert b"* 3 FETCH (UID 3)\r\nb OK" in client.ask("b FETCH 3 (UID)")
        assert client.ask("c IDLE") == b"+ idling\r\n* 1 EXPUNGE\r\n* 2 RECENT\r\n"
        other.ask(r"c STORE 1 +FLAGS.SILENT (\Deleted)")
        client.heard()
        other.ask("d EXPUNGE")
        assert client.heard() == b"* 1 EXPUNGE\r\n* 1 RECENT\r\n"  # IDLE allows it at once
        assert client.ask("DONE") == b"c OK IDLE completed\r\n"

    def test_with_qresync(self, client: Client, other: Client) -> None:
        client.ask("a ENABLE QRESYNC")
        client.ask("b NOTIFY SET (selected (MessageNew (FLAGS) MessageExpunge FlagChange))")
        other.world.deliver(HELLO)
        assert plain(client.heard())[2:] == [r"* 4 FETCH (UID 4 FLAGS (\Recent) MODSEQ (N))"]
        other.ask(r"a STORE 1 +FLAGS.SILENT (\Deleted)")
        assert plain(client.heard()) == [r"* 1 FETCH (UID 1 MODSEQ (N) FLAGS (\Deleted \Recent))"]
        other.ask("b EXPUNGE")
        assert client.heard() == b"* VANISHED 1\r\n* 3 RECENT\r\n"

    def test_it_follows_the_selection(self, world: World, client: Client) -> None:
        client.ask("a NOTIFY SET (selected (MessageNew MessageExpunge))")
        client.ask("b SELECT Sent")
        world.append(HELLO)
        assert client.heard() == b""
        world.append(HELLO, "Sent")
        assert client.heard() == b"* 1 EXISTS\r\n* 1 RECENT\r\n"
        client.ask("c UNSELECT")
        world.append(HELLO, "Sent")
        assert client.heard() == b""

    def test_nothing_is_pushed_into_an_answer(self, world: World, client: Client) -> None:
        """A command that waits in the middle of its answer: what happens then is told at its end."""
        client.ask("a NOTIFY SET (selected (MessageNew MessageExpunge))")
        world.append(b"Subject: long\r\n\r\n" + b"x" * 200_000)
        client.heard()
        client.wire.producer.pauseProducing()  # the client's connection is full
        client.send(b"b FETCH 4 (BODY.PEEK[])\r\n")
        world.append(HELLO)
        assert b"EXISTS" not in client.heard()
        client.wire.producer.resumeProducing()
        world.settle()
        said = client.heard()
        assert said.endswith(b"* 5 EXISTS\r\n* 5 RECENT\r\nb OK FETCH completed\r\n")


class TestOthers:
    def test_a_status_for_each_change(self, world: World, talk: Talk) -> None:
        client = world.connect().login()
        talk(client, f"""
            C: a NOTIFY SET STATUS (mailboxes (Sent Nowhere) ({ALL})) (inboxes (MessageNew MessageExpunge))
            S: * STATUS INBOX (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ...)
            S: * STATUS Sent (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ... HIGHESTMODSEQ 1)
            S: a OK NOTIFY completed
        """.replace("S: * STATUS INBOX", "S: * STATUS ...").replace("S: * STATUS Sent", "S: * STATUS ..."))  # fmt: skip
        world.deliver(HELLO)
        assert client.heard() == b"* STATUS INBOX (UIDNEXT 2 MESSAGES 1)\r\n"
        world.append(HELLO, "Sent")
        assert plain(client.heard()) == ["* STATUS Sent (UIDNEXT 2 MESSAGES 1 UNSEEN 1 UIDVALIDITY N)"]
        other = world.connect().select()
        other.ask(r"a STORE 1 +FLAGS (\Seen)")
        assert client.heard() == b""  # no FlagChange for INBOX
        other.ask("b SELECT Sent")
        other.ask(r"c STORE 1 +FLAGS (\Flagged)")
        assert client.heard() == b""  # without CONDSTORE, and nothing to tell but the modseq
        other.ask(r"d STORE 1 +FLAGS (\Seen \Deleted)")
        assert plain(client.heard()) == ["* STATUS Sent (UNSEEN 0 UIDVALIDITY N)"]
        other.ask("e EXPUNGE")
        assert client.heard() == b"* STATUS Sent (UIDNEXT 2 MESSAGES 0)\r\n"
        assert client.ask("b NOOP") == b"b OK NOOP completed\r\n"

    def test_with_condstore(self, world: World) -> None:
        client = world.connect().login()
        client.ask("a ENABLE CONDSTORE")
        client.ask(f"b NOTIFY SET (personal ({ALL}))")
        world.append(HELLO, "Junk", (r"\Seen",))
        assert plain(client.heard()) == ["* STATUS Junk (UIDNEXT 2 MESSAGES 1 UIDVALIDITY N HIGHESTMODSEQ N)"]
        other = world.connect().login()
        other.ask("a SELECT Junk")
        other.ask(r"c STORE 1 +FLAGS (\Flagged)")
        assert plain(client.heard()) == ["* STATUS Junk (UIDVALIDITY N HIGHESTMODSEQ N)"]

    def test_the_selected_one_is_for_its_own_group(self, world: World) -> None:
        client = world.connect().select()
        client.ask(f"a NOTIFY SET (personal ({ALL})) (selected (MessageNew MessageExpunge))")
        world.append(HELLO)
        assert client.heard() == b"* 1 EXISTS\r\n* 1 RECENT\r\n"
        client.ask("b UNSELECT")
        assert client.heard() == b""
        world.append(HELLO)
        assert b"* STATUS INBOX (UIDNEXT 3 MESSAGES 2 " in client.heard()

    def test_its_own_changes_it_knows(self, world: World, talk: Talk) -> None:
        world.append(HELLO)
        client = world.connect().select()
        talk(client, f"""
            C: a NOTIFY SET (personal ({ALL})) (selected ({ALL}))
            S: a OK NOTIFY completed
            C: b APPEND Sent {{4+}}
            C: abcd
            S: b OK [APPENDUID ... 1] APPEND completed
            C: c COPY 1 Trash
            S: c OK [COPYUID ... 1 1] COPY completed
        """)  # fmt: skip
        world.append(HELLO, "Sent")
        assert b"* STATUS Sent (UIDNEXT 3 MESSAGES 2 UNSEEN 2 " in client.heard()

    def test_idle_is_no_different(self, world: World) -> None:
        client = world.connect().select()
        client.ask("a NOTIFY SET (personal (MessageNew MessageExpunge))")
        assert client.ask("b IDLE") == b"+ idling\r\n"
        world.append(HELLO)
        world.append(HELLO, "Sent")
        assert client.heard() == b"* STATUS Sent (UIDNEXT 2 MESSAGES 1)\r\n"
        assert client.ask("DONE") == b"b OK IDLE completed\r\n"

    def test_a_flood_is_told_once(self, world: World) -> None:
        client = world.connect().login()
        client.ask("a NOTIFY SET (inboxes (MessageNew MessageExpunge))")
        client.wire.producer.pauseProducing()
        world.append(HELLO)
        for _ in range(50):
            world.append(HELLO)
        client.wire.producer.resumeProducing()
        world.settle()
        assert plain(client.heard()) == [
            "* STATUS INBOX (UIDNEXT 2 MESSAGES 1)",
            "* STATUS INBOX (UIDNEXT 52 MESSAGES 51)",
        ]


class TestNames:
    @pytest.fixture
    def watcher(self, world: World) -> Client:
        client = world.connect().login()
        assert b"a OK" in client.ask("a NOTIFY SET (personal (MailboxName SubscriptionChange))")
        return client

    def test_made_renamed_deleted(self, world: World, watcher: Client) -> None:
        other = world.connect().login()
        other.ask("a CREATE Lists/One")
        assert watcher.heard() == (
            b'* LIST (\\HasChildren) "/" Lists\r\n* LIST (\\HasNoChildren) "/" Lists/One\r\n'
        )
        other.ask("b RENAME Lists Groups")
        assert watcher.heard() == b'* LIST (\\HasChildren) "/" Groups ("OLDNAME" (Lists))\r\n'
        other.ask("c DELETE Groups/One")
        assert plain(watcher.heard()) == [
            r'* LIST (\HasNoChildren) "/" Groups',
            r'* LIST (\NonExistent \Noselect \HasNoChildren) "/" Groups/One',
        ]
        other.ask("d RENAME INBOX Old")
        assert watcher.heard() == b'* LIST (\\HasNoChildren) "/" Old\r\n'

    def test_subscriptions(self, world: World, watcher: Client) -> None:
        other = world.connect().login()
        other.ask("a UNSUBSCRIBE Junk")
        assert watcher.heard() == b'* LIST (\\HasNoChildren \\Junk) "/" Junk\r\n'
        other.ask("b SUBSCRIBE Junk")
        assert watcher.heard() == b'* LIST (\\Subscribed \\HasNoChildren \\Junk) "/" Junk\r\n'
        other.ask("c SUBSCRIBE Nowhere")
        assert watcher.heard() == (
            b'* LIST (\\Subscribed \\NonExistent \\Noselect \\HasNoChildren) "/" Nowhere\r\n'
        )

    def test_its_own_changes_it_knows(self, world: World, watcher: Client, talk: Talk) -> None:
        talk(watcher, """
            C: a CREATE Mine/Own
            S: a OK [MAILBOXID (...)] CREATE completed
            C: b SUBSCRIBE Mine/Own
            S: b OK SUBSCRIBE completed
            C: c RENAME Mine Ours
            S: c OK RENAME completed
            C: d DELETE Ours/Own
            S: d OK DELETE completed
        """)  # fmt: skip
        world.connect().login().ask("a CREATE Theirs")
        assert watcher.heard() == b'* LIST (\\HasNoChildren) "/" Theirs\r\n'

    def test_a_new_mailbox_is_watched_from_its_first_message_on(self, world: World) -> None:
        client = world.connect().login()
        client.ask(
            "a NOTIFY SET (subtree Lists (MessageNew MessageExpunge MailboxName)) (subscribed (MessageNew MessageExpunge))"
        )
        other = world.connect().login()
        other.ask("a CREATE Lists/One")
        other.ask("b APPEND Lists/One {4+}\r\nabcd")
        assert client.heard().endswith(b'"/" Lists/One\r\n* STATUS Lists/One (UIDNEXT 2 MESSAGES 1)\r\n')
        other.ask("c CREATE Else")
        other.ask("d SUBSCRIBE Else")
        assert client.heard() == b""
        other.ask("e APPEND Else {4+}\r\nabcd")
        assert client.heard() == b"* STATUS Else (UIDNEXT 2 MESSAGES 1)\r\n"
        other.ask("f UNSUBSCRIBE Else")
        other.ask("g APPEND Else {4+}\r\nabcd")
        assert client.heard() == b""

    def test_a_name_that_is_made_again(self, world: World) -> None:
        """RFC 5465 section 5.1: a client that wants FlagChange is told of a new UIDVALIDITY."""
        other = world.connect().login()
        other.ask("a CREATE Box")
        client = world.connect().login()
        client.ask(f"a NOTIFY SET (mailboxes Box ({ALL}))")
        client.wire.producer.pauseProducing()
        world.append(HELLO, "Box")
        other.ask("b DELETE Box")
        other.ask("c CREATE Box")
        client.wire.producer.resumeProducing()
        world.settle()
        assert plain(client.heard())[-1] == "* STATUS Box (UIDNEXT 1 MESSAGES 0 UNSEEN 0 UIDVALIDITY N)"

    def test_in_their_own_letters(self, world: World, watcher: Client) -> None:
        world.run(world.store.create(world.alice.id, "Entwürfe"))
        assert watcher.heard() == b'* LIST (\\HasNoChildren) "/" Entw&APw-rfe\r\n'


class TestAnnotations:
    def test_of_mailboxes_and_of_the_server(self, world: World) -> None:
        client = world.connect().login()
        client.ask("a NOTIFY SET (mailboxes INBOX (MailboxMetadataChange ServerMetadataChange))")
        other = world.connect().login()
        other.ask('a SETMETADATA INBOX (/shared/comment "x" /private/comment "y")')
        assert client.heard() == b"* METADATA INBOX /shared/comment /private/comment\r\n"
        other.ask("b SETMETADATA INBOX (/shared/comment NIL)")
        assert client.heard() == b"* METADATA INBOX /shared/comment\r\n"
        other.ask('c SETMETADATA "" (/private/comment "z")')
        assert client.heard() == b'* METADATA "" /private/comment\r\n'
        other.ask('d SETMETADATA Sent (/shared/comment "x")')
        assert client.heard() == b""
        client.ask('e SETMETADATA INBOX (/shared/comment "own")')
        assert client.heard() == b""

    def test_private_ones_are_private(self, world: World) -> None:
        world.connect().login().ask("a SETACL INBOX bob@example.test lr")
        bob = world.connect().login("bob")
        bob.ask(f'a NOTIFY SET (subtree "{SHARED}" (MailboxMetadataChange))')
        alice = world.connect().login()
        alice.ask('a SETMETADATA INBOX (/private/comment "secret")')
        assert bob.heard() == b""
        alice.ask('b SETMETADATA INBOX (/shared/comment "for all")')
        assert bob.heard() == f'* METADATA "{SHARED}/INBOX" /shared/comment\r\n'.encode()


class TestOthersMailboxes:
    def test_only_what_the_user_may_see(self, world: World) -> None:
        alice = world.connect().login()
        alice.ask("a SETACL Sent bob@example.test lr")
        alice.ask("b SETACL Junk bob@example.test l")
        bob = world.connect().login("bob")
        said = bob.ask(
            f'a NOTIFY SET STATUS (mailboxes ("{SHARED}/INBOX" "{SHARED}/Sent" "{SHARED}/Junk") (MessageNew MessageExpunge))'
        )
        assert plain(said) == [
            f'* STATUS "{SHARED}/Sent" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY N)',
            rf'* LIST (\HasNoChildren \NoAccess) "/" "{SHARED}/Junk"',
            "a OK NOTIFY completed",
        ]
        for name in ("INBOX", "Sent", "Junk"):
            world.append(HELLO, name)
        assert bob.heard() == f'* STATUS "{SHARED}/Sent" (UIDNEXT 2 MESSAGES 1)\r\n'.encode()

    def test_rights_that_come_and_go(self, world: World) -> None:
        alice = world.connect().login()
        bob = world.connect().login("bob")
        bob.ask(f'a NOTIFY SET (subtree "{SHARED}" (MessageNew MessageExpunge MailboxName))')
        alice.ask("a SETACL Sent bob@example.test lr")
        assert plain(bob.heard()) == [  # the name above is concerned too, though it is no mailbox
            rf'* LIST (\NonExistent \Noselect \HasChildren) "/" "{SHARED}"',
            rf'* LIST (\HasNoChildren) "/" "{SHARED}/Sent"',
        ]
        world.append(HELLO, "Sent")
        assert bob.heard() == f'* STATUS "{SHARED}/Sent" (UIDNEXT 2 MESSAGES 1)\r\n'.encode()
        world.clock.advance(1.0)  # what others do is looked at once in a second
        alice.ask("b SETACL Sent bob@example.test l")
        assert bob.heard() == f'* LIST (\\HasNoChildren \\NoAccess) "/" "{SHARED}/Sent"\r\n'.encode()
        world.append(HELLO, "Sent")
        assert bob.heard() == b""
        world.clock.advance(1.0)
        alice.ask("c SETACL Sent bob@example.test lr")
        assert bob.heard() == f'* LIST (\\HasNoChildren) "/" "{SHARED}/Sent"\r\n'.encode() + (
            f'* STATUS "{SHARED}/Sent" (UIDNEXT 3 MESSAGES 2)\r\n'.encode()
        )
        world.clock.advance(1.0)
        alice.ask("d DELETEACL Sent bob@example.test")
        assert bob.heard().endswith(
            f'* LIST (\\NonExistent \\Noselect \\HasNoChildren \\NoAccess) "/" "{SHARED}/Sent"\r\n'.encode()
        )
        world.append(HELLO, "Sent")
        assert bob.heard() == b""
        world.clock.advance(1.0)
        alice.ask("e SETACL Sent anyone lr")
        assert f'* LIST (\\HasNoChildren) "/" "{SHARED}/Sent"\r\n'.encode() in bob.heard()

    def test_rights_are_gone_before_the_list_is_looked_at(self, world: World) -> None:
        """What another user changes is looked at once in a second; nothing is told meanwhile that may not be."""
        alice = world.connect().login()
        alice.ask("a SETACL Sent bob@example.test lr")
        bob = world.connect().login("bob")
        bob.ask(
            f'a NOTIFY SET (subtree "{SHARED}" (MessageNew MessageExpunge)) (inboxes (MessageNew MessageExpunge))'
        )
        for at in range(50):
            alice.ask(f"b{at} SETACL Sent bob@example.test {'lr' if at % 2 else 'l'}")
        alice.ask("c SETACL Sent bob@example.test l")
        world.work.trips.clear()
        world.append(HELLO, "Sent")
        assert bob.heard() == b""
        assert world.work.trips.count("read") < 5
        world.clock.advance(1.0)
        assert bob.heard() == f'* LIST (\\HasNoChildren \\NoAccess) "/" "{SHARED}/Sent"\r\n'.encode()
        alice.ask("d SETACL Sent bob@example.test lr")
        world.append(HELLO, "Sent")
        world.clock.advance(1.0)
        assert bob.heard().endswith(f'* STATUS "{SHARED}/Sent" (UIDNEXT 3 MESSAGES 2)\r\n'.encode())

    def test_mailboxes_made_below_a_shared_one(self, world: World) -> None:
        alice = world.connect().login()
        alice.ask("a CREATE Team")
        alice.ask("b SETACL Team bob@example.test lr")
        bob = world.connect().login("bob")
        bob.ask(f'a NOTIFY SET (subtree "{SHARED}/Team" (MailboxName))')
        alice.ask("c CREATE Team/One")
        world.clock.advance(1.0)
        assert f'"{SHARED}/Team/One"'.encode() in bob.heard()
        alice.ask("d DELETE Team/One")
        world.clock.advance(1.0)
        assert (
            rf'* LIST (\NonExistent \Noselect \HasNoChildren) "/" "{SHARED}/Team/One"'.encode() in bob.heard()
        )


class TestRefused:
    def test_events_that_there_are_not(self, client: Client, talk: Talk) -> None:
        talk(client, f"""
            C: a NOTIFY SET (selected ({ALL} AnnotationChange))
            S: a NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)] ...
            C: b NOTIFY SET (personal (MessageNew MessageExpunge Sunrise))
            S: b NO [BADEVENT (MessageNew ...)] ...
            C: c NOTIFY SET (personal (FlagChange))
            S: c BAD ...
            C: d NOTIFY SET (selected (MailboxName))
            S: d BAD ...
            C: e NOTIFY SET (personal (MessageNew (UID) MessageExpunge))
            S: e BAD ...
        """)  # fmt: skip

    def test_more_than_may_be_watched(self, world: World, talk: Talk) -> None:
        world.config = ImapConfig(max_notified=6)
        client = world.connect().login()
        client.ask("a NOTIFY SET (personal (MessageNew MessageExpunge))")
        other = world.connect().login()
        other.ask("a CREATE Seven")
        assert client.heard() == (
            b"* OK [NOTIFICATIONOVERFLOW] Too much to notify you of; this is the end of it\r\n"
        )
        world.append(HELLO)
        assert client.heard() == b""
        talk(client, """
            C: b NOTIFY SET (personal (MessageNew MessageExpunge))
            S: b NO [NOTIFICATIONOVERFLOW] Too many mailboxes
            C: c NOTIFY SET (personal (MailboxName)) (mailboxes INBOX (MessageNew MessageExpunge))
            S: c OK NOTIFY completed
        """)  # fmt: skip
        world.append(HELLO)
        assert client.heard() == b"* STATUS INBOX (UIDNEXT 3 MESSAGES 2)\r\n"

    def test_what_is_refused_leaves_what_was_before(self, world: World) -> None:
        client = world.connect().login()
        client.ask("a NOTIFY SET (inboxes (MessageNew MessageExpunge))")
        assert b"b NO [BADEVENT" in client.ask("b NOTIFY SET (inboxes (Sunset))")
        world.append(HELLO)
        assert client.heard() == b"* STATUS INBOX (UIDNEXT 2 MESSAGES 1)\r\n"

    def test_a_hundred_thousand_names(self, world: World) -> None:
        client = world.connect().login()
        names = b" ".join(b"m%d" % at for at in range(100_000))
        client.send(b"a NOTIFY SET (mailboxes (" + names + b") (MailboxName))\r\n")
        assert b" BAD " in client.heard()
        assert b"b OK" in client.ask("b NOOP")
        names = b" ".join(b"m%d" % at for at in range(1000))
        groups = b" ".join(b"(subtree (" + names[:400] + b") (MessageNew MessageExpunge))" for _ in range(90))
        said = client.ask(b"c NOTIFY SET STATUS " + groups)
        assert b"c OK" in said or b"c BAD" in said
        assert b"d OK" in client.ask("d NOTIFY NONE")

    def test_nested_filters(self, client: Client) -> None:
        assert b" BAD " in client.ask(
            "a NOTIFY SET (subtree " + "(" * 5000 + "x" + ")" * 5000 + " (MailboxName))"
        )
        assert b"b OK" in client.ask("b NOOP")


class TestCosts:
    def test_nobody_listens_any_more(self, world: World) -> None:
        listeners = world.store.news._listeners
        before = {topic: len(some) for topic, some in listeners.items()}
        for command in ("u UNAUTHENTICATE", "u NOTIFY NONE"):
            client = world.connect().login()
            client.ask(
                "a NOTIFY SET (personal (MessageNew MessageExpunge MailboxMetadataChange ServerMetadataChange))"
            )
            assert len(listeners) > len(before)
            client.ask(command)
            assert {topic: len(some) for topic, some in listeners.items()} == before
        client = world.connect().select()
        client.ask("a NOTIFY SET (selected (MessageNew MessageExpunge)) (personal (MailboxName))")
        client.lose()
        open_one = {box.id for box in world.store._opened._open.values()}
        assert {topic for topic in listeners if topic not in open_one} == set(before)

    def test_many_names_are_not_looked_at_again_and_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailstack.access.imap.watching.MANY_NAMES", 3)
        monkeypatch.setattr("mailstack.access.imap.watching.SECONDS_A_NAME", 0.1)
        client = world.connect().login()
        client.ask("a NOTIFY SET (personal (MailboxName))")
        world.work.trips.clear()
        for at in range(20):
            world.run(world.store.create(world.alice.id, f"more{at}"))
        assert client.heard() == b""
        assert world.work.trips.count("read") < 5
        world.clock.advance(0.6)
        world.settle()
        assert client.heard().count(b"* LIST") == 20

    def test_a_change_costs_those_who_watch_it(self, world: World) -> None:
        clients = [world.connect().login() for _ in range(10)]
        for client in clients:
            client.ask("a NOTIFY SET (mailboxes Sent (MessageNew MessageExpunge))")
        world.append(HELLO)
        world.work.trips.clear()
        world.append(HELLO)
        assert world.work.trips.count("read") == 0
        world.append(HELLO, "Sent")
        assert world.work.trips.count("read") == 1  # for all ten
        for client in clients:
            assert client.heard() == b"* STATUS Sent (UIDNEXT 2 MESSAGES 1)\r\n"
