"""Keys that sign URLs, what POP3 clients have fetched, names of mailboxes in Unicode's normal form C."""

from __future__ import annotations

import unicodedata

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Make the tables, and write names anew."""
    mailbox = ForeignKey("mailboxes.id", ondelete="CASCADE")
    user = ForeignKey("users.id", ondelete="CASCADE")
    op.create_table(
        "url_keys",
        Column("mailbox_id", KEY, mailbox, primary_key=True, nullable=False, autoincrement=False),
        Column("user_id", KEY, user, primary_key=True, nullable=False, autoincrement=False),
        Column("key", LargeBinary, nullable=False),
    )
    op.create_index("ix_url_keys_user_id", "url_keys", ["user_id"])
    message = ForeignKey("messages.id", ondelete="CASCADE")
    op.create_table(
        "pop3_fetched",
        Column("message_id", KEY, message, primary_key=True, nullable=False, autoincrement=False),
        Column("at", BigInteger, nullable=False),
    )
    _normalize("mailboxes")
    _normalize("subscriptions")


def _normalize(table: str) -> None:
    """Names in another form than C, unless the name in form C is there as well."""
    db = op.get_bind()
    known = {(row.user_id, row.name) for row in db.execute(text(f"SELECT user_id, name FROM {table}"))}
    for user_id, name in sorted(known):
        wanted = unicodedata.normalize("NFC", name)
        if wanted == name or (user_id, wanted) in known:
            continue
        row = {"user_id": user_id, "name": name, "wanted": wanted}
        db.execute(text(f"UPDATE {table} SET name = :wanted WHERE user_id = :user_id AND name = :name"), row)
