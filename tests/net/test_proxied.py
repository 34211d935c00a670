"""Connections by a proxy: conversations without a socket, then with sockets and TLS."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import tempfile
import textwrap
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor, threads
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from mailstack.mta.relay import Relay
from mailstack.mta.relay_settings import RelayConfig
from mailstack.net.listener import Listener, Speaks
from mailstack.net.places import PlaceLimits, Places
from mailstack.net.tls import ServerTls
from mailstack.wire.smtp import Server
from tests.certificates import issue
from tests.net.fakes import Box, Here, Town, reception
from tests.running import PATIENCE

PROXY = "10.0.0.1"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12 + 7)
    + ip_address("192.0.2.7").packed
    + ip_address("198.51.100.1").packed
    + struct.pack("!HH", 40000, 25)
    + b"\x04\0\x04none"
)


class Wire(StringTransport):
    """A transport whose protocol may be replaced, as Twisted's own."""

    aborted = False
    protocol: Any

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True
        self.protocol.connectionLost()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to delay."""


class Port:
    """A listener without a socket, behind which a relay stands."""

    def __init__(self, folder: Path, per_address: int = 100, **config: Any) -> None:
        self.box = Box()
        made, self.clock = reception(Here(), folder)
        self.relay = relay = Relay(
            RelayConfig(**config),
            hostname="mx.example.org",
            directory=Town(),
            accepts=self.box,
            reception=made,
        )
        self.places = Places(PlaceLimits(1000, per_address), self.clock)
        self.listener = Listener(
            self.clock,
            Speaks("smtp", Server, b"421 4.7.0 Too many\r\n"),
            relay,
            places=self.places,
            port=0,
            proxies=(ip_network("10.0.0.0/8"),),
        )
        self.factory = self.listener._listens

    def connect(self, address: str = PROXY) -> Wire:
        wire = Wire(peerAddress=IPv4Address("TCP", address, 50000))
        wire.protocol = self.factory.buildProtocol(wire.getPeer())
        wire.protocol.makeConnection(wire)
        return wire

    def converse(self, first: bytes, script: str, address: str = PROXY, step: int = 0) -> Wire:
        """Send `first`, then the C: lines in order, all at once or `step` octets at a time; expect the S: lines."""
        lines = textwrap.dedent(script).strip().splitlines()
        wire = self.connect(address)
        data = first + b"".join(f"{line[3:]}\r\n".encode() for line in lines if line.startswith("C: "))
        for start in range(0, len(data), step or len(data)):
            wire.protocol.dataReceived(data[start : start + (step or len(data))])
        said = wire.value().decode().splitlines()
        expected = [line[3:] for line in lines if line.startswith("S: ")]
        assert len(said) == len(expected), said
        for one, pattern in zip(said, expected, strict=True):
            assert re.fullmatch(re.escape(pattern).replace(r"\.\.\.", ".*"), one), said
        return wire


@pytest.fixture
def port(tmp_path: Path) -> Port:
    return Port(tmp_path)


@pytest.fixture
def log() -> Any:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


MAIL = """
    S: 220 mx.example.org ESMTP
    C: HELO client.example
    S: 250 mx.example.org
    C: MAIL FROM:<x@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<bob@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 ...
    C: Subject: hello
    C:
    C: .
    S: 250 2.0.0 ...
    C: QUIT
    S: 221 ...
""".replace("C:\n", "C: \n")


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize(
    ("header", "origin"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 25\r\n", "IPv6:2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 40000 25\r\n", "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", PROXY),
        (V2, "192.0.2.7"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0", PROXY),
    ],
)
def test_the_client_is_whom_the_header_names(port: Port, header: bytes, origin: str, step: int) -> None:
    port.converse(header, MAIL, step=step)
    [(_, message)] = port.box.taken
    assert message.startswith(f"Received: from client.example ([{origin}])\r\n".encode())


def test_nothing_is_said_before_the_header_is_whole(port: Port) -> None:
    wire = port.connect()
    for octet in b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r":
        wire.protocol.dataReceived(bytes([octet]))
        assert wire.value() == b""
        assert port.places.open == 0
    wire.protocol.dataReceived(b"\n")
    assert wire.value() == b"220 mx.example.org ESMTP\r\n"
    assert port.places.open == 1


@pytest.mark.parametrize("step", [0, 1])
def test_from_elsewhere_a_header_is_garbage(port: Port, step: int) -> None:
    wire = port.converse(
        b"",
        """
        S: 220 mx.example.org ESMTP
        C: PROXY TCP4 127.0.0.1 198.51.100.1 40000 25
        S: 500 5.5.1 ...
        C: HELO client.example
        S: 250 mx.example.org
        C: MAIL FROM:<x@example.net>
        S: 250 2.1.0 Ok
        C: RCPT TO:<bob@example.org>
        S: 250 2.1.5 Ok
        C: DATA
        S: 354 ...
        C: .
        S: 250 ...
        """,
        address="203.0.113.9",
        step=step,
    )
    [(_, message)] = port.box.taken
    assert b"([203.0.113.9])" in message
    wire.protocol.connectionLost()


def test_a_second_header_is_garbage_too(port: Port) -> None:
    port.converse(
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n",
        """
        S: 220 mx.example.org ESMTP
        C: PROXY TCP4 127.0.0.1 198.51.100.1 40000 25
        S: 500 5.5.1 ...
        """,
    )


@pytest.mark.parametrize(
    "first", [b"EHLO client.example\r\n", b"PROXY TCP9\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c"]
)
def test_a_proxy_that_sends_none_is_cut_with_one_line(
    port: Port, log: list[dict[str, Any]], first: bytes
) -> None:
    wire = port.connect()
    wire.protocol.dataReceived(first)
    assert (wire.aborted, wire.value(), port.places.open) == (True, b"", 0)
    wire.protocol.dataReceived(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n")
    assert wire.value() == b""
    [event] = [event for event in log if event.get("log_namespace") == "mailstack.net"]
    assert event["log_format"].startswith("{name}: the proxy {host} is cut")
    assert port.clock.getDelayedCalls() == []


def test_a_silent_proxy_is_cut_after_ten_seconds(port: Port) -> None:
    wire = port.connect()
    wire.protocol.dataReceived(b"PROXY ")
    port.clock.advance(9.9)
    assert not wire.aborted
    port.clock.advance(0.2)
    assert wire.aborted


def test_a_proxy_that_leaves_early_leaves_nothing(port: Port) -> None:
    wire = port.connect()
    wire.protocol.connectionLost()
    assert port.clock.getDelayedCalls() == []


def test_a_proxy_that_is_still_silent_at_the_end_is_cut(port: Port) -> None:
    wire = port.connect()
    wire.protocol.dataReceived(b"PROXY ")
    Deferred.fromCoroutine(port.listener.close())
    assert wire.aborted
    assert port.clock.getDelayedCalls() == []


def test_the_real_clients_are_counted(tmp_path: Path, log: list[dict[str, Any]]) -> None:
    port = Port(tmp_path, per_address=1)
    header = b"PROXY TCP4 192.0.2.%d 198.51.100.1 40000 25\r\n"
    first, second, other = port.connect(), port.connect(), port.connect()
    first.protocol.dataReceived(header % 7)
    second.protocol.dataReceived(header % 7)
    other.protocol.dataReceived(header % 8)
    assert (first.value()[:3], second.value()[:3], other.value()[:3]) == (b"220", b"421", b"220")
    first.protocol.connectionLost()
    third = port.connect()
    third.protocol.dataReceived(header % 7)
    assert third.value()[:3] == b"220"
    fourth = port.connect()
    fourth.protocol.dataReceived(header % 7)
    assert fourth.value()[:3] == b"421"
    assert sum("is sent away" in event.get("log_format", "") for event in log) == 1  # in a minute


class WithSockets(TestCase):
    """Below TLS, by STARTTLS and by TLS from the first byte."""

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.certificates = issue(folder)
        self.port = Port(folder / "spool")

    def listen(self, implicit: bool, networks: str) -> int:
        certificates = self.certificates
        relay = self.port.relay
        relay.tls = True
        self.listener = Listener(
            reactor,
            Speaks("smtp", Server, b"421\r\n"),
            relay,
            places=self.port.places,
            port=0,
            interface="127.0.0.1",
            tls=ServerTls(certificates.certificate, certificates.key),
            implicit_tls=implicit,
            proxies=(ip_network(networks),),
        )
        self.listener.startService()
        self.addCleanup(self.listener.stopService)
        return self.listener.address.port

    def _tls(self, connection: socket.socket) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        context.check_hostname = False
        return context.wrap_socket(connection)

    def _implicit(self, number: int) -> str:
        with socket.create_connection(("127.0.0.1", number), PATIENCE) as plain:
            for octet in V2:
                plain.sendall(bytes([octet]))
            with self._tls(plain) as secure:
                greeting = secure.recv(100).decode()
                secure.sendall(b"QUIT\r\n")
                secure.recv(100)
                return greeting

    def _starttls(self, number: int) -> str:
        with socket.create_connection(("127.0.0.1", number), PATIENCE) as plain:
            plain.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\nEHLO x\r\nSTARTTLS\r\n")
            said = b""
            while b"220 2.0.0" not in said:
                said += plain.recv(1000)
            with self._tls(plain) as secure:
                secure.sendall(
                    b"HELO y\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n.\r\nQUIT\r\n"
                )
                while b"\r\n221 " not in said:
                    said += secure.recv(1000)
        return said.decode()

    def test_the_header_stands_before_the_handshake(self) -> Any:
        number = self.listen(True, "127.0.0.0/8")
        return threads.deferToThread(self._implicit, number).addCallback(
            self.assertEqual, "220 mx.example.org ESMTP\r\n"
        )

    def test_starttls_behind_a_proxy(self) -> Any:
        number = self.listen(False, "127.0.0.0/8")

        def taken(said: str) -> None:
            [(_, message)] = self.port.box.taken
            self.assertIn(b"from y ([192.0.2.7])", message)
            self.assertIn(b"TLSv1.3", message)

        return threads.deferToThread(self._starttls, number).addCallback(taken)


# The pause before the greeting.


def greeted(tmp_path: Path, **config: Any) -> Port:
    return Port(tmp_path, greet_pause=5.0, **config)


def test_who_waits_is_greeted_after_the_pause(tmp_path: Path) -> None:
    port = greeted(tmp_path)
    wire = port.connect("192.0.2.1")
    port.clock.advance(4.9)
    assert wire.value() == b""
    port.clock.advance(0.2)
    assert wire.value() == b"220 mx.example.org ESMTP\r\n"
    wire.protocol.dataReceived(b"HELO x\r\n")
    assert wire.value().endswith(b"250 mx.example.org\r\n")


def test_who_talks_first_is_refused(tmp_path: Path, log: list[dict[str, Any]]) -> None:
    port = greeted(tmp_path)
    wire = port.connect("192.0.2.1")
    wire.protocol.dataReceived(b"EHLO spammer\r\nMAIL FROM:<x@example.net>\r\n")
    greeting, *rest = wire.value().splitlines()
    assert greeting == b"554 5.5.1 Protocol error: you talked before the greeting"
    assert rest == 2 * [b"503 5.5.1 Bad sequence of commands"]
    wire.protocol.dataReceived(b"QUIT\r\n")
    assert wire.disconnecting
    wire.protocol.connectionLost()
    assert port.clock.getDelayedCalls() == []
    assert any(event.get("log_format", "").startswith("{peer} talked before") for event in log)


def test_who_talks_first_is_only_noted_where_the_operator_says_so(tmp_path: Path) -> None:
    port = greeted(tmp_path, early_talkers="log")
    wire = port.connect("192.0.2.1")
    wire.protocol.dataReceived(b"HELO eager\r\n")
    assert wire.value() == b"220 mx.example.org ESMTP\r\n250 mx.example.org\r\n"


def test_who_leaves_in_the_pause_leaves_nothing(tmp_path: Path) -> None:
    port = greeted(tmp_path)
    wire = port.connect("192.0.2.1")
    wire.protocol.connectionLost()
    half = port.connect("192.0.2.1")
    half.protocol.readConnectionLost()
    assert half.aborted
    assert (port.clock.getDelayedCalls(), port.places.open) == ([], 0)


def test_the_pause_begins_behind_the_proxys_header(tmp_path: Path) -> None:
    port = greeted(tmp_path)
    wire = port.connect()
    port.clock.advance(4)
    wire.protocol.dataReceived(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n")
    port.clock.advance(4)
    assert wire.value() == b""
    port.clock.advance(1)
    assert wire.value().startswith(b"220")
