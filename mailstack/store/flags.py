"""Flags as bits: five system flags, then keywords from bit 8; and as letters in a Maildir file's name."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache

from mailstack.store.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, TooMany

SYSTEM = {ANSWERED: 1, FLAGGED: 2, DELETED: 4, SEEN: 8, DRAFT: 16}
SEEN_BIT = SYSTEM[SEEN]
DELETED_BIT = SYSTEM[DELETED]
FIRST_KEYWORD, LAST_KEYWORD = 8, 62  # bits; one sign bit is left of a signed 64-bit column
MAX_KEYWORD = 100  # characters
_BY_KEY = {name.casefold(): bit for name, bit in SYSTEM.items()}
# The letters of https://cr.yp.to/proto/maildir.html; Dovecot's a-z are the mailbox's first 26 keywords.
_LETTERS = {"D": SYSTEM[DRAFT], "F": SYSTEM[FLAGGED], "R": SYSTEM[ANSWERED], "S": SEEN_BIT, "T": DELETED_BIT}
_LETTERS |= {chr(ord("a") + number): 1 << FIRST_KEYWORD + number for number in range(26)}
_ATOM = re.compile(r"[^\x00-\x20\x7f-\U0010ffff(){%*\"\\\]]+")  # RFC 3501 section 9, flag-keyword


def system_bit(flag: str) -> int | None:
    """The bit of a system flag in any case, or None."""
    return _BY_KEY.get(flag.casefold())


def kept_bits(rights: Container[str]) -> int:
    """The bits that somebody with these rights may not change (RFC 4314 section 4)."""
    kept = 0 if "s" in rights else SEEN_BIT
    if "t" not in rights:
        kept |= DELETED_BIT
    return kept if "w" in rights else kept | ((1 << LAST_KEYWORD + 1) - 1) & ~(SEEN_BIT | DELETED_BIT)


def is_keyword(flag: str) -> bool:
    """Whether it is a keyword that can be kept: an atom (RFC 3501 section 9), so not `\\Recent`."""
    return len(flag) <= MAX_KEYWORD and _ATOM.fullmatch(flag) is not None


class Keywords:
    """The keywords of one mailbox, and what its bit masks mean. Case of letters makes no difference."""

    __slots__ = ("_bits", "_names", "names")

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = dict(names)  # bit number to name
        self._bits = {name.casefold(): 1 << bit for bit, name in self.names.items()}
        self._names: dict[int, frozenset[str]] = {}

    def flags(self, mask: int) -> frozenset[str]:
        """The flags of a mask; one shared value for each mask."""
        known = self._names.get(mask)
        if known is None:
            names = [name for name, bit in SYSTEM.items() if mask & bit]
            names += [name for bit, name in self.names.items() if mask >> bit & 1]
            known = self._names[mask] = frozenset(names)
            if len(self._names) > 4096:
                self._names = {mask: known}
        return known

    def mask(self, flags: Iterable[str]) -> tuple[int, list[str]]:
        """The mask of those flags that have a bit, and the keywords that have none yet."""
        mask, missing = 0, []
        for flag in sorted(flags):
            bit = system_bit(flag) or self._bits.get(flag.casefold())
            if bit:
                mask |= bit
            elif is_keyword(flag):
                missing.append(flag)
        return mask, missing

    def with_names(self, missing: Iterable[str]) -> tuple[Keywords, dict[int, str]]:
        """These and more keywords, and the bits of those added. Raise TooMany when the bits are used up."""
        names, added = dict(self.names), {}
        free = (bit for bit in range(FIRST_KEYWORD, LAST_KEYWORD + 1) if bit not in self.names)
        for name in missing:
            if name.casefold() in (known.casefold() for known in names.values()):
                continue
            bit = next(free, None)
            if bit is None:
                raise TooMany(f"a mailbox holds at most {LAST_KEYWORD - FIRST_KEYWORD + 1} keywords")
            names[bit] = added[bit] = name
        return Keywords(names), added


@lru_cache(maxsize=1024)
def info(mask: int, before: str = "") -> str:
    """The letters of a mask for a file's name, in order; letters of `before` that are not ours stay."""
    letters = {letter for letter, bit in _LETTERS.items() if mask & bit}
    letters |= {letter for letter in before if letter not in _LETTERS}
    return "".join(sorted(letters))


def letters_mask(letters: str) -> int:
    """The mask of the letters in a file's name; letters of other programs count nothing."""
    mask = 0
    for letter in letters:
        mask |= _LETTERS.get(letter, 0)
    return mask
