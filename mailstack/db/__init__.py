"""One database under everything: its tables' base, its transactions, its migrations."""

from mailstack.db.engine import Database, DatabaseConfig, Outcome, sync_directory, undo
from mailstack.db.metadata import metadata

__all__ = ["Database", "DatabaseConfig", "Outcome", "metadata", "sync_directory", "undo"]
