"""A SCRAM client (RFC 5802), written apart from the server's side, for tests of it."""

from __future__ import annotations

import base64
import hashlib
import hmac


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


class ScramClient:
    """One exchange from the client's side; what it sends can be bent by the test."""

    def __init__(
        self,
        mechanism: str,
        login: str,
        password: str,
        *,
        nonce: str = "fyko+d2lbbFgONRv9qkxdawL",
        header: bytes = b"n,,",
        binding: bytes = b"",
    ) -> None:
        self.digest = "sha1" if mechanism.startswith("SCRAM-SHA-1") else "sha256"
        self.password = password.encode()
        self.header = header
        self.binding = binding
        name = login.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={name},r={nonce}".encode()

    def first(self) -> bytes:
        return self.header + self.bare

    def final(self, challenge: bytes) -> bytes:
        nonce, salt, iterations = (part[2:] for part in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac(self.digest, self.password, base64.b64decode(salt), int(iterations))
        client_key = hmac.digest(salted, b"Client Key", self.digest)
        stored_key = hashlib.new(self.digest, client_key).digest()
        without_proof = b"c=" + b64(self.header + self.binding) + b",r=" + nonce
        message = b",".join((self.bare, challenge, without_proof))
        signature = hmac.digest(stored_key, message, self.digest)
        server_key = hmac.digest(salted, b"Server Key", self.digest)
        self.expected = b"v=" + b64(hmac.digest(server_key, message, self.digest))
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return without_proof + b",p=" + b64(proof)
