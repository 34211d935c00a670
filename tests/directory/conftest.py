"""The directory's tables, on both databases."""

from __future__ import annotations

import pytest

from mailstack.db import Database
from mailstack.directory.tables import aliases, domains, grants, secrets, user_keys, users
from tests.databases import empty_database

__all__ = ["database", "empty_database"]


@pytest.fixture
def database(empty_database: Database) -> Database:
    with empty_database.engine.begin() as db:
        for table in (domains, users, user_keys, secrets, aliases, grants):
            table.create(db)
    return empty_database
