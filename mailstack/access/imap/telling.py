"""What a client is told of the selected mailbox where that takes more than a look (RFC 5465, RFC 5267).

That is after NOTIFY, which says what is wanted, and with searches that are kept up to date. The order: what
leaves such a search while its number holds, EXPUNGE, EXISTS, flags, what came into the searches, and what was
asked for of new messages. The last two change places where the searches themselves asked for it (RFC 5465
sections 5.2 and 7).
"""

from __future__ import annotations

from collections.abc import Sequence

from mailstack.access.imap import fetch
from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.updates import held_back, taken, tell_flags
from mailstack.access.imap.updating import changes, removals
from mailstack.wire.imap import commands as c


def takes_more(context: Context) -> bool:
    """Whether `tell_selected` has to say what happened, rather than `updates.pending`."""
    return context.watch is not None or (context.current is not None and bool(context.current.updated))


async def tell_selected(
    context: Context, *, expunges: bool, with_uid: bool = False, asked: bool = False
) -> None:
    """Say what the client wants to know of the selected mailbox and was not told yet.

    EXPUNGE only where `expunges`. `asked`: the command's own answer is among it (EXPUNGE, MOVE), which is
    said whatever NOTIFY asked for.
    """
    selected, watch = context.current, context.watch
    if selected is None or selected.mailbox.deleted or "r" not in selected.rights or selected.doubted:
        return
    group = None if watch is None else watch.wanted.selected
    if watch is not None and group is None:
        said, _ = taken(selected, expunges=expunges, flags=False) if asked else (b"", None)
        if said:
            await context.say(said)
        return
    view = selected.view
    last = view.uid(len(view)) if len(view) else 0
    flags = group is None or "flagchange" in group.events
    gone = removals(selected)
    by_uid = with_uid or group is not None
    said, later = taken(selected, expunges=expunges, with_uid=by_uid, flags=flags)
    if gone or said:
        await context.say((*gone, said))
    if later is not None:
        await tell_flags(context, selected, later, by_uid)
        if said := held_back(selected):
            await context.say(said)
    new = view.slice(view.place(last + 1), len(view))
    created = watch.take_created() if watch is not None and new else set()
    items = group.items if group is not None else ()
    await _tell_new(context, selected, [uid for uid in new if uid not in created], items)


async def _tell_new(
    context: Context, selected: Selected, new: Sequence[int], items: tuple[c.Item, ...]
) -> None:
    """What comes into searches, and what was asked for of new messages: of each one FETCH, at most."""
    updates, wanted = await changes(context, selected) if selected.updated else ([], {})
    asked_by_searches = bool(wanted)
    by_items: dict[tuple[c.Item, ...], list[int]] = {}
    for uid in sorted({*new, *wanted} if items else wanted):
        own = items if uid in new else ()
        by_items.setdefault(tuple(dict.fromkeys((*own, *wanted.get(uid, ())))), []).append(uid)
    if updates and not asked_by_searches:
        await context.say(tuple(updates))
    for each, uids in by_items.items():
        await fetch.push(context, selected, uids, each)
    if updates and asked_by_searches:
        await context.say(tuple(updates))
