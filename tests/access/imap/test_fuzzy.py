"""SEARCH=FUZZY (RFC 6203)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from mailstack.access.imap import search
from tests.access.imap.harness import Client, World
from tests.access.imap.test_search import take_in

Talk = Callable[[Client, str], None]


def mail(subject: str, body: str = "", sender: str = "bob@b.test") -> bytes:
    head = f"From: {sender}\r\nX-Other: {subject}\r\nSubject: {subject}\r\n\r\n{body}\r\n"
    return head.encode()


@pytest.fixture
def client(world: World) -> Client:
    world.append(mail("hello world", "one"))
    world.append(mail("lunch", "we say hullo"))
    world.append(mail("help wanted", "two"), flags=(r"\Seen",))
    world.append(mail("Helo", "three"))
    world.append(mail("nothing", "of the kind"))
    world.append(mail("more", "helping out", sender="Helga <helga@c.test>"))
    return world.connect().select()


class TestTranscripts:
    def test_keys(self, client: Client, talk: Talk) -> None:
        talk(client, r"""
            C: a SEARCH FUZZY SUBJECT "Helo"
            S: * SEARCH 1 3 4
            S: a OK SEARCH completed
            C: b SEARCH SUBJECT "Helo"
            S: * SEARCH 4
            S: b OK SEARCH completed
            C: c SEARCH FUZZY HEADER X-Other "wxyz"
            S: * SEARCH
            S: c OK SEARCH completed
            C: d SEARCH FUZZY HEADER X-Other "worldd"
            S: * SEARCH 1
            S: d OK SEARCH completed
            C: e SEARCH FUZZY (SUBJECT "Helo" SEEN)
            S: * SEARCH 3
            S: e OK SEARCH completed
            C: f SEARCH FUZZY OR SUBJECT "lanch" SUBJECT "Helo"
            S: * SEARCH 1 2 3 4
            S: f OK SEARCH completed
            C: g SEARCH NOT FUZZY SUBJECT "Helo"
            S: * SEARCH 1 2 3 5 6
            S: g OK SEARCH completed
            C: h SEARCH FUZZY NOT SUBJECT "Helo"
            S: * SEARCH 1 2 3 5 6
            S: h OK SEARCH completed
            C: i SEARCH FUZZY SEEN
            S: * SEARCH 3
            S: i OK SEARCH completed
            C: j UID SEARCH FUZZY BODY "helpin"
            S: * SEARCH 6
            S: j OK UID SEARCH completed
            C: k SEARCH FUZZY FUZZY TEXT "lunches"
            S: * SEARCH 2
            S: k OK SEARCH completed
            C: l SEARCH FUZZY FROM helgas
            S: * SEARCH 6
            S: l OK SEARCH completed
        """)  # fmt: skip

    def test_relevancy(self, client: Client, talk: Talk) -> None:
        talk(client, """
            C: a SEARCH RETURN (RELEVANCY ALL) FUZZY SUBJECT "Helo"
            S: * ESEARCH (TAG "a") ALL 1,3:4 RELEVANCY (45 20 100)
            S: a OK SEARCH completed
            C: b SORT (RELEVANCY) UTF-8 FUZZY SUBJECT "Helo"
            S: * SORT 4 1 3
            S: b OK SORT completed
            C: c SORT RETURN (RELEVANCY ALL) (REVERSE RELEVANCY) UTF-8 FUZZY SUBJECT "Helo"
            S: * ESEARCH (TAG "c") ALL 3,1,4 RELEVANCY (20 45 100)
            S: c OK SORT completed
            C: d UID SORT RETURN (PARTIAL 1:2 RELEVANCY) (RELEVANCY SUBJECT) UTF-8 FUZZY SUBJECT "Helo"
            S: * ESEARCH (TAG "d") UID PARTIAL (1:2 4,1) RELEVANCY (100 45)
            S: d OK UID SORT completed
            C: e SEARCH RETURN (RELEVANCY) FUZZY SUBJECT "xyzzy"
            S: * ESEARCH (TAG "e") RELEVANCY ()
            S: e OK SEARCH completed
            C: f SEARCH RETURN (RELEVANCY COUNT) OR SEEN FUZZY SUBJECT "Helo"
            S: * ESEARCH (TAG "f") COUNT 3 RELEVANCY (45 100 100)
            S: f OK SEARCH completed
            C: g ESEARCH IN (mailboxes INBOX) RETURN (ALL RELEVANCY) FUZZY SUBJECT "Helo"
            S: * ESEARCH (TAG "g" MAILBOX INBOX UIDVALIDITY ...) UID ALL 1,3:4 RELEVANCY (45 20 100)
            S: g OK ESEARCH completed
        """)  # fmt: skip

    def test_relevancy_is_for_fuzzy_alone(self, client: Client, talk: Talk) -> None:
        """RFC 6203 sections 4 and 6."""
        talk(client, """
            C: a SEARCH RETURN (RELEVANCY) SUBJECT "Helo"
            S: a BAD RELEVANCY needs FUZZY
            C: b SORT (RELEVANCY) UTF-8 ALL
            S: b BAD RELEVANCY needs FUZZY
            C: c ESEARCH RETURN (RELEVANCY) SUBJECT "Helo"
            S: c BAD RELEVANCY needs FUZZY
            C: d SORT RETURN (UPDATE) (RELEVANCY) UTF-8 FUZZY SUBJECT "Helo"
            S: * NO [NOUPDATE "d"] An order by relevancy is not kept up to date
            S: * ESEARCH (TAG "d")
            S: d OK SORT completed
        """)  # fmt: skip


def test_with_the_index_the_answer_is_the_same(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FEW", 0)
    keys = [
        f'FUZZY {key} "{text}"'
        for key in ("SUBJECT", "BODY", "TEXT")
        for text in ("Helo", "ab helpful", "a b", "lunc")
    ]
    before = [client.ask(f"a SEARCH {key}") for key in keys]
    take_in(world)
    read: list[int] = []
    texts = search._texts

    async def noted(selected: Any, some: Any, most: int) -> Any:
        read.extend(candidate.uid for candidate in some)
        return await texts(selected, some, most)

    monkeypatch.setattr(search, "_texts", noted)
    assert [client.ask(f"a SEARCH {key}") for key in keys] == before
    read.clear()
    client.ask('a SEARCH FUZZY BODY "hullos"')
    assert read == [1, 2]


def test_so_many_at_a_time(client: Client) -> None:
    keys = " ".join(f"SUBJECT word{number}" for number in range(21))
    assert (
        client.ask(f"a SEARCH FUZZY ({keys})")
        == b"a NO [LIMIT] Too many: at most 20 strings can be FUZZY\r\n"
    )
    assert client.ask(f"a SEARCH {keys}") == b"* SEARCH\r\na OK SEARCH completed\r\n"


def test_long_needles_and_texts_are_bounded(world: World, client: Client) -> None:
    world.append(mail("words", " ".join(f"word{number}" for number in range(20_000))))
    needle = " ".join(f"wird{number}" for number in range(3000))
    said = client.ask(b"a SEARCH RETURN (RELEVANCY) FUZZY BODY {%d+}\r\n%b" % (len(needle), needle.encode()))
    assert re.search(rb"\r\na OK SEARCH completed\r\n", said)
