"""[directory] of the configuration file."""

from __future__ import annotations

from dataclasses import dataclass

from mailstack.mail.address import Address, BadAddress


@dataclass(frozen=True, slots=True)
class DirectoryConfig:
    """How recipients are found and passwords are hashed."""

    recipient_delimiter: str = "+"  # user+detail; each character is a delimiter; "" turns subaddresses off
    argon2_memory_kib: int = 19456  # of one password hash (argon2id); 19 MiB takes about 35 ms
    argon2_time_cost: int = 2
    argon2_parallelism: int = 1
    shortest_password: int = 8  # characters of a password that the operator sets (NIST SP 800-63B); 0: any
    cache_seconds: float = 300.0  # a password found right is not hashed again for so long
    lookup_cache_seconds: float = 2.0  # a recipient or domain found is not looked up again for so long
    waiting_logins: int = 256  # password checks that may wait; more are told to come again
    postmaster: str | None = None  # who gets postmaster@ of our domains; None: a domain's first user

    def __post_init__(self) -> None:
        if not 8 * self.argon2_parallelism <= self.argon2_memory_kib <= 1 << 22:
            raise ValueError("directory.argon2_memory_kib must be from 8 for each lane to 4194304; try 19456")
        if not 1 <= self.argon2_time_cost <= 100:
            raise ValueError("directory.argon2_time_cost must be from 1 to 100; try 2")
        if not 1 <= self.argon2_parallelism <= 64:
            raise ValueError("directory.argon2_parallelism must be from 1 to 64; try 1")
        if self.cache_seconds < 0 or self.lookup_cache_seconds < 0:
            raise ValueError("directory.cache_seconds and lookup_cache_seconds must be 0 or more")
        if not 0 <= self.shortest_password <= 128:
            raise ValueError("directory.shortest_password must be from 0 to 128; try 8")
        if self.waiting_logins < 1:
            raise ValueError("directory.waiting_logins must be at least 1; try 256")
        if any(mark.isalnum() or mark in "@. " for mark in self.recipient_delimiter):
            raise ValueError('directory.recipient_delimiter must be punctuation, such as "+"')
        try:
            if self.postmaster is not None:
                Address.parse(self.postmaster)
        except BadAddress as error:
            raise ValueError(f"directory.postmaster is not an address: {error}") from error
