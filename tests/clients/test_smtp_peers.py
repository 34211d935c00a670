"""SMTP and LMTP with other people's programs: swaks, curl, Postfix before and behind us, Dovecot behind us."""

from __future__ import annotations

import email
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clients.conftest import needs
from tests.clients.test_libraries import imap
from tests.clients.test_programs import run
from tests.dovecot import Dovecot, dovecot
from tests.peers import Postfix, postfix
from tests.running import RunningStack, eventually, free_ports


class Neighborhood(NamedTuple):
    """Our stack between a Postfix for peer.test and a Dovecot for dove.test and inet.test."""

    ours: RunningStack
    postfix: Postfix
    dovecot: Dovecot
    lmtp: int  # our LMTP port


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighborhood]:
    folder = tmp_path_factory.mktemp("peers")
    smtp, lmtp = free_ports(2)
    transports = f"inline:{{ {{carol@example.test=smtp:[127.0.0.1]:{smtp}}} {{example.test=lmtp:inet:127.0.0.1:{lmtp}}} }}"
    aliases = (
        "inline:{ {echo@peer.test=bob@example.test} {smtp@peer.test=carol@example.test} "
        "{loop@peer.test=loop@example.test} }"
    )
    with (
        postfix(
            "peer.test",
            {"transport_maps": transports, "virtual_alias_maps": aliases, "smtp_tls_security_level": "may"},
        ) as theirs,
        dovecot(smtp) as dove,
    ):
        routes = {
            "peer.test": f"smtp://127.0.0.1:{theirs.port}",
            "dove.test": f"lmtp://unix:{dove.socket}",
            "inet.test": f"lmtp://127.0.0.1:{dove.port}",
        }
        written = ", ".join(f'"{domain}" = "{route}"' for domain, route in routes.items())
        settings = (f"listeners.smtp={smtp}", f"listeners.lmtp={lmtp}", f"mta.routes={{{written}}}",
                    f'listeners.lmtp_socket="{folder / "ours.lmtp"}"', "msa.save_sent=true",
                    "relay.max_received=12", "lmtp.max_received=12", "log.conversation=true")  # fmt: skip
        stack = RunningStack(folder / "ours", users=("alice", "bob", "carol"), settings=settings)
        stack.ports["smtp"] = smtp
        stack.configured("alias", "add", "loop@example.test", "loop@peer.test")
        stack.start()
        try:
            yield Neighborhood(stack, theirs, dove, lmtp)
        finally:
            stack.stop()


def context(stack: RunningStack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(stack.ca))


def submission(stack: RunningStack, user: str = "alice") -> smtplib.SMTP:
    """A client that has logged in and asked again what is offered."""
    client = smtplib.SMTP_SSL("localhost", stack.ports["submissions"], context=context(stack))
    client.login(stack.address(user), f"{user}-secret")
    client.ehlo()
    return client


def letter(subject: str, to: str, sender: str = "alice@example.test") -> bytes:
    return f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()


def found(stack: RunningStack, user: str, subject: str, mailbox: str = "INBOX") -> Message | None:
    """A message with these words in its subject."""
    with imap(stack, user) as client:
        client.select_folder(mailbox, readonly=True)
        uids = client.search(["SUBJECT", subject])
        if not uids:
            return None
        return email.message_from_bytes(client.fetch(uids[:1], ["BODY.PEEK[]"])[uids[0]][b"BODY[]"])


def report(stack: RunningStack, user: str, text: str) -> bytes | None:
    """A delivery report that says `text`."""
    with imap(stack, user) as client:
        client.select_folder("INBOX", readonly=True)
        for uid, item in client.fetch(client.search("ALL") or [1], ["BODY.PEEK[]"]).items():
            data: bytes = item[b"BODY[]"]
            if uid and b"delivery-status" in data and text.encode() in data:
                return data
    return None


class TestPostfix:
    def test_behind_us_and_back_by_lmtp(self, peers: Neighborhood) -> None:
        """Submission, our queue, Postfix by SMTP, its alias, our LMTP."""
        with submission(peers.ours) as client:
            client.sendmail(
                "alice@example.test", ["echo@peer.test"], letter("there and back", "echo@peer.test")
            )
        message = eventually(lambda: found(peers.ours, "bob", "there and back"))
        received = message.get_all("Received")
        assert "with LMTP" in received[0]
        assert "by mx.peer.test (Postfix)" in received[1]
        assert "with ESMTPSA" in received[2]
        assert message["Return-Path"] == "<alice@example.test>"
        assert message["Delivered-To"] == "bob@example.test"

    def test_before_us_by_smtp(self, peers: Neighborhood) -> None:
        with submission(peers.ours) as client:
            client.sendmail("alice@example.test", ["smtp@peer.test"], letter("by smtp", "smtp@peer.test"))
        received = eventually(lambda: found(peers.ours, "carol", "by smtp")).get_all("Received")
        assert "with ESMTPS" in received[0]  # Postfix uses our STARTTLS
        assert "TLS" in received[0]

    def test_delivery_status_all_the_way(self, peers: Neighborhood) -> None:
        with submission(peers.ours) as client:
            client.sendmail(
                "alice@example.test",
                ["echo@peer.test"],
                letter("report on this", "echo@peer.test"),
                mail_options=["RET=HDRS", "ENVID=QQ314159"],
                rcpt_options=["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Echo@peer.test"],
            )
        data = eventually(lambda: report(peers.ours, "alice", "QQ314159"))
        assert b"Original-Recipient: rfc822;Echo@peer.test" in data.replace(b"rfc822; ", b"rfc822;")
        assert b"Reporting-MTA: dns; m" in data
        assert b"text/rfc822-headers" in data

    def test_notify_never_is_kept(self, peers: Neighborhood) -> None:
        with submission(peers.ours) as client:
            client.sendmail(
                "alice@example.test", ["nobody@peer.test"], letter("silence", "x@peer.test"), rcpt_options=["NOTIFY=NEVER"],
            )  # fmt: skip
            client.sendmail("alice@example.test", ["nobody2@peer.test"], letter("loud", "x@peer.test"))
        data = eventually(lambda: report(peers.ours, "alice", "nobody2@peer.test"))
        assert b"nobody@peer.test" not in data
        assert report(peers.ours, "alice", "nobody@peer.test") is None

    def test_utf8_addresses(self, peers: Neighborhood) -> None:
        with submission(peers.ours) as client:
            text = (
                "From: alice@example.test\r\nTo: jörg@peer.test\r\nSubject: grüße\r\n\r\nHallo\r\n".encode()
            )
            client.mail("alice@example.test", ["SMTPUTF8", "BODY=8BITMIME"])
            assert client.rcpt("jörg@peer.test")[0] == 250
            assert client.data(text)[0] == 250
        eventually(lambda: "jörg@peer.test" in peers.postfix.log() or "j\\303\\266rg" in peers.postfix.log())

    def test_utf8_addresses_from_it(self, peers: Neighborhood) -> None:
        """By SMTP and by LMTP."""
        with smtplib.SMTP("127.0.0.1", peers.postfix.port) as client:
            client.ehlo()
            assert client.mail("jörg@peer.test", ["SMTPUTF8"])[0] == 250
            for to in ("bob@example.test", "carol@example.test"):
                assert client.rcpt(to)[0] == 250
            assert (
                client.data("From: jörg@peer.test\r\nSubject: from abroad\r\n\r\nHallo\r\n".encode())[0]
                == 250
            )
        for user, protocol in (("bob", "with UTF8LMTP"), ("carol", "with UTF8SMTPS")):
            message = eventually(lambda user=user: found(peers.ours, user, "from abroad"))
            assert protocol in message.get_all("Received")[0]

    def test_a_loop_is_cut_with_a_report(self, peers: Neighborhood) -> None:
        """Our alias leads to Postfix, whose alias leads to us, until there are too many Received fields."""
        with submission(peers.ours) as client:
            to = "loop@example.test"
            client.sendmail("alice@example.test", [to], letter("round and round", to))
        data = eventually(lambda: report(peers.ours, "alice", "Mail loop: too many Received fields"))
        assert b"Status: 5.4.6" in data
        assert data.count(b"\r\nReceived:") >= 12
        assert not peers.ours.json("queue", "list") or all(
            "loop@" not in one["recipient"] for one in peers.ours.json("queue", "list")
        )


class TestDovecot:
    def test_before_us_by_chunks(self, peers: Neighborhood) -> None:
        """Its Sieve sends mail on to us, by BDAT."""
        if not peers.dovecot.has_sieve:
            pytest.skip("sievec is not installed; get it with: apt-get install dovecot-sieve")
        with submission(peers.ours) as client:
            client.sendmail("alice@example.test", ["bdat@dove.test"], letter("in chunks", "bdat@dove.test"))
        message = eventually(lambda: found(peers.ours, "bob", "in chunks"))
        assert message["X-Sieve-Redirected-From"] == "bdat@dove.test"
        assert re.search(r"conversation: smtp \S+ C: BDAT \d+", peers.ours.log())

    @pytest.mark.parametrize("domain", ["dove.test", "inet.test"])
    def test_behind_us_by_lmtp(self, peers: Neighborhood, domain: str) -> None:
        to = [f"dora@{domain}", f"dirk@{domain}"]
        with submission(peers.ours) as client:
            client.sendmail("alice@example.test", to, letter("for dovecot", to[0]))
        for one in to:
            [message] = eventually(lambda one=one: peers.dovecot.messages(one))
            assert "Subject: for dovecot" in message
            assert "by mail.example.test with ESMTPSA" in message

    def test_what_one_recipient_hears_is_his_own(self, peers: Neighborhood) -> None:
        """A quoted address with a slash is what Dovecot refuses for one recipient."""
        bad = '"../x"@dove.test'
        with submission(peers.ours) as client:
            client.sendmail(
                "alice@example.test", [bad, "good@dove.test"], letter("one of two", "good@dove.test")
            )
        eventually(lambda: peers.dovecot.messages("good@dove.test"))
        assert eventually(lambda: report(peers.ours, "alice", "../x"))


class TestOurLmtp:
    def test_answers_for_each_and_by_the_socket(self, peers: Neighborhood) -> None:
        path = peers.ours.directory.parent / "ours.lmtp"
        for client in (smtplib.LMTP("127.0.0.1", peers.lmtp), smtplib.LMTP(str(path))):
            with client:
                assert client.ehlo_or_helo_if_needed() is None
                assert client.has_extn("pipelining")
                assert client.mail("x@peer.test")[0] == 250
                assert client.rcpt("bob@example.test")[0] == 250
                assert client.rcpt("nobody@example.test")[0] == 550
                assert client.rcpt("carol@example.test")[0] == 250
                assert client.rcpt("bob@elsewhere.test")[0] == 550
                client.putcmd("data")
                assert client.getreply()[0] == 354
                client.send(letter("by lmtp", "bob@example.test") + b".\r\n")
                assert [client.getreply()[0] for _ in range(2)] == [250, 250]
                assert client.noop()[0] == 250
        assert eventually(lambda: found(peers.ours, "carol", "by lmtp"))

    @needs("swaks")
    def test_swaks(self, program: str, peers: Neighborhood) -> None:
        run(program, "--protocol", "LMTP", "--server", f"127.0.0.1:{peers.lmtp}", "--from", "a@peer.test",
            "--to", "bob@example.test,carol@example.test", "--header", "Subject: swaks by lmtp")  # fmt: skip
        assert found(peers.ours, "bob", "swaks by lmtp")
        assert found(peers.ours, "carol", "swaks by lmtp")


class TestSubmission:
    def test_offers(self, peers: Neighborhood) -> None:
        """All at once: who does not say EHLO again after the login knows them too."""
        with smtplib.SMTP_SSL(
            "localhost", peers.ours.ports["submissions"], context=context(peers.ours)
        ) as client:
            client.ehlo()
            for offer in ("futurerelease", "mt-priority", "deliverby", "requiretls", "limits", "binarymime"):
                assert client.has_extn(offer), offer

    def test_a_message_is_held(self, peers: Neighborhood) -> None:
        with submission(peers.ours) as client:
            client.sendmail(
                "alice@example.test", ["bob@example.test"], letter("from the future", "bob@example.test"), ["HOLDFOR=3600"],
            )  # fmt: skip
        assert found(peers.ours, "bob", "from the future") is None
        [entry] = [one for one in peers.ours.json("queue", "list") if one["recipient"] == "bob@example.test"]
        peers.ours.configured("queue", "retry", entry["message_id"])  # the operator need not wait
        assert eventually(lambda: found(peers.ours, "bob", "from the future"))

    def test_binary_content_in_chunks_is_stored_as_it_is(self, peers: Neighborhood) -> None:
        text = letter("binary", "bob@example.test") + b"a\nb\rc\0\xff"
        with submission(peers.ours) as client:
            client.mail("alice@example.test", ["BODY=BINARYMIME"])
            client.rcpt("bob@example.test")
            assert client.docmd("DATA")[0] == 503
            client.send(b"BDAT 10\r\n" + text[:10] + b"BDAT %d LAST\r\n" % len(text[10:]) + text[10:])
            assert [client.getreply()[0] for _ in range(2)] == [250, 250]
        with imap(peers.ours, "bob") as reader:
            reader.select_folder("INBOX", readonly=True)
            [uid] = reader.search(["SUBJECT", "binary"])
            stored: bytes = reader.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"]
        assert stored.endswith(text)

    def test_binary_content_bounces_where_the_next_hop_lacks_it(self, peers: Neighborhood) -> None:
        text = letter("binary away", "echo@peer.test") + b"a\nb\0"
        with submission(peers.ours) as client:
            client.mail("alice@example.test", ["BODY=BINARYMIME"])
            client.rcpt("echo@peer.test")
            client.send(b"BDAT %d LAST\r\n" % len(text) + text)
            assert client.getreply()[0] == 250
        assert b"5.6.3" in eventually(lambda: report(peers.ours, "alice", "binary away"))

    def test_tls_is_required_and_not_to_be_had(self, peers: Neighborhood) -> None:
        with submission(peers.ours) as client:
            client.sendmail(
                "alice@example.test", ["echo@peer.test"], letter("secret", "echo@peer.test"), ["REQUIRETLS"]
            )
        data = eventually(lambda: report(peers.ours, "alice", "5.7.10"))
        assert b"Encryption needed" in data
        assert b"\r\nHello\r\n" not in data  # RFC 8689 section 5: the header section alone

    def test_one_copy_in_sent(self, peers: Neighborhood) -> None:
        text = b"Message-ID: <only.one@example.test>\r\n" + letter("sent once", "bob@example.test")
        with submission(peers.ours) as client:
            client.sendmail("alice@example.test", ["bob@example.test"], text)
        with imap(peers.ours, "alice") as client:
            client.select_folder("Sent")
            [uid] = eventually(lambda: client.search(["SUBJECT", "sent once"]))
            said = client.append("Sent", text, [b"\\Seen", b"\\Answered"])
            assert f" {uid}]".encode() in said
            client.noop()
            assert client.search(["SUBJECT", "sent once"]) == [uid]
            assert set(client.get_flags([uid])[uid]) >= {b"\\Seen", b"\\Answered"}

    @needs("curl")
    def test_curl_with_utf8_and_a_recipient_that_is_not(
        self, program: str, peers: Neighborhood, tmp_path: Path
    ) -> None:
        mail = tmp_path / "mail"
        mail.write_bytes(letter("curl in UTF-8", "bob@example.test"))
        said = run(program, "--silent", "--show-error", "--verbose", "--cacert", str(peers.ours.ca), "--user", "alice@example.test:alice-secret",
            f"smtps://localhost:{peers.ours.ports['submissions']}", "--mail-from", "alice@example.test", "--mail-auth", "alice@example.test",
            "--mail-rcpt", "jürgen@peer.test", "--mail-rcpt", "nobody@example.test", "--mail-rcpt", "bob@example.test",
            "--mail-rcpt-allowfails", "--upload-file", str(mail))  # fmt: skip
        assert " SMTPUTF8" in said
        assert " AUTH=" in said
        assert "550 5.1.1 No such user here" in said
        assert eventually(lambda: found(peers.ours, "bob", "curl in UTF-8"))
        eventually(lambda: "j\\303\\274rgen" in peers.postfix.log() or "jürgen" in peers.postfix.log())

    @needs("msmtp")
    def test_msmtp_asks_for_reports(self, program: str, peers: Neighborhood, tmp_path: Path) -> None:
        settings = tmp_path / "msmtprc"
        settings.write_text(
            f"account default\nhost localhost\nport {peers.ours.ports['submissions']}\nfrom alice@example.test\n"
            f"auth on\nuser alice@example.test\npassword alice-secret\ntls on\ntls_starttls off\n"
            f"tls_trust_file {peers.ours.ca}\ndsn_notify success,failure\ndsn_return headers\n"
        )
        settings.chmod(0o600)
        run(
            program,
            "-C",
            str(settings),
            "carol@example.test",
            stdin="Subject: msmtp wants to know\n\nHello\n",
        )
        data = eventually(lambda: report(peers.ours, "alice", "msmtp wants to know"))
        assert b"Action: delivered" in data
        assert b"text/rfc822-headers" in data

    @needs("swaks")
    def test_swaks_is_no_other_client_than_it_is(self, program: str, peers: Neighborhood) -> None:
        said = run(program, "--server", f"127.0.0.1:{peers.ours.ports['smtp']}", "--xclient", "ADDR=127.0.0.2",
            "--from", "a@peer.test", "--to", "bob@example.test", good=False)  # fmt: skip
        assert "XCLIENT" in said
        assert "250 2.1.5" not in said

    @needs("curl")
    def test_curl_with_a_slow_line(self, program: str, peers: Neighborhood, tmp_path: Path) -> None:
        mail = tmp_path / "mail"
        mail.write_bytes(letter("slow curl", "bob@example.test") + b".\r\n..\r\n" * 200)
        run(program, "--silent", "--show-error", "--cacert", str(peers.ours.ca), "--user", "alice@example.test:alice-secret",
            f"smtps://localhost:{peers.ours.ports['submissions']}", "--mail-from", "alice@example.test",
            "--mail-rcpt", "bob@example.test", "--upload-file", str(mail), "--limit-rate", "4k")  # fmt: skip
        message = eventually(lambda: found(peers.ours, "bob", "slow curl"))
        assert message.get_payload().count("\r\n.\r\n") >= 200

    @needs("swaks")
    def test_swaks_says_what_the_extensions_ask(self, program: str, peers: Neighborhood) -> None:
        said = run(program, "--server", "127.0.0.1", "--port", str(peers.ours.ports["submission"]), "--tls",
                   "--auth", "PLAIN", "--auth-user", "alice@example.test", "--auth-password", "alice-secret",
                   "--from", "alice@example.test", "--to", "bob@example.test", "--pipeline",
                   "--header", "Subject: swaks", "--h-From", "alice@example.test")  # fmt: skip
        assert "250 2.0.0 Ok: queued as" in said


def test_half_closed_socket(peers: Neighborhood) -> None:
    """A client that says all and closes its side hears all answers."""
    with socket.create_connection(("127.0.0.1", peers.ours.ports["smtp"])) as client:
        client.sendall(
            b"EHLO x\r\nMAIL FROM:<a@peer.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
            + letter("half closed", "bob@example.test")
            + b".\r\n"
        )
        client.shutdown(socket.SHUT_WR)
        heard = b""
        while data := client.recv(65536):
            heard += data
    assert b"250 2.0.0 Ok: queued as" in heard
    assert found(peers.ours, "bob", "half closed")
