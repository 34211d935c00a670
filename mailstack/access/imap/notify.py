"""NOTIFY: what the client wants to be told, also with no command in progress (RFC 5465 section 3.1)."""

from __future__ import annotations

from mailstack.access.imap.context import Context, completed, refuse
from mailstack.access.imap.interest import Wanted
from mailstack.access.imap.telling import tell_selected
from mailstack.access.imap.tree import superiors
from mailstack.access.imap.watching import Overflow, Watch
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.codes import NOTIFICATION_OVERFLOW
from mailstack.wire.imap.grammar.notify import BAD_EVENT
from mailstack.wire.imap.responses import AnyResponse


async def notify(context: Context, command: x.Notify) -> AnyResponse:
    """NOTIFY SET and NOTIFY NONE; one that is refused leaves the one before in force."""
    if any("annotationchange" in group.events for group in command.groups):
        return refuse(command, "There are no annotations of messages here", BAD_EVENT)
    wanted = Wanted.of(command.groups, inbox_only=context.services.inbox_only)
    watch = Watch(context, wanted)
    try:
        await watch.start()
    except Overflow:
        watch.close()
        return refuse(command, "Too many mailboxes", NOTIFICATION_OVERFLOW)
    except BaseException:
        watch.close()
        raise
    before, context.watch = context.watch, None
    if before is not None:
        before.close()
    if command.groups:  # it is a NOOP too
        await tell_selected(context, expunges=True, with_uid=True)
    context.watch = watch
    if command.status:
        await watch.tell_status()
    await watch.tell_denied()
    return completed(command, "NOTIFY")


def changed_names(command: c.Command) -> tuple[str, ...]:
    """The names that a command of the client's own changes: it need not be told (RFC 5465 section 5)."""
    match command:
        case c.Create() | c.Delete() | c.Subscribe() | c.Unsubscribe():
            name = command.mailbox.removesuffix("/")
        case c.Rename():
            name = command.target.removesuffix("/")
        case _:
            return ()
    return (name, *superiors(name))
