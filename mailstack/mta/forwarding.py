"""Forwarding that arrives: a reverse-path of ours, the message as it was, and a seal over what we verified.

Theory of operation. Not an octet of the message changes, so its DKIM signatures hold; what SPF would say is
ours to answer for (`ReturnPaths`); and ARC (RFC 8617) tells the next server what we found when the message
came: we verify its signatures and its chain with the keys in the DNS, and seal that with the key of the
forwarding domain. All of it happens at the attempt, so a day in the queue costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.dkim import Chain, Signer, Verdict, Verifier
from mailstack.mail.dkim.arc import Sealing, seal
from mailstack.mail.dkim.canonical import BodyHash
from mailstack.mail.dkim.signing import split
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.net.resolver import DnsError, NoSuchDomain
from mailstack.signing import Keyring
from mailstack.trail.notes import FORWARDED, NO_NOTES, Notes
from mailstack.work import Work

_log = Logger(namespace="mailstack.queue")

MOST_NAMES = 16  # keys looked up for one message


class Rewrites(Protocol):
    """What is asked of `ReturnPaths`."""

    async def rewrite(self, reverse_path: Address | None, domain: str) -> Address | None: ...


class Texts(Protocol):
    """What is asked of the resolver."""

    async def txt(self, name: str) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class _Read:
    """One message, read once."""

    header: bytes
    body_hash: bytes
    verifier: Verifier
    chain: Chain


class Forwarding:
    """Readies mail for its way to an address elsewhere. `clock` is the reactor."""

    def __init__(
        self,
        return_paths: Rewrites,
        work: Work,
        clock: Any,
        *,
        hostname: str,
        keyring: Keyring | None = None,
        resolver: Texts | None = None,
        trail: Notes = NO_NOTES,
    ) -> None:
        self._return_paths = return_paths
        self._work = work
        self._clock = clock
        self._hostname = hostname
        self._keyring = keyring  # None, as without a resolver: nothing is sealed
        self._resolver = resolver
        self._trail = trail

    async def onward(self, by: Address, envelope: Envelope, message: Message) -> tuple[Envelope, Message]:
        """Envelope and message as they go on from our address `by`."""
        reverse_path = await self._return_paths.rewrite(envelope.reverse_path, by.domain)
        fields, results = b"", ""
        try:
            fields, results = await self._sealed(by, message)
        except CancelledError:
            raise
        except Exception:
            _log.failure("{id}: forwarded without a seal", id=envelope.id)
        self._trail.note(
            envelope.id, FORWARDED, by, reverse_path=f"<{reverse_path or ''}>", sealed=results or None
        )
        return replace(envelope, reverse_path=reverse_path), message.prefixed(fields) if fields else message

    async def _sealed(self, by: Address, message: Message) -> tuple[bytes, str]:
        if self._keyring is None or self._resolver is None:
            return b"", ""
        signers = [one for one in await self._keyring.signers(by.domain) if one.key.algorithm == "rsa"]
        if not signers:
            return b"", ""
        now = self._clock.seconds()
        read = await self._work.files(_read, message, now)
        names = list(dict.fromkeys([*read.chain.names, *read.verifier.names]))[:MOST_NAMES]
        found = await gatherResults([Deferred.fromCoroutine(self._key(name)) for name in names])
        records = dict(zip(names, found, strict=True))
        return await self._work.files(_seal, read, records, signers[-1], self._hostname, int(now))

    async def _key(self, name: str) -> list[bytes] | None:
        assert self._resolver is not None
        try:
            return await self._resolver.txt(name)
        except NoSuchDomain:
            return []
        except DnsError:
            return None


def _read(message: Message, now: float) -> _Read:
    """Blocks."""
    header, body = split(iter(message.chunks()))
    verifier, chain, hashed = Verifier(header, now), Chain(header), BodyHash(relaxed=True)
    for chunk in body:
        for one in (verifier.body, chain.body, hashed.update):
            one(chunk)
    return _Read(header, hashed.digest(), verifier, chain)


def _seal(
    read: _Read, records: dict[str, list[bytes] | None], signer: Signer, authserv: str, now: int
) -> tuple[bytes, str]:
    state, _ = read.chain.conclude(records)
    results = "; ".join([*map(_words, read.verifier.conclude(records)), f"arc={state}"])
    what = Sealing(signer, authserv, results.replace("; ", ";\r\n\t"), state, now)
    return seal(read.header, read.body_hash, read.chain, what), results


def _words(verdict: Verdict) -> str:
    """One result in the words of RFC 8601 section 2.7.1."""
    if not verdict.domain:
        return f"dkim={verdict.result}"
    return f"dkim={verdict.result} header.d={_safe(verdict.domain)} header.s={_safe(verdict.selector)}"


def _safe(text: Iterable[str]) -> str:
    """What is from an enemy's field, for ours: a domain name or nothing."""
    return "".join(one for one in text if one.isascii() and (one.isalnum() or one in "._-"))[:255]
