"""The trail's table: one row for each thing that happened to a message."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, Table, Text

from mailstack.db import metadata

trail = Table(
    "trail",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),  # seconds of the epoch
    Column("envelope_id", Text, nullable=False),  # the queue id
    Column("message_id", Text),  # the Message-ID field; only where the message was received
    Column("address", Text),  # in lower case; "" is the null path
    Column("event", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON
    Index(None, "envelope_id"),
    Index(None, "message_id"),
    Index(None, "address", "at"),
    Index(None, "at"),
)
