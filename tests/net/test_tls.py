"""The server's side of TLS, against the other end of a real connection."""

from __future__ import annotations

from pathlib import Path

import pytest
from OpenSSL import SSL

from mailstack.net.tls import ServerTls
from tests.certificates import issue
from tests.net.test_binding import shake_hands


@pytest.mark.parametrize("offered", [[], [b"imap"], [b"h2", b"http/1.1"]])
def test_protocols_that_a_client_offers_are_no_reason_to_part(tmp_path: Path, offered: list[bytes]) -> None:
    """ALPN (RFC 7301): Dovecot 2.4 as a client has "imap" there."""
    files = issue(tmp_path, "mx.example.test")
    server = SSL.Connection(ServerTls(files.certificate, files.key).getContext())
    client = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    if offered:
        client.set_alpn_protos(offered)
    shake_hands(server, client)
    assert client.get_peer_certificate() is not None
    assert (server.get_alpn_proto_negotiated(), client.get_alpn_proto_negotiated()) == (b"", b"")
    server.send(b"* OK")
    client.bio_write(server.bio_read(65536))
    assert client.recv(10) == b"* OK"
