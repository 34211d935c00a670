"""Keys of SCRAM and CRAM-MD5 beside the password hash, and the secrets of the installation."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. Users get their keys at their next login with the password."""
    user = ForeignKey("users.id", ondelete="CASCADE")
    op.create_table(
        "user_keys",
        Column("user_id", BigInteger().with_variant(Integer, "sqlite"), user, primary_key=True),
        Column("mechanism", Text, primary_key=True),
        Column("salt", LargeBinary, nullable=False),
        Column("iterations", Integer, nullable=False),
        Column("stored_key", LargeBinary, nullable=False),
        Column("server_key", LargeBinary, nullable=False),
    )
    op.create_table(
        "secrets",
        Column("name", Text, primary_key=True),
        Column("value", LargeBinary, nullable=False),
    )
