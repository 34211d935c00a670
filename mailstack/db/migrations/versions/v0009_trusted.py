"""What clients of trusted networks have submitted, for their limits by the hour."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, Text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "client_counts",
        Column("client", Text, primary_key=True, nullable=False),
        Column("slot", BigInteger, primary_key=True, nullable=False, autoincrement=False),
        Column("messages", Integer, nullable=False),
        Column("recipients", Integer, nullable=False),
        Column("unknown", Integer, nullable=False),
    )
