"""OAUTHBEARER (RFC 7628) and XOAUTH2 (Google's, before it): an OAuth 2.0 bearer token instead of a password.

A token that is not good is answered by a challenge in JSON that says why; the client answers with nothing of
interest, and then the exchange fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from mailstack.wire.sasl.steps import BadExchange, Challenge, Denied, Step, Token, text

NAMES = ("OAUTHBEARER", "XOAUTH2")

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_HEADER = re.compile(rb"(?:n|y),(?:a=([^,]*))?,", re.DOTALL)
_MOST_FIELDS = 20


class _Bearer:
    """What both have in common."""

    def __init__(self) -> None:
        self._refused = False

    def step(self, response: bytes | None) -> Step:
        """The token, asked for with an empty challenge if need be; after a refusal, the end."""
        if self._refused:
            return Denied("token refused")
        if response is None:
            return Challenge(b"")
        login, auth = self._read(response)
        scheme, _, token = auth.partition(" ")
        token = token.strip(" ")
        if auth and (scheme.lower() != "bearer" or not _TOKEN.fullmatch(token)):
            raise BadExchange("expected auth=Bearer and a token")
        return Token(login, token, self._refuse)  # an empty one asks for the refusal: where to get one

    def _read(self, response: bytes) -> tuple[str, str]:
        """Login and auth= of the response."""
        raise NotImplementedError

    def _refuse(self, reasons: Mapping[str, str]) -> Step:
        self._refused = True
        return Challenge(json.dumps(dict(reasons)).encode())


class OAuthBearer(_Bearer):
    """RFC 7628 section 3.1: GS2 header, then key=value pairs between ^A."""

    def _read(self, response: bytes) -> tuple[str, str]:
        header = _HEADER.match(response)
        if header is None or not response.startswith(b"\1", header.end()):
            raise BadExchange("expected a GS2 header without channel binding")
        login = text(header[1] or b"").replace("=2C", ",").replace("=3D", "=")
        return login, _pairs(response[header.end() + 1 :]).get("auth", "")


class XOAuth2(_Bearer):
    """user= and auth=, each with ^A behind it, and one more ^A."""

    def _read(self, response: bytes) -> tuple[str, str]:
        pairs = _pairs(response)
        if not pairs.get("user"):
            raise BadExchange("expected user=")
        return pairs["user"], pairs.get("auth", "")


def _pairs(data: bytes) -> dict[str, str]:
    """key=value pairs, each ended by ^A, with one more ^A at the end (RFC 7628 section 3.1)."""
    if not data.endswith(b"\1"):
        raise BadExchange("expected ^A at the end")
    found: dict[str, str] = {}
    parts = data[:-1].split(b"\1")
    if parts.pop() or len(parts) > _MOST_FIELDS:
        raise BadExchange("expected ^A twice at the end")
    for part in parts:
        try:
            key, equals, value = part.decode("utf-8").partition("=")
        except UnicodeDecodeError as error:
            raise BadExchange("not UTF-8") from error
        if not (key.isascii() and key.isalpha()) or not equals or key in found or "\0" in value:
            raise BadExchange("expected key=value, each key once")
        found[key] = value
    return found
