"""What servers show in a handshake, when it is odd: TLS with whoever answers must not fail over it (RFC 7435)."""

from __future__ import annotations

from pathlib import Path
from ssl import DER_cert_to_PEM_cert

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from mailstack.net.client_tls import ClientTls, Roots, Shown, certificate_is_for
from tests.certificates import Files, issue
from tests.net.test_binding import shake_hands


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return issue(tmp_path_factory.mktemp("server"), "mx.b.test", "*.*.b.test", "127.0.0.1")


def of_no_version(path: Path) -> str:
    """A certificate that OpenSSL takes, and `cryptography` does not: its version is 6."""
    der = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    odd = der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020105"), 1)
    with pytest.raises(x509.InvalidVersion):
        x509.load_der_x509_certificate(odd)
    return DER_cert_to_PEM_cert(odd)


def shown_by(creator: ClientTls, key: Path, *chain: str) -> Shown:
    """What the client sees of a server with this chain, in PEM."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    file = key.with_name("shown.pem")
    file.write_text("".join(chain))
    context.use_certificate_chain_file(str(file))
    context.use_privatekey_file(str(key))
    server, client = SSL.Connection(context, None), creator.clientConnectionForTLS(None)
    shake_hands(server, client)
    return creator.shown()


def test_what_is_odd_behind_the_first_is_left_out(files: Files) -> None:
    shown = shown_by(
        ClientTls("mx.b.test"),
        files.key,
        files.certificate.read_text(),
        of_no_version(files.ca),
        files.ca.read_text(),
    )
    assert [one.subject for one in shown.chain] == [
        x509.load_pem_x509_certificate(path.read_bytes()).subject for path in (files.certificate, files.ca)
    ]


def test_an_odd_certificate_proves_nothing_and_is_no_error(files: Files) -> None:
    shown = shown_by(ClientTls("mx.b.test"), files.key, of_no_version(files.certificate))
    assert shown.chain == ()
    assert shown.problem == "the certificate cannot be read"
    assert not shown.is_for("mx.b.test")
    judged = shown_by(Roots(files.ca).connection("mx.b.test"), files.key, of_no_version(files.certificate))
    assert judged.problem is not None
    assert judged.chain == ()


def test_a_certificate_with_a_name_that_is_none_is_for_nobody(files: Files) -> None:
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert not certificate_is_for(certificate, "mx.b.test")
    assert not certificate_is_for(certificate, "another.test")
