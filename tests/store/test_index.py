"""The full-text index: never misses what is there, and leaves out most of what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, text
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from mailstack.db import Database, DatabaseConfig
from mailstack.mail.collation import casemap
from mailstack.mail.message import Message
from mailstack.store import index, indexer, trigram_index
from mailstack.store.file_index import FILE, FileIndex
from mailstack.store.mailbox import Mailbox
from mailstack.store.message_store import MessageStore
from mailstack.store.settings import StoreConfig
from mailstack.store.tables import message_id, messages
from mailstack.store.trigram_index import TrigramIndex
from mailstack.store.values import New
from tests.store.harness import Harness, now


def append(harness: Harness, *texts: bytes) -> None:
    now(harness.store.append(1, "INBOX", [New(Message.of(text)) for text in texts]))


def mail(subject: bytes = b"x", body: bytes = b"") -> bytes:
    return b"Subject: " + subject + b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body


def scope_of(harness: Harness, box: Mailbox) -> index.Scope:
    return index.Scope(harness.path(), box.id, box.uidvalidity)


def take_in(harness: Harness) -> None:
    done: list[Any] = []
    for info in now(harness.store.mailboxes(1)):
        harness.store.indexer.want(info.id)
    Deferred.fromCoroutine(harness.store.indexer.catch_up()).addBoth(done.append)
    for _ in range(1_000):
        if done:
            break
        harness.clock.advance(1)
    assert done == [None]


@pytest.fixture(autouse=True)
def started(request: pytest.FixtureRequest) -> None:
    if "harness" in request.fixturenames:
        request.getfixturevalue("harness").store.indexer.start()


@pytest.fixture
def box(harness: Harness) -> Mailbox:
    append(
        harness,
        mail(b"lunch", b"The quick brown fox\r\n"),
        mail(b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "über die Straße".encode()),
        mail(b"folded\r\n subject", b"quickly"),
        mail(b"nul", b"before\0after"),
    )
    take_in(harness)
    return now(harness.store.open(1, "INBOX"))


class TestCandidates:
    @pytest.mark.parametrize(
        ("needle", "uids"),
        [
            ("QUICK", {1, 3}),
            ("quick brown", {1}),
            ("STRA\u00dfE", {2}),
            ("U\u0308BER", {2}),  # in Unicode's other form (RFC 5051)
            ("uber die", set()),
            ("Grüße", {2}),
            ("folded subject", {3}),
            ("nowhere", set()),
            ('a"b', set()),
            ('" OR "x', set()),
            ("after", {4}),
            ("fox\r\n", {1}),
        ],
    )
    def test_found(self, box: Mailbox, needle: str, uids: set[int]) -> None:
        assert now(box.candidates(needle)) == uids

    @pytest.mark.parametrize("needle", ["", "ab", "a\0b", "ab\udc80"])
    def test_what_cannot_be_asked(self, box: Mailbox, needle: str) -> None:
        assert now(box.candidates(needle)) is None

    def test_what_came_since_is_a_candidate(self, harness: Harness, box: Mailbox) -> None:
        append(harness, mail(b"new"))
        assert now(box.candidates("brown")) == {1, 5}
        take_in(harness)
        assert now(box.candidates("brown")) == {1}

    def test_delivery_wakes_it_once_the_mailbox_was_searched(self, harness: Harness) -> None:
        append(harness, mail(b"hello"))
        harness.clock.pump([1] * 10)
        box = now(harness.store.open(1, "INBOX"))
        assert harness.index.mark_of(scope_of(harness, box)) == 0  # who never searches never pays
        assert now(box.candidates("hello")) is None
        harness.clock.pump([1] * 10)
        append(harness, mail(b"hello again"))
        harness.clock.pump([1] * 10)
        assert now(box.candidates("hello")) == {1, 2}
        assert now(box.candidates("again")) == {2}

    def test_a_search_wakes_it(self, harness: Harness) -> None:
        append(harness, mail(b"hello"))
        harness.restart()
        harness.store.indexer.start()
        box = now(harness.store.open(1, "INBOX"))
        assert now(box.candidates("hello")) is None
        assert len(harness.clock.getDelayedCalls()) == 1
        harness.store.indexer.stop()
        assert harness.clock.getDelayedCalls() == []

    def test_copies_are_found_too(self, harness: Harness, box: Mailbox) -> None:
        now(box.copy([1, 2], "Archive"))
        take_in(harness)
        archive = now(harness.store.open(1, "Archive"))
        assert now(archive.candidates("brown")) == {1}
        assert now(box.candidates("brown")) == {1}

    def test_too_long_is_always_a_candidate(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(index, "MAX_OCTETS", 1_000)
        append(harness, mail(b"short"), mail(b"long", b"x" * 2_000))
        take_in(harness)
        assert now(now(harness.store.open(1, "INBOX")).candidates("nowhere")) == {2}

    def test_a_file_that_is_gone(self, harness: Harness) -> None:
        append(harness, mail(b"one"), mail(b"two"))
        (harness.path() / harness.files()[0]).unlink()
        take_in(harness)
        assert now(now(harness.store.open(1, "INBOX")).candidates("two")) <= {1, 2}  # type: ignore[operator]

    def test_switched_off(self, harness: Harness) -> None:
        config = StoreConfig(path=harness.root, index=False)
        harness.store = MessageStore(config, harness.work, harness.clock, index=harness.index)  # type: ignore[arg-type]
        harness.store.indexer.start()
        append(harness, mail(b"hello"))
        assert harness.clock.getDelayedCalls() == []
        assert now(now(harness.store.open(1, "INBOX")).candidates("hello")) is None


class TestLife:
    def test_a_lost_one_is_made_again(self, harness: Harness, box: Mailbox) -> None:
        harness.index.discard(harness.path(), [box.id])
        assert now(box.candidates("brown")) is None
        take_in(harness)
        assert now(box.candidates("brown")) == {1}

    def test_two_processes_take_in_once(self, harness: Harness, box: Mailbox) -> None:
        scope = scope_of(harness, box)
        assert harness.index.mark_of(scope) == 4
        source = index.Source(5, harness.path(), "x", "cur/x")
        assert harness.index.take_in(scope, 3, [source], 1.0) == 4
        assert harness.index.mark_of(scope) == 4

    def test_another_uidvalidity_begins_anew(self, harness: Harness, box: Mailbox) -> None:
        other = replace(scope_of(harness, box), uidvalidity=box.uidvalidity + 1)
        assert harness.index.search(other, "brown") is None
        assert harness.index.mark_of(other) == 0

    def test_what_is_expunged_is_no_hit_for_long(self, harness: Harness, box: Mailbox) -> None:
        now(box.expunge([1]))
        found = now(box.candidates("brown"))
        assert found is not None
        assert found <= {1}

    def test_it_says_what_it_takes(self, harness: Harness, box: Mailbox) -> None:
        assert harness.index.octets(harness.path(), [box.id]) > 100
        harness.index.discard(harness.path(), [box.id])
        assert harness.index.octets(harness.path(), [box.id]) == 0

    def test_no_more_after_stop(self, harness: Harness) -> None:
        append(harness, mail(b"hello"))
        harness.store.indexer.stop()
        append(harness, mail(b"hello"))
        assert harness.clock.getDelayedCalls() == []

    def test_pieces_of_odd_texts_are_found(self, harness: Harness) -> None:
        pieces = [
            "50% off_now\\",
            "a\\%b_c",
            "''; DROP",
            "\U0001f4a9\u0301x",
            "ab\r\n\tcd",
            "--/*",
            "%%%",
            "___",
        ]
        append(harness, *(mail(b"t", piece.encode()) for piece in pieces))
        take_in(harness)
        box = now(harness.store.open(1, "INBOX"))
        for uid, piece in enumerate(pieces, 1):
            folded = casemap(piece)
            for at in range(len(folded) - 2):
                found = now(box.candidates(folded[at : at + 3]))
                assert found is not None, piece
                assert uid in found, (piece, at)

    def test_a_long_needle(self, harness: Harness) -> None:
        append(harness, mail(b"t", b"many words " * 200), mail(b"t", b"many words " * 100 + b"and others"))
        take_in(harness)
        box = now(harness.store.open(1, "INBOX"))
        found = now(box.candidates("many words " * 150))
        assert found is not None
        assert 1 in found

    def test_one_of_several_runs(self, harness: Harness, box: Mailbox) -> None:
        assert now(box.similar(frozenset(map(casemap, ("fox", "str"))))) == {1, 2}
        assert now(box.similar(frozenset({"zzz", "qqq"}))) == set()
        assert now(box.similar(frozenset())) is None


@pytest.mark.parametrize("made_database", ["sqlite"], indirect=True)
class TestFile:
    """What only an index in a file can come to."""

    def test_a_damaged_file_is_made_again(self, harness: Harness, box: Mailbox) -> None:
        (harness.path() / FILE).write_bytes(b"this is no database" * 1_000)
        assert now(box.candidates("brown")) is None
        take_in(harness)
        assert now(box.candidates("brown")) == {1}

    def test_one_of_another_database_is_removed(self, harness: Harness, box: Mailbox) -> None:
        other = replace(scope_of(harness, box), uidvalidity=box.uidvalidity + 1)
        assert harness.index.search(other, "brown") is None
        assert not (harness.path() / FILE).exists()

    def test_worn_out_it_is_made_again(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(indexer, "_SLACK", 1)
        append(harness, *(mail(b"number %d" % number) for number in range(6)))
        take_in(harness)
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1, 2, 3, 4, 5]))
        append(harness, mail(b"another"))
        take_in(harness)
        assert harness.index.taken(scope_of(harness, box)) == 2
        assert now(box.candidates("another")) == {7}


@pytest.mark.parametrize("made_database", ["postgresql"], indirect=True)
class TestTable:
    """What only an index in PostgreSQL can come to."""

    def test_the_trigrams_are_asked(self, harness: Harness, box: Mailbox) -> None:
        asked = "SELECT message_id FROM fulltext_texts WHERE mailbox_id = 1 AND text LIKE ANY ('{%brown%}')"

        def plan(db: Connection) -> str:
            db.execute(text("SET LOCAL enable_seqscan = off"))
            return "\n".join(db.execute(text(f"EXPLAIN {asked}")).scalars())

        assert "fulltext_trigrams_2" in harness.database.read(plan)

    def test_rows_go_with_their_messages(self, harness: Harness, box: Mailbox) -> None:
        now(box.expunge([1, 2]))
        assert counted(harness) == 2
        now(harness.store.create(1, "Other"))
        now(box.copy([3], "Other"))
        take_in(harness)
        assert counted(harness) == 3
        now(harness.store.delete(1, "Other"))
        assert counted(harness) == 2

    def test_who_expunges_is_not_waited_for(self, harness: Harness, box: Mailbox) -> None:
        append(harness, mail(b"five"), mail(b"six"), mail(b"seven"))
        scope = scope_of(harness, box)
        sources = harness.database.read(indexer.following, harness.root, box.id, 4)
        with harness.database.engine.connect() as other:
            other.execute(delete(messages).where(messages.c.id == message_id(box.id, 6)))
            assert harness.index.take_in(scope, 4, sources, 60.0) == 5
            assert harness.index.take_in(scope, 5, sources[1:], 60.0) == 5
            other.rollback()
        assert harness.index.take_in(scope, 5, sources[1:], 60.0) == 7
        assert now(box.candidates("six")) == {6}

    def test_lost_tables_are_made_again(self, harness: Harness, box: Mailbox) -> None:
        harness.database.write(lambda db: db.execute(text("DROP TABLE fulltext_texts")))
        assert now(box.candidates("brown")) is None
        take_in(harness)
        assert now(box.candidates("brown")) == {1}

    def test_without_the_extension_there_is_none(
        self, harness: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trigram_index, "_EXTENSIONS", ("pg_trgm", "no_such_extension"))
        append(harness, mail(b"hello"))
        with capturedLogs() as logs:
            take_in(harness)
            take_in(harness)
        said = [formatEvent(event) for event in logs if event["log_namespace"] == "mailstack.store"]
        assert len(said) == 1
        assert "pg_trgm and no_such_extension" in said[0]
        assert not harness.index.prepare()
        box = now(harness.store.open(1, "INBOX"))
        harness.clock.pump([1] * 5)
        assert now(box.candidates("hello")) is None
        assert harness.clock.getDelayedCalls() == []

    def test_a_server_that_is_away_is_asked_again(self, harness: Harness) -> None:
        url = harness.database.url.set(database="gone")
        away = TrigramIndex(Database(DatabaseConfig(url.render_as_string(hide_password=False))))
        for _ in range(2):
            with pytest.raises(OSError, match="gone"):
                away.prepare()


def counted(harness: Harness) -> int:
    query = text("SELECT count(*) FROM fulltext_texts")
    return int(harness.database.read(lambda db: db.execute(query).scalar_one()))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.binary(max_size=200) | st.text(max_size=80).map(str.encode), min_size=1, max_size=4),
    st.integers(0, 300),
    st.integers(3, 12),
)
def test_every_piece_of_a_text_is_found(
    tmp_path_factory: Any, pieces: list[bytes], at: int, length: int
) -> None:
    data = mail(pieces[0].replace(b"\n", b" "), b"\r\n".join(pieces))
    found_text = index.text_of(data)
    assert found_text is not None
    folder = tmp_path_factory.mktemp("index")
    (folder / "cur").mkdir()
    (folder / "cur" / "m").write_bytes(data)
    scope = index.Scope(folder, 1, 1)
    assert FileIndex().take_in(scope, 0, [index.Source(9, folder, "m", "cur/m")], 1.0) == 9
    needle = found_text[at % len(found_text) :][:length]
    found = FileIndex().search(scope, needle)
    assert found is None or found.uids == {9}
    assert found is not None or len(needle) < 3
