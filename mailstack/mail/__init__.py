"""What travels: addresses, envelopes, replies, messages. Pure: no socket, clock, thread or database."""
