"""The message trail: what became of every message, step by step, kept in the database for a while."""

from mailstack.trail.notes import NO_NOTES, Note, Notes
from mailstack.trail.settings import TrailConfig
from mailstack.trail.trail import Trail

__all__ = ["NO_NOTES", "Note", "Notes", "Trail", "TrailConfig"]
