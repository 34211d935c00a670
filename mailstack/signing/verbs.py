"""What the operator does with keys: make, list, rotate, remove. Blocking, each one transaction's part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from mailstack.directory.names import our_domain
from mailstack.directory.verbs import Refusal
from mailstack.mail.address import BadAddress
from mailstack.mail.dkim import PrivateKey
from mailstack.mail.dkim.keys import Algorithm
from mailstack.signing.tables import dkim_keys

GRACE = 7 * 86400.0  # seconds that a retired key stays in the DNS: mail under way is verified with it

_k = dkim_keys.c
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?){0,3}")
_LETTERS = {"rsa": "r", "ed25519": "e"}


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key. Times are seconds of the epoch."""

    domain: str
    selector: str
    algorithm: str
    created: float
    signs_from: float
    signs_until: float | None
    record: str  # of the TXT record at `name`

    @property
    def name(self) -> str:
        """Where it is published."""
        return f"{self.selector}._domainkey.{self.domain}"

    def state(self, now: float) -> str:
        """waiting, signing, or retired; over: its record may go."""
        if self.signs_until is not None and now >= self.signs_until:
            return "over" if now >= self.signs_until + GRACE else "retired"
        return "signing" if now >= self.signs_from else "waiting"


def add(
    db: Connection,
    domain: str,
    keys: Sequence[PrivateKey],
    stem: str,
    now: float,
    signs_from: float,
) -> list[KeyInfo]:
    """Add keys under selectors that begin with `stem`; raise Refusal."""
    domain = _domain(domain)
    if not _SELECTOR.fullmatch(stem) or len(stem) > 60:
        raise Refusal(f"{stem}: no selector; write letters, digits and hyphens")
    taken = set(db.scalars(select(_k.selector).where(_k.domain == domain)))
    free = (one for one in _stems(stem) if not any(f"{one}{mark}" in taken for mark in "re"))
    stem = next(free, "")
    if not stem:
        raise Refusal(f"{domain} has keys of all these selectors: name another with --selector")
    for key in keys:
        db.execute(
            insert(dkim_keys).values(
                domain=domain,
                selector=stem + _LETTERS[key.algorithm],
                algorithm=key.algorithm,
                private_key=key.pem(),
                created=now,
                signs_from=signs_from,
            )
        )
    selectors = [stem + _LETTERS[key.algorithm] for key in keys]
    return [info for info in list_keys(db, domain) if info.selector in selectors]


def rotate(
    db: Connection, domain: str, keys: Sequence[PrivateKey], stem: str, now: float, after: float
) -> list[KeyInfo]:
    """New keys sign from `after` seconds on, the present ones until then; raise Refusal."""
    domain = _domain(domain)
    if not [info for info in list_keys(db, domain) if info.state(now) in ("signing", "waiting")]:
        raise Refusal(f"{domain} has no key yet: make one with mailstack dkim add {domain}")
    at = now + after
    going = (_k.domain == domain) & (_k.signs_until.is_(None) | (_k.signs_until > at))
    db.execute(update(dkim_keys).where(going).values(signs_until=at))
    return add(db, domain, keys, stem, now, at)


def remove(db: Connection, domain: str, selector: str | None) -> list[KeyInfo]:
    """Delete a key of a domain, or all; return them. Raise Refusal where there is none."""
    domain = _domain(domain)
    gone = [info for info in list_keys(db, domain) if selector in (None, info.selector)]
    if not gone:
        raise Refusal(f"{domain} has no key{f' {selector}' if selector else ''}")
    for info in gone:
        db.execute(delete(dkim_keys).where(_k.domain == domain, _k.selector == info.selector))
    return gone


def list_keys(db: Connection, domain: str | None = None) -> list[KeyInfo]:
    """All keys, or those of a domain, by domain and age."""
    query = select(dkim_keys).order_by(_k.domain, _k.created, _k.id)
    if domain is not None:
        query = query.where(_k.domain == _domain(domain))
    return [_info(row) for row in db.execute(query)]


def make(algorithms: Sequence[Algorithm]) -> list[PrivateKey]:
    """New keys; RSA takes some 100 ms each."""
    return [PrivateKey.make(algorithm) for algorithm in algorithms]


def zone(info: KeyInfo) -> str:
    """The record as a line of a zone file."""
    return f"{info.name}. TXT {zone_data(info)}"


def zone_data(info: KeyInfo) -> str:
    """The record's text as a zone file has it: in strings of at most 255 octets (RFC 1035 section 3.3)."""
    strings = " ".join(f'"{info.record[at : at + 250]}"' for at in range(0, len(info.record), 250))
    return f"( {strings} )"


def _stems(stem: str) -> list[str]:
    return [stem, *(f"{stem}-{number}" for number in range(2, 100))]


def _domain(text: str) -> str:
    try:
        return our_domain(text)
    except BadAddress as error:
        raise Refusal(f"{text}: {error}") from error


def _info(row: Row[Any]) -> KeyInfo:
    return KeyInfo(
        row.domain,
        row.selector,
        row.algorithm,
        row.created,
        row.signs_from,
        row.signs_until,
        PrivateKey.load(row.private_key).record(),
    )
