"""One database under everything: its tables' base, its transactions, its migrations."""

from mailstack.db.announcements import EVERYTHING, Ear, announce
from mailstack.db.engine import Database, DatabaseConfig, Outcome, sync_directory, undo
from mailstack.db.metadata import metadata

__all__ = [
    "EVERYTHING",
    "Database",
    "DatabaseConfig",
    "Ear",
    "Outcome",
    "announce",
    "metadata",
    "sync_directory",
    "undo",
]
