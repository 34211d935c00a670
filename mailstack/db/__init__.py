"""One database under everything: its tables' base, its transactions, its migrations."""

from mailstack.db.announcements import EVERYTHING, Ear, announce
from mailstack.db.engine import Database, DatabaseConfig, Outcome, sync_directory, undo
from mailstack.db.metadata import metadata
from mailstack.db.touches import queued_message, touches, user_mail

__all__ = [
    "EVERYTHING",
    "Database",
    "DatabaseConfig",
    "Ear",
    "Outcome",
    "announce",
    "metadata",
    "queued_message",
    "sync_directory",
    "touches",
    "undo",
    "user_mail",
]
