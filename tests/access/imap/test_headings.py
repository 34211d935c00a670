"""Orders, threads and searches by headings; by fields, where a message has no heading; and of old messages."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from mailstack.access.imap import search
from mailstack.access.imap.kept import KEPT
from mailstack.store.heading import MOST_REFERENCES
from mailstack.store.tables import message_facts
from tests.access.imap.harness import Client, World

LETTERS = (
    b"Subject: b\r\nFrom: Ann <ann@a.test>\r\nMessage-ID: <1@a>\r\nDate: 3 Jan 2020 00:00 +0000\r\n\r\nx",
    b"Subject: Re: a\r\nTo: Bob <bob@a.test>\r\nMessage-ID: <2@a>\r\nIn-Reply-To: <1@a>\r\n"
    b"Date: 1 Jan 2020 00:00 +0000\r\n\r\nx",
    b"Subject: c\r\nMessage-ID: <3@a>\r\nReferences: <1@a> <2@a>\r\nDate: 2 Jan 2020 00:00 +0000\r\n\r\nx",
    b"\r\nno header at all",
)
QUESTIONS = {
    "SORT (SUBJECT) UTF-8 ALL": b"* SORT 4 2 1 3\r\n",
    "SORT (REVERSE DATE) UTF-8 1:3": b"* SORT 1 3 2\r\n",
    "THREAD REFERENCES UTF-8 1:3": b"* THREAD (1 2 3)\r\n",
    "UID THREAD ORDEREDSUBJECT UTF-8 1:3": b"* THREAD (2)(3)(1)\r\n",
    "SEARCH SUBJECT B": b"* SEARCH 1\r\n",
    "SEARCH OR FROM Ann TO a.test": b"* SEARCH 1 2\r\n",
    'SEARCH SUBJECT ""': b"* SEARCH 1 2 3\r\n",
}


@pytest.fixture
def client(world: World, monkeypatch: pytest.MonkeyPatch) -> Client:
    for letter in LETTERS:
        world.append(letter)
    monkeypatch.setattr(search, "FEW", 0)
    return world.connect().select()


def answers(client: Client) -> dict[str, bytes]:
    return {each: client.ask(f"a {each}").partition(b"a OK")[0] for each in QUESTIONS}


def test_by_headings(client: Client) -> None:
    assert answers(client) == QUESTIONS


def test_messages_from_before_get_theirs(world: World, client: Client) -> None:
    nothing = {"sent": None, "base": None, "refs": None, "heading": None}
    with world.database.engine.begin() as db:
        db.execute(update(message_facts).values(nothing))
    assert answers(client) == QUESTIONS
    with world.database.engine.begin() as db:
        assert None not in db.execute(select(message_facts.c.refs)).scalars().all()


def test_without_headings(world: World, client: Client) -> None:
    """What is too long to be kept is read of the fields."""
    with world.database.engine.begin() as db:
        db.execute(update(message_facts).values(sent=None, base="", refs=b"", heading=None))
    assert answers(client) == QUESTIONS


def test_a_long_thread(world: World) -> None:
    """References that no heading holds lead to the same threads as those that one does."""
    for number in range(MOST_REFERENCES + 3):
        refers = " ".join(f"<{before}@a>" for before in range(number))
        world.append(f"Message-ID: <{number}@a>\r\nReferences: {refers}\r\n\r\nx".encode())
    said = world.connect().select().ask("a THREAD REFS UTF-8 ALL")
    numbers = " ".join(map(str, range(1, MOST_REFERENCES + 4)))
    assert said.startswith(f"* THREAD ({numbers})\r\n".encode())


def test_threads_are_made_anew_when_messages_come_or_go(world: World, client: Client) -> None:
    command = "a THREAD REFERENCES UTF-8 ALL"
    before = client.ask(command)
    assert client.ask(command) == before
    assert client.ask("a UID THREAD REFERENCES UTF-8 1:2").startswith(b"* THREAD (1 2)\r\n")
    world.append(b"Message-ID: <5@a>\r\nIn-Reply-To: <3@a>\r\n\r\nx")
    client.ask("n NOOP")
    assert client.ask("a THREAD REFERENCES UTF-8 1:3,5").startswith(b"* THREAD (1 2 3 5)\r\n")
    client.ask(r"s STORE 1 +FLAGS.SILENT (\Deleted)")
    client.ask("e EXPUNGE")
    assert client.ask("a THREAD REFERENCES UTF-8 1:2,4").startswith(b"* THREAD (1 2 4)\r\n")


def test_an_answer_is_bounded_with_the_rest(world: World, client: Client) -> None:
    client.ask("a THREAD REFERENCES UTF-8 ALL")
    mailbox = world.run(world.store.open(1, "INBOX"))
    found = KEPT.answer(mailbox, ("REFERENCES", False))
    assert found is not None
    assert len(found) == len(LETTERS)
    mailbox.close()
