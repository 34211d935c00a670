"""The RFCs' exchanges in SMTP, IMAP and POP3, whole and one byte at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mailstack.access.imap import ImapAccess
from mailstack.access.imap.login import BEFORE_LOGIN
from mailstack.access.pop3 import Pop3Access
from mailstack.access.settings import ImapConfig, Pop3Config
from mailstack.msa.settings import MsaConfig
from mailstack.msa.submission import Submission
from mailstack.net.conversation import Conversation
from mailstack.net.settings import AuthConfig
from mailstack.net.sign_in import SignIn
from mailstack.wire import pop3, smtp
from mailstack.wire.imap.server import Server as ImapServer
from mailstack.wire.sasl import MECHANISMS
from tests.certificates import issue
from tests.net.fakes import Box, Here, Town, reception
from tests.sign_in.people import People, Tokens, b64

SHA1 = (
    b64("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"),
    b64("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"),
    b64("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="),
    b64("v=rmF9pqV8S7suAoZWja4dJRkFsKQ="),
)
WRONG = b64("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=AAAAv3Bz2T0CJGbJQyF0X+HI4Ts=")
BEARER = b64("n,a=user@example.org,\1host=x\1port=1\1auth=Bearer good\1\1")
BAD_BEARER = b64("n,,\1auth=Bearer bad\1\1")
TOLD = b64('{"status": "invalid_token"}')
CRAM = b64("<3rfcNHYJY1ZVvWVs7j@mx.example.org>")
WORDS = {
    "first": SHA1[0], "challenge": SHA1[1], "final": SHA1[2], "signature": SHA1[3], "wrong": WRONG,
    "bearer": BEARER, "bad": BAD_BEARER, "told": TOLD, "dummy": b64("\1"), "cram": CRAM,
    "wrong_cram": b64("user " + "0" * 32), "all": " ".join(MECHANISMS),
    "imap": " ".join(f"AUTH={name}" for name in MECHANISMS), "before": " ".join(BEFORE_LOGIN),
}  # fmt: skip

SMTP = """
    S: 220 mx.example.org ESMTP
    C: EHLO pc
    S: ...
    S: 250 AUTH {all}
"""
POP3 = """
    S: +OK mx.example.org ready
"""
IMAP = """
    S: * OK [CAPABILITY {before} {imap}] mx.example.org ready
"""

TRANSCRIPTS = {
    "smtp scram": SMTP + """
        C: AUTH SCRAM-SHA-1
        S: 334\x20
        C: {first}
        S: 334 {challenge}
        C: {final}
        S: 334 {signature}
        C:
        S: 235 2.7.0 Authentication successful
        C: AUTH PLAIN
        S: 503 5.5.1 Already authenticated
    """,
    "smtp scram of Roundcube": SMTP + """
        C: AUTH SCRAM-SHA-1
        S: 334\x20
        C: {first}
        S: 334 {challenge}
        C: {final}
        S: 334 {signature}
        C: NOOP
        S: 235 2.7.0 Authentication successful
    """,
    "smtp scram at once": SMTP + """
        C: AUTH SCRAM-SHA-1 {first}
        S: 334 {challenge}
        C: {final}
        S: 334 {signature}
        C:
        S: 235 2.7.0 Authentication successful
    """,
    "smtp wrong": SMTP + """
        C: AUTH SCRAM-SHA-1 {first}
        S: 334 {challenge}
        C: {wrong}
        S: 535 5.7.8 Authentication credentials invalid
        C: AUTH SCRAM-SHA-1 {first}
        S: 334 {challenge}
        C: *
        S: 501 5.7.0 Authentication cancelled
        C: AUTH SCRAM-SHA-1 {first}
        S: 334 {challenge}
        C: not base64
        S: 501 5.5.2 Cannot decode the response: not base64
        C: AUTH SCRAM-SHA-1 {first}
        S: 334 {challenge}
        C: {first}
        S: 501 5.5.2 Bad response: expected c=, r= and p=, once each and in this order
        C: AUTH SCRAM-SHA-1 {first}
        S: 334 {challenge}
        C: {final}
        S: 334 {signature}
        C: {first}
        S: 501 5.5.2 Bad response: the last response must be empty
        C: AUTH SCRAM-SHA-1-PLUS {first}
        S: 501 5.5.2 Bad response: channel binding is for the -PLUS mechanism, and only for it
        C: AUTH GSSAPI
        S: 504 5.5.4 Authentication mechanism not supported
        C: AUTH SCRAM-SHA-256 {bearer}
        S: 501 5.5.2 Bad response: expected n= and r=, once each and in this order
        C: AUTH GSSAPI
        S: 421 4.7.0 Too many failed logins; closing
    """,
    "smtp tokens": SMTP + """
        C: AUTH OAUTHBEARER {bad}
        S: 334 {told}
        C: {dummy}
        S: 535 5.7.8 Authentication credentials invalid
        C: AUTH XOAUTH2
        S: 334\x20
        C: *
        S: 501 5.7.0 Authentication cancelled
        C: AUTH OAUTHBEARER {bearer}
        S: 235 2.7.0 Authentication successful
    """,
    "smtp cram": SMTP + """
        C: AUTH CRAM-MD5
        S: 334 {cram}
        C: {wrong_cram}
        S: 535 5.7.8 Authentication credentials invalid
        C: AUTH CRAM-MD5 {wrong_cram}
        S: 501 5.5.2 Bad response: CRAM-MD5 takes no initial response
    """,
    "imap scram": IMAP + """
        C: a AUTHENTICATE SCRAM-SHA-1
        S: +\x20
        C: {first}
        S: + {challenge}
        C: {final}
        S: + {signature}
        C:
        S: a OK [CAPABILITY IMAP4rev1 ...
    """,
    "imap SASL-IR": IMAP + """
        C: a AUTHENTICATE SCRAM-SHA-1 {first}
        S: + {challenge}
        C: {final}
        S: + {signature}
        C:
        S: a OK [CAPABILITY IMAP4rev1 ...
    """,
    "imap wrong": IMAP + """
        C: a AUTHENTICATE SCRAM-SHA-1 {first}
        S: + {challenge}
        C: {wrong}
        S: a NO [AUTHENTICATIONFAILED] Wrong user name or password
        C: b AUTHENTICATE SCRAM-SHA-1 {first}
        S: + {challenge}
        C: *
        S: b BAD AUTHENTICATE cancelled
        C: c AUTHENTICATE SCRAM-SHA-256-PLUS {first}
        S: c BAD channel binding is for the -PLUS mechanism, and only for it
        C: d AUTHENTICATE GSSAPI
        S: d NO [CANNOT] No such mechanism
        C: e AUTHENTICATE OAUTHBEARER {bad}
        S: + {told}
        C: {dummy}
        S: e NO [AUTHENTICATIONFAILED] Wrong user name or password
        C: f AUTHENTICATE CRAM-MD5
        S: + {cram}
        C: {wrong_cram}
        S: f NO [AUTHENTICATIONFAILED] Wrong user name or password
        S: * BYE Too many failed logins
    """,
    "imap token": IMAP + """
        C: a AUTHENTICATE OAUTHBEARER {bearer}
        S: a OK [CAPABILITY IMAP4rev1 ...
    """,
    "pop3 capabilities": POP3 + """
        C: CAPA
        S: +OK Capabilities follow
        S: ...
        S: SASL {all}
        S: IMPLEMENTATION mailstack
        S: .
    """,
    "pop3 wrong": POP3 + """
        C: AUTH SCRAM-SHA-1
        S: +\x20
        C: {first}
        S: + {challenge}
        C: {wrong}
        S: -ERR [AUTH] Wrong user name or password
        C: AUTH SCRAM-SHA-1 {first}
        S: + {challenge}
        C: *
        S: -ERR Cancelled
        C: AUTH SCRAM-SHA-1 {first}
        S: + {challenge}
        C: {final}
        S: + {signature}
        C: {first}
        S: -ERR The last response must be empty
        C: AUTH XOAUTH2
        S: +\x20
        C: {bad}
        S: -ERR Expected key=value, each key once
        C: AUTH XOAUTH2 AAAA
        S: -ERR Expected ^A at the end
        C: AUTH OAUTHBEARER {bad}
        S: + {told}
        C: {dummy}
        S: -ERR [AUTH] Wrong user name or password
    """,
}  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> SSL.Connection:
    """The TLS end that a transport shows: it has a certificate, and there is no handshake."""
    files = issue(tmp_path_factory.mktemp("tls"), "mx.example.org")
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate_file(str(files.certificate))
    return SSL.Connection(context)


class Transport(StringTransport):
    """One that is TLS."""

    handle: Any

    def getHandle(self) -> Any:
        return self.handle


def welcomes(protocol: str, folder: Path, clock: Clock) -> tuple[Any, Any]:
    """A session and the service for it."""
    config = AuthConfig((), tuple(MECHANISMS))
    sign_in = SignIn(
        People(),
        clock,
        config,
        hostname="mx.example.org",
        provider=Tokens(),
        nonce=lambda: "3rfcNHYJY1ZVvWVs7j",
    )
    if protocol == "smtp":
        made, _ = reception(Here(), folder)
        made.clock = clock
        options: Any = {
            "directory": Town(),
            "accepts": Box(),
            "reception": made,
            "hostname": "mx.example.org",
        }
        return smtp.Server(), Submission(MsaConfig(), sign_in=sign_in, **options)
    nothing: Any = None
    common: Any = {"clock": clock, "work": nothing, "hostname": "mx.example.org"}
    if protocol == "imap":
        return ImapServer(), ImapAccess(nothing, sign_in, ImapConfig(), **common)
    return pop3.Server(), Pop3Access(nothing, sign_in, Pop3Config(max_auth_failures=5), **common)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcript(name: str, step: int, certificate: SSL.Connection, tmp_path: Path) -> None:
    clock = Clock()
    session, service = welcomes(name.partition(" ")[0], tmp_path, clock)
    transport = Transport()
    transport.handle = certificate
    conversation = Conversation(session, service, clock, secure=True)
    conversation.makeConnection(transport)
    said: list[str] = []
    for line in [one.lstrip() for one in TRANSCRIPTS[name].format(**WORDS).splitlines() if one.strip()]:
        if line.startswith("C:"):
            assert said == [], "the server has said more"
            data = line[3:].encode() + b"\r\n"
            for at in range(0, len(data), step or len(data)):
                conversation.dataReceived(data[at : at + (step or len(data))])
            for _ in range(40):
                clock.advance(0.5)  # no longer than a silent client may be
            continue
        said += transport.value().decode().split("\r\n")[:-1]
        transport.clear()
        if line == "S: ...":
            said = said[-1:] if name.startswith("smtp") else said[-3:]
        elif line.endswith("..."):
            assert said.pop(0).startswith(line[3:-3])
        else:
            assert said.pop(0) == line[3:]
    assert said == []


def test_the_failures_close_the_connection(certificate: SSL.Connection, tmp_path: Path) -> None:
    clock = Clock()
    session, service = welcomes("pop3", tmp_path, clock)
    transport = Transport()
    transport.handle = certificate
    conversation = Conversation(session, service, clock, secure=True)
    conversation.makeConnection(transport)
    for _ in range(5):
        assert not transport.disconnecting
        conversation.dataReceived(b"AUTH PLAIN !\r\n")
    assert transport.disconnecting
