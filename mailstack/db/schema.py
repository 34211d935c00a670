"""The version of the tables in a database, against the one that this program needs. Blocking.

Importing alembic takes seconds, so a start of the server only compares a name; `upgrade` is the operator's
command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, inspect, text

from mailstack.db.engine import Database, DatabaseConfig

HEAD = "0013"  # the newest of migrations/versions; a test holds the two together


class SchemaTooNew(Exception):
    """The database was upgraded by a newer mailstack than this one."""


def version(database: Database | DatabaseConfig) -> str | None:
    """The version of the tables; None where there are none."""
    with _opened(database) as opened:
        return opened.read(_version)


def is_current(database: Database | DatabaseConfig) -> bool:
    """Whether the tables are what this program needs."""
    return version(database) == HEAD


def upgrade(database: Database | DatabaseConfig) -> tuple[str | None, str]:
    """Bring the tables to HEAD, all of it or nothing; return the versions before and after.

    Several at once wait for one another. Raise SchemaTooNew for a database that a newer program has upgraded.
    """
    with _opened(database) as opened:
        return opened.write(_upgrade)


@contextmanager
def _opened(database: Database | DatabaseConfig) -> Iterator[Database]:
    if isinstance(database, Database):
        yield database
        return
    opened = Database(database)
    try:
        yield opened
    finally:
        opened.dispose()


def _version(db: Connection) -> str | None:
    if not inspect(db).has_table("alembic_version"):
        return None
    found: str | None = db.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(db: Connection) -> tuple[str | None, str]:
    before = _version(db)
    if before == HEAD:
        return before, HEAD
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "mailstack.db:migrations")
    config.attributes["connection"] = db  # env.py runs on it, inside the transaction that we are in
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise SchemaTooNew(f"the database is at version {before}, this program at {HEAD}: {error}") from error
    return before, HEAD
