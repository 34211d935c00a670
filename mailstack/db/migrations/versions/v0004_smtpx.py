"""What the SMTP extensions and the limits of submission need: parameters in the queue, grants, counts."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    Text,
    false,
    text,
)

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Add columns and tables."""
    for column in (
        Column("requiretls", Boolean, nullable=False, server_default=false()),
        Column("tls_optional", Boolean, nullable=False, server_default=false()),
        Column("hold_until", Float),
        Column("deliver_by", Float),
        Column("by_mode", Text),
    ):
        op.add_column("queue_messages", column)
    op.add_column("queue_entries", Column("priority", Integer, nullable=False, server_default="0"))
    urgent = text("priority > 0")
    op.create_index(
        "ix_queue_entries_urgent",
        "queue_entries",
        ["next_attempt"],
        sqlite_where=urgent,
        postgresql_where=urgent,
    )
    op.add_column("users", Column("max_message_octets", BigInteger))
    op.create_table("grants", _user(), Column("address", Text, primary_key=True))
    op.create_table(
        "sent_counts",
        _user(),
        Column("slot", BigInteger, primary_key=True, autoincrement=False),
        Column("messages", Integer, nullable=False),
        Column("recipients", Integer, nullable=False),
        Column("unknown", Integer, nullable=False),
    )


def _user() -> Column[int]:
    foreign = ForeignKey("users.id", ondelete="CASCADE")
    return Column("user_id", KEY, foreign, primary_key=True, nullable=False, autoincrement=False)
