"""What a client that has said NOTIFY is told of the selected mailbox (RFC 5465 sections 3.1 and 5)."""

from __future__ import annotations

from mailstack.access.imap import fetch
from mailstack.access.imap.context import Context
from mailstack.access.imap.updates import pending


async def tell_selected(context: Context, *, expunges: bool, asked: bool = False) -> None:
    """Say what the client wants to know of the selected mailbox and was not told yet.

    EXPUNGE only where `expunges`. `asked`: the command's own answer is among it (EXPUNGE, MOVE), which is
    said whatever NOTIFY asked for.
    """
    selected, watch = context.current, context.watch
    if selected is None or watch is None or selected.mailbox.deleted:
        return
    group, view = watch.wanted.selected, selected.view
    if group is None:
        if asked and (said := pending(selected, expunges=expunges, flags=False)):
            await context.say(said)
        return
    last = view.uid(len(view)) if len(view) else 0
    flags = "flagchange" in group.events
    said = pending(selected, expunges=expunges, with_uid=True, flags=flags)
    if said:
        await context.say(said)
    new = view.slice(view.place(last + 1), len(view))
    created = watch.take_created() if new else set()
    if new and group.items and (unseen := [uid for uid in new if uid not in created]):
        await fetch.push(context, selected, unseen, group.items)
