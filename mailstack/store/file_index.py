"""The full-text index of one user's mail in a file beside it, on SQLite. Blocking.

Theory of operation. An FTS5 table of trigrams without content and detail lies in a SQLite file in the user's
Maildir. A message without all trigrams of a needle cannot hold the needle. Rows of expunged messages stay
(SQLite 3.40 cannot delete them) until they are the most, then the file is made anew.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mailstack.store.index import Hits, Needle, Scope, Source, can_be_asked, texts_of
from mailstack.store.maildir import remove
from mailstack.store.tables import UID_MASK, message_id

FILE = "mailstack-index.db"
MOST_GRAMS = 32  # of a needle that are asked for
_VERSION = 3
_SCHEMA = f"""
CREATE TABLE marks(mailbox_id INTEGER PRIMARY KEY, uidvalidity INTEGER NOT NULL, uid INTEGER NOT NULL);
CREATE TABLE too_long(id INTEGER PRIMARY KEY);
CREATE TABLE taken(count INTEGER NOT NULL);
INSERT INTO taken VALUES (0);
CREATE VIRTUAL TABLE texts USING fts5(
  text, content='', detail=none, columnsize=0, tokenize='trigram case_sensitive 1');
PRAGMA user_version = {_VERSION};
"""
_writing = threading.Lock()  # a file is never removed under this process's own hands


class FileIndex:
    """One file for each user."""

    def prepare(self) -> bool:
        """Files are made when they are needed."""
        return True

    def mark_of(self, scope: Scope) -> int:
        """As `TextIndex` says. An index that cannot be ours is removed."""
        with _writing, _opened(scope) as db:
            return 0 if db is None else _mark(db, scope)

    def take_in(self, scope: Scope, mark: int, sources: Sequence[Source], seconds: float) -> int:
        """As `TextIndex` says."""
        rows = texts_of(sources, seconds)
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

    def settle(self, scope: Scope) -> None:
        """FTS5 keeps itself in order."""

    def search(self, scope: Scope, needle: Needle) -> Hits | None:
        """As `TextIndex` says."""
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

    def taken(self, scope: Scope) -> int:
        """How many messages of the user were taken in, those expunged since too."""
        with _opened(Scope(scope.maildir, 0, 0)) as db:
            return 0 if db is None else int(db.execute("SELECT count FROM taken").fetchone()[0])

    def octets(self, maildir: Path, mailbox_ids: Sequence[int]) -> int:
        """The size of the file."""
        try:
            return (maildir / FILE).stat().st_size
        except FileNotFoundError:
            return 0

    def discard(self, maildir: Path, mailbox_ids: Sequence[int]) -> None:
        """Remove the file."""
        _remove(maildir)


def query_of(needle: Needle) -> str | None:
    """The query for all trigrams of a needle, or for one of a set; None where it cannot be asked."""
    if not can_be_asked(needle):
        return None
    if not isinstance(needle, str):
        return _query(sorted(needle), " OR ")
    grams = list(dict.fromkeys(needle[at : at + 3] for at in range(len(needle) - 2)))
    step = max(1, len(grams) // MOST_GRAMS)
    return _query(grams[::step][:MOST_GRAMS], " AND ")


def _query(grams: Iterable[str], word: str) -> str:
    return word.join('"' + gram.replace('"', '""') + '"' for gram in grams)


def _remove(maildir: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        remove(maildir / (FILE + suffix))


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
    _remove(scope.maildir)
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
