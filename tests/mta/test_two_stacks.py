"""Mail between two whole stacks, with a name server between them: who wrote it is proved, seen, and passed on."""

from __future__ import annotations

import json
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dkim
import pytest

from tests.clients.test_libraries import imap
from tests.running import PATIENCE, RunningStack, answers, eventually, free_ports

_NAME_SERVER = """
import json, sys
from twisted.internet import reactor
from mailstack.net.name_server import NameServer
NameServer(reactor, json.loads(sys.argv[2]), port=int(sys.argv[1])).startService()
reactor.run()
"""


class Pair:
    """a.test and b.test, each with signing keys, SPF and DMARC, on loopback; all clients are looked at."""

    def __init__(self, folder: Path) -> None:
        [self.dns_port] = free_ports(1)
        settings = [
            f"dns.nameservers=['127.0.0.1:{self.dns_port}']",
            "policy.authentication.trusted_networks=[]",
            "policy.authentication.enforce=true",
        ]
        self.a, self.b = (RunningStack(folder / name, f"{name}.test", settings=settings) for name in "ab")
        self.zone: dict[str, list[str]] = {}
        for one, other in ((self.a, self.b), (self.b, self.a)):
            one.settings.append(f"mta.port={other.ports['smtp']}")
            one.settings.append("mta.private_networks=['127.0.0.0/8']")
            self._publish(one)
        self.b.configured("alias", "add", "team@b.test", "bob@a.test")
        self.b.configured("alias", "add", "away@b.test", "nobody@a.test")
        script = [sys.executable, "-c", _NAME_SERVER, str(self.dns_port), json.dumps(self.zone)]
        self._names = subprocess.Popen(script)
        eventually(lambda: answers(self.dns_port))
        for one in (self.a, self.b):
            one.start()

    def _publish(self, stack: RunningStack) -> None:
        self.zone |= {
            stack.domain: [f"MX 10 {stack.hostname}.", 'TXT "v=spf1 ip4:127.0.0.1 -all"'],
            stack.hostname: ["A 127.0.0.1", 'TXT "v=spf1 a -all"'],
            f"_dmarc.{stack.domain}": ['TXT "v=DMARC1; p=reject"'],
        }
        for key in stack.json("dkim", "dns", stack.domain):
            record = key["record"]
            parts = " ".join(f'"{record[at : at + 200]}"' for at in range(0, len(record), 200))
            self.zone[key["name"]] = [f"TXT {parts}"]

    def txt(self, name: bytes, timeout: int = 5) -> bytes | None:
        """What dkimpy asks the DNS."""
        [record] = self.zone.get(name.decode().rstrip("."), [""])
        return "".join(record.partition(" ")[2].split('"')[1::2]).encode() or None

    def stop(self) -> None:
        for one in (self.a, self.b):
            one.stop()
        self._names.kill()
        self._names.wait()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("pair"))
    try:
        yield made
    finally:
        made.stop()


def submit(stack: RunningStack, user: str, to: str, subject: str) -> None:
    context = ssl.create_default_context(cafile=str(stack.ca))
    context.check_hostname = False
    with smtplib.SMTP_SSL(
        "127.0.0.1", stack.ports["submissions"], timeout=PATIENCE, context=context
    ) as client:
        client.login(stack.address(user), f"{user}-secret")
        content = f"From: {stack.address(user)}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\nhello\r\n"
        client.sendmail(stack.address(user), [to], content)


def relay(stack: RunningStack) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", stack.ports["smtp"], timeout=PATIENCE)
    client.ehlo("mail.c.test")
    return client


def arrived(stack: RunningStack, user: str, subject: str) -> bytes:
    """The message of that subject, once it is in the INBOX."""

    def look() -> bytes | None:
        with imap(stack, user) as client:
            client.select_folder("INBOX", readonly=True)
            found = client.search(["SUBJECT", subject])
            return client.fetch(found, ["BODY.PEEK[]"])[found[0]][b"BODY[]"] if found else None

    data: bytes = eventually(look)
    return data


def unfolded(data: bytes) -> str:
    return data.partition(b"\r\n\r\n")[0].decode().replace("\r\n\t ", " ").replace("\r\n\t", " ")


def traced(
    stack: RunningStack, what: str, until: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    """The trail, once it is as `until` wants it."""

    def look() -> list[dict[str, Any]] | None:
        try:
            lines: list[dict[str, Any]] = stack.json("trace", what)
        except AssertionError:  # nothing is written down yet
            return None
        return lines if until(lines) else None

    found: list[dict[str, Any]] = eventually(look)
    return found


def has(*events: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda lines: set(events) <= {line["event"] for line in lines}


def test_who_wrote_it_is_proved(pair: Pair) -> None:
    submit(pair.a, "alice", "bob@b.test", "straight")
    data = arrived(pair.b, "bob", "straight")
    said = unfolded(data).partition("\r\nAuthentication-Results: ")[2].partition("\r\n")[0]
    assert said.startswith(
        "mail.b.test; spf=pass smtp.mailfrom=alice@a.test; spf=pass smtp.helo=mail.a.test; dkim=pass"
    )
    assert said.count("dkim=pass header.d=a.test") == 2  # RSA and Ed25519
    assert said.endswith("dmarc=pass header.from=a.test policy.dmarc=reject; arc=none")
    lines = traced(pair.b, "<straight@x>", has("received", "checked", "delivered"))
    [checked] = [line for line in lines if line["event"] == "checked"]
    assert checked["what"].startswith("authentication: spf=pass smtp.mailfrom=alice@a.test")
    lines = traced(pair.a, "<straight@x>", has("received", "signed", "queued", "sent"))
    assert [line["step"][0] for line in lines] == ["1", "2", "2", "3"]


def test_forwarded_mail_arrives_proved_and_its_way_back_is_ours(pair: Pair) -> None:
    submit(pair.a, "alice", "team@b.test", "forwarded")
    data = arrived(pair.a, "bob", "forwarded")
    path = unfolded(data).partition("Return-Path: <")[2].partition(">")[0]
    assert path.startswith("SRS0=")
    assert path.endswith("@b.test")
    assert "dmarc=pass header.from=a.test policy.dmarc=reject; arc=pass" in unfolded(data)
    sealed = unfolded(data).partition("ARC-Authentication-Results: i=1; ")[2].partition("\r\n")[0]
    assert sealed.startswith("mail.b.test; spf=pass smtp.mailfrom=alice@a.test;")
    assert "dmarc=pass header.from=a.test" in sealed
    assert dkim.arc_verify(data, dnsfunc=pair.txt)[0] == b"pass"
    assert dkim.verify(data, dnsfunc=pair.txt)
    with relay(pair.b) as client:
        client.sendmail("", [path], "From: x@c.test\r\nSubject: came-back\r\n\r\nx\r\n")
    assert b"came-back" in arrived(pair.a, "alice", "came-back")


def test_a_forged_way_back_is_refused_at_rcpt(pair: Pair) -> None:
    submit(pair.a, "alice", "team@b.test", "sealed")
    path = unfolded(arrived(pair.a, "bob", "sealed")).partition("Return-Path: <")[2].partition(">")[0]
    for forged, why in (
        (path.replace("=alice@", "=eve@"), "Not a return path of ours"),
        (path.replace("SRS0=", "SRS0=x"), "Not a return path of ours"),
        (path.replace("=a.test=", "=c.test="), "Not a return path of ours"),
        (path.replace("SRS0=", "SRS1="), "Not a return path of ours"),
        ("SRS0=@b.test", "Not a return path"),
    ):
        with relay(pair.b) as client:
            client.mail("")
            assert (forged, *client.rcpt(forged)) == (forged, 550, f"5.7.1 {why}".encode())
            assert client.rcpt(path)[0] == 250


def test_a_forwarding_that_fails_is_told_to_the_sender(pair: Pair) -> None:
    submit(pair.a, "alice", "away@b.test", "lost")
    data = arrived(pair.a, "alice", "Not delivered")
    assert b"Final-Recipient: rfc822;nobody@a.test" in data
    assert b"Diagnostic-Code: smtp; 550 5.1.1 No such user here" in data
    assert "dmarc=" in unfolded(data)


def test_a_forged_author_is_refused(pair: Pair) -> None:
    with relay(pair.b) as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail(
            "x@c.test", ["bob@b.test"], "From: alice@a.test\r\nMessage-ID: <forged@x>\r\n\r\nx\r\n"
        )
    assert refused.value.smtp_code == 550
    assert refused.value.smtp_error == b"5.7.26 Not taken: DMARC of a.test wants a.test to be proved"
    for what in ("<forged@x>", "x@c.test", "bob@b.test"):
        lines = traced(pair.b, what, has("refused"))
        refused_lines = [line["what"] for line in lines if line["event"] == "refused"]
        assert "dmarc=fail header.from=a.test policy.dmarc=reject" in refused_lines[0]
