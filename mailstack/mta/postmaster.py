"""Who is told what nobody else can be told (RFC 5321 section 4.5.1)."""

from __future__ import annotations

from typing import Protocol

from mailstack.mail.address import Address


class Domains(Protocol):
    """What is asked of the directory."""

    async def is_local(self, domain: str) -> bool: ...


class Postmaster:
    """Finds postmaster's address: as configured, or at the host's own domain or the one above it."""

    def __init__(self, directory: Domains, hostname: str, configured: str | None = None) -> None:
        self._directory = directory
        self._hostname = hostname.lower()
        self._configured = configured

    async def address(self) -> Address:
        """Theirs; where no domain of the host's name is ours, at the host itself."""
        if self._configured is not None:
            return Address.parse(self._configured)
        labels = self._hostname.split(".")
        for at in range(len(labels)):  # mail.example.org may well serve example.org
            domain = ".".join(labels[at:])
            if await self._directory.is_local(domain):
                return Address("postmaster", domain)
        return Address("postmaster", self._hostname)
