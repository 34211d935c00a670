"""Rights (RFC 4314), other users' mailboxes, annotations (RFC 5464): the contract, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from mailstack.mail.message import Message
from mailstack.store import acl
from mailstack.store.acl import effective, parse_rights
from mailstack.store.message_store import MessageStore
from mailstack.store.settings import StoreConfig
from mailstack.store.values import (
    ALL_RIGHTS,
    BadEntry,
    BadMailboxName,
    BadRights,
    New,
    NoPermission,
    NoSuchMailbox,
    OverQuota,
    TooLarge,
    TooMany,
)
from tests.store.harness import Harness, now, text

ALICE, BOB = 1, 2
PREFIX = "Other Users/alice@example.org/"


def give(harness: Harness, mailbox: str, rights: str, identifier: str = "bob@example.org") -> None:
    now(harness.store.change_acl(ALICE, mailbox, identifier, "replace", rights))


class TestRights:
    @pytest.mark.parametrize(
        ("given", "meant"), [("rl", "lr"), ("", ""), ("c", "kx"), ("d", "te"), ("acd", "kxtea"), ("lll", "l")]
    )
    def test_as_a_client_writes_them(self, given: str, meant: str) -> None:
        assert parse_rights(given) == meant

    @pytest.mark.parametrize("given", ["z", "L", "l r", "1"])
    def test_no_rights(self, given: str) -> None:
        with pytest.raises(BadRights):
            parse_rights(given)

    def test_negative_ones_win(self) -> None:
        entries = {"anyone": "lrs", "bob@example.org": "w", "-bob@example.org": "s", "-anyone": "w"}
        assert effective(entries, "bob@example.org") == "lr"
        assert effective(entries, "carol@example.org") == "lrs"

    def test_the_owner_has_all(self, harness: Harness) -> None:
        assert now(harness.store.rights(ALICE, "INBOX")) == ALL_RIGHTS
        assert now(harness.store.list_acl(ALICE, "inbox")) == {"alice@example.org": ALL_RIGHTS}
        with pytest.raises(NoPermission):
            give(harness, "INBOX", "l", "alice@example.org")
        for verb in (harness.store.rights, harness.store.list_acl):
            with pytest.raises(NoSuchMailbox):
                now(verb(ALICE, "Nowhere"))  # type: ignore[operator]
        with pytest.raises(NoSuchMailbox):
            give(harness, "Nowhere", "l")

    def test_by_the_number_of_the_mailbox(self, harness: Harness) -> None:
        number = now(harness.store.status(ALICE, "Archive")).id
        give(harness, "Archive", "lr")
        assert now(harness.store.rights_in(ALICE, number)) == ALL_RIGHTS
        assert now(harness.store.rights_in(BOB, number)) == "lr"
        assert now(harness.store.rights_in(99, number)) == now(harness.store.rights_in(BOB, 99)) == ""

    def test_a_list_is_bounded(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(acl, "MAX_IDENTIFIERS", 2)
        give(harness, "INBOX", "l")
        give(harness, "INBOX", "l", "anyone")
        with pytest.raises(TooMany):
            give(harness, "INBOX", "l", "-anyone")
        give(harness, "INBOX", "lr", "anyone")  # no new one

    def test_given_added_and_taken(self, harness: Harness) -> None:
        now(harness.store.change_acl(ALICE, "Archive", "Bob@Example.org", "add", "lr"))
        now(harness.store.change_acl(ALICE, "Archive", "bob@example.org", "add", "s"))
        now(harness.store.change_acl(ALICE, "Archive", "bob@example.org", "remove", "r"))
        now(harness.store.change_acl(ALICE, "Archive", "-anyone", "replace", "d"))
        lists = {"alice@example.org": ALL_RIGHTS, "-anyone": "te", "bob@example.org": "ls"}
        assert now(harness.store.list_acl(ALICE, "Archive")) == lists
        now(harness.store.change_acl(ALICE, "Archive", "bob@example.org", "replace", ""))
        assert list(now(harness.store.list_acl(ALICE, "Archive"))) == ["alice@example.org", "-anyone"]

    def test_nobody(self, harness: Harness) -> None:
        with pytest.raises(BadRights):
            give(harness, "INBOX", "l", "nobody@example.org")


class TestOthers:
    def test_without_rights_there_is_nothing(self, harness: Harness) -> None:
        harness.deliver(1)
        now(harness.store.provision(BOB))
        give(harness, "Archive", "rs")  # without "l"
        for name in ("INBOX", "Archive", "Nowhere"):
            for verb in (
                harness.store.open,
                harness.store.status,
                harness.store.rights,
                harness.store.list_acl,
            ):
                with pytest.raises(NoSuchMailbox):
                    now(verb(BOB, PREFIX + name))  # type: ignore[operator]
        for name in ("Other Users/nobody@example.org/INBOX", "Other Users/alice@example.org", "Other Users/"):
            with pytest.raises(NoSuchMailbox):
                now(harness.store.open(BOB, name))
        assert now(harness.store.shared_mailboxes(BOB)) == []

    def test_seen_but_not_opened(self, harness: Harness) -> None:
        give(harness, "INBOX", "l")
        assert [info.name for info in now(harness.store.shared_mailboxes(BOB))] == [PREFIX + "INBOX"]
        assert now(harness.store.rights(BOB, PREFIX + "INBOX")) == "l"
        for verb in (harness.store.open, harness.store.status, harness.store.list_acl, harness.store.delete):
            with pytest.raises(NoPermission):
                now(verb(BOB, PREFIX + "INBOX"))  # type: ignore[operator]

    def test_one_mailbox_for_both(self, harness: Harness) -> None:
        harness.deliver(1)
        give(harness, "INBOX", "lrsi", "anyone")
        theirs = now(harness.store.open(BOB, "Other Users/Alice@example.org/inbox"))
        assert theirs is now(harness.store.open(ALICE, "INBOX"))
        now(theirs.store_flags([1], "add", frozenset({r"\Seen"})))
        assert harness.flags() == {1: {r"\Seen"}}
        info = now(harness.store.status(BOB, PREFIX + "INBOX"))
        assert (info.name, info.rights, info.messages) == (PREFIX + "INBOX", "lrsi", 1)
        now(harness.store.subscribe(BOB, PREFIX + "INBOX"))
        [listed] = now(harness.store.shared_mailboxes(BOB))
        assert listed.subscribed
        assert now(harness.store.shared_mailboxes(ALICE)) == []

    def test_append_and_copy_count_at_the_owner(self, harness: Harness) -> None:
        harness.deliver(1)
        harness.deliver(5, user=BOB)
        give(harness, "Archive", "lri")
        new = [New(Message.of(text(7)))]
        now(harness.store.append(BOB, PREFIX + "Archive", new, (1, 1)))
        mine = now(harness.store.open(BOB, "INBOX"))
        now(mine.copy([1], PREFIX + "Archive", (1, 1)))
        now(mine.move([1], PREFIX + "Archive"))
        assert harness.contents("Archive") == {1: text(7), 2: text(5), 3: text(5)}
        assert now(harness.store.usage(BOB)).messages == 0
        assert now(harness.store.usage(ALICE)).messages == 4
        theirs = now(harness.store.open(BOB, PREFIX + "Archive"))
        now(theirs.copy([1], "Trash", user_id=BOB))
        assert harness.contents("Trash", BOB) == {1: text(7)}
        with pytest.raises(OverQuota):
            now(theirs.copy([1], "Trash", (10, None), user_id=BOB))
        harness.check()

    def test_not_without_the_right_to_insert(self, harness: Harness) -> None:
        harness.deliver(5, user=BOB)
        give(harness, "Archive", "lr")
        mine = now(harness.store.open(BOB, "INBOX"))
        with pytest.raises(NoPermission):
            now(harness.store.append(BOB, PREFIX + "Archive", [New(Message.of(text()))]))
        for verb in (mine.copy, mine.move):
            with pytest.raises(NoPermission):
                now(verb([1], PREFIX + "Archive"))
        with pytest.raises(NoSuchMailbox):
            now(mine.copy([1], PREFIX + "Trash"))

    def test_made_renamed_and_deleted_by_others(self, harness: Harness) -> None:
        give(harness, "Archive", "lrkx")
        made = now(harness.store.create(BOB, PREFIX + "Archive/2026"))
        assert made.name == PREFIX + "Archive/2026"
        assert now(harness.store.rights(BOB, made.name)) == "lrkx"  # inherited
        now(harness.store.rename(BOB, made.name, PREFIX + "Archive/2027"))
        assert now(harness.store.status(ALICE, "Archive/2027"))
        with pytest.raises(BadMailboxName):
            now(harness.store.rename(BOB, PREFIX + "Archive/2027", "Mine"))
        now(harness.store.delete(BOB, PREFIX + "Archive/2027"))
        with pytest.raises(NoSuchMailbox):
            now(harness.store.status(ALICE, "Archive/2027"))
        for user in (ALICE, BOB):
            with pytest.raises(NoSuchMailbox):
                now(harness.store.create(user, PREFIX + "New"))

    def test_the_namespace_is_nobodys_own(self, harness: Harness) -> None:
        for name in ("Other Users", "Other Users/"):
            with pytest.raises(BadMailboxName):
                now(harness.store.create(ALICE, name))
        with pytest.raises(BadMailboxName):
            now(harness.store.rename(ALICE, "Archive", "Other Users"))

    def test_switched_off(self, harness: Harness) -> None:
        give(harness, "INBOX", "lrk", "anyone")
        config = StoreConfig(path=harness.root, sharing=False)
        store = MessageStore(config, harness.work, harness.clock)  # type: ignore[arg-type]
        assert now(store.shared_mailboxes(BOB)) == []
        with pytest.raises(NoSuchMailbox):
            now(store.open(BOB, PREFIX + "INBOX"))
        with pytest.raises(BadMailboxName):
            now(store.create(BOB, PREFIX + "INBOX/more"))
        with pytest.raises(NoPermission):
            now(store.change_acl(ALICE, "INBOX", "anyone", "add", "l"))

    def test_rights_end_with_the_mailbox(self, harness: Harness) -> None:
        give(harness, "Archive", "lr")
        now(harness.store.delete(ALICE, "Archive"))
        now(harness.store.create(ALICE, "Archive"))
        with pytest.raises(NoSuchMailbox):
            now(harness.store.open(BOB, PREFIX + "Archive"))


class TestAnnotations:
    def put(self, harness: Harness, name: str | None, user: int = ALICE, **entries: Any) -> None:
        named = {"/" + key.replace("_", "/"): value for key, value in entries.items()}
        now(harness.store.set_metadata(user, name, named))

    def test_set_read_and_removed(self, harness: Harness) -> None:
        self.put(harness, "INBOX", private_comment=b"a\0b\r\n\xff", shared_Comment=b"")
        assert now(harness.store.metadata(ALICE, "inbox")) == {
            "/private/comment": b"a\0b\r\n\xff",
            "/shared/comment": b"",
        }
        self.put(harness, "INBOX", private_comment=None, shared_comment=b"new", private_gone=None)
        assert now(harness.store.metadata(ALICE, "INBOX")) == {"/shared/comment": b"new"}
        assert now(harness.store.metadata(ALICE, "Archive")) == {}

    def test_of_the_server(self, harness: Harness) -> None:
        self.put(harness, None, private_vendor_x=b"1")
        assert now(harness.store.metadata(ALICE, None)) == {"/private/vendor/x": b"1"}
        assert now(harness.store.metadata(BOB, None)) == {}
        with pytest.raises(NoPermission):
            self.put(harness, None, shared_comment=b"1")

    def test_private_to_each(self, harness: Harness) -> None:
        self.put(harness, "Archive", private_comment=b"alice", shared_comment=b"all")
        give(harness, "Archive", "lr")
        self.put(harness, PREFIX + "Archive", BOB, private_comment=b"bob")
        assert now(harness.store.metadata(BOB, PREFIX + "Archive")) == {
            "/private/comment": b"bob",
            "/shared/comment": b"all",
        }
        assert now(harness.store.metadata(ALICE, "Archive"))["/private/comment"] == b"alice"
        with pytest.raises(NoPermission):
            self.put(harness, PREFIX + "Archive", BOB, shared_comment=b"bob")
        give(harness, "Archive", "lrw")
        self.put(harness, PREFIX + "Archive", BOB, shared_comment=b"bob")
        assert now(harness.store.metadata(ALICE, "Archive"))["/shared/comment"] == b"bob"

    @pytest.mark.parametrize(
        "entry",
        [
            "",
            "/",
            "/private",
            "/private/",
            "/private//x",
            "/other/x",
            "private/x",
            "/shared/*",
            "/shared/a%",
            "/shared/a/",
            "/shared/ä",
            "/shared/" + "x" * 600,
            "/shared/a b",
        ],
    )
    def test_bad_names(self, harness: Harness, entry: str) -> None:
        with pytest.raises(BadEntry):
            now(harness.store.set_metadata(ALICE, "INBOX", {entry: b"x"}))

    def test_limits_all_or_none(self, harness: Harness) -> None:
        with pytest.raises(TooLarge) as raised:
            self.put(harness, "INBOX", private_a=b"x", private_b=b"x" * 65_537)
        assert raised.value.args[1] == 65_536
        assert now(harness.store.metadata(ALICE, "INBOX")) == {}
        entries = {f"/private/{number}": b"" for number in range(100)}
        now(harness.store.set_metadata(ALICE, "INBOX", entries))
        with pytest.raises(TooMany):
            self.put(harness, "INBOX", private_more=b"")
        self.put(harness, "INBOX", private_1=b"changed", shared_more=b"")

    def test_no_mailbox(self, harness: Harness) -> None:
        for name in ("Nowhere", PREFIX + "INBOX"):
            with pytest.raises(NoSuchMailbox):
                now(harness.store.metadata(BOB, name))
