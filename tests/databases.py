"""The two databases that every contract runs on: `database` is a fixture with one test for each."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from mailstack.db import Database, DatabaseConfig
from tests.postgres import fresh_database

KINDS = ("sqlite", "postgresql")


def database_url(kind: str, folder: Path) -> str:
    """The URL of a new, empty database; skips the test where PostgreSQL is not installed."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'test.db'}"
    try:
        url = _shared()
    except unittest.SkipTest as skip:
        pytest.skip(str(skip))
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as db:
        db.execute(text("DROP SCHEMA public CASCADE"))
        db.execute(text("CREATE SCHEMA public"))
    return url


@functools.cache
def _shared() -> str:
    """One database for the whole process: to empty it is ten times as fast as to make another."""
    return fresh_database()


@pytest.fixture(params=KINDS)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    database = Database(DatabaseConfig(database_url(request.param, tmp_path), busy_timeout=10.0))
    yield database
    database.dispose()
