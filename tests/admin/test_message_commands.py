"""`mailstack trace`, `dkim`, `suppression`, `sender`."""

from __future__ import annotations

import time

from mailstack.mail.dkim import PublicKey
from mailstack.trail import rows
from mailstack.trail.notes import Note
from tests.admin.conftest import Installation


class TestTrace:
    def test_the_steps_with_times(self, installation: Installation) -> None:
        at = 1_700_000_000.25
        came = {"peer": "192.0.2.1", "login": "alice@example.org", "helo": "pc", "protocol": "ESMTPSA", "tls": "TLSv1.3", "size": 42, "recipients": ["bob@b.test"], "port": 587}  # fmt: skip
        tried = {"attempt": 1, "hop": "b.test", "exchanger": "mx.b.test[192.0.2.9]:25", "tls": "TLSv1.3", "reply": "250 2.0.0 Ok"}  # fmt: skip
        home = {"user": "carol@example.org", "mailbox": "INBOX", "mailbox_id": 1, "uidvalidity": 1, "uid": 7}
        notes = [
            Note(at, "q1", "received", "alice@example.org", "<1@example.org>", came),
            Note(at + 1, "q1", "queued", "bob@b.test", None, {"hop": "b.test"}),
            Note(at + 2, "q1", "sent", "bob@b.test", None, tried),
            Note(at + 3, "q1", "delivered", "carol@example.org", None, home),
        ]
        installation.write(rows.write, notes)
        assert installation.ok("trace", "1@example.org").splitlines() == [
            "q1\t2023-11-14T22:13:20.250Z\t1 submission\treceived\talice@example.org\tfrom 192.0.2.1 as alice@example.org (HELO pc) by ESMTPSA, TLSv1.3; 42 octets to bob@b.test",
            "q1\t2023-11-14T22:13:21.250Z\t2 queue\tqueued\tbob@b.test\tfor b.test",
            "q1\t2023-11-14T22:13:22.250Z\t3 transfer\tsent\tbob@b.test\tattempt 1 at mx.b.test[192.0.2.9]:25, TLSv1.3: 250 2.0.0 Ok",
            "q1\t2023-11-14T22:13:23.250Z\t4 delivery\tdelivered\tcarol@example.org\tinto carol@example.org INBOX UID 7",
            "q1\t2023-11-14T22:13:23.250Z\t6 inbox\tnow\tcarol@example.org\tmoved or expunged",
        ]
        [first, *_] = installation.json("trace", "bob@b.test")
        assert (first["event"], first["detail"]["peer"]) == ("received", "192.0.2.1")
        assert "nothing is written down" in installation.refused("trace", "q1", "--since", "2d")

    def test_a_bounce_before_its_report_a_check_after_its_message(self, installation: Installation) -> None:
        at = 1_700_000_000.0
        said = ["authentication: spf=pass; dmarc=pass", "mark: junk"]
        told = {"report": "q1.fail1", "action": "failed", "about": ["Bob@b.test"], "reply": "250 Ok"}
        tried = {"attempt": 1, "hop": "b.test", "reply": "550 5.1.1 No"}
        refused = {"what": "message", "peer": "192.0.2.1", "reply": "550 5.7.26 No", "verdicts": said[:1]}
        notes = [
            Note(at, "q1", "received", "", None, {"peer": "192.0.2.1", "port": 25}),
            Note(at, "q1", "checked", None, None, {"verdicts": said}),
            Note(at + 1.0, "q1.fail1", "received", "", None, {"made_here": "failed report"}),
            Note(at + 1.1, "q1", "reported", "x@c.test", None, told),
            Note(at + 1.2, "q1", "bounced", "bob@b.test", None, tried),
            Note(at + 5.0, "q2", "refused", "bob@b.test", None, refused),
        ]
        installation.write(rows.write, notes)
        lines = [line.split("\t") for line in installation.ok("trace", "bob@b.test").splitlines()]
        assert [(line[3], line[4]) for line in lines] == [
            ("received", "<>"),
            ("checked", "-"),
            ("bounced", "bob@b.test"),
            ("received", "<>"),
            ("reported", "x@c.test"),
            ("refused", "bob@b.test"),
        ]
        assert lines[1][5] == "authentication: spf=pass; dmarc=pass; mark: junk"
        assert lines[5][5] == (
            "message refused from 192.0.2.1: 550 5.7.26 No; authentication: spf=pass; dmarc=pass"
        )

    def test_nothing_known(self, installation: Installation) -> None:
        assert "nothing is written down" in installation.refused("trace", "nobody@b.test")


class TestDkim:
    def test_add_list_rotate_remove(self, installation: Installation) -> None:
        said = installation.ok("dkim", "add", "example.org", "--selector", "one")
        names = [line.split(" ")[0] for line in said.splitlines()]
        assert names == ["oner._domainkey.example.org.", "onee._domainkey.example.org."]
        found = installation.json("dkim", "list")
        assert [(row["algorithm"], row["state"]) for row in found] == [
            ("rsa", "signing"),
            ("ed25519", "signing"),
        ]
        assert [PublicKey.parse(row["record"].encode()).algorithm for row in found] == ["rsa", "ed25519"]
        assert "private" not in installation.ok("dkim", "list", "--json").lower()
        installation.ok("dkim", "rotate", "example.org", "--selector", "two", "--algorithm", "ed25519")
        states = {row["selector"]: row["state"] for row in installation.json("dkim", "list")}
        assert states == {"oner": "signing", "onee": "signing", "twoe": "waiting"}
        assert installation.ok("dkim", "dns", "example.org").count(" TXT ") == 3
        assert installation.ok("dkim", "remove", "example.org", "oner", "--yes") == (
            "removed: oner._domainkey.example.org\n"
        )
        assert len(installation.json("dkim", "list")) == 2

    def test_refusals(self, installation: Installation) -> None:
        assert "has no key yet" in installation.refused("dkim", "rotate", "example.org")
        assert "has no key" in installation.refused("dkim", "remove", "example.org", "--yes")
        assert "no selector" in installation.refused("dkim", "add", "example.org", "--selector", "a b")


class TestSuppressionAndSenders:
    def test_suppression(self, installation: Installation) -> None:
        installation.ok("suppression", "add", "Bob@b.test", "--reason", "left", "--for", "1d")
        [row] = installation.json("suppression", "list")
        assert (row["address"], row["reason"]) == ("bob@b.test", "left")
        assert 86_300 < row["until"] - time.time() < 86_500
        assert installation.ok("suppression", "remove", "bob@b.test") == "bob@b.test removed\n"
        assert "not in the list" in installation.refused("suppression", "remove", "bob@b.test")

    def test_senders(self, installation: Installation) -> None:
        installation.ok("user", "add", "alice@example.org", "--password-stdin", input="wonderland\n")
        held = installation.json("sender", "hold", "Alice@example.org")
        assert held == {"login": "alice@example.org", "entries": 0}
        assert [row["login"] for row in installation.json("sender", "list")] == ["alice@example.org"]
        installation.ok("sender", "release", "alice@example.org")
        assert "is not held" in installation.refused("sender", "release", "alice@example.org")
        assert "no such user" in installation.refused("sender", "hold", "eve@example.org")
        installation.ok("sender", "hold", "[10.0.0.9]")  # a client of a trusted network
        assert [row["login"] for row in installation.json("sender", "list")] == ["[10.0.0.9]"]
        installation.ok("sender", "release", "[10.0.0.9]")
