"""Searches that are kept up to date: CONTEXT=SEARCH and CONTEXT=SORT (RFC 5267) over the real store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]


def mail(subject: str) -> bytes:
    return f"From: b@b.test\r\nSubject: {subject}\r\n\r\nbody\r\n".encode()


@pytest.fixture
def client(world: World) -> Client:
    """Alice, INBOX selected; subjects b d f h."""
    for letter in "bdfh":
        world.append(mail(letter))
    return world.connect().select()


@pytest.fixture
def other(world: World, client: Client) -> Client:
    return world.connect().select()


class TestSearch:
    def test_flags_of_its_own_and_of_others(self, client: Client, other: Client, talk: Talk) -> None:
        talk(client, r"""
            C: a UID SEARCH RETURN (UPDATE COUNT) FLAGGED UNDELETED
            S: * ESEARCH (TAG "a") UID COUNT 0
            S: a OK UID SEARCH completed
            C: b STORE 2:3 +FLAGS (\Flagged)
            S: * 2 FETCH (FLAGS (\Flagged \Recent))
            S: * 3 FETCH (FLAGS (\Flagged \Recent))
            S: * ESEARCH (TAG "a") UID ADDTO (0 2:3)
            S: b OK STORE completed
        """)  # fmt: skip
        other.ask(r"a STORE 2 +FLAGS (\Deleted)")
        other.ask(r"b STORE 4 +FLAGS (\Flagged)")
        talk(client, r"""
            C: c NOOP
            S: * 2 FETCH (FLAGS (\Flagged \Deleted \Recent))
            S: * 4 FETCH (FLAGS (\Flagged \Recent))
            S: * ESEARCH (TAG "a") UID REMOVEFROM (0 2) ADDTO (0 4)
            S: c OK NOOP completed
            C: d STORE 3 +FLAGS ($Else)
            S: * FLAGS (...)
            S: * OK [PERMANENTFLAGS (...)] Flags permitted
            S: * 3 FETCH (FLAGS (\Flagged $Else \Recent))
            S: d OK STORE completed
        """)  # fmt: skip

    def test_new_and_expunged_ones_by_number(
        self, world: World, client: Client, other: Client, talk: Talk
    ) -> None:
        talk(client, """
            C: a SEARCH RETURN (UPDATE) SUBJECT d
            S: * ESEARCH (TAG "a")
            S: a OK SEARCH completed
            C: b SEARCH RETURN (UPDATE CONTEXT ALL) ALL
            S: * ESEARCH (TAG "b") ALL 1:4
            S: b OK SEARCH completed
        """)  # fmt: skip
        world.append(mail("d again"))
        other.ask(r"a STORE 2 +FLAGS.SILENT (\Deleted)")
        other.ask("b EXPUNGE")
        talk(client, """
            C: c FETCH 2 (UID)
            S: * ESEARCH (TAG "a") REMOVEFROM (0 2)
            S: * ESEARCH (TAG "b") REMOVEFROM (0 2)
            S: c NO [EXPUNGEISSUED] Some of the messages are gone
            C: d NOOP
            S: * 2 EXPUNGE
            S: * 4 EXISTS
            S: * 3 RECENT
            S: * ESEARCH (TAG "a") ADDTO (0 4)
            S: * ESEARCH (TAG "b") ADDTO (0 4)
            S: d OK NOOP completed
        """)  # fmt: skip

    def test_cancelled_or_left(self, world: World, client: Client, talk: Talk) -> None:
        talk(client, """
            C: a UID SEARCH RETURN (UPDATE COUNT) ALL
            S: * ESEARCH (TAG "a") UID COUNT 4
            S: a OK UID SEARCH completed
            C: a UID SEARCH RETURN (UPDATE) UNSEEN
            S: a BAD Tag reuse
            C: a SORT RETURN (UPDATE) (SUBJECT) UTF-8 ALL
            S: a BAD Tag reuse
            C: a ESEARCH IN (selected) RETURN (UPDATE) ALL
            S: a BAD Tag reuse
            C: b CANCELUPDATE "a" "none"
            S: b OK No further updates
        """)  # fmt: skip
        world.append(mail("x"))
        assert b"ESEARCH" not in client.ask("c NOOP")
        client.ask("d SEARCH RETURN (UPDATE) ALL")
        client.ask("e SELECT INBOX")
        world.append(mail("x"))
        assert b"ESEARCH" not in client.ask("f NOOP")
        client.ask("g UNSELECT")
        assert client.ask('h CANCELUPDATE "d"') == b"h OK No further updates\r\n"

    def test_in_idle_at_once(self, world: World, client: Client) -> None:
        client.ask("a UID SEARCH RETURN (UPDATE) SUBJECT news")
        client.ask("b IDLE")
        world.append(mail("old"))
        assert client.heard() == b"* 5 EXISTS\r\n* 5 RECENT\r\n"
        world.append(mail("news"))
        assert client.heard() == b'* 6 EXISTS\r\n* 6 RECENT\r\n* ESEARCH (TAG "a") UID ADDTO (0 6)\r\n'
        assert client.ask("DONE") == b"b OK IDLE completed\r\n"

    def test_numbers_mean_what_they_meant(self, world: World, client: Client, other: Client) -> None:
        """RFC 5267 section 4.3: message numbers are evaluated when the command is received."""
        said = client.ask("a UID SEARCH RETURN (UPDATE ALL) OR 3 (2 UNSEEN)")
        assert b"ALL 2:3" in said
        other.ask(r"a STORE 1 +FLAGS.SILENT (\Deleted)")
        other.ask("b EXPUNGE")
        other.ask(r"c STORE 1 +FLAGS.SILENT (\Seen)")  # UID 2
        said = client.ask("b NOOP")
        assert said.endswith(b'* ESEARCH (TAG "a") UID REMOVEFROM (0 2)\r\nb OK NOOP completed\r\n')

    def test_a_filter_means_what_it_meant(self, world: World, client: Client) -> None:
        client.ask('a SETMETADATA "" (/private/filters/values/mine "SUBJECT special")')
        client.ask("b UID SEARCH RETURN (UPDATE COUNT) FILTER mine")
        client.ask('c SETMETADATA "" (/private/filters/values/mine "ALL")')
        world.append(mail("x"))
        world.append(mail("special"))
        assert b"ADDTO (0 6)" in client.ask("d NOOP")

    def test_bodies_and_keywords(self, world: World, client: Client, other: Client) -> None:
        client.ask("a UID SEARCH RETURN (UPDATE COUNT) BODY needle KEYWORD $Hay")
        world.append(mail("x") + b"the needle\r\n")
        assert b"ESEARCH" not in client.ask("b NOOP")
        other.ask("a NOOP")
        other.ask("b STORE 5 +FLAGS ($Hay)")
        assert b'* ESEARCH (TAG "a") UID ADDTO (0 5)\r\n' in client.ask("c NOOP")

    def test_more_than_are_kept(self, world: World, client: Client) -> None:
        for at in range(10):
            assert b"NO" not in client.ask(f"k{at} SEARCH RETURN (UPDATE COUNT) ALL")
        for at in range(1000):
            said = client.ask(f"t{at} SEARCH RETURN (UPDATE COUNT) ALL")
        assert said == (
            b'* NO [NOUPDATE "t999"] Too many searches are kept up to date\r\n'
            b'* ESEARCH (TAG "t999") COUNT 4\r\nt999 OK SEARCH completed\r\n'
        )
        world.append(mail("x"))
        assert client.ask("n NOOP").count(b"ESEARCH") == 10
        client.ask('c CANCELUPDATE "k0"')
        assert b"NOUPDATE" not in client.ask("l SEARCH RETURN (UPDATE COUNT) ALL")

    def test_only_what_has_changed_is_looked_at(self, world: World, client: Client) -> None:
        client.ask("a UID SEARCH RETURN (UPDATE) OR SUBJECT d FLAGGED")
        client.ask("n NOOP")
        world.work.trips.clear()
        assert client.ask(r"b STORE 2 +FLAGS.SILENT (\Answered)") == b"b OK STORE completed\r\n"
        assert world.work.trips.count("read") <= 1
        world.work.trips.clear()
        client.ask("c NOOP")
        assert world.work.trips == []

    def test_with_the_result_variable(self, client: Client) -> None:
        client.ask("a SEARCH RETURN (SAVE) SUBJECT d")
        assert b"ALL 2" in client.ask("b UID SEARCH RETURN (UPDATE ALL) $ UNSEEN")
        said = client.ask(r"c STORE $ +FLAGS.SILENT (\Seen)")
        assert said == b'* ESEARCH (TAG "b") UID REMOVEFROM (0 2)\r\nc OK STORE completed\r\n'


class TestSort:
    def test_places(self, world: World, client: Client, other: Client, talk: Talk) -> None:
        talk(client, """
            C: a UID SORT RETURN (UPDATE ALL) (REVERSE SUBJECT) UTF-8 UNDELETED
            S: * ESEARCH (TAG "a") UID ALL 4,3,2,1
            S: a OK UID SORT completed
        """)  # fmt: skip
        for letter in "eaxc":
            world.append(mail(letter))
        # x h f e d c b a: UIDs 7 4 3 5 2 8 1 6
        talk(client, """
            C: b NOOP
            S: * 8 EXISTS
            S: * 8 RECENT
            S: * ESEARCH (TAG "a") UID ADDTO (1 7 4 5 6 8 8 6)
            S: b OK NOOP completed
        """)  # fmt: skip
        other.ask("n NOOP")
        other.ask(r"a UID STORE 7,3,5,1,6 +FLAGS.SILENT (\Deleted)")
        assert b'* ESEARCH (TAG "a") UID REMOVEFROM (7 1,6 3 3,5 1 7)\r\n' in client.ask("c NOOP")
        other.ask(r"b UID STORE 3,5 -FLAGS.SILENT (\Deleted)")
        assert b'* ESEARCH (TAG "a") UID ADDTO (2 3,5)\r\n' in client.ask("d NOOP")
        other.ask("c EXPUNGE")
        said = client.ask("e NOOP")
        assert b"ESEARCH" not in said
        assert said.count(b"EXPUNGE") == 3

    def test_many_at_once(self, world: World, client: Client) -> None:
        client.ask("a UID SORT RETURN (UPDATE) (SUBJECT) UTF-8 ALL")
        world.deliver(*(mail(chr(97 + at % 26)) for at in range(60)))
        mine = [1, 2, 3, 4]
        follow(mine, client.ask("b NOOP"))
        now = client.ask("c UID SORT (SUBJECT) UTF-8 ALL")
        assert mine == [int(word) for word in now.split(b"\r\n")[0].split()[2:]]

    def test_by_number_and_expunged(self, client: Client, other: Client) -> None:
        assert b"ALL 4,3,2,1" in client.ask(
            "a SORT RETURN (UPDATE ALL) (REVERSE ARRIVAL REVERSE SUBJECT) UTF-8 ALL"
        )
        other.ask(r"a STORE 3,2 +FLAGS.SILENT (\Deleted)")
        client.ask("b NOOP")
        other.ask("b EXPUNGE")
        assert client.ask("c NOOP") == (
            b'* ESEARCH (TAG "a") REMOVEFROM (2 3,2)\r\n* 3 EXPUNGE\r\n* 2 EXPUNGE\r\n* 2 RECENT\r\nc OK NOOP completed\r\n'
        )

    def test_what_is_told_makes_the_result(self, world: World, client: Client, other: Client) -> None:
        """A client that follows the places has what the command would say now."""
        said = client.ask("a UID SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 UNFLAGGED")
        mine = numbers(said.split(b"ALL ")[1].split(b"\r\n")[0])
        for at, letters in enumerate(("zyx", "aab", "mnd", "qce", "bbb")):
            for letter in letters:
                world.append(mail(letter))
            other.ask("n NOOP")
            other.ask(rf"s STORE {at + 1},{at + 4} +FLAGS.SILENT (\Flagged)")
            if at % 2:
                other.ask(rf"t STORE {at},{at + 2}:{at + 3} -FLAGS.SILENT (\Flagged)")
                other.ask(rf"u UID STORE {at + 5} +FLAGS.SILENT (\Deleted)")
                other.ask("v EXPUNGE")
            follow(mine, client.ask(f"b{at} NOOP"))
            now = client.ask(f"c{at} UID SORT (SUBJECT) UTF-8 UNFLAGGED")
            assert mine == [int(word) for word in now.split(b"\r\n")[0].split()[2:]]


def numbers(text: bytes) -> list[int]:
    found: list[int] = []
    for part in text.decode().split(","):
        first, _, last = part.partition(":")
        found += range(int(first), int(last or first) + 1)
    return found


def follow(mine: list[int], said: bytes) -> None:
    """What a client does with ADDTO and REMOVEFROM (RFC 5267 sections 4.3.3 and 4.3.4)."""
    for line in said.split(b"\r\n"):
        if not line.startswith(b"* ESEARCH"):
            continue
        for verb, words in (
            part.split(b" (") for part in line.split(b"UID ")[1].replace(b") ", b")|").split(b"|")
        ):
            pairs = words.rstrip(b")").split()
            for place, some in zip(pairs[::2], pairs[1::2], strict=True):
                at, uids = int(place) - 1, numbers(some)
                if verb == b"ADDTO":
                    mine[at:at] = uids
                else:
                    assert mine[at : at + len(uids)] == uids
                    del mine[at : at + len(uids)]


class TestWithNotify:
    def test_between_commands(self, world: World, client: Client, other: Client) -> None:
        client.ask("a NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange))")
        client.ask("b UID SEARCH RETURN (UPDATE) UNSEEN")
        world.append(mail("x"))
        assert client.heard() == (  # RFC 5465 section 5.2: FETCH follows ADDTO
            b'* 5 EXISTS\r\n* 5 RECENT\r\n* ESEARCH (TAG "b") UID ADDTO (0 5)\r\n* 5 FETCH (UID 5)\r\n'
        )
        other.ask(r"a STORE 1 +FLAGS (\Seen)")
        assert client.heard() == (
            b'* 1 FETCH (UID 1 FLAGS (\\Seen \\Recent))\r\n* ESEARCH (TAG "b") UID REMOVEFROM (0 1)\r\n'
        )

    def test_what_to_fetch_of_new_matches(self, world: World, client: Client, other: Client) -> None:
        """RFC 5465 section 7: FETCH before ADDTO, one for each message, none for changed flags."""
        client.ask("a SEARCH RETURN (COUNT UPDATE (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])) UNFLAGGED")
        client.ask("b SEARCH RETURN (UPDATE (UID RFC822.SIZE)) SUBJECT boss")
        world.append(mail("x"))
        world.append(mail("boss"))
        said = client.ask("c NOOP")
        assert said == (
            b"* 6 EXISTS\r\n* 6 RECENT\r\n"
            b"* 5 FETCH (UID 5 BODY[HEADER.FIELDS (SUBJECT)] {14}\r\nSubject: x\r\n\r\n)\r\n"
            b"* 6 FETCH (UID 6 BODY[HEADER.FIELDS (SUBJECT)] {17}\r\nSubject: boss\r\n\r\n RFC822.SIZE 39)\r\n"
            b'* ESEARCH (TAG "a") ADDTO (0 5:6)\r\n* ESEARCH (TAG "b") ADDTO (0 6)\r\nc OK NOOP completed\r\n'
        )
        other.ask(r"a STORE 1 +FLAGS.SILENT (\Flagged)")
        client.ask("d NOOP")
        other.ask(r"b STORE 1 -FLAGS.SILENT (\Flagged)")
        said = client.ask("e NOOP")
        assert said.startswith(b"* 1 FETCH (FLAGS (\\Recent))\r\n* ESEARCH")
        assert said.count(b"FETCH") == 1


class TestMultiSearch:
    def test_only_the_selected_mailbox(self, world: World, client: Client, talk: Talk) -> None:
        world.append(mail("sent"), "Sent")
        talk(client, """
            C: a ESEARCH IN (mailboxes (INBOX Sent)) RETURN (UPDATE COUNT) UNSEEN
            S: * ESEARCH (TAG "a" MAILBOX INBOX UIDVALIDITY ...) UID COUNT 4
            S: * ESEARCH (TAG "a" MAILBOX Sent UIDVALIDITY ...) UID COUNT 1
            S: a OK ESEARCH completed
            C: b ESEARCH IN (mailboxes Sent) RETURN (UPDATE COUNT) UNSEEN
            S: * NO [NOUPDATE "b"] The selected mailbox is not among them
            S: * ESEARCH (TAG "b" MAILBOX Sent UIDVALIDITY ...) UID COUNT 1
            S: b OK ESEARCH completed
            C: c STORE 1 +FLAGS.SILENT (\\Seen)
            S: * ESEARCH (TAG "a" MAILBOX INBOX UIDVALIDITY ...) UID REMOVEFROM (0 1)
            S: c OK STORE completed
            C: d UNSELECT
            S: d OK UNSELECT completed
            C: e ESEARCH IN (mailboxes Sent) RETURN (UPDATE COUNT) UNSEEN
            S: e BAD No mailbox is selected
        """)  # fmt: skip
