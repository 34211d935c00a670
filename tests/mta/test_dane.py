"""What TLSA records say of certificates (RFC 7672), and a whole signed zone served by a real name server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailstack.mta import dane
from mailstack.mta.dane import Tlsa
from mailstack.net.client_tls import Shown
from tests.certificates import issue


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[x509.Certificate, ...]:
    return load(tmp_path_factory.mktemp("good"), 2)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[x509.Certificate, ...]:
    return load(tmp_path_factory.mktemp("other"), 2)


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> tuple[x509.Certificate, ...]:
    return load(tmp_path_factory.mktemp("expired"), -1)


def load(folder: Path, days: float) -> tuple[x509.Certificate, ...]:
    files = issue(folder, "mx.b.test", days=days)
    return tuple(x509.load_pem_x509_certificate(path.read_bytes()) for path in (files.certificate, files.ca))


def shown(chain: tuple[x509.Certificate, ...]) -> Shown:
    return Shown(chain, "untrusted", False, "TLSv1.3", "x")


def record(certificate: x509.Certificate, usage: int, selector: int, matching: int) -> Tlsa:
    data = certificate.public_bytes(Encoding.DER)
    if selector:
        data = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = {0: bytes, 1: lambda d: hashlib.sha256(d).digest(), 2: lambda d: hashlib.sha512(d).digest()}
    return Tlsa(usage, selector, matching, digest[matching](data))


def problem(records: list[Tlsa], chain: tuple[x509.Certificate, ...], *names: str) -> str | None:
    return dane.problem(records, shown(chain), names or ("mx.b.test",))


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
class TestMatching:
    def test_end_entity(self, chain, other, selector: int, matching: int) -> None:
        good = record(chain[0], 3, selector, matching)
        assert good.usable
        assert problem([good], chain) is None
        assert dane.which([good], shown(chain)) == "DANE-EE"
        assert problem([good], other) == "no TLSA record matches the certificate"
        assert problem([record(other[0], 3, selector, matching), good], chain) is None

    def test_trust_anchor(self, chain, other, selector: int, matching: int) -> None:
        good = record(chain[1], 2, selector, matching)
        assert problem([good], chain) is None
        assert dane.which([good], shown(chain)) == "DANE-TA"
        assert problem([good], other) is not None
        assert problem([good], chain, "else.test") == "the certificate is not for else.test"
        assert problem([good], chain, "else.test", "mx.b.test") is None


class TestRules:
    def test_the_end_entity_needs_no_name_and_no_date(self, expired) -> None:
        assert problem([record(expired[0], 3, 1, 1)], expired, "else.test") is None

    def test_below_a_trust_anchor_dates_count(self, expired) -> None:
        assert "expired" in (problem([record(expired[1], 2, 1, 1)], expired) or "")

    def test_a_trust_anchor_that_signed_nothing_there(self, chain, other) -> None:
        mixed = (chain[0], other[1])
        assert "not valid" in (problem([record(other[1], 2, 1, 1)], mixed) or "")

    def test_a_whole_certificate_in_the_record_need_not_be_sent(self, chain) -> None:
        assert problem([record(chain[1], 2, 0, 0)], chain[:1]) is None
        assert problem([Tlsa(2, 0, 0, b"nonsense")], chain) == "no TLSA record matches the certificate"

    def test_a_key_that_nobody_can_read(self, chain) -> None:
        """A chain may hold anything; what is odd in it is no record's, and spoils nothing."""
        elliptic, unknown = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0209")
        der = chain[1].public_bytes(Encoding.DER)
        odd = x509.load_der_x509_certificate(der.replace(elliptic, unknown))
        assert (
            problem([record(chain[1], 2, 1, 1)], (chain[0], odd)) == "no TLSA record matches the certificate"
        )
        assert problem([record(chain[1], 2, 1, 1)], (chain[0], chain[1], odd)) is None
        assert problem([record(chain[0], 3, 1, 1)], (odd,)) == "no TLSA record matches the certificate"

    def test_no_certificate(self, chain) -> None:
        assert problem([record(chain[0], 3, 1, 1)], ()) == "the server showed no certificate"

    def test_what_cannot_be_used(self) -> None:
        for one in (
            Tlsa(0, 1, 1, b"x" * 32),
            Tlsa(1, 1, 1, b"x" * 32),
            Tlsa(3, 2, 1, b"x" * 32),
            Tlsa(3, 1, 3, b"x" * 32),
            Tlsa(3, 1, 1, b"x" * 31),
            Tlsa(3, 1, 2, b"x" * 32),
            Tlsa(3, 1, 0, b""),
        ):
            assert dane.usable([one]) == ()
