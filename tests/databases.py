"""The two databases that every contract runs on: `database` is a fixture with one test for each."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailstack.db import Database, DatabaseConfig
from tests.postgres import fresh_database

KINDS = ("sqlite", "postgresql")


def database_url(kind: str, folder: Path) -> str:
    """The URL of a new, empty database; skips the test where PostgreSQL is not installed."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'test.db'}"
    try:
        return fresh_database()
    except unittest.SkipTest as skip:
        pytest.skip(str(skip))


@pytest.fixture(params=KINDS)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    database = Database(DatabaseConfig(database_url(request.param, tmp_path), busy_timeout=10.0))
    yield database
    database.dispose()
