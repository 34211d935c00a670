"""Channel bindings of a TLS connection: what only its two ends have in common (RFC 5056).

`tls-server-end-point` (RFC 5929 section 4) is a hash of the certificate that this very connection was made
with, so a renewal meanwhile does no harm. It is there before the handshake, when a greeting may have to say
what is offered, so it alone decides whether -PLUS is. `tls-exporter` (RFC 9266) comes with the handshake, and
with TLS 1.3 alone.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from OpenSSL import SSL, crypto

END_POINT = "tls-server-end-point"

_EXPORTER = b"EXPORTER-Channel-Binding"  # RFC 9266 section 2
_EXPORTER_OCTETS = 32


def bindings(connection: Any) -> dict[str, bytes]:
    """Those of an `OpenSSL.SSL.Connection`; empty for anything else."""
    own = getattr(connection, "get_certificate", None)
    certificate = own() if own is not None else None
    if certificate is None:
        return {}
    found = {}
    end_point = _end_point(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
    if end_point is not None:
        found[END_POINT] = end_point
    if connection.get_protocol_version_name() == "TLSv1.3":
        with suppress(SSL.Error):  # the handshake is not done
            found["tls-exporter"] = connection.export_keying_material(_EXPORTER, _EXPORTER_OCTETS, b"")
    return found


@lru_cache(maxsize=32)
def _end_point(der: bytes) -> bytes | None:
    """The hash of a certificate by its signature's own hash, or SHA-256 for MD5 and SHA-1.

    None where the signature has no single hash (Ed25519): the type is undefined then.
    """
    try:
        algorithm = x509.load_der_x509_certificate(der).signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name
    return hashlib.new(name, der).digest()
