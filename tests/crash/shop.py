"""States of a disk as folders, each in the place of the last."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.crash.disk import File


class Shop:
    """Makes states in a folder; files that are the same in several are linked, not written again."""

    def __init__(self, folder: Path) -> None:
        self._stock = folder / "stock"
        self._stock.mkdir(parents=True)
        self.root = folder / "state"
        self._have: set[tuple[int, int]] = set()

    def make(self, state: dict[str, File | None]) -> Path:
        """Put a state where the last one was; its folder."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for path, file in state.items():
            if file is None:
                os.mkdir(f"{self.root}/{path}", 0o700)
            elif not path.endswith("-shm"):  # SQLite makes it anew
                self._put(f"{self.root}/{path}", file)
        return self.root

    def _put(self, path: str, file: File) -> None:
        if file.key is None or path.endswith((".db", "-wal")):
            _make(path, file)
            return
        stock = f"{self._stock}/{file.key[0]}.{file.key[1]}"
        if file.key not in self._have:
            self._have.add(file.key)
            _make(stock, file)
        os.link(stock, path)


def _make(path: str, file: File) -> None:
    with open(path, "wb") as made:
        made.write(file.content)
    if file.mtime is not None:
        os.utime(path, (file.mtime, file.mtime))
