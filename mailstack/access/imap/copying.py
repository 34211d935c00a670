"""COPY, MOVE and their UID forms (RFC 3501 section 6.4.7, RFC 6851), with COPYUID (RFC 4315 section 3)."""

from __future__ import annotations

from mailstack.access.imap.context import Context, Selected, refuse
from mailstack.access.imap.limits import newest, say_limit, too_many
from mailstack.access.imap.numbers import named
from mailstack.access.imap.sharing import need
from mailstack.store.values import Copied, Expunged
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.codes import highest_modseq
from mailstack.wire.imap.responses import AnyResponse, Tagged, Untagged, copy_uid


async def copy(context: Context, command: c.Copy) -> AnyResponse:
    """All of the messages are copied, or none (RFC 3501 section 6.4.7)."""
    selected = context.selected
    uids = _present(selected, command)
    if not uids:
        return Tagged(command.tag, "OK", "Nothing to copy")
    if (refused := too_many(context, command, uids)) is not None:
        return refused
    copied = await selected.mailbox.copy(uids, command.mailbox, context.quota, context.user_id)
    return Tagged(command.tag, "OK", "COPY completed", _told(copied))


async def move(context: Context, command: c.Move) -> AnyResponse:
    """COPYUID goes out before EXPUNGE, which comes with the other updates (RFC 6851 section 4.3)."""
    selected = context.selected
    if selected.read_only:
        return refuse(command, "The mailbox is read-only", "READ-ONLY")
    need(context, "te")
    uids, last = newest(context, _present(selected, command))
    if not uids:
        return Tagged(command.tag, "OK", "Nothing to move")
    moved = await selected.mailbox.move(uids, command.mailbox, context.quota, context.user_id)
    code = _told(moved)
    if code is not None:
        await context.say(Untagged("OK", "Moved", code))
    told = highest_modseq(selected.mailbox.highest_modseq) if selected.modseqs else None  # RFC 7162
    return await say_limit(context, Tagged(command.tag, "OK", "MOVE completed", told), last)


def _told(copied: Copied) -> str | None:
    """COPYUID, but not of a mailbox that the client may not select (RFC 4315 section 3)."""
    return copy_uid(copied.uidvalidity, copied.pairs) if copied.readable else None


def _present(selected: Selected, command: c.Copy | c.Move) -> list[int]:
    """The UIDs that are named. Raise Expunged where a sequence number's message is gone (RFC 2180 section
    4.4.1); a UID whose message is gone names nothing (RFC 3501 section 6.4.8).
    """
    uids = named(selected.view, command.set, command.uid)
    present = [uid for uid in uids if selected.mailbox.entry(uid) is not None]
    if len(present) < len(uids) and not command.uid:
        raise Expunged
    return present
