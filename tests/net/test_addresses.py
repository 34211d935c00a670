"""One reading of an IP address, whoever asks: with a zone, in brackets, or none at all."""

from __future__ import annotations

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from mailstack.net.client_tls import ClientTls, Roots, certificate_is_for
from mailstack.net.peer import ip_address, server_address
from mailstack.net.reach import Reach

V4, V6, LOCAL = "192.0.2.1", "2001:db8::1", "fe80::1"
NAMES = ("mx.b.test", "3com.b.test", "192.0.2.1.b.test", "fe80.b.test", "[mx.b.test]")
NONE = ("", "192.0.2.1%eth0", "192.0.2.256", "fe80::1%", "fe80::1%a%b", "[fe80::1", "1")


@pytest.mark.parametrize(
    ("text", "address"),
    [(V4, V4), (V6, V6), ("2001:DB8:0::1", V6), (f"{LOCAL}%eth0", LOCAL), (f"{LOCAL}%2", LOCAL)],
)
def test_an_address_without_its_zone(text: str, address: str) -> None:
    assert ip_address(text) == ipaddress.ip_address(address)
    assert server_address(text) == ipaddress.ip_address(address)
    literal = f"[{text}]" if "." in text else f"[IPv6:{text}]"
    assert server_address(literal) == ipaddress.ip_address(address)
    assert ip_address(literal) is None


@pytest.mark.parametrize("text", [*NAMES, *NONE])
def test_none(text: str) -> None:
    assert ip_address(text) is None
    assert server_address(text) is None
    with pytest.raises(ValueError, match="is no IP address"):
        Reach().covers(text)


def test_a_link_is_no_way_out_whatever_its_zone() -> None:
    assert not Reach().covers(f"{LOCAL}%eth0")
    assert Reach(["fe80::/10"]).covers(f"{LOCAL}%eth0")


@pytest.fixture(scope="module")
def certificate() -> x509.Certificate:
    """For two addresses and a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.IPAddress(ipaddress.ip_address(one)) for one in (V4, V6, LOCAL)]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([*alternatives, x509.DNSName("3com.b.test")]), critical=True
        )
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize(
    "name",
    [
        V4,
        f"[{V4}]",
        V6,
        f"[IPv6:{V6}]",
        f"[{V6}]",
        LOCAL,
        f"{LOCAL}%eth0",
        f"[IPv6:{LOCAL}%3]",
        "3com.b.test",
    ],
)
def test_a_certificate_for_an_address(certificate: x509.Certificate, name: str) -> None:
    assert certificate_is_for(certificate, name)


@pytest.mark.parametrize("name", ["192.0.2.2", "2001:db8::2", "fe80::2%eth0", *NONE, "mx.b.test"])
def test_a_certificate_for_others(certificate: x509.Certificate, name: str) -> None:
    assert not certificate_is_for(certificate, name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mx.b.test", b"mx.b.test"),
        ("3com.b.test", b"3com.b.test"),
        (V4, None),
        (V6, None),
        ("abcd::1", None),
        (f"{LOCAL}%eth0", None),
        (f"[{V4}]", None),
        (f"[IPv6:{V6}]", None),
    ],
)
def test_only_a_name_is_said_in_the_handshake(name: str, said: bytes | None) -> None:
    """RFC 6066 section 3; also one that begins with a digit, as names may (RFC 1123 section 2.1)."""
    for creator in (ClientTls(name), Roots().proving(name)):
        connection: SSL.Connection = creator.clientConnectionForTLS(None)
        assert connection.get_servername() == said
