"""Channel bindings, against the other end of a real TLS connection."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from mailstack.net.binding import bindings

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.org")])


def certificate(key: Any, algorithm: Any, **options: Any) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return builder.sign(key, algorithm, **options)


def connected(key: Any, own: x509.Certificate, version: int) -> tuple[SSL.Connection, SSL.Connection]:
    """Both ends after the handshake: server, client."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.use_certificate(own)
    context.use_privatekey(key)
    server, client = SSL.Connection(context), SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    shake_hands(server, client)
    return server, client


def shake_hands(server: SSL.Connection, client: SSL.Connection) -> None:
    """Until both are in TLS; raise `SSL.Error` where one will not."""
    server.set_accept_state()
    client.set_connect_state()
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            try:
                other.bio_write(one.bio_read(65536))
            except SSL.WantReadError:
                pass


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_both_ends_have_the_same(version: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    server, client = connected(key, certificate(key, hashes.SHA256()), version)
    found = bindings(server)
    peer = client.get_peer_certificate()
    assert peer is not None
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, peer)
    assert found["tls-server-end-point"] == hashlib.sha256(der).digest()
    if version == SSL.TLS1_3_VERSION:
        exported = client.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        assert found["tls-exporter"] == exported
    else:
        assert "tls-exporter" not in found


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [(hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")],
)
def test_the_hash_is_that_of_the_signature(algorithm: Any, name: str) -> None:
    """RFC 5929 section 4.1."""
    key = ec.generate_private_key(ec.SECP384R1())
    server, client = connected(key, certificate(key, algorithm), SSL.TLS1_3_VERSION)
    peer = client.get_peer_certificate()
    assert peer is not None
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, peer)
    assert bindings(server)["tls-server-end-point"] == hashlib.new(name, der).digest()


def test_rsa_pss() -> None:
    key = rsa.generate_private_key(65537, 2048)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    server, _ = connected(key, certificate(key, hashes.SHA256(), rsa_padding=pss), SSL.TLS1_3_VERSION)
    assert len(bindings(server)["tls-server-end-point"]) == 32


def test_a_signature_without_a_hash_has_none() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    server, _ = connected(key, certificate(key, None), SSL.TLS1_3_VERSION)
    assert set(bindings(server)) == {"tls-exporter"}


def test_no_tls() -> None:
    assert bindings(None) == {}
    assert bindings(object()) == {}
