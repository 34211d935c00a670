"""The message trail: what became of every message, step by step, kept in the database for a while."""
