"""Forwarding in one piece: alias, reverse-path, seal, and the bounce that finds its way back."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import dkim

from mailstack.mail.address import Address
from mailstack.mail.dkim import PrivateKey, Signer
from mailstack.mail.dkim.signing import sign
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused
from mailstack.mta.forwarding import Forwarding
from mailstack.mta.queue import Queue
from mailstack.mta.return_paths import ReturnPaths
from mailstack.mta.routes import Routes
from mailstack.mta.settings import MtaConfig
from mailstack.signing import verbs
from mailstack.signing.keyring import Keyring
from mailstack.signing.signing import Signing
from mailstack.trail import rows
from mailstack.trail.settings import TrailConfig
from mailstack.trail.trail import Trail
from tests.mta import world
from tests.mta.world import NEVER, TEXT, addr

RSA, ED25519, THEIRS = PrivateKey.make("rsa"), PrivateKey.make("ed25519"), PrivateKey.make("rsa")
LETTER = b"From: carol@c.test\r\nSubject: hello\r\nMessage-ID: <9@c.test>\r\n\r\nhello\r\n"
NOW = int(world.START)


class Names:
    """The DNS."""

    def __init__(self) -> None:
        self.texts = {"s._domainkey.c.test": [THEIRS.record().encode()]}
        self.broken = False

    async def keys(self, names: Iterable[str]) -> dict[str, list[bytes] | None]:
        return {name: None if self.broken else self.texts.get(name, []) for name in names}

    def ask(self, name: bytes, timeout: int = 5) -> bytes | None:
        return self.texts.get(name.decode().rstrip("."), [None])[0]


class ForwardingWorld(world.World):
    """A queue that forwards, signs and seals; a.test has keys."""

    verified = False  # what comes in has our results

    def setUp(self) -> None:
        super().setUp()
        made = self.database.write(
            verbs.add, "a.test", [RSA, ED25519], "sel", world.START - 10, world.START - 10
        )
        self.names = Names()
        self.names.texts |= {info.name: [info.record.encode()] for info in made}
        self.trail = Trail(TrailConfig(), self.work, self.clock)
        self.paths = ReturnPaths(self.directory, self.work, self.clock)
        self.keyring = Keyring(self.work, self.clock)
        self.signing = Signing(self.keyring, self.work, self.clock, self.trail)
        self.directory.aliases = {"team": ("x@b.test",), "both": ("bob@a.test", "x@b.test")}
        self.queue = self.forwarding_queue()

    def forwarding_queue(self, **options: Any) -> Queue:
        queue = Queue(
            MtaConfig(**options),
            self.work,
            Routes(self.paths, self.mda, self.transfer),
            self.clock,
            hostname="mail.a.test",
            spool=self.folder / "spool",
            random=Random(1),
            trail=self.trail,
            sign=self.signing.signed,
            postmaster=self.postmaster,
            forwarding=Forwarding(
                self.paths,
                self.work,
                self.clock,
                hostname="mail.a.test",
                keyring=self.keyring,
                lookups=self.names,
                verified=self.verified,
                trail=self.trail,
            ),
        )
        self.queues.append(queue)
        return queue

    async def postmaster(self) -> Address:
        return addr("alice@a.test")

    async def give(self, data: bytes, to: str, sender: str | None = "carol@c.test") -> None:
        envelope = Envelope("q1", None if sender is None else addr(sender), (Recipient(addr(to)),))
        replies = await self.queue.accept(envelope, Message.of(data))
        self.assertTrue(all(reply.accepted for reply in replies.values()), replies)

    async def forwarded(self, data: bytes, to: str = "team@a.test") -> tuple[Envelope, bytes]:
        self.start()
        await self.give(data, to)
        await self.until(lambda: not self.entries())
        return self.transfer.envelopes[-1], self.transfer.got[-1][3]


class TestForwarding(ForwardingWorld):
    """Mail for an alias that is elsewhere."""

    async def test_it_goes_under_our_reverse_path_and_is_sealed(self) -> None:
        signed = sign([LETTER], [Signer("c.test", "s", THEIRS)], NOW) + LETTER
        envelope, data = await self.forwarded(signed)
        assert envelope.reverse_path is not None
        self.assertEqual(envelope.reverse_path.domain, "a.test")
        self.assertTrue(envelope.reverse_path.local_part.startswith("SRS0="))
        self.assertTrue(data.endswith(signed))  # not an octet of it has changed
        added = data[: -len(signed)].decode()
        self.assertIn("ARC-Authentication-Results: i=1; mail.a.test;\r\n\tdkim=pass header.d=c.test", added)
        self.assertIn("cv=none", added)
        state, _, reason = dkim.arc_verify(data, dnsfunc=self.names.ask)
        self.assertEqual(state, b"pass", reason)
        self.assertTrue(dkim.verify(data, dnsfunc=self.names.ask))

    async def give_mixed(self) -> None:
        self.directory.aliases["crew"] = ("y@b.test",)
        to = tuple(Recipient(addr(one)) for one in ("team@a.test", "crew@a.test", "z@b.test"))
        await self.queue.accept(Envelope("q1", addr("carol@c.test"), to), Message.of(LETTER))

    async def went_apart(self) -> None:
        await self.until(lambda: not self.entries())
        self.assertEqual(
            sorted(names for _, _, names, _ in self.transfer.got),
            [("x@b.test",), ("y@b.test",), ("z@b.test",)],
        )
        own = [one for one in self.transfer.envelopes if one.reverse_path == addr("carol@c.test")]
        self.assertEqual([str(one.recipients[0].address) for one in own], ["z@b.test"])

    async def test_what_is_forwarded_by_others_goes_apart_at_once(self) -> None:
        self.start()
        await self.give_mixed()
        await self.went_apart()

    async def test_what_is_forwarded_by_others_goes_apart_from_the_queue(self) -> None:
        await self.give_mixed()
        self.start()
        await self.went_apart()

    async def test_forwarded_twice_the_chain_goes_on(self) -> None:
        _, once = await self.forwarded(LETTER)
        self.directory.aliases["again"] = ("y@b.test",)
        envelope = Envelope("q2", addr("carol@c.test"), (Recipient(addr("again@a.test")),))
        await self.queue.accept(envelope, Message.of(once))
        await self.until(lambda: len(self.transfer.got) == 2 and not self.entries())
        twice = self.transfer.got[-1][3]
        self.assertIn(b"arc=pass", twice)
        self.assertEqual(dkim.arc_verify(twice, dnsfunc=self.names.ask)[0], b"pass")

    async def test_a_third_seal_and_a_broken_chain(self) -> None:
        _, data = await self.forwarded(LETTER)
        self.directory.aliases["again"] = ("y@b.test",)
        for number, change, state in (
            (2, (b"", b""), b"pass"),
            (3, (b"", b""), b"pass"),
            (4, (b"Subject: hello", b"Subject: hullo"), None),  # a chain that has ended
            (5, (b"", b""), None),
        ):
            envelope = Envelope(f"q{number}", addr("carol@c.test"), (Recipient(addr("again@a.test")),))
            await self.queue.accept(envelope, Message.of(data.replace(*change)))
            await self.until(lambda number=number: len(self.transfer.got) == number and not self.entries())
            data = self.transfer.got[-1][3]
            self.assertIn(b"cv=" + (state or b"fail"), data.partition(b"ARC-Message")[0])
            self.assertEqual(dkim.arc_verify(data, dnsfunc=self.names.ask)[0], state)
        self.assertNotIn(b"ARC-Seal: i=5", data)  # RFC 8617 section 5.1.2: nothing more on top of a failure

    async def test_a_bounce_comes_back_to_the_sender(self) -> None:
        envelope, _ = await self.forwarded(LETTER)
        assert envelope.reverse_path is not None
        self.transfer.got.clear()
        bounce = Envelope("q3", None, (Recipient(envelope.reverse_path),))
        await self.queue.accept(bounce, Message.of(TEXT))
        await self.until(lambda: not self.entries())
        [(hop, _, names, _)] = self.transfer.got
        self.assertEqual((hop, names), ("c.test", ("carol@c.test",)))
        self.assertIsNone(self.transfer.envelopes[-1].reverse_path)

    async def test_what_we_cannot_forward_we_tell_the_sender_itself(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        await self.forwarded(LETTER)
        bounce, _ = self.bounce(self.transfer)
        self.assertEqual([str(one.address) for one in bounce.recipients], ["carol@c.test"])

    async def test_our_own_users_and_the_null_path_stay(self) -> None:
        self.start()
        await self.give(LETTER, "team@a.test", sender="alice@a.test")
        await self.until(lambda: not self.entries())
        self.assertEqual(self.transfer.envelopes[-1].reverse_path, addr("alice@a.test"))
        self.assertIsNone(await self.paths.rewrite(None, "a.test"))

    async def test_an_address_too_long_for_srs_has_a_name_in_the_table(self) -> None:
        long = addr("bounces+1234567-abcd-user=example.com@em1234.bulk.c.test")
        path = await self.paths.rewrite(long, "a.test")
        assert path is not None
        self.assertEqual(await self.paths.rewrite(long, "a.test"), path)
        found = await self.paths.resolve(Address(path.local_part.upper(), "a.test"))
        assert found is not None
        self.assertEqual(found.forwards, (long,))

    async def test_forged_and_expired_return_paths_are_refused(self) -> None:
        path = await self.paths.rewrite(addr("carol@c.test"), "a.test")
        assert path is not None
        for local in ("SRS0=aaaaaa=aa=c.test=carol", "srs2=0123", path.local_part.replace("carol", "dave")):
            with self.assertRaises(Refused) as caught:
                await self.paths.resolve(Address(local, "a.test"))
            self.assertEqual(caught.exception.reply.code, 550)
        self.clock.advance(30 * 86400)
        with self.assertRaises(Refused) as caught:
            await self.paths.resolve(path)
        self.assertEqual(str(caught.exception.reply), "550 5.7.1 Return path has expired")

    async def test_without_an_answer_of_the_dns_it_goes_all_the_same(self) -> None:
        self.names.broken = True
        signed = sign([LETTER], [Signer("c.test", "s", THEIRS)], NOW) + LETTER
        _, data = await self.forwarded(signed)
        self.assertIn(b"dkim=temperror", data)

    async def test_a_seal_that_fails_does_not_stop_it(self) -> None:
        async def broken(domain: str) -> Any:
            raise OSError("no database")

        self.keyring.signers = broken  # type: ignore[method-assign]
        _, data = await self.forwarded(LETTER)
        self.assertEqual(data, LETTER)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    async def test_an_alias_for_several_reports_that_it_was_expanded(self) -> None:
        self.start()
        wanted = Recipient(addr("both@a.test"), frozenset({"SUCCESS", "FAILURE"}))
        envelope = Envelope("q1", addr("carol@c.test"), (wanted,))
        await self.queue.accept(envelope, Message.of(LETTER))
        await self.until(lambda: self.bounces(self.transfer) and not self.entries())
        _, report = self.bounce(self.transfer)
        [group] = world.fields(report)[1:]
        self.assertEqual((group["Action"], group["Status"]), ("expanded", "2.1.5"))
        onward = next(one for one in self.transfer.envelopes if one.reverse_path is not None)
        self.assertEqual(onward.recipients[0].notify, frozenset({"FAILURE"}))

    async def test_what_we_write_ourselves_is_signed(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        await self.forwarded(LETTER)
        report = next(got for got in self.transfer.got if got[1].startswith("q1."))[3]
        self.assertEqual(report.count(b"DKIM-Signature: "), 2)
        self.assertTrue(dkim.verify(report, dnsfunc=self.names.ask))

    async def test_a_bounce_that_bounces_goes_to_postmaster_and_no_further(self) -> None:
        self.transfer.says = {"x@b.test": NEVER, "carol@c.test": NEVER}
        self.mda.says = {}
        await self.forwarded(LETTER)
        await self.until(lambda: self.bounces(self.mda))
        envelope, _ = self.bounce(self.mda)
        self.assertEqual([str(one.address) for one in envelope.recipients], ["alice@a.test"])
        self.assertTrue(envelope.id.endswith(".2"))
        self.assertEqual(self.bounces(self.mda), 1)

    async def test_the_trail_tells_all_of_it(self) -> None:
        self.transfer.says = {"x@b.test": NEVER}
        await self.forwarded(LETTER)
        await self.trail.flush()
        notes = self.database.read(rows.find, "q1", 0.0)
        events = [(note.id.partition(".")[1], note.event) for note in notes]
        for event in ("queued", "forwarded", "bounced", "reported"):
            self.assertIn(("", event), events)
        for event in ("received", "signed", "sent"):
            self.assertIn((".", event), events)
        [bounced] = [note for note in notes if note.event == "bounced"]
        self.assertEqual(bounced.detail["reply"], "550 5.1.1 no such user")
        self.assertEqual(bounced.detail["exchanger"], "mx.b.test[192.0.2.1]:25")
        self.assertEqual((bounced.address, bounced.detail["tls"]), ("x@b.test", "TLSv1.3"))


class TestSealedResults(ForwardingWorld):
    """What was found when the message came is what the seal says."""

    verified = True
    found = b"Authentication-Results: mail.a.test;\r\n\tspf=pass smtp.mailfrom=carol@c.test;\r\n\tdmarc=pass header.from=c.test\r\n"

    async def test_ours(self) -> None:
        theirs = b"Authentication-Results: mx.c.test; dmarc=fail\r\n"
        _, data = await self.forwarded(b"Received: from x by mail.a.test\r\n" + self.found + theirs + LETTER)
        said = self.found.replace(b"Authentication-Results:", b"ARC-Authentication-Results: i=1;")
        self.assertIn(said, data)
        self.assertEqual(dkim.arc_verify(data, dnsfunc=self.names.ask)[0], b"pass")

    async def test_without_ours_what_is_found_now(self) -> None:
        _, data = await self.forwarded(LETTER)
        self.assertIn(
            b"ARC-Authentication-Results: i=1; mail.a.test;\r\n\tdkim=none;\r\n\tarc=none\r\n", data
        )


class TestSigning(ForwardingWorld):
    """What our users submit."""

    async def test_by_the_key_of_the_authors_domain_or_the_one_above(self) -> None:
        for domain in ("a.test", "news.a.test"):
            data = f"From: Alice <alice@{domain}>\r\nSubject: x\r\n\r\nhello\r\n".encode()
            envelope = Envelope("q1", None, ())
            signed = (await self.signing.signed(envelope, Message.of(data))).read()
            self.assertTrue(signed.endswith(data))
            self.assertTrue(dkim.DKIM(signed).verify(0, dnsfunc=self.names.ask))
            self.assertTrue(dkim.DKIM(signed).verify(1, dnsfunc=self.names.ask))

    async def test_only_what_leaves_also_by_an_alias_and_then_for_all(self) -> None:
        data = b"From: Alice <alice@a.test>\r\nSubject: x\r\n\r\nhello\r\n"
        self.start()
        for number, (to, signed) in enumerate(
            [(("bob@a.test",), 0), (("x@b.test",), 2), (("team@a.test",), 2), (("both@a.test",), 2)]
        ):
            recipients = tuple(Recipient(addr(one)) for one in to)
            envelope = Envelope(f"q{number}", addr("alice@a.test"), recipients)
            await self.queue.submit(envelope, Message.of(data))
            await self.until(lambda: not self.entries())
            got = [one[3] for one in (*self.mda.got, *self.transfer.got) if one[1] == envelope.id]
            fields = [(b"\r\n" + text).count(b"\r\nDKIM-Signature:") for text in got]
            self.assertEqual(fields, [signed] * len(got))
            self.assertEqual(len(got), 2 if to == ("both@a.test",) else 1)

    async def test_not_what_others_send(self) -> None:
        _, text = await self.forwarded(b"From: Alice <alice@a.test>\r\nSubject: x\r\n\r\nhello\r\n")
        self.assertNotIn(b"DKIM-Signature:", text)

    async def test_nobody_elses(self) -> None:
        for author in (b"From: x@c.test\r\n", b"", b"From: broken\r\n", b"From: x@nota.test\r\n"):
            message = Message.of(author + b"Subject: x\r\n\r\nhello\r\n")
            self.assertIs(await self.signing.signed(Envelope("q1", None, ()), message), message)

    async def test_a_message_in_a_file(self) -> None:
        from mailstack.mail.message import Stored

        data = b"From: alice@a.test\r\n\r\n" + b"0123456789 abcdef\t \r\n" * 60_000
        path = self.folder / "big"
        path.write_bytes(data)
        message = Message((Stored(path, 0, len(data)),))
        signed = (await self.signing.signed(Envelope("q1", None, ()), message)).read()
        self.assertTrue(dkim.DKIM(signed).verify(1, dnsfunc=self.names.ask))

    async def test_a_file_that_is_gone_is_sent_unsigned_and_logged(self) -> None:
        from mailstack.mail.message import Stored

        message = Message((Stored(self.folder / "gone", 0, 10),))
        self.assertIs(await self.signing.signed(Envelope("q1", None, ()), message), message)
        self.assertEqual(len(self.flushLoggedErrors(FileNotFoundError)), 1)

    async def test_a_rotation_is_noticed(self) -> None:
        before = await self.keyring.signers("a.test")
        new = PrivateKey.make("ed25519")
        now = self.clock.seconds()
        self.database.write(verbs.rotate, "a.test", [new], "new", now, 100.0)
        self.clock.advance(50)
        self.assertEqual(
            [one.selector for one in await self.keyring.signers("a.test")], [one.selector for one in before]
        )
        self.clock.advance(60)
        self.assertEqual([one.selector for one in await self.keyring.signers("a.test")], ["newe"])
        states = [info.state(self.clock.seconds()) for info in self.database.read(verbs.list_keys, "a.test")]
        self.assertEqual(states, ["retired", "retired", "signing"])
