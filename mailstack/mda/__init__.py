"""The MDA: final delivery, a recipient of ours becomes a message in a mailbox."""
