"""Greeting, capabilities, LOGIN, AUTHENTICATE, STARTTLS, ID, ENABLE."""

from __future__ import annotations

import base64
from collections.abc import Callable

from mailstack.access.settings import ImapConfig
from tests.access.imap.harness import Client, World

Talk = Callable[[Client, str], None]

CLEAR = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE STARTTLS LOGINDISABLED"
OPEN = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE AUTH=PLAIN AUTH=LOGIN"
PLAIN = base64.b64encode(b"\0alice@example.test\0secret").decode()
WRONG = base64.b64encode(b"\0alice@example.test\0guess").decode()


def test_in_clear_nobody_can_log_in(world: World, talk: Talk) -> None:
    talk(
        world.connect(plaintext=False),
        f"""
        S: * OK [CAPABILITY {CLEAR}] mail.example.test ready
        C: a CAPABILITY
        S: * CAPABILITY {CLEAR}
        S: a OK CAPABILITY completed
        C: b LOGIN alice@example.test secret
        S: b NO [PRIVACYREQUIRED] ...
        C: c AUTHENTICATE PLAIN {PLAIN}
        S: c NO [PRIVACYREQUIRED] ...
        C: d SELECT INBOX
        S: d BAD ...
        C: e LOGOUT
        S: * BYE Logging out
        S: e OK LOGOUT completed
        """,
    )


def test_starttls_then_login(world: World) -> None:
    client = world.connect(plaintext=False)
    client.heard()
    assert client.ask("a STARTTLS") == b"a OK Begin TLS\r\n"
    assert client.wire.tls
    said = client.ask("b CAPABILITY")
    assert b"STARTTLS" not in said
    assert b"LOGINDISABLED" not in said
    assert b"AUTH=PLAIN" in said
    assert client.ask("c STARTTLS").startswith(b"c BAD")
    assert client.ask("d LOGIN alice@example.test secret").startswith(b"d OK [CAPABILITY IMAP4rev1 ")


def test_no_tls_without_a_certificate(world: World, talk: Talk) -> None:
    client = world.connect(plaintext=False, offers_tls=False)
    talk(
        client,
        f"""
        S: * OK [CAPABILITY {CLEAR.replace(" STARTTLS", "")}] mail.example.test ready
        C: a STARTTLS
        S: a BAD TLS is not offered
        """,
    )
    assert not client.wire.tls


def test_over_tls(world: World, talk: Talk) -> None:
    talk(
        world.connect(plaintext=False, secure=True),
        f"""
        S: * OK [CAPABILITY {OPEN}] mail.example.test ready
        C: a LOGIN alice@example.test secret
        S: a OK [CAPABILITY IMAP4rev1 ... IDLE ... MOVE ...] Logged in
        C: b LOGIN alice@example.test secret
        S: b BAD ...
        C: c CAPABILITY
        S: * CAPABILITY IMAP4rev1 ... SPECIAL-USE ... LIST-EXTENDED ...
        S: c OK CAPABILITY completed
        """,
    )


def test_authenticate(world: World, talk: Talk) -> None:
    user = base64.b64encode(b"alice@example.test").decode()
    password = base64.b64encode(b"secret").decode()
    exchanges = [
        f"C: a AUTHENTICATE PLAIN {PLAIN}",
        f"C: a AUTHENTICATE PLAIN\nS: + \nC: {PLAIN}",
        f"C: a authenticate login\nS: + VXNlcm5hbWU6\nC: {user}\nS: + UGFzc3dvcmQ6\nC: {password}",
        f"C: a AUTHENTICATE LOGIN {user}\nS: + UGFzc3dvcmQ6\nC: {password}",
    ]
    for exchange in exchanges:
        client = world.connect(secure=True)
        client.heard()
        talk(
            client,
            exchange.replace("S: + \n", "S: + ...\n") + "\nS: a OK [CAPABILITY IMAP4rev1 ...] Logged in",
        )


def test_authenticate_refused(world: World, talk: Talk) -> None:
    world.config = ImapConfig(auth_failure_seconds=0.0, max_auth_failures=10)
    client = world.connect(secure=True)
    client.heard()
    talk(
        client,
        f"""
        C: a AUTHENTICATE CRAM-MD5
        S: a NO [CANNOT] No such mechanism
        C: b AUTHENTICATE PLAIN {WRONG}
        S: b NO [AUTHENTICATIONFAILED] Wrong user name or password
        C: c AUTHENTICATE PLAIN
        S: + ...
        C: *
        S: c BAD AUTHENTICATE cancelled
        C: d AUTHENTICATE PLAIN
        S: + ...
        C: !!!
        S: d BAD ...
        C: e AUTHENTICATE PLAIN AAAA
        S: e BAD ...
        C: f LOGIN alice@example.test ""
        S: f NO [AUTHENTICATIONFAILED] Wrong user name or password
        C: g LOGIN alice@example.test secret
        S: g OK [CAPABILITY ...] Logged in
        """,
    )


def test_a_wrong_password_waits(world: World) -> None:
    client = world.connect()
    client.heard()
    assert client.ask("a LOGIN alice@example.test guess") == b""
    world.clock.advance(world.config.auth_failure_seconds)
    assert client.heard() == b"a NO [AUTHENTICATIONFAILED] Wrong user name or password\r\n"
    assert not client.closed


def test_too_many_wrong_passwords(world: World) -> None:
    world.config = ImapConfig(auth_failure_seconds=0.0, max_auth_failures=2)
    client = world.connect()
    client.heard()
    client.ask("a LOGIN alice@example.test guess")
    said = client.ask("b LOGIN alice@example.test guess")
    assert said == (
        b"b NO [AUTHENTICATIONFAILED] Wrong user name or password\r\n* BYE Too many failed logins\r\n"
    )
    assert client.closed


def test_id_enable_noop(world: World, talk: Talk) -> None:
    client = world.connect()
    client.heard()
    talk(
        client,
        """
        C: a ID NIL
        S: * ID ("name" "mailstack" "version" "...")
        S: a OK ID completed
        C: b LOGIN alice@example.test secret
        S: b OK ...
        C: c ID ("name" "Thunderbird" "version" "153.7.0")
        S: * ID ("name" "mailstack" "version" "...")
        S: c OK ID completed
        C: d ENABLE X-ACCEPT X-NONE
        S: * ENABLED
        S: d OK ENABLE completed
        C: e NOOP
        S: e OK NOOP completed
        C: f NAMESPACE
        S: * NAMESPACE (("" "/")) (("Other Users/" "/")) NIL
        S: f OK NAMESPACE completed
        """,
    )


def test_silence(world: World) -> None:
    """3 min before login, for who is at an OpenID provider's page meanwhile; 30 min after (RFC 3501 section 5.4)."""
    client = world.connect()
    client.heard()
    world.clock.advance(179)
    assert not client.closed
    world.clock.advance(2)
    assert client.heard() == b"* BYE Silent for too long\r\n"
    assert client.closed
    client = world.connect().login()
    world.clock.advance(29 * 60)
    assert not client.closed
    world.clock.advance(61)
    assert client.heard() == b"* BYE Silent for too long\r\n"
    assert client.closed


def test_a_vanished_client_leaves_nothing(world: World) -> None:
    client = world.connect().select()
    client.send(b"a IDLE\r\n")
    client.lose()
    world.deliver(b"Subject: x\r\n\r\n")
    assert client.heard().startswith(b"+ idling")
