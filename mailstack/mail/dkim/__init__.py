"""DKIM and ARC as pure functions: signing, verifying, sealing (RFC 6376, RFC 8301, RFC 8463, RFC 8617).

Nothing here asks the DNS or reads a file: a verifier names the records that it needs, and is given them.
"""

from mailstack.mail.dkim.arc import Chain, seal
from mailstack.mail.dkim.keys import BadKey, PrivateKey, PublicKey
from mailstack.mail.dkim.signing import Signer
from mailstack.mail.dkim.verifying import Verdict, Verifier

__all__ = ["BadKey", "Chain", "PrivateKey", "PublicKey", "Signer", "Verdict", "Verifier", "seal"]
