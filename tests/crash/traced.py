"""What a process told the system to do to its files, and what it sent, in the order in which it did: by strace.

An effect counts from the end of its call, what an fsync makes durable was written before it began, and an answer
may have been read by the peer as soon as its call began. A call that another thread's line cuts in two is therefore
two items, its beginning and its end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NEEDED = (
    "a power cut is played from a trace: apt-get install strace, and a kernel that lets it trace (ptrace)"
)

RESTART = "restart"  # no call: the process was killed, and there is another

_CALLS = (
    "openat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,mknod,mknodat,symlink,symlinkat,"
    "fsync,fdatasync,sync_file_range,msync,utimensat,sendto,sendmsg"
)
_HEAD = 10_000  # letters of a line that hold its descriptors and paths
_LONGEST = 4 * 1024 * 1024  # octets of one write that are kept; a longer one is refused by `read_trace`

_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)", re.DOTALL)
_UNFINISHED = " <unfinished ...>"
_RESULT = re.compile(r"\) += (-?\d+|\?)(?:<.*)?(?: .*)?$", re.DOTALL)
_DESCRIPTOR = re.compile(r"(AT_FDCWD|-?\d+)<(.*?)>(?:\(deleted\))?(?=, |\)|$)", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_ENDS = re.compile(r"TCP:\[[^\]]*:(\d+)->[^\]]*:(\d+)\]")


def strace(output: Path) -> list[str]:
    """The words before a command that is to be traced into `output`."""
    return [
        *("strace", "--seccomp-bpf", "-f", "-qq", "-yy", "-xx", "-s", str(_LONGEST)),
        *("-e", "signal=none", "-e", f"trace={_CALLS}", "-o", str(output)),
    ]


@dataclass(frozen=True, slots=True)
class Call:
    """One call, or one half of it."""

    name: str
    thread: int
    text: str  # its arguments, as strace writes them
    result: int  # -1 in a beginning
    begins: bool
    ends: bool

    def strings(self) -> list[bytes]:
        """The arguments that are text or octets, in order."""
        found = []
        for text, cut in _STRING.findall(self.text):
            assert not cut, f"{self.name}: more than {_LONGEST} octets at once"
            found.append(octets(text))
        return found

    def descriptor(self, number: int = 0) -> tuple[int, str]:
        """The descriptor given as the `number`-th of such, -100 for AT_FDCWD, and what strace says it is."""
        found = _DESCRIPTOR.findall(self.text[:_HEAD])[number]
        return (-100 if found[0] == "AT_FDCWD" else int(found[0])), found[1]

    @property
    def connection(self) -> tuple[int, int] | None:
        """Local and remote port of the TCP connection that this writes to; None: it writes elsewhere."""
        start = self.text[:120].partition("<")[2]
        if not start.startswith("TCP:"):
            return None
        match = _ENDS.match(start)
        return None if match is None else (int(match[1]), int(match[2]))


def octets(text: str) -> bytes:
    r"""What ``\x41\x42`` stands for."""
    return bytes.fromhex(text.replace("\\x", ""))


def read_trace(output: Path, inside: Path) -> list[Call]:
    """The calls that may matter to what lies in `inside`, or to a peer. Those that failed are left out."""
    hexed = "".join(f"\\x{octet:02x}" for octet in bytes(inside))
    calls: list[Call] = []
    begun: dict[int, tuple[str, int | None]] = {}  # by thread: text, place of its beginning in `calls`
    with output.open(encoding="latin-1") as lines:
        for line in lines:
            match = _LINE.match(line.rstrip("\n"))
            if match is None:
                continue
            thread, rest = int(match[1]), match[4]
            name = match[2] or match[3]
            if rest.endswith(_UNFINISHED):
                text = rest.removesuffix(_UNFINISHED)
                place = None
                if _matters(name, text, hexed):
                    place = len(calls)
                    calls.append(Call(name, thread, text, -1, True, False))
                begun[thread] = text, place
                continue
            place = None
            if match[2]:
                before, place = begun.pop(thread, ("", None))
                rest = before + rest
            result = _RESULT.search(rest)
            ended = result is not None and result[1] not in ("?", "-1")
            if ended and (place is not None or _matters(name, rest, hexed)):
                assert result is not None
                text = rest[: result.start()]
                calls.append(Call(name, thread, text, int(result[1]), not match[2], True))
    return calls


def _matters(name: str, text: str, hexed: str) -> bool:
    if name == "openat":
        return True  # a descriptor's number goes from a file elsewhere to one of ours, and back
    return hexed in text or "TCP:" in text[:120] or name in ("unlinkat", "mkdirat", "renameat")


def sent(calls: list[Call]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Of each connection, where in the trace how many octets in all had begun to be sent, ascending."""
    totals: dict[tuple[int, int], list[tuple[int, int]]] = {}
    begun: dict[int, int] = {}
    for place, call in enumerate(calls):
        if call.name not in ("write", "writev", "sendto", "sendmsg") or (to := call.connection) is None:
            continue
        if not call.ends:
            begun[call.thread] = place
            continue
        start = place if call.begins else begun.pop(call.thread, place)
        known = totals.setdefault(to, [])
        known.append((start, (known[-1][1] if known else 0) + call.result))
    return totals
