"""Every command by its name, and the one function that reads a whole command."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.grammar import (
    fetch,
    mailboxes,
    messages,
    metadata,
    notify,
    rights,
    search,
    sessions,
    urls,
)
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor

Reader = Callable[[str, Cursor], c.Command]
_LONGEST_TAG = 255
_TAG = re.compile(r"""([!#$&',./0-9:;<=>?@A-Z\[\]^_`a-z|}~-]+)(?=[ \r\n]|\Z)""")
_NAME = re.compile(r" (UID [A-Z]+|[A-Z]+)(?=[ \n]|\Z)", re.IGNORECASE)

COMMANDS: dict[str, tuple[type[c.Command], Reader]] = {
    "CAPABILITY": (c.Capability, sessions.bare(c.Capability)),
    "NOOP": (c.Noop, sessions.bare(c.Noop)),
    "LOGOUT": (c.Logout, sessions.bare(c.Logout)),
    "ID": (c.Id, sessions.id_),
    "STARTTLS": (c.StartTls, sessions.bare(c.StartTls)),
    "AUTHENTICATE": (c.Authenticate, sessions.authenticate),
    "LOGIN": (c.Login, sessions.login),
    "SELECT": (c.Select, mailboxes.select),
    "EXAMINE": (c.Select, mailboxes.examine),
    "CREATE": (c.Create, mailboxes.create),
    "DELETE": (c.Delete, mailboxes.named(c.Delete)),
    "RENAME": (c.Rename, mailboxes.rename),
    "SUBSCRIBE": (c.Subscribe, mailboxes.named(c.Subscribe)),
    "UNSUBSCRIBE": (c.Unsubscribe, mailboxes.named(c.Unsubscribe)),
    "LIST": (c.List, mailboxes.list_),
    "LSUB": (c.Lsub, mailboxes.lsub),
    "STATUS": (c.Status, mailboxes.status),
    "APPEND": (c.Append, messages.append),
    "NAMESPACE": (c.Namespace, sessions.bare(c.Namespace)),
    "ENABLE": (c.Enable, sessions.enable),
    "IDLE": (c.Idle, sessions.bare(c.Idle)),
    "GETQUOTA": (c.GetQuota, mailboxes.get_quota),
    "GETQUOTAROOT": (c.GetQuotaRoot, mailboxes.named(c.GetQuotaRoot)),
    "SETQUOTA": (c.SetQuota, mailboxes.set_quota),
    "CHECK": (c.Check, sessions.bare(c.Check)),
    "CLOSE": (c.Close, sessions.bare(c.Close)),
    "UNSELECT": (c.Unselect, sessions.bare(c.Unselect)),
    "EXPUNGE": (c.Expunge, messages.expunge),
    "UID EXPUNGE": (c.Expunge, messages.uid_expunge),
    "SEARCH": (c.Search, search.search),
    "UID SEARCH": (c.Search, search.uid_search),
    "FETCH": (c.Fetch, fetch.fetch),
    "UID FETCH": (c.Fetch, fetch.uid_fetch),
    "STORE": (c.Store, messages.store),
    "UID STORE": (c.Store, messages.uid_store),
    "COPY": (c.Copy, messages.to_mailbox(c.Copy, uid=False)),
    "UID COPY": (c.Copy, messages.to_mailbox(c.Copy, uid=True)),
    "MOVE": (c.Move, messages.to_mailbox(c.Move, uid=False)),
    "UID MOVE": (c.Move, messages.to_mailbox(c.Move, uid=True)),
    "REPLACE": (c.Append, messages.append),
    "UID REPLACE": (c.Append, messages.append),
    "SORT": (x.Sort, search.sort),
    "UID SORT": (x.Sort, search.uid_sort),
    "THREAD": (x.Thread, search.thread),
    "UID THREAD": (x.Thread, search.uid_thread),
    "ESEARCH": (x.MultiSearch, search.multi_search),
    "CANCELUPDATE": (x.CancelUpdate, notify.cancel_update),
    "NOTIFY": (x.Notify, notify.notify),
    "SETACL": (x.SetAcl, rights.set_acl),
    "DELETEACL": (x.DeleteAcl, rights.of_identifier(x.DeleteAcl)),
    "GETACL": (x.GetAcl, mailboxes.named(x.GetAcl)),
    "LISTRIGHTS": (x.ListRights, rights.of_identifier(x.ListRights)),
    "MYRIGHTS": (x.MyRights, mailboxes.named(x.MyRights)),
    "GETMETADATA": (x.GetMetadata, metadata.get_metadata),
    "SETMETADATA": (x.SetMetadata, metadata.set_metadata),
    "GENURLAUTH": (x.GenUrlAuth, urls.gen_url_auth),
    "URLFETCH": (x.UrlFetch, urls.url_fetch),
    "RESETKEY": (x.ResetKey, urls.reset_key),
    "UNAUTHENTICATE": (x.Unauthenticate, sessions.bare(x.Unauthenticate)),
    "COMPRESS": (x.Compress, sessions.compress),
    "LANGUAGE": (x.Language, sessions.language),
}


@dataclass(frozen=True, slots=True)
class Head:
    """A command's beginning: its tag, class and name, how to read its arguments, where they begin."""

    tag: str
    command: type[c.Command]
    read: Reader
    at: int
    name: str


def tag_of(text: str, *, whole: bool = True) -> str | None:
    """The tag at the beginning of a line, if there is one; of a line that goes on, if not `whole`."""
    found = _TAG.match(text)
    if found is None or len(found[1]) > _LONGEST_TAG or (not whole and found.end() == len(text)):
        return None
    return found[1]


def head(tag: str, text: str) -> Head:
    """The head of the line that begins with this tag. Raises BadSyntax for an unknown command."""
    found = _NAME.match(text, len(tag))
    if found is None:
        raise BadSyntax("expected a command")
    entry = COMMANDS.get(found[1].upper())
    if entry is None:
        raise BadSyntax("unknown command")
    return Head(tag, entry[0], entry[1], found.end(), found[1].upper())


def read(
    head: Head, text: str, literals: list[bytes], *, utf8: bool = False, labels: bool = True
) -> c.Command:
    """The whole command; each LITERAL character of the text stands for the next literal. Raises BadSyntax."""
    cursor = Cursor(text, literals, head.at, utf8=utf8, labels=labels)
    command = head.read(head.tag, cursor)
    cursor.end()
    return command
