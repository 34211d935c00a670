"""Signing what we send: the domains' keys, and the signatures made with them."""
