"""A full mail stack on Twisted: submission, queue, transfer, delivery, POP3 and IMAP."""

__version__ = "0.1.0"
