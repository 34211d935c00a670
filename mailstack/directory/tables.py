"""What the directory keeps: the domains we serve, who logs in, and addresses that stand for others."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from mailstack.db import metadata

_KEY = BigInteger().with_variant(Integer, "sqlite")

domains = Table(
    "domains",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),  # A-labels, lower case (`names.domain_key`)
    Column("created", BigInteger, nullable=False),  # Unix seconds
)

users = Table(
    "users",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("domain_id", ForeignKey("domains.id"), nullable=False),
    Column("address", Text, nullable=False, unique=True),  # `names.address_key`
    Column("password_hash", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),  # false: may not log in; mail still arrives
    Column("quota_octets", BigInteger),  # NULL: no limit
    Column("quota_messages", BigInteger),  # NULL: no limit
    Column("created", BigInteger, nullable=False),  # Unix seconds
    Column("last_login", BigInteger),  # Unix seconds, to within an hour; NULL: never
    Column("max_message_octets", BigInteger),  # that they may submit; NULL: as [msa] says
    Index(None, "domain_id"),
    sqlite_autoincrement=True,  # an id is never given again: sessions of a user removed may still hold it
)

user_keys = Table(
    "user_keys",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("mechanism", Text, primary_key=True),  # of `mailstack.wire.sasl.KEYED`
    Column("salt", LargeBinary, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("stored_key", LargeBinary, nullable=False),
    Column("server_key", LargeBinary, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),  # what it is for
    Column("value", LargeBinary, nullable=False),  # chance, made at first use, the same for all processes
)

aliases = Table(
    "aliases",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("domain_id", ForeignKey("domains.id"), nullable=False),
    Column("address", Text, nullable=False),  # `names.address_key`, or "@domain": the catch-all
    Column("target", Text, nullable=False),  # an address as it is written in a command
    UniqueConstraint("address", "target"),
    Index(None, "domain_id"),
)

grants = Table(  # addresses that a user may send as, besides their own and their aliases
    "grants",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("address", Text, primary_key=True),  # `names.address_key`, or "@domain": all of a domain
)

sent_counts = Table(  # what users have submitted, for their limits by the hour
    "sent_counts",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),  # five minutes: Unix seconds / 300
    Column("messages", Integer, nullable=False),
    Column("recipients", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),  # recipients that do not exist
)

client_counts = Table(  # the same of trusted clients, which have no login
    "client_counts",
    metadata,
    Column("client", Text, primary_key=True),  # an IPv4 address or IPv6 /64
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("messages", Integer, nullable=False),
    Column("recipients", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
)
