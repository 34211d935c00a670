"""FETCH and UID FETCH (RFC 3501 section 6.4.5).

Theory of operation. The items are compiled once (`items`). Messages go in slices: the index is asked for
one slice while the one before is written, blocks of many responses are said, and between slices the
reactor serves others. What needs message text is read in threads; small texts are read together, while the
ones before are on their way, and no octet of them is copied but into the block; big ones are streamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from twisted.internet.defer import Deferred

from mailstack.access.imap import resync, texts
from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.items import NO_FACTS, Plan, compile_items
from mailstack.access.imap.limits import newest, say_limit, too_many
from mailstack.access.imap.numbers import named
from mailstack.access.imap.updates import known_flags
from mailstack.store.flags import SEEN_BIT
from mailstack.store.tables import UID_MASK
from mailstack.store.values import SEEN, Entry, Expunged, Facts
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

Found: TypeAlias = list[tuple[Entry, Facts]]


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


def _in_utf8(found: Found) -> int:
    """Octets of ENVELOPE, BODY and BODYSTRUCTURE that hold UTF-8."""
    return sum(
        len(value)
        for _, facts in found
        for value in (facts.envelope, facts.body, facts.body_structure)
        if not value.isascii()
    )


def _downgraded(found: Found) -> Found:
    """Long work: run it in a thread."""
    return [
        (
            entry,
            replace(
                facts,
                envelope=seven_bit(facts.envelope),
                body=seven_bit(facts.body),
                body_structure=seven_bit(facts.body_structure),
            ),
        )
        for entry, facts in found
    ]


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

    facts: Found
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
        selected, mailbox, line = self._selected, self._selected.mailbox, self._plan.line
        for start in range(0, len(uids), MEMORY_SLICE):
            if start:
                await self._context.services.pause()
            some = uids[start : start + MEMORY_SLICE]
            rows = mailbox.rows(some)
            if len(rows) < len(some):  # some are expunged
                some = [row[0] & UID_MASK for row in rows]
            self._answered += len(rows)
            await self._say(b"".join(line.responses(selected.fetches(some), some, rows)))

    async def _write_slices(self, uids: Sequence[int]) -> None:
        """Slice by slice; the next one is read while this one is written."""
        slices = self._text_slices(uids) if self._plan.texts else self._facts_slices(uids)
        coming = self._ask(next(slices))
        while True:
            found = await coming
            following = next(slices, None)
            if following:
                coming = self._ask(following)
            try:
                await (self._write_texts(found) if self._plan.texts else self._write_facts(found.facts))
            except BaseException:
                if following:
                    coming.addErrback(lambda failure: None)  # nobody will look at it any more
                raise
            if not following:
                return

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

    def _ask(self, uids: Sequence[int]) -> Deferred[_Slice]:
        return Deferred.fromCoroutine(self._read(uids))

    async def _read(self, uids: Sequence[int]) -> _Slice:
        found = await self._facts(uids)
        if not self._plan.texts:
            return _Slice(found)
        wanted = [texts.Wanted(entry, facts, self._plan.texts) for entry, facts in found]
        small = [each for each in wanted if each.is_small]
        return _Slice(found, wanted, await texts.read_small(self._selected.mailbox, small))

    async def _facts(self, uids: Sequence[int]) -> Found:
        mailbox, columns = self._selected.mailbox, self._plan.columns
        entries = [entry for uid in uids if (entry := mailbox.entry(uid)) is not None]
        if not columns:
            return [(entry, NO_FACTS) for entry in entries]
        found = await mailbox.facts([entry.uid for entry in entries], columns)
        pairs = [(entry, facts) for entry, facts in zip(entries, found, strict=True) if facts is not None]
        if not self._selected.utf8 and _in_utf8(pairs) >= LONG:
            pairs = await self._context.services.work.compute(_downgraded, pairs)
        if "fields" not in columns:
            return pairs
        return [
            (entry, facts if facts.fields else await self._whole_header(entry, facts))
            for entry, facts in pairs
        ]

    async def _whole_header(self, entry: Entry, facts: Facts) -> Facts:
        """Where the index has no common fields (none there, or too long), the header section stands in."""
        try:
            header = await self._selected.mailbox.body(entry.uid, 0, min(facts.header_size, texts.MAX_HEADER))
        except Expunged:
            header = b""
        return replace(facts, fields=header)

    async def _write_facts(self, found: Found) -> None:
        head, write = self._selected.fetch, self._plan.line.write
        lines = [b"%b%b)\r\n" % (head(entry.uid), write(entry, facts)) for entry, facts in found]
        self._answered += len(lines)
        await self._say(b"".join(lines))

    async def _write_texts(self, found: _Slice) -> None:
        mailbox, work = self._selected.mailbox, self._context.services.work
        for each in found.wanted:
            head = self._head(each)
            if each.is_small:
                values = found.octets[each.uid]
                if values is not None:
                    self._answered += 1
                    await self._say(head, *each.items(values), b")\r\n")
                continue
            file = await texts.open_big(mailbox, work, each.uid)
            if file is not None:
                self._answered += 1
                await self._stream(head, each, file)

    def _head(self, wanted: texts.Wanted) -> bytes:
        """``* 7 FETCH (UID 12 FLAGS () `` up to the texts; flags as they are now."""
        entry = self._selected.mailbox.entry(wanted.uid) or wanted.entry
        line = self._fresh_line if wanted.uid in self._fresh else self._plan.line
        items = line.write(entry, wanted.facts)
        return b"%b%b%b" % (self._selected.fetch(wanted.uid), items, b" " if items else b"")

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
