"""CRAM-MD5 (RFC 2195): for programs that know nothing better, where the operator turns it on.

It does not send the password, but does not prove the server either, and what must be stored for it is little
better than the password: MD5 is quickly guessed.
"""

from __future__ import annotations

import hmac
import re

from mailstack.wire.sasl.md5 import hmac_from_states, key_states
from mailstack.wire.sasl.prep import saslprep
from mailstack.wire.sasl.steps import (
    BadExchange,
    Challenge,
    Denied,
    Keys,
    Proven,
    Step,
    Terms,
    Wanted,
    text,
)

NAME = "CRAM-MD5"
KEY_OCTETS = 32

_DIGEST = re.compile(rb"[0-9a-f]{32}")


def derive(password: str) -> Keys:
    """What to store for `password`."""
    return keys_of(saslprep(password).encode())


def keys_of(secret: bytes) -> Keys:
    """What a password leads to which is prepared already, or never is."""
    return Keys(b"", 0, key_states(secret), b"")


class CramMd5:
    """One exchange: the challenge, then user name, blank and the keyed digest of the challenge in hex."""

    def __init__(self, terms: Terms) -> None:
        self._challenge = f"<{terms.nonce}@{terms.hostname}>".encode()
        self._asked = False
        self._digest = b""

    def step(self, response: bytes | None) -> Step:
        """The challenge; then the keys are wanted. There is no initial response (RFC 4422 section 5)."""
        if not self._asked:
            if response:
                raise BadExchange("CRAM-MD5 takes no initial response")
            self._asked = True
            return Challenge(self._challenge)
        name, blank, self._digest = (response or b"").rpartition(b" ")
        login = text(name)
        if not blank or not login or not _DIGEST.fullmatch(self._digest):
            raise BadExchange("CRAM-MD5 takes a user name, a blank and 32 hexadecimal digits")
        return Wanted(login, NAME, self._compare)

    def _compare(self, keys: Keys) -> Step:
        expected = hmac_from_states(keys.stored_key, self._challenge).hex().encode()
        return Proven() if hmac.compare_digest(expected, self._digest) else Denied("wrong password")
