"""The full-text index on PostgreSQL: the text of mail in a table, under trigrams of pg_trgm. Blocking.

Theory of operation. One GIN index over mailbox and text (pg_trgm for the one, btree_gin for the other) finds
the rows of one mailbox that hold all trigrams of a needle, and PostgreSQL compares those with it. The tables
are no part of the schema: they are made when the first mailbox is taken in, can be dropped at any time, and
are then made anew. They are written beside the writers' transactions, in short ones of their own, and rows go
with the messages that they belong to. Where the extensions cannot be had there is no index, and SEARCH reads
the mail itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from twisted.logger import Logger

from mailstack.store.file_index import FileIndex
from mailstack.store.index import Hits, Needle, Scope, Source, can_be_asked, texts_of
from mailstack.store.tables import UID_MASK, message_id

_log = Logger(namespace="mailstack.store")

T = TypeVar("T")
LONGEST = 256  # characters of a needle that are asked for
_EXTENSIONS = ("pg_trgm", "btree_gin")
_MAKING = 0x66756C6C  # an advisory lock ("full"): one process makes the tables
_TRIGRAMS = "fulltext_trigrams_2"  # another name where what is taken in has changed: all is made anew
_TABLES = (
    """CREATE TABLE fulltext_marks (
    mailbox_id BIGINT PRIMARY KEY REFERENCES mailboxes (id) ON DELETE CASCADE,
    uidvalidity BIGINT NOT NULL,
    uid BIGINT NOT NULL)""",
    """CREATE TABLE fulltext_too_long (
    message_id BIGINT PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE)""",
    """CREATE TABLE fulltext_texts (
    message_id BIGINT PRIMARY KEY REFERENCES messages (id) ON DELETE CASCADE,
    mailbox_id BIGINT NOT NULL,
    text TEXT NOT NULL)""",
    f"CREATE INDEX {_TRIGRAMS} ON fulltext_texts USING gin (mailbox_id, text gin_trgm_ops)",
)
_EXISTS = text(f"SELECT to_regclass('{_TRIGRAMS}') IS NOT NULL")
_MARK = text("SELECT uid FROM fulltext_marks WHERE mailbox_id = :mailbox AND uidvalidity = :epoch")
_SEARCH = text(
    "SELECT message_id FROM fulltext_texts WHERE mailbox_id = :mailbox AND text LIKE ANY (:patterns)"
)
_TOO_LONG = text("SELECT message_id FROM fulltext_too_long WHERE message_id BETWEEN :low AND :high")
_BEGIN = text("INSERT INTO fulltext_marks VALUES (:mailbox, :epoch, 0) ON CONFLICT DO NOTHING")
_LOCK = text("SELECT uidvalidity, uid FROM fulltext_marks WHERE mailbox_id = :mailbox FOR UPDATE")
_THERE = text("SELECT id FROM messages WHERE id = ANY (:ids)")
_STAYING = text("SELECT id FROM messages WHERE id = ANY (:ids) FOR KEY SHARE SKIP LOCKED")
_ADD = text("INSERT INTO fulltext_texts VALUES (:message, :mailbox, :text) ON CONFLICT DO NOTHING")
_ADD_LONG = text("INSERT INTO fulltext_too_long VALUES (:message) ON CONFLICT DO NOTHING")
_ADVANCE = text("UPDATE fulltext_marks SET uidvalidity = :epoch, uid = :uid WHERE mailbox_id = :mailbox")
_FORGET = (
    text("DELETE FROM fulltext_texts WHERE mailbox_id = ANY (:mailboxes)"),
    text("DELETE FROM fulltext_too_long WHERE message_id >> 32 = ANY (:mailboxes)"),
    text("DELETE FROM fulltext_marks WHERE mailbox_id = ANY (:mailboxes)"),
)
_OCTETS = text(
    "SELECT coalesce(sum(pg_column_size(text)), 0) FROM fulltext_texts WHERE mailbox_id = ANY (:mailboxes)"
)


class Transactions(Protocol):
    """What this needs of the database (`mailstack.db.Database`)."""

    def read(self, function: Callable[..., T], *args: Any) -> T: ...

    def apart(self, function: Callable[..., T], *args: Any) -> T: ...


class TrigramIndex:
    """One table for all users."""

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._refused = False

    def prepare(self) -> bool:
        """As `TextIndex` says. Where the database refuses, that is logged, and not tried again."""
        if self._refused:
            return False
        try:
            self._database.apart(_make)
        except DBAPIError as error:
            if error.connection_invalidated or _passes(error):
                raise OSError(str(error.orig)) from error
            self._refused = True
            _log.warn(
                "no full-text index, SEARCH reads the mail itself: PostgreSQL needs the extensions"
                " {extensions}, and the right to make tables: {error}",
                extensions=" and ".join(_EXTENSIONS),
                error=error.orig,
            )
        return not self._refused

    def mark_of(self, scope: Scope) -> int:
        """As `TextIndex` says."""
        with _told():
            return self._database.read(_mark, scope)

    def take_in(self, scope: Scope, mark: int, sources: Sequence[Source], seconds: float) -> int:
        """As `TextIndex` says."""
        rows = texts_of(sources, seconds)
        with _told():
            return self._database.apart(_add, scope, mark, rows)

    def settle(self, scope: Scope) -> None:
        """Sort in what GIN has only listed so far: each search would read the list."""
        with _told():
            self._database.apart(_settle)

    def search(self, scope: Scope, needle: Needle) -> Hits | None:
        """As `TextIndex` says."""
        if not can_be_asked(needle):
            return None
        needles = [needle] if isinstance(needle, str) else sorted(needle)
        with _told():
            return self._database.read(_search, scope, [_pattern(each) for each in needles])

    def taken(self, scope: Scope) -> int:
        """None: rows go with their messages."""
        return 0

    def octets(self, maildir: Path, mailbox_ids: Sequence[int]) -> int:
        """The texts as they are kept; the trigrams take about as much again."""

        def run(db: Connection) -> int:
            return (
                int(db.execute(_OCTETS, {"mailboxes": list(mailbox_ids)}).scalar_one()) if _exists(db) else 0
            )

        with _told():
            return self._database.read(run)

    def discard(self, maildir: Path, mailbox_ids: Sequence[int]) -> None:
        """Forget those mailboxes, and the file of a version that had one on PostgreSQL too."""
        FileIndex().discard(maildir, mailbox_ids)
        with _told():
            self._database.apart(_forget, mailbox_ids)


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the database as OSError: the index cannot be asked now."""
    try:
        yield
    except SQLAlchemyError as error:
        raise OSError(str(getattr(error, "orig", None) or error)) from error


def _passes(error: DBAPIError) -> bool:
    """Whether an error has to do with the moment: connections, locks, room, an end."""
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state[:2] in ("08", "40", "53", "55", "57")


def _exists(db: Connection) -> bool:
    return bool(db.execute(_EXISTS).scalar_one())


def _make(db: Connection) -> None:
    if _exists(db):
        return
    db.execute(text(f"SELECT set_config('lock_timeout', '10s', true), pg_advisory_xact_lock({_MAKING})"))
    if _exists(db):  # meanwhile
        return
    for extension in _EXTENSIONS:
        db.execute(text(f"CREATE EXTENSION IF NOT EXISTS {extension}"))
    for table in ("fulltext_texts", "fulltext_too_long", "fulltext_marks"):  # what is left of a lost index
        db.execute(text(f"DROP TABLE IF EXISTS {table}"))
    for statement in _TABLES:
        db.execute(text(statement))


def _mark(db: Connection, scope: Scope) -> int:
    if not _exists(db):
        return 0
    found = db.execute(_MARK, {"mailbox": scope.mailbox_id, "epoch": scope.uidvalidity}).scalar()
    return int(found or 0)


def _search(db: Connection, scope: Scope, patterns: list[str]) -> Hits | None:
    mark = _mark(db, scope)
    if not mark:
        return None
    db.execute(text("SET LOCAL enable_seqscan = off"))  # to read all texts is what it is there to spare
    found = db.execute(_SEARCH, {"mailbox": scope.mailbox_id, "patterns": patterns}).scalars().all()
    bounds = {"low": message_id(scope.mailbox_id, 0), "high": message_id(scope.mailbox_id, UID_MASK)}
    too_long = db.execute(_TOO_LONG, bounds).scalars().all()
    return Hits({id & UID_MASK for id in (*found, *too_long)}, mark)


def _pattern(needle: str) -> str:
    """For LIKE: anything that holds the needle, or its beginning where it is long."""
    needle = needle[:LONGEST].replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{needle}%"


def _add(db: Connection, scope: Scope, mark: int, rows: Sequence[tuple[int, str | None]]) -> int:
    db.execute(text("SET LOCAL synchronous_commit = off"))  # what is lost is taken in again
    place = {"mailbox": scope.mailbox_id, "epoch": scope.uidvalidity}
    db.execute(_BEGIN, place)
    epoch, known = db.execute(_LOCK, place).one()
    if epoch != scope.uidvalidity:
        _forget(db, [scope.mailbox_id])
        db.execute(_BEGIN, place)
        known = 0
    if known != mark:  # another process was quicker
        return int(known)
    last, texts = _staying(db, scope.mailbox_id, mark, rows)
    found = [
        {"message": id, "mailbox": scope.mailbox_id, "text": each} for id, each in texts if each is not None
    ]
    if found:
        db.execute(_ADD, found)
    too_long = [{"message": id} for id, each in texts if each is None]
    if too_long:
        db.execute(_ADD_LONG, too_long)
    db.execute(_ADVANCE, place | {"uid": last})
    return last


def _staying(
    db: Connection, mailbox_id: int, mark: int, rows: Sequence[tuple[int, str | None]]
) -> tuple[int, list[tuple[int, str | None]]]:
    """The last UID that can be taken in now, and ids and texts up to it of messages that cannot go meanwhile.

    One that somebody is about to expunge is not waited for: who expunges might wait for us. Its mailbox is
    taken in up to it, for the expunge may yet be taken back.
    """
    ids = [message_id(mailbox_id, uid) for uid, _ in rows]
    staying = set(db.execute(_STAYING, {"ids": ids}).scalars())
    there = set(db.execute(_THERE, {"ids": ids}).scalars())
    texts: list[tuple[int, str | None]] = []
    last = mark
    for id, (uid, each) in zip(ids, rows, strict=True):
        if id in staying:
            texts.append((id, each))
        elif id in there:
            break
        last = uid
    return last, texts


def _settle(db: Connection) -> None:
    if _exists(db):
        db.execute(text(f"SELECT gin_clean_pending_list('{_TRIGRAMS}')"))


def _forget(db: Connection, mailbox_ids: Sequence[int]) -> None:
    if _exists(db):
        for statement in _FORGET:
            db.execute(statement, {"mailboxes": list(mailbox_ids)})
