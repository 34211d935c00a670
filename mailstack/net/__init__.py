"""Twisted: the one adapter from transport to session, TLS, DNS, listeners, and the reception of SMTP mail."""
