"""A DNS in a dict, for what asks by `mailstack.mail.lookups`: answers at once, without a reactor."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from mailstack.mail.lookups import LookupFailed

T = TypeVar("T")


class Zone:
    """Records as ``{"name": ["A 192.0.2.1", "TXT v=spf1 -all"]}``; "FAIL" or "FAIL A": no answer for now."""

    def __init__(self, records: dict[str, Sequence[str]]) -> None:
        self.records = {name.lower(): records[name] for name in records}
        self.asked: Counter[str] = Counter()

    def get(self, name: str, kind: str) -> list[str]:
        self.asked[f"{name} {kind}"] += 1
        found = self.records.get(name.lower().rstrip("."), ())
        if "FAIL" in found or f"FAIL {kind}" in found:
            raise LookupFailed(f"{kind} look-up of {name}")
        return [one.partition(" ")[2] for one in found if one.partition(" ")[0] == kind]

    async def txt(self, name: str) -> list[bytes]:
        return [text.encode() for text in self.get(name, "TXT")]

    async def addresses(self, name: str, six: bool) -> list[str]:
        return self.get(name, "AAAA" if six else "A")

    async def exchangers(self, name: str) -> list[str]:
        return self.get(name, "MX")

    async def names(self, address: str) -> list[str]:
        return self.get(ipaddress.ip_address(address).reverse_pointer, "PTR")

    async def exists(self, name: str) -> bool:
        self.get(name, "MX")
        return name.lower() in self.records

    async def keys(self, names: Sequence[str]) -> dict[str, list[bytes] | None]:
        found: dict[str, list[bytes] | None] = {}
        for name in names:
            try:
                found[name] = await self.txt(name)
            except LookupFailed:
                found[name] = None
        return found


def at_once(asked: Coroutine[Any, Any, T]) -> T:
    """The result of what never waits."""
    try:
        asked.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    raise AssertionError("it waits")
