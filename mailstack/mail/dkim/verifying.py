"""Verifying DKIM signatures (RFC 6376 section 6), without asking anybody anything.

Use: make a `Verifier` of the header section, give it the body, look up the TXT records it names, `conclude`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailstack.mail.dkim import tags
from mailstack.mail.dkim.canonical import BodyHash, relaxed_field, simple_field
from mailstack.mail.dkim.keys import BadKey, PublicKey
from mailstack.mail.dkim.signing import select
from mailstack.mail.fields import split_fields

MOST_SIGNATURES = 8  # of one message that are verified (RFC 6376 section 8.4)
_ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}  # RFC 8301: rsa-sha1 must not be verified
_CANONICAL = ("simple", "relaxed")

Records = Mapping[str, Sequence[bytes] | None]  # by DNS name; None: the look-up failed for now


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one signature is worth, in the words of RFC 8601 section 2.7.1."""

    result: str  # pass, fail, permerror, temperror, neutral
    domain: str
    selector: str
    reason: str = ""
    algorithm: str = ""
    identity: str = ""  # i=
    signature: str = ""  # the first octets of b=, to tell several apart (RFC 6008)
    testing: bool = False


class Failed(Exception):
    """A signature does not verify: a result and its reason."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


@dataclass(frozen=True, slots=True)
class Signature:
    """A DKIM-Signature or ARC-Message-Signature field, read."""

    raw: bytes
    tags: dict[str, str]
    domain: str
    selector: str
    algorithm: str
    header: str  # canonicalization
    body: str
    names: tuple[bytes, ...]  # h=
    body_hash: bytes
    signature: bytes

    @classmethod
    def parse(cls, raw: bytes, arc: bool = False) -> Signature:
        """Read the whole field; raise tags.BadTags."""
        found = tags.parse(raw.partition(b":")[2])
        algorithm, signature, domain, selector, names, hashed = tags.required(
            found, "a", "b", "d", "s", "h", "bh"
        )
        if not arc and tags.required(found, "v") != ["1"]:
            raise tags.BadTags("v= is not 1")
        header, _, body = found.get("c", "simple/simple").lower().partition("/")
        body = body or "simple"
        if header not in _CANONICAL or body not in _CANONICAL:
            raise tags.BadTags("unknown c=")
        signed = tags.names(names)
        if b"from" not in signed:
            raise tags.BadTags("From is not signed")
        if arc and b"arc-seal" in signed:
            raise tags.BadTags("ARC-Seal is signed")  # RFC 8617 section 4.1.2
        return cls(
            raw,
            found,
            domain.lower().rstrip("."),
            selector,
            algorithm.lower(),
            header,
            body,
            tuple(signed),
            tags.octets(hashed),
            tags.octets(signature),
        )

    @property
    def name(self) -> str:
        """Where its key is published."""
        return f"{self.selector}._domainkey.{self.domain}"

    def hash_of_body(self) -> BodyHash:
        """What the body is to be given to."""
        return BodyHash(self.body == "relaxed", tags.number(self.tags, "l"))

    def digest(self, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """What is signed: the selected fields and this one without its b= (RFC 6376 section 3.7)."""
        canonical = relaxed_field if self.header == "relaxed" else simple_field
        others = [pair for pair in fields if pair[1] is not self.raw]
        own = canonical(tags.without_signature(self.raw))[:-2]
        data = b"".join(map(canonical, select(others, self.names))) + own
        return hashlib.sha256(data).digest()

    def check(self, digest: bytes, records: Records) -> PublicKey:
        """The key that it verifies with; raise Failed."""
        if self.algorithm not in _ALGORITHMS:
            raise Failed("permerror", f"algorithm {self.algorithm[:20]} is not taken")
        key = key_of(records, self.name)
        if key.algorithm != _ALGORITHMS[self.algorithm]:
            raise Failed("permerror", "inappropriate key algorithm")
        if not key.verifies(self.signature, digest):
            raise Failed("fail", "bad signature")
        return key


def key_of(records: Records, name: str) -> PublicKey:
    """The first usable key of a name; raise Failed."""
    found = records.get(name)
    if found is None:
        raise Failed("temperror", f"no answer about {name}")
    reason = f"no key at {name}"
    for record in found[:4]:
        try:
            return PublicKey.parse(record)
        except BadKey as error:
            reason = f"{error} at {name}"
    raise Failed("permerror", reason)


class Verifier:
    """All DKIM signatures of one message. `now` is in seconds of the epoch."""

    def __init__(self, header: bytes, now: float) -> None:
        self._fields = split_fields(header)
        self._now = now
        self._signatures: list[tuple[Signature, BodyHash] | Verdict] = []
        raws = [raw for name, raw in self._fields if name == b"dkim-signature"]
        for raw in raws[:MOST_SIGNATURES]:
            try:
                signature = Signature.parse(raw)
                self._signatures.append((signature, signature.hash_of_body()))
            except tags.BadTags as error:
                self._signatures.append(Verdict("permerror", "", "", str(error)))

    @property
    def names(self) -> list[str]:
        """The TXT records to look up."""
        found = [one[0].name for one in self._signatures if not isinstance(one, Verdict)]
        return list(dict.fromkeys(found))

    def body(self, chunk: bytes) -> None:
        """The next octets of the body."""
        for one in self._signatures:
            if not isinstance(one, Verdict):
                one[1].update(chunk)

    def conclude(self, records: Records) -> list[Verdict]:
        """A verdict for each signature, in their order."""
        return [
            one if isinstance(one, Verdict) else self._verdict(one[0], one[1], records)
            for one in self._signatures
        ]

    def _verdict(self, signature: Signature, hashed: BodyHash, records: Records) -> Verdict:
        testing = False
        try:
            testing = self._check(signature, hashed, records).testing
            result, reason = "pass", ""
        except Failed as error:
            result, reason = error.result, str(error)
        except tags.BadTags as error:
            result, reason = "permerror", str(error)
        return Verdict(
            result,
            signature.domain,
            signature.selector,
            reason,
            signature.algorithm,
            signature.tags.get("i", f"@{signature.domain}"),
            signature.tags["b"][:8],
            testing,
        )

    def _check(self, signature: Signature, hashed: BodyHash, records: Records) -> PublicKey:
        expires = tags.number(signature.tags, "x")
        if expires is not None and expires < self._now:
            raise Failed("fail", "expired")
        identity = signature.tags.get("i", f"@{signature.domain}").rpartition("@")[2].lower()
        if identity != signature.domain and not identity.endswith(f".{signature.domain}"):
            raise Failed("permerror", "i= is not in d=")
        limit = tags.number(signature.tags, "l")
        digest = hashed.digest()
        if limit is not None and hashed.octets < limit:
            raise Failed("fail", "l= is more than the body has")
        if not hmac.compare_digest(digest, signature.body_hash):
            raise Failed("fail", "body hash did not verify")
        key = signature.check(signature.digest(self._fields), records)
        if key.strict and identity != signature.domain:
            raise Failed("permerror", "i= is not d=, as the key demands")
        return key
