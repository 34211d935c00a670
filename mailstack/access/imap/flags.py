"""STORE and UID STORE (RFC 3501 section 6.4.6), also conditional (RFC 7162 section 3.1.3)."""

from __future__ import annotations

from collections.abc import Callable

from mailstack.access.imap.context import Context, Selected, refuse
from mailstack.access.imap.limits import newest, say_limit
from mailstack.access.imap.numbers import named
from mailstack.access.imap.permission import changeable
from mailstack.access.imap.updates import flag_responses, known_flags, modseq_responses
from mailstack.store import Stored
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.responses import AnyResponse, Tagged
from mailstack.wire.imap.sequence import SequenceSet

SLICE = 1000  # messages answered before others are served


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
    present = [uid for uid in uids if selected.mailbox.entry(uid) is not None]
    stored = Stored([], [])
    untold = frozenset(selected.view.untold())
    before = {uid: entry.flags for uid in present if (entry := selected.mailbox.entry(uid)) is not None}
    if present:
        stored = await selected.mailbox.store_flags(
            present, command.mode, flags, command.unchanged_since, selected.rights
        )
    known = present
    if command.silent:  # what others did before is told with the outcome: there is no doubt about the order
        known = [uid for uid in _as_expected(selected, command, before) if uid not in untold]
    selected.view.silence(known)
    if selected.keywords != selected.mailbox.keywords:
        await context.say(known_flags(selected))
    if not command.silent:
        await _tell(context, selected, present, command.uid, flag_responses)
    elif selected.modseqs:  # RFC 7162 section 3.1.3: also with .SILENT
        await _tell(context, selected, stored.changed, command.uid, modseq_responses)
    result = _result(selected, command, stored.failed, len(uids) - len(present))
    return await say_limit(context, result, last)


def _forbidden(selected: Selected, command: c.Store, flags: frozenset[str]) -> Tagged | None:
    """NO where the rights do not let any of it be done (RFC 4314 section 4: one flag is enough)."""
    if command.mode == "replace":
        allowed = bool(set("stw") & set(selected.rights))
    else:
        allowed = bool(flags) or not command.flags
    return None if allowed else refuse(command, "You have no right to change these flags", "NOPERM")


def _as_expected(selected: Selected, command: c.Store, before: dict[int, frozenset[str]]) -> list[int]:
    """The UIDs whose flags are what a client makes of its own change; of others it must be told."""
    return [
        uid
        for uid, flags in before.items()
        if (entry := selected.mailbox.entry(uid)) is not None
        and entry.flags == _changed(flags, command.mode, command.flags)
    ]


def _changed(flags: frozenset[str], mode: str, change: frozenset[str]) -> frozenset[str]:
    match mode:
        case "add":
            return flags | change
        case "remove":
            return flags - change
    return change


def _result(selected: Selected, command: c.Store, failed: list[int], gone: int) -> Tagged:
    """The tagged reply, with what UNCHANGEDSINCE kept (RFC 7162 section 3.1.3)."""
    code = None
    if failed:
        numbers = failed if command.uid else [selected.view.sequence(uid) or 0 for uid in failed]
        code = f"MODIFIED {SequenceSet.of(sorted(numbers))}"
    if gone and not command.uid:  # RFC 2180 section 4.2.1
        return Tagged(command.tag, "NO", "Some of the messages are gone", code or "EXPUNGEISSUED")
    return Tagged(command.tag, "OK", "UID STORE completed" if command.uid else "STORE completed", code)


async def _tell(
    context: Context,
    selected: Selected,
    uids: list[int],
    by_uid: bool,
    responses: Callable[[Selected, list[int], bool], bytes],
) -> None:
    for start in range(0, len(uids), SLICE):
        await context.say(responses(selected, uids[start : start + SLICE], by_uid))
        if start + SLICE < len(uids):
            await context.services.pause()
