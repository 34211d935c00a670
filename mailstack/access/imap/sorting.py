"""SORT and THREAD and their UID forms (RFC 5256, RFC 5267 section 3, RFC 5957).

Theory of operation. What matches is found as for SEARCH. If the order needs header fields, they are read from
the index slice by slice; keys are made, and put in order, in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeVar

from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.contexts import begin, reuses_tag
from mailstack.access.imap.fuzzy import misuses_relevancy, relevancy
from mailstack.access.imap.kept import KEPT
from mailstack.access.imap.limits import searched, too_many
from mailstack.access.imap.saved import keep
from mailstack.access.imap.search import asks_modseq, check_returns, extended, find, header
from mailstack.access.imap.sections import field_pattern
from mailstack.mail import sorting, threads
from mailstack.mail.fields import decode_words, field_value, parse_date
from mailstack.mail.sorting import Sortable
from mailstack.mail.threads import Threaded
from mailstack.store import Entry
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.extension_responses import SortResponse, ThreadResponse
from mailstack.wire.imap.responses import AnyResponse, Tagged

SLICE = 500  # messages whose fields are read together
T = TypeVar("T")

_NO_FIELDS = frozenset({"ARRIVAL", "SIZE"})
_FIELDS = {
    "DATE": b"date", "SUBJECT": b"subject", "FROM": b"from", "TO": b"to", "CC": b"cc", "DISPLAYFROM": b"from",
    "DISPLAYTO": b"to",
}  # fmt: skip
_OF_THREADS = field_pattern([b"date", b"subject", b"message-id", b"references", b"in-reply-to"])
# Names and subjects repeat.
_subject_key = lru_cache(maxsize=4096)(sorting.subject_key)
_mailbox_key = lru_cache(maxsize=4096)(sorting.mailbox_key)
_display_key = lru_cache(maxsize=4096)(sorting.display_key)
_words = lru_cache(maxsize=4096)(decode_words)
_ALGORITHMS = {
    "ORDEREDSUBJECT": threads.ordered_subject,
    "REFERENCES": threads.references,
    "REFS": threads.refs,
}


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
    order = [uid for uid in order if selected.view.sequence(uid) is not None]
    numbers = order if command.uid else [selected.view.sequence(uid) or 0 for uid in order]
    modseq = max((entry.modseq for entry in found), default=None) if asks_modseq(command.key) else None
    if command.returns is None:
        return SortResponse(numbers, modseq), tagged
    return extended(command, numbers, modseq, relevancy(command, order, scores)), tagged


async def ordered(
    context: Context, selected: Selected, uids: Sequence[int], criteria: Sequence[x.Criterion]
) -> list[int]:
    """Messages in the order of the criteria; those that are gone are left out."""
    entries = [entry for uid in uids if (entry := selected.mailbox.entry(uid)) is not None]
    return await _in_order(context, selected, entries, criteria)


async def _in_order(
    context: Context,
    selected: Selected,
    found: Sequence[Entry],
    criteria: Sequence[x.Criterion],
    scores: Mapping[int, int] | None = None,
) -> list[int]:
    names = frozenset(criterion.key for criterion in criteria) - {"RELEVANCY"}
    if names <= _NO_FIELDS:
        bare = [(entry, b"") for entry in found]
        messages = await context.services.work.compute(_sortables, names, bare)
    else:
        messages = await _read(context, selected, found, partial(_sortables, names), names)
    if scores:
        messages = [each._replace(relevancy=scores.get(each.number, 100)) for each in messages]
    keys = [(criterion.key, criterion.reverse) for criterion in criteria]
    return await context.services.work.compute(sorting.sort, messages, keys)


async def thread(context: Context, command: x.Thread) -> AnyResponse:
    """THREAD: messages as conversations."""
    selected = context.selected
    if asks_modseq(command.key):
        context.enable_condstore()
    if (refused := too_many(context, command, searched(context, selected, command.key))) is not None:
        return refused
    found = await find(context, selected, command.key)
    messages: Sequence[Threaded] = await _read(context, selected, found, _threadeds, "threads")
    if not command.uid:
        numbered = [(selected.view.sequence(message.number), message) for message in messages]
        messages = [message._replace(number=number) for number, message in numbered if number is not None]
    said = await context.services.work.compute(_threads, command.algorithm, messages)
    return said, Tagged(command.tag, "OK", "UID THREAD completed" if command.uid else "THREAD completed")


def _threads(algorithm: str, messages: Sequence[Threaded]) -> bytes:
    """Long work: run it in a thread."""
    return ThreadResponse(_ALGORITHMS[algorithm](messages)).encode()


async def _read(
    context: Context,
    selected: Selected,
    found: Sequence[Entry],
    make: Callable[[Sequence[tuple[Entry, bytes]]], list[T]],
    kind: Hashable,
) -> list[T]:
    """What `make` makes of each message and its fields; those that are gone are passed over.

    It is kept under `kind`, so that the next time only new messages are read.
    """
    kept: dict[int, T] = KEPT.of(selected.mailbox, kind)
    unknown = [entry for entry in found if entry.uid not in kept]
    made = {entry.uid: kept[entry.uid] for entry in found if entry.uid in kept}
    for start in range(0, len(unknown), SLICE):
        await context.progress(start, len(unknown))
        some = unknown[start : start + SLICE]
        facts = await selected.mailbox.facts(
            [entry.uid for entry in some], frozenset({"fields", "header_size"})
        )
        known = [
            (entry, fact.fields or await header(selected, entry.uid, fact.header_size))
            for entry, fact in zip(some, facts, strict=True)
            if fact is not None
        ]
        new = await context.services.work.compute(make, known)
        made.update(zip([entry.uid for entry, _ in known], new, strict=True))
    if unknown:
        kept.update(made)
        KEPT.bound()
    return [made[entry.uid] for entry in found if entry.uid in made]


def _values(fields: bytes, wanted: re.Pattern[bytes]) -> dict[bytes, str]:
    """The first field of each name that matters."""
    values: dict[bytes, str] = {}
    for raw in wanted.findall(fields):
        name = raw[: raw.index(b":")].rstrip().lower()
        if name not in values:
            values[name] = field_value(raw)
    return values


def _sent(values: dict[bytes, str], entry: Entry) -> int:
    """RFC 5256 section 2.2: in UTC; where the Date field is not to be read, the internal date."""
    parsed = parse_date(values.get(b"date", ""))
    return entry.internal_date if parsed is None else parsed[0]


def _sortables(names: frozenset[str], messages: Sequence[tuple[Entry, bytes]]) -> list[Sortable]:
    """Only the keys that are asked for are made."""
    made = []
    wanted = field_pattern(_FIELDS[name] for name in names if name in _FIELDS)
    for entry, fields in messages:
        values = _values(fields, wanted) if fields else {}
        made.append(
            Sortable(
                entry.uid,
                entry.internal_date,
                _sent(values, entry) if "DATE" in names else 0,
                entry.size,
                _subject_key(values.get(b"subject", "")) if "SUBJECT" in names else "",
                _mailbox_key(values.get(b"from", "")) if "FROM" in names else "",
                _mailbox_key(values.get(b"to", "")) if "TO" in names else "",
                _mailbox_key(values.get(b"cc", "")) if "CC" in names else "",
                _display_key(values.get(b"from", "")) if "DISPLAYFROM" in names else "",
                _display_key(values.get(b"to", "")) if "DISPLAYTO" in names else "",
            )
        )
    return made


def _threadeds(messages: Sequence[tuple[Entry, bytes]]) -> list[Threaded]:
    made = []
    for entry, fields in messages:
        values = _values(fields, _OF_THREADS)
        refers = threads.message_ids(values.get(b"references", ""))
        if not refers:  # RFC 5256 section 3, REFERENCES step 1: only the first of In-Reply-To
            refers = threads.message_ids(values.get(b"in-reply-to", ""))[:1]
        identifier = threads.message_ids(values.get(b"message-id", ""))
        made.append(
            Threaded(
                entry.uid,
                _sent(values, entry),
                _words(values.get(b"subject", "")).strip(),
                identifier[0] if identifier else "",
                refers,
                entry.internal_date,
            )
        )
    return made
