"""More of other people's servers before and behind one running stack, and clients that use what few use."""

from __future__ import annotations

import contextlib
import json
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.catch import Catch, Caught
from tests.clients.test_programs import ran
from tests.clients.test_smtp_peers import found, letter, report, submission
from tests.more_peers import Exim, Gateway, Sendmail, exim, gateway, node, sendmail, smtp_server
from tests.running import PATIENCE, RunningStack, eventually, free_ports

BINARY = b"From: alice@example.test\r\nSubject: binary\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
GRUESSE = "Gr\u00fc\u00dfe"


class Around:
    """What stands around our stack; a peer that is not installed skips the tests that ask for it."""

    def __init__(self, folder: Path, stay: contextlib.ExitStack) -> None:
        self.stay = stay
        smtp, submission, self.onward = free_ports(3)
        self.catch = Catch(self.onward)
        stay.callback(self.catch.close)
        self.ours = RunningStack(folder / "ours", users=("alice", "bob"))
        self.ours.ports |= {"smtp": smtp, "submission": submission}
        self.out = folder / "taken.json"
        self._made: dict[str, Any] = {}
        certificate, key = self.ours.directory / "cert.pem", self.ours.directory / "key.pem"
        self._make("exim", exim(smtp, certificate, key))
        self._make("sendmail", sendmail(smtp))
        self._make("gateway", gateway(certificate, key, submission, self.onward))
        self._make("node", smtp_server(certificate, key, self.out))
        routes = {
            "exim.test": f"smtp://127.0.0.1:{self._port('exim')}",
            "sm.test": f"smtp://127.0.0.1:{self._port('sendmail')}",
            "gate.test": f"smtp://on@127.0.0.1:{self._port('gateway')}",
            "node.test": f"smtp://localhost:{self._port('node')}",
            "catch.test": f"smtp://127.0.0.1:{self.onward}",
        }
        written = ", ".join(f'"{domain}"="{route}"' for domain, route in routes.items())
        self.ours.settings += [
            f"listeners.smtp={smtp}", f"listeners.submission={submission}", f"mta.routes={{{written}}}",
            'mta.credentials={"on@127.0.0.1"="dove-secret"}', f'mta.ca_file="{self.ours.ca}"',
            "relay.max_recipients=3",
        ]  # fmt: skip
        self.ours.start()
        stay.callback(self.ours.stop)

    def _make(self, name: str, peer: Any) -> None:
        try:
            self._made[name] = self.stay.enter_context(peer)
        except pytest.skip.Exception as skip:
            self._made[name] = skip

    def _port(self, name: str) -> int:
        made = self._made[name]
        return 9 if isinstance(made, BaseException) else getattr(made, "port", made)

    def peer(self, name: str) -> Any:
        """One that runs; or skip."""
        if isinstance(self._made[name], BaseException):
            raise self._made[name]
        return self._made[name]

    def caught(self, words: bytes) -> Caught:
        """What the last hop got with these words."""
        return eventually(lambda: next((one for one in self.catch.caught if words in one.content), None))

    def taken(self, sender: str = "") -> list[dict[str, Any]]:
        """What Node's server got."""
        lines = self.out.read_text("utf-8").splitlines() if self.out.exists() else []
        return [json.loads(line) for line in lines]

    def ended(self, to: str) -> str:
        """How it went for a recipient: the trail's last word, with the reply."""

        def look() -> Any:
            lines = [one for one in self.ours.json("trace", to) if one["address"] == to]
            return next((one for one in lines if one["event"] in ("sent", "bounced", "deferred")), None)

        line = eventually(look)
        return f"{line['event']} {line['detail']['reply']}"


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Around]:
    with contextlib.ExitStack() as stay:
        yield Around(tmp_path_factory.mktemp("around"), stay)


def send(
    around: Around, to: list[str], text: bytes, mail: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()
) -> None:
    """Submit by DATA."""
    with submission(around.ours) as client:
        assert client.mail("alice@example.test", list(mail))[0] == 250
        for one in to:
            assert client.rcpt(one, list(rcpt))[0] == 250
        assert client.data(text)[0] == 250


def by_chunks(client: smtplib.SMTP, to: str, text: bytes, mail: tuple[str, ...], cut: int = 0) -> None:
    """One message by BDAT, in two chunks where it is to be cut."""
    assert client.mail("alice@example.test", list(mail))[0] == 250
    assert client.rcpt(to)[0] == 250
    pieces = [text[:cut], text[cut:]] if cut else [text]
    for number, piece in enumerate(pieces, 1):
        last = " LAST" if number == len(pieces) else ""
        client.send(f"BDAT {len(piece)}{last}\r\n".encode() + piece)
        code, words = client.getreply()
        assert code == 250, words


def _sent(log: str, user: str) -> dict[str, list[str]]:
    """By our name for a message: who was in its transaction, once Exim has sent all seven."""
    lines = [line for line in log.splitlines() if f" {user}+" in line and ("=> " in line or "-> " in line)]
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line.partition("queued as ")[2].partition('"')[0], []).append(line)
    return found if len(lines) == 7 else {}


def _first(log: str, *words: str) -> str | None:
    return next((line for line in log.splitlines() if all(word in line for word in words)), None)


def utf8(subject: str) -> bytes:
    """A message that needs 8BITMIME, and SMTPUTF8 for its header."""
    head = f"From: alice@example.test\r\nSubject: {subject} {GRUESSE}\r\nMIME-Version: 1.0\r\n"
    return f"{head}Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{GRUESSE}\r\n".encode()


class TestExim:
    """CHUNKING: it sends by BDAT to whoever offers that."""

    def test_there_and_back_in_utf8(self, around: Around) -> None:
        theirs: Exim = around.peer("exim")
        send(around, [f"echo-{GRUESSE}@exim.test"], utf8("exim"), ("SMTPUTF8", "BODY=8BITMIME"))
        message = eventually(lambda: found(around.ours, "bob", "exim"))
        assert message.get_payload(decode=True).decode().strip() == GRUESSE
        received = [str(one) for one in message.get_all("Received")]
        assert "with UTF8SMTPS" in received[0]
        assert "with utf8esmtps" in received[1]
        # It writes of a delivery after our reply to it.
        line = eventually(lambda: _first(theirs.log(), " => bob@example.test", "-Gr"))
        assert " K " in line, "Exim's log says so where it used CHUNKING"
        assert "X=TLS1.3" in line

    def test_a_large_one(self, around: Around) -> None:
        around.peer("exim")
        body = b"0123456789" * 7 + b"\r\n.\r\n"
        send(around, ["echo@exim.test"], letter("bulk", "echo@exim.test") + body * 30_000)
        message = eventually(lambda: found(around.ours, "bob", "bulk"))
        assert message.get_payload().count("0123456789" * 7) == 30_000

    def test_each_recipient_has_an_end(self, around: Around) -> None:
        around.peer("exim")
        send(around, ["box@exim.test", "no@exim.test", "later@exim.test"], letter("mixed", "box@exim.test"))
        assert around.ended("box@exim.test").startswith("sent 250")
        assert around.ended("no@exim.test").startswith("bounced 550")
        assert around.ended("later@exim.test").startswith("deferred 451")

    def test_its_reports_come_home(self, around: Around) -> None:
        """DSN: NOTIFY, RET and ENVID reach it by us, and its report has them."""
        around.peer("exim")
        send(
            around,
            ["file@exim.test"],
            letter("asked", "file@exim.test"),
            ("RET=HDRS", "ENVID=ex1"),
            ("NOTIFY=SUCCESS",),
        )
        data = eventually(lambda: report(around.ours, "alice", "file@exim.test"))
        assert b"Action: delivered" in data
        assert b"ex1" in data

    def test_it_obeys_our_limits(self, around: Around) -> None:
        """LIMITS: it never offers a recipient too many, which we would have put off."""
        theirs: Exim = around.peer("exim")
        theirs.needs_limits()
        send(around, ["many@exim.test"], letter("to many", "many@exim.test"))
        sent = eventually(lambda: _sent(theirs.log(), "bob"))
        assert sorted(len(one) for one in sent.values()) == [1, 3, 3]
        assert " == bob+" not in theirs.log(), "nothing was deferred"

    def test_we_obey_its_limits(self, around: Around) -> None:
        theirs: Exim = around.peer("exim")
        theirs.needs_limits()
        boxes = [f"limited{number}@exim.test" for number in range(1, 8)]
        send(around, boxes, letter("limited", boxes[0]))
        for one in boxes:
            assert around.ended(one).startswith("sent 250")
        got = [
            line.rpartition(" for ")[2].split()
            for line in theirs.log().splitlines()
            if " for limited" in line
        ]
        assert sorted(map(len, got)) == [3, 4]
        assert "too many recipients" not in theirs.log()


class TestSendmail:
    """DELIVERBY: the one server that has it."""

    def test_there_and_back_in_time(self, around: Around) -> None:
        theirs: Sendmail = around.peer("sendmail")
        options = ("BY=600;NT", "RET=HDRS", "ENVID=sm1", "BODY=8BITMIME")
        send(around, ["echo@sm.test"], utf8("in time"), options, ("NOTIFY=SUCCESS,DELAY",))
        message = eventually(lambda: found(around.ours, "bob", "in time"))
        assert message.get_payload(decode=True).decode().strip() == GRUESSE
        lines = [line for line in theirs.said().splitlines() if "MAIL F" in line]
        heard = next(line for line in lines if "<<<" in line)
        said = next(line for line in lines if ">>>" in line)
        for line in (heard, said):
            assert ";NT" in line.partition(" BY=")[2]
            assert " ENVID=sm1" in line
            assert " BODY=8BITMIME" in line

    def test_who_is_not_there(self, around: Around) -> None:
        around.peer("sendmail")
        send(around, ["gone@sm.test"], letter("gone", "gone@sm.test"), ("BY=600;R",))
        data = eventually(lambda: report(around.ours, "alice", "gone@sm.test"))
        assert b"Deliver-By-Date: " in data
        assert b"Action: failed" in data


class TestGateway:
    """BINARYMIME and CHUNKING: Dovecot's submission service speaks them as a server and as a client."""

    def test_before_us(self, around: Around) -> None:
        theirs: Gateway = around.peer("gateway")
        text = BINARY + b"before\0\r.\r\nzz"  # a lone LF becomes CRLF in Dovecot, not in us
        with smtplib.SMTP("127.0.0.1", theirs.port, timeout=PATIENCE) as client:
            client.starttls(context=_anybody())
            client.login("us", "dove-secret")
            client.ehlo()
            assert client.has_extn("binarymime"), "it offers what we offer"
            by_chunks(client, "x@catch.test", text, ("BODY=BINARYMIME", "RET=HDRS", "ENVID=gw1"), cut=200)
        got = around.caught(b"before\0")
        assert got.content.endswith(text)
        assert (got.chunks, " BODY=BINARYMIME" in got.mail) == (1, True)

    def test_behind_us(self, around: Around) -> None:
        around.peer("gateway")
        text = BINARY + b"behind\0\r.\r\nzz"
        with submission(around.ours) as client:
            by_chunks(client, "x@gate.test", text, ("BODY=BINARYMIME",))
        got = around.caught(b"behind\0")
        assert got.content.endswith(text)
        assert " BODY=BINARYMIME" in got.mail


def _anybody() -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


_NODEMAILER = """
const [port, ca] = process.argv.slice(1);
const mailer = require('nodemailer').createTransport({
  host: 'localhost', port: +port, requireTLS: true, tls: {ca: require('fs').readFileSync(ca)},
  auth: {user: 'alice@example.test', pass: 'alice-secret'}});
const one = {from: 'alice@example.test', text: 'Gr\\u00fc\\u00dfe'};
(async () => {
  const said = [];
  for (const message of [
    {...one, to: ['bob@example.test', 'nobody@example.test'], subject: 'node mixed'},
    {...one, to: 'j\\u00f6rg@node.test', subject: 'node utf8'},
    {...one, to: 'x@node.test', subject: 'node tls', requireTLSExtensionEnabled: true,
     dsn: {id: 'node1', return: 'headers', notify: ['success', 'failure']}},
    {...one, to: 'x@node.test', subject: 'node big', attachments: [{filename: 'a', content: Buffer.alloc(2000000, 7)}]},
  ]) {
    const {accepted, rejected, response} = await mailer.sendMail(message);
    said.push([accepted, rejected, response.slice(0, 3)]);
  }
  console.log(JSON.stringify(said));
  mailer.close();
})();
"""


def test_node_before_and_behind_us(around: Around) -> None:
    """REQUIRETLS: Nodemailer asks for it, and Node's smtp-server is the one next hop that offers it."""
    around.peer("node")
    environment = node("nodemailer")
    words = ["node", "-e", _NODEMAILER, str(around.ours.ports["submission"]), str(around.ours.ca)]
    assert json.loads(ran(*words, **environment).stdout) == [
        [["bob@example.test"], ["nobody@example.test"], "250"],
        [["j\u00f6rg@node.test"], [], "250"],
        [["x@node.test"], [], "250"],
        [["x@node.test"], [], "250"],
    ]
    taken = eventually(lambda: lines if len(lines := around.taken()) >= 3 else None)
    assert all(one["secure"] for one in taken)
    assert [one["rcptTo"][0]["address"] for one in taken if one["smtpUtf8"]] == ["j\u00f6rg@node.test"]
    [required] = [one for one in taken if one["requireTLS"]]
    assert required["dsn"] == {"ret": "HDRS", "envid": "node1"}
    assert required["rcptTo"][0]["dsn"]["notify"] == ["FAILURE", "SUCCESS"]
    assert max(one["size"] for one in taken) > 2_600_000


_JAVA = Path("/usr/share/java/javax.mail.jar")


def test_java_mail_by_chunks(around: Around, tmp_path: Path) -> None:
    """CHUNKING in many chunks, a letter cut in two by one; DELIVERBY, FUTURERELEASE, MT-PRIORITY without a second EHLO."""
    if not _JAVA.exists() or shutil.which("javac") is None:
        pytest.skip("no JavaMail; get it with: apt-get install libmail-java default-jdk-headless")
    source = tmp_path / "Send.java"
    source.write_text(_SEND)
    activation = [str(path) for path in _JAVA.parent.glob("*activation*.jar")]
    words = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", ":".join([str(_JAVA), *activation]),
             str(source), str(around.ours.ports["submission"])]  # fmt: skip
    said = ran(*words).stdout
    assert "SENT [bob@example.test, j\u00f6rg@catch.test] INVALID [nobody@example.test]" in said, said
    message = eventually(lambda: found(around.ours, "bob", "java"))
    assert message.get_payload(decode=True).decode().split() == [GRUESSE] * 300
    assert "PRIORITY 3" in str(message.get_all("Received")[0])
    got = around.caught(b"java")
    assert " SMTPUTF8" in got.mail
    assert "NOTIFY=" in got.recipients[0]


_SEND = """
import java.util.*; import javax.mail.*; import javax.mail.internet.*; import com.sun.mail.smtp.*;
public class Send {
  public static void main(String[] words) throws Exception {
    Properties set = new Properties();
    for (String one : ("host=127.0.0.1 port=" + words[0] + " starttls.enable=true starttls.required=true ssl.trust=* "
        + "auth=true chunksize=1000 allow8bitmime=true dsn.ret=HDRS dsn.notify=SUCCESS,FAILURE sendpartial=true "
        + "ssl.protocols=TLSv1.3").split(" "))
      set.put("mail.smtp." + one.split("=")[0], one.split("=")[1]);
    set.put("mail.mime.allowutf8", "true");
    set.put("mail.smtp.mailextension", "BY=3600;N MT-PRIORITY=3 HOLDFOR=1");
    Session session = Session.getInstance(set);
    Transport transport = session.getTransport("smtp");
    transport.connect("alice@example.test", "alice-secret");
    MimeMessage message = new MimeMessage(session);
    message.setFrom(new InternetAddress("alice@example.test"));
    message.setSubject("java");
    message.setText("Gr\\u00fc\\u00dfe\\r\\n".repeat(300), "utf-8");
    InternetAddress[] to = {new InternetAddress("bob@example.test"), new InternetAddress("nobody@example.test"),
      new InternetAddress("j\\u00f6rg@catch.test")};
    message.setRecipients(Message.RecipientType.TO, to);
    message.saveChanges();
    message.setHeader("Content-Transfer-Encoding", "8bit");
    try {
      transport.sendMessage(message, to);
    } catch (SendFailedException why) {
      System.out.println("SENT " + Arrays.toString(why.getValidSentAddresses()) + " INVALID "
        + Arrays.toString(why.getInvalidAddresses()) + why);
    }
    transport.close();
  }
}
"""


def test_perl(around: Around) -> None:
    """Perl's Net::SMTP with DSN and 8BITMIME, to port 25."""
    perl = shutil.which("perl")
    if perl is None or subprocess.run([perl, "-MNet::SMTP", "-e", "1"], capture_output=True).returncode:
        pytest.skip("no Net::SMTP; get it with: apt-get install perl")
    script = f"""
        my $smtp = Net::SMTP->new('127.0.0.1', Port => {around.ours.ports["smtp"]}) or die $@;
        $smtp->mail('p@perl.test', Bits => 8, Return => 'HDRS', Envelope => 'perl1') or die $smtp->message;
        my @good = $smtp->recipient('bob@example.test', 'nobody@example.test', 'x@elsewhere.test',
                                    {{SkipBad => 1, Notify => ['FAILURE']}});
        $smtp->data("From: p\\@perl.test\\nSubject: perl\\n\\nGr\\xc3\\xbc\\xc3\\x9fe\\n") or die $smtp->message;
        $smtp->quit; print "@good";
    """
    done = subprocess.run(
        [perl, "-MNet::SMTP", "-e", script], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout) == (0, "bob@example.test"), done.stderr
    message = eventually(lambda: found(around.ours, "bob", "perl"))
    assert GRUESSE.encode() in message.get_payload(decode=True)
