"""Step 1, submission (RFC 6409): mail from our own users, who log in and send in their own name."""
