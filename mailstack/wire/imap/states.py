"""The states of a session, and which command belongs to which (RFC 3501 sections 3 and 6)."""

from __future__ import annotations

from enum import Enum

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x


class State(Enum):
    """RFC 3501 section 3."""

    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


_ANY: frozenset[type[c.Command]] = frozenset({c.Capability, c.Noop, c.Logout, c.Id, x.Language})
_AUTHENTICATED = _ANY | {
    c.Select, c.Create, c.Delete, c.Rename, c.Subscribe, c.Unsubscribe, c.List, c.Lsub, c.Status, c.Append,
    c.Namespace, c.Enable, c.Idle, c.GetQuota, c.GetQuotaRoot, c.SetQuota,
    x.MultiSearch, x.CancelUpdate, x.Notify, x.SetAcl, x.DeleteAcl, x.GetAcl, x.ListRights, x.MyRights,
    x.GetMetadata, x.SetMetadata, x.GenUrlAuth, x.UrlFetch, x.ResetKey, x.Unauthenticate, x.Compress,
}  # fmt: skip

ALLOWED: dict[State, frozenset[type[c.Command]]] = {
    State.NOT_AUTHENTICATED: _ANY | {c.StartTls, c.Authenticate, c.Login},
    State.AUTHENTICATED: _AUTHENTICATED,
    State.SELECTED: _AUTHENTICATED
    | {c.Check, c.Close, c.Unselect, c.Expunge, c.Search, c.Fetch, c.Store, c.Copy, c.Move, x.Sort, x.Thread},
    State.LOGOUT: frozenset(),
}

# The next state, by command and by the status of its tagged reply; otherwise the state stays.
AFTER: dict[tuple[type[c.Event], str], State] = {
    (c.Login, "OK"): State.AUTHENTICATED,
    (c.Authenticate, "OK"): State.AUTHENTICATED,
    (c.AuthResponse, "OK"): State.AUTHENTICATED,
    (c.Select, "OK"): State.SELECTED,
    (c.Select, "NO"): State.AUTHENTICATED,
    (c.Close, "OK"): State.AUTHENTICATED,
    (c.Unselect, "OK"): State.AUTHENTICATED,
    (x.Unauthenticate, "OK"): State.NOT_AUTHENTICATED,
    (c.Logout, "OK"): State.LOGOUT,
}
