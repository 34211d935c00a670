"""An OpenID provider's keys and tokens, for tests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://id.example.test"
AUDIENCE = "mailstack"


class Signer:
    """One key of the provider."""

    def __init__(self, name: str, algorithm: str = "ES256") -> None:
        self.name = name
        self.algorithm = algorithm
        self.key: Any
        kind: Any
        if algorithm == "RS256":
            self.key, kind = rsa.generate_private_key(65537, 2048), RSAAlgorithm
        elif algorithm == "ES256":
            self.key, kind = ec.generate_private_key(ec.SECP256R1()), ECAlgorithm
        else:
            self.key, kind = ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm
        self.public = {**kind.to_jwk(self.key.public_key(), as_dict=True), "kid": name, "use": "sig"}

    def token(self, address: str, named: bool = True, **claims: Any) -> str:
        """A token that is good for five minutes, but for `claims`; None takes one out."""
        usual = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 300, "email": address, **claims}
        said = {name: value for name, value in usual.items() if value is not None}
        return jwt.encode(said, self.key, self.algorithm, {"kid": self.name} if named else None)


def key_set(*signers: Signer) -> bytes:
    """The JWKS document."""
    return json.dumps({"keys": [signer.public for signer in signers]}).encode()


def write_key_set(path: Path, *signers: Signer) -> Path:
    """The JWKS document in a file."""
    path.write_bytes(key_set(*signers))
    return path
