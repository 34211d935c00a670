"""MESSAGELIMIT: how many messages one command works on (RFC 9738).

FETCH, STORE, MOVE, UID EXPUNGE and SEARCH work on the newest messages of those named, the newest first, and
say down to which UID they came; the client goes on below that. COPY, SORT and THREAD, which would be wrong in
part, are refused. EXPUNGE and CLOSE know no limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mailstack.access.imap.context import Context, Selected, refuse
from mailstack.access.imap.numbers import uids_in, uids_numbered
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.codes import message_limit
from mailstack.wire.imap.responses import Tagged, Untagged


def newest(context: Context, uids: Sequence[int]) -> tuple[Sequence[int], int | None]:
    """As many of ascending UIDs as one command works on, the newest first; and the last of them.

    Where there are no more than that, all of them as they are, and None.
    """
    most = context.services.config.max_messages
    if not most or len(uids) <= most:
        return uids, None
    return uids[: -most - 1 : -1], uids[-most]


def too_many(context: Context, command: c.Command, uids: Sequence[int]) -> Tagged | None:
    """NO to a command that does all or nothing (RFC 9738 section 3.1)."""
    most = context.services.config.max_messages
    if not most or len(uids) <= most:
        return None
    return refuse(command, f"At most {most} messages at a time", message_limit(most, uids[-most]))


async def say_limit(context: Context, reply: Tagged, last: int | None) -> Tagged:
    """The reply, with what says that the command ended early: in its code, or before it where it has one."""
    if last is None:
        return reply
    code = message_limit(context.services.config.max_messages, last)
    if reply.code is None and reply.status == "OK":
        return replace(reply, code=code)
    await context.say(Untagged("NO", "Not all messages could be looked at", code))
    return reply


def searched(context: Context, selected: Selected, key: k.Key) -> Sequence[int]:
    """The messages that a search has to look at, ascending: those that its UIDs and numbers allow.

    Nothing where the mailbox has no more than one command may look at: then it does not matter.
    """
    most = context.services.config.max_messages
    if not most or len(selected.view) <= most:
        return ()
    among: set[int] | None = None
    for part in key.keys if isinstance(key, k.And) else (key,):
        allowed = _allowed(selected, part)
        if allowed is not None:
            among = allowed if among is None else among & allowed
    return selected.view.uids if among is None else sorted(among)


def _allowed(selected: Selected, key: k.Key) -> set[int] | None:
    match key:
        case k.Uids():
            return set(uids_in(selected.view, key.set))
        case k.Numbers():
            return set(uids_numbered(selected.view, key.set, lenient=True))
        case k.Not():
            below = _allowed(selected, key.key)
            return None if below is None else set(selected.view.uids) - below
    return None
