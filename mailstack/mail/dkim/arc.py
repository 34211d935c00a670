"""ARC: what those who passed a message on had verified, sealed (RFC 8617).

Theory of operation. Each handler adds a set of three fields with one instance number i=. A `Chain` reads and
verifies them all; `seal` adds the next. A chain that is broken or already failed is never mended.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailstack.mail.dkim import tags
from mailstack.mail.dkim.canonical import BodyHash, relaxed_field
from mailstack.mail.dkim.signing import OVERSIGNED, Signer, finished, select
from mailstack.mail.dkim.verifying import Failed, Records, Signature, key_of
from mailstack.mail.fields import split_fields

MOST_SETS = 50  # RFC 8617 section 4.2.1
_KINDS = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")
_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,3})[ \t\r\n]*;")
_SIGNED = (*OVERSIGNED, "DKIM-Signature")


@dataclass(frozen=True, slots=True)
class _Set:
    results: bytes  # ARC-Authentication-Results, as all here a whole field
    signature: bytes
    seal: bytes

    @property
    def fields(self) -> tuple[bytes, bytes, bytes]:
        """All three, in the order in which they are sealed."""
        return self.results, self.signature, self.seal


class Chain:
    """The ARC sets of one message."""

    def __init__(self, header: bytes) -> None:
        self._fields = split_fields(header)
        self._broken = ""
        self._sets: list[_Set] = []
        self._newest: tuple[Signature, BodyHash] | None = None
        try:
            self._sets = _sets(self._fields)
            if self._sets:
                signature = Signature.parse(self._sets[-1].signature, arc=True)
                self._newest = signature, signature.hash_of_body()
            self._seals = [_seal_tags(one.seal) for one in self._sets]
        except tags.BadTags as error:
            self._broken = str(error)
            self._seals = []

    @property
    def length(self) -> int:
        """How many sets there are; as many as are claimed where the chain is broken."""
        return len(self._sets) or sum(name == b"arc-seal" for name, _ in self._fields)

    @property
    def names(self) -> list[str]:
        """The TXT records to look up."""
        found = [f"{seal['s']}._domainkey.{seal['d'].lower()}" for seal in self._seals]
        if self._newest:
            found.append(self._newest[0].name)
        return list(dict.fromkeys(found))

    @property
    def sealers(self) -> list[str]:
        """The domains that sealed, the first of them first."""
        return [seal["d"].lower().rstrip(".") for seal in self._seals]

    def first_says(self, method: str, result: str) -> bool:
        """Whether the first who sealed had found that result."""
        said = re.compile(rf"(?i);[ \t\r\n]*{method}[ \t]*=[ \t]*{result}(?![\w-])".encode())
        return bool(self._sets) and said.search(self._sets[0].results) is not None

    def body(self, chunk: bytes) -> None:
        """The next octets of the body."""
        if self._newest:
            self._newest[1].update(chunk)

    def conclude(self, records: Records) -> tuple[str, str]:
        """The chain's state, "none", "pass" or "fail", and the reason (RFC 8617 section 5.2)."""
        if self._broken:
            return "fail", self._broken
        if not self._sets:
            return "none", ""
        try:
            self._check(records)
        except Failed as error:
            return "fail", str(error)
        except tags.BadTags as error:
            return "fail", str(error)
        return "pass", ""

    def _check(self, records: Records) -> None:
        for number, seal in enumerate(self._seals, 1):
            if seal.get("cv") != ("none" if number == 1 else "pass"):
                raise Failed("fail", f"i={number}: cv={seal.get('cv', '')[:10]}")
        assert self._newest is not None
        signature, hashed = self._newest
        if not hmac.compare_digest(hashed.digest(), signature.body_hash):
            raise Failed("fail", f"i={len(self._sets)}: body hash did not verify")
        signature.check(signature.digest(self._fields), records)
        for number in range(len(self._sets), 0, -1):
            self._check_seal(number, records)

    def _check_seal(self, number: int, records: Records) -> None:
        seal = self._seals[number - 1]
        if seal["a"].lower() != "rsa-sha256":
            raise Failed("fail", f"i={number}: unknown a=")
        key = key_of(records, f"{seal['s']}._domainkey.{seal['d'].lower()}")
        if key.algorithm != "rsa":
            raise Failed("fail", f"i={number}: inappropriate key algorithm")
        last = self._sets[number - 1]
        own = relaxed_field(tags.without_signature(last.seal))[:-2]
        covered = (
            _covered(self._sets[: number - 1]) + relaxed_field(last.results) + relaxed_field(last.signature)
        )
        digest = hashlib.sha256(covered + own).digest()
        if not key.verifies(tags.octets(seal["b"]), digest):
            raise Failed("fail", f"i={number}: bad seal")

    @property
    def sealed_as_failed(self) -> bool:
        """Whether the newest seal says so itself: nothing more is to be added (RFC 8617 section 5.1.2)."""
        return bool(self._seals) and self._seals[-1].get("cv") == "fail"

    def covered(self, state: str) -> bytes:
        """What the next seal covers of the sets so far: all, but none of a chain that failed."""
        return b"" if state == "fail" else _covered(self._sets)


@dataclass(frozen=True, slots=True)
class Sealing:
    """What the next seal says."""

    signer: Signer
    authserv: str  # our name in the results
    results: str  # "dkim=pass header.d=example.org; arc=none"
    state: str  # of the chain so far: none, pass, fail
    now: int


def seal(header: bytes, body_hash: bytes, chain: Chain, what: Sealing) -> bytes:
    """The next set of fields, to be put in front; empty where none is to be added (RFC 8617 section 5.1).

    `body_hash` is of the relaxed form.
    """
    instance = chain.length + 1
    if instance > MOST_SETS or chain.sealed_as_failed or what.signer.key.algorithm != "rsa":
        return b""
    fields = split_fields(header)
    signer, key = what.signer, what.signer.key
    results = f"ARC-Authentication-Results: i={instance}; {what.authserv};\r\n\t{what.results}\r\n".encode()
    names = [name for name in _SIGNED for field, _ in fields if field == name.lower().encode()]
    signed = b"".join(map(relaxed_field, select(fields, [name.lower().encode() for name in names])))
    common = f"i={instance}; a=rsa-sha256; d={signer.domain}; s={signer.selector};\r\n\tt={what.now}"
    message = finished(
        f"ARC-Message-Signature: {common}; c=relaxed/relaxed;\r\n"
        f"\th={_listed(names)};\r\n\tbh={base64.b64encode(body_hash).decode()};\r\n\tb=",
        signed,
        key,
    )
    covered = chain.covered(what.state) + relaxed_field(results) + relaxed_field(message)
    return finished(f"ARC-Seal: {common}; cv={what.state};\r\n\tb=", covered, key) + message + results


def _listed(names: Sequence[str]) -> str:
    return ":\r\n\t ".join(":".join(names[at : at + 5]) for at in range(0, len(names), 5))


def _covered(sets: Sequence[_Set]) -> bytes:
    return b"".join(relaxed_field(raw) for one in sets for raw in one.fields)


def _sets(fields: Sequence[tuple[bytes, bytes]]) -> list[_Set]:
    """The sets by instance; raise BadTags unless each is whole, once, and none is missing."""
    found: dict[int, dict[bytes, bytes]] = {}
    for name, raw in fields:
        if name not in _KINDS:
            continue
        match = _INSTANCE.match(raw.partition(b":")[2])
        instance = int(match[1]) if match else _late_instance(raw)
        if not 1 <= instance <= MOST_SETS:
            raise tags.BadTags("a set without its number")
        if found.setdefault(instance, {}).setdefault(name, raw) is not raw:
            raise tags.BadTags(f"i={instance} twice")
    if sorted(found) != list(range(1, len(found) + 1)) or any(len(one) != 3 for one in found.values()):
        raise tags.BadTags("a set is not whole")
    return [_Set(*(found[number][kind] for kind in _KINDS)) for number in sorted(found)]


def _late_instance(raw: bytes) -> int:
    """i= where it is not the first tag, as it may be in the two signatures."""
    if raw.lower().startswith(_KINDS[0]):
        return 0
    return tags.number(tags.parse(raw.partition(b":")[2]), "i") or 0


def _seal_tags(raw: bytes) -> dict[str, str]:
    found = tags.parse(raw.partition(b":")[2])
    tags.required(found, "a", "b", "d", "s", "cv")
    if "h" in found:
        raise tags.BadTags("h= in a seal")  # RFC 8617 section 4.1.3
    return found
