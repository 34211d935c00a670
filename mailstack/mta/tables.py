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
    LargeBinary,
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
    Column("spool", Text, nullable=False),  # file below the queue's folder; "": see content
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
    Column("received_from", Text),  # the client's HELO and address, for reports
    Column("content", LargeBinary),  # the octets of a small message, which has no file
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
    Column("forwarded_by", Text),  # our address that stands for the recipient; NULL: it was named itself
    Column("priority", Integer, nullable=False, server_default="0"),  # -9 to 9, the message's (RFC 6710)
    # The operator wants it tried now, whatever is known of the hop.
    Column("asked", Boolean, nullable=False, default=False, server_default=false()),
    Index(None, "state", "next_attempt"),
    Index(None, "state", "hop", "next_attempt"),
    Index(None, "message_id"),
    Index(None, "lease_until"),
    Index(
        "ix_queue_entries_urgent",
        "next_attempt",
        sqlite_where=text("priority > 0"),
        postgresql_where=text("priority > 0"),
    ),
)

return_paths = Table(
    "return_paths",
    metadata,
    Column("token", Text, primary_key=True),  # the local-part is made of it
    Column("address", Text, nullable=False),  # the reverse-path that is too long for one
    Column("created", Float, nullable=False),
    Index(None, "address", "created"),
    Index(None, "created"),
)

suppressed = Table(
    "suppressed",
    metadata,
    Column("address", Text, primary_key=True),  # in lower case
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("until", Float),  # NULL: until the operator clears it
    Index(None, "until"),
)

held_senders = Table(
    "held_senders",
    metadata,
    Column("login", Text, primary_key=True),  # in lower case
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
)

WAITING = "waiting"
HELD = "held"  # by the operator, until released

sts_policies = Table(  # MTA-STS, as fetched (RFC 8461 section 3.3)
    "sts_policies",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("policy_id", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("mx", Text, nullable=False),  # patterns, separated by blanks
    Column("max_age", Float, nullable=False),  # seconds
    Column("fetched_at", Float, nullable=False),
)

tls_results = Table(  # how TLS went, for the reports to others (RFC 8460)
    "tls_results",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("day", Text, nullable=False),  # UTC, 2026-11-22
    Column("domain", Text, nullable=False),
    Column("policy", Text, nullable=False),  # RFC 8460 policy-type
    Column("strings", Text, nullable=False),  # the policy, a line each
    Column("patterns", Text, nullable=False),  # its mx-host, a line each
    Column("exchanger", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("result", Text, nullable=False),  # "" went well
    Column("reason", Text, nullable=False),
    Column("sessions", BigInteger, nullable=False),
    Index(None, "day", "domain"),
)

tls_reports = Table(  # what others report about us
    "tls_reports",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("received_at", Float, nullable=False),
    Column("organization", Text, nullable=False),
    Column("report_id", Text, nullable=False, unique=True),  # organization and its id
    Column("begins", Text, nullable=False),
    Column("ends", Text, nullable=False),
    Column("domains", Text, nullable=False),  # separated by blanks
    Column("good", BigInteger, nullable=False),  # sessions
    Column("bad", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),  # the JSON, compressed
)
