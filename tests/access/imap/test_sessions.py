"""Two clients at one mailbox: who is told what, and when (RFC 3501 sections 5.2 and 7.4.1, RFC 2180)."""

from __future__ import annotations

import pytest

from tests.access.imap.harness import HELLO, Client, World


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is told of flags is too much for one go."""
    monkeypatch.setattr("mailstack.store.change_log._UIDS", 0)
    monkeypatch.setattr("mailstack.store.view.MANY", 0)
    monkeypatch.setattr("mailstack.access.imap.updates.SLICE", 2)


@pytest.fixture
def pair(world: World) -> tuple[Client, Client]:
    for _ in range(3):
        world.append(HELLO)
    return world.connect().select(), world.connect().select()


def test_idle_is_told_at_once(world: World) -> None:
    client = world.connect().select()
    assert client.ask("a IDLE") == b"+ idling\r\n"
    world.deliver(HELLO)
    assert client.heard() == b"* 1 EXISTS\r\n* 1 RECENT\r\n"
    world.deliver(HELLO, HELLO)
    assert client.heard().endswith(b"* 3 EXISTS\r\n* 3 RECENT\r\n")
    client.send(b"DONE\r\nb NOOP\r\n")
    assert client.heard() == b"a OK IDLE completed\r\nb OK NOOP completed\r\n"
    world.deliver(HELLO)
    assert client.heard() == b""
    assert client.ask("c NOOP") == b"* 4 EXISTS\r\n* 4 RECENT\r\nc OK NOOP completed\r\n"


def test_idle_begins_with_what_is_new(world: World) -> None:
    client = world.connect().select()
    world.deliver(HELLO)
    assert client.ask("a IDLE") == b"+ idling\r\n* 1 EXISTS\r\n* 1 RECENT\r\n"


def test_idle_without_a_mailbox(world: World) -> None:
    client = world.connect().login()
    assert client.ask("a IDLE") == b"+ idling\r\n"
    world.deliver(HELLO)
    assert client.ask("DONE") == b"a OK IDLE completed\r\n"


def test_idle_hears_flags_and_expunges(pair: tuple[Client, Client]) -> None:
    one, two = pair
    two.ask("a IDLE")
    one.ask(r"b STORE 2 +FLAGS (\Deleted)")
    assert two.heard() == b"* 2 FETCH (FLAGS (\\Deleted))\r\n"
    one.ask("c EXPUNGE")
    assert two.heard() == b"* 2 EXPUNGE\r\n"
    assert two.ask("DONE") == b"a OK IDLE completed\r\n"


def test_what_is_not_done_ends_idle(world: World) -> None:
    client = world.connect().select()
    client.ask("a IDLE")
    said = client.ask("b NOOP")
    assert said.startswith(b"a BAD")
    assert said.endswith(b"b OK NOOP completed\r\n")
    world.deliver(HELLO)
    assert client.heard() == b""


def test_a_slow_idler_gets_all_in_the_end(world: World) -> None:
    client = world.connect().select()
    client.ask("a IDLE")
    client.conversation.pauseProducing()
    for _ in range(5):
        world.deliver(HELLO)
    first = client.heard()
    assert first == b"* 1 EXISTS\r\n* 1 RECENT\r\n"
    client.conversation.resumeProducing()
    assert client.heard() == b"* 5 EXISTS\r\n* 5 RECENT\r\n"


def test_no_expunge_while_numbers_are_in_use(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.ask(r"a STORE 1 +FLAGS.SILENT (\Deleted)")
    assert two.ask("b NOOP").startswith(b"* 1 FETCH (FLAGS (\\Deleted))\r\nb OK")
    one.ask("c EXPUNGE")
    assert two.ask("d FETCH 2:3 UID") == (
        b"* 2 FETCH (UID 2)\r\n* 3 FETCH (UID 3)\r\nd OK FETCH completed\r\n"
    )
    assert b"EXPUNGE" not in two.ask(r"e STORE 3 +FLAGS (\Seen)")
    assert b"EXPUNGE" not in two.ask("f SEARCH ALL")
    assert two.ask("g FETCH 1:3 UID") == (
        b"* 2 FETCH (UID 2)\r\n* 3 FETCH (UID 3)\r\ng NO [EXPUNGEISSUED] Some of the messages are gone\r\n"
    )
    assert two.ask("h NOOP") == b"* 1 EXPUNGE\r\nh OK NOOP completed\r\n"
    assert two.ask("i FETCH 1:2 UID") == b"* 1 FETCH (UID 2)\r\n* 2 FETCH (UID 3)\r\ni OK FETCH completed\r\n"


@pytest.mark.parametrize(
    "item", ["FLAGS", "ENVELOPE", "BODY.PEEK[]", "BODY[TEXT]", "BODY.PEEK[HEADER.FIELDS (Subject)]"]
)
def test_messages_gone_meanwhile_are_passed_over(pair: tuple[Client, Client], item: str) -> None:
    one, two = pair
    one.ask(r"a STORE 2 +FLAGS.SILENT (\Deleted)")
    two.ask("b NOOP")
    one.ask("c EXPUNGE")
    said = two.ask(f"d FETCH 1:3 {item}")
    assert said.count(b" FETCH (") == 2, said
    assert b"d NO [EXPUNGEISSUED]" in said
    assert two.ask(r"e STORE 1:3 +FLAGS.SILENT (\Flagged)").startswith(b"e NO [EXPUNGEISSUED]")
    assert b"f NO [EXPUNGEISSUED]" in two.ask("f COPY 2 Trash")


def test_uid_commands_tell_expunges(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.ask(r"a STORE 2 +FLAGS.SILENT (\Deleted)")
    two.ask("b NOOP")
    one.ask("c EXPUNGE")
    assert two.ask("d UID FETCH 2 (BODY.PEEK[])") == b"* 2 EXPUNGE\r\nd OK UID FETCH completed\r\n"


def test_flags_of_others(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.ask(r"a STORE 1 +FLAGS (\Flagged)")
    one.ask(r"b STORE 3 +FLAGS (\Seen $Junk)")
    said = two.ask("c NOOP")
    assert said == (
        b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Junk)\r\n"
        b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Junk \\*)] Flags permitted\r\n"
        b"* 1 FETCH (FLAGS (\\Flagged))\r\n* 3 FETCH (FLAGS (\\Seen $Junk))\r\nc OK NOOP completed\r\n"
    )
    assert two.ask("d NOOP") == b"d OK NOOP completed\r\n"


def test_a_silent_store_does_not_hide_what_others_did(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.ask(r"a STORE 1 +FLAGS (\Flagged)")
    assert two.ask(r"b STORE 1:2 +FLAGS.SILENT (\Seen)") == (
        b"* 1 FETCH (FLAGS (\\Flagged \\Seen))\r\nb OK STORE completed\r\n"
    )
    assert two.ask("c NOOP") == b"c OK NOOP completed\r\n"
    assert one.ask("d NOOP").count(b"FETCH") == 2


def test_a_new_keyword_is_told_before_the_first_message_that_has_it(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.ask("a STORE 1 +FLAGS ($New)")
    said = two.ask("b UID FETCH 1 (FLAGS)")
    assert said.startswith(b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $New)\r\n")
    assert two.ask("c FETCH 1 (FLAGS)") == b"* 1 FETCH (FLAGS ($New))\r\nc OK FETCH completed\r\n"


@pytest.mark.parametrize("verb", ["COPY", "MOVE"])
def test_what_is_gone_is_not_copied(pair: tuple[Client, Client], verb: str) -> None:
    """By sequence number all or none (RFC 3501 section 6.4.7); a UID that is gone is passed over."""
    one, two = pair
    for command in (r"a STORE 2 +FLAGS.SILENT (\Deleted)", "b EXPUNGE"):
        one.ask(command)
    two.ask("c FETCH 1 UID")
    assert b"d NO [EXPUNGEISSUED]" in two.ask(f"d {verb} 1:3 Trash")
    assert b"MESSAGES 0" in two.ask("e STATUS Trash (MESSAGES)")


def test_copy_by_uid_passes_over_what_is_gone(pair: tuple[Client, Client]) -> None:
    one, two = pair
    for command in (r"a STORE 2 +FLAGS.SILENT (\Deleted)", "b EXPUNGE"):
        one.ask(command)
    assert two.ask("c UID COPY 2 Trash").endswith(b"c OK Nothing to copy\r\n")
    one.ask(r"d STORE 1 +FLAGS.SILENT (\Deleted)")
    one.ask("e EXPUNGE")
    assert b" 3 1] COPY completed" in two.ask("f UID COPY 1,3 Trash")


def test_new_mail_and_expunge_together(pair: tuple[Client, Client], world: World) -> None:
    one, two = pair
    one.ask(r"a STORE 1,3 +FLAGS.SILENT (\Deleted)")
    one.ask("b EXPUNGE")
    world.deliver(HELLO, HELLO)
    assert two.ask("c NOOP") == (
        b"* 3 EXPUNGE\r\n* 1 EXPUNGE\r\n* 3 EXISTS\r\n* 2 RECENT\r\nc OK NOOP completed\r\n"
    )


def test_a_mailbox_deleted_by_another(world: World) -> None:
    one, two = world.connect().login(), world.connect().login()
    one.ask("a CREATE Brief")
    two.ask("b SELECT Brief")
    one.ask("c DELETE Brief")
    assert two.ask("d NOOP") == b"d OK NOOP completed\r\n"
    assert (
        two.ask("e FETCH 1:* FLAGS")
        == b"* BYE [NONEXISTENT] The selected mailbox was deleted; come again\r\n"
    )
    assert two.closed


def test_a_mailbox_renamed_by_another(world: World) -> None:
    one, two = world.connect().login(), world.connect().login()
    one.ask("a CREATE Old")
    two.ask("b SELECT Old")
    one.ask("c RENAME Old New")
    world.append(HELLO, "New")
    assert two.ask("d NOOP") == b"* 1 EXISTS\r\n* 1 RECENT\r\nd OK NOOP completed\r\n"


def test_users_do_not_see_each_other(world: World) -> None:
    world.append(HELLO)
    bob = world.connect().login("bob")
    assert b"* 0 EXISTS" in bob.ask("a SELECT INBOX")
    assert bob.ask("b CREATE Private").startswith(b"b OK")
    assert b"Private" not in world.connect().login().ask('c LIST "" "*"')


def test_a_mailbox_deleted_under_an_idle_session(world: World) -> None:
    world.run(world.store.create(world.alice.id, "Box"))
    idle, other = world.connect().select("Box"), world.connect().login()
    idle.ask("i IDLE")
    other.ask("d DELETE Box")
    assert idle.heard() == b"* BYE [NONEXISTENT] The selected mailbox was deleted; come again\r\n"
    assert idle.closed


def test_expunge_takes_only_what_is_still_marked(world: World) -> None:
    r"""Another session, or process, may take \Deleted back between our look and the expunge."""
    for _ in range(2):
        world.append(HELLO)
    live = world.run(world.store.open(world.alice.id, "INBOX"))
    world.run(live.store_flags([2], "add", frozenset({r"\Deleted"})))
    assert world.run(live.expunge([1, 2], marked=True)) == [2]
    assert world.run(live.expunge([1])) == [1]
    live.close()


@pytest.mark.usefixtures("slices")
class TestManyChanges:
    """Flags of thousands that others changed: told in slices, in the same order as those of few."""

    def test_all_are_told(self, pair: tuple[Client, Client]) -> None:
        one, two = pair
        one.ask(r"a STORE 1:3 +FLAGS (\Flagged)")
        assert two.ask("b NOOP") == (
            b"* 1 FETCH (FLAGS (\\Flagged))\r\n* 2 FETCH (FLAGS (\\Flagged))\r\n"
            b"* 3 FETCH (FLAGS (\\Flagged))\r\nb OK NOOP completed\r\n"
        )
        assert two.ask("c NOOP") == b"c OK NOOP completed\r\n"
        assert one.ask("d NOOP") == b"d OK NOOP completed\r\n"

    def test_idle(self, pair: tuple[Client, Client]) -> None:
        one, two = pair
        two.ask("a IDLE")
        one.ask(r"b UID STORE 1,3 +FLAGS.SILENT (\Flagged)")
        assert two.heard() == b"* 1 FETCH (FLAGS (\\Flagged))\r\n* 3 FETCH (FLAGS (\\Flagged))\r\n"
        two.ask("DONE")
        one.ask(r"c UID STORE 1 -FLAGS.SILENT (\Flagged)")
        assert two.ask("d IDLE") == b"* 1 FETCH (FLAGS ())\r\n+ idling\r\n"

    def test_what_is_expunged_and_what_comes_is_told_first(
        self, world: World, pair: tuple[Client, Client]
    ) -> None:
        one, two = pair
        one.ask(r"a STORE 1,2 +FLAGS.SILENT (\Deleted)")
        one.ask("b UID EXPUNGE 1")
        world.deliver(HELLO)
        assert two.ask("c NOOP") == (
            b"* 1 EXPUNGE\r\n* 3 EXISTS\r\n* 1 RECENT\r\n* 1 FETCH (FLAGS (\\Deleted))\r\nc OK NOOP completed\r\n"
        )

    def test_an_expunge_that_has_to_wait_holds_the_modseq_back(self, pair: tuple[Client, Client]) -> None:
        one, two = pair
        two.ask("a ENABLE CONDSTORE")
        one.ask(r"b STORE 1,2 +FLAGS.SILENT (\Deleted)")
        one.ask("c UID EXPUNGE 1")
        said = two.ask("d SEARCH ALL")
        assert b"* 2 FETCH (MODSEQ (" in said
        assert b"EXPUNGE" not in said
        assert b"* OK [HIGHESTMODSEQ " in said.partition(b"FETCH")[2]
        assert two.ask("e NOOP").startswith(b"* 1 EXPUNGE\r\n")

    def test_notify(self, pair: tuple[Client, Client]) -> None:
        one, two = pair
        two.ask("a NOTIFY SET (selected (MessageNew MessageExpunge FlagChange))")
        one.ask(r"b STORE 1:3 +FLAGS.SILENT (\Flagged)")
        assert two.heard().count(b" FETCH (UID ") == 3
        assert two.ask("c NOOP") == b"c OK NOOP completed\r\n"
