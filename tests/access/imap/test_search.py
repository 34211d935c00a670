"""SEARCH: every key, alone and joined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mailstack.access.imap import search
from mailstack.store import indexer
from mailstack.store.file_index import FileIndex
from tests.access.imap import corpus
from tests.access.imap.harness import Client, World

DAY = 86_400
JULY_1 = 1_057_017_600  # 2003-07-01 00:00 UTC


@pytest.fixture(scope="module", params=[False, True], ids=["scanned", "indexed"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """The same answers with the full-text index and without."""
    world = World()
    world.append(corpus.PLAIN, flags=[r"\Seen", r"\Answered", "$Label1"], date=JULY_1 + 3600)
    world.append(
        corpus.ATTACHED, flags=[r"\Flagged"], date=JULY_1 + DAY - 1800, zone=120
    )  # the 2nd, as it is shown
    world.append(corpus.FORWARDED, flags=[r"\Deleted", r"\Draft"], date=JULY_1 + 2 * DAY)
    world.append(corpus.EIGHT_BIT, date=JULY_1 + 3 * DAY)
    world.append(corpus.NO_BODY, date=JULY_1 + 4 * DAY)
    world.append(corpus.NOT_MAIL, date=JULY_1 + 5 * DAY)
    client = world.connect().select()
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            take_in(world)
            patch.setattr(search, "FEW", 0)
        yield client
    world.close()


def take_in(world: World) -> None:
    """All of INBOX into the full-text index."""
    root = world.path / "mail"
    mailbox_id = world.run(world.store.status(1, "INBOX")).id
    scope = world.database.read(indexer.find_scope, root, mailbox_id)
    sources = world.database.read(indexer.following, root, mailbox_id, 0)
    assert FileIndex().take_in(scope, 0, sources, 60.0) == 6


def test_the_index_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    for number in range(5):
        world.append(b"Subject: number %d\r\n\r\nbody\r\n" % number)
    world.append(b"Subject: other\r\n\r\nneedle\r\n")
    take_in(world)
    monkeypatch.setattr(search, "FEW", 0)
    client = world.connect().select()
    read: list[int] = []
    texts = search._texts

    async def noted(selected: Any, some: Any, most: int) -> Any:
        read.extend(candidate.uid for candidate in some)
        return await texts(selected, some, most)

    monkeypatch.setattr(search, "_texts", noted)
    assert b"* SEARCH 6\r\n" in client.ask("a SEARCH BODY NEEDLE")
    assert read == [6]
    assert b"* SEARCH 2 6\r\n" in client.ask('b SEARCH OR BODY needle TEXT "number 1"')
    assert sorted(read[1:]) == [2, 6]
    assert b"* SEARCH 1 2 3 4 5\r\n" in client.ask("c SEARCH NOT BODY needle")
    world.close()


TABLE = [
    ("ALL", "1 2 3 4 5 6"),
    ("2:3", "2 3"),
    ("5:*", "5 6"),
    ("99", ""),
    ("UID 1,4:5", "1 4 5"),
    ("UID 99:*", "6"),
    ("NOT 2:6", "1"),
    ("SEEN", "1"),
    ("UNSEEN", "2 3 4 5 6"),
    ("ANSWERED", "1"),
    ("UNANSWERED FLAGGED", "2"),
    ("UNFLAGGED SEEN", "1"),
    ("DELETED", "3"),
    ("UNDELETED", "1 2 4 5 6"),
    ("DRAFT", "3"),
    ("UNDRAFT 3", ""),
    ("KEYWORD $label1", "1"),
    ("UNKEYWORD $Label1", "2 3 4 5 6"),
    ("KEYWORD nothing", ""),
    ("RECENT", "1 2 3 4 5 6"),
    ("NEW", "2 3 4 5 6"),
    ("OLD", ""),
    ("OR SEEN FLAGGED", "1 2"),
    ("NOT (OR SEEN FLAGGED)", "3 4 5 6"),
    ("OR (SEEN ANSWERED) (DELETED DRAFT)", "1 3"),
    ("ON 1-Jul-2003", "1"),
    ("ON 2-Jul-2003", "2"),
    ("BEFORE 2-Jul-2003", "1"),
    ("SINCE 3-Jul-2003", "3 4 5 6"),
    ("SINCE 2-Jul-2003 BEFORE 4-Jul-2003", "2 3"),
    ("SENTON 1-Jul-2003", "1"),
    ("SENTBEFORE 2-Jul-2003", "1"),
    ("SENTSINCE 2-Jul-2003", "2"),
    (f"LARGER {len(corpus.PLAIN)}", "2 3 6"),
    (f"SMALLER {len(corpus.EIGHT_BIT)}", "5"),
    ('SUBJECT "letter"', "2"),
    ('SUBJECT "LETTER WITH"', "2"),
    ('SUBJECT "and more"', "1"),
    ("SUBJECT nothing", ""),
    ("FROM bob", "2"),
    ("FROM Example.ORG", "1 3 4"),
    ("TO alice", "1 2 3"),
    ("CC a@example.org", "1"),
    ("BCC x", ""),
    ('HEADER X-Colour ""', "1"),
    ("HEADER X-Colour GREEN", "1"),
    ("HEADER x-colour red", ""),
    ("HEADER Message-ID plain@", "1"),
    ('HEADER Message-ID ""', "1"),
    ("BODY line", "1"),
    ('BODY "first line"', "1"),
    ('BODY "See below"', "3"),
    ('BODY "inner text"', "3"),
    ("BODY nowhere", ""),
    ("TEXT green", "1"),
    ("BODY green", ""),
    ("TEXT carol", "3"),
    ("TEXT preamble", ""),
    ('TEXT "header only"', "5"),
    ("SEEN TEXT line", "1"),
    ("FLAGGED TEXT line", ""),
    ("OR FROM carol BODY line", "1 3"),
    ('NOT BODY "inner text"', "1 2 4 5 6"),
    ("OR SUBJECT letter HEADER X-Colour green", "1 2"),
    ("CHARSET UTF-8 SEEN", "1"),
    ("CHARSET US-ASCII TEXT line", "1"),
]


@pytest.mark.parametrize(("key", "numbers"), TABLE)
def test_table(client: Client, key: str, numbers: str) -> None:
    line = f"* SEARCH {numbers}".rstrip()
    assert client.ask(f"a SEARCH {key}").decode() == f"{line}\r\na OK SEARCH completed\r\n"


UNICODE = [
    ("SUBJECT", "Gr\u00fc\u00dfe", "1"),
    ("SUBJECT", "GRU\u0308\u00dfE", "1"),  # one letter in two characters (RFC 5051)
    ("SUBJECT", "gr\u00fcsse", ""),  # i;unicode-casemap knows simple titlecase only
    ("FROM", "ren\u00e9", "1"),
    ("SUBJECT", "na\u00efve", "4"),
    ("BODY", "l'\u00e9t\u00e9", "4"),
    ("BODY", "caf\u00e9 in plain", "2"),
    ("BODY", "caf\u00e9 in html", "2"),
    ("TEXT", "CAF\u00c9", "2"),
]


@pytest.mark.parametrize(("key", "text", "numbers"), UNICODE)
def test_words_in_any_charset(client: Client, key: str, text: str, numbers: str) -> None:
    data = text.encode()
    said = client.ask(b"a SEARCH CHARSET UTF-8 %b {%d+}\r\n%b" % (key.encode(), len(data), data))
    line = f"* SEARCH {numbers}".rstrip()
    assert said.decode() == f"{line}\r\na OK SEARCH completed\r\n"


@pytest.mark.parametrize("key", ["SUBJECT", "FROM", "BODY", "TEXT", "HEADER Subject", "HEADER X-Other"])
def test_comparison_is_by_i_unicode_casemap(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """I18NLEVEL=1 (RFC 5255 section 4.2), with the index and without."""
    world = World()
    monkeypatch.setattr(search, "FEW", 0)
    field = "=?utf-8?b?w4VuZ3N0csO2bQ==?="  # Ångström
    mail = f"Subject: {field}\r\nFrom: {field} <a@b.test>\r\nX-Other: {field}\r\nContent-Type: text/plain; charset=utf-8"
    for _ in range(6):
        world.append(f"{mail}\r\n\r\nÅngström\r\n".encode())
    client = world.connect().select()
    for _ in range(2):
        for needle in ("ÅNGSTRÖM", "a\u030angstro\u0308m", "ÅNG", "stro"):
            assert b"* SEARCH 1 2 3 4 5 6\r\n" in client.ask(f'a SEARCH CHARSET UTF-8 {key} "{needle}"'), (
                needle
            )
        assert b"* SEARCH\r\n" in client.ask(f'a SEARCH CHARSET UTF-8 {key} "angstrom"')
        take_in(world)
    world.close()


def test_unknown_charset(client: Client) -> None:
    assert client.ask("a SEARCH CHARSET X-KLINGON TEXT x").startswith(b"a NO [BADCHARSET")


def test_uid_search_and_return(client: Client) -> None:
    assert client.ask("a UID SEARCH FLAGGED") == b"* SEARCH 2\r\na OK UID SEARCH completed\r\n"
    assert client.ask("b UID SEARCH RETURN (MIN MAX COUNT) UNSEEN") == (
        b'* ESEARCH (TAG "b") UID MIN 2 MAX 6 COUNT 5\r\nb OK UID SEARCH completed\r\n'
    )
    assert client.ask("c SEARCH RETURN () UNSEEN") == (
        b'* ESEARCH (TAG "c") ALL 2:6\r\nc OK SEARCH completed\r\n'
    )
    assert client.ask("d SEARCH RETURN (ALL MIN COUNT) BODY nowhere") == (
        b'* ESEARCH (TAG "d") COUNT 0\r\nd OK SEARCH completed\r\n'
    )


def test_cheap_keys_spare_dear_ones(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FEW", 20)  # the index is not asked
    """What flags and dates exclude is never read, wherever in the command the text stands."""
    trips = client.world.work.trips
    trips.clear()
    client.ask("a SEARCH BODY line SUBJECT hello ANSWERED DRAFT")
    assert trips == []
    client.ask("b SEARCH BODY line SUBJECT nothing SEEN")
    assert trips == ["read"]
    trips.clear()
    client.ask("c SEARCH SUBJECT letter SINCE 1-Jan-2000")
    assert "compute" not in trips


def test_slices(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMORY_SLICE", "FIELDS_SLICE", "TEXT_SLICE"):
        monkeypatch.setattr(search, name, 2)
    assert client.ask("a SEARCH UNSEEN OR FROM carol TEXT letter").startswith(b"* SEARCH 2 3\r\n")
    monkeypatch.setattr(search, "TEXT_OCTETS", 10)
    assert client.ask('b SEARCH BODY "inner text"').startswith(b"* SEARCH 3\r\n")


def test_deep_and_wide_keys(client: Client) -> None:
    """Refused or answered, at a bounded cost."""
    said = client.ask("a SEARCH " + "NOT " * 5000 + "SEEN")
    assert said.startswith((b"a NO [LIMIT]", b"a BAD"))
    said = client.ask("b SEARCH " + "(" * 5000 + "SEEN" + ")" * 5000)
    assert said.startswith((b"b NO [LIMIT]", b"b BAD"))
    said = client.ask("c SEARCH " + "SEEN " * 1000 + "ALL")
    assert said.startswith((b"c NO [LIMIT]", b"* SEARCH 1\r\n"))
