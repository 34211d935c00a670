"""A certificate to begin with: a small authority of our own, and one certificate signed by it."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

import idna
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 820  # Apple's clients refuse more than 825, also from an authority that the user added

_Key = ec.EllipticCurvePrivateKey


def make_certificates(directory: Path, hostname: str, names: Sequence[str]) -> None:
    """Write ca.pem, ca-key.pem, cert.pem and key.pem to `directory`; the certificate covers `names`.

    Names are host names or IP addresses. The keys are P-256 and readable by the owner only; no file is ever
    overwritten (FileExistsError).
    """
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _authority(ca_key, hostname)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key, ca, ca_key, hostname, names)
    write_private(directory / "ca-key.pem", _pem(ca_key))
    write_private(directory / "key.pem", _pem(key))
    write_new(directory / "ca.pem", ca.public_bytes(serialization.Encoding.PEM))
    write_new(directory / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM))


def write_private(path: Path, data: bytes) -> None:
    """Make a file that only its owner may read: never readable by others, not for a moment."""
    write_new(path, data, 0o600)


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Make a file; FileExistsError where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def to_ascii(name: str) -> str:
    """A host name as certificates and DNS write it (RFC 5891); raises idna.IDNAError."""
    return name if name.isascii() else idna.encode(name, uts46=True).decode("ascii")


def _authority(key: _Key, hostname: str) -> x509.Certificate:
    name = _name(f"Own authority of {hostname}")
    return (
        _builder(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    key: _Key, ca: x509.Certificate, ca_key: _Key, hostname: str, names: Sequence[str]
) -> x509.Certificate:
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _builder(_name(hostname), ca.subject, key, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: _Key, days: int) -> x509.CertificateBuilder:
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)  # for clocks that are behind
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])  # RFC 5280: ub-common-name


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(to_ascii(name))


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """What a key is for: an authority's, or a server's (RFC 5280 section 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
