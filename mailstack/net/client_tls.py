"""TLS to other servers: with whoever answers, or with a look at the certificate.

Theory of operation. Of an SMTP server the handshake itself never fails over a certificate: what the server
showed, and what our roots make of it, is kept, and whoever asked judges it (a name from MTA-STS, a TLSA
record, nothing at all). So a refusal has its reason, and what a policy in testing would have refused can be
reported. Of an HTTPS server it fails, before anything is asked: in doubt, too. (Twisted's own check takes a
certificate with a name that is none, such as an address as a dNSName, for one of any host.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from zope.interface import implementer

from mailstack.net.peer import server_address

# What OpenSSL's X509_verify_cert numbers mean, in a few words (openssl-verification-options(1)).
_PROBLEMS = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the certificate's chain ends in an authority that is not trusted",
    20: "the certificate is from an authority that is not trusted",
    21: "the certificate's chain is not complete",
    23: "the certificate was revoked",
    26: "the certificate is not for servers",
}
_EXPIRED = (9, 10)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server showed in its handshake."""

    chain: tuple[x509.Certificate, ...]  # its own first; empty: none
    problem: str | None  # why no root of ours vouches for it; None: one does
    expired: bool  # that is only because of the time
    version: str
    cipher: str

    def is_for(self, name: str) -> bool:
        """Whether the server's own certificate has this name, or this address (RFC 6125, RFC 9525)."""
        return bool(self.chain) and certificate_is_for(self.chain[0], name)


def certificate_is_for(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate has this host name or IP address."""
    address = server_address(name)
    try:
        if address is not None:
            verify_certificate_ip_address(certificate, str(address))
        else:
            verify_certificate_hostname(certificate, name)
    except Exception:  # VerificationError, and whatever odd extensions make `cryptography` raise
        return False
    return True


class Roots:
    """The authorities whose word we take: those of the system, or of a PEM file.

    Raises OSError or `OpenSSL.SSL.Error` where the file cannot be used.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self._context = _context()
        if file is None:
            self._context.set_default_verify_paths()
        else:
            if not file.is_file():
                raise FileNotFoundError(2, "no such file", str(file))
            self._context.load_verify_locations(str(file))
        self._context.set_verify(SSL.VERIFY_PEER, _note)

    def connection(self, server_name: str) -> ClientTls:
        """What begins TLS with a server of this name."""
        return ClientTls(server_name, self._context)

    def proving(self, host: str) -> ProvingTls:
        """What begins TLS with a server that must prove this name or address, or there is no TLS."""
        return ProvingTls(host, self._context)


@implementer(IOpenSSLClientConnectionCreator)
class ProvingTls:
    """Begins TLS with a server whose certificate a root vouches for and whose name it is (RFC 9525)."""

    def __init__(self, host: str, context: SSL.Context) -> None:
        self._host = host
        self._context = context

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Called by Twisted."""
        connection = SSL.Connection(self._context, None)
        if server_address(self._host) is None:
            connection.set_tlsext_host_name(self._host.encode("ascii", "ignore"))  # RFC 6066 section 3
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._judge)
        return connection

    def _judge(self, _connection: Any, certificate: Any, _number: int, depth: int, ok: int) -> bool:
        """Called by OpenSSL for each certificate, the server's own last."""
        if not ok or depth:
            return bool(ok)
        try:
            return certificate_is_for(certificate.to_cryptography(), self._host)
        except Exception:  # nothing may leave a callback of OpenSSL
            return False


def _note(connection: SSL.Connection, certificate: Any, number: int, depth: int, ok: int) -> bool:
    """Called by OpenSSL for each certificate: a problem is kept, the handshake goes on."""
    if not ok:
        _judged[connection].append(number)
    return True


def _context() -> SSL.Context:
    return CertificateOptions(raiseMinimumTo=TLSVersion.TLSv1_2, trustRoot=None).getContext()


_judged: WeakKeyDictionary[SSL.Connection, list[int]] = WeakKeyDictionary()


@implementer(IOpenSSLClientConnectionCreator)
class ClientTls:
    """Begins TLS on one connection; afterwards, `shown` tells with whom."""

    _unjudged: SSL.Context | None = None

    def __init__(self, server_name: str, context: SSL.Context | None = None) -> None:
        self._server_name = server_name
        if context is None:
            context = ClientTls._unjudged = ClientTls._unjudged or _context()
        self._context = context
        self._connection: SSL.Connection | None = None
        self.problems: list[int] = []

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Called by Twisted."""
        self._connection = connection = SSL.Connection(self._context, None)
        _judged[connection] = self.problems  # its "app data" is Twisted's
        if server_address(self._server_name) is None:
            connection.set_tlsext_host_name(self._server_name.encode("ascii", "ignore"))  # RFC 6066 section 3
        return connection

    def shown(self) -> Shown:
        """What the server showed; call it once the handshake is over."""
        connection = self._connection
        assert connection is not None
        presented = connection.get_peer_cert_chain() or []
        chain = _readable(presented)
        problem = None
        if self.problems:
            problem = _PROBLEMS.get(
                self.problems[0], f"the certificate is not valid (X509 {self.problems[0]})"
            )
        elif not chain:
            problem = "the certificate cannot be read" if presented else "the server showed no certificate"
        return Shown(
            chain,
            problem,
            bool(self.problems) and all(number in _EXPIRED for number in self.problems),
            connection.get_protocol_version_name(),
            connection.get_cipher_name() or "",
        )


def _readable(presented: Iterable[X509]) -> tuple[x509.Certificate, ...]:
    """A chain without what `cryptography` cannot read, which is stricter than OpenSSL and many a server.

    It is empty where that is the first, the server's own.
    """
    chain: list[x509.Certificate] = []
    for place, one in enumerate(presented):
        try:
            chain.append(one.to_cryptography())
        except Exception:  # ValueError, InvalidVersion, and others that it has for what is odd
            if not place:
                return ()
    return tuple(chain)
