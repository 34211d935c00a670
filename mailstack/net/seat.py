"""Which of the processes that share a folder this one is, with nobody to ask.

Theory of operation. Each process locks the first lock file that no other holds; the system lets go of it when
the process ends, however it does. So one that starts in the place of one that died has its number, and takes
up at once what that left behind.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from twisted.application.service import Service
from twisted.logger import Logger

_log = Logger(namespace="mailstack")

MOST = 100  # processes


class Seat(Service):
    """Taken when it is made, left when it is stopped. Blocks a moment."""

    def __init__(self, folder: Path) -> None:
        self.number = 0  # the only process has 0; so has one that cannot lock
        self._file: int | None = None
        try:
            self._take(folder)
        except OSError as error:
            _log.warn(
                "{folder}: no lock, and no second process can be told from us: {why}",
                folder=folder,
                why=error,
            )

    def _take(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(MOST):
            path = folder / f"process-{number}.lock"
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
                continue
            self.number, self._file = number, file
            return
        raise OSError(f"{MOST} processes have one already")

    def named(self, name: str) -> str:
        """`name`, told apart from that of the other processes."""
        return f"{name}-{self.number}" if self.number else name

    def stopService(self) -> None:
        """Let the next one have it."""
        super().stopService()
        if self._file is not None:
            os.close(self._file)
            self._file = None
