"""The full-text index of one user's mail: which messages may hold a text. Blocking.

Theory of operation. An FTS5 table of trigrams without content and detail lies in a SQLite file in the user's
Maildir, whichever the database is: it can always be made again from the messages. It holds the casemapped
text that SEARCH compares, so that a message without all trigrams of a needle cannot hold the needle; what it
names is still compared. UIDs only go up: each mailbox has one mark, and all messages up to it have been taken
in; those above are candidates always, and so are those too long to be taken in. Rows of expunged messages
stay (SQLite 3.40 cannot delete them) until they are the most, then the file is made anew.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailstack.mail.collation import casemap
from mailstack.mail.fields import decode_words, split_fields
from mailstack.mail.mime import scan, search_text
from mailstack.store.maildir import find, read_file, remove
from mailstack.store.tables import UID_MASK, message_id

FILE = "mailstack-index.db"
MAX_OCTETS = 16 * 1024 * 1024  # of a message that is taken in
MAX_TEXT = 4 * 1024 * 1024  # characters of its text
MAX_HEADER = 256 * 1024  # octets of its header section
MOST_GRAMS = 32  # of a needle that are asked for
_VERSION = 2
_SCHEMA = f"""
CREATE TABLE marks(mailbox_id INTEGER PRIMARY KEY, uidvalidity INTEGER NOT NULL, uid INTEGER NOT NULL);
CREATE TABLE too_long(id INTEGER PRIMARY KEY);
CREATE TABLE taken(count INTEGER NOT NULL);
INSERT INTO taken VALUES (0);
CREATE VIRTUAL TABLE texts USING fts5(
  text, content='', detail=none, columnsize=0, tokenize='trigram case_sensitive 1');
PRAGMA user_version = {_VERSION};
"""
Needle = str | frozenset[str]
_writing = threading.Lock()  # a file is never removed under this process's own hands


@dataclass(frozen=True, slots=True)
class Scope:
    """One mailbox in an index."""

    maildir: Path  # the user's: where the file lies
    mailbox_id: int
    uidvalidity: int


@dataclass(frozen=True, slots=True)
class Source:
    """A message to be taken in: where its file should lie."""

    uid: int
    mailbox: Path
    base: str  # of the file's name
    path: str  # from the mailbox's directory


@dataclass(frozen=True, slots=True)
class Hits:
    """What the index knows of a needle in one mailbox."""

    uids: set[int]  # messages that may hold it
    mark: int  # messages with higher UIDs have not been taken in


def mark_of(scope: Scope) -> int:
    """Up to which UID the mailbox was taken in; 0: nothing. An index that cannot be ours is removed."""
    with _writing, _opened(scope) as db:
        return 0 if db is None else _mark(db, scope)


def take_in(scope: Scope, mark: int, sources: Sequence[Source], seconds: float) -> int:
    """Take in messages, ascending, that follow `mark`, for about so long; the new mark. Raise OSError."""
    started, rows = time.monotonic(), []
    for source in sources:
        rows.append((source.uid, _text_of(source)))
        if time.monotonic() - started > seconds:
            break
    with _writing, _opened(scope, make=True) as db:
        if db is None:
            return mark
        db.execute("BEGIN IMMEDIATE")
        known = _mark(db, scope)
        if known != mark:  # another process was quicker
            db.execute("ROLLBACK")
            return known
        for uid, text in rows:
            id = message_id(scope.mailbox_id, uid)
            if text is None:
                db.execute("INSERT OR IGNORE INTO too_long VALUES (?)", [id])
            else:
                db.execute("INSERT INTO texts(rowid, text) VALUES (?, ?)", [id, text])
        last = rows[-1][0] if rows else mark
        row = [scope.mailbox_id, scope.uidvalidity, last]
        db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", row)
        db.execute("UPDATE taken SET count = count + ?", [len(rows)])
        db.execute("COMMIT")
        return last


def search(scope: Scope, needle: Needle) -> Hits | None:
    """The messages that may hold `needle`, casemapped; None where the index cannot tell.

    A set of trigrams: those that hold one of them at least.
    """
    query = query_of(needle)
    if query is None:
        return None
    low, high = message_id(scope.mailbox_id, 0), message_id(scope.mailbox_id, UID_MASK)
    with _opened(scope) as db:
        if db is None:
            return None
        mark = _mark(db, scope)
        if not mark:
            return None
        found = db.execute(
            "SELECT rowid FROM texts(?) WHERE rowid BETWEEN ? AND ?", [query, low, high]
        ).fetchall()
        found += db.execute("SELECT id FROM too_long WHERE id BETWEEN ? AND ?", [low, high]).fetchall()
        return Hits({id & UID_MASK for (id,) in found}, mark)


def taken(maildir: Path) -> int:
    """How many messages were taken in, those expunged since too."""
    with _opened(Scope(maildir, 0, 0)) as db:
        return 0 if db is None else int(db.execute("SELECT count FROM taken").fetchone()[0])


def discard(maildir: Path) -> None:
    """Remove the index of a user. Raise OSError."""
    for suffix in ("", "-wal", "-shm"):
        remove(maildir / (FILE + suffix))


def query_of(needle: Needle) -> str | None:
    """The query for all trigrams of a needle; None where there is none, or it cannot be asked."""
    if not isinstance(needle, str):
        return _query(sorted(needle), " OR ") if all(map(_can_be_asked, needle)) else None
    if not _can_be_asked(needle):
        return None
    grams = list(dict.fromkeys(needle[at : at + 3] for at in range(len(needle) - 2)))
    step = max(1, len(grams) // MOST_GRAMS)
    return _query(grams[::step][:MOST_GRAMS], " AND ")


def _query(grams: Iterable[str], word: str) -> str | None:
    return word.join('"' + gram.replace('"', '""') + '"' for gram in grams) or None


def _can_be_asked(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return len(text) >= 3 and "\0" not in text


def text_of(data: bytes) -> str | None:
    """All text that a search may compare, casemapped; None where it is too long."""
    part = scan(data)
    if part.body - part.header > MAX_HEADER:
        return None
    text = casemap(search_text(part, data))
    if len(text) > MAX_TEXT:
        return None
    found = [text]
    for _, raw in split_fields(data[part.header : part.body]):
        value = raw.partition(b":")[2]
        # As SEARCH reads one field by itself, where that differs.
        readings = {
            casemap(decode_words(value)),
            casemap(value.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1")),
        }
        found += [reading for reading in readings if reading not in text]
    joined = "\n".join(found).replace("\0", " ")  # where the tokenizer would end
    return joined.encode("utf-8", "replace").decode()


def _text_of(source: Source) -> str | None:
    """The text of a message; empty where its file is gone. Raise OSError."""
    for path in (source.path, None):
        try:
            found = path or find(source.mailbox, source.base)
            if found is None:
                return ""
            data = read_file(source.mailbox / found, 0, MAX_OCTETS + 1)
            return text_of(data) if len(data) <= MAX_OCTETS else None
        except FileNotFoundError:
            continue
    return None


def _mark(db: sqlite3.Connection, scope: Scope) -> int:
    row = db.execute("SELECT uid FROM marks WHERE mailbox_id = ?", [scope.mailbox_id]).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def _opened(scope: Scope, make: bool = False) -> Iterator[sqlite3.Connection | None]:
    """The index; None where there is none. One that is damaged, or of another database's ids, is removed."""
    path = scope.maildir / FILE
    if not make and not path.exists():
        yield None
        return
    try:
        db = _connect(path)
        try:
            if _fits(db, scope):
                yield db
                return
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        raise OSError(f"{path}: {error}") from error  # locked, full: next time
    except sqlite3.DatabaseError:
        pass
    discard(scope.maildir)
    yield None


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _fits(db: sqlite3.Connection, scope: Scope) -> bool:
    if db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        return False
    query = "SELECT uidvalidity FROM marks WHERE mailbox_id = ?"
    row = db.execute(query, [scope.mailbox_id]).fetchone()
    return row is None or row[0] == scope.uidvalidity
