"""The queue remembers which messages the policy holds for unwanted."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, false

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what waits already is not junk."""
    op.add_column("queue_messages", Column("junk", Boolean(), nullable=False, server_default=false()))
