"""Keys: RSA and Ed25519, made, kept as PEM, published in the DNS (RFC 6376 section 3.6.1, RFC 8463)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from mailstack.mail.dkim import tags

Algorithm = Literal["rsa", "ed25519"]

RSA_BITS = 2048  # of a key that we make (RFC 8301 section 3.2)
LEAST_BITS, MOST_BITS = 1024, 8192  # of one that we verify with
_SHA256 = Prehashed(hashes.SHA256())


class BadKey(ValueError):
    """There is no such key, or none that may be used; the message says why."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs."""

    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

    @classmethod
    def make(cls, algorithm: Algorithm) -> PrivateKey:
        """A new one; RSA takes some 100 ms."""
        if algorithm == "ed25519":
            return cls(ed25519.Ed25519PrivateKey.generate())
        return cls(rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS))

    @classmethod
    def load(cls, pem: str) -> PrivateKey:
        """The key in PKCS 8 or PKCS 1; raise BadKey."""
        try:
            key = serialization.load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise BadKey(f"no private key in PEM without a password: {error}") from error
        if isinstance(key, rsa.RSAPrivateKey):
            if not LEAST_BITS <= key.key_size <= MOST_BITS:
                raise BadKey(f"an RSA key of {key.key_size} bits (RFC 8301: 1024 at least, better 2048)")
            return cls(key)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return cls(key)
        raise BadKey("neither RSA nor Ed25519")

    @property
    def algorithm(self) -> Algorithm:
        """Its kind, as k= says it."""
        return "rsa" if isinstance(self.key, rsa.RSAPrivateKey) else "ed25519"

    def pem(self) -> str:
        """PKCS 8, without a password."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest (RFC 8463 section 3: Ed25519 signs the digest itself)."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(digest, PKCS1v15(), _SHA256)
        return self.key.sign(digest)

    def record(self) -> str:
        """The text of the TXT record that publishes the public key."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            data = self.key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        else:
            data = self.key.public_key().public_bytes(
                serialization.Encoding.Raw, serialization.PublicFormat.Raw
            )
        return f"v=DKIM1; k={self.algorithm}; p={base64.b64encode(data).decode()}"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies, as the DNS has it."""

    key: rsa.RSAPublicKey | ed25519.Ed25519PublicKey
    testing: bool = False  # t=y: the domain only tries
    strict: bool = False  # t=s: i= must be in d= itself

    @classmethod
    def parse(cls, record: bytes) -> PublicKey:
        """Read a TXT record (RFC 6376 section 3.6.1); raise BadKey: it counts as none."""
        try:
            found = tags.parse(record)
            if found.get("v", "DKIM1") != "DKIM1" or ("v" in found and next(iter(found)) != "v"):
                raise BadKey("not a DKIM1 record")
            if "p" not in found:
                raise BadKey("no p=")
            if not found["p"]:
                raise BadKey("key revoked")
            flags = _list(found.get("t", ""))
            if "sha256" not in _list(found.get("h", "sha256")):
                raise BadKey("not for sha256")
            if not {"*", "email"} & set(_list(found.get("s", "*"))):
                raise BadKey("not for mail")
            key = _public(found.get("k", "rsa"), tags.octets(found["p"]))
        except tags.BadTags as error:
            raise BadKey(str(error)) from error
        return cls(key, "y" in flags, "s" in flags)

    @property
    def algorithm(self) -> Algorithm:
        """Its kind, as k= says it."""
        return "rsa" if isinstance(self.key, rsa.RSAPublicKey) else "ed25519"

    def verifies(self, signature: bytes, digest: bytes) -> bool:
        """Whether `signature` is of that SHA-256 digest."""
        try:
            if isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, digest, PKCS1v15(), _SHA256)
            else:
                self.key.verify(signature, digest)
        except InvalidSignature:
            return False
        return True


def _list(text: str) -> list[str]:
    return [one.strip().lower() for one in text.split(":") if one.strip()]


def _public(kind: str, data: bytes) -> rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    try:
        if kind == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(data)
        if kind != "rsa":
            raise BadKey(f"unknown key type {kind[:20]}")
        try:
            key = serialization.load_der_public_key(data)
        except ValueError:  # some publish the bare RSAPublicKey
            pem = b"-----BEGIN RSA PUBLIC KEY-----\n%s-----END RSA PUBLIC KEY-----\n"
            key = serialization.load_pem_public_key(pem % base64.encodebytes(data))
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, BadKey):
            raise
        raise BadKey("broken key") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadKey("not the key type that k= says")
    if not LEAST_BITS <= key.key_size <= MOST_BITS:
        raise BadKey(f"key of {key.key_size} bits")  # RFC 8301 section 3.2
    return key
