"""[dkim] of the configuration file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DkimConfig:
    """Signing; the keys are made with `mailstack dkim`."""

    sign: bool = True  # what our users send and what we write ourselves, for each domain with a key
    seal: bool = True  # forwarded mail, with ARC (RFC 8617)
