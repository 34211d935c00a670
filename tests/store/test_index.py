"""The full-text index: never misses what is there, and leaves out most of what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from mailstack.mail.message import Message
from mailstack.store import MessageStore, New, StoreConfig, index
from mailstack.store.mailbox import Mailbox
from tests.store.harness import Harness, now


def append(harness: Harness, *texts: bytes) -> None:
    now(harness.store.append(1, "INBOX", [New(Message.of(text)) for text in texts]))


def mail(subject: bytes = b"x", body: bytes = b"") -> bytes:
    return b"Subject: " + subject + b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body


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
        assert not (harness.path() / index.FILE).exists()  # who never searches never pays
        box = now(harness.store.open(1, "INBOX"))
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
        harness.store = MessageStore(config, harness.work, harness.clock)  # type: ignore[arg-type]
        harness.store.indexer.start()
        append(harness, mail(b"hello"))
        assert harness.clock.getDelayedCalls() == []
        assert now(now(harness.store.open(1, "INBOX")).candidates("hello")) is None


class TestLife:
    def test_a_damaged_file_is_made_again(self, harness: Harness, box: Mailbox) -> None:
        (harness.path() / index.FILE).write_bytes(b"this is no database" * 1_000)
        assert now(box.candidates("brown")) is None
        take_in(harness)
        assert now(box.candidates("brown")) == {1}

    def test_one_of_another_database_is_made_again(self, harness: Harness, box: Mailbox) -> None:
        scope = index.Scope(harness.path(), box.id, box.uidvalidity + 1)
        assert index.search(scope, "brown") is None
        assert not (harness.path() / index.FILE).exists()

    def test_a_lost_file_is_made_again(self, harness: Harness, box: Mailbox) -> None:
        index.discard(harness.path())
        assert now(box.candidates("brown")) is None
        take_in(harness)
        assert now(box.candidates("brown")) == {1}

    def test_two_processes_take_in_once(self, harness: Harness, box: Mailbox) -> None:
        scope = index.Scope(harness.path(), box.id, box.uidvalidity)
        assert index.mark_of(scope) == 4
        source = index.Source(5, harness.path(), "x", "cur/x")
        assert index.take_in(scope, 3, [source], 1.0) == 4
        assert index.taken(harness.path()) == 4

    def test_worn_out_it_is_made_again(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        from mailstack.store import indexer

        monkeypatch.setattr(indexer, "_SLACK", 1)
        append(harness, *(mail(b"number %d" % number) for number in range(6)))
        take_in(harness)
        box = now(harness.store.open(1, "INBOX"))
        now(box.expunge([1, 2, 3, 4, 5]))
        append(harness, mail(b"another"))
        take_in(harness)
        assert index.taken(harness.path()) == 2
        assert now(box.candidates("another")) == {7}

    def test_no_more_after_stop(self, harness: Harness) -> None:
        append(harness, mail(b"hello"))
        harness.store.indexer.stop()
        append(harness, mail(b"hello"))
        assert harness.clock.getDelayedCalls() == []


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
    text = index.text_of(data)
    assert text is not None
    folder = tmp_path_factory.mktemp("index")
    (folder / "cur").mkdir()
    (folder / "cur" / "m").write_bytes(data)
    scope = index.Scope(folder, 1, 1)
    assert index.take_in(scope, 0, [index.Source(9, folder, "m", "cur/m")], 1.0) == 9
    needle = text[at % len(text) :][:length]
    found = index.search(scope, needle)
    assert found is None or found.uids == {9}
    assert found is not None or len(needle) < 3
