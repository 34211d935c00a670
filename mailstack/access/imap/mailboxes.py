"""Mailboxes by name: CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE STATUS NAMESPACE (RFC 3501 section 6.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailstack.access.imap.context import Context, Unsupported, completed, refuse
from mailstack.access.imap.tree import normalized
from mailstack.store.flags import DELETED_BIT
from mailstack.store.names import OTHER_USERS
from mailstack.store.values import MailboxInfo
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.codes import mailbox_id
from mailstack.wire.imap.responses import AnyResponse, Namespaces, StatusResponse, Tagged
from mailstack.wire.imap.states import State

# RFC 6154 section 2; \All and \Flagged would be views of other mailboxes, which we have none of.
SPECIAL_USES = {use.lower(): use for use in (r"\Archive", r"\Drafts", r"\Junk", r"\Sent", r"\Trash")}

_ITEMS = {
    "MESSAGES": "messages",
    "RECENT": "recent",
    "UIDNEXT": "uidnext",
    "UIDVALIDITY": "uidvalidity",
    "UNSEEN": "unseen",
    "SIZE": "octets",  # RFC 8438
    "HIGHESTMODSEQ": "highest_modseq",
}


async def create(context: Context, command: c.Create) -> AnyResponse:
    """CREATE; a separator at the end only says that names will be made below (RFC 3501 section 6.3.3)."""
    uses = [SPECIAL_USES.get(use.lower()) for use in command.special_use]
    if None in uses:
        return refuse(command, "That special use is not supported", "USEATTR")
    name = command.mailbox.removesuffix("/")
    made = await context.store.create(context.user_id, name, tuple(use for use in uses if use))
    code = mailbox_id(made.object_id) if made.object_id else None
    return *await normalized(context, name), completed(command, "CREATE", code)


async def delete(context: Context, command: c.Delete) -> AnyResponse:
    """DELETE; whoever deletes what they have selected has nothing selected."""
    selected = context.current
    was_there = selected is not None and not selected.mailbox.deleted
    await context.store.delete(context.user_id, command.mailbox)
    said = await normalized(context, command.mailbox)
    if was_there and selected is not None and selected.mailbox.deleted:
        context.leave()
        return *said, Tagged(command.tag, "OK", "DELETE completed", becomes=State.AUTHENTICATED)
    return *said, completed(command, "DELETE")


async def rename(context: Context, command: c.Rename) -> AnyResponse:
    """RENAME."""
    target = command.target.removesuffix("/")
    await context.store.rename(context.user_id, command.source, target)
    return *await normalized(context, command.source, target), completed(command, "RENAME")


async def subscribe(context: Context, command: c.Subscribe) -> AnyResponse:
    """SUBSCRIBE."""
    await context.store.subscribe(context.user_id, command.mailbox)
    return completed(command, "SUBSCRIBE")


async def unsubscribe(context: Context, command: c.Unsubscribe) -> AnyResponse:
    """UNSUBSCRIBE."""
    await context.store.unsubscribe(context.user_id, command.mailbox)
    return completed(command, "UNSUBSCRIBE")


async def namespace(context: Context, command: c.Namespace) -> AnyResponse:
    """NAMESPACE (RFC 2342): the user's own names have no prefix; those of others have."""
    return Namespaces(others=(OTHER_USERS + "/",)), completed(command, "NAMESPACE")


async def status(context: Context, command: c.Status) -> AnyResponse:
    """STATUS (RFC 3501 section 6.3.10)."""
    box = await context.store.status(context.user_id, command.mailbox)
    response = StatusResponse(command.mailbox, await status_items(context, box, command.items))
    return response, completed(command, "STATUS")


async def status_items(context: Context, box: MailboxInfo, items: Iterable[str]) -> Mapping[str, int | str]:
    """The values of STATUS items, in their order."""
    items = tuple(items)
    if "HIGHESTMODSEQ" in items:
        context.enable_condstore()
    values: dict[str, int | str] = {}
    deleted = await _deleted(context, box) if any(item.startswith("DELETED") for item in items) else (0, 0)
    for item in items:
        if item in _ITEMS:
            values[item] = getattr(box, _ITEMS[item])
        elif item == "MAILBOXID":  # RFC 8474 section 4.2
            values[item] = f"({box.object_id})"
        elif item == "DELETED":  # RFC 9208 section 4.1.4
            values[item] = deleted[0]
        elif item == "DELETED-STORAGE":
            values[item] = deleted[1]
        elif item == "APPENDLIMIT":  # RFC 7889 section 3.1
            values[item] = context.services.config.max_message_octets
        else:
            raise Unsupported(item)
    return values


async def _deleted(context: Context, box: MailboxInfo) -> tuple[int, int]:
    r"""How many messages are \Deleted, and their octets."""
    mailbox = await context.store.open(context.user_id, box.name)
    try:
        view = mailbox.view(read_only=True)
        marked = [row[5] for row in mailbox.rows(view.uids) if row[1] & DELETED_BIT]
        view.close()
    finally:
        mailbox.close()
    return len(marked), sum(marked)
