"""Small messages in wait are kept in their rows."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, LargeBinary

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what is queued already keeps its file."""
    op.add_column("queue_messages", Column("content", LargeBinary))
