"""Who may do what with a mailbox (RFC 4314): SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS."""

from __future__ import annotations

from mailstack.access.imap.context import Context, completed
from mailstack.store.values import ALL_RIGHTS, NoPermission
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import rights
from mailstack.wire.imap.extension_responses import Acl, ListRightsResponse, MyRightsResponse
from mailstack.wire.imap.responses import AnyResponse, Tagged


async def set_acl(context: Context, command: x.SetAcl) -> AnyResponse:
    """SETACL; an unknown right changes nothing (RFC 4314 section 3.1)."""
    try:
        rights.parse(command.rights)
    except rights.UnknownRight:
        return Tagged(command.tag, "BAD", f"The rights are {rights.ALL}")
    await context.store.change_acl(
        context.user_id, command.mailbox, command.identifier, command.mode, command.rights
    )
    return completed(command, "SETACL")


async def delete_acl(context: Context, command: x.DeleteAcl) -> AnyResponse:
    """DELETEACL."""
    await context.store.change_acl(context.user_id, command.mailbox, command.identifier, "replace", "")
    return completed(command, "DELETEACL")


async def get_acl(context: Context, command: x.GetAcl) -> AnyResponse:
    """GETACL: the owner first."""
    found = await context.store.list_acl(context.user_id, command.mailbox)
    entries = tuple((name, rights.written(letters)) for name, letters in found.items())
    return Acl(command.mailbox, entries), completed(command, "GETACL")


async def list_rights(context: Context, command: x.ListRights) -> AnyResponse:
    """LISTRIGHTS: the owner has all, always; anybody else can be given any, each alone."""
    owner = next(iter(await context.store.list_acl(context.user_id, command.mailbox)))
    if command.identifier.lower() == owner:
        said = ListRightsResponse(command.mailbox, command.identifier, rights.written(ALL_RIGHTS), ())
    else:
        said = ListRightsResponse(command.mailbox, command.identifier, "", (*ALL_RIGHTS, "c", "d"))
    return said, completed(command, "LISTRIGHTS")


async def my_rights(context: Context, command: x.MyRights) -> AnyResponse:
    """MYRIGHTS: for whoever has any of l, r, i, k, x and a (RFC 4314 section 3.5)."""
    mine = await context.store.rights(context.user_id, command.mailbox)
    return MyRightsResponse(command.mailbox, rights.written(mine)), completed(command, "MYRIGHTS")


def need(context: Context, wanted: str) -> None:
    """Raise NoPermission unless the user has these rights on the selected mailbox."""
    if not set(wanted) <= set(context.selected.rights):
        raise NoPermission(f"the right {wanted} is needed")
