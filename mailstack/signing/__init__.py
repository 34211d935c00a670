"""Signing what we send: the domains' keys, and the signatures made with them."""

from mailstack.signing.keyring import Keyring
from mailstack.signing.settings import DkimConfig
from mailstack.signing.signing import Signing

__all__ = ["DkimConfig", "Keyring", "Signing"]
