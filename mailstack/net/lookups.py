"""The resolver as SPF, DKIM and DMARC ask it: no exception of its own, names that cannot be are not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import dns.exception
import dns.reversename
from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred, gatherResults

from mailstack.mail.lookups import LookupFailed
from mailstack.net.resolver import DnsError, NoSuchDomain, Questions, Resolver

MOST_KEYS = 16  # looked up for one message


class DnsLookups:
    """See `mailstack.mail.lookups.Lookups`."""

    def __init__(self, resolver: Resolver | Questions) -> None:
        self._resolver = resolver

    async def txt(self, name: str) -> Sequence[bytes]:
        """The TXT records."""
        return [b"".join(record.strings) for record in await self._records(name, RdataType.TXT)]

    async def addresses(self, name: str, six: bool) -> Sequence[str]:
        """The A records, or the AAAA records."""
        kind = RdataType.AAAA if six else RdataType.A
        return [str(record.address) for record in await self._records(name, kind)]

    async def exchangers(self, name: str) -> Sequence[str]:
        """The hosts of the MX records."""
        records = sorted(await self._records(name, RdataType.MX), key=lambda record: int(record.preference))
        return [record.exchange.to_text(omit_final_dot=True) for record in records]

    async def names(self, address: str) -> Sequence[str]:
        """The names in the PTR records."""
        reverse = dns.reversename.from_address(address).to_text()
        found = await self._records(reverse, RdataType.PTR)
        return [record.target.to_text(omit_final_dot=True) for record in found]

    async def exists(self, name: str) -> bool:
        """False where the DNS says NXDOMAIN."""
        try:
            await self._resolver.records(name, RdataType.MX)
        except NoSuchDomain:
            return False
        except DnsError as error:
            raise LookupFailed(str(error)) from error
        return True

    async def keys(self, names: Iterable[str]) -> dict[str, Sequence[bytes] | None]:
        """The TXT records of the first MOST_KEYS names, all at once; None: no answer for now."""
        asked = list(dict.fromkeys(names))[:MOST_KEYS]
        found = await gatherResults([Deferred.fromCoroutine(self._key(name)) for name in asked])
        return dict(zip(asked, found, strict=True))

    async def _key(self, name: str) -> Sequence[bytes] | None:
        try:
            return await self.txt(name)
        except LookupFailed:
            return None

    async def _records(self, name: str, kind: RdataType) -> list[Any]:
        try:
            return await self._resolver.records(name, kind)
        except NoSuchDomain:
            return []
        except DnsError as error:
            raise LookupFailed(str(error)) from error
