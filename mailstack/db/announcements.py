"""What a transaction has changed, told to the other processes on the same database once it is durable.

Theory of operation. An operation says `announce(db, ...)` where it changes something that others may hold in
memory; after the commit all that was said goes out as short lines of text. On SQLite, whose processes share a
machine, each listener has a named pipe in a folder beside the database, and whoever commits writes into all
of them: nothing is polled, and who is alone pays one look at the folder for each commit. On PostgreSQL the
lines go with NOTIFY, which is part of the transaction, to whoever listens. Announcements are hints: a pipe
that is full, or a connection that broke, is made up for by EVERYTHING, at which a listener looks for itself.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL, Connection

EVERYTHING = "*"  # more has changed than was said
MOST = 4096  # octets that a pipe takes whole or not at all (PIPE_BUF)
_SAID = "mailstack.said"  # Connection.info: dict of what this transaction announces
_CHANNEL = "mailstack"  # of NOTIFY
_READ = 65_536  # octets read at once
_READS = 16  # of one turn
_SETTLED = 1.0  # seconds after which a folder's time tells whether it has changed


def announce(db: Connection, subject: str, value: object = "") -> None:
    """Tell other processes after the commit; of one subject the last value. No line ends in either."""
    said = db.info.get(_SAID)
    if said is not None:  # None: no transaction of `Database`
        said[subject] = value


def begin(db: Connection) -> None:
    """A transaction begins: nothing is said yet."""
    db.info[_SAID] = {}


def end(db: Connection) -> list[str]:
    """It is over: what was said, as lines."""
    return [f"{subject} {value}".rstrip() for subject, value in db.info.pop(_SAID, {}).items()]


class Ear(Protocol):
    """What listens: readable when there is something to hear."""

    def fileno(self) -> int: ...

    def hear(self) -> list[str]:
        """What was announced since, never blocking. Raise OSError once nothing more can be heard."""
        ...

    def close(self) -> None: ...


class Announcements(Protocol):
    """How one database's processes hear of each other."""

    def before_commit(self, db: Connection, lines: list[str]) -> None: ...

    def after_commit(self, lines: list[str]) -> None: ...

    def listen(self) -> Ear:
        """Blocks; raise OSError."""
        ...


class Pipes:
    """For SQLite: a folder with a named pipe for each listener."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder  # None: the database is in memory, and nobody else sees it
        self._ours: set[str] = set()  # our own pipes, into which we need not write
        self._known: tuple[str, ...] = ()
        self._looked: tuple[int, float] | None = None  # the folder's time then, and when that was

    def before_commit(self, db: Connection, lines: list[str]) -> None:
        """Nothing: it may still fail."""

    def after_commit(self, lines: list[str]) -> None:
        """Write to every listener that is there. Never raises."""
        if not lines or self._folder is None:
            return
        for name in self._others(self._folder):
            _tell(self._folder, name, lines)

    def listen(self) -> PipeEar:
        """A new pipe of ours. Raise OSError."""
        if self._folder is None:
            raise OSError("a database in memory has no other processes")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        ear = PipeEar(self._folder, name)
        self._ours.add(name)
        return ear

    def _others(self, folder: Path) -> Iterable[str]:
        try:
            changed = os.stat(folder).st_mtime_ns
            if self._looked is None or self._looked[0] != changed or self._is_fresh(*self._looked):
                self._known = tuple(name for name in os.listdir(folder) if not name.startswith("."))
                self._looked = (changed, time.time())
        except OSError:
            return ()
        return [name for name in self._known if name not in self._ours]

    def _is_fresh(self, changed: int, looked: float) -> bool:
        """Whether it was looked at so soon after a change that another may have had the same time."""
        return looked - changed / 1e9 < _SETTLED


def _full(name: str) -> str:
    """The file that says that something did not fit into a pipe."""
    return f".{name}.full"


def _tell(folder: Path, name: str, lines: list[str]) -> None:
    """Write to one listener. Never raises."""
    try:
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # whoever listened was killed
            for left in (name, _full(name)):
                with suppress(OSError):
                    (folder / left).unlink()
        return
    try:
        for chunk in chunks(lines, MOST):
            os.write(descriptor, chunk)
    except BlockingIOError:
        _tell_later(folder / _full(name), descriptor)
    except OSError:
        pass  # its reader has just gone
    finally:
        os.close(descriptor)


def _tell_later(mark: Path, descriptor: int) -> None:
    """The pipe is full: leave a mark, which its reader sees after what is in it.

    The pipe may be empty again before the mark is there; so we try once more after that.
    """
    try:
        mark.touch()
        os.write(descriptor, EVERYTHING.encode() + b"\n")
    except OSError:
        pass


class PipeEar:
    """One listener's named pipe; it goes with `close`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        hidden = folder / f".{name}"
        os.mkfifo(hidden, 0o600)
        try:
            # Open for both, so that it never ends when a writer goes; in its place only once it is open.
            self._descriptor = os.open(hidden, os.O_RDWR | os.O_NONBLOCK)
            os.rename(hidden, self._path)
        except OSError:
            hidden.unlink(missing_ok=True)
            raise
        self._full = folder / _full(name)
        self._rest = b""

    def fileno(self) -> int:
        """The pipe."""
        return self._descriptor

    def hear(self) -> list[str]:
        """The lines that are there; EVERYTHING too, if the pipe was full and some are missing."""
        data = self._rest
        for _ in range(_READS):
            try:
                some = os.read(self._descriptor, _READ)
            except BlockingIOError:
                break
            data += some
        whole, _, self._rest = data.rpartition(b"\n")
        lines = whole.decode("utf-8", "replace").split("\n") if whole else []
        try:
            self._full.unlink()
        except FileNotFoundError:
            return lines
        return [*lines, EVERYTHING]

    def close(self) -> None:
        """Listen no more."""
        self._path.unlink(missing_ok=True)
        self._full.unlink(missing_ok=True)
        os.close(self._descriptor)


class Notify:
    """For PostgreSQL: NOTIFY and LISTEN."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._origin = secrets.token_hex(4)  # what comes from ourselves we know

    def before_commit(self, db: Connection, lines: list[str]) -> None:
        """Part of the transaction."""
        head = f"{self._origin}\n"
        for chunk in chunks(lines, 7_900 - len(head)):  # PostgreSQL takes less than 8,000 octets
            parameters = (_CHANNEL, head + chunk.decode())
            db.exec_driver_sql("SELECT pg_notify(%s, %s)", parameters)

    def after_commit(self, lines: list[str]) -> None:
        """Nothing: it went with the commit."""

    def listen(self) -> NotifyEar:
        """A connection of its own. Raise OSError."""
        return NotifyEar(self._url, self._origin)


class NotifyEar:
    """A connection that listens."""

    def __init__(self, url: URL, origin: str) -> None:
        import psycopg

        self._origin = origin
        self._broken = psycopg.Error
        text = url.set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            self._connection: Any = psycopg.connect(text, autocommit=True)
            self._connection.execute(f"LISTEN {_CHANNEL}")
        except psycopg.Error as error:
            raise OSError(f"cannot listen to the database: {error}") from error

    def fileno(self) -> int:
        """The connection's socket."""
        return int(self._connection.fileno())

    def hear(self) -> list[str]:
        """The lines that have come."""
        lines: list[str] = []
        try:
            self._connection.pgconn.consume_input()
            while (notice := self._connection.pgconn.notifies()) is not None:
                origin, _, text = notice.extra.decode("utf-8", "replace").partition("\n")
                if origin != self._origin:
                    lines += text.splitlines()
        except self._broken as error:
            raise OSError(f"the database does not answer: {error}") from error
        return lines

    def close(self) -> None:
        """Listen no more."""
        self._connection.close()


def chunks(lines: Iterable[str], most: int) -> Iterator[bytes]:
    """Lines with their ends, as many at a time as fit; in the place of one that never fits, EVERYTHING."""
    chunk = b""
    for line in lines:
        data = line.encode() + b"\n"
        if len(data) > most:
            data = EVERYTHING.encode() + b"\n"
        if len(chunk) + len(data) > most:
            yield chunk
            chunk = b""
        chunk += data
    if chunk:
        yield chunk
