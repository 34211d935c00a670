"""Real clients sign in by every mechanism that they know; the server's log says by which they did."""

from __future__ import annotations

import base64
import hashlib
import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import needs
from tests.clients.test_libraries import letter, submit
from tests.clients.test_programs import run
from tests.provider import AUDIENCE, ISSUER, Signer, write_key_set
from tests.running import RunningStack, running
from tests.wire.sasl.scram_client import ScramClient

SIGNER = Signer("one", "ES256")
MECHANISMS = (
    "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "OAUTHBEARER", "XOAUTH2",
    "CRAM-MD5", "PLAIN", "LOGIN",
)  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Everything is on, CRAM-MD5 and tokens too."""
    folder = tmp_path_factory.mktemp("sign-in")
    keys = write_key_set(folder / "keys.json", SIGNER)
    settings = (
        f"auth.mechanisms={list(MECHANISMS)}",
        "auth.plaintext_networks=[]",
        f'oauth.keys_file="{keys}"',
        f'oauth.issuer="{ISSUER}"',
        f'oauth.audience=["{AUDIENCE}"]',
        'oauth.scope="mail"',
        "msa.auth_failure_seconds=0.0",
        "access.imap.auth_failure_seconds=0.0",
        "access.pop3.auth_failure_seconds=0.0",
    )
    with running(folder / "example", users=("alice", "bob"), settings=settings) as one:
        submit(one, "alice", letter(one, "alice", "bob", "to be fetched"))
        yield one


def logins(stack: RunningStack, protocol: str, mechanism: str, user: str = "bob") -> int:
    """How many there were so far."""
    return stack.log().count(f"{protocol} login of {stack.address(user)} from 127.0.0.1 by {mechanism} tls=")


class Seen:
    """Asserts that a login of one kind happens within a with block."""

    def __init__(self, stack: RunningStack, protocol: str, mechanism: str, user: str = "bob") -> None:
        self.about = (stack, protocol, mechanism, user)

    def __enter__(self) -> None:
        self.before = logins(*self.about)

    def __exit__(self, kind: object, *_: object) -> None:
        assert kind is not None or logins(*self.about) == self.before + 1, self.about[0].log()[-2000:]


def trust(stack: RunningStack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(stack.ca))


def message(stack: RunningStack, subject: str) -> str:
    return f"From: {stack.address('bob')}\nTo: {stack.address('alice')}\nSubject: {subject}\n\nbye\n"


def of_this(program: str, method: str) -> tuple[str, str]:
    """What this msmtp or mpop is told for `method`, and the mechanism that it then takes.

    Since 1.8.26 and 1.4.20 they can bind, like that best, and fail by every SCRAM that is not bound.
    """
    can_bind = "scram-sha-256-plus" in run(program, "--version")
    if method == "on":
        return method, "SCRAM-SHA-256-PLUS" if can_bind else "PLAIN"
    told = f"{method}-plus" if can_bind and method.startswith("scram") else method
    return told, told.upper()


@needs("msmtp")
@pytest.mark.parametrize(
    "method", ["scram-sha-1", "scram-sha-256", "cram-md5", "oauthbearer", "xoauth2", "on"]
)
@pytest.mark.parametrize("starttls", ["on", "off"])
def test_msmtp(program: str, stack: RunningStack, tmp_path: Path, method: str, starttls: str) -> None:
    secret = SIGNER.token(stack.address("bob")) if "auth" in method else "bob-secret"
    told, mechanism = of_this(program, method)
    settings = tmp_path / "msmtprc"
    port = stack.ports["submission" if starttls == "on" else "submissions"]
    settings.write_text(
        f"account default\nhost localhost\nport {port}\nfrom {stack.address('bob')}\n"
        f"auth {told}\nuser {stack.address('bob')}\npassword {secret}\n"
        f"tls on\ntls_starttls {starttls}\ntls_trust_file {stack.ca}\n"
    )
    settings.chmod(0o600)
    with Seen(stack, "submission", mechanism):
        run(program, "-C", str(settings), stack.address("alice"), stdin=message(stack, method))


@needs("msmtp")
def test_msmtp_with_a_wrong_password(program: str, stack: RunningStack, tmp_path: Path) -> None:
    settings = tmp_path / "msmtprc"
    settings.write_text(
        f"account default\nhost localhost\nport {stack.ports['submissions']}\nfrom {stack.address('bob')}\n"
        f"auth {of_this(program, 'scram-sha-256')[0]}\nuser {stack.address('bob')}\npassword wrong\n"
        f"tls on\ntls_starttls off\ntls_trust_file {stack.ca}\n"
    )
    settings.chmod(0o600)
    said = run(program, "-C", str(settings), stack.address("alice"), stdin=message(stack, "no"), good=False)
    assert "535 5.7.8" in said


@needs("mpop")
@pytest.mark.parametrize(
    "method", ["scram-sha-1", "scram-sha-256", "cram-md5", "oauthbearer", "xoauth2", "on"]
)
def test_mpop(program: str, stack: RunningStack, tmp_path: Path, method: str) -> None:
    secret = SIGNER.token(stack.address("bob")) if "auth" in method else "bob-secret"
    told, mechanism = of_this(program, method)
    settings = tmp_path / "mpoprc"
    settings.write_text(
        f"account default\nhost localhost\nport {stack.ports['pop3']}\nauth {told}\n"
        f"user {stack.address('bob')}\npassword {secret}\ntls on\ntls_starttls on\ntls_trust_file {stack.ca}\n"
        f"delivery mbox {tmp_path}/got\nuidls_file {tmp_path}/uidls\nkeep on\n"
    )
    settings.chmod(0o600)
    with Seen(stack, "pop3", mechanism):
        run(program, "-C", str(settings))
    assert "to be fetched" in (tmp_path / "got").read_text()


@needs("mbsync")
@pytest.mark.parametrize("method", ["SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "*"])
def test_mbsync(program: str, stack: RunningStack, tmp_path: Path, method: str) -> None:
    local = tmp_path / "mail"
    local.mkdir()
    settings = tmp_path / "mbsyncrc"
    settings.write_text(
        f"IMAPStore far\nHost localhost\nPort {stack.ports['imaps']}\nUser {stack.address('bob')}\n"
        f"Pass bob-secret\nSSLType IMAPS\nCertificateFile {stack.ca}\nAuthMechs {method}\n\n"
        f"MaildirStore near\nPath {local}/\nInbox {local}/INBOX\nSubFolders Verbatim\n\n"
        "Channel all\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSyncState *\n"
    )
    with Seen(stack, "imap", "SCRAM-SHA-256" if method == "*" else method):
        run(program, "-c", str(settings), "-a")
    assert any(path.is_file() for folder in ("new", "cur") for path in (local / "INBOX" / folder).iterdir())


@needs("mutt")
@pytest.mark.parametrize("method", ["scram-sha-256", "scram-sha-1", "cram-md5", "oauthbearer"])
def test_mutt_sends(program: str, stack: RunningStack, tmp_path: Path, method: str) -> None:
    user = stack.address("bob").replace("@", "%40")
    settings = tmp_path / "muttrc"
    token = tmp_path / "token"
    token.write_text(f"#!/bin/sh\necho '{SIGNER.token(stack.address('bob'))}'\n")
    token.chmod(0o700)
    settings.write_text(
        f'set from="{stack.address("bob")}"\nset ssl_ca_certificates_file="{stack.ca}"\nset ssl_force_tls=yes\n'
        f'set smtp_url="smtps://{user}@localhost:{stack.ports["submissions"]}/"\nset smtp_pass="bob-secret"\n'
        f'set smtp_authenticators="{method}"\nset smtp_oauth_refresh_command="{token}"\nset record=""\n'
        f'set header_cache=""\nset certificate_file="{tmp_path}/certs"\n'
    )
    with Seen(stack, "submission", method.upper()):
        run(program, "-n", "-F", str(settings), "-s", f"mutt {method}", stack.address("alice"), stdin="Hello\n",
            HOME=str(tmp_path))  # fmt: skip


@needs("curl")
@pytest.mark.parametrize(
    "method", ["CRAM-MD5", "OAUTHBEARER"]
)  # it takes XOAUTH2 only where there is no other
@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3"])
def test_curl(program: str, stack: RunningStack, tmp_path: Path, protocol: str, method: str) -> None:
    service = "submission" if protocol == "smtp" else protocol
    words = [program, "-sS", "--cacert", str(stack.ca), "--ssl-reqd", "--login-options", f"AUTH={method}"]
    if method == "CRAM-MD5":
        words += ["--user", f"{stack.address('bob')}:bob-secret"]
    else:
        words += ["--user", stack.address("bob"), "--oauth2-bearer", SIGNER.token(stack.address("bob"))]
    url = f"{protocol}://localhost:{stack.ports[service]}"
    if protocol == "smtp":
        mail = tmp_path / "mail"
        mail.write_text(message(stack, "curl").replace("\n", "\r\n"), newline="")
        words += [
            "--mail-from",
            stack.address("bob"),
            "--mail-rcpt",
            stack.address("alice"),
            "--upload-file",
            str(mail),
        ]
    with Seen(stack, service, method):
        run(*words, url)


@needs("curl")
def test_curl_with_a_token_that_is_not_good(program: str, stack: RunningStack) -> None:
    for token in (SIGNER.token(stack.address("alice")), SIGNER.token(stack.address("bob"), exp=1000), "junk"):
        said = run(
            program, "-svS", "--cacert", str(stack.ca), "--user", stack.address("bob"),
            "--oauth2-bearer", token, f"imaps://localhost:{stack.ports['imaps']}", good=False,
        )  # fmt: skip
        challenge = next(line for line in said.splitlines() if line.startswith("< + "))
        assert b'{"status": "invalid_token", "scope": "mail"' in base64.b64decode(challenge[4:])
        assert "NO [AUTHENTICATIONFAILED]" in said


@needs("swaks")
@pytest.mark.parametrize("method", ["CRAM-MD5", "PLAIN", "LOGIN"])
def test_swaks(program: str, stack: RunningStack, method: str) -> None:
    with Seen(stack, "submission", method):
        run(program, "--server", "127.0.0.1", "--port", str(stack.ports["submission"]), "--tls", "--auth", method,
            "--auth-user", stack.address("bob"), "--auth-password", "bob-secret", "--from", stack.address("bob"),
            "--to", stack.address("alice"), "--h-From", stack.address("bob"))  # fmt: skip


@needs("fetchmail")
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_fetchmail(program: str, stack: RunningStack, tmp_path: Path, protocol: str) -> None:
    settings = tmp_path / "fetchmailrc"
    settings.write_text(
        f"poll localhost protocol {protocol} port {stack.ports[protocol]} auth cram-md5\n"
        f" user '{stack.address('bob')}' password 'bob-secret' keep fetchall\n"
        f" sslproto 'auto' sslcertck sslcertfile '{stack.ca}' mda 'cat >> {tmp_path}/got'\n"
    )
    settings.chmod(0o600)
    with Seen(stack, protocol, "CRAM-MD5"):
        run(program, "-f", str(settings), "--pidfile", str(tmp_path / "pid"), FETCHMAILHOME=str(tmp_path))
    assert "to be fetched" in (tmp_path / "got").read_text()


def test_imaplib_and_smtplib_by_cram_md5(stack: RunningStack) -> None:
    tls = trust(stack)
    port = stack.ports["imaps"]
    with Seen(stack, "imap", "CRAM-MD5"), imaplib.IMAP4_SSL("localhost", port, ssl_context=tls) as client:
        client.login_cram_md5(stack.address("bob"), "bob-secret")
    port = stack.ports["submission"]
    with Seen(stack, "submission", "CRAM-MD5"), smtplib.SMTP("localhost", port) as smtp:
        smtp.starttls(context=tls)
        smtp.login(stack.address("bob"), "bob-secret")


@needs("gsasl")
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
def test_gsasl_binds(program: str, stack: RunningStack, mechanism: str) -> None:
    """GNU SASL's own program, by tls-exporter after STARTTLS; the mail programs built on it do not bind."""
    login = ["--mechanism", mechanism, "--authentication-id", stack.address("bob"), "--authorization-id", ""]
    with Seen(stack, "imap", mechanism):
        run(program, "--client", "--imap", "--connect", f"localhost:{stack.ports['imap']}", *login,
            "--password", "bob-secret", "--x509-ca-file", str(stack.ca), "--quiet")  # fmt: skip


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"])
class TestBound:
    """By tls-server-end-point, which no program of Debian 12 that we know does."""

    def client(
        self, stack: RunningStack, mechanism: str, socket: ssl.SSLSocket, binding: bytes = b""
    ) -> ScramClient:
        own = hashlib.sha256(socket.getpeercert(True) or b"").digest()
        header = b"p=tls-server-end-point,,"
        name = stack.address("bob")
        return ScramClient(mechanism, name, "bob-secret", header=header, binding=binding or own)

    def answers(self, client: ScramClient) -> Iterator[bytes]:
        """What the client says, one after another; challenges are sent in."""
        challenge = yield client.first()
        assert (yield client.final(challenge)) == client.expected
        yield b""

    def test_imap(self, stack: RunningStack, mechanism: str) -> None:
        for starttls in (False, True):
            with Seen(stack, "imap", mechanism):
                if starttls:
                    imap = imaplib.IMAP4("localhost", stack.ports["imap"])
                    imap.starttls(trust(stack))
                else:
                    imap = imaplib.IMAP4_SSL("localhost", stack.ports["imaps"], ssl_context=trust(stack))
                with imap:
                    self.talk(imap, self.client(stack, mechanism, imap.socket()), mechanism)  # type: ignore[arg-type]

    def talk(self, imap: imaplib.IMAP4, client: ScramClient, mechanism: str) -> None:
        said = self.answers(client)
        next_words = [next(said)]

        def answer(challenge: bytes) -> bytes:
            if challenge:
                next_words[0] = said.send(challenge)  # type: ignore[attr-defined]
            return next_words[0]

        imap.authenticate(mechanism, answer)

    def test_somebody_between(self, stack: RunningStack, mechanism: str) -> None:
        with imaplib.IMAP4_SSL("localhost", stack.ports["imaps"], ssl_context=trust(stack)) as imap:
            client = self.client(stack, mechanism, imap.socket(), binding=bytes(32))  # type: ignore[arg-type]
            with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                self.talk(imap, client, mechanism)
        assert "channel bindings differ: somebody may stand between" in stack.log()

    def test_smtp(self, stack: RunningStack, mechanism: str) -> None:
        port = stack.ports["submission"]
        with Seen(stack, "submission", mechanism), smtplib.SMTP("localhost", port) as smtp:
            smtp.starttls(context=trust(stack))
            smtp.ehlo()
            client = self.client(stack, mechanism, smtp.sock)  # type: ignore[arg-type]
            code, words = smtp.docmd("AUTH", f"{mechanism} {base64.b64encode(client.first()).decode()}")
            assert code == 334
            code, words = smtp.docmd(base64.b64encode(client.final(base64.b64decode(words))).decode())
            assert (code, base64.b64decode(words)) == (334, client.expected)
            assert smtp.docmd("")[0] == 235

    def test_pop3(self, stack: RunningStack, mechanism: str) -> None:
        with Seen(stack, "pop3", mechanism):
            pop3 = poplib.POP3_SSL("localhost", stack.ports["pop3s"], context=trust(stack))
            client = self.client(stack, mechanism, pop3.sock)  # type: ignore[attr-defined]

            def say(words: bytes) -> bytes:
                pop3.sock.sendall(words + b"\r\n")  # type: ignore[attr-defined]
                answer: bytes = pop3.file.readline()  # type: ignore[attr-defined]
                return answer

            challenge = say(f"AUTH {mechanism}".encode())
            assert challenge == b"+ \r\n"
            challenge = say(base64.b64encode(client.first()))
            challenge = say(base64.b64encode(client.final(base64.b64decode(challenge[2:]))))
            assert base64.b64decode(challenge[2:]) == client.expected
            assert say(b"").startswith(b"+OK")
            pop3.quit()
