"""STORE and UID STORE (RFC 3501 section 6.4.6)."""

from __future__ import annotations

from mailstack.access.imap.context import Context, Selected, refuse
from mailstack.access.imap.numbers import named
from mailstack.access.imap.updates import flag_responses, known_flags
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.responses import AnyResponse, Tagged

SLICE = 1000  # messages answered before others are served


async def store(context: Context, command: c.Store) -> AnyResponse:
    """Change flags; without .SILENT, tell the new flags of every message named."""
    selected = context.selected
    if selected.read_only:
        return refuse(command, "The mailbox is read-only", "READ-ONLY")
    uids = named(selected.view, command.set, command.uid)
    present = [uid for uid in uids if selected.mailbox.entry(uid) is not None]
    if present:
        await selected.mailbox.store_flags(present, command.mode, command.flags)
    selected.view.silence(present)
    if selected.keywords != selected.mailbox.keywords:
        await context.say(known_flags(selected))
    if not command.silent:
        await _tell(context, selected, present, command.uid)
    words = "UID STORE" if command.uid else "STORE"
    if len(present) < len(uids) and not command.uid:  # RFC 2180 section 4.2.1
        return Tagged(command.tag, "NO", "Some of the messages are gone", "EXPUNGEISSUED")
    return Tagged(command.tag, "OK", f"{words} completed")


async def _tell(context: Context, selected: Selected, uids: list[int], by_uid: bool) -> None:
    for start in range(0, len(uids), SLICE):
        await context.say(flag_responses(selected, uids[start : start + SLICE], by_uid))
        if start + SLICE < len(uids):
            await context.services.pause()
