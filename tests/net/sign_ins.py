"""Sign-in for tests of what comes after it: PLAIN and LOGIN over a directory that knows passwords only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailstack.net.peer import Network
from mailstack.net.settings import AuthConfig
from mailstack.net.sign_in import SignIn

PASSWORDS_ONLY = ("PLAIN", "LOGIN")


def sign_in_with(
    directory: Any, clock: Any, networks: Sequence[Network] = (), mechanisms: tuple[str, ...] = PASSWORDS_ONLY
) -> SignIn:
    """The way in by what `directory` says; `networks` may come in clear."""
    return SignIn(directory, clock, AuthConfig(tuple(networks), mechanisms), hostname="mail.example.org")
