"""SEARCH keys as tests, the cheap ones first (RFC 3501 section 6.4.4).

Theory of operation. A key becomes a `Test`: a function of a `Candidate`, and its cost, which is what must
be known of a message before it can be asked: its row in memory, its common fields in the index, its
header section, its text. The keys of a conjunction are sorted by cost; `search` asks those of each cost in
turn, of what is left. What is in memory is asked of the bare rows: a hundred thousand candidates would cost
more than the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import date
from enum import IntEnum

from mailstack.access.imap.context import Selected, Unsupported
from mailstack.access.imap.numbers import uids_in, uids_numbered
from mailstack.access.imap.sections import field_pattern
from mailstack.mail.collation import casemap
from mailstack.mail.fields import decode_words, parse_date
from mailstack.mail.likeness import Needle
from mailstack.store.facts import COMMON_FIELDS
from mailstack.store.news import Row
from mailstack.store.tables import UID_MASK
from mailstack.store.values import Facts
from mailstack.wire.imap import keys as k

DAY = 86_400  # seconds
_EPOCH = date(1970, 1, 1).toordinal()


NO_FACTS = Facts()
FIELDS = frozenset({"fields", "header_size"})


class Cost(IntEnum):
    """What must be known of a message."""

    MEMORY = 0
    FIELDS = 1
    HEADER = 2
    TEXT = 3


class Candidate:
    """One message, as far as it is known."""

    __slots__ = ("facts", "fields", "header", "row", "scores", "text", "uid")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.uid = row[0] & UID_MASK
        self.facts = NO_FACTS  # the columns that the tests need
        self.fields = b""  # the common fields, or the whole header section
        self.header: Callable[[], bytes] = bytes
        self.text: Callable[[bool], str] = nothing  # decoded and casemapped; with the header, or without
        self.scores: list[int] = []  # of each FUZZY key that it matches


def nothing(header: bool) -> str:
    """The text of a message that has not been read."""
    return ""


@dataclass(frozen=True, slots=True)
class Test:
    """One key."""

    cost: Cost
    passes: Callable[[Candidate], bool]
    columns: frozenset[str] = frozenset()  # of the facts; also where it is dear, as OR FROM x BODY y is
    of_row: Callable[[Row], bool] | None = None  # the same of a bare row, where that is enough


def conjunction(key: k.Key, selected: Selected) -> list[Test]:
    """The tests that a message must all pass, the cheapest first."""
    parts = key.keys if isinstance(key, k.And) else (key,)
    return sorted((compile_key(part, selected) for part in parts), key=lambda test: test.cost)


def compile_key(key: k.Key, selected: Selected) -> Test:
    """One key, with what it holds."""
    match key:
        case k.And():
            tests = conjunction(key, selected)
            asked = [test.of_row for test in tests if test.of_row is not None]
            return _joined(
                tests,
                lambda m: all(test.passes(m) for test in tests),
                lambda row: all(of_row(row) for of_row in asked),
            )
        case k.Or():
            either = [compile_key(key.left, selected), compile_key(key.right, selected)]
            first, second = sorted(either, key=lambda test: test.cost)
            one, other = (test.of_row or no_row for test in (first, second))
            return _joined(
                either, lambda m: first.passes(m) or second.passes(m), lambda row: one(row) or other(row)
            )
        case k.Not():
            test = compile_key(key.key, selected)
            of_row = test.of_row or no_row
            return _joined([test], lambda m: not test.passes(m), lambda row: not of_row(row))
        case k.Header():
            return _header(key.name, key.value)
        case k.Fuzzy():
            return _fuzzy(key.key)
        case k.Body():
            return _text(key.value, header=False)
        case k.Text():
            return _text(key.value, header=True)
        case k.Sent():
            in_relation = _RELATIONS[key.relation]
            wanted = key.date.toordinal()
            return Test(
                Cost.FIELDS,
                lambda m: (day := _sent_day(m.fields)) is not None and in_relation(day, wanted),
                FIELDS,
            )
        case k.EmailId():
            email = key.id.encode()
            return Test(Cost.FIELDS, lambda m: m.facts.email_id == email, frozenset({"email_id"}))
        case k.ThreadId():
            thread = key.id.encode()
            return Test(Cost.FIELDS, lambda m: m.facts.thread_id == thread, frozenset({"thread_id"}))
        case k.Saved():  # RFC 8514 section 4.3: in the server's zone, which is UTC
            in_order = _RELATIONS[key.relation]
            ordinal = key.date.toordinal()
            return Test(
                Cost.FIELDS, lambda m: in_order(_day(m.facts.saved, 0), ordinal), frozenset({"saved"})
            )
    in_memory = _in_memory(key, selected)
    return Test(Cost.MEMORY, lambda m: in_memory(m.row), of_row=in_memory)


def _joined(tests: list[Test], passes: Callable[[Candidate], bool], of_row: Callable[[Row], bool]) -> Test:
    """`of_row` counts only where all tests can be asked so."""
    columns = frozenset(column for test in tests for column in test.columns)
    cost = max((test.cost for test in tests), default=Cost.MEMORY)
    return Test(cost, passes, columns, of_row if cost == Cost.MEMORY else None)


def any_row(row: Row) -> bool:
    """ALL."""
    return True


def no_row(row: Row) -> bool:
    """What no message passes."""
    return False


def _in_memory(key: k.Key, selected: Selected) -> Callable[[Row], bool]:
    match key:
        case k.All() | k.SaveDateSupported():
            return any_row
        case k.HasFlag():
            return _has_flag(key.flag, selected)
        case k.Recent():
            return _one_of(selected.view.recent)
        case k.Numbers():
            return _one_of(frozenset(uids_numbered(selected.view, key.set, lenient=True)))
        case k.Uids():
            return _one_of(frozenset(uids_in(selected.view, key.set)))
        case k.Arrived():
            return _arrived(key.relation, (key.date.toordinal() - _EPOCH) * DAY)
        case k.Older():  # RFC 5032 section 3: the interval's end counts
            last = selected.seconds() - key.seconds
            return lambda row: row[3] <= last
        case k.Younger():
            first = selected.seconds() - key.seconds
            return lambda row: row[3] >= first
        case k.Larger():
            octets = key.octets
            return lambda row: row[5] > octets
        case k.Smaller():
            octets = key.octets
            return lambda row: row[5] < octets
        case k.ModSeq():
            value = key.value
            return lambda row: row[2] >= value
    raise Unsupported("that search key")


def _arrived(relation: k.Relation, start: int) -> Callable[[Row], bool]:
    end = start + DAY
    match relation:
        case k.Relation.BEFORE:
            return lambda row: row[3] + row[4] * 60 < start
        case k.Relation.ON:
            return lambda row: start <= row[3] + row[4] * 60 < end
        case k.Relation.SINCE:
            return lambda row: row[3] + row[4] * 60 >= start


def _one_of(uids: Container[int]) -> Callable[[Row], bool]:
    return lambda row: row[0] & UID_MASK in uids


def _has_flag(flag: str, selected: Selected) -> Callable[[Row], bool]:
    bit, _ = selected.mailbox.mask_of((flag,))
    return lambda row: row[1] & bit != 0


# Dates: days are compared, time and zone disregarded (RFC 3501 section 6.4.4).

_RELATIONS: dict[k.Relation, Callable[[int, int], bool]] = {
    k.Relation.BEFORE: lambda day, wanted: day < wanted,
    k.Relation.ON: lambda day, wanted: day == wanted,
    k.Relation.SINCE: lambda day, wanted: day >= wanted,
}


def _day(seconds: int, zone: int) -> int:
    return _EPOCH + (seconds + zone * 60) // DAY


_date_field = field_pattern([b"date"])


def _sent_day(fields: bytes) -> int | None:
    found = _date_field.search(fields)
    parsed = parse_date(found[0].partition(b":")[2]) if found else None
    return _day(*parsed) if parsed else None


# Text: a substring by i;unicode-casemap (RFC 3501 section 6.4.4, RFC 5255 section 4).


def _header(name: str, value: str) -> Test:
    raw_name = name.encode("utf-8", "replace")
    find = field_pattern([raw_name]).finditer
    needle = casemap(value)
    plain = needle.encode("ascii") if needle.isascii() else None

    def passes(octets: bytes) -> bool:
        return any(_contains(found[0].partition(b":")[2], needle, plain) for found in find(octets))

    if raw_name.lower() in COMMON_FIELDS:
        return Test(Cost.FIELDS, lambda m: passes(m.fields), FIELDS)
    return Test(Cost.HEADER, lambda m: passes(m.header()))


def _contains(raw: bytes, needle: str, plain: bytes | None) -> bool:
    """Whether the field's body holds `needle`; words in RFC 2047's code are read only where there are any."""
    if plain is not None and b"=?" not in raw and raw.isascii():
        return plain in raw.replace(b"\r", b"").replace(b"\n", b"").upper()
    return needle in casemap(decode_words(raw))


def _fuzzy(key: k.Key) -> Test:
    """A string that may be matched nearly (RFC 6203); `fuzzy.pushed` has seen to it that it is one."""
    assert isinstance(key, k.Header | k.Body | k.Text)
    score = Needle(key.value).score

    def noted(m: Candidate, found: int) -> bool:
        if found:
            m.scores.append(found)
        return found > 0

    if not isinstance(key, k.Header):
        whole = isinstance(key, k.Text)
        return Test(Cost.TEXT, lambda m: noted(m, score(m.text(whole))))
    raw_name = key.name.encode("utf-8", "replace")
    find = field_pattern([raw_name]).finditer

    def best(octets: bytes) -> int:
        values = (casemap(decode_words(found[0].partition(b":")[2])) for found in find(octets))
        return max(map(score, values), default=0)

    if raw_name.lower() in COMMON_FIELDS:
        return Test(Cost.FIELDS, lambda m: noted(m, best(m.fields)), FIELDS)
    return Test(Cost.HEADER, lambda m: noted(m, best(m.header())))


def _text(value: str, header: bool) -> Test:
    needle = casemap(value)
    return Test(Cost.TEXT, lambda m: needle in m.text(header))
