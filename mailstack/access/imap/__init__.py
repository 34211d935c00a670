"""IMAP4rev1 (RFC 3501) and extensions over the store: `role` answers, with a file for each command family."""

from mailstack.access.imap.role import ImapAccess, ImapRole

__all__ = ["ImapAccess", "ImapRole"]
