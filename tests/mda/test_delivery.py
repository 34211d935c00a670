"""Final delivery: what each recipient is answered, and what the store is given."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailstack.directory import Local, NotLocal, Resolution, User
from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message, Stored
from mailstack.mda.delivery import Delivery
from mailstack.mda.settings import MdaConfig
from mailstack.mda.trace import MAX_HEADER, delivered_to, fields, header
from mailstack.store.values import BadMailboxName, Delivered, NoSuchMailbox, OverQuota, Parcel
from mailstack.work import Overloaded, Work

TEXT = b"Subject: x\r\n\r\nhello\r\n"
ALICE, BOB = Address("alice", "a.test"), Address("bob", "a.test")


class NoDatabase:
    def dispose(self) -> None:
        pass


class Directory:
    def __init__(self) -> None:
        users = {
            name: User(number, Address(name, "a.test"), 1000, 10)
            for number, name in enumerate(("alice", "bob"), 1)
        }
        self.known: dict[str, Any] = {name: [(user, None)] for name, user in users.items()}
        self.known |= {
            "bob+tag": [(users["bob"], "tag")],
            "team": [(users["alice"], None), (users["bob"], None)],
            "away": Resolution((), (Address("x", "b.test"),)),
            "stranger": NotLocal("other.test"),
            "broken": OSError("database"),
        }

    async def resolve(self, address: Address) -> Resolution | None:
        found = self.known.get(address.local_part)
        if isinstance(found, Exception):
            raise found
        if found is None or isinstance(found, Resolution):
            return found
        return Resolution(tuple(Local(user, address, detail) for user, detail in found), ())


class Store:
    """Keeps parcels; `says` gives outcomes by "user mailbox"."""

    def __init__(self) -> None:
        self.says: dict[str, Any] = {}
        self.calls: list[list[Parcel]] = []
        self.provisioned: list[int] = []
        self.error: Exception | None = None

    async def provision(self, user_id: int) -> None:
        self.provisioned.append(user_id)
        self.says.pop(f"{user_id} INBOX", None)

    async def deliver(self, parcels: Sequence[Parcel]) -> list[Any]:
        self.calls.append(list(parcels))
        if self.error is not None:
            raise self.error
        return [
            self.says.get(f"{one.user_id} {one.mailbox}", Delivered(one.user_id, 1, 1)) for one in parcels
        ]


class DeliveryCase(TestCase):
    def setUp(self) -> None:
        self.work = Work(reactor, NoDatabase())
        self.addCleanup(lambda: Deferred.fromCoroutine(self.work.close()))
        self.store = Store()

    async def send(
        self,
        *names: str,
        message: Message | None = None,
        sender: Address | None = ALICE,
        junk: bool = False,
        **options: Any,
    ) -> dict[str, str]:
        delivery = Delivery(Directory(), self.store, self.work, MdaConfig(**options))
        recipients = tuple(Recipient(Address(name, "a.test")) for name in names)
        envelope = Envelope("q1", sender, recipients, junk=junk)
        replies = await delivery.accept(envelope, message or Message.of(TEXT))
        return {address.local_part: f"{reply.code} {reply.enhanced}" for address, reply in replies.items()}

    def parcels(self) -> list[Parcel]:
        [call] = self.store.calls
        return call


class TestParcels(DeliveryCase):
    async def test_one_recipient(self) -> None:
        self.assertEqual(await self.send("bob"), {"bob": "250 2.1.5"})
        [parcel] = self.parcels()
        self.assertEqual((parcel.user_id, parcel.mailbox, parcel.delivery), (2, "INBOX", "q1:bob@a.test"))
        self.assertEqual(parcel.quota, (1000, 10))
        added = b"Return-Path: <alice@a.test>\r\nDelivered-To: bob@a.test\r\n"
        self.assertEqual(parcel.message.read(), added + TEXT)

    async def test_the_null_path(self) -> None:
        await self.send("bob", sender=None)
        self.assertTrue(self.parcels()[0].message.read().startswith(b"Return-Path: <>\r\n"))

    async def test_all_recipients_in_one_call_each_user_once(self) -> None:
        replies = await self.send("bob", "team", "bob+tag")
        self.assertEqual(set(replies.values()), {"250 2.1.5"})
        self.assertEqual([parcel.delivery for parcel in self.parcels()], ["q1:bob@a.test", "q1:alice@a.test"])

    async def test_the_detail_names_a_mailbox_where_that_is_wanted(self) -> None:
        await self.send("bob+tag", detail_mailbox=True)
        [parcel] = self.parcels()
        self.assertEqual((parcel.mailbox, parcel.delivery), ("tag", "q1:bob@a.test+tag"))

    async def test_a_detail_without_a_mailbox_is_for_the_inbox(self) -> None:
        self.store.says = {"2 tag": NoSuchMailbox()}
        self.assertEqual(await self.send("bob+tag", detail_mailbox=True), {"bob+tag": "250 2.1.5"})
        self.assertEqual([call[0].mailbox for call in self.store.calls], ["tag", "INBOX"])
        self.assertEqual(self.store.provisioned, [])

    async def test_junk_goes_to_its_mailbox_or_else_to_the_inbox(self) -> None:
        await self.send("bob+tag", detail_mailbox=True, junk=True)
        [parcel] = self.parcels()
        self.assertEqual((parcel.mailbox, parcel.delivery), ("Junk", "q1:bob@a.test+Junk"))
        self.store.says = {"2 Junk": NoSuchMailbox()}
        self.assertEqual(await self.send("bob", junk=True), {"bob": "250 2.1.5"})
        self.assertEqual(self.store.calls[-1][0].mailbox, "INBOX")

    async def test_an_inbox_that_is_not_there_yet_is_made(self) -> None:
        self.store.says = {"2 INBOX": NoSuchMailbox()}
        self.assertEqual(await self.send("bob"), {"bob": "250 2.1.5"})
        self.assertEqual(self.store.provisioned, [2])

    async def test_a_user_who_is_removed_meanwhile_is_no_error_of_ours(self) -> None:
        async def provision(user_id: int) -> None:
            raise NoSuchMailbox(f"there is no user {user_id}")

        self.store.provision = provision  # type: ignore[method-assign]
        self.store.says = {"2 INBOX": NoSuchMailbox()}
        replies = await self.send("bob", "alice")
        self.assertEqual(replies, {"bob": "451 4.3.0", "alice": "250 2.1.5"})

    async def test_an_inbox_that_cannot_be_made_is_temporary_and_hinders_nobody(self) -> None:
        async def provision(user_id: int) -> None:
            raise OSError("disk full")

        self.store.provision = provision  # type: ignore[method-assign]
        self.store.says = {"2 INBOX": NoSuchMailbox()}
        replies = await self.send("bob", "alice")
        self.assertEqual(replies, {"bob": "451 4.3.0", "alice": "250 2.1.5"})
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    async def test_nothing_to_deliver_asks_nothing_of_the_store(self) -> None:
        await self.send("nobody")
        self.assertEqual(self.store.calls, [])


class TestAnswers(DeliveryCase):
    async def test_who_is_not_there(self) -> None:
        replies = await self.send("nobody", "bob", "away", "stranger", "broken")
        expected = {
            "nobody": "550 5.1.1",
            "bob": "250 2.1.5",
            "away": "451 4.3.5",
            "stranger": "451 4.3.5",
            "broken": "451 4.3.0",
        }
        self.assertEqual(replies, expected)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    async def test_over_quota(self) -> None:
        self.store.says = {"2 INBOX": OverQuota()}
        self.assertEqual(await self.send("bob"), {"bob": "552 5.2.2"})
        self.assertEqual(await self.send("bob", over_quota="defer"), {"bob": "452 4.2.2"})

    async def test_trouble_of_our_own_is_temporary(self) -> None:
        for outcome in (OSError("disk full"), BadMailboxName("x")):
            self.store.says = {"2 INBOX": outcome}
            self.assertEqual(await self.send("bob", "alice"), {"bob": "451 4.3.0", "alice": "250 2.1.5"})

    async def test_a_store_that_fails_is_temporary(self) -> None:
        for error in (OSError("disk full"), Overloaded("busy"), RuntimeError("a bug")):
            self.store.error = error
            self.assertEqual(await self.send("bob", "nobody"), {"bob": "451 4.3.0", "nobody": "550 5.1.1"})
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)

    async def test_the_worst_answer_of_a_group_counts(self) -> None:
        self.store.says = {"2 INBOX": OSError("disk full")}
        self.assertEqual(await self.send("team"), {"team": "451 4.3.0"})
        self.store.says = {"2 INBOX": OverQuota()}
        self.assertEqual(await self.send("team"), {"team": "552 5.2.2"})
        self.store.says = {"2 INBOX": OverQuota(), "1 INBOX": OSError("disk full")}
        self.assertEqual(await self.send("team"), {"team": "451 4.3.0"})

    async def test_a_repeat_is_as_good(self) -> None:
        self.store.says = {"2 INBOX": Delivered(2, 1, 1, repeated=True)}
        self.assertEqual(await self.send("bob"), {"bob": "250 2.1.5"})


class TestLoops(DeliveryCase):
    async def test_delivered_here_before(self) -> None:
        message = Message.of(b"Received: x\r\nDelivered-To:  Bob@A.test\r\n" + TEXT)
        self.assertEqual(
            await self.send("bob", "alice", message=message), {"bob": "554 5.4.6", "alice": "250 2.1.5"}
        )

    async def test_in_a_file_too(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            content = b"delivered-to: <bob@a.test>\r\n" + TEXT
            file.write(content)
            file.flush()
            message = Message((b"Received: x\r\n", Stored(Path(file.name), 0, len(content))))
            self.assertEqual(await self.send("bob", message=message), {"bob": "554 5.4.6"})

    async def test_a_file_that_cannot_be_read_is_temporary(self) -> None:
        message = Message((Stored(Path("not/there"), 0, 10),))
        self.assertEqual(await self.send("bob", message=message), {"bob": "451 4.3.0"})
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class TestTrace:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            (b"", set()),
            (b"Subject: Delivered-To: bob@a.test", set()),
            (b"X-Delivered-To: bob@a.test", set()),
            (b"DELIVERED-TO: bob@a.test\r\nDelivered-To: c@d.test", {"bob@a.test", "c@d.test"}),
            (b"Delivered-To: \xff\xfe@a.test", {"\ufffd\ufffd@a.test"}),
        ],
    )
    def test_delivered_to(self, text: bytes, found: set[str]) -> None:
        assert delivered_to(text) == found

    def test_the_body_is_not_looked_at(self) -> None:
        message = Message((b"A: b\r\n", b"\r", b"\nDelivered-To: bob@a.test\r\n"))
        assert header(message) == b"A: b"

    def test_a_header_section_without_end_is_looked_at_so_far(self) -> None:
        assert len(header(Message((b"x" * 1000,) * 1000))) == MAX_HEADER

    def test_an_address_in_utf8(self) -> None:
        assert fields(None, Address("bøb", "a.test")).decode().endswith("Delivered-To: bøb@a.test\r\n")
