"""Reading a message once for all that is verified of it: its DKIM signatures and its ARC chain.

Theory of operation. `read` blocks and hashes, the caller looks up the keys that the `Reading` names, and
`conclude` is arithmetic again, for a thread too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mailstack.mail.dkim import Chain, Verdict, Verifier
from mailstack.mail.dkim.canonical import BodyHash
from mailstack.mail.dkim.verifying import Records
from mailstack.mail.results import Result


@dataclass(frozen=True, slots=True)
class Reading:
    """One message, read."""

    header: bytes
    body_hash: bytes  # of the relaxed form
    verifier: Verifier
    chain: Chain

    @property
    def names(self) -> list[str]:
        """The TXT records to look up: those of the signatures first."""
        return list(dict.fromkeys([*self.verifier.names, *self.chain.names]))

    def conclude(self, records: Records) -> Verified:
        """What it is worth."""
        return Verified(tuple(self.verifier.conclude(records)), *self.chain.conclude(records))


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in a message."""

    signatures: tuple[Verdict, ...]
    chain: str  # none, pass, fail
    reason: str = ""  # of a chain that failed

    @property
    def domains(self) -> tuple[str, ...]:
        """d= of the signatures that verify."""
        return tuple(one.domain for one in self.signatures if one.result == "pass")

    def results(self) -> list[Result]:
        """In the words of RFC 8601 sections 2.7.1 and RFC 8617 section 5."""
        found = [_result(one) for one in self.signatures] or [Result("dkim", "none")]
        return [*found, Result("arc", self.chain, reason=self.reason)]


def read(header: bytes, body: Iterable[bytes], now: float) -> Reading:
    """Read a message; `now` is in seconds of the epoch. Blocks where the body is in a file."""
    verifier, chain, hashed = Verifier(header, now), Chain(header), BodyHash(relaxed=True)
    for chunk in body:
        for one in (verifier.body, chain.body, hashed.update):
            one(chunk)
    return Reading(header, hashed.digest(), verifier, chain)


def _result(verdict: Verdict) -> Result:
    properties = (
        ("header.d", verdict.domain),
        ("header.s", verdict.selector),
        ("header.a", verdict.algorithm),
        ("header.b", verdict.signature),
        ("header.i", verdict.identity if verdict.identity != f"@{verdict.domain}" else ""),
    )
    return Result("dkim", verdict.result, properties, verdict.reason)
