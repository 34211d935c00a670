"""ESEARCH over many mailboxes, and what a long search says of itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mailstack.wire.imap import server
from tests.access.imap.harness import Client, World

assert server
Talk = Callable[[Client, str], None]


@pytest.fixture
def client(world: World) -> Client:
    for at, name in enumerate(("INBOX", "INBOX", "Archive", "Sent", "Archive")):
        world.append(f"Subject: number {at}\r\n\r\nbody\r\n".encode(), name)
    return world.connect().login()


class TestMultiSearch:
    def test_many_mailboxes(self, client: Client, talk: Talk) -> None:
        talk(client, """
            C: a ESEARCH IN (mailboxes (INBOX Archive Sent Nowhere)) SUBJECT number
            S: * ESEARCH (TAG "a" MAILBOX INBOX UIDVALIDITY ...) UID ALL 1:2
            S: * ESEARCH (TAG "a" MAILBOX Archive UIDVALIDITY ...) UID ALL 1:2
            S: * ESEARCH (TAG "a" MAILBOX Sent UIDVALIDITY ...) UID ALL 1
            S: a OK ESEARCH completed
            C: b ESEARCH IN (personal) RETURN (COUNT MAX) SUBJECT 4
            S: * ESEARCH (TAG "b" MAILBOX Archive UIDVALIDITY ...) UID MAX 2 COUNT 1
            S: b OK ESEARCH completed
            C: c ESEARCH IN (inboxes subtree Sent) RETURN (PARTIAL -1:-1) ALL
            S: * ESEARCH (TAG "c" MAILBOX INBOX UIDVALIDITY ...) UID PARTIAL (-1:-1 2)
            S: * ESEARCH (TAG "c" MAILBOX Sent UIDVALIDITY ...) UID PARTIAL (-1:-1 1)
            S: c OK ESEARCH completed
            C: d ESEARCH IN (subscribed) SUBJECT nothing
            S: d OK ESEARCH completed
            C: e ESEARCH ALL
            S: e BAD No mailbox is selected
            C: f ESEARCH IN (selected) ALL
            S: f BAD No mailbox is selected
            C: g ESEARCH IN (inboxes) 1
            S: g BAD That is only for the selected mailbox
            C: h ESEARCH IN (inboxes) RETURN (SAVE) ALL
            S: h BAD That is only for the selected mailbox
        """)  # fmt: skip

    def test_the_selected_one_stays_selected(self, world: World, client: Client, talk: Talk) -> None:
        client.ask("s SELECT INBOX")
        talk(client, """
            C: a ESEARCH RETURN (SAVE COUNT) 2
            S: * ESEARCH (TAG "a" MAILBOX INBOX UIDVALIDITY ...) UID COUNT 1
            S: a OK ESEARCH completed
            C: b ESEARCH $
            S: * ESEARCH (TAG "b" MAILBOX INBOX UIDVALIDITY ...) UID ALL 2
            S: b OK ESEARCH completed
            C: c ESEARCH IN (selected personal) UID 1
            S: * ESEARCH (TAG "c" MAILBOX INBOX UIDVALIDITY ...) UID ALL 1
            S: * ESEARCH (TAG "c" MAILBOX Archive UIDVALIDITY ...) UID ALL 1
            S: * ESEARCH (TAG "c" MAILBOX Sent UIDVALIDITY ...) UID ALL 1
            S: c OK ESEARCH completed
            C: d ESEARCH IN (personal) $
            S: d BAD That is only for the selected mailbox
            C: e FETCH 1 (UID)
            S: * 1 FETCH (UID 1)
            S: e OK FETCH completed
        """)  # fmt: skip

    def test_mailboxes_of_others_need_the_right(self, world: World, client: Client) -> None:
        bob = world.connect().login("bob")
        search = 'a ESEARCH IN (mailboxes "Other Users/alice@example.test/Sent") ALL'
        assert bob.ask(search) == b"a OK ESEARCH completed\r\n"
        client.ask("r SETACL Sent bob@example.test l")
        assert bob.ask(search) == b"a OK ESEARCH completed\r\n"
        client.ask("r SETACL Sent bob@example.test lr")
        assert b'MAILBOX "Other Users/alice@example.test/Sent"' in bob.ask(search)


def test_a_long_search_says_how_far_it_is(world: World, client: Client) -> None:
    """The clock goes on whenever a slice of messages is read."""
    client.ask("s SELECT INBOX")
    facts = type(world.run(world.store.open(1, "INBOX"))).facts

    async def slow(self: object, *args: object) -> object:
        world.clock.rightNow += 6.0  # type: ignore[attr-defined]
        return await facts(self, *args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mailstack.access.imap.search.FIELDS_SLICE", 5)
        patch.setattr("mailstack.store.mailbox.Mailbox.facts", slow)
        for _ in range(5):
            world.append(b"Subject: more\r\n\r\nx\r\n")
        client.ask("n NOOP")
        said = client.ask("a SEARCH SUBJECT number")
    assert said == b'* OK [INPROGRESS ("a" 5 7)] 5 of 7 messages\r\n* SEARCH 1 2\r\na OK SEARCH completed\r\n'
