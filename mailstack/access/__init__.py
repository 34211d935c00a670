"""Step 5: POP3 and IMAP, over the store. The two never import one another."""
