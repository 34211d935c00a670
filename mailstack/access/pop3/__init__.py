"""POP3: one user's INBOX, as it was at login."""

from mailstack.access.pop3.role import Pop3Access, Pop3Role

__all__ = ["Pop3Access", "Pop3Role"]
