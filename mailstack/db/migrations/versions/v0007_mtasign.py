"""The trail, DKIM keys, return paths, suppressed addresses, senders on hold.

It says again what the areas' tables.py say, because those will change and this must not.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, Text, UniqueConstraint

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _trail()
    _signing()
    _queue()


def _trail() -> None:
    op.create_table(
        "trail",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("at", Float, nullable=False),
        Column("envelope_id", Text, nullable=False),
        Column("message_id", Text),
        Column("address", Text),
        Column("event", Text, nullable=False),
        Column("detail", Text, nullable=False),
    )
    op.create_index("ix_trail_envelope_id", "trail", ["envelope_id"])
    op.create_index("ix_trail_message_id", "trail", ["message_id"])
    op.create_index("ix_trail_address_at", "trail", ["address", "at"])
    op.create_index("ix_trail_at", "trail", ["at"])


def _signing() -> None:
    op.create_table(
        "dkim_keys",
        Column("id", KEY, primary_key=True, autoincrement=True),
        Column("domain", Text, nullable=False),
        Column("selector", Text, nullable=False),
        Column("algorithm", Text, nullable=False),
        Column("private_key", Text, nullable=False),
        Column("created", Float, nullable=False),
        Column("signs_from", Float, nullable=False),
        Column("signs_until", Float),
        UniqueConstraint("domain", "selector"),
    )


def _queue() -> None:
    op.add_column("queue_entries", Column("forwarded_by", Text))
    op.create_table(
        "return_paths",
        Column("token", Text, primary_key=True),
        Column("address", Text, nullable=False),
        Column("created", Float, nullable=False),
    )
    op.create_index("ix_return_paths_address_created", "return_paths", ["address", "created"])
    op.create_index("ix_return_paths_created", "return_paths", ["created"])
    op.create_table(
        "suppressed",
        Column("address", Text, primary_key=True),
        Column("reason", Text, nullable=False),
        Column("since", Float, nullable=False),
        Column("until", Float),
    )
    op.create_index("ix_suppressed_until", "suppressed", ["until"])
    op.create_table(
        "held_senders",
        Column("login", Text, primary_key=True),
        Column("reason", Text, nullable=False),
        Column("since", Float, nullable=False),
    )
