"""The index of the mail: what a mailbox holds, without the bytes.

A message's id is its mailbox's id and its UID in one number, ``mailbox_id << 32 | uid`` (`message_id`): the
rows of a mailbox lie together in UID order, and neither a second unique index nor a look-up stands between a
UID and its row.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from mailstack.db import metadata

_KEY = BigInteger().with_variant(Integer, "sqlite")
UID_BITS = 32
UID_MASK = (1 << UID_BITS) - 1


def message_id(mailbox_id: int, uid: int) -> int:
    """The id of a message; `id & UID_MASK` is its UID again."""
    return mailbox_id << UID_BITS | uid


usage = Table(
    "usage",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("home", Text, nullable=False, unique=True),  # the user's folder, relative to the store's
    Column("octets", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    Column("uidvalidity", BigInteger, nullable=False),  # the last one given to a mailbox of this user
)

mailboxes = Table(
    "mailboxes",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("directory", Text),  # relative to the user's Maildir; "" is INBOX; NULL if not selectable
    Column("selectable", Boolean, nullable=False),  # false: only a superior of others
    Column("uidvalidity", BigInteger, nullable=False),
    Column("uidnext", BigInteger, nullable=False),
    Column("uid_reserved", BigInteger, nullable=False),  # a rebuild goes on from here
    Column("recent_uid", BigInteger, nullable=False),  # the first UID that no session has seen as \Recent
    Column("modseq", BigInteger, nullable=False),  # the highest (RFC 7162)
    Column("special_use", Text, nullable=False),  # RFC 6154 attributes, a space between
    Column("messages", BigInteger, nullable=False),
    Column("unseen", BigInteger, nullable=False),
    Column("octets", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),  # seconds of the epoch
    Column("forgotten", BigInteger, nullable=False, server_default=text("0")),  # expunges up to this modseq
    Column("surveyed", Text),  # its directories when they last agreed with the rows (`adoption`), if known
    UniqueConstraint("user_id", "name"),
    UniqueConstraint("user_id", "directory"),
    sqlite_autoincrement=True,  # an id is part of its messages' ids: never given again
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
)

keywords = Table(
    "keywords",
    metadata,
    Column("mailbox_id", ForeignKey("mailboxes.id", ondelete="CASCADE"), primary_key=True),
    Column("bit", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
)

messages = Table(
    "messages",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=False),  # `message_id`
    Column("mailbox_id", ForeignKey("mailboxes.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),  # of the file, before ":2,"
    Column("disk_info", Text, nullable=False),  # what the file's name carries after ":2,"
    Column("is_new", Boolean, nullable=False),  # the file lies in new/, not in cur/
    Column("dirty", Boolean, nullable=False, server_default=false()),  # the file's name is behind `flags`
    Column("flags", BigInteger, nullable=False),  # bits of `flags`
    Column("modseq", BigInteger, nullable=False),
    Column("internal_date", BigInteger, nullable=False),  # seconds of the epoch
    Column("zone", SmallInteger, nullable=False),  # minutes east of Greenwich
    Column("size", BigInteger, nullable=False),  # octets
    Column("saved", BigInteger, nullable=False),  # seconds of the epoch: when it came into this mailbox
    Column("delivery", Text),  # `maildir.delivery_key` of what brought it here
    Index(None, "mailbox_id", "modseq"),
    Index(
        None,
        "mailbox_id",
        "delivery",
        unique=True,
        sqlite_where=text("delivery IS NOT NULL"),
        postgresql_where=text("delivery IS NOT NULL"),
    ),
    Index("ix_messages_dirty", "id", sqlite_where=text("dirty"), postgresql_where=text("dirty")),
)

message_facts = Table(
    "message_facts",
    metadata,
    Column("message_id", ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("body_structure", LargeBinary, nullable=False),
    Column("fields", LargeBinary, nullable=False),
    Column("structure", LargeBinary, nullable=False),
    Column("header_size", BigInteger, nullable=False),
    Column(
        "email_id", LargeBinary
    ),  # RFC 8474; this and what follows: NULL in rows made before they were kept
    Column("thread_id", LargeBinary),
    Column("preview", LargeBinary),  # RFC 8970, UTF-8
    Column("sent", BigInteger),  # this and what follows: `heading.Heading`
    Column("base", Text),
    Column("refs", LargeBinary),
    Column("heading", Text),
    # All headings of a mailbox are read without the wide rows; PostgreSQL's rows are narrow enough, and its
    # indexes take no long ones.
    Index(
        "ix_message_facts_heading", "message_id", "sent", "base", "refs", "heading", info={"only": "sqlite"}
    ).ddl_if(dialect="sqlite"),
)

expunged = Table(
    "expunged",
    metadata,
    Column("id", _KEY, primary_key=True, autoincrement=False),  # as it was in messages
    Column("mailbox_id", ForeignKey("mailboxes.id", ondelete="CASCADE"), nullable=False),
    Column("modseq", BigInteger, nullable=False),
    Column("name", Text),  # path of the file still to be unlinked, from the mailbox's directory
    Column("delivery", Text),  # a repeat of its delivery is recognised even now
    Column("at", BigInteger, nullable=False, server_default=text("0")),  # seconds of the epoch
    Column(
        "flags", BigInteger
    ),  # this and what follows as in messages, while the file is kept to be put back
    Column("internal_date", BigInteger),
    Column("zone", SmallInteger),
    Column("size", BigInteger),
    Index(None, "mailbox_id", "modseq"),
    Index(
        "ix_expunged_delivery",
        "mailbox_id",
        "delivery",
        sqlite_where=text("delivery IS NOT NULL"),
        postgresql_where=text("delivery IS NOT NULL"),
    ),
    Index(
        "ix_expunged_linked",
        "id",
        sqlite_where=text("name IS NOT NULL"),
        postgresql_where=text("name IS NOT NULL"),
    ),
)

discarded = Table(
    "discarded",
    metadata,
    Column("path", Text, primary_key=True),  # a directory still to be removed, relative to the store's folder
)

mailbox_annotations = Table(  # RFC 5464
    "annotations",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("mailbox_id", ForeignKey("mailboxes.id", ondelete="CASCADE")),  # NULL: of the server
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE")),  # whose, if private; NULL: shared
    Column("entry", Text, nullable=False),  # in lower case, without /private and /shared
    Column("value", LargeBinary, nullable=False),
    Index(None, "mailbox_id"),
    Index(None, "user_id"),
)

url_keys = Table(  # RFC 4467
    "url_keys",
    metadata,
    Column("mailbox_id", ForeignKey("mailboxes.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("key", LargeBinary, nullable=False),
    Index(None, "user_id"),
)

pop3_fetched = Table(  # what POP3 clients have fetched, where the settings ask for it to be known
    "pop3_fetched",
    metadata,
    Column("message_id", ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    Column("at", BigInteger, nullable=False),  # seconds of the epoch
)

mailbox_rights = Table(  # RFC 4314
    "mailbox_rights",
    metadata,
    Column("mailbox_id", ForeignKey("mailboxes.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "identifier", Text, primary_key=True
    ),  # an address in lower case or "anyone"; "-" before: negative
    Column("rights", Text, nullable=False),
    Index(None, "identifier"),
)
