"""The grammar of commands (RFC 3501 section 9): each family has its file, `table` knows them all."""
