"""Our certificate, as listeners offer it; read again when its file changes, so that a renewal needs no
restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger(namespace="mailstack.tls")

Context = SSL.Context


class NoCommonProtocol(SSL.Error):
    """A client offers protocols by ALPN, and none is that of the service."""


@implementer(IOpenSSLContextFactory)
class ServerTls:
    """A context factory for STARTTLS and TLS ports: TLS 1.2 and up, session tickets on (RFC 8314, RFC 9325).

    Raises OSError, ValueError or `OpenSSL.SSL.Error` where the files are unreadable or do not match.
    """

    def __init__(self, certificate: Path, key: Path, minimum: str = "1.2") -> None:
        self._certificate = certificate
        self._key = key
        self._minimum = TLSVersion.TLSv1_3 if minimum == "1.3" else TLSVersion.TLSv1_2
        self._stamp = self._stamps()
        self._options = self._load()

    def getContext(self) -> Context:
        """The context for one more connection."""
        return self._options.getContext()

    def refresh(self) -> None:
        """Read the files again if they have changed; keep the old ones where the new do not work. Blocks."""
        try:
            stamp = self._stamps()
            if stamp != self._stamp:
                self._options = self._load()
                self._stamp = stamp
                _log.info("the certificate was renewed: {path}", path=str(self._certificate))
        except (OSError, SSL.Error, ValueError) as error:
            _log.error(
                "{path}: the new certificate cannot be used, the old one stays: {error}",
                path=str(self._certificate),
                error=error,
            )

    def _stamps(self) -> tuple[Any, ...]:
        return tuple((s.st_mtime_ns, s.st_ino) for s in (self._certificate.stat(), self._key.stat()))

    def _load(self) -> CertificateOptions:
        chain: list[Any] = list(x509.load_pem_x509_certificates(self._certificate.read_bytes()))
        key: Any = load_pem_private_key(self._key.read_bytes(), None)
        options = CertificateOptions(
            privateKey=key,
            certificate=chain[0],
            extraCertChain=chain[1:],
            raiseMinimumTo=self._minimum,
            enableSessions=True,
            enableSessionTickets=True,
        )
        options.getContext().check_privatekey()
        options.getContext().set_alpn_select_callback(_chosen)
        return options


def _chosen(connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
    """Which of the protocols that a client offers is spoken (RFC 7301 section 3.2). Called by OpenSSL.

    A client that offers others only means another server: what it says is not for us, nor what we say for it
    (RFC 9325 section 3.8). Raises NoCommonProtocol, which OpenSSL answers with a fatal alert.
    """
    spoken = getattr(connection.get_app_data().wrappedProtocol, "alpn", ())
    if not spoken:
        return SSL.NO_OVERLAPPING_PROTOCOLS
    for name in spoken:
        if name in offered:
            return name
    raise NoCommonProtocol([("", "", "no protocol that the client offers is spoken here")])
