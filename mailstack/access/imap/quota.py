"""How much a user may hold: GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208)."""

from __future__ import annotations

from mailstack.access.imap.context import Context, completed, refuse
from mailstack.store.quotas import Account
from mailstack.store.values import NO_QUOTA, Usage
from mailstack.store.values import Quota as Limits
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import mutf7
from mailstack.wire.imap.responses import AnyResponse, Quota, QuotaRoot

ROOT = "User quota"  # one root holds all mailboxes of a user
_OF = ROOT + "/"  # and this with an address is what others call it


async def get_quota(context: Context, command: c.GetQuota) -> AnyResponse:
    """GETQUOTA; the empty name is our own root too, for clients that ask for it unseen.

    A root that the client has no business with is not there: that there is such a user is nobody's concern.
    """
    if command.root in (ROOT, ""):
        resources = await _own(context)
    elif command.root.startswith(_OF):
        address = mutf7.decode(command.root.removeprefix(_OF).encode("ascii", "replace"))
        account = await context.store.account_with(context.user_id, address)
        known = account is not None and _root_of(account) == command.root
        resources = _resources(account.quota, account.usage) if account is not None and known else ()
    else:
        resources = ()
    if not resources:
        return refuse(command, "No such quota root", "NONEXISTENT")
    return Quota(command.root, resources), completed(command, "GETQUOTA")


async def get_quota_root(context: Context, command: c.GetQuotaRoot) -> AnyResponse:
    """GETQUOTAROOT: a mailbox that is not there yet would have the same root (RFC 9208 section 4.1.2).

    Without a limit there is no root: section 7 has no empty list of resources, and Thunderbird takes one for
    a syntax error, at which it closes a connection that it would have waited for new mail on.
    """
    account = await context.store.account_for(context.user_id, command.mailbox)
    if account is None:
        root, resources = ROOT, await _own(context)
    else:
        root, resources = _root_of(account), _resources(account.quota, account.usage)
    if not resources:
        return QuotaRoot(command.mailbox, ()), completed(command, "GETQUOTAROOT")
    return (
        QuotaRoot(command.mailbox, (root,)),
        Quota(root, resources),
        completed(command, "GETQUOTAROOT"),
    )


async def set_quota(context: Context, command: c.SetQuota) -> AnyResponse:
    """SETQUOTA: only the operator's commands set quotas."""
    return refuse(command, "Quotas are set by the administrator", "NOPERM")


def _root_of(account: Account) -> str:
    """The name of another user's root, in ASCII whatever the address is: to clients it is opaque."""
    return _OF + mutf7.encode(account.address).decode("ascii")


async def _own(context: Context) -> tuple[tuple[str, int, int], ...]:
    if context.quota == NO_QUOTA:
        return ()
    return _resources(context.quota, await context.store.usage(context.user_id))


def _resources(quota: Limits, usage: Usage) -> tuple[tuple[str, int, int], ...]:
    """Name, usage and limit of each resource that is limited."""
    octets, messages = quota
    resources = []
    if octets is not None:  # RFC 9208 section 5.1: STORAGE is in units of 1024 octets
        resources.append(("STORAGE", -(-usage.octets // 1024), octets // 1024))
    if messages is not None:
        resources.append(("MESSAGE", usage.messages, messages))
    return tuple(resources)
