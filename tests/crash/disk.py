"""A file system that may lose power: of each file and directory what is durable, and what may be.

The rules are those of POSIX: octets are durable after an fsync of their file, names after an fsync of their
directory. Whatever else was done may have reached the disk or not, in any order: octets by the block, a size
without its octets (they read as zeros), a name before the octets of its file. A rename happens wholly or not at
all, as in every journaling file system; so an fsync of either directory makes it durable.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.crash.traced import RESTART, Call, octets

_CREATE, _TRUNCATE, _TEMPORARY = "O_CREAT", "O_TRUNC", "O_TMPFILE"


class Cut(enum.Enum):
    """What a power cut leaves of what was not yet durable."""

    NOTHING = "nothing"  # only what is durable
    ALL = "all"  # as if the process had been killed
    JOURNAL = "journal"  # names up to a moment, octets at random: ext4
    RANDOM = "random"  # anything in any order: what no file system forbids itself


@dataclass(slots=True)
class Inode:
    """A file or a directory, as it is and as it is on the disk."""

    number: int
    is_directory: bool
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # offset and octets, or a new size
    version: int = 0  # of `content`
    durable_version: int = 0
    mtime: float | None = None
    names: dict[str, int] = field(default_factory=dict)
    durable_names: dict[str, tuple[int | None, int]] = field(
        default_factory=dict
    )  # and since which operation


@dataclass(frozen=True, slots=True)
class Change:
    """One operation on names: directory, name, and the inode that it stands for then (None: nothing)."""

    number: int
    names: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file of a state: its octets, and a key that is the same for the same octets of the same file."""

    content: bytes
    key: tuple[int, int] | None
    mtime: float | None


class Disk:
    """The folder `root` as it was when the trace began, all of it durable; then what `apply` is given."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._inodes: list[Inode] = []
        self._changes: list[Change] = []  # not durable yet
        self._count = 0  # numbers what happens
        self._descriptors: dict[int, int] = {}
        self._pipes: set[str] = set()
        self._begun: dict[int, tuple[int, int, int]] = {}  # fsyncs under way, by thread
        self._take(root)

    # What happens

    def apply(self, call: Call) -> None:
        """One item of a trace."""
        if call.name == RESTART:
            self._descriptors.clear()
            self._begun.clear()
        if call.name in ("fsync", "fdatasync"):
            self._fsync(call)
        elif call.ends and (act := _ACTS.get(call.name)) is not None:
            act(self, call)

    def find(self, path: str | Path) -> int | None:
        """The inode of a path now."""
        return self._walk(str(path))

    # What is left of it

    def state(self, cut: Cut, random: Random) -> dict[str, File | None]:
        """What a power cut now may leave: by path from the root, files, and None for a directory."""
        names = self._names(cut, random)
        found: dict[str, File | None] = {}

        def walk(directory: int, path: str) -> None:
            for name, number in sorted(names(directory).items()):
                inode, below = self._inodes[number], f"{path}{name}"
                if inode.is_directory:
                    found[below] = None
                    walk(number, f"{below}/")
                else:
                    found[below] = self._file(inode, cut, random)

        walk(0, "")
        return found

    @property
    def undecided(self) -> int:
        """How many operations on names are not durable."""
        return len(self._changes)

    def _names(self, cut: Cut, random: Random) -> Callable[[int], dict[str, int]]:
        if cut is Cut.ALL:
            return lambda directory: self._inodes[directory].names
        chosen: list[Change] = []
        if cut is Cut.JOURNAL and self._changes:
            chosen = self._changes[: random.randint(0, len(self._changes))]
        elif cut is Cut.RANDOM:
            chance = random.choice((0.1, 0.5, 0.9))
            chosen = [change for change in self._changes if random.random() < chance]
        over: dict[int, dict[str, tuple[int | None, int]]] = {}
        for change in chosen:
            for directory, name, inode in change.names:
                over.setdefault(directory, {})[name] = inode, change.number

        def names(directory: int) -> dict[str, int]:
            inode = self._inodes[directory]
            known = dict(inode.durable_names)
            for name, entry in over.get(directory, {}).items():
                if name not in known or known[name][1] < entry[1]:
                    known[name] = entry
            return {name: number for name, (number, _) in known.items() if number is not None}

        return names

    def _file(self, inode: Inode, cut: Cut, random: Random) -> File:
        if cut is Cut.ALL or not inode.pending:
            return File(bytes(inode.content), (inode.number, inode.version), inode.mtime)
        if cut is Cut.NOTHING:
            return File(bytes(inode.durable), (inode.number, inode.durable_version), inode.mtime)
        return File(_some_of(inode, random), None, inode.mtime)

    # Inside

    def _take(self, path: Path) -> int:
        inode = self._new(path.is_dir())
        inode.mtime = path.stat().st_mtime
        if not inode.is_directory:
            inode.content[:] = path.read_bytes()
            inode.durable[:] = inode.content
            return inode.number
        for entry in sorted(path.iterdir()):
            if entry.is_dir() or entry.is_file():
                number = self._take(entry)
                inode.names[entry.name] = number
                inode.durable_names[entry.name] = number, 0
        return inode.number

    def _new(self, is_directory: bool) -> Inode:
        inode = Inode(len(self._inodes), is_directory)
        self._inodes.append(inode)
        return inode

    def _walk(self, path: str) -> int | None:
        root = str(self.root)
        if path != root and not path.startswith(root + "/"):
            return None
        number: int | None = 0
        for name in path[len(root) :].split("/"):
            if name:
                if number is None:
                    return None
                number = self._inodes[number].names.get(name)
        return number

    def _change(self, *names: tuple[int, str, int | None]) -> None:
        self._count += 1
        self._changes.append(Change(self._count, names))
        for directory, name, inode in names:
            if inode is None:
                self._inodes[directory].names.pop(name, None)
            else:
                self._inodes[directory].names[name] = inode

    def _place(self, path: str) -> tuple[int, str] | None:
        above, _, name = path.rpartition("/")
        directory = self._walk(above)
        return None if directory is None else (directory, name)

    def _fsync(self, call: Call) -> None:
        if call.begins and (inode := self._inode_of(call)) is not None:
            self._begun[call.thread] = inode.number, len(inode.pending), self._count
        if call.ends and call.thread in self._begun:
            number, count, last = self._begun.pop(call.thread)
            inode = self._inodes[number]
            if inode.is_directory:
                self._keep_names(number, last)
            else:
                self._keep_octets(inode, count)

    def _keep_octets(self, inode: Inode, count: int) -> None:
        count = min(count, len(inode.pending))  # another fsync of the same file may have ended meanwhile
        for offset, data in inode.pending[:count]:
            _write(inode.durable, offset, data)
        del inode.pending[:count]
        self._count += 1
        inode.durable_version = -self._count  # no version of `content`

    def _keep_names(self, directory: int, last: int) -> None:
        """Of the operations up to `last` those that touched the directory; the other half of a rename too."""
        for change in self._changes:
            touched = {one for one, _, _ in change.names}
            if change.number > last or directory not in touched:
                continue
            for one, name, inode in change.names:
                kept = self._inodes[one].durable_names
                if kept.get(name, (None, -1))[1] < change.number:
                    kept[name] = inode, change.number
        self._changes = [
            change
            for change in self._changes
            if change.number > last or all(one != directory for one, _, _ in change.names)
        ]

    def _inode_of(self, call: Call) -> Inode | None:
        number, what = call.descriptor()
        if number in self._descriptors:
            return self._inodes[self._descriptors[number]]
        found = self._walk(octets(what).decode()) if what.startswith("\\x") else None
        return None if found is None else self._inodes[found]

    def _paths(self, call: Call) -> list[str]:
        """The paths that a call names, each made whole by the directory that it is relative to."""
        found = []
        for base, path in _pairs(call):
            found.append(path if path.startswith("/") or base is None else f"{base}/{path}")
        return found

    # The calls

    def _open(self, call: Call) -> None:
        self._descriptors.pop(call.result, None)
        [path] = self._paths(call)
        flags = call.text.rpartition('"')[2]
        if _TEMPORARY in flags:
            if self._walk(path) is not None:
                self._descriptors[call.result] = self._new(False).number
            return
        number = self._walk(path)
        if number is None and _CREATE in flags and (place := self._place(path)) is not None:
            number = self._new(False).number
            self._change((*place, number))
        if number is None:
            return
        self._descriptors[call.result] = number
        if _TRUNCATE in flags:
            self._put(self._inodes[number], 0, None)

    def _put(self, inode: Inode, offset: int, data: bytes | None) -> None:
        _write(inode.content, offset, data)
        inode.pending.append((offset, data))
        inode.version += 1

    def _written(self, call: Call) -> None:
        if call.connection is not None or (inode := self._inode_of(call)) is None:
            return
        data = b"".join(call.strings())[: call.result]
        if call.name in ("pwrite64", "pwritev", "pwritev2"):
            offset = int(call.text.rstrip().rpartition(", ")[2].split(",")[0])
        else:
            # Nobody here writes but at the end of what is written. After a truncation that is the beginning.
            offset = len(inode.content)
        self._put(inode, offset, data)

    def _truncated(self, call: Call) -> None:
        size = int(call.text.rpartition(", ")[2])
        if call.name == "truncate":
            number = self._walk(self._paths(call)[0])
            inode = None if number is None else self._inodes[number]
        else:
            inode = self._inode_of(call)
        if inode is not None:
            self._put(inode, size, None)

    def _renamed(self, call: Call) -> None:
        old, new = self._paths(call)
        if old in self._pipes:  # nobody looks for one after a start
            return
        number, source, target = self._walk(old), self._place(old), self._place(new)
        assert number is not None, f"rename of {old}"
        assert source is not None, f"rename of {old}"
        assert target is not None, f"rename to {new}"
        self._change((*source, None), (*target, number))

    def _linked(self, call: Call) -> None:
        old, new = self._paths(call)
        number, target = self._walk(old), self._place(new)
        assert number is not None, f"link of {old}"
        assert target is not None, f"link at {new}"
        self._change((*target, number))

    def _unlinked(self, call: Call) -> None:
        [path] = self._paths(call)
        if self._walk(path) is not None and (place := self._place(path)) is not None:
            self._change((*place, None))

    def _made(self, call: Call) -> None:
        [path] = self._paths(call)
        if (place := self._place(path)) is not None:
            self._change((*place, self._new(True).number))

    def _piped(self, call: Call) -> None:
        self._pipes.update(self._paths(call))

    def _dated(self, call: Call) -> None:
        inode = self._inode_of(call) if call.text[:1].isdigit() else None
        seconds = call.text.rpartition("tv_sec=")[2]
        if inode is not None and seconds[:1].isdigit():
            inode.mtime = float(seconds.partition(",")[0])

    def _unknown(self, call: Call) -> None:
        raise AssertionError(f"{call.name} is not played here yet: {call.text[:200]}")


def _pairs(call: Call) -> Iterator[tuple[str | None, str]]:
    """Paths, each with the directory that stands before it (in the calls that end in "at")."""
    paths = [path.decode("utf-8", "surrogateescape") for path in call.strings()]
    for number, path in enumerate(paths):
        base = None
        if not path.startswith("/") and call.name.rstrip("2").endswith("at"):
            base = octets(call.descriptor(number)[1]).decode("utf-8", "surrogateescape")
        yield base, path


def _write(content: bytearray, offset: int, data: bytes | None) -> None:
    """Octets at an offset, or a new size; what was never written reads as zeros."""
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _some_of(inode: Inode, random: Random) -> bytes:
    """The file with some of what is pending, block by block."""
    content = bytearray(inode.durable)
    chance, block = random.choice((0.1, 0.5, 0.9)), random.choice((512, 4096))
    for offset, data in inode.pending:
        if data is None:
            if random.random() < chance:
                _write(content, offset, None)
            continue
        start = offset
        while start < offset + len(data):
            end = min(offset + len(data), (start // block + 1) * block)
            if random.random() < chance:
                _write(content, start, data[start - offset : end - offset])
            start = end
    if len(content) < len(inode.content) and random.random() < 0.5:
        _write(content, len(inode.content), None)  # the size came first
    return bytes(content)


_ACTS: dict[str, Callable[[Disk, Call], None]] = {
    "openat": Disk._open,
    **dict.fromkeys(("write", "writev", "pwrite64", "pwritev", "pwritev2"), Disk._written),
    **dict.fromkeys(("ftruncate", "truncate"), Disk._truncated),
    **dict.fromkeys(("rename", "renameat", "renameat2"), Disk._renamed),
    **dict.fromkeys(("link", "linkat"), Disk._linked),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), Disk._unlinked),
    **dict.fromkeys(("mkdir", "mkdirat"), Disk._made),
    **dict.fromkeys(("mknod", "mknodat"), Disk._piped),
    "utimensat": Disk._dated,
    **dict.fromkeys(
        ("fallocate", "copy_file_range", "sendfile", "symlink", "symlinkat", "sync_file_range", "msync"),
        Disk._unknown,
    ),
}
