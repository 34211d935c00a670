"""Who gave us a message that waits: Received-From-MTA of its reports."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("queue_messages", Column("received_from", Text))
