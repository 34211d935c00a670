"""The queue's tables: messages in wait, and one entry for each of their recipients."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    false,
    text,
)

from mailstack.db import metadata

queue_messages = Table(
    "queue_messages",
    metadata,
    Column("id", Text, primary_key=True),  # the envelope's
    Column("reverse_path", Text),  # NULL: the null path
    Column("spool", Text, nullable=False),  # file below the queue's folder
    Column("size", BigInteger, nullable=False),  # octets
    Column("body", Text, nullable=False),
    Column("smtputf8", Boolean, nullable=False),
    Column("ret", Text),
    Column("envid", Text),
    Column("authenticated", Text),
    Column("junk", Boolean, nullable=False, server_default=false()),
    Column("received_at", Float, nullable=False),  # seconds of the epoch, as all times here
    Column("requiretls", Boolean, nullable=False, server_default=false()),  # RFC 8689
    Column("tls_optional", Boolean, nullable=False, server_default=false()),  # "TLS-Required: No"
    Column("hold_until", Float),  # not attempted before (RFC 4865)
    Column("deliver_by", Float),  # to be delivered by then (RFC 2852)
    Column("by_mode", Text),  # R, N, RT or NT
)

queue_entries = Table(
    "queue_entries",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("message_id", Text, ForeignKey("queue_messages.id", ondelete="CASCADE"), nullable=False),
    Column("recipient", Text, nullable=False),
    Column("orcpt", Text),
    Column("notify", Text, nullable=False, default=""),  # comma-separated
    Column("hop", Text, nullable=False),  # where it goes next: a domain, a route, or the MDA
    Column("state", Text, nullable=False),  # WAITING or HELD
    Column("next_attempt", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_attempt", Float),
    Column("last_reply", Text),  # who said what in the last attempt
    Column("expires", Float, nullable=False),
    Column("delay_warned", Boolean, nullable=False, default=False),
    Column("lease_owner", Text),  # the process that attempts it now
    Column("lease_until", Float),
    Column("priority", Integer, nullable=False, server_default="0"),  # -9 to 9, the message's (RFC 6710)
    Index(None, "state", "next_attempt"),
    Index(None, "message_id"),
    Index(None, "lease_until"),
    Index(
        "ix_queue_entries_urgent",
        "next_attempt",
        sqlite_where=text("priority > 0"),
        postgresql_where=text("priority > 0"),
    ),
)

WAITING = "waiting"
HELD = "held"  # by the operator, until released
