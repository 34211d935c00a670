"""Sequence sets (RFC 3501 section 9, sequence-set): ranges of numbers, never expanded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

STAR = 0  # stands for "*", the largest number in use; no message has number 0
LARGEST = 2**32 - 1  # RFC 3501 section 9: nz-number is 32 bits
MOST_RANGES = 10_000  # ranges in one set


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Message numbers or UIDs as the client wrote them: ranges of (first, last), either end may be STAR.

    `saved`: the set is `$`, the result of the last SEARCH RETURN (SAVE) (RFC 5182); it has no ranges then,
    and the session puts its own in their place.
    """

    ranges: tuple[tuple[int, int], ...]
    saved: bool = False

    @classmethod
    def parse(cls, text: str) -> SequenceSet:
        """Read `1,3:5,7:*` or `$`. Raises ValueError for anything else, 0, over 32 bits, over MOST_RANGES."""
        if text == "$":
            return cls((), saved=True)
        parts = text.split(",", MOST_RANGES)
        if len(parts) > MOST_RANGES:
            raise ValueError("too many ranges in a sequence set")
        ranges = []
        for part in parts:
            first, colon, last = part.partition(":")
            low = _number(first)
            ranges.append((low, _number(last) if colon else low))
        return cls(tuple(ranges))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> SequenceSet:
        """The shortest set that names these numbers in this order (for COPYUID, ESEARCH and the like)."""
        ranges: list[tuple[int, int]] = []
        for number in numbers:
            if ranges and ranges[-1][1] + 1 == number:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        return cls(tuple(ranges))

    def __str__(self) -> str:
        if self.saved:
            return "$"
        return ",".join(
            _text(first) if first == last else f"{_text(first)}:{_text(last)}" for first, last in self.ranges
        )

    def __bool__(self) -> bool:
        return self.saved or bool(self.ranges)

    @property
    def highest(self) -> int:
        """The largest number named outright, 0 if only "*": to refuse sequence numbers beyond EXISTS."""
        return max((max(pair) for pair in self.ranges), default=0)

    @property
    def open_ended(self) -> bool:
        """Whether "*" or "$" stands in it: where only plain numbers may (RFC 7162 section 7, known-uids)."""
        return self.saved or any(STAR in pair for pair in self.ranges)

    def resolve(self, maximum: int) -> list[range]:
        """Ascending, disjoint ranges within 1..maximum; "*" is `maximum`: last sequence number, highest UID.

        `559:*` includes `maximum` even where that is below 559 (RFC 3501 section 6.4.8). Cost: O(ranges).
        """
        if maximum < 1:
            return []
        found: list[range] = []
        for low, high in sorted(self._ordered(maximum)):
            high = min(high, maximum)
            if low > high:
                continue
            if found and low <= found[-1].stop:
                found[-1] = range(found[-1].start, max(found[-1].stop, high + 1))
            else:
                found.append(range(low, high + 1))
        return found

    def _ordered(self, maximum: int) -> Iterable[tuple[int, int]]:
        for first, last in self.ranges:
            low, high = first or maximum, last or maximum
            yield (low, high) if low <= high else (high, low)


def _number(text: str) -> int:
    if text == "*":
        return STAR
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise ValueError("expected a number or *")
    number = int(text)
    if not 0 < number <= LARGEST:
        raise ValueError("a message number is from 1 to 4294967295")
    return number


def _text(number: int) -> str:
    return str(number) if number else "*"
