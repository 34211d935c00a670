"""Rights that change while a mailbox is selected (RFC 4314 section 5.1.1): they count at once.

Only mailboxes of others are concerned: an owner has every right, always. A change of anybody's rights makes
the session doubt its own; before its next command, and before it is told anything, it looks.
"""

from __future__ import annotations

from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.updates import known_flags
from mailstack.store.news import Listed
from mailstack.store.values import ALL_RIGHTS
from mailstack.wire.imap.responses import Untagged
from mailstack.wire.imap.rights import needed_for_flags

_LOOKS = 100  # at rights that change and change; what is left of the doubt then waits for the next command
CHANGING = frozenset("istew")  # rights of which one at least makes a mailbox READ-WRITE (section 5.2)


def listen(context: Context, selected: Selected) -> None:
    """Doubt the rights on a mailbox of another user when any are given or taken, until it is left."""
    owner = selected.mailbox.user_id
    if owner == context.user_id:
        return
    selected.doubted = True  # they may have changed since they were looked at, before anybody listened

    def doubt(item: Listed) -> None:
        selected.doubted = True
        if selected.wake is not None:
            selected.wake()

    topics = (("list", owner), ("list", context.user_id), ("list", None))
    selected.stops.extend(context.store.news.subscribe(topic, doubt) for topic in topics)


async def recheck(context: Context) -> None:
    """Look at the rights once more, if there is doubt, and tell what has changed by that."""
    selected = context.current
    if selected is None or not selected.doubted:
        return
    rights = await _rights_now(context, selected)
    before, selected.rights = selected.rights, rights
    if rights == before or selected.mailbox.deleted:
        return
    if "r" not in rights:
        if "r" in before:
            await context.say(Untagged("NO", "You may not read this mailbox any more", "NOPERM"))
        return
    read_only = selected.examined or not CHANGING & set(rights)
    code = None if read_only == selected.read_only else "READ-ONLY" if read_only else "READ-WRITE"
    selected.read_only = selected.view.read_only = read_only
    said = known_flags(selected)
    if code is not None:  # RFC 3501 section 7.1: its access while selected has changed
        await context.say((said, Untagged("OK", "Your rights have changed", code)))
    elif CHANGING & (set(rights) ^ set(before)):
        await context.say(said)


async def _rights_now(context: Context, selected: Selected) -> str:
    """What the user may do here, without doubt: looked at again where it changed while we looked."""
    rights = ""
    for _ in range(_LOOKS):
        selected.doubted = False
        try:
            rights = await context.store.rights_in(context.user_id, selected.mailbox.id)
        except BaseException:
            selected.doubted = True
            raise
        if not selected.doubted:
            break
    return rights


def changeable(flags: frozenset[str], rights: str) -> frozenset[str]:
    r"""Those of the flags that the rights let somebody change: s for \Seen, t for \Deleted, w for others."""
    if rights == ALL_RIGHTS:
        return flags
    return frozenset(flag for flag in flags if needed_for_flags((flag,)) <= set(rights))
