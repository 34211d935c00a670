"""What alembic runs: the changes, on the connection and in the transaction that `mailstack.db.schema` hands
over.
"""

from __future__ import annotations

from alembic import context

from mailstack.db.metadata import metadata

connection = context.config.attributes["connection"]
# SQLite cannot alter a column in place: batches copy the table (render_as_batch, for changes to come).
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
