"""queue: mail in wait, by the operator. The queue's files lie where `mailstack.stack` puts them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

import mailstack
from mailstack.admin import output
from mailstack.mta.tables import queue_entries, queue_messages
from tests.admin.conftest import Installation

BODY = b"Subject: hello\r\n\r\nworld\r\n"


def fill(db: Connection) -> None:
    """Message m1 from alice to two, m2 (a bounce) to one."""
    for id_, sender in (("m1", "alice@example.org"), ("m2", None)):
        db.execute(
            insert(queue_messages).values(
                id=id_,
                reverse_path=sender,
                spool=f"{id_}.msg",
                size=len(BODY),
                body="7BIT",
                smtputf8=False,
                received_at=1000.0,
            )
        )
    for id_, message, recipient, state in (
        (1, "m1", "bob@example.net", "waiting"),
        (2, "m1", "carol@example.com", "held"),
        (3, "m2", "dan@example.net", "waiting"),
    ):
        db.execute(
            insert(queue_entries).values(
                id=id_,
                message_id=message,
                recipient=recipient,
                notify="",
                hop=recipient.partition("@")[2],
                state=state,
                next_attempt=5000.0,
                attempts=2,
                last_attempt=2000.0,
                last_reply="450 4.2.0\tcome\x1b[2J again",
                expires=9000.0,
                delay_warned=False,
            )
        )


@pytest.fixture
def queue(installation: Installation) -> Installation:
    installation.write(fill)
    spool(installation).mkdir(parents=True)
    for name in ("m1.msg", "m2.msg"):
        (spool(installation) / name).write_bytes(BODY)
    return installation


def spool(installation: Installation) -> Path:
    return installation.folder / "data" / "spool" / "queue"


def entries(installation: Installation) -> dict[int, Any]:
    return {row["id"]: row for row in installation.json("queue", "list")}


def test_the_stack_keeps_its_queue_there() -> None:
    source = (Path(mailstack.__file__).parent / "stack.py").read_text()
    assert re.search(r'spool=config\.data / "spool" / "queue"', source)


class TestList:
    def test_columns(self, queue: Installation) -> None:
        lines = queue.ok("queue", "list").splitlines()
        assert lines[0].split("\t") == [
            "1", "m1", "waiting", "alice@example.org", "bob@example.net", "25", "2", "1970-01-01T01:23:20Z", "450 4.2.0\\tcome\\x1b[2J again",
        ]  # fmt: skip
        assert lines[2].split("\t")[3] == "<>"

    @pytest.mark.parametrize(
        ("filters", "ids"),
        [
            ((), [1, 2, 3]),
            (("--domain", "EXAMPLE.net"), [1, 3]),
            (("--sender", "Alice@example.org"), [1, 2]),
            (("--sender", ""), [3]),
            (("--recipient", "carol@example.com"), [2]),
            (("--state", "held"), [2]),
            (("--limit", "1"), [1]),
            (("--domain", "nowhere.example"), []),
        ],
    )
    def test_filters(self, queue: Installation, filters: tuple[str, ...], ids: list[int]) -> None:
        assert [row["id"] for row in queue.json("queue", "list", *filters)] == ids


def test_stats(queue: Installation) -> None:
    said = queue.ok("queue", "stats").splitlines()
    assert "entries\t3" in said
    assert "oldest\t1970-01-01T00:16:40Z" in said
    assert "next_attempt\t1970-01-01T01:23:20Z" in said


class TestShow:
    def test_a_message_or_an_entry(self, queue: Installation) -> None:
        assert [row["id"] for row in queue.json("queue", "show", "m1")] == [1, 2]
        assert [row["id"] for row in queue.json("queue", "show", "3")] == [3]
        said = queue.ok("queue", "show", "m1")
        assert "recipient\tbob@example.net\n" in said
        assert "recipient\tcarol@example.com\n" in said
        assert "last_attempt\t1970-01-01T00:33:20Z\n" in said

    @pytest.mark.parametrize("id_", ["m1", "2"])
    def test_the_message_itself(self, queue: Installation, id_: str) -> None:
        assert queue.run("queue", "show", id_, "--message").stdout_bytes == BODY

    def test_a_message_whose_file_is_gone(self, queue: Installation) -> None:
        (spool(queue) / "m1.msg").unlink()
        assert "No such file" in queue.refused("queue", "show", "m1", "--message")

    @pytest.mark.parametrize("id_", ["m9", "9", "\u0663", "9" * 40, "%", "all", ""])
    def test_nothing(self, queue: Installation, id_: str) -> None:
        assert "there is no such message or entry" in queue.refused("queue", "show", id_)


def test_the_trail_tells_who_held_and_who_released(queue: Installation) -> None:
    def submitted(db: Connection) -> None:
        db.execute(
            update(queue_messages)
            .where(queue_messages.c.id == "m1")
            .values(authenticated="alice@example.org")
        )

    queue.write(submitted)
    queue.ok("user", "add", "alice@example.org", "--password-stdin", input="wonderland\n")
    assert queue.json("sender", "hold", "alice@example.org")["entries"] == 1  # the other is held
    assert queue.json("sender", "release", "alice@example.org")["entries"] == 2
    told = [(row["address"], row["event"], row["what"].split()[0]) for row in queue.json("trace", "m1")]
    assert sorted(told) == [
        ("bob@example.net", "held", "by"),
        ("bob@example.net", "released", "by"),
        ("carol@example.com", "released", "by"),
    ]


class TestChange:
    def test_retry(self, queue: Installation) -> None:
        assert queue.ok("queue", "retry", "m1") == "1 retried\n"  # the other is held
        assert entries(queue)[1]["next_attempt"] > 1_000_000_000
        assert entries(queue)[2]["next_attempt"] == 5000.0
        assert entries(queue)[3]["next_attempt"] == 5000.0

    def test_hold_and_release(self, queue: Installation) -> None:
        assert queue.json("queue", "hold", "--domain", "example.net") == {"held": 2}
        assert {row["state"] for row in entries(queue).values()} == {"held"}
        assert queue.ok("queue", "release", "1", "2") == "2 released\n"
        assert [row["state"] for row in entries(queue).values()] == ["waiting", "waiting", "held"]
        assert queue.ok("queue", "release", "--all") == "1 released\n"
        assert queue.ok("queue", "release", "--all") == "0 released\n"

    def test_drop_one_recipient_keeps_the_message(self, queue: Installation) -> None:
        assert queue.ok("queue", "drop", "1", "--yes") == "1 dropped\n"
        assert sorted(entries(queue)) == [2, 3]
        assert (spool(queue) / "m1.msg").exists()

    def test_drop_the_last_recipient_removes_the_file(self, queue: Installation) -> None:
        queue.ok("queue", "drop", "m1", "--yes")
        assert sorted(entries(queue)) == [3]
        assert [path.name for path in spool(queue).iterdir()] == ["m2.msg"]

    def test_drop_all(self, queue: Installation) -> None:
        assert queue.ok("queue", "drop", "--all", "--yes") == "3 dropped\n"
        assert entries(queue) == {}
        assert list(spool(queue).iterdir()) == []

    def test_drop_by_sender(self, queue: Installation) -> None:
        assert queue.ok("queue", "drop", "--sender", "", "--yes") == "1 dropped\n"
        assert sorted(entries(queue)) == [1, 2]

    def test_many_at_once(self, queue: Installation) -> None:
        def more(db: Connection) -> None:
            row = {"message_id": "m1", "recipient": "x@many.example", "notify": "", "hop": "many.example", "state": "waiting", "next_attempt": 1.0, "attempts": 0, "expires": 1.0, "delay_warned": False}  # fmt: skip
            db.execute(insert(queue_entries), [{**row, "id": number} for number in range(100, 1300)])

        queue.write(more)
        assert queue.ok("queue", "hold", "--domain", "many.example") == "1200 held\n"

    @pytest.mark.parametrize("verb", ["retry", "hold", "release", "drop"])
    @pytest.mark.parametrize(
        ("chosen", "words"),
        [
            ((), "say which entries"),
            (("1", "--all"), "say which entries"),
            (("1", "--domain", "x"), "say which entries"),
            (("all",), "say --all"),
        ],
    )
    def test_it_must_be_clear_which(
        self, queue: Installation, verb: str, chosen: tuple[str, ...], words: str
    ) -> None:
        assert words in queue.refused("queue", verb, *chosen, status=2)
        assert len(entries(queue)) == 3

    @pytest.mark.parametrize("chosen", [("9",), ("m9",), ("--domain", "x.example"), ("%",)])
    def test_nothing_of_that_kind(self, queue: Installation, chosen: tuple[str, ...]) -> None:
        for verb in ("retry", "hold", "release"):
            assert "no such entry" in queue.refused("queue", verb, *chosen)
        assert "no such entry" in queue.refused("queue", "drop", *chosen, "--yes")

    def test_drop_needs_a_yes(self, queue: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "--yes" in queue.refused("queue", "drop", "1")
        monkeypatch.setattr(output, "at_keyboard", lambda: True)
        assert queue.run("queue", "drop", "1", input="n\n").exit_code == 1
        assert len(entries(queue)) == 3
