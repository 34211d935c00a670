"""The queue's spool: the octets of each message in wait, a file each. Everything here blocks."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

from mailstack.mail.message import Message, Stored

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


SLOT = 16.0  # seconds that one folder is written to: what commits together has one folder to fsync


class Spool:
    """Files named by queue id below `root`, in 256 folders; each is whole or not there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: set[Path] = set()  # folders that this process knows to be durable
        self._making = threading.Lock()

    def name(self, queue_id: str, now: float) -> str:
        """The name, below the root, for the file of a message that came at `now`. Raise ValueError."""
        if not _NAME.fullmatch(queue_id):
            raise ValueError(f"no file can be named {queue_id!r}")
        return f"{int(now / SLOT) & 0xFF:02x}/{queue_id}"

    def write(self, name: str, message: Message) -> None:
        """Write and fsync a message, rename it into its place.

        The folder it is in, `folder(name)`, is still to be fsynced. Raises OSError, or EOFError where the
        message's own file is short.
        """
        path = self._root / name
        temporary = self._root / "tmp" / path.name
        self._make(temporary.parent)
        self._make(path.parent)
        try:
            with temporary.open("wb") as file:
                for chunk in message.chunks():
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def folder(self, name: str) -> Path:
        """The folder that holds a file's name."""
        return (self._root / name).parent

    def message(self, name: str, size: int) -> Message:
        """The message in a file; nothing is read yet."""
        return Message((Stored(self._root / name, 0, size),))

    def remove(self, *names: str) -> None:
        """Unlink files that no row names any more; not there is as good. Raises OSError, after trying all."""
        failed: OSError | None = None
        for name in names:
            try:
                os.unlink(f"{self._root}/{name}")
            except FileNotFoundError:
                pass
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed

    def folders(self) -> list[str]:
        """The names of the folders that files may be in, half-written ones too."""
        return sorted(path.name for path in self._root.glob("*/"))

    def older_than(self, limit: float, folder: str) -> list[str]:
        """Names of the files in a folder that were last written before `limit` (seconds of the epoch)."""
        names = []
        for entry in os.scandir(self._root / folder):
            try:
                if entry.stat().st_mtime < limit:
                    names.append(f"{folder}/{entry.name}")
            except FileNotFoundError:
                continue
        return names

    def _make(self, folder: Path) -> None:
        """Have a folder of ours, and those above it, outlive a power cut.

        That it is there says nothing: another thread may just have made it, or a process that then crashed.
        """
        with self._making:
            for one in (self._root.parent, self._root, folder):
                if one not in self._made:
                    one.mkdir(mode=0o700, parents=True, exist_ok=True)
                    _fsync(one.parent)
                    self._made.add(one)


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
