"""SORT (RFC 5256 section 2.2, RFC 5957): messages in the order of some criteria.

The caller makes a `Sortable` of each message, with the keys that the criteria need; `field_keys` makes them
of header fields' values. Strings compare by i;unicode-casemap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from mailstack.mail.address_list import Group, parse_addresses
from mailstack.mail.collation import casemap
from mailstack.mail.fields import decode_words
from mailstack.mail.subjects import base_subject


class Sortable(NamedTuple):
    """One message. What no criterion needs may be left out. Strings are keys: see below."""

    number: int  # what the answer names it by; ties are broken by it
    arrival: int = 0  # INTERNALDATE, seconds since 1970
    sent: int = 0  # the Date field, in UTC; INTERNALDATE where there is none
    size: int = 0
    subject: str = ""
    from_: str = ""
    to: str = ""
    cc: str = ""
    display_from: str = ""
    display_to: str = ""
    relevancy: int = 0  # 1 to 100, the best first (RFC 6203 section 5)


_ATTRIBUTES: dict[str, str] = {
    "ARRIVAL": "arrival", "DATE": "sent", "SIZE": "size", "SUBJECT": "subject", "FROM": "from_", "TO": "to",
    "CC": "cc", "DISPLAYFROM": "display_from", "DISPLAYTO": "display_to",
}  # fmt: skip
_KEYS: dict[str, Callable[[Sortable], int | str]] = {
    **{name: attrgetter(attribute) for name, attribute in _ATTRIBUTES.items()},
    "RELEVANCY": lambda message: -message.relevancy,
}


def sort(messages: Sequence[Sortable], criteria: Sequence[tuple[str, bool]]) -> list[int]:
    """The numbers in order; `criteria`: SORT's keys, the first the most important, each with REVERSE or not.

    Raises KeyError for an unknown criterion.
    """
    ordered = sorted(messages, key=attrgetter("number"))
    for name, reverse in reversed(criteria):  # the sort is stable, in reverse too
        ordered.sort(key=_KEYS[name], reverse=reverse)
    return [message.number for message in ordered]


def _key(text: str) -> str:
    """What could not be read in its charset comes last, by octets (RFC 5255 section 4.6)."""
    return casemap(text) if "\ufffd" not in text else "\U0010ffff" + text


def subject_key(subject: bytes | str) -> str:
    """The key of SUBJECT, of a Subject field's value."""
    return _key(base_subject(decode_words(subject).strip()).base)


def mailbox_key(value: bytes | str) -> str:
    """The key of FROM, TO and CC: the first address's local part; of a group, its name."""
    addresses = parse_addresses(value)
    if not addresses:
        return ""
    first = addresses[0]
    return _key(decode_words(first.name) if isinstance(first, Group) else first.local_part)


def display_key(value: bytes | str) -> str:
    """The key of DISPLAYFROM and DISPLAYTO (RFC 5957): the first address's name, else its address."""
    addresses = parse_addresses(value)
    if not addresses:
        return ""
    first = addresses[0]
    name = decode_words(first.name).strip() if first.name else ""
    if name or isinstance(first, Group):
        return _key(name)
    return _key(f"{first.local_part}@{first.domain}" if first.domain else first.local_part)
