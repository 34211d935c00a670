"""The policy: checks at connect, EHLO, MAIL, RCPT and message, in the order that the operator lists them.

All that a check of one's own needs is here: see docs/policy.md.
"""

from mailstack.mail.address import Address
from mailstack.mail.reply import Refused, Reply
from mailstack.net.checks import ACCEPT, Changes, Connection, Incoming, Transaction, Verdict
from mailstack.policy.check import Check, Surroundings

__all__ = [
    "ACCEPT",
    "Address",
    "Changes",
    "Check",
    "Connection",
    "Incoming",
    "Refused",
    "Reply",
    "Surroundings",
    "Transaction",
    "Verdict",
]
