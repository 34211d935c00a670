"""SPF: whether a host may send for a domain (RFC 7208), over look-ups that the caller gives."""

from mailstack.mail.spf.check import Client, Spf, check

__all__ = ["Client", "Spf", "check"]
