"""FETCH and UID FETCH (RFC 3501 section 6.4.5).

Theory of operation. The items are compiled once (`items`). Messages go in slices: the index is asked for
one slice while the one before is written, blocks of at least 64 KiB are said, and between slices the
reactor serves others. What needs message text is read in threads; small texts are read together, big ones
are streamed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from twisted.internet.defer import Deferred

from mailstack.access.imap import resync, texts
from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.items import NO_FACTS, Plan, compile_items
from mailstack.access.imap.limits import newest, say_limit, too_many
from mailstack.access.imap.numbers import named
from mailstack.access.imap.updates import known_flags
from mailstack.store import SEEN, Entry, Expunged, Facts
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.responses import AnyResponse, Tagged
from mailstack.work import Overloaded

MEMORY_SLICE = 2000  # messages whose answer is in memory
FACTS_SLICE = 400  # messages whose facts are read together
TEXT_SLICE = 32  # messages whose texts are read together
BLOCK = 64 * 1024  # octets said at once, at least

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


def _changed(selected: Selected, uids: Sequence[int], since: int) -> list[int]:
    entry_of = selected.mailbox.entry
    return [uid for uid in uids if (entry := entry_of(uid)) is not None and entry.modseq > since]


def _missing(items: Sequence[c.Item], attribute: c.Attribute) -> tuple[c.Attribute, ...]:
    return () if attribute in items else (attribute,)


async def _mark_seen(selected: Selected, uids: Sequence[int]) -> frozenset[int]:
    entry_of = selected.mailbox.entry
    fresh = [uid for uid in uids if (entry := entry_of(uid)) is not None and SEEN not in entry.flags]
    if fresh:
        await selected.mailbox.store_flags(fresh, "add", frozenset({SEEN}))
        selected.view.silence(fresh)  # the FETCH itself tells the new flags
    return frozenset(fresh)


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
        entry_of, write = self._selected.mailbox.entry, self._plan.line.write
        line = b"* %d UIDFETCH (%b)\r\n" if self._selected.uid_only else b"* %d FETCH (%b)\r\n"
        number = int if self._selected.uid_only else self._selected.view.sequence
        for start in range(0, len(uids), MEMORY_SLICE):
            lines = []
            for uid in uids[start : start + MEMORY_SLICE]:
                entry = entry_of(uid)
                if entry is not None:
                    lines.append(line % (number(uid) or 0, write(entry, NO_FACTS)))
            self._answered += len(lines)
            await self._say(b"".join(lines))
            if start + MEMORY_SLICE < len(uids):
                await self._context.services.pause()

    async def _write_slices(self, uids: Sequence[int]) -> None:
        """Slice by slice; the index is asked for the next one while this one is written."""
        size = TEXT_SLICE if self._plan.texts else FACTS_SLICE
        size = max(1, 10 * size // max(10, self._plan.items))  # the more items, the fewer messages at a time
        write = self._write_texts if self._plan.texts else self._write_facts
        coming = self._ask(uids[:size])
        for start in range(0, len(uids), size):
            found = await coming
            following = uids[start + size : start + 2 * size]
            if following:
                coming = self._ask(following)
            try:
                await write(found)
            except BaseException:
                coming.addErrback(lambda failure: None)  # nobody will look at it any more
                raise

    def _ask(self, uids: Sequence[int]) -> Deferred[Found]:
        return Deferred.fromCoroutine(self._facts(uids))

    async def _facts(self, uids: Sequence[int]) -> Found:
        mailbox, columns = self._selected.mailbox, self._plan.columns
        entries = [entry for uid in uids if (entry := mailbox.entry(uid)) is not None]
        if not columns:
            return [(entry, NO_FACTS) for entry in entries]
        found = await mailbox.facts([entry.uid for entry in entries], columns)
        pairs = [(entry, facts) for entry, facts in zip(entries, found, strict=True) if facts is not None]
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

    async def _write_texts(self, found: Found) -> None:
        mailbox, work = self._selected.mailbox, self._context.services.work
        wanted = [texts.Wanted(entry, facts, self._plan.texts) for entry, facts in found]
        octets = await texts.read_small(mailbox, [each for each in wanted if each.is_small])
        for each in wanted:
            head = self._head(each)
            if each.is_small:
                values = octets[each.uid]
                if values is not None:
                    self._answered += 1
                    await self._say(head + each.items(values) + b")\r\n")
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

    async def _say(self, octets: bytes) -> None:
        self._block.append(octets)
        self._size += len(octets)
        if self._size >= BLOCK:
            await self._flush()

    async def _flush(self) -> None:
        block, self._block, self._size = self._block, [], 0
        if block:
            await self._context.say(b"".join(block))
