"""The store's second half: what was forgotten, ids and previews, annotations, rights.

What each column means is told in store/tables.py.
"""

from __future__ import annotations

import time

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, SmallInteger, Text, text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Add the columns and tables. Expunges count from now; previews are made when asked for."""
    op.add_column("mailboxes", Column("forgotten", BigInteger, nullable=False, server_default=text("0")))
    for name in ("email_id", "thread_id", "preview"):
        op.add_column("message_facts", Column(name, LargeBinary))
    op.add_column("expunged", Column("at", BigInteger, nullable=False, server_default=text("0")))
    op.execute(text(f"UPDATE expunged SET at = {int(time.time())}"))
    for column in (
        Column("flags", BigInteger),
        Column("internal_date", BigInteger),
        Column("zone", SmallInteger),
        Column("size", BigInteger),
    ):
        op.add_column("expunged", column)
    _annotations()


def _annotations() -> None:
    op.create_table(
        "annotations",
        Column("id", KEY, primary_key=True),
        Column("mailbox_id", KEY, ForeignKey("mailboxes.id", ondelete="CASCADE")),
        Column("user_id", KEY, ForeignKey("users.id", ondelete="CASCADE")),
        Column("entry", Text, nullable=False),
        Column("value", LargeBinary, nullable=False),
    )
    op.create_index("ix_annotations_mailbox_id", "annotations", ["mailbox_id"])
    op.create_index("ix_annotations_user_id", "annotations", ["user_id"])
    mailbox = ForeignKey("mailboxes.id", ondelete="CASCADE")
    op.create_table(
        "mailbox_rights",
        Column("mailbox_id", KEY, mailbox, primary_key=True, nullable=False, autoincrement=False),
        Column("identifier", Text, primary_key=True),
        Column("rights", Text, nullable=False),
    )
    op.create_index("ix_mailbox_rights_identifier", "mailbox_rights", ["identifier"])
