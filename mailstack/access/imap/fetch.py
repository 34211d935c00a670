"""FETCH and UID FETCH (RFC 3501 section 6.4.5).

Theory of operation. The items are compiled once (`items`). Messages go in slices: a slice is read, blocks of
many responses are said, and between slices the reactor serves others. What needs message text is read in
threads; small texts are read together, and no octet of them is copied but into the block; big ones are
streamed. (The next slice is not read while one is written: a thread that opens files and the reactor would
take Python's lock from each other at every system call, which costs more than the waiting.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from mailstack.access.imap import resync, texts
from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.items import IN_UTF8, Batch, Plan, compile_items
from mailstack.access.imap.limits import newest, say_limit, too_many
from mailstack.access.imap.numbers import named
from mailstack.access.imap.updates import known_flags
from mailstack.store.flags import SEEN_BIT
from mailstack.store.news import Row, uids_of
from mailstack.store.tables import UID_MASK
from mailstack.store.values import SEEN, Expunged
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.downgrade import seven_bit
from mailstack.wire.imap.responses import AnyResponse, Tagged
from mailstack.work import Overloaded

MEMORY_SLICE = 2000  # messages whose answer is in memory
FACTS_SLICE = 400  # messages whose facts are read together
TEXT_SLICE = 64  # messages whose texts are read together
TEXT_OCTETS = 1024 * 1024  # of such messages, at most (but always one message)
BLOCK = 128 * 1024  # octets said at once, at least

LONG = 16 * 1024  # octets of strings in UTF-8: so many are written in 7 bits in a thread


async def fetch(context: Context, command: c.Fetch) -> AnyResponse:
    """Say what is asked of each message; those expunged meanwhile are passed over (RFC 2180 section 4.1)."""
    selected = context.selected
    if command.vanished and not context.qresync:  # RFC 7162 section 3.2.6
        return Tagged(command.tag, "BAD", "VANISHED needs ENABLE QRESYNC")
    uids = named(selected.view, command.set, command.uid)
    items = command.items
    if command.changed_since is not None:
        uids = _changed(selected, uids, command.changed_since)
        items = (*items, *_missing(items, c.Attribute.MODSEQ))  # RFC 7162 section 3.1.4.1
    if command.vanished and command.changed_since is not None:
        await context.say(await resync.vanished(selected, command.set, command.changed_since))
    if command.partial is not None:  # RFC 9394 section 3.3: of what the other conditions leave
        uids = uids[command.partial.slice(len(uids))]
    if c.Attribute.MODSEQ in items:
        context.enable_condstore()
    if command.partial is not None and (refused := too_many(context, command, uids)) is not None:
        return refused
    uids, last = newest(context, uids)
    if selected.keywords != selected.mailbox.keywords:  # FLAGS before the first message that has a new one
        await context.say(known_flags(selected))
    plan = compile_items(items, selected)
    fresh: frozenset[int] = frozenset()
    if plan.marks_seen and not selected.read_only and "s" in selected.rights:
        fresh = await _mark_seen(selected, uids)
    writer = _Writer(context, selected, plan, items, fresh)
    said = await writer.write(uids)
    words = "UID FETCH" if command.uid else "FETCH"
    if said < len(uids) and not command.uid:
        reply = Tagged(command.tag, "NO", "Some of the messages are gone", "EXPUNGEISSUED")
    else:
        reply = Tagged(command.tag, "OK", f"{words} completed")
    return await say_limit(context, reply, last)


async def push(context: Context, selected: Selected, uids: Sequence[int], items: Sequence[c.Item]) -> None:
    r"""Say these items of messages unasked (RFC 5465 section 5.2). Nothing is \Seen by that."""
    if (selected.vanishes or selected.revised) and not selected.uid_only:
        items = (*_missing(items, c.Attribute.UID), *items)  # RFC 7162 section 3.2.4, RFC 9051
    if selected.modseqs and c.Attribute.FLAGS in items:
        items = (*items, *_missing(items, c.Attribute.MODSEQ))
    await _Writer(context, selected, compile_items(items, selected), items, frozenset()).write(uids)


def _in_utf8(column: Sequence[bytes]) -> int:
    """Octets of values that hold UTF-8."""
    return sum(len(value) for value in column if not value.isascii())


def _downgraded(column: Sequence[bytes]) -> list[bytes]:
    """Long work: run it in a thread."""
    return list(map(seven_bit, column))


def _outlines(batch: Batch) -> Iterable[texts.Outline]:
    """As far as they were read."""
    nothing: Mapping[str, Sequence[Any]] = {
        "structure": [b""] * len(batch.uids),
        "header_size": [0] * len(batch.uids),
    }
    facts = {**nothing, **batch.facts}
    return zip(facts["structure"], facts["header_size"], strict=True)


def _changed(selected: Selected, uids: Sequence[int], since: int) -> list[int]:
    return [row[0] & UID_MASK for row in selected.mailbox.rows(uids) if row[2] > since]


def _missing(items: Sequence[c.Item], attribute: c.Attribute) -> tuple[c.Attribute, ...]:
    return () if attribute in items else (attribute,)


async def _mark_seen(selected: Selected, uids: Sequence[int]) -> frozenset[int]:
    fresh = [row[0] & UID_MASK for row in selected.mailbox.rows(uids) if not row[1] & SEEN_BIT]
    if fresh:
        await selected.mailbox.store_flags(fresh, "add", frozenset({SEEN}))
        selected.view.silence(fresh)  # the FETCH itself tells the new flags
    return frozenset(fresh)


@dataclass(frozen=True, slots=True)
class _Slice:
    """Some messages, with what was read of them."""

    batch: Batch
    wanted: Sequence[texts.Wanted] = ()
    octets: Mapping[int, bytes | None] = field(default_factory=dict)  # of those that are small, by UID


class _Writer:
    """Writes the responses of one FETCH."""

    def __init__(
        self, context: Context, selected: Selected, plan: Plan, items: Sequence[c.Item], fresh: frozenset[int]
    ) -> None:
        self._context = context
        self._selected = selected
        self._plan = plan
        self._fresh = fresh
        told = _missing(items, c.Attribute.FLAGS)
        if selected.modseqs:
            told += _missing(items, c.Attribute.MODSEQ)
        self._fresh_line = compile_items((*items, *told), selected).line if fresh else plan.line
        self._block: list[bytes] = []
        self._size = 0
        self._answered = 0

    async def write(self, uids: Sequence[int]) -> int:
        """Say all responses; how many there were."""
        if not self._plan.texts and not self._plan.columns:
            await self._write_memory(uids)
        elif uids:
            await self._write_slices(uids)
        await self._flush()
        return self._answered

    async def _write_memory(self, uids: Sequence[int]) -> None:
        mailbox = self._selected.mailbox
        for start in range(0, len(uids), MEMORY_SLICE):
            if start:
                await self._context.services.pause()
            some = uids[start : start + MEMORY_SLICE]
            await self._write_lines(Batch(some, mailbox.rows(some)).without_expunged())

    async def _write_lines(self, batch: Batch) -> None:
        heads = self._selected.fetches(batch.uids)
        self._answered += len(batch.uids)
        await self._say(b"".join(self._plan.line.responses(heads, batch)))

    async def _write_slices(self, uids: Sequence[int]) -> None:
        slices = self._text_slices(uids) if self._plan.texts else self._facts_slices(uids)
        for some in slices:
            found = await self._read(some)
            await (self._write_texts(found) if self._plan.texts else self._write_lines(found.batch))

    def _facts_slices(self, uids: Sequence[int]) -> Iterator[Sequence[int]]:
        size = max(1, 10 * FACTS_SLICE // max(10, self._plan.items))  # the more items, the fewer messages
        return (uids[start : start + size] for start in range(0, len(uids), size))

    def _text_slices(self, uids: Sequence[int]) -> Iterator[Sequence[int]]:
        most = max(1, 10 * TEXT_SLICE // max(10, self._plan.items))
        some: list[int] = []
        octets = 0
        for start in range(0, len(uids), most):
            part = uids[start : start + most]
            sizes = {row[0] & UID_MASK: row[5] for row in self._selected.mailbox.rows(part)}
            for uid in part:
                size = sizes.get(uid, 0)
                if len(some) >= most or (some and octets + size > TEXT_OCTETS):
                    yield some
                    some, octets = [], 0
                some.append(uid)
                octets += size
        yield some

    async def _read(self, uids: Sequence[int]) -> _Slice:
        batch = await self._facts(uids)
        if not self._plan.texts:
            return _Slice(batch)
        wanted = [
            texts.Wanted(uid, row[5], outline, self._plan.texts)
            for uid, row, outline in zip(batch.uids, batch.rows, _outlines(batch), strict=True)
        ]
        small = [each for each in wanted if each.is_small]
        return _Slice(batch, wanted, await texts.read_small(self._selected.mailbox, small))

    async def _facts(self, uids: Sequence[int]) -> Batch:
        mailbox, names = self._selected.mailbox, self._plan.columns
        if not names:
            return Batch(uids, mailbox.rows(uids)).without_expunged()
        found = await mailbox.fact_columns(uids, names)
        batch = Batch(found.uids, mailbox.rows(found.uids), found.columns).without_expunged()
        changed: dict[str, Sequence[bytes]] = {}
        for name in names.intersection(IN_UTF8):
            if not self._selected.utf8 and _in_utf8(batch.facts[name]) >= LONG:
                changed[name] = await self._context.services.work.compute(_downgraded, batch.facts[name])
        if "fields" in names and not all(batch.facts["fields"]):
            changed["fields"] = await self._whole_headers(batch)
        return replace(batch, facts={**batch.facts, **changed}) if changed else batch

    async def _whole_headers(self, batch: Batch) -> list[bytes]:
        """The fields; where the index has none (none there, or too long), the header section stands in."""
        found: list[bytes] = []
        facts = batch.facts
        for uid, fields, size in zip(batch.uids, facts["fields"], facts["header_size"], strict=True):
            found.append(fields or await self._whole_header(uid, size))
        return found

    async def _whole_header(self, uid: int, size: int) -> bytes:
        try:
            return await self._selected.mailbox.body(uid, 0, min(size, texts.MAX_HEADER))
        except Expunged:
            return b""

    async def _write_texts(self, found: _Slice) -> None:
        """Small texts by the block, big ones each by itself."""
        run: dict[int, bytes] = {}  # the octets of small ones that are not said yet, by place
        size = 0
        for place, each in enumerate(found.wanted):
            if each.is_small:
                octets = found.octets[each.uid]
                if octets is not None:
                    run[place] = octets
                    size += len(octets)
                if size < BLOCK:
                    continue
            await self._write_run(found, run)
            run, size = {}, 0
            if not each.is_small:
                await self._write_big(found.batch, place, each)
        await self._write_run(found, run)

    async def _write_run(self, found: _Slice, octets: Mapping[int, bytes]) -> None:
        pieces: list[bytes] = []
        for head, place in zip(self._heads(found.batch, octets), octets, strict=True):
            pieces += (head, *found.wanted[place].items(octets[place]), b")\r\n")
        self._answered += len(octets)
        await self._say(*pieces)

    async def _write_big(self, batch: Batch, place: int, wanted: texts.Wanted) -> None:
        file = await texts.open_big(self._selected.mailbox, self._context.services.work, wanted.uid)
        if file is not None:
            self._answered += 1
            await self._stream(self._heads(batch, [place])[0], wanted, file)

    def _heads(self, batch: Batch, places: Iterable[int]) -> list[bytes]:
        """``* 7 FETCH (UID 12 FLAGS () `` of each up to the texts; flags as they are now."""
        heads: list[bytes] = []
        for is_fresh, group in groupby(places, lambda place: batch.uids[place] in self._fresh):
            some = self._as_now(batch.at(list(group)))
            line = self._fresh_line if is_fresh else self._plan.line
            heads += line.responses(self._selected.fetches(some.uids), some, b" " if line.columns else b"")
        return heads

    def _as_now(self, batch: Batch) -> Batch:
        """With their rows as they are now, or as they were last for those that are expunged."""
        rows: Sequence[Row] = self._selected.mailbox.rows(batch.uids)
        if len(rows) < len(batch.uids):
            left = dict(zip(uids_of(rows), rows, strict=True))
            rows = [left.get(uid, row) for uid, row in zip(batch.uids, batch.rows, strict=True)]
        return replace(batch, rows=rows)

    async def _stream(self, head: bytes, wanted: texts.Wanted, file: texts.OpenText) -> None:
        try:
            await self._say(head)
            async for chunk in wanted.stream(file):
                await self._say(chunk)
            await self._say(b")\r\n")
        except (OSError, Overloaded) as error:
            raise texts.Cut from error
        finally:
            file.close()

    async def _say(self, *octets: bytes) -> None:
        self._block += octets
        self._size += sum(map(len, octets))
        if self._size >= BLOCK:
            await self._flush()

    async def _flush(self) -> None:
        block, self._block, self._size = self._block, [], 0
        if block:
            await self._context.say(b"".join(block))
