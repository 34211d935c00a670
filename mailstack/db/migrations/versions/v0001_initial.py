"""The first tables: directory, store, queue.

It says again what directory/tables.py, store/tables.py and mta/tables.py say, because those will change and
this must not. What each column means is told there.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    false,
    text,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _directory()
    _mailboxes()
    _messages()
    _expunged()
    _queue()


def _reference(name: str, target: str, primary_key: bool = False, cascade: bool = True) -> Column[int]:
    foreign = ForeignKey(target, ondelete="CASCADE" if cascade else None)
    return Column(name, KEY, foreign, primary_key=primary_key, nullable=False, autoincrement=False)


def _directory() -> None:
    op.create_table(
        "domains",
        Column("id", KEY, primary_key=True),
        Column("name", Text, nullable=False),
        Column("created", BigInteger, nullable=False),
        UniqueConstraint("name"),
    )
    op.create_table(
        "users",
        Column("id", KEY, primary_key=True),
        _reference("domain_id", "domains.id", cascade=False),
        Column("address", Text, nullable=False),
        Column("password_hash", Text, nullable=False),
        Column("enabled", Boolean, nullable=False),
        Column("quota_octets", BigInteger),
        Column("quota_messages", BigInteger),
        Column("created", BigInteger, nullable=False),
        Column("last_login", BigInteger),
        UniqueConstraint("address"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_users_domain_id", "users", ["domain_id"])
    op.create_table(
        "aliases",
        Column("id", KEY, primary_key=True),
        _reference("domain_id", "domains.id", cascade=False),
        Column("address", Text, nullable=False),
        Column("target", Text, nullable=False),
        UniqueConstraint("address", "target"),
    )
    op.create_index("ix_aliases_domain_id", "aliases", ["domain_id"])


def _mailboxes() -> None:
    op.create_table(
        "usage",
        _reference("user_id", "users.id", primary_key=True),
        Column("home", Text, nullable=False),
        Column("octets", BigInteger, nullable=False),
        Column("messages", BigInteger, nullable=False),
        Column("uidvalidity", BigInteger, nullable=False),
        UniqueConstraint("home"),
    )
    op.create_table(
        "mailboxes",
        Column("id", KEY, primary_key=True),
        _reference("user_id", "users.id"),
        Column("name", Text, nullable=False),
        Column("directory", Text),
        Column("selectable", Boolean, nullable=False),
        Column("uidvalidity", BigInteger, nullable=False),
        Column("uidnext", BigInteger, nullable=False),
        Column("uid_reserved", BigInteger, nullable=False),
        Column("recent_uid", BigInteger, nullable=False),
        Column("modseq", BigInteger, nullable=False),
        Column("special_use", Text, nullable=False),
        Column("messages", BigInteger, nullable=False),
        Column("unseen", BigInteger, nullable=False),
        Column("octets", BigInteger, nullable=False),
        Column("created", BigInteger, nullable=False),
        UniqueConstraint("user_id", "name"),
        UniqueConstraint("user_id", "directory"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "subscriptions",
        _reference("user_id", "users.id", primary_key=True),
        Column("name", Text, primary_key=True),
    )
    op.create_table(
        "keywords",
        _reference("mailbox_id", "mailboxes.id", primary_key=True),
        Column("bit", SmallInteger, primary_key=True, autoincrement=False),
        Column("name", Text, nullable=False),
    )


def _messages() -> None:
    op.create_table(
        "messages",
        Column("id", KEY, primary_key=True, autoincrement=False),
        _reference("mailbox_id", "mailboxes.id"),
        Column("name", Text, nullable=False),
        Column("disk_info", Text, nullable=False),
        Column("is_new", Boolean, nullable=False),
        Column("dirty", Boolean, nullable=False, server_default=false()),
        Column("flags", BigInteger, nullable=False),
        Column("modseq", BigInteger, nullable=False),
        Column("internal_date", BigInteger, nullable=False),
        Column("zone", SmallInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("saved", BigInteger, nullable=False),
        Column("delivery", Text),
    )
    op.create_index("ix_messages_mailbox_id_modseq", "messages", ["mailbox_id", "modseq"])
    _partial_index(
        "ix_messages_mailbox_id_delivery",
        "messages",
        ["mailbox_id", "delivery"],
        "delivery IS NOT NULL",
        True,
    )
    _partial_index("ix_messages_dirty", "messages", ["id"], "dirty")
    op.create_table(
        "message_facts",
        _reference("message_id", "messages.id", primary_key=True),
        Column("envelope", LargeBinary, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("body_structure", LargeBinary, nullable=False),
        Column("fields", LargeBinary, nullable=False),
        Column("structure", LargeBinary, nullable=False),
        Column("header_size", BigInteger, nullable=False),
    )


def _expunged() -> None:
    op.create_table(
        "expunged",
        Column("id", KEY, primary_key=True, autoincrement=False),
        _reference("mailbox_id", "mailboxes.id"),
        Column("modseq", BigInteger, nullable=False),
        Column("name", Text),
        Column("delivery", Text),
    )
    op.create_index("ix_expunged_mailbox_id_modseq", "expunged", ["mailbox_id", "modseq"])
    _partial_index("ix_expunged_delivery", "expunged", ["mailbox_id", "delivery"], "delivery IS NOT NULL")
    _partial_index("ix_expunged_linked", "expunged", ["id"], "name IS NOT NULL")
    op.create_table("discarded", Column("path", Text, primary_key=True))


def _queue() -> None:
    op.create_table(
        "queue_messages",
        Column("id", Text, primary_key=True),
        Column("reverse_path", Text),
        Column("spool", Text, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("body", Text, nullable=False),
        Column("smtputf8", Boolean, nullable=False),
        Column("ret", Text),
        Column("envid", Text),
        Column("authenticated", Text),
        Column("received_at", Float, nullable=False),
    )
    op.create_table(
        "queue_entries",
        Column("id", KEY, primary_key=True),
        Column("message_id", Text, ForeignKey("queue_messages.id", ondelete="CASCADE"), nullable=False),
        Column("recipient", Text, nullable=False),
        Column("orcpt", Text),
        Column("notify", Text, nullable=False),
        Column("hop", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("next_attempt", Float, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("last_attempt", Float),
        Column("last_reply", Text),
        Column("expires", Float, nullable=False),
        Column("delay_warned", Boolean, nullable=False),
        Column("lease_owner", Text),
        Column("lease_until", Float),
    )
    op.create_index("ix_queue_entries_state_next_attempt", "queue_entries", ["state", "next_attempt"])
    op.create_index("ix_queue_entries_message_id", "queue_entries", ["message_id"])
    op.create_index("ix_queue_entries_lease_until", "queue_entries", ["lease_until"])


def _partial_index(name: str, table: str, columns: list[str], condition: str, unique: bool = False) -> None:
    where = text(condition)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)
