"""What SPF and DMARC ask of the DNS. Names are in A-labels; who answers is given by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class LookupFailed(Exception):
    """No answer for now: a time-out, SERVFAIL; the message says about what."""


class Lookups(Protocol):
    """Answers; empty where there are none, for whatever reason. Each raises LookupFailed."""

    async def txt(self, name: str) -> Sequence[bytes]: ...

    async def addresses(self, name: str, six: bool) -> Sequence[str]:
        """The A records, or with `six` the AAAA records."""

    async def exchangers(self, name: str) -> Sequence[str]:
        """The hosts of the MX records."""

    async def names(self, address: str) -> Sequence[str]:
        """The names in the PTR records of an IP address."""

    async def exists(self, name: str) -> bool:
        """False where the DNS says NXDOMAIN."""
