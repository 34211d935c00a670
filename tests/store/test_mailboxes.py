"""Mailboxes made, renamed, deleted, listed, subscribed (RFC 3501 section 6.3), on both databases."""

from __future__ import annotations

import os

import pytest

from mailstack.mail.message import Message
from mailstack.store.mailboxes import discard_user, provision
from mailstack.store.message_store import MessageStore
from mailstack.store.settings import StoreConfig
from mailstack.store.statefile import MailboxState
from mailstack.store.values import BadMailboxName, MailboxExists, NoSuchMailbox, Parcel, TooMany, Usage
from tests.store.harness import Harness, now, text

DEFAULTS = ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]


def names(harness: Harness, selectable: bool | None = None) -> list[str]:
    infos = now(harness.store.mailboxes(1))
    return [info.name for info in infos if selectable is None or selectable == info.selectable]


class TestProvision:
    def test_what_a_new_user_has(self, harness: Harness) -> None:
        now(harness.store.provision(1))
        now(harness.store.provision(1))
        infos = now(harness.store.mailboxes(1))
        assert [info.name for info in infos] == DEFAULTS
        assert [info.special_use for info in infos] == [
            (r"\Archive",),
            (r"\Drafts",),
            (),
            (r"\Junk",),
            (r"\Sent",),
            (r"\Trash",),
        ]
        assert all(info.subscribed and info.selectable for info in infos)
        assert len({info.uidvalidity for info in infos}) == len(infos)
        assert now(harness.store.subscriptions(1)) == set(DEFAULTS)
        maildir = harness.root / "example.org" / "alice" / "Maildir"
        assert sorted(os.listdir(maildir / ".Sent")) == [
            "cur",
            "maildirfolder",
            "mailstack-mailbox",
            "new",
            "tmp",
        ]
        assert (maildir / "subscriptions").read_text().splitlines() == sorted(DEFAULTS)

    def test_nobody(self, harness: Harness) -> None:
        with pytest.raises(NoSuchMailbox):
            now(harness.store.mailboxes(77))

    def test_mail_in_a_maildir_that_was_there_before(self, harness: Harness) -> None:
        maildir = harness.root / "example.org" / "alice" / "Maildir"
        for folder in ("", ".Sent", ".Work.Bills"):
            for name in ("new", "cur"):
                (maildir / folder / name).mkdir(parents=True)
            (maildir / folder / "cur" / "1.old.host:2,S").write_bytes(text(3))
        for name in ("INBOX", "Sent", "Work/Bills"):
            assert harness.contents(name) == {1: text(3)}
            assert harness.flags(name) == {1: {r"\Seen"}}
        assert "Drafts" in names(harness)
        assert names(harness, selectable=False) == ["Work"]
        assert harness.append([1], "Work/Bills") == (2,)
        harness.check()


class TestCreate:
    def test_with_superiors(self, harness: Harness) -> None:
        made = now(harness.store.create(1, "a/b/c"))
        assert (made.name, made.uidnext, made.messages) == ("a/b/c", 1, 0)
        assert names(harness, selectable=True) == [*DEFAULTS, "a", "a/b", "a/b/c"]
        assert harness.path("a/b").name == ".a.b"

    def test_a_trailing_separator_is_a_hint(self, harness: Harness) -> None:
        assert now(harness.store.create(1, "a/")).name == "a"

    def test_special_use(self, harness: Harness) -> None:
        assert now(harness.store.create(1, "All", [r"\All"])).special_use == (r"\All",)
        state = MailboxState.read(harness.path("All"))
        assert state is not None
        assert state.special_use == r"\All"

    def test_taken_and_impossible_names(self, harness: Harness) -> None:
        for name in ("Sent", "INBOX", "inbox"):
            with pytest.raises(MailboxExists):
                now(harness.store.create(1, name))
        for name in (
            "",
            "/",
            "/a",
            "a//b",
            "a\r\nb",
            "a*",
            "%",
            "x" * 201,
            "/".join("a" * 21),
            "\udc80",
            "\x00",
        ):
            with pytest.raises(BadMailboxName):
                now(harness.store.create(1, name))
        assert names(harness) == DEFAULTS

    def test_hostile_names_stay_inside(self, harness: Harness) -> None:
        wanted = [
            "..",
            "../../../etc",
            ".",
            "...",
            "a/../b",
            "cur",
            "new",
            "~root",
            "-rf",
            "a.b",
            "C:\\x",
            "日本語/受信" * 10,
            "&AC4-",
            " ",
            "x" * 200,
            "x" * 199 + "y",
            "İ",
            "subscriptions",
        ]
        for name in wanted:
            now(harness.store.create(1, name))
        assert {*wanted} <= {*names(harness)}
        maildir = harness.root / "example.org" / "alice" / "Maildir"
        assert os.listdir(harness.root) == ["example.org"]
        assert os.listdir(harness.root / "example.org") == ["alice"]
        assert os.listdir(harness.root / "example.org" / "alice") == ["Maildir"]
        for name in names(harness):
            assert name == "INBOX" or harness.path(name).parent == maildir
            assert len(harness.path(name).name) <= 200
        assert len({harness.path(name) for name in names(harness)}) == len(names(harness))

    def test_a_bound(self, harness: Harness) -> None:
        harness.store = MessageStore(
            StoreConfig(path=harness.root, max_mailboxes=8), harness.work, harness.clock
        )  # type: ignore[arg-type]
        now(harness.store.create(1, "a"))
        with pytest.raises(TooMany):
            now(harness.store.create(1, "b/c/d"))
        now(harness.store.create(1, "b"))
        with pytest.raises(TooMany):
            now(harness.store.create(1, "c"))
        with pytest.raises(TooMany):
            now(harness.store.rename(1, "a", "c/a"))
        now(harness.store.rename(1, "a", "b/a"))


class TestDelete:
    def test_messages_go_with_it(self, harness: Harness) -> None:
        harness.append(range(3), "Archive")
        harness.deliver()
        path = harness.path("Archive")
        box = now(harness.store.open(1, "Archive"))
        told: list[bool] = []
        box.watch(lambda: told.append(box.deleted))
        now(harness.store.delete(1, "Archive"))
        assert told == [True]
        assert "Archive" not in names(harness)
        with pytest.raises(NoSuchMailbox):
            now(harness.store.open(1, "Archive"))
        with pytest.raises(NoSuchMailbox):
            now(box.store_flags([1], "add", frozenset({"x"})))
        box.close()
        assert now(harness.store.usage(1)) == Usage(len(text(0)), 1)
        assert path.exists()
        harness.upkeep()
        assert not path.exists()
        harness.check()

    def test_the_same_name_again_is_another_mailbox(self, harness: Harness) -> None:
        first = now(harness.store.create(1, "a"))
        harness.append([1], "a")
        now(harness.store.delete(1, "a"))
        second = now(harness.store.create(1, "a"))
        assert second.uidvalidity > first.uidvalidity
        assert second.id != first.id
        assert harness.contents("a") == {}
        harness.append([2], "a")
        harness.upkeep()
        assert harness.contents("a") == {1: text(2)}
        harness.check()

    def test_with_inferiors_it_only_holds_them(self, harness: Harness) -> None:
        before = now(harness.store.create(1, "a/b"))
        harness.append([1], "a")
        now(harness.store.delete(1, "a"))
        assert "a" in names(harness, selectable=False)
        for refused in (harness.store.open(1, "a"), harness.store.status(1, "a")):
            with pytest.raises(NoSuchMailbox):
                now(refused)
        [outcome] = now(harness.store.deliver([Parcel(1, "a", Message.of(text()), "d")]))
        assert isinstance(outcome, NoSuchMailbox)
        with pytest.raises(BadMailboxName):
            now(harness.store.delete(1, "a"))
        again = now(harness.store.create(1, "a"))
        assert again.uidvalidity > before.uidvalidity
        assert harness.contents("a") == {}
        now(harness.store.delete(1, "a"))
        now(harness.store.delete(1, "a/b"))
        now(harness.store.delete(1, "a"))
        assert names(harness) == DEFAULTS
        harness.check()

    def test_what_cannot_be_deleted(self, harness: Harness) -> None:
        with pytest.raises(BadMailboxName):
            now(harness.store.delete(1, "inbox"))
        with pytest.raises(NoSuchMailbox):
            now(harness.store.delete(1, "nothing"))

    def test_names_that_only_look_alike_are_no_inferiors(self, harness: Harness) -> None:
        for name in ("a", "A/x", "a_/x", "aXb/c", "a_b"):
            now(harness.store.create(1, name))
        now(harness.store.delete(1, "a"))
        now(harness.store.delete(1, "a_b"))
        assert "a" not in names(harness)
        assert "a_b" not in names(harness)


class TestRename:
    def test_with_inferiors(self, harness: Harness) -> None:
        now(harness.store.create(1, "a/b/c"))
        harness.append([1], "a/b")
        box = now(harness.store.open(1, "a/b"))
        now(harness.store.rename(1, "a", "x/y"))
        assert names(harness) == [*DEFAULTS, "x", "x/y", "x/y/b", "x/y/b/c"]
        assert box.name == "x/y/b"
        assert harness.contents("x/y/b") == {1: text(1)}
        state = MailboxState.read(harness.path("x/y/b"))
        assert state is not None
        assert state.name == "x/y/b"
        now(harness.store.create(1, "a/b"))
        assert harness.contents("a/b") == {}
        assert now(harness.store.open(1, "x/y/b")) is box
        harness.check()

    def test_inbox_stays_and_its_messages_move(self, harness: Harness) -> None:
        harness.append(range(3), flags=["K"])
        now(harness.store.rename(1, "inbox", "old/mail"))
        assert harness.contents() == {}
        assert harness.contents("old/mail") == {n + 1: text(n) for n in range(3)}
        assert harness.flags("old/mail") == {uid: {"K"} for uid in (1, 2, 3)}
        assert harness.append([7]) == (4,)
        harness.upkeep()
        harness.check()

    def test_refusals(self, harness: Harness) -> None:
        now(harness.store.create(1, "a/b"))
        now(harness.store.create(1, "c/b"))
        now(harness.store.delete(1, "c"))
        for old, new, error in (
            ("nothing", "x", NoSuchMailbox),
            ("a", "Sent", MailboxExists),
            ("a", "a/b/c", BadMailboxName),
            ("a", "c", MailboxExists),
            ("a", "x" * 199, BadMailboxName),
            ("a", "x//y", BadMailboxName),
            ("INBOX", "Sent", MailboxExists),
        ):
            with pytest.raises(error):
                now(harness.store.rename(1, old, new))
        assert names(harness) == [*DEFAULTS, "a", "a/b", "c", "c/b"]


class TestSubscriptions:
    def test_they_outlive_mailboxes(self, harness: Harness) -> None:
        now(harness.store.create(1, "a"))
        now(harness.store.subscribe(1, "a"))
        now(harness.store.subscribe(1, "a"))
        now(harness.store.subscribe(1, "not there"))
        now(harness.store.unsubscribe(1, "Sent"))
        now(harness.store.unsubscribe(1, "never"))
        now(harness.store.delete(1, "a"))
        wanted = ({*DEFAULTS} - {"Sent"}) | {"a", "not there"}
        assert now(harness.store.subscriptions(1)) == wanted
        maildir = harness.root / "example.org" / "alice" / "Maildir"
        assert {*(maildir / "subscriptions").read_text().splitlines()} == wanted
        assert not now(harness.store.status(1, "Sent")).subscribed
        with pytest.raises(BadMailboxName):
            now(harness.store.subscribe(1, "a\nb"))

    def test_a_session_is_told_of_changes_to_the_list(self, harness: Harness) -> None:
        told: list[object] = []
        unwatch = harness.store.news.subscribe(("list", 1), told.append)
        now(harness.store.create(1, "a"))
        now(harness.store.rename(1, "a", "b"))
        now(harness.store.subscribe(1, "b"))
        now(harness.store.delete(1, "b"))
        now(harness.store.create(2, "other"))
        assert len(told) == 4
        unwatch()
        now(harness.store.create(1, "c"))
        assert len(told) == 4


def test_a_rename_that_fails_is_taken_back_from_the_file_too(harness: Harness) -> None:
    """Else the next index made of the files would have a name that never was."""
    now(harness.store.create(1, "old"))

    def fail() -> None:
        raise OSError("no")

    harness.work.before_commit = fail
    with pytest.raises(OSError, match="no"):
        now(harness.store.rename(1, "old", "new"))
    harness.work.before_commit = None
    state = MailboxState.read(harness.path("old"))
    assert state is not None
    assert state.name == "old"


def test_a_third_user_of_one_address_has_a_home_too(harness: Harness) -> None:
    """While the mail of the first and the second is still being removed."""
    homes = []
    for _ in range(3):
        homes.append(harness.database.write(provision, harness.root, 1))
        harness.database.write(discard_user, 1)
    assert homes == ["example.org/alice", "example.org/alice~2", "example.org/alice~3"]


def test_a_removed_user_leaves_nothing(harness: Harness) -> None:
    harness.deliver()
    harness.deliver(user=2)
    others = now(harness.store.mailboxes(2))
    harness.database.write(discard_user, 1)
    harness.restart()
    assert now(harness.store.mailboxes(2)) == others  # with their ids: not made again from the files
    harness.deliver(5)
    assert harness.contents() == {1: text(5)}
    harness.upkeep()
    assert harness.contents() == {1: text(5)}
    assert not (harness.root / "example.org" / "alice" / "Maildir").exists()
    assert len(harness.contents(user=2)) == 1
    harness.check()
