"""A mailbox's row notes its directories' times when they last agreed with the rows of its messages."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("mailboxes", Column("surveyed", Text()))
