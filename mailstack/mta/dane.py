"""DANE for SMTP (RFC 7672, RFC 7671, RFC 6698): what TLSA records say of a server's certificate."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL.crypto import X509, X509Store, X509StoreContext, X509StoreContextError, X509StoreFlags

from mailstack.net.client_tls import Shown, certificate_is_for

TRUST_ANCHOR = 2  # DANE-TA
END_ENTITY = 3  # DANE-EE
MOST_RECORDS = 20  # of one server that are looked at
_LENGTHS = {1: 32, 2: 64}
_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record."""

    usage: int
    selector: int  # 0: the certificate, 1: its public key
    matching: int  # 0: as it is, 1: SHA-256, 2: SHA-512
    data: bytes

    @property
    def usable(self) -> bool:
        """Whether it means anything for SMTP (RFC 7672 section 3.1): PKIX-TA and PKIX-EE do not."""
        if self.usage not in (TRUST_ANCHOR, END_ENTITY) or self.selector not in (0, 1):
            return False
        return bool(self.data) if self.matching == 0 else _LENGTHS.get(self.matching) == len(self.data)

    def matches(self, certificate: x509.Certificate) -> bool:
        """Whether it is about this certificate (RFC 6698 section 2.1); not if its key cannot be read."""
        try:
            chosen = _selected(certificate, self.selector)
        except (ValueError, UnsupportedAlgorithm):
            return False
        if self.matching:
            chosen = _DIGESTS[self.matching](chosen).digest()
        return hmac.compare_digest(chosen, self.data)


def read(records: Iterable[Any]) -> tuple[Tlsa, ...]:
    """dnspython's TLSA records as ours."""
    return tuple(Tlsa(record.usage, record.selector, record.mtype, bytes(record.cert)) for record in records)[
        :MOST_RECORDS
    ]


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that can be used."""
    return tuple(record for record in records if record.usable)


def problem(records: Iterable[Tlsa], shown: Shown, names: Iterable[str]) -> str | None:
    """Why these usable records do not vouch for the server; None: one does. `names`: those it may go by.

    DANE-EE needs no name and knows no expiry (RFC 7672 section 3.1.1); DANE-TA needs both.
    """
    if not shown.chain:
        return "the server showed no certificate"
    records = tuple(records)
    if any(one.usage == END_ENTITY and one.matches(shown.chain[0]) for one in records):
        return None
    anchored = [one for one in records if one.usage == TRUST_ANCHOR]
    reasons = [_anchored(one, shown, tuple(names)) for one in anchored]
    if None in reasons:
        return None
    known = [reason for reason in reasons if reason]
    return known[0] if known else "no TLSA record matches the certificate"


def which(records: Iterable[Tlsa], shown: Shown) -> str:
    """The name of what vouched: for logs."""
    ee = any(one.usage == END_ENTITY and one.matches(shown.chain[0]) for one in records)
    return "DANE-EE" if ee else "DANE-TA"


def _anchored(record: Tlsa, shown: Shown, names: tuple[str, ...]) -> str | None:
    """Why a DANE-TA record does not vouch (RFC 7672 section 3.1.2); "" where it is about something else."""
    anchors = [one for one in shown.chain if record.matches(one)]
    if not anchors and record.matching == 0 and record.selector == 0:
        try:  # RFC 7671 section 5.2.2: the record holds the whole certificate, the server need not send it
            anchors = [x509.load_der_x509_certificate(record.data)]
        except ValueError:
            return ""
    if not anchors:
        return ""
    leaf = shown.chain[0]
    if not any(certificate_is_for(leaf, name) for name in names):
        return f"the certificate is not for {' or '.join(names)}"
    return _chain_problem(anchors, leaf, shown.chain[1:])


def _chain_problem(
    anchors: list[x509.Certificate], leaf: x509.Certificate, others: Iterable[x509.Certificate]
) -> str | None:
    store = X509Store()
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    for anchor in anchors:
        store.add_cert(X509.from_cryptography(anchor))
    untrusted = [X509.from_cryptography(one) for one in others]
    try:
        X509StoreContext(store, X509.from_cryptography(leaf), untrusted).verify_certificate()
    except X509StoreContextError as error:
        return f"the chain to the TLSA record's authority is not valid: {error}"
    return None


def _selected(certificate: x509.Certificate, selector: int) -> bytes:
    if selector == 0:
        return certificate.public_bytes(Encoding.DER)
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
