"""Maildir on the disk: file names, writing without loss, what lies there
(https://cr.yp.to/proto/maildir.html).

A file's name is ``<seconds>.<unique>.<host>,S=<octets>,U=<uid>``, in cur/ followed by ``:2,<letters>``.
`unique` is ``D`` and the key of the delivery that brought it, or ``R`` and a random number. Everything before
``:2,`` is the base name, which a message keeps for life. A file may be compressed (see `packing`): it has
fewer octets then than ``S=`` says, which are the message's.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import mmap
import os
import re
import secrets
import tempfile
import threading
import time
from base64 import b32encode
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailstack.mail.message import CHUNK, Message
from mailstack.store.facts import compute_facts
from mailstack.store.mapped import Mapped
from mailstack.store.packing import (
    MOST_UNPACKED,
    Compression,
    Damaged,
    Text,
    again,
    kind_of,
    pack,
    packed_pieces,
    size_of_text,
)
from mailstack.store.values import Facts

KEPT = "mailstack-expunged"  # in a mailbox's directory: files of expunged messages that can be put back
IN_MEMORY = 1024 * 1024  # octets of a message that is read whole
STALE = 36 * 3600  # seconds after which a file in tmp/ belongs to nobody
_LOOKS = 3  # at a directory in which a file is missing, and tries at one that is renamed and renamed
_HOST = re.sub(r"[^A-Za-z0-9.-]", "-", os.uname().nodename)[:60] or "localhost"
_PROCESS = secrets.token_hex(8)  # with _COUNT, what no other file in any tmp/ is called
_COUNT = itertools.count()
_ONE_LARGE = threading.Lock()  # to read a large file: what Python copies of it is large as well
_UID = re.compile(r",U=(\d{1,10})(?=,|$)")
_SIZE = re.compile(r",S=(\d{1,18})(?=,|$)")
_NO_LETTER = re.compile(r"[^A-Za-z0-9]")
_NO_NAME = re.compile(r"[^!-~]")  # the index keeps text, and a file's name may be any octets
_DELIVERY = re.compile(r"\d+\.D([a-z2-7]{24})\.")


@dataclass(frozen=True, slots=True)
class Written:
    """A message in tmp/, its bytes durable."""

    path: str
    size: int
    facts: Facts


def list_names(mailbox: Path, directory: str) -> set[str]:
    """The names of the files in "new" or "cur".

    Raise OSError, also where the directory is missing: that never reads as "no messages".
    """
    return {name for name in os.listdir(mailbox / directory) if name[0] != "."}


def list_files(mailbox: Path) -> dict[str, str]:
    """The files of new/ and cur/, as paths from the mailbox's directory, by base name. Raise OSError."""
    paths = [f"{name}/{file}" for name in ("new", "cur") for file in list_names(mailbox, name)]
    return {base_of(path): path for path in sorted(paths, reverse=True)}


def find_files(mailbox: Path, bases: Collection[str]) -> dict[str, str]:
    """`list_files` for those who miss it if one of `bases` is not there. Raise OSError.

    A file that is renamed while its directory is read may be seen under neither name: so they look again.
    """
    files, wanted = list_files(mailbox), set(bases)
    for _ in range(_LOOKS - 1):
        if files.keys() >= wanted:
            break
        files |= list_files(mailbox)
    return files


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
    with contextlib.suppress(PermissionError):  # where the store's own folder lies: that need not be ours
        fsync_directory(above[-1].parent)


def write_message(
    tmp: str, message: Message, internal_date: int, compression: Compression = "none"
) -> Written:
    """Write a message into tmp/, fsync it, compute its facts. Raise OSError; no file is left then."""
    path = f"{tmp}/{int(time.time())}.R{_PROCESS}{next(_COUNT):x}.{_HOST}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            facts = _write(descriptor, path, message, compression)
            if int(os.fstat(descriptor).st_mtime) != internal_date:  # a rebuild has the date from here
                os.utime(descriptor, (internal_date, internal_date))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except EOFError as error:
        remove(path)
        raise OSError(errno.EIO, "the message's spool file is too short") from error
    except BaseException:
        remove(path)
        raise
    return Written(path, message.size, facts)


def _write(descriptor: int, path: str, message: Message, compression: Compression) -> Facts:
    if message.size <= IN_MEMORY:
        data = message.read()
        _write_all(descriptor, pack(data, compression) or data)
        return compute_facts(data)
    for chunk in message.chunks():
        _write_all(descriptor, chunk)
    facts = _facts_of_large(descriptor)
    if compression != "none" and message.size <= MOST_UNPACKED:
        _write_packed(descriptor, path, message, compression)
    return facts


def _write_packed(descriptor: int, path: str, message: Message, compression: Compression) -> None:
    """Put a big message's compressed octets in place of its own, if there are fewer."""
    with tempfile.TemporaryFile(dir=os.path.dirname(path)) as packed:
        left = message.size
        for piece in packed_pieces(message.chunks(), compression):
            left -= len(piece)
            if left <= 0:
                return
            packed.write(piece)
        os.truncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        packed.seek(0)
        while piece := packed.read(CHUNK):
            _write_all(descriptor, piece)


def _facts_of_large(descriptor: int) -> Facts:
    with _ONE_LARGE, Mapped(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
        return compute_facts(mapped)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def file_facts(path: Path) -> tuple[int, int, Facts]:
    """Size and facts of the message in another program's file, and its time of modification in seconds.

    A file that looks compressed and cannot be undone is a message as it is. Raise OSError.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if kind_of(file, path.name) is not None:
            try:
                size, facts = _packed_facts(path)
                return size, int(status.st_mtime), facts
            except Damaged:
                pass
        if status.st_size <= IN_MEMORY:
            return status.st_size, int(status.st_mtime), compute_facts(file.read())
        return status.st_size, int(status.st_mtime), _facts_of_large(file.fileno())


def _packed_facts(path: Path) -> tuple[int, Facts]:
    with Text(path) as text:
        data = text.read(0, IN_MEMORY + 1)
        if len(data) <= IN_MEMORY:
            return len(data), compute_facts(data)
        with tempfile.TemporaryFile(dir=path.parent.parent / "tmp") as whole:
            size = sum(map(whole.write, text.chunks()))
            whole.flush()
            return size, _facts_of_large(whole.fileno())


def holds(path: Path, status: os.stat_result, size: int) -> bool:
    """Whether the message in a file has so many octets. Raise OSError."""
    return status.st_size == size or size_of_text(path) == size


def make_crlf(mailbox: Path, path: Path) -> None:
    """Give a file that another program wrote with LF line ends the CRLF of mail. Raise OSError.

    A compressed file is compressed again.
    """
    with Text(path) as text:
        try:
            if not any(_has_bare_lf(chunk, before) for chunk, before in _with_last(text)):
                return
        except Damaged:
            return  # no message in disguise: it stays as it is
        status = os.stat(path)
        made = (_crlf(chunk, before) for chunk, before in _with_last(text))
        pieces = made if text.kind is None else packed_pieces(made, again(text.kind))
        copy = mailbox / "tmp" / f"{int(time.time())}.R{secrets.token_hex(8)}.{_HOST}"
        try:
            with copy.open("xb") as target:
                target.writelines(pieces)
                target.flush()
                os.utime(target.fileno(), (status.st_atime, status.st_mtime))
                os.fsync(target.fileno())
            if os.stat(path).st_ino != status.st_ino:  # another program was quicker
                raise FileNotFoundError(errno.ENOENT, "the file was replaced", str(path))
            os.rename(copy, path)
        except BaseException:
            remove(copy)
            raise
        if text.links and _lies_elsewhere(mailbox, path, status.st_ino):
            remove(path)  # it was renamed in the last moment, and would be there twice
            raise FileNotFoundError(errno.ENOENT, "the file was renamed", str(path))


def _lies_elsewhere(mailbox: Path, path: Path, inode: int) -> bool:
    """Whether a file, which was at `path`, lies in the mailbox under another name of the same base."""
    base = base_of(f"{path.parent.name}/{path.name}")
    for directory in ("new", "cur"):
        for name in list_names(mailbox, directory):
            other = mailbox / directory / name
            if other != path and base_of(f"{directory}/{name}") == base:
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(other).st_ino == inode:
                        return True
    return False


def _with_last(text: Text) -> Iterator[tuple[bytes, bool]]:
    before = False
    for chunk in text.chunks():
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
    for _ in range(2):  # see `find_files`
        for directory in ("cur", "new"):
            for name in os.listdir(mailbox / directory):
                if name.partition(":2,")[0] == base:
                    return f"{directory}/{name}"
    return None


def take(mailbox: Path, path: str, act: Callable[[str], None]) -> str | None:
    """Do something to a file that others may rename: `act` gets its path from the mailbox's directory.

    The path that it had; None if it is nowhere. Raise OSError; FileNotFoundError if the mailbox is gone.
    """
    for _ in range(_LOOKS):
        try:
            act(path)
        except FileNotFoundError:
            found = find(mailbox, base_of(path))
            if found is None:
                return None
            path = found
        else:
            return path
    raise OSError(errno.EBUSY, "the file is renamed again and again", str(mailbox / path))


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
    (mailbox / KEPT).mkdir(mode=0o700, exist_ok=True)
    taken = take(mailbox, path, lambda now: os.rename(mailbox / now, mailbox / _kept(now)))
    if taken is not None:
        return _kept(taken)
    base = base_of(path)  # another process may have been quicker
    return next((f"{KEPT}/{name}" for name in list_kept(mailbox) if base_of(f"/{name}") == base), None)


def _kept(path: str) -> str:
    return f"{KEPT}/{path.partition('/')[2]}"


def remove_stale(mailbox: Path) -> None:
    """Remove what has lain in tmp/ for longer than anyone writes. Raise OSError.

    By the time of its last change in the file system: that of its octets is the message's INTERNALDATE,
    of years ago where mail is moved in.
    """
    oldest = time.time() - STALE
    (mailbox / "tmp").mkdir(mode=0o700, exist_ok=True)  # but no mailbox that was just removed
    with os.scandir(mailbox / "tmp") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # a message on its way leaves tmp/ any moment
                if (
                    entry.is_file(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_ctime < oldest
                ):
                    os.unlink(entry.path)


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
