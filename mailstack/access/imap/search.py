"""SEARCH and UID SEARCH (RFC 3501 section 6.4.4), with RETURN (RFC 4731)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mailstack.access.imap.context import Context, Selected, Unsupported
from mailstack.access.imap.contexts import begin, reuses_tag
from mailstack.access.imap.filters import resolved
from mailstack.access.imap.fuzzy import misuses_relevancy, pushed, relevancy
from mailstack.access.imap.keys import Candidate, Cost, Test, any_row, conjunction, nothing
from mailstack.access.imap.limits import newest, say_limit, searched
from mailstack.access.imap.saved import keep
from mailstack.mail.collation import casemap
from mailstack.mail.likeness import Needle
from mailstack.mail.mime import Part, scan, search_text, unpack
from mailstack.store.heading import NAMES
from mailstack.store.news import Row, uids_of
from mailstack.store.tables import UID_MASK
from mailstack.store.values import Expunged, Facts
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.responses import MANY, AnyResponse, ESearch, Response, SearchResponse, Tagged
from mailstack.wire.imap.sequence import SequenceSet

FEW = 20  # messages that are looked at rather than looked up
MEMORY_SLICE = 20_000  # messages looked at before others are served
FIELDS_SLICE = 500  # messages whose fields are read together
FUZZY_COST = 10  # keys: what a FUZZY one is worth
TEXT_SLICE = 100  # messages whose texts are searched in one trip to a thread
TEXT_OCTETS = 4 * 1024 * 1024  # of such a slice, at most (but always one message)


async def search(context: Context, command: c.Search) -> AnyResponse:
    """Find; answer with UIDs or sequence numbers, ascending."""
    selected = context.selected
    if asks_modseq(command.key):
        context.enable_condstore()
    returns = command.returns or frozenset()
    check_returns(returns)
    if (refused := misuses_relevancy(command) or reuses_tag(selected, command)) is not None:
        return refused
    if "SAVE" in returns:
        selected.saved = ()  # RFC 5182 section 2.1: should the search fail
    updates = await begin(context, selected, command)
    scores: dict[int, int] = {}
    uids, last = newest(context, searched(context, selected, command.key))
    among = None if last is None else uids[::-1]
    found = await find(context, selected, command.key, among, scores)
    if updates is not None:
        await updates.end(context, uids_of(found))
    if "SAVE" in returns:
        keep(selected, uids_of(found), returns, command.partial)
    tagged = Tagged(command.tag, "OK", "UID SEARCH completed" if command.uid else "SEARCH completed")
    if returns == {"SAVE"}:  # RFC 5182 section 2.1: no response but this one
        return await say_limit(context, tagged, last)
    said = await _answer(context, command, found, scores, last is not None)
    return said, await say_limit(context, tagged, last)


_RETURNS = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE", "PARTIAL", "CONTEXT", "UPDATE", "RELEVANCY"})


def check_returns(returns: frozenset[str]) -> None:
    """Raise Unsupported for RETURN options that are not offered."""
    if returns - _RETURNS:
        raise Unsupported(" ".join(sorted(returns - _RETURNS)))


async def find(
    context: Context,
    selected: Selected,
    key: k.Key,
    uids: Sequence[int] | None = None,
    scores: dict[int, int] | None = None,
) -> list[Row]:
    """The messages that the key matches, by ascending UID; `uids`: only of these, ascending.

    `scores` is given how well each matches FUZZY keys, from 1 to 100 (RFC 6203 section 4).
    """
    key = pushed(await resolved(context, key))
    tests = conjunction(key, selected)
    by_cost = {cost: [test for test in tests if test.cost == cost] for cost in Cost}
    keys = _count(key)
    among = selected.view.uids if uids is None else uids
    rows = await _by_memory(context, selected, among, by_cost[Cost.MEMORY], max(20, MEMORY_SLICE // keys))
    dear = by_cost[Cost.HEADER] + by_cost[Cost.TEXT]
    if not dear and not by_cost[Cost.FIELDS]:
        return rows
    if len(rows) > FEW:
        possible = await _indexed(selected, key)
        if possible is not None:
            rows = [row for row in rows if row[0] & UID_MASK in possible]
    found = list(map(Candidate, rows))
    columns = frozenset(column for test in tests for column in test.columns)
    if columns:
        found = await _by_fields(
            context, selected, found, by_cost[Cost.FIELDS], columns, max(5, FIELDS_SLICE // keys)
        )
    if dear:
        found = await _by_text(context, selected, found, dear)
    if scores is not None:
        scores.update((each.uid, mean(each.scores)) for each in found if each.scores)
    return [candidate.row for candidate in found]


def mean(scores: Sequence[int]) -> int:
    """Of several FUZZY keys."""
    return round(sum(scores) / len(scores))


async def _indexed(selected: Selected, key: k.Key) -> set[int] | None:
    """The UIDs that headings and the full-text index leave as possible; None: they cannot tell."""
    match key:
        case k.Header() if key.name.lower() in NAMES:
            return await selected.mailbox.headings.holding(casemap(key.value))
        case k.Body() | k.Text() | k.Header():
            return await selected.mailbox.candidates(key.value)
        case k.Fuzzy(k.Body() | k.Text() | k.Header() as nearly):
            return await selected.mailbox.similar(Needle(nearly.value).runs)
        case k.And():
            known = [found for part in key.keys if (found := await _indexed(selected, part)) is not None]
            return set.intersection(*known) if known else None
        case k.Or():
            left = await _indexed(selected, key.left)
            right = None if left is None else await _indexed(selected, key.right)
            return None if left is None or right is None else left | right
    return None


def _count(key: k.Key) -> int:
    """How many keys there are: the more, the fewer messages are looked at without a pause."""
    match key:
        case k.And():
            return sum(map(_count, key.keys))
        case k.Or():
            return _count(key.left) + _count(key.right)
        case k.Not():
            return _count(key.key)
        case k.Fuzzy():
            return FUZZY_COST
    return 1


async def _by_memory(
    context: Context, selected: Selected, uids: Sequence[int], tests: Sequence[Test], size: int
) -> list[Row]:
    asked = [test.of_row for test in tests if test.of_row is not None and test.of_row is not any_row]
    found: list[Row] = []
    for start in range(0, len(uids), size):
        if start:
            await context.services.pause()
        rows = selected.mailbox.rows(uids[start : start + size])
        for of_row in asked:
            rows = list(filter(of_row, rows))
        found += rows
    return found


def _passing(candidates: list[Candidate], tests: Sequence[Test]) -> list[Candidate]:
    for test in tests:
        candidates = list(filter(test.passes, candidates))
    return candidates


async def _by_fields(
    context: Context,
    selected: Selected,
    candidates: list[Candidate],
    tests: Sequence[Test],
    columns: frozenset[str],
    size: int,
) -> list[Candidate]:
    found: list[Candidate] = []
    for start in range(0, len(candidates), size):
        await context.progress(start, len(candidates))
        some = candidates[start : start + size]
        facts = await selected.mailbox.facts([candidate.uid for candidate in some], columns)
        known = []
        for candidate, fact in zip(some, facts, strict=True):
            if fact is not None:
                candidate.facts = fact
                if "fields" in columns:
                    candidate.fields = fact.fields or await header(selected, candidate.uid, fact.header_size)
                known.append(candidate)
        found += _passing(known, tests)
    return found


async def header(selected: Selected, uid: int, size: int) -> bytes:
    """The whole header section, where the index has no common fields (none there, or too long)."""
    try:
        return await selected.mailbox.body(uid, 0, min(size, TEXT_OCTETS))
    except Expunged:
        return b""


async def _by_text(
    context: Context, selected: Selected, candidates: list[Candidate], tests: Sequence[Test]
) -> list[Candidate]:
    """In a thread, some messages a trip: the reactor serves others between and beside.

    The next texts are not read meanwhile: threads that compute and threads that read would fight for the
    lock, and both take twice as long.
    """
    found: list[Candidate] = []
    work, limit = context.services.work, context.services.config.max_search_octets
    most = 0 if all(test.cost <= Cost.HEADER for test in tests) else limit
    done = 0
    for some in _slices(candidates):
        await context.progress(done, len(candidates))
        done += len(some)
        texts = await _texts(selected, some, most)
        found += await work.compute(_search_texts, texts, tests)
    return found


async def _texts(selected: Selected, some: list[Candidate], most: int) -> list[tuple[Candidate, _Text]]:
    """The texts of some messages, at most `most` octets of each and the header section anyway."""
    uids = [candidate.uid for candidate in some]
    facts = await selected.mailbox.facts(uids, frozenset({"structure", "header_size"}))
    known = [(candidate, fact) for candidate, fact in zip(some, facts, strict=True) if fact is not None]
    reads = [(candidate.uid, 0, max(fact.header_size, most)) for candidate, fact in known]
    octets = await selected.mailbox.bodies(reads)
    return [
        (candidate, _Text(fact, candidate.row[5], data))
        for (candidate, fact), data in zip(known, octets, strict=True)
        if data is not None
    ]


def _slices(candidates: list[Candidate]) -> list[list[Candidate]]:
    slices: list[list[Candidate]] = []
    octets = 0
    for candidate in candidates:
        if not slices or len(slices[-1]) >= TEXT_SLICE or octets + candidate.row[5] > TEXT_OCTETS:
            slices.append([])
            octets = 0
        slices[-1].append(candidate)
        octets += candidate.row[5]
    return slices


def _search_texts(texts: Sequence[tuple[Candidate, _Text]], tests: Sequence[Test]) -> list[Candidate]:
    """Long work: run it in a thread."""
    found = []
    for candidate, text in texts:
        candidate.header, candidate.text = text.header, text.folded
        if all(test.passes(candidate) for test in tests):
            found.append(candidate)
        candidate.header, candidate.text = bytes, nothing  # let the octets go
    return found


class _Text:
    """One message's text, decoded when first asked for."""

    __slots__ = ("_facts", "_folded", "_octets", "_size")

    def __init__(self, facts: Facts, size: int, octets: bytes) -> None:
        self._facts = facts
        self._size = size
        self._octets = octets
        self._folded: dict[bool, str] = {}

    def header(self) -> bytes:
        """The header section."""
        return self._octets[: self._facts.header_size]

    def folded(self, header: bool) -> str:
        """All text, decoded and casemapped; with the header section, or without."""
        known = self._folded.get(header)
        if known is None:
            known = self._folded[header] = casemap(search_text(self._part(), self._octets, header))
        return known

    def _part(self) -> Part:
        whole = self._facts.structure and len(self._octets) == self._size
        return unpack(self._facts.structure) if whole else scan(self._octets)


async def _answer(
    context: Context, command: c.Search, found: list[Row], scores: Mapping[int, int], newest_first: bool
) -> bytes:
    selected = context.selected
    uids, numbers = await named(context, selected, uids_of(found), command.uid)
    modseq = highest(found) if asks_modseq(command.key) else None
    said: Response = SearchResponse(numbers[::-1] if newest_first else numbers, modseq)
    if command.returns is not None or selected.revised:
        said = extended(command, numbers, modseq, relevancy(command, uids, scores))
    return await encoded(context, said, len(numbers))


async def named(
    context: Context, selected: Selected, uids: list[int], by_uid: bool
) -> tuple[list[int], list[int]]:
    """Those of `uids` that the session has, and as it calls them."""
    numbers = selected.view.sequences(uids)
    if len(uids) <= MANY:
        return _named(uids, numbers, by_uid)
    return await context.services.work.compute(_named, uids, numbers, by_uid)


def _named(uids: list[int], numbers: Mapping[int, int], by_uid: bool) -> tuple[list[int], list[int]]:
    known = uids if has_all(numbers, uids) else [uid for uid in uids if uid in numbers]
    return known, known if by_uid else [numbers[uid] for uid in known]


def has_all(known: Mapping[int, Any], uids: Sequence[int]) -> bool:
    """Whether all of them are known; asked for some thousands at a time, for which other threads wait."""
    parts = (uids[at : at + MANY] for at in range(0, len(uids), MANY))
    return all(all(map(known.__contains__, part)) for part in parts)


async def encoded(context: Context, response: Response, numbers: int) -> bytes:
    """A response with so many numbers, written: in a thread where that takes long."""
    if numbers <= MANY:
        return response.encode()
    return await context.services.work.compute(response.encode)


def highest(found: Sequence[Row]) -> int | None:
    """The highest modseq of some messages."""
    return max((row[2] for row in found), default=None)


def extended(
    command: c.Search | x.Sort, numbers: list[int], modseq: int | None, scores: tuple[int, ...] | None
) -> ESearch:
    """ESEARCH for what was found, in its order (RFC 4731 section 3.1, RFC 5267 section 3, RFC 9394)."""
    wanted = command.returns or frozenset({"ALL"})  # RFC 4731 section 3.1: RETURN () is RETURN (ALL)
    partial = command.partial
    return ESearch(
        command.tag,
        command.uid,
        minimum=numbers[0] if numbers and "MIN" in wanted else None,
        maximum=numbers[-1] if numbers and "MAX" in wanted else None,
        count=len(numbers) if "COUNT" in wanted else None,
        all=SequenceSet.of(numbers) if numbers and "ALL" in wanted else None,
        modseq=modseq,
        partial=None if partial is None else (partial, SequenceSet.of(numbers[partial.slice(len(numbers))])),
        relevancy=scores,
    )


def asks_modseq(key: k.Key) -> bool:
    """Whether MODSEQ is among the keys: the answer has the highest then (RFC 7162 section 3.1.5)."""
    match key:
        case k.ModSeq():
            return True
        case k.And():
            return any(map(asks_modseq, key.keys))
        case k.Or():
            return asks_modseq(key.left) or asks_modseq(key.right)
        case k.Not() | k.Fuzzy():
            return asks_modseq(key.key)
    return False
