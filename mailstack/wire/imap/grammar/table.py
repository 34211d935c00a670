"""Every command by its name, and the one function that reads a whole command."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mailstack.wire.imap import commands as c
from mailstack.wire.imap.grammar import fetch, mailboxes, messages, search, sessions
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
}


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a command: its tag, its class, how to read its arguments and where they begin."""

    tag: str
    command: type[c.Command]
    read: Reader
    at: int


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
    return Head(tag, entry[0], entry[1], found.end())


def read(head: Head, text: str, literals: list[bytes]) -> c.Command:
    """The whole command; each LITERAL character of the text stands for the next literal. Raises BadSyntax."""
    cursor = Cursor(text, literals, head.at)
    command = head.read(head.tag, cursor)
    cursor.end()
    return command
