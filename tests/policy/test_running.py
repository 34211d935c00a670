"""The policy in a running stack: a plugin as its operator writes it, OpenDKIM from Debian, a crowd of silent clients."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import resource
import shutil
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.clients.test_libraries import imap
from tests.running import PATIENCE, RunningStack, answers, eventually, free_ports, running

EXAMPLES = Path(__file__).parents[2] / "plugins" / "examples"


def smtp(stack: RunningStack, source: str = "127.0.0.1") -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", stack.ports["smtp"], timeout=PATIENCE, source_address=(source, 0))


def submit(stack: RunningStack, user: str, to: str, content: bytes) -> None:
    context = ssl.create_default_context(cafile=str(stack.ca))
    context.check_hostname = False
    with smtplib.SMTP_SSL(
        "127.0.0.1", stack.ports["submissions"], timeout=PATIENCE, context=context
    ) as client:
        client.login(stack.address(user), f"{user}-secret")
        client.sendmail(stack.address(user), [to], content)


def raw(stack: RunningStack, user: str, mailbox: str = "INBOX") -> list[bytes]:
    with imap(stack, user) as client:
        client.select_folder(mailbox, readonly=True)
        uids = client.search("ALL")
        return [item[b"BODY[]"] for item in client.fetch(uids, ["BODY.PEEK[]"]).values()] if uids else []


def test_a_plugin_of_the_operators_own(tmp_path: Path) -> None:
    settings = [
        "policy.checks=['refuse_subject:RefuseSubject', 'mark:Mark']",
        "policy.refuse_subject.words=['cheap']",
    ]
    stack = RunningStack(tmp_path / "s", settings=settings)
    plugins = stack.directory / "plugins"
    plugins.mkdir()
    shutil.copy(EXAMPLES / "refuse_subject.py", plugins)
    (plugins / "mark.py").write_text(
        "from mailstack.policy import Check, Verdict\n"
        "class Mark(Check):\n"
        "    async def mail(self, now):\n"
        "        return Verdict(fields=(('X-From', str(now.reverse_path)),))\n"
        "    async def message(self, now, incoming):\n"
        "        return Verdict(junk=incoming.field('x-spam') == 'yes')\n"
    )
    stack.start()
    try:
        with smtp(stack) as client:
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail("x@example.net", stack.address("bob"), "Subject: CHEAP things\r\n\r\nbuy\r\n")
            assert refused.value.args == (550, b"5.7.1 We do not want this")
            client.sendmail("x@example.net", stack.address("bob"), "Subject: dear things\r\n\r\nhello\r\n")
            client.sendmail(
                "x@example.net", stack.address("bob"), "Subject: odd\r\nX-Spam: yes\r\n\r\nhello\r\n"
            )
        [message] = raw(stack, "bob")
        assert b"\r\nX-From: x@example.net\r\nSubject: dear things\r\n\r\nhello\r\n" in message
        [junk] = raw(stack, "bob", "Junk")
        assert b"Subject: odd" in junk
    finally:
        stack.stop()


def test_a_check_that_is_not_there_keeps_the_stack_from_starting(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path / "s", settings=["policy.checks=['nowhere:Nothing']"])
    with pytest.raises(AssertionError, match="nowhere:Nothing: no such module"):
        stack.start()


# OpenDKIM.


@contextlib.contextmanager
def opendkim(folder: Path, stack_domain: str, local: bool) -> Iterator[tuple[str, rsa.RSAPublicKey]]:
    """A signing OpenDKIM with a new key; where it listens, and the key to verify with."""
    program = shutil.which("opendkim") or shutil.which("opendkim", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("opendkim is not installed; get it with: apt-get install opendkim")
    key = rsa.generate_private_key(65537, 2048)
    pem = folder / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    [port] = free_ports(1)
    path = folder / "dkim.sock"
    conf = folder / "opendkim.conf"
    conf.write_text(
        f"Domain {stack_domain}\nSelector test\nKeyFile {pem}\nMode s\nRequireSafeKeys no\n"
        f"Canonicalization simple/simple\nSyslog no\nInternalHosts 192.0.2.99\n"
        + (f"Socket local:{path}\n" if local else f"Socket inet:{port}@127.0.0.1\n")
    )
    process = subprocess.Popen(
        [program, "-f", "-x", str(conf)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        if local:
            eventually(path.exists)
        else:
            eventually(lambda: answers(port))
        yield (f"unix:{path}" if local else f"inet:127.0.0.1:{port}"), key.public_key()
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def dkim_verify(message: bytes, key: rsa.RSAPublicKey) -> None:
    """Check body hash and signature by RFC 6376 sections 3.4.1, 3.4.3 and 3.7; raise where they are wrong."""
    head, _, body = message.partition(b"\r\n\r\n")
    fields = re.findall(rb"[^\r\n]+(?:\r\n[ \t][^\r\n]*)*\r\n", head + b"\r\n")
    [signature] = [field for field in fields if field.lower().startswith(b"dkim-signature:")]
    tags = {
        name.strip(): re.sub(rb"\s", b"", value)
        for name, _, value in (
            tag.partition(b"=") for tag in signature.partition(b":")[2].split(b";") if b"=" in tag
        )
    }
    assert tags[b"c"] == b"simple/simple"
    assert tags[b"bh"] == base64.b64encode(
        hashlib.sha256(re.sub(rb"(\r\n)*\Z", b"\r\n", body, count=1)).digest()
    )
    left = list(fields)
    signed = b""
    for name in tags[b"h"].lower().split(b":"):
        for field in reversed(left):
            if field.lower().startswith(name + b":"):
                signed += field
                left.remove(field)
                break
    signed += re.sub(rb"(\bb=)[^;]*", rb"\1", signature).removesuffix(b"\r\n")
    key.verify(base64.b64decode(tags[b"b"]), signed, padding.PKCS1v15(), SHA256())


@pytest.mark.parametrize("local", [False, True], ids=["tcp", "unix"])
def test_opendkim_signs_what_our_users_submit(tmp_path: Path, local: bool) -> None:
    with opendkim(tmp_path, "example.test", local) as (address, key):
        settings = [
            "policy.checks=['dkim=mailstack.policy.milter:Milter']",
            f'policy.dkim.address="{address}"',
            "dkim.sign=false",  # one signature is enough: the filter's
        ]
        with running(tmp_path / "s", settings=settings) as stack:
            big = b"".join(b"%07d dots and words, to the end of it\r\n" % number for number in range(10_000))
            for content in (
                b"From: alice@example.test\r\nSubject:  signed,\r\n folded \r\nTo:bob@example.test\r\nBcc: x@y.example\r\n\r\nhi\r\n\r\n\r\n",
                b"From: alice@example.test\r\nSubject: big\r\n\r\n" + big,
                b"From: alice@example.test\r\nSubject: empty\r\n\r\n",
            ):
                submit(stack, "alice", stack.address("bob"), content)
            messages = raw(stack, "bob")
            assert len(messages) == 3
            for message in messages:
                dkim_verify(message, key)
                assert (
                    message.index(b"\nReceived:")
                    < message.index(b"\nDKIM-Signature:")
                    < message.index(b"\nFrom:")
                )
            assert b"\nBcc:" not in messages[0]  # the letters may stand in a signature
            assert messages[1].endswith(big)
            with pytest.raises(InvalidSignature):
                dkim_verify(messages[0].replace(b"signed", b"forged"), key)
            with smtp(stack) as client:  # from outside: not ours to sign
                client.sendmail(
                    "x@example.net",
                    stack.address("bob"),
                    "From: x@example.net\r\nSubject: out\r\n\r\nhello\r\n",
                )
            assert b"DKIM-Signature" not in raw(stack, "bob")[3]


def test_without_its_filter_mail_waits_or_passes(tmp_path: Path) -> None:
    settings = [
        "policy.checks=['mailstack.policy.milter:Milter']",
        "policy.milter.address='unix:/nonexistent/m'",
    ]
    with running(tmp_path / "s", settings=settings) as stack:
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            smtp(stack)
        assert refused.value.args == (421, b"4.7.1 Cannot check this now; try again later")
        assert (
            "milter failed at connected for 127.0.0.1: cannot connect to unix:/nonexistent/m" in stack.log()
        )
    with (
        running(tmp_path / "p", settings=[*settings, "policy.milter.on_error=pass"]) as stack,
        smtp(stack) as client,
    ):
        client.sendmail("x@example.net", stack.address("bob"), "Subject: passed\r\n\r\nhello\r\n")
        assert len(raw(stack, "bob")) == 1


# rspamd.

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"  # spam, to every filter
RSPAMD = """
options {{
  pidfile = "{0}/pid"; tempdir = "{0}"; history_file = "{0}/history"; filters = ""; enable_test_patterns = true;
  dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
}}
logging {{ type = "console"; level = "error"; }}
actions {{ reject = 15; add_header = 6; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{1}"; milter = yes; count = 1; timeout = 30s;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""


@contextlib.contextmanager
def rspamd(folder: Path) -> Iterator[str]:
    """rspamd's proxy that scans by itself; where it listens."""
    program = shutil.which("rspamd")
    if program is None:
        pytest.skip("rspamd is not installed; get it with: apt-get install rspamd")
    [port] = free_ports(1)
    conf = folder / "rspamd.conf"
    conf.write_text(RSPAMD.format(folder, port))
    with (folder / "rspamd.log").open("wb") as log:
        process = subprocess.Popen([program, "-f", "-i", "-c", str(conf)], stdout=log, stderr=log)
    try:
        eventually(lambda: answers(port))
        yield f"inet:127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def test_rspamd_refuses_marks_and_rewrites(tmp_path: Path) -> None:
    with rspamd(tmp_path) as address:
        settings = ["policy.checks=['mailstack.policy.milter:Milter']", f'policy.milter.address="{address}"']
        with running(tmp_path / "s", settings=settings) as stack, smtp(stack) as client:
            head = "From: x@example.net\r\nTo: bob@example.test\r\nSubject: {}\r\nMessage-ID: <a@example.net>\r\n\r\n{}\r\n"
            for subject, body in (
                ("good", "hello"),
                ("marked", f"Y{GTUBE[1:]}"),
                ("renamed", f"ZJS{GTUBE[3:]}"),
            ):
                client.sendmail("x@example.net", stack.address("bob"), head.format(subject, body))
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail("x@example.net", stack.address("bob"), head.format("bad", GTUBE))
            assert refused.value.args == (554, b"5.7.1 Gtube pattern")
            good, marked, renamed = raw(stack, "bob")
            assert b"X-Spam" not in good
            assert b"\r\nX-Spam: Yes\r\n" in marked
            assert b"\r\nSubject: *** SPAM *** renamed\r\n" in renamed


# HAProxy.

HAPROXY = """
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen smtp
  bind 127.0.0.1:{0}
  server one 127.0.0.1:{1} {4}
listen submissions
  bind 127.0.0.1:{2}
  server one 127.0.0.1:{3} {4}
"""


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_behind_haproxy(tmp_path: Path, version: str) -> None:
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("haproxy is not installed; get it with: apt-get install haproxy")
    relay, submissions = free_ports(2)
    settings = [
        "listeners.proxy_networks=['127.0.0.1/32']",
        "listeners.proxy_services=['smtp', 'submissions']",
    ]
    with running(tmp_path / "s", settings=settings) as stack:
        conf = tmp_path / "haproxy.cfg"
        ports = relay, stack.ports["smtp"], submissions, stack.ports["submissions"]
        conf.write_text(HAPROXY.format(*ports, version))
        process = subprocess.Popen([program, "-db", "-f", str(conf)], stdout=subprocess.DEVNULL)
        try:
            eventually(lambda: answers(relay) and answers(submissions))
            stack.ports |= {"smtp": relay, "submissions": submissions}
            with smtp(stack, "127.0.0.77") as client:
                client.starttls(context=ssl._create_unverified_context())
                client.sendmail("x@example.net", stack.address("bob"), "Subject: relayed\r\n\r\nhello\r\n")
            submit(
                stack,
                "alice",
                stack.address("bob"),
                b"From: alice@example.test\r\nSubject: submitted\r\n\r\nhi\r\n",
            )
            relayed, submitted = raw(stack, "bob")
            assert b"([127.0.0.77])" in relayed
            assert b"(using TLSv1.3" in relayed
            assert b"Subject: submitted" in submitted
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


# The door.


@pytest.fixture
def _files() -> Iterator[None]:
    """The server raises its own limit; here a thousand ends are open beside whatever else is."""
    needed = 1500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} open files, the limit is {hard}; raise it with: ulimit -n {needed}")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize("unlimited", [True, False])
def test_a_thousand_silent_clients_lock_nobody_out(tmp_path: Path, unlimited: bool) -> None:
    settings = [] if unlimited else ["listeners.unlimited_networks=[]"]
    with running(tmp_path / "s", settings=settings) as stack, contextlib.ExitStack() as crowd:
        silent = [crowd.enter_context(socket.socket()) for _ in range(1000)]
        for one in silent:
            one.bind(("127.0.0.2", 0))
            one.connect(("127.0.0.1", stack.ports["smtp"]))
        greetings = [one.recv(100) for one in silent]
        assert sum(greeting.startswith(b"220") for greeting in greetings) == (1000 if unlimited else 200)
        assert all(greeting[:3] in (b"220", b"421") for greeting in greetings)
        with smtp(stack, "127.0.0.3") as client:
            client.sendmail("x@example.net", stack.address("bob"), "Subject: served\r\n\r\nhello\r\n")
        assert len(raw(stack, "bob")) == 1
        assert stack.log().count("127.0.0.2 is sent away") == (0 if unlimited else 1)
