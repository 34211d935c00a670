"""Maildir on the disk: file names, writing without loss, what lies there
(https://cr.yp.to/proto/maildir.html).

A file's name is ``<seconds>.<unique>.<host>,S=<octets>,U=<uid>``, in cur/ followed by ``:2,<letters>``.
`unique` is ``D`` and the key of the delivery that brought it, or ``R`` and a random number. Everything before
``:2,`` is the base name, which a message keeps for life.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import mmap
import os
import re
import secrets
import threading
import time
from base64 import b32encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailstack.mail.message import CHUNK, Message
from mailstack.store.facts import compute_facts
from mailstack.store.values import Facts

KEPT = "mailstack-expunged"  # in a mailbox's directory: files of expunged messages that can be put back
IN_MEMORY = 1024 * 1024  # octets of a message that is read whole
STALE = 36 * 3600  # seconds after which a file in tmp/ belongs to nobody
_HOST = re.sub(r"[^A-Za-z0-9.-]", "-", os.uname().nodename)[:60] or "localhost"
_PROCESS = secrets.token_hex(8)  # with _COUNT, what no other file in any tmp/ is called
_COUNT = itertools.count()
_ONE_LARGE = threading.Lock()  # to have a large file in memory: all its pages are ours meanwhile
_UID = re.compile(r",U=(\d{1,10})(?=,|$)")
_SIZE = re.compile(r",S=(\d{1,18})(?=,|$)")
_NO_LETTER = re.compile(r"[^A-Za-z0-9]")
_NO_NAME = re.compile(r"[^!-~]")  # the index keeps text, and a file's name may be any octets
_DELIVERY = re.compile(r"\d+\.D([a-z2-7]{24})\.")


@dataclass(frozen=True, slots=True)
class Written:
    """A message in tmp/, its bytes durable."""

    path: Path
    size: int
    facts: Facts


def list_paths(mailbox: Path) -> set[str]:
    """The files of new/ and cur/, as paths from the mailbox's directory.

    Raise OSError, also where a directory is missing: that never reads as "no messages".
    """
    paths = {f"new/{name}" for name in os.listdir(mailbox / "new") if name[0] != "."}
    paths.update([f"cur/{name}" for name in os.listdir(mailbox / "cur") if name[0] != "."])
    return paths


def list_files(mailbox: Path) -> dict[str, str]:
    """The same by base name. Raise OSError."""
    return {base_of(path): path for path in sorted(list_paths(mailbox), reverse=True)}


def base_of(path: str) -> str:
    """The base name of a path that `list_files` gave."""
    return path.partition("/")[2].partition(":2,")[0]


def letters_of(path: str) -> str:
    """The flags part of a path that `list_files` gave: what can be a flag of it."""
    return _NO_LETTER.sub("", path.partition(":2,")[2])[:64]


def delivery_key(delivery: str) -> str:
    """The name of a delivery as it stands in the index and in the file's name."""
    digest = hashlib.blake2b(delivery.encode("utf-8", "surrogatepass"), digest_size=15).digest()
    return b32encode(digest).decode().lower()


def base_name(seconds: int, key: str | None, size: int, uid: int) -> str:
    """The base name of a new message."""
    unique = f"D{key}" if key else f"R{secrets.token_hex(8)}"
    return f"{seconds}.{unique}.{_HOST},S={size},U={uid}"


def with_uid(base: str, size: int, uid: int) -> str:
    """The base name of another program's file once it has a UID here."""
    plain = _NO_NAME.sub("_", _SIZE.sub("", _UID.sub("", base)))[:150]
    return f"{plain},S={size},U={uid}"


def uid_of(base: str) -> int | None:
    """The UID in a base name, if it has one."""
    match = _UID.search(base)
    return int(match[1]) if match and 0 < int(match[1]) < 1 << 32 else None


def size_of(base: str) -> int | None:
    """The size in a base name, if it has one."""
    match = _SIZE.search(base)
    return int(match[1]) if match else None


def delivery_of(base: str) -> str | None:
    """The delivery's key in a base name, if it has one."""
    match = _DELIVERY.match(base)
    return match[1] if match else None


def relative(base: str, disk_info: str, is_new: bool) -> str:
    """The path of a message's file from its mailbox's directory."""
    if is_new:
        return f"new/{base}:2,{disk_info}" if disk_info else f"new/{base}"
    return f"cur/{base}:2,{disk_info}"


def make_mailbox(mailbox: Path) -> None:
    """The directories of one mailbox, durable, whichever of them are missing."""
    mailbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("tmp", "new", "cur"):
        (mailbox / name).mkdir(mode=0o700, exist_ok=True)
    if mailbox.name.startswith("."):
        (mailbox / "maildirfolder").touch(mode=0o600)  # Maildir++: this is a folder, not an account
    above = [mailbox.parent] if mailbox.name.startswith(".") else list(mailbox.parents)[:3]
    for directory in (mailbox, *above):
        fsync_directory(directory)


def write_message(tmp: Path, message: Message, internal_date: int) -> Written:
    """Write a message into tmp/, fsync it, compute its facts. Raise OSError; no file is left then."""
    path = tmp / f"{int(time.time())}.R{_PROCESS}{next(_COUNT):x}.{_HOST}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return _write(descriptor, path, message, internal_date)
        finally:
            os.close(descriptor)
    except EOFError as error:
        remove(path)
        raise OSError(errno.EIO, "the message's spool file is too short") from error
    except BaseException:
        remove(path)
        raise


def _write(descriptor: int, path: Path, message: Message, internal_date: int) -> Written:
    size = message.size
    if size <= IN_MEMORY:
        data = message.read()
        _write_all(descriptor, data)
        facts = compute_facts(data)
    else:
        for chunk in message.chunks():
            _write_all(descriptor, chunk)
        facts = _facts_of_large(descriptor)
    if int(os.fstat(descriptor).st_mtime) != internal_date:  # a rebuild has the date from here
        os.utime(descriptor, (internal_date, internal_date))
    os.fsync(descriptor)
    return Written(path, size, facts)


def _facts_of_large(descriptor: int) -> Facts:
    with _ONE_LARGE, mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
        return compute_facts(mapped)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_file(path: Path | str, offset: int = 0, length: int | None = None) -> bytes:
    """Octets of a file. Raise OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if length is None:
            length = max(0, os.fstat(descriptor).st_size - offset)
        data = os.pread(descriptor, length, offset)
        while 0 < len(data) < length:  # one read ends at 2 GiB
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data
    finally:
        os.close(descriptor)


def read_files(wanted: Sequence[tuple[str, int, int | None]]) -> list[bytes | None]:
    """Octets of each file: path, offset, length (None: all); None where it is not there. Raise OSError."""
    found: list[bytes | None] = []
    for path, offset, length in wanted:
        try:
            found.append(read_file(path, offset, length))
        except FileNotFoundError:
            found.append(None)
    return found


def file_facts(path: Path) -> tuple[int, int, Facts]:
    """Size, time of modification in seconds, and facts of another program's file. Raise OSError."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size <= IN_MEMORY:
            return status.st_size, int(status.st_mtime), compute_facts(file.read())
        return status.st_size, int(status.st_mtime), _facts_of_large(file.fileno())


def make_crlf(mailbox: Path, path: Path) -> None:
    """Give a file that another program wrote with LF line ends the CRLF of mail. Raise OSError."""
    with path.open("rb") as file:
        if not any(_has_bare_lf(chunk, before) for chunk, before in _with_last(file)):
            return
        status = os.fstat(file.fileno())
        file.seek(0)
        copy = mailbox / "tmp" / f"{int(time.time())}.R{secrets.token_hex(8)}.{_HOST}"
        try:
            with copy.open("xb") as target:
                for chunk, before in _with_last(file):
                    target.write(_crlf(chunk, before))
                target.flush()
                os.utime(target.fileno(), (status.st_atime, status.st_mtime))
                os.fsync(target.fileno())
            if os.stat(path).st_ino != status.st_ino:  # another program was quicker
                raise FileNotFoundError(errno.ENOENT, "the file was replaced", str(path))
            os.rename(copy, path)
        except BaseException:
            remove(copy)
            raise


def _with_last(file: object) -> Iterator[tuple[bytes, bool]]:
    before = False
    while chunk := file.read(CHUNK):  # type: ignore[attr-defined]
        yield chunk, before
        before = chunk.endswith(b"\r")


_BARE_LF = re.compile(rb"(?<!\r)\n")


def _has_bare_lf(chunk: bytes, after_cr: bool) -> bool:
    return _BARE_LF.search(chunk, 1 if after_cr and chunk.startswith(b"\n") else 0) is not None


def _crlf(chunk: bytes, after_cr: bool) -> bytes:
    start = 1 if after_cr and chunk.startswith(b"\n") else 0
    return chunk[:start] + _BARE_LF.sub(b"\r\n", chunk[start:])


def find(mailbox: Path, base: str) -> str | None:
    """The path, from the mailbox's directory, of the file with that base name, wherever it was renamed to."""
    for directory in ("cur", "new"):
        for name in os.listdir(mailbox / directory):
            if name.partition(":2,")[0] == base:
                return f"{directory}/{name}"
    return None


def list_kept(mailbox: Path) -> list[str]:
    """The names of the files in `KEPT`. Raise OSError."""
    try:
        return sorted(os.listdir(mailbox / KEPT))
    except FileNotFoundError:
        return []


def keep(mailbox: Path, path: str) -> str | None:
    """Take a file of an expunged message out of the mailbox; its new path, None if it is nowhere.

    Raise OSError.
    """
    if not (mailbox / path).exists():
        found = find(mailbox, base_of(path))
        if found is None:
            return None
        path = found
    kept = f"{KEPT}/{path.partition('/')[2]}"
    (mailbox / KEPT).mkdir(mode=0o700, exist_ok=True)
    os.rename(mailbox / path, mailbox / kept)
    return kept


def remove_stale(mailbox: Path) -> None:
    """Remove what has lain in tmp/ for longer than anyone writes."""
    oldest = time.time() - STALE
    with os.scandir(mailbox / "tmp") as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                remove(Path(entry.path))


def replace_text(path: Path, text: str) -> None:
    """Write a small file so that after a crash the old or the new text stands there whole. Raise OSError."""
    tmp = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(tmp, path)
    except BaseException:
        remove(tmp)
        raise
    fsync_directory(path.parent)


def remove(path: Path | str) -> None:
    """Unlink, if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def fsync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
