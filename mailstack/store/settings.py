"""[store] of the configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where the mail lies and how it is watched."""

    path: Path = Path("mail")  # the folder of all users' Maildirs
    poll: float = 3.0  # seconds between looks at what other programs did to open mailboxes
    write_behind: float = 1.0  # seconds until flag changes reach the file names
    keep: float = 30.0  # seconds a closed mailbox stays loaded, for the next open
    keep_mailboxes: int = 200  # closed mailboxes kept loaded at most
    max_mailboxes: int = 5_000  # of one user
