"""SORT and THREAD and their UID forms (RFC 5256, RFC 5267 section 3, RFC 5957).

Theory of operation. What matches is found as for SEARCH. What the order needs is in memory, or in the
headings (`store.heading`), or else made of header fields: read slice by slice, made and put in order in a
thread. Sort keys are kept, and the answer to THREAD as long as it is about the same messages.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from typing import Any

from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.contexts import begin, reuses_tag
from mailstack.access.imap.fuzzy import misuses_relevancy, relevancy
from mailstack.access.imap.kept import KEPT, Answer
from mailstack.access.imap.limits import searched, too_many
from mailstack.access.imap.saved import keep
from mailstack.access.imap.search import (
    asks_modseq,
    check_returns,
    encoded,
    extended,
    find,
    has_all,
    header,
    highest,
    named,
)
from mailstack.access.imap.sections import field_pattern
from mailstack.mail import sorting, threads
from mailstack.mail.fields import field_value
from mailstack.store.heading import DIGEST, heading_of
from mailstack.store.headings import SLICE
from mailstack.store.news import Row, uids_of
from mailstack.store.tables import UID_MASK
from mailstack.store.values import FactColumns
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.extension_responses import SortResponse, ThreadResponse
from mailstack.wire.imap.responses import AnyResponse, Response, Tagged

FIELDS_SLICE = 500  # messages whose fields are read together

_IN_ROWS = {"ARRIVAL": 3, "SIZE": 5}
_NO_DIGEST = bytes(DIGEST)
# Names repeat.
_mailbox_key = lru_cache(maxsize=4096)(sorting.mailbox_key)
_display_key = lru_cache(maxsize=4096)(sorting.display_key)
_ALGORITHMS = {
    "ORDEREDSUBJECT": threads.ordered_subject,
    "REFERENCES": threads.references,
    "REFS": threads.refs,
}


@dataclass(frozen=True, slots=True)
class _Kind:
    """How what an order needs of messages is made: of columns of their headings, or of their fields."""

    columns: tuple[str, ...]  # of the heading; none: it is not there
    of_headings: Callable[..., Iterable[Any]]  # of rows and of those columns
    of_fields: Callable[[Row, bytes], Any]


def _sent(rows: Sequence[Row], sent: Sequence[int | None]) -> list[int]:
    """RFC 5256 section 2.2: in UTC; where the Date field is not to be read, the internal date."""
    return [row[3] if date is None else date for row, date in zip(rows, sent, strict=True)]


def _base(rows: Sequence[Row], base: Sequence[str]) -> list[str]:
    keys = [each[1:] for each in base]
    return list(map(sorting.text_key, keys)) if "\ufffd" in "".join(keys) else keys


def _kept_in_heading(columns: tuple[str, ...], of_headings: Callable[..., Iterable[Any]]) -> _Kind:
    def of_fields(row: Row, fields: bytes) -> Any:
        heading = heading_of(fields)
        return next(iter(of_headings([row], *([getattr(heading, name)] for name in columns))))

    return _Kind(columns, of_headings, of_fields)


def _in_field(name: bytes, key: Callable[[str], str]) -> _Kind:
    find_field = field_pattern([name]).search

    def of_fields(row: Row, fields: bytes) -> str:
        found = find_field(fields)
        return key(field_value(found[0]) if found else "")

    return _Kind((), lambda rows: [], of_fields)


_KINDS = {
    "DATE": _kept_in_heading(("sent",), _sent),
    "SUBJECT": _kept_in_heading(("base",), _base),
    "FROM": _in_field(b"from", _mailbox_key),
    "TO": _in_field(b"to", _mailbox_key),
    "CC": _in_field(b"cc", _mailbox_key),
    "DISPLAYFROM": _in_field(b"from", _display_key),
    "DISPLAYTO": _in_field(b"to", _display_key),
}
_OF_THREADS = _kept_in_heading(("sent", "base", "refs"), lambda rows, *columns: zip(*columns, strict=True))


async def sort(context: Context, command: x.Sort) -> AnyResponse:
    """SORT: messages in the order of the criteria."""
    selected, returns = context.selected, command.returns or frozenset()
    check_returns(returns)
    if (refused := misuses_relevancy(command) or reuses_tag(selected, command)) is not None:
        return refused
    if "SAVE" in returns:
        selected.saved = ()
    if asks_modseq(command.key):
        context.enable_condstore()
    if (refused := too_many(context, command, searched(context, selected, command.key))) is not None:
        return refused
    updates = await begin(context, selected, command)
    scores: dict[int, int] = {}
    found = await find(context, selected, command.key, scores=scores)
    order = await _in_order(context, selected, found, command.criteria, scores)
    if updates is not None:
        await updates.end(context, order)
    if "SAVE" in returns:
        keep(selected, order, returns, command.partial)
    tagged = Tagged(command.tag, "OK", "UID SORT completed" if command.uid else "SORT completed")
    if returns == {"SAVE"}:
        return tagged
    order, numbers = await named(context, selected, order, command.uid)
    modseq = highest(found) if asks_modseq(command.key) else None
    said: Response = SortResponse(numbers, modseq)
    if command.returns is not None:
        said = extended(command, numbers, modseq, relevancy(command, order, scores))
    return await encoded(context, said, len(numbers)), tagged


async def ordered(
    context: Context, selected: Selected, uids: Sequence[int], criteria: Sequence[x.Criterion]
) -> list[int]:
    """Messages in the order of the criteria; those that are gone are left out."""
    return await _in_order(context, selected, selected.mailbox.rows(uids), criteria)


async def _in_order(
    context: Context,
    selected: Selected,
    found: Sequence[Row],
    criteria: Sequence[x.Criterion],
    scores: Mapping[int, int] | None = None,
) -> list[int]:
    keys: dict[str, Mapping[int, Any]] = {}
    for name in dict.fromkeys(criterion.key for criterion in criteria):
        if name in _IN_ROWS:
            keys[name] = await context.services.work.compute(_column, found, _IN_ROWS[name])
        elif name == "RELEVANCY":
            keys[name] = {row[0] & UID_MASK: -(scores or {}).get(row[0] & UID_MASK, 100) for row in found}
        else:
            keys[name] = await _made(context, selected, found, _KINDS[name], KEPT.of(selected.mailbox, name))
    KEPT.bound()
    chosen = [(keys[criterion.key], criterion.reverse) for criterion in criteria]
    return await context.services.work.compute(_sorted, found, chosen)


def _column(rows: Sequence[Row], place: int) -> dict[int, int]:
    return {row[0] & UID_MASK: row[place] for row in rows}


def _sorted(rows: Sequence[Row], keys: Sequence[tuple[Mapping[int, Any], bool]]) -> list[int]:
    """Long work: run it in a thread. Messages that are gone have no key."""
    uids = uids_of(rows)
    for known, _ in keys:
        if not has_all(known, uids):
            uids = [uid for uid in uids if uid in known]
    return sorting.sort(uids, [(known.__getitem__, reverse) for known, reverse in keys])


async def thread(context: Context, command: x.Thread) -> AnyResponse:
    """THREAD: messages as conversations."""
    selected = context.selected
    if asks_modseq(command.key):
        context.enable_condstore()
    if (refused := too_many(context, command, searched(context, selected, command.key))) is not None:
        return refused
    found = await find(context, selected, command.key)
    tagged = Tagged(command.tag, "OK", "UID THREAD completed" if command.uid else "THREAD completed")
    uids, numbers = await named(context, selected, uids_of(found), command.uid)
    kind = (command.algorithm, command.uid)
    asked = array("I", uids), array("I", numbers)
    known = KEPT.answer(selected.mailbox, kind)
    if known is not None and known.asked == asked:
        return known.said, tagged
    letters = await _letters(context, selected, found)
    said = await context.services.work.compute(_threads, command.algorithm, uids, numbers, letters)
    if len(letters.rows) == len(uids):
        KEPT.put(selected.mailbox, kind, Answer(asked, said))
    return said, tagged


@dataclass(frozen=True, slots=True)
class _Letters:
    """What threads are made of, column by column: of thousands, a tuple for each would cost more."""

    rows: Sequence[Row]
    sent: Sequence[int | None]
    base: Sequence[str]
    refs: Sequence[bytes]

    def only(self, chosen: Sequence[bool]) -> _Letters:
        """Some of them."""
        columns: tuple[Sequence[Any], ...] = (self.rows, self.sent, self.base, self.refs)
        return _Letters(*(list(compress(column, chosen)) for column in columns))


async def _letters(context: Context, selected: Selected, found: Sequence[Row]) -> _Letters:
    """Of these messages, in their order; those that are gone are missing."""
    columns: tuple[list[Any], ...] = ([], [], [], [])
    for start in range(0, len(found), SLICE):
        await context.progress(start, len(found))
        some = found[start : start + SLICE]
        headings = await selected.mailbox.headings.read(uids_of(some), _OF_THREADS.columns)
        parts: Iterable[Sequence[Any]] = (some, *headings.columns.values())
        if headings.uids != uids_of(some):
            made = _of_headings(_OF_THREADS, some, headings)
            lacking = [row for row in some if row[0] & UID_MASK not in made]
            made.update(await _of_fields(context, selected, lacking, _OF_THREADS))
            there = [row for row in some if row[0] & UID_MASK in made]
            parts = zip(*((row, *made[row[0] & UID_MASK]) for row in there), strict=True) if there else ()
        for column, part in zip(columns, parts, strict=False):
            column += part
    return _Letters(*columns)


def _references(refs: bytes) -> Sequence[bytes]:
    return [refs[at : at + DIGEST] for at in range(DIGEST, len(refs), DIGEST)] if len(refs) > DIGEST else ()


def _threads(algorithm: str, uids: Sequence[int], numbers: Sequence[int], letters: _Letters) -> bytes:
    """Long work: run it in a thread. `numbers`: how the session calls the messages of `uids`."""
    there = uids_of(letters.rows)
    if there != uids:
        names = dict(zip(uids, numbers, strict=True))
        letters = letters.only([uid in names for uid in there])
        numbers = [names[uid] for uid in uids_of(letters.rows)]
    messages = threads.Messages(
        numbers=numbers,
        sent=_sent(letters.rows, letters.sent),
        subjects=letters.base,
        ids=[b"" if names.startswith(_NO_DIGEST) else names[:DIGEST] for names in letters.refs],
        references=map(_references, letters.refs),  # one by one: so many lists are dear to the collector
        arrivals=[row[3] for row in letters.rows],
    )
    return ThreadResponse(_ALGORITHMS[algorithm](messages)).encode()


async def _made(
    context: Context, selected: Selected, found: Sequence[Row], kind: _Kind, kept: dict[int, Any]
) -> Mapping[int, Any]:
    """What is made of each message, by UID; those that are gone are missing. It is added to `kept`.

    What was made before is not made again; others may be among it.
    """
    unknown = [row for row in found if row[0] & UID_MASK not in kept] if kept else found
    compute = context.services.work.compute
    for start in range(0, len(unknown), SLICE):
        await context.progress(start, len(unknown))
        some = unknown[start : start + SLICE]
        if kind.columns:
            headings = await selected.mailbox.headings.read(uids_of(some), kind.columns)
            kept.update(await compute(_of_headings, kind, some, headings))
            there = set(headings.uids)
            some = [row for row in some if row[0] & UID_MASK not in there]
        kept.update(await _of_fields(context, selected, some, kind))
    return kept


def _of_headings(kind: _Kind, rows: Sequence[Row], headings: FactColumns) -> dict[int, Any]:
    """Long work: run it in a thread."""
    uids = headings.uids
    columns: list[Sequence[Any]] = list(headings.columns.values())
    if uids != uids_of(rows):  # of some there is none, or there are others beside
        by_uid = {row[0] & UID_MASK: row for row in rows}
        asked = [uid in by_uid for uid in uids]
        uids = list(compress(uids, asked))
        columns = [list(compress(column, asked)) for column in columns]
        rows = [by_uid[uid] for uid in uids]
    return dict(zip(uids, kind.of_headings(rows, *columns), strict=True))


async def _of_fields(
    context: Context, selected: Selected, rows: Sequence[Row], kind: _Kind
) -> dict[int, Any]:
    made: dict[int, Any] = {}
    for start in range(0, len(rows), FIELDS_SLICE):
        await context.progress(start, len(rows))
        some = rows[start : start + FIELDS_SLICE]
        facts = await selected.mailbox.facts(uids_of(some), frozenset({"fields", "header_size"}))
        known = [
            (row, fact.fields or await header(selected, row[0] & UID_MASK, fact.header_size))
            for row, fact in zip(some, facts, strict=True)
            if fact is not None
        ]
        made.update(await context.services.work.compute(_values, kind, known))
    return made


def _values(kind: _Kind, messages: Sequence[tuple[Row, bytes]]) -> dict[int, Any]:
    """Long work: run it in a thread."""
    return {row[0] & UID_MASK: kind.of_fields(row, fields) for row, fields in messages}
