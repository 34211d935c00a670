"""The journey: two servers for two domains, and one message that goes from the one to the other."""
