"""Forwarding that arrives: a reverse-path of ours, the message as it was, and a seal over what we verified.

Theory of operation. Not an octet of the message changes, so its DKIM signatures hold; what SPF would say is
ours to answer for (`ReturnPaths`); and ARC (RFC 8617) tells the next server what we found when the message
came: we verify its signatures and its chain with the keys in the DNS, and seal that with the key of the
forwarding domain. All of it happens at the attempt, so a day in the queue costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.dkim import Signer
from mailstack.mail.dkim.arc import Sealing, seal
from mailstack.mail.dkim.signing import split
from mailstack.mail.dkim.verifying import Records
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.results import found_by, written
from mailstack.signing.keyring import Keyring
from mailstack.signing.verification import Reading, read
from mailstack.trail.notes import FORWARDED, NO_NOTES, Notes
from mailstack.work import Work

_log = Logger(namespace="mailstack.queue")


class Rewrites(Protocol):
    """What is asked of `ReturnPaths`."""

    async def rewrite(self, reverse_path: Address | None, domain: str) -> Address | None: ...


class Keys(Protocol):
    """What is asked of `mailstack.net.lookups.DnsLookups`."""

    async def keys(self, names: Iterable[str]) -> Records: ...


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
        lookups: Keys | None = None,
        verified: bool = False,
        trail: Notes = NO_NOTES,
    ) -> None:
        self._return_paths = return_paths
        self._work = work
        self._clock = clock
        self._hostname = hostname
        self._keyring = keyring  # None, as without look-ups: nothing is sealed
        self._lookups = lookups
        self._verified = verified  # the results that our name stands over, in what comes in, are our own
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
        if self._keyring is None or self._lookups is None:
            return b"", ""
        signers = [one for one in await self._keyring.signers(by.domain) if one.key.algorithm == "rsa"]
        if not signers:
            return b"", ""
        now = self._clock.seconds()
        reading: Reading = await self._work.files(_read, message, now)
        records = await self._lookups.keys(reading.names)
        about = self._hostname, int(now), self._verified
        return await self._work.files(_seal, reading, records, signers[-1], *about)


def _read(message: Message, now: float) -> Reading:
    """Blocks."""
    return read(*split(iter(message.chunks())), now)


def _seal(
    reading: Reading, records: Records, signer: Signer, authserv: str, now: int, verified: bool
) -> tuple[bytes, str]:
    """The set of fields, and the results in it: those found when the message came, else those of now."""
    found = reading.conclude(records)
    results = found_by(reading.header, authserv) if verified else None
    if results is None:
        results = written(found.results())
    what = Sealing(signer, authserv, results, found.chain, now)
    return seal(reading.header, reading.body_hash, reading.chain, what), " ".join(results.split())
