"""The inbox: Maildir bytes, which are the truth, and their index in the database, which can be rebuilt.

Theory of operation. A delivery writes bytes, then the directory entry, then the row, and only then answers.
Flags live in the index and reach the file names later; an expunge removes the row first and the file later.
What other Maildir programs do to the files is taken over when a mailbox is opened and while it is open.
"""

from mailstack.store.mailbox import Mailbox
from mailstack.store.message_store import MessageStore
from mailstack.store.quotas import Account
from mailstack.store.settings import StoreConfig
from mailstack.store.values import (
    ALL_RIGHTS,
    ANSWERED,
    DELETED,
    DRAFT,
    FLAGGED,
    NO_QUOTA,
    SEEN,
    Appended,
    BadEntry,
    BadMailboxName,
    BadRights,
    Copied,
    Counts,
    Delivered,
    Entry,
    Expunged,
    Facts,
    MailboxExists,
    MailboxInfo,
    New,
    NoPermission,
    NoSuchMailbox,
    OverQuota,
    Parcel,
    Quota,
    Since,
    Stored,
    StoreError,
    TooLarge,
    TooMany,
    Update,
    Usage,
)
from mailstack.store.view import View

__all__ = [
    "ALL_RIGHTS",
    "ANSWERED",
    "DELETED",
    "DRAFT",
    "FLAGGED",
    "NO_QUOTA",
    "SEEN",
    "Account",
    "Appended",
    "BadEntry",
    "BadMailboxName",
    "BadRights",
    "Copied",
    "Counts",
    "Delivered",
    "Entry",
    "Expunged",
    "Facts",
    "Mailbox",
    "MailboxExists",
    "MailboxInfo",
    "MessageStore",
    "New",
    "NoPermission",
    "NoSuchMailbox",
    "OverQuota",
    "Parcel",
    "Quota",
    "Since",
    "StoreConfig",
    "StoreError",
    "Stored",
    "TooLarge",
    "TooMany",
    "Update",
    "Usage",
    "View",
]
