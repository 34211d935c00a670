"""SORT (RFC 5256 section 2.2, RFC 5957): messages in the order of some criteria.

Strings compare by i;unicode-casemap: what is compared are keys, made of header fields' values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mailstack.mail.address_list import Group, parse_addresses
from mailstack.mail.collation import casemap
from mailstack.mail.fields import decode_words

RUN = 8_192  # messages sorted without a stop
_BEGINNING = 3  # characters

Key = Callable[[int], Any]


def sort(numbers: Sequence[int], criteria: Sequence[tuple[Key, bool]]) -> list[int]:
    """The numbers in order; ties are broken by them.

    `criteria`: what gives a number's key, the most important first, each with REVERSE or not.
    """
    ordered = sorted(numbers)
    for key, reverse in reversed(criteria):  # the sort is stable, in reverse too
        texts = len(ordered) > RUN and isinstance(key(ordered[0]), str)
        ordered = (_by_beginning if texts else in_runs)(ordered, key, reverse)
    return ordered


def in_runs(numbers: Sequence[int], key: Key, reverse: bool = False) -> list[int]:
    """As `sorted`, in runs that are merged: other threads wait while Python sorts a list.

    It finds again that the halves of a list are sorted, so that to merge them it compares each number once.
    """
    runs = [
        sorted(numbers[start : start + RUN], key=key, reverse=reverse)
        for start in range(0, len(numbers), RUN)
    ]
    while len(runs) > 1:
        pairs = [runs[at : at + 2] for at in range(0, len(runs), 2)]
        runs = [
            sorted(pair[0] + pair[1], key=key, reverse=reverse) if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    return runs[0] if runs else []


def _by_beginning(numbers: Sequence[int], key: Key, reverse: bool) -> list[int]:
    """The same for keys that are texts: first what begins alike together, so that few are compared."""
    alike: dict[str, list[int]] = {}
    for number in numbers:
        alike.setdefault(key(number)[:_BEGINNING], []).append(number)
    ordered: list[int] = []
    for beginning in sorted(alike, reverse=reverse):
        ordered += in_runs(alike[beginning], key, reverse)
    return ordered


def text_key(text: str) -> str:
    """The key of a text that is casemapped but where it could not be read: then it comes last.

    RFC 5255 section 4.6.
    """
    return text if "\ufffd" not in text else "\U0010ffff" + text


def _key(text: str) -> str:
    return text_key(text if "\ufffd" in text else casemap(text))


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
