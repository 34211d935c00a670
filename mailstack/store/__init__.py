"""The inbox: Maildir bytes, which are the truth, and their index in the database, which can be rebuilt.

Theory of operation. A delivery writes bytes, then the directory entry, then the row, and only then answers.
Flags live in the index and reach the file names later; an expunge removes the row first and the file later.
What other Maildir programs do to the files is taken over when a mailbox is opened and while it is open.
"""
