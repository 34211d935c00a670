"""What the store refuses, in IMAP's words (RFC 5530): one table."""

from __future__ import annotations

from mailstack.store.values import (
    BadEntry,
    BadMailboxName,
    BadRights,
    Expunged,
    MailboxExists,
    NoPermission,
    NoSuchMailbox,
    OverQuota,
    StoreError,
    TooMany,
)
from mailstack.wire.imap.commands import Append, AppendEnd, Command, Copy, Move
from mailstack.wire.imap.responses import Tagged

WORDS: dict[type[StoreError], tuple[str, str]] = {
    NoSuchMailbox: ("NONEXISTENT", "No such mailbox"),
    MailboxExists: ("ALREADYEXISTS", "The mailbox exists already"),
    BadMailboxName: ("CANNOT", "That name or operation is not allowed"),
    OverQuota: ("OVERQUOTA", "Over quota"),
    Expunged: ("EXPUNGEISSUED", "Some of the messages are gone"),
    TooMany: ("LIMIT", "Too many"),
    NoPermission: ("NOPERM", "You have no right to do that"),
    BadRights: ("CANNOT", "No such right, or no such user"),
    BadEntry: ("CANNOT", "No such annotation"),
}

_CREATES = (
    Append,
    AppendEnd,
    Copy,
    Move,
)  # RFC 3501 sections 6.3.11 and 6.4.7: the client may CREATE, then retry


def refusal(command: Command, error: StoreError) -> Tagged:
    """The tagged NO for `error`; its code tells programs, its text people."""
    if isinstance(error, NoSuchMailbox) and isinstance(command, _CREATES):
        return Tagged(command.tag, "NO", "No such mailbox; create it first", "TRYCREATE")
    code, words = next(
        (found for kind, found in WORDS.items() if isinstance(error, kind)), ("CANNOT", "Not possible")
    )
    detail = str(error)
    return Tagged(command.tag, "NO", f"{words}: {detail}" if detail else words, code)
