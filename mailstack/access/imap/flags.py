"""STORE and UID STORE (RFC 3501 section 6.4.6), also conditional (RFC 7162 section 3.1.3)."""

from __future__ import annotations

from collections.abc import Sequence

from mailstack.access.imap.context import Context, Selected, refuse
from mailstack.access.imap.items import Batch, Line, compile_items
from mailstack.access.imap.limits import newest, say_limit
from mailstack.access.imap.numbers import named
from mailstack.access.imap.permission import changeable
from mailstack.access.imap.updates import known_flags
from mailstack.store.news import Row, uids_of
from mailstack.store.tables import UID_MASK
from mailstack.store.values import Stored
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.responses import AnyResponse, Tagged
from mailstack.wire.imap.sequence import SequenceSet

SLICE = 1000  # messages answered before others are served
LOOKED_AT = 10_000  # messages looked at before others are served


async def store(context: Context, command: c.Store) -> AnyResponse:
    """Change flags; without .SILENT, tell the new flags of every message named."""
    selected = context.selected
    if selected.read_only:
        return refuse(command, "The mailbox is read-only", "READ-ONLY")
    flags = changeable(command.flags, selected.rights)
    if (refused := _forbidden(selected, command, flags)) is not None:
        return refused
    if command.unchanged_since is not None:
        context.enable_condstore()
    uids, last = newest(context, named(selected.view, command.set, command.uid))
    before = selected.mailbox.rows(uids)
    present = uids if len(before) == len(uids) else uids_of(before)
    stored = Stored([], [])
    if present:
        stored = await selected.mailbox.store_flags(
            present, command.mode, flags, command.unchanged_since, selected.rights
        )
    if command.silent:  # what others did before is told with the outcome: there is no doubt about the order
        await _silence_expected(context, selected, command, before)
    else:
        await _silence(context, selected, present)
    if selected.keywords != selected.mailbox.keywords:
        await context.say(known_flags(selected))
    if not command.silent:
        await _tell(context, selected, present, _told(selected, command.uid, c.Attribute.FLAGS))
    elif selected.modseqs:  # RFC 7162 section 3.1.3: also with .SILENT
        await _tell(context, selected, stored.changed, _told(selected, command.uid))
    result = _result(selected, command, stored.failed, len(uids) - len(present))
    return await say_limit(context, result, last)


def _forbidden(selected: Selected, command: c.Store, flags: frozenset[str]) -> Tagged | None:
    """NO where the rights do not let any of it be done (RFC 4314 section 4: one flag is enough)."""
    if command.mode == "replace":
        allowed = bool(set("stw") & set(selected.rights))
    else:
        allowed = bool(flags) or not command.flags
    return None if allowed else refuse(command, "You have no right to change these flags", "NOPERM")


async def _silence(context: Context, selected: Selected, uids: Sequence[int]) -> None:
    """The client is about to be told the flags of these, or knows them."""
    for start in range(0, len(uids), LOOKED_AT):
        if start:
            await context.services.pause()
        selected.view.silence(uids[start : start + LOOKED_AT])


async def _silence_expected(
    context: Context, selected: Selected, command: c.Store, before: Sequence[Row]
) -> None:
    """The same of those whose flags are what a client makes of its own change; of others it must be told."""
    mask, whole = selected.mailbox.mask_of(command.flags)
    if not whole and command.mode != "remove":  # flags that nobody can have
        return
    kept, added = {"add": (-1, mask), "remove": (~mask, 0), "replace": (0, mask)}[command.mode]
    for start in range(0, len(before), LOOKED_AT):
        if len(before) > LOOKED_AT:  # before the first as well: they were just changed, without a pause
            await context.services.pause()
        some = before[start : start + LOOKED_AT]
        now = {row[0] & UID_MASK: row[1] for row in selected.mailbox.rows(uids_of(some))}
        told = filter(selected.view.knows, some)
        wanted = [(row[0] & UID_MASK, row[1] & kept | added) for row in told]
        selected.view.silence([uid for uid, flags in wanted if now.get(uid) == flags])


def _result(selected: Selected, command: c.Store, failed: list[int], gone: int) -> Tagged:
    """The tagged reply, with what UNCHANGEDSINCE kept (RFC 7162 section 3.1.3)."""
    code = None
    if failed:
        numbers = failed if command.uid else [selected.view.sequence(uid) or 0 for uid in failed]
        code = f"MODIFIED {SequenceSet.of(sorted(numbers))}"
    if gone and not command.uid:  # RFC 2180 section 4.2.1
        return Tagged(command.tag, "NO", "Some of the messages are gone", code or "EXPUNGEISSUED")
    return Tagged(command.tag, "OK", "UID STORE completed" if command.uid else "STORE completed", code)


def _told(selected: Selected, by_uid: bool, *items: c.Attribute) -> Line:
    """What is told of each message: UID and MODSEQ where they are due, then `items`."""
    named_so = (by_uid or selected.vanishes or selected.revised) and not selected.uid_only
    uid = (c.Attribute.UID,) if named_so else ()
    modseq = (c.Attribute.MODSEQ,) if selected.modseqs else ()
    return compile_items((*uid, *modseq, *items), selected).line


async def _tell(context: Context, selected: Selected, uids: Sequence[int], line: Line) -> None:
    for start in range(0, len(uids), SLICE):
        rows = selected.mailbox.rows(uids[start : start + SLICE])
        some = uids_of(rows)
        await context.say(b"".join(line.responses(selected.fetches(some), Batch(some, rows))))
        if start + SLICE < len(uids):
            await context.services.pause()
