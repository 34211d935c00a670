"""The octets of messages, read from their files. Blocking.

Theory of operation. What was read lately lies in the system's cache; what was not takes as long as the disk
does, which is long for one file after the other and short for many at once. So once a file among several
turns out to come from the disk, the system is told of all that follow it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from mailstack.store.maildir import IN_MEMORY, size_of
from mailstack.store.packing import Damaged, Text, pread

Wanted = tuple[str, int, int | None]  # path, offset, length (None: all)

_FROM_DISK = 100e-6  # seconds: opening and reading a small file that lies in the cache takes less


def read_file(path: Path | str, offset: int = 0, length: int | None = None) -> bytes:
    """Octets of the message in a file, compressed or not. Raise OSError."""
    said = size_of(str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if said is not None and offset == 0 and (length is None or length == said <= IN_MEMORY):
            data = os.pread(descriptor, said + 1, 0)
            if len(data) == said:  # the usual one: as it came, as long as its name says, and wanted whole
                return data
        size = os.fstat(descriptor).st_size
        if size == said:
            return pread(descriptor, offset, max(0, size - offset) if length is None else length)
    finally:
        os.close(descriptor)
    with Text(path) as text:
        return text.read(offset, sys.maxsize if length is None else length)


def read_files(wanted: Sequence[Wanted]) -> list[bytes | None]:
    """Octets of each message; None where it is not there, or damaged.

    Raise OSError.
    """
    found: list[bytes | None] = []
    is_told = False
    for path, offset, length in wanted:
        started = perf_counter()
        try:
            found.append(read_file(path, offset, length))
        except (FileNotFoundError, Damaged):
            found.append(None)
        if not is_told and perf_counter() - started > _FROM_DISK:
            _will_read(wanted[len(found) :])
            is_told = True
    return found


def _will_read(wanted: Sequence[Wanted]) -> None:
    """Have the system fetch files from the disk, all at once, while we go on."""
    if not hasattr(os, "posix_fadvise"):
        return  # macOS has no such call
    for path, offset, length in wanted:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # whoever reads it sees why
        try:
            os.posix_fadvise(descriptor, offset, length or IN_MEMORY, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
