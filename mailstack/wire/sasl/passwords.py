"""PLAIN and LOGIN: the password itself, so only where nobody can listen."""

from __future__ import annotations

from mailstack.wire.sasl.steps import BadExchange, Challenge, Credentials, Step, acts_as_itself, text


class Plain:
    """PLAIN (RFC 4616): authzid NUL authcid NUL passwd, in one response."""

    def step(self, response: bytes | None) -> Step:
        """Ask with an empty challenge if there was no initial response, else the credentials."""
        if response is None:
            return Challenge(b"")
        fields = response.split(b"\0")
        if len(fields) != 3:
            raise BadExchange("PLAIN takes three fields with NUL between them")
        authzid, login, password = (text(field) for field in fields)
        acts_as_itself(authzid, login)
        return _credentials(login, password)


class Login:
    """LOGIN (draft-murchison-sasl-login): user name, then password, each when asked.

    Outlook looks for exactly these two prompts, and may send the user name as an initial response.
    """

    def __init__(self) -> None:
        self._asked = False
        self._login: str | None = None

    def step(self, response: bytes | None) -> Step:
        """Ask for the user name, then for the password, then the credentials."""
        if self._login is not None:
            return _credentials(self._login, text(response or b""))
        if response is None or (not response and not self._asked):
            self._asked = True
            return Challenge(b"Username:")
        self._login = text(response)
        return Challenge(b"Password:")


def _credentials(login: str, password: str) -> Credentials:
    if not login or not password:  # RFC 4616 section 2: both are 1*SAFE
        raise BadExchange("empty user name or password")
    return Credentials(login, password)
