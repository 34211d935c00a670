"""[store] of the configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mailstack.store.packing import Compression


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where the mail lies and how it is watched."""

    path: Path = Path("mail")  # the folder of all users' Maildirs
    poll: float = 3.0  # seconds between looks at what other programs did to open mailboxes
    write_behind: float = 1.0  # seconds until flag changes reach the file names
    keep: float = 30.0  # seconds a closed mailbox stays loaded, for the next open
    keep_mailboxes: int = 200  # closed mailboxes kept loaded at most
    max_mailboxes: int = 5_000  # of one user
    remember_expunged: int = 30  # days for which clients that come back are told what was expunged (QRESYNC)
    remember_most: int = 100_000  # expunged messages of one mailbox remembered at most
    keep_expunged: int = 0  # days for which expunged mail can be put back: mailstack store undelete; 0: never
    index: bool = True  # a full-text index of each mailbox that is searched, from its first search on
    index_delay: float = 2.0  # seconds from a delivery until its text is taken into the index
    metadata_entries: int = 100  # annotations of one mailbox, shared ones and each user's (RFC 5464)
    metadata_octets: int = 65_536  # of one annotation
    sharing: bool = True  # whether users can give others rights to their mailboxes (RFC 4314)
    compression: Compression = "none"  # of new mail in its files; what lies there already stays as it is
