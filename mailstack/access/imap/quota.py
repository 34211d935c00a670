"""How much a user may hold: GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208)."""

from __future__ import annotations

from mailstack.access.imap.context import Context, completed, refuse
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.responses import AnyResponse, Quota, QuotaRoot

ROOT = "User quota"  # one root holds all mailboxes of a user


async def get_quota(context: Context, command: c.GetQuota) -> AnyResponse:
    """GETQUOTA; the empty name is our one root too, for clients that ask for it unseen."""
    resources = await _resources(context)
    if command.root not in (ROOT, "") or not resources:
        return refuse(command, "No such quota root", "NONEXISTENT")
    return Quota(command.root, resources), completed(command, "GETQUOTA")


async def get_quota_root(context: Context, command: c.GetQuotaRoot) -> AnyResponse:
    """GETQUOTAROOT: a mailbox that is not there yet would have the same root (RFC 9208 section 4.1.2).

    Without a limit there is no root: section 7 has no empty list of resources, and Thunderbird takes one for
    a syntax error, at which it closes a connection that it would have waited for new mail on.
    """
    resources = await _resources(context)
    if not resources:
        return QuotaRoot(command.mailbox, ()), completed(command, "GETQUOTAROOT")
    return (
        QuotaRoot(command.mailbox, (ROOT,)),
        Quota(ROOT, resources),
        completed(command, "GETQUOTAROOT"),
    )


async def set_quota(context: Context, command: c.SetQuota) -> AnyResponse:
    """SETQUOTA: only the operator's commands set quotas."""
    return refuse(command, "Quotas are set by the administrator", "NOPERM")


async def _resources(context: Context) -> tuple[tuple[str, int, int], ...]:
    """Name, usage and limit of each resource that is limited."""
    octets, messages = context.quota
    if octets is None and messages is None:
        return ()
    usage = await context.store.usage(context.user_id)
    resources = []
    if octets is not None:  # RFC 9208 section 5.1: STORAGE is in units of 1024 octets
        resources.append(("STORAGE", -(-usage.octets // 1024), octets // 1024))
    if messages is not None:
        resources.append(("MESSAGE", usage.messages, messages))
    return tuple(resources)
