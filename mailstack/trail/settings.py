"""[trail] of the configuration file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrailConfig:
    """How long it is remembered what became of a message."""

    keep: float = 14 * 86400.0  # seconds; 0: nothing is written down
