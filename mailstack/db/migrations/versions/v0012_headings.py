"""Headings: what orders, threads and searches by subject and address need, in a narrow index of its own.

What each column means is told in store/tables.py. Rows that are there get theirs when they are asked for.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, LargeBinary, Text

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and on SQLite the index."""
    for name, type_ in (("sent", BigInteger), ("base", Text), ("refs", LargeBinary), ("heading", Text)):
        op.add_column("message_facts", Column(name, type_()))
    if op.get_bind().dialect.name == "sqlite":
        columns = ["message_id", "sent", "base", "refs", "heading"]
        op.create_index("ix_message_facts_heading", "message_facts", columns)
