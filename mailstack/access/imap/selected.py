"""One mailbox at a time: SELECT, EXAMINE, CLOSE, UNSELECT, CHECK, EXPUNGE (RFC 3501 sections 6.3 and 6.4)."""

from __future__ import annotations

from collections.abc import Iterable

from mailstack.access.imap.context import Context, Selected, completed, refuse
from mailstack.access.imap.limits import newest, say_limit
from mailstack.access.imap.numbers import uids_in
from mailstack.access.imap.permission import CHANGING, listen
from mailstack.access.imap.resync import resynchronize
from mailstack.access.imap.sharing import need
from mailstack.access.imap.tree import listed
from mailstack.access.imap.updates import held_back, known_flags
from mailstack.store.flags import DELETED_BIT, SEEN_BIT
from mailstack.store.tables import UID_MASK
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.codes import CLOSED, highest_modseq, mailbox_id, url_mechanisms
from mailstack.wire.imap.responses import AnyResponse, Exists, Recent, Tagged, Untagged, encode

SLICE = 5000  # messages looked at before others are served


async def select(context: Context, command: c.Select) -> AnyResponse:
    """SELECT and EXAMINE; one that fails leaves nothing selected (RFC 3501 section 6.3.1)."""
    if command.qresync is not None and not context.qresync:  # RFC 7162 section 3.2.5
        return Tagged(command.tag, "BAD", "QRESYNC needs ENABLE QRESYNC")
    if context.current is not None:
        context.leave()
        await context.say(Untagged("OK", "The mailbox selected before is closed", CLOSED))  # RFC 7162
    if command.condstore:
        context.enable_condstore()
    info = await context.store.status(context.user_id, command.mailbox)
    mailbox = await context.store.open(context.user_id, command.mailbox)
    # RFC 4314 section 5.2: read-only for whoever may change nothing
    read_only = command.read_only or not CHANGING & set(info.rights)
    try:
        view = mailbox.view(read_only=read_only)
    except BaseException:
        mailbox.close()
        raise
    selected = Selected(
        mailbox,
        view,
        read_only,
        rights=info.rights,
        name=info.name,
        modseqs=context.condstore,
        vanishes=context.qresync,
        uid_only=context.uid_only,
        examined=command.read_only,
        revised=context.revised,
        utf8=context.utf8,
        seconds=context.services.clock.seconds,
    )
    context.current = selected
    listen(context, selected)
    try:
        await _opened(context, selected, command)
    except BaseException:  # it may be deleted while we look
        context.leave()
        raise
    if selected.read_only:
        words = "EXAMINE completed" if command.read_only else "SELECT completed"
        return Tagged(command.tag, "OK", words, "READ-ONLY")
    return Tagged(command.tag, "OK", "SELECT completed", "READ-WRITE")


async def _opened(context: Context, selected: Selected, command: c.Select) -> None:
    """Say what the mailbox holds, and what the client has missed."""
    selected.view.catch_up(expunges=True)  # the client starts with the picture as it is
    await context.say(await _described(context, selected))
    if context.revised:  # RFC 9051 section 6.3.2
        await context.say(await listed(context, command.mailbox))
    if command.qresync is not None:
        await resynchronize(context, selected, command.qresync)
    if late := held_back(selected):  # somebody has expunged meanwhile
        await context.say(late)


async def _described(context: Context, selected: Selected) -> bytes:
    """What the mailbox holds, all of one moment: that of the view."""
    mailbox, view = selected.mailbox, selected.view
    numbers = encode(
        (
            Untagged("OK", "UIDs valid", f"UIDVALIDITY {mailbox.uidvalidity}"),
            Untagged("OK", "Predicted next UID", f"UIDNEXT {mailbox.uidnext}"),
            Untagged("OK", "Highest", f"HIGHESTMODSEQ {mailbox.highest_modseq}"),
            Untagged("OK", "Mailbox id", mailbox_id(mailbox.object_id)),
            Untagged("OK", "URLs can be signed", url_mechanisms()),
        )
    )
    first = known_flags(selected)
    split = first.index(b"\r\n") + 2
    said = first[:split] + encode(Exists(len(view)))
    if not selected.revised:  # RFC 9051 appendix E, items 11 and 12
        said += encode(Recent(len(view.recent)))
        unseen = None if selected.uid_only else await _first_unseen(context, selected)
        if unseen:  # a message number, which UIDONLY has none of (RFC 9586 section 3)
            said += encode(Untagged("OK", "First unseen", f"UNSEEN {unseen}"))
    return said + first[split:] + numbers


async def _first_unseen(context: Context, selected: Selected) -> int | None:
    mailbox, view = selected.mailbox, selected.view
    for start in range(0, len(view), SLICE):
        if start:
            await context.services.pause()
        for row in mailbox.rows(view.slice(start, start + SLICE)):
            if not row[1] & SEEN_BIT:
                return view.sequence(row[0] & UID_MASK)
    return None


async def close(context: Context, command: c.Close) -> AnyResponse:
    r"""CLOSE: remove what is \Deleted without a word, unless read-only (RFC 3501 section 6.4.2)."""
    selected = context.current
    may = selected is not None and not selected.read_only and "e" in selected.rights
    if selected is not None and may and not selected.mailbox.deleted:
        await selected.mailbox.expunge(_deleted(selected, selected.view.uids), marked=True)
    context.leave()
    return completed(command, "CLOSE")


async def unselect(context: Context, command: c.Unselect) -> AnyResponse:
    """UNSELECT (RFC 3691)."""
    context.leave()
    return completed(command, "UNSELECT")


async def check(context: Context, command: c.Check) -> AnyResponse:
    """CHECK: what was answered is on disk already (RFC 3501 section 6.4.1)."""
    return completed(command, "CHECK")


async def expunge(context: Context, command: c.Expunge) -> AnyResponse:
    """EXPUNGE and UID EXPUNGE (RFC 4315 section 2.1); the EXPUNGE responses come with the other updates."""
    selected = context.selected
    if selected.read_only:
        return refuse(command, "The mailbox is read-only", "READ-ONLY")
    need(context, "e")
    if command.uids is None:
        chosen, last = _deleted(selected, selected.view.uids), None
    else:
        some, last = newest(context, _deleted(selected, uids_in(selected.view, command.uids)))
        chosen = list(some)
    gone = await selected.mailbox.expunge(chosen, marked=True)
    # RFC 7162 section 3.2.7: what the client may take for its new state
    told = gone and selected.modseqs
    code = highest_modseq(selected.mailbox.highest_modseq) if told else None
    return await say_limit(context, completed(command, "EXPUNGE", code), last)


def _deleted(selected: Selected, uids: Iterable[int]) -> list[int]:
    return [row[0] & UID_MASK for row in selected.mailbox.rows(uids) if row[1] & DELETED_BIT]
